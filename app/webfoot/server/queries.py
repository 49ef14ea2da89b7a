"""SQL as requests ask for it: `GET /query.{extension}?sql=…` and `POST /query`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.asking import split_query
from webfoot.errors import InvalidParameters, QueryRefused
from webfoot.results import Reach
from webfoot.server.fanouts import accepted_extension, read_json
from webfoot.views import ROWS_IN_PREVIEW, View, read_count, read_view, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from webfoot.datasets import Dataset
    from webfoot.engine import Engine
    from webfoot.results import Query, Result
    from webfoot.server.requests import Request
    from webfoot.server.visits import Visit
    from webfoot.settings import Settings

_EXAMPLE = '{"query": "SELECT count(*) FROM delays(month := ?)", "parameters": [1], "limit": 100}'
_OWN = ("sql", "parameters", "limit")
_FIELDS = ("query", "q", "parameters", "limit", "exact")
MOST_QUERY_BYTES = 1_000_000
# A longer text says with literals what parameters are for.
_MOST_LETTERS = 100_000


@dataclass(frozen=True)
class _Given:
    """What a request says of a query.

    Args:
        sql: The text.
        parameters: What its placeholders stand for, as JSON.
        limit: At most so many rows; None for all.
        extension: The format of the answer.
    """

    sql: str
    parameters: str
    limit: int | None
    extension: str


@dataclass(frozen=True)
class AskedQuery:
    """A query, and how its rows are to be written.

    Args:
        query: The query.
        view: Its view.
        told: Whether the rows come with what is known of them, as one JSON object.
    """

    query: Query
    view: View
    told: bool = False


def reach_of(visit: Visit, extension: str, lake: Iterable[Dataset]) -> Reach:
    """What SQL may name for whoever asks: what they may read in the format of the answer.

    A dataset is theirs by the same patterns of names as a UDF is.
    """
    rights = visit.asker.rights
    return Reach(
        frozenset(name for name in visit.registry if rights.reads(name, extension)),
        frozenset(item.name for item in lake if rights.reads(item.name, extension)),
    )


def read_query(request: Request, visit: Visit, engine: Engine, settings: Settings) -> AskedQuery:
    """Read the query of a URL.

    Raises:
        InvalidParameters: If it makes none.
        QueryRefused: If none is answered.
    """
    own, others = split_query(request.query)
    given = dict(others)
    for name, text in others:
        if name not in _OWN:
            raise refuse(name, f"is no part of a query; known: {', '.join(_OWN)}", text)
        if given[name] != text:
            raise refuse(name, "is given twice; give it once", text)
    limit = read_count("limit", given["limit"]) if given.get("limit") else None
    parameters = _read_parameters(given.get("parameters") or "[]")
    view = read_view(request.extension, own)
    if limit is None and view.extension == "html":
        limit = ROWS_IN_PREVIEW + 1  # By the one more, the preview knows that there are more.
    asked = _Given(given.get("sql", ""), parameters, limit, view.extension)
    query = _make(visit, asked, engine, settings)
    return AskedQuery(query, view)


def read_posted(
    request: Request, visit: Visit, body: bytes, engine: Engine, settings: Settings
) -> AskedQuery:
    """Read the query of a body: JSON, of which what is left out is as in a URL.

    Without a format in Accept, the rows come with what is known of them, and are not more than a
    person reads.

    Raises:
        InvalidParameters: If it makes none.
        QueryRefused: If none is answered.
    """
    if len(body) > MOST_QUERY_BYTES:
        raise InvalidParameters(f"the body has more than {MOST_QUERY_BYTES} bytes; send less")
    asked = read_json(body, _EXAMPLE)
    if not isinstance(asked, dict):
        raise InvalidParameters(f"the body must be an object such as {_EXAMPLE}")
    for name in asked:
        if name not in _FIELDS:
            raise InvalidParameters(f"{name}: is no part of a query; known: {', '.join(_FIELDS)}")
    sql = asked.get("query", asked.get("q"))
    if not isinstance(sql, str):
        raise InvalidParameters(f"query: must be a text of SQL, as in {_EXAMPLE}, got {sql!r}")
    parameters = asked.get("parameters") or []
    if not isinstance(parameters, list | dict):
        raise InvalidParameters(f"parameters: must be a list or an object, got {parameters!r}")
    own, others = split_query(request.query)
    if others:
        raise InvalidParameters(f"{others[0][0]}: a POST has its query in the body")
    extension = accepted_extension(request.headers.get("accept", ""), "json")
    told = extension == "json"
    view = read_view(extension, [*own, *([("_exact", "1")] if asked.get("exact") else [])])
    limit = _checked_limit(asked.get("limit"))
    if limit is None and told:
        limit = settings.sql_limit
    given = _Given(sql, _write(parameters), limit, extension)
    query = _make(visit, given, engine, settings)
    return AskedQuery(query, view, told=told)


def _make(visit: Visit, given: _Given, engine: Engine, settings: Settings) -> Query:
    if not settings.sql:
        raise QueryRefused("SQL is not answered here; whoever runs the server may set WEBFOOT_SQL")
    sql, limit = given.sql, given.limit
    if not sql.strip():
        raise InvalidParameters(
            f"the SQL is missing; ask like /query.parquet?sql=FROM%20udfs, or POST {_EXAMPLE}"
        )
    if len(sql) > _MOST_LETTERS:
        raise InvalidParameters(
            f"sql: has {len(sql)} characters, and at most {_MOST_LETTERS} are read; give values as"
            " parameters"
        )
    if "\0" in sql or not (_is_text(sql) and _is_text(given.parameters)):
        raise InvalidParameters("sql: has characters that no text has, such as a zero byte")
    if limit is not None and limit > settings.sql_rows:
        raise refuse("limit", f"must be at most {settings.sql_rows}", str(limit))
    reach = reach_of(visit, given.extension, settings.lake)
    return engine.query(sql, given.parameters, limit, reach, visit.principal)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # Half of a character, which JSON can say.
        return False
    return True


def _checked_limit(limit: Any) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise refuse("limit", "must be a whole number of rows, 0 or more", str(limit))
    return limit


def _read_parameters(text: str) -> str:
    """The parameters in a URL, as JSON in one form."""
    try:
        parameters = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse("parameters", f"must be JSON ({error})", text) from None
    if not isinstance(parameters, list | dict):
        raise refuse("parameters", "must be a list or an object", text)
    return _write(parameters)


def around(
    asked: AskedQuery, result: Result, waited_s: float, *, warm: bool
) -> tuple[bytes, bytes]:
    """What comes before the rows, and behind them, in the answer to a POST.

    Args:
        asked: The query.
        result: Its rows.
        waited_s: How long it took, in seconds.
        warm: Whether this server has answered SQL before.
    """
    columns = [{"name": column.name, "type": column.type} for column in result.columns]
    metadata = {
        "timeMs": round(waited_s * 1000, 1),
        "epochMs": round(time.time() * 1000),
        "eventId": result.run,
        "query": asked.query.sql,
        "warm": warm,
    }
    told = {
        "rows": result.rows,
        "limit": asked.query.limit,
        "truncated": result.truncated,
        "metadata": metadata,
    }
    before = f'{{"columns":{_write(columns)},"data":'
    return before.encode(), f",{_write(told)[1:]}\n".encode()


def _write(value: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
