"""The bootstrap steps that Webfoot brings: httpfs, s3, postgres, motherduck."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import duckdb

from webfoot.database.bootstrap import NotConfigured, Step
from webfoot.literals import sql_name, sql_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from webfoot.database.bootstrap import Resources

# A function that thaws after minutes finds its connections dead: the server, or a firewall, has
# closed them, and nobody said so. A dead one is noticed within half a minute.
_KEEPALIVES = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "connect_timeout": "5",
    "application_name": "webfoot",
}
# What goes into a secret, and not into the text of ATTACH, which DuckDB shows.
_IN_SECRET = {
    "host": "HOST",
    "port": "PORT",
    "dbname": "DATABASE",
    "user": "USER",
    "password": "PASSWORD",  # nosec B105  # a name
}
_ASSIGNMENT = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)")
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def _load_httpfs(connection: duckdb.DuckDBPyConnection, resources: Resources) -> None:
    resources.extensions.load(connection, "httpfs")


httpfs = Step(name="httpfs", paths=("http://", "https://"), prepare=_load_httpfs)


def _create_s3_secret(connection: duckdb.DuckDBPyConnection, resources: Resources) -> None:
    for extension in ("httpfs", "aws"):
        resources.extensions.load(connection, extension)
    options = ["TYPE s3", "PROVIDER credential_chain", "REFRESH auto"]
    if resources.environment.get("AWS_ACCESS_KEY_ID"):
        # Nobody else is asked: elsewhere, the chain waits for services that are not there.
        options.append("CHAIN 'env'")
    # Public buckets need no credentials: that there are none is for S3 to say.
    options.append("VALIDATION 'none'")
    if region := _first(resources.environment, _REGIONS):
        options.append(f"REGION {sql_text(region)}")
    if endpoint := _first(resources.environment, _ENDPOINTS):
        parts = urlsplit(endpoint)
        secure = "true" if parts.scheme == "https" else "false"
        options += [f"ENDPOINT {sql_text(parts.netloc)}", "URL_STYLE 'path'", f"USE_SSL {secure}"]
    connection.execute(f"CREATE OR REPLACE SECRET webfoot_s3 ({', '.join(options)})")


def _credentials(resources: Resources) -> object:
    """What the secret rests on. Its own refreshing would only begin after a 403."""
    names = (*_CREDENTIALS, *_REGIONS, *_ENDPOINTS)
    return tuple(resources.environment.get(name) for name in names)


s3 = Step(
    name="s3",
    paths=("s3://", "s3a://", "s3n://"),
    prepare=_create_s3_secret,
    rests_on=_credentials,
)


def postgres(
    catalog: str = "pg",
    *,
    secret: str = "POSTGRES_DSN",  # noqa: S107  # the name of it
    name: str = "postgres",
    options: Mapping[str, str] | None = None,
) -> Step:
    """A PostgreSQL database as a catalog that can only be read.

    Args:
        catalog: What it is attached as.
        secret: The name of the secret that says where it is: a URL, `postgresql://…`, or
            `host=… dbname=…`. Where there is no such secret, the step does nothing; when it
            changes, the database is attached anew.
        name: The step's name.
        options: Words for libpq beside those that keep a connection alive; they win.
    """
    attach = _AttachPostgres(catalog, secret, tuple((options or {}).items()))
    return Step(name=name, catalogs=(catalog,), prepare=attach, rests_on=_Current(secret))


def motherduck(
    database: str = "",
    *,
    secret: str = "MOTHERDUCK_TOKEN",  # noqa: S107  # the name of it
    name: str = "motherduck",
) -> Step:
    """MotherDuck: `md:` paths, and one of its databases as a catalog.

    Args:
        database: The database to attach; empty if the author attaches.
        secret: The name of the secret that has the token. Where there is no such secret, the step
            does nothing.
        name: The step's name.
    """
    return Step(
        name=name,
        paths=("md:", "motherduck:"),
        catalogs=(database,) if database else (),
        prepare=_AttachMotherduck(database, secret),
    )


# Records, and not functions in functions: two that are given the same are equal, and so share an
# instance.
@dataclass(frozen=True)
class _Current:
    """A secret as it is now."""

    secret: str

    def __call__(self, resources: Resources) -> object:
        return resources.secrets.find(self.secret)


@dataclass(frozen=True)
class _AttachPostgres:
    catalog: str
    secret: str
    options: tuple[tuple[str, str], ...]

    def __call__(self, connection: duckdb.DuckDBPyConnection, resources: Resources) -> None:
        found = resources.secrets.find(self.secret)
        if found is None:
            raise NotConfigured(f"there is no secret {self.secret}")
        words = _read_conninfo(found.value, self.secret)
        hidden = {_IN_SECRET[word]: words.pop(word) for word in _IN_SECRET if word in words}
        resources.extensions.load(connection, "postgres")
        kept = f"webfoot_{self.catalog}"
        _create_secret(connection, kept, "postgres", hidden)
        # DuckDB replaces only what is attached by another text, and to detach first would leave
        # other threads without. PostgreSQL sees this word only if there is no application_name.
        unlike = {"fallback_application_name": uuid.uuid4().hex}
        shown = _write_conninfo({**_KEEPALIVES, **unlike, **words, **dict(self.options)})
        connection.execute(
            f"ATTACH OR REPLACE {sql_text(shown)} AS {sql_name(self.catalog)}"
            f" (TYPE postgres, READ_ONLY, SECRET {sql_name(kept)})"
        )


@dataclass(frozen=True)
class _AttachMotherduck:
    database: str
    secret: str

    def __call__(self, connection: duckdb.DuckDBPyConnection, resources: Resources) -> None:
        secrets = resources.secrets
        found = secrets.find(self.secret) or secrets.find(self.secret.lower())
        if found is None:
            raise NotConfigured(f"there is no secret {self.secret}")
        resources.extensions.load(connection, "motherduck")
        _run_hidden(connection, lambda texts: f"SET motherduck_token = {texts[0]}", [found.value])
        if self.database:
            path = sql_text(f"md:{self.database}")
            connection.execute(f"ATTACH IF NOT EXISTS {path} AS {sql_name(self.database)}")


# What a session has unless it says otherwise, in the order in which they run.
DEFAULT_BOOTSTRAP: tuple[Step, ...] = (httpfs, s3, postgres(), motherduck())


def steps_of(bootstrap: Sequence[Step | str]) -> tuple[Step, ...]:
    """The steps of a bootstrap, some given by the names of those that Webfoot brings.

    Raises:
        ValueError: If Webfoot brings no step of that name.
    """
    known = {step.name: step for step in DEFAULT_BOOTSTRAP}
    steps = []
    for item in bootstrap:
        if isinstance(item, str) and item not in known:
            raise ValueError(
                f"{item!r} is no bootstrap step; there are {', '.join(known)}, or give a Step"
            )
        steps.append(known[item] if isinstance(item, str) else item)
    return tuple(steps)


def _create_secret(
    connection: duckdb.DuckDBPyConnection, name: str, kind: str, fields: Mapping[str, str]
) -> None:
    def write(values: Sequence[str]) -> str:
        options = (f", {field} {value}" for field, value in zip(fields, values, strict=True))
        return f"CREATE OR REPLACE SECRET {sql_name(name)} (TYPE {kind}{''.join(options)})"

    _run_hidden(connection, write, list(fields.values()))


def _run_hidden(
    connection: duckdb.DuckDBPyConnection,
    write: Callable[[Sequence[str]], str],
    values: Sequence[str],
) -> None:
    """Run SQL with values in it that nobody is to see: in no log of DuckDB, in no error."""
    logs = "SELECT current_setting('enable_logging') OR current_setting('log_query_path') <> ''"
    try:
        if connection.execute(logs).fetchone() == (True,):
            connection.execute(write(["?" for _ in values]), list(values))
        else:
            # Not as parameters: with the first of these, DuckDB imports pandas, for half a second.
            connection.execute(write([sql_text(value) for value in values]))
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        for value in sorted(values, key=len, reverse=True):
            said = said.replace(value, "…") if value else said
        raise RuntimeError(said) from None


def _first(environment: Mapping[str, str], names: Sequence[str]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _read_conninfo(text: str, secret: str) -> dict[str, str]:
    """The words of a connection string, in either way to write one.

    Source:
        https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
    """
    if text.startswith(("postgresql://", "postgres://")):
        return _read_url(text, secret)
    words: dict[str, str] = {}
    end = 0
    while text[end:].strip():
        found = _ASSIGNMENT.match(text, end)
        if found is None:
            raise ValueError(
                f"the secret {secret} is neither 'postgresql://…' nor 'host=… dbname=…'"
            )
        value = found[3] if found[2] is None else found[2]
        words[found[1]] = re.sub(r"\\(.)", r"\1", value)
        end = found.end()
    return words


def _read_url(text: str, secret: str) -> dict[str, str]:
    parts = urlsplit(text)
    try:
        port = "" if parts.port is None else str(parts.port)
    except ValueError:  # Its text would show what is in the secret.
        raise ValueError(f"the port in the secret {secret} is no number from 0 to 65535") from None
    words = {
        "host": unquote(parts.hostname or ""),
        "port": port,
        "dbname": unquote(parts.path.removeprefix("/")),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
    }
    return {word: value for word, value in words.items() if value} | dict(parse_qsl(parts.query))


def _write_conninfo(words: Mapping[str, str]) -> str:
    quoted = {word: re.sub(r"(['\\])", r"\\\1", value) for word, value in words.items()}
    return " ".join(f"{word}='{value}'" for word, value in quoted.items())
