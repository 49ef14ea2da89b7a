"""A server's catalog in somebody's DuckDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webfoot.database import load_httpfs
from webfoot.literals import sql_name, sql_text

if TYPE_CHECKING:
    import duckdb


def attach(con: duckdb.DuckDBPyConnection, url: str, name: str, token: str | None) -> None:
    """Attach the catalog of the server at `url` as `name`, in place of what is attached as that.

    Args:
        con: The connection; its other cursors have the catalog, too.
        url: The server's address, without a slash at its end.
        name: What the catalog is to be called.
        token: What the server is to be shown; DuckDB shows it to no other.

    Raises:
        duckdb.Error: If the server has no catalog, or cannot be reached.
        RuntimeError: If DuckDB has no httpfs here.
    """
    loaded = con.execute(
        "SELECT loaded FROM duckdb_extensions() WHERE extension_name = 'httpfs'"
    ).fetchone()
    if loaded != (True,):
        load_httpfs(con)
    if token is not None:
        # With its slash: the scope is compared letter by letter, and `host` begins `host.evil`.
        con.execute(
            f"CREATE OR REPLACE TEMPORARY SECRET {sql_name(f'webfoot_{name}')}"
            f" (TYPE http, BEARER_TOKEN {sql_text(token)}, SCOPE {sql_text(f'{url}/')})"
        )
    con.execute(f"DETACH DATABASE IF EXISTS {sql_name(name)}")
    con.execute(f"ATTACH {sql_text(f'{url}/catalog.duckdb')} AS {sql_name(name)} (READ_ONLY)")
