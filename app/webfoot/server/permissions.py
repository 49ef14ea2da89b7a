"""What each address needs: the one table of it. What is not in it, nobody may ask for.

A new route needs a line here, and `tests/access/test_matrix.py` says so. What *is* there for an
asker is decided where it is found: UDFs by the registry of the visit, runs and jobs by whose they
are.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from webfoot.access.shares import PARAMETER
from webfoot.errors import Forbidden
from webfoot.server.fanouts import accepted_extension
from webfoot.server.requests import (
    MAP_PATH,
    PATH,
    SQL_BODY_PATH,
    SQL_PATH,
    match_folders,
    path_of,
    read_headers,
)
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

    from webfoot.access.guards import Asker


class Need(Enum):
    """What somebody needs to ask for something."""

    NOTHING = "nothing"
    """Everybody may: it tells nothing of anybody's."""
    NAME = "name"
    """To be known; what they are shown is what there is for them."""
    RESULT = "result"
    """To be allowed the UDF in the format; a share link may be enough."""
    FOLLOW = "follow"
    """To have been sent to where a result will be; likewise."""
    SQL = "sql"
    JOBS = "jobs"
    SHARE = "share"
    METRICS = "metrics"
    ADMIN = "admin"
    """A right of that name; see `webfoot.access.roles`."""


class Wanted(NamedTuple):
    """What a request asks for.

    Args:
        need: What it needs.
        udf: The UDF, if the address names one; whether there is one is another question.
        extension: The format, likewise.
        plain: Whether the call's parameters are all in the query.
    """

    need: Need
    udf: str = ""
    extension: str = ""
    plain: bool = True


# What a share link may be enough for.
_BY_LINK = (Need.RESULT, Need.FOLLOW)
# What is answered with a table.
FOR_RESULTS = (*_BY_LINK, Need.SQL)
_READ = ("GET", "HEAD")
# Longer paths are read anew each time: remembered, they would fill the memory.
_MOST_REMEMBERED = 500


def _reading(need: Need) -> Mapping[str, Need]:
    return dict.fromkeys(_READ, need)


# Paths, each with what its methods need. Any other method is refused by the route itself.
_PATHS: tuple[tuple[re.Pattern[str], Mapping[str, Need]], ...] = tuple(
    (re.compile(path), needs)
    for path, needs in (
        (r"/(?:healthz|readyz)", _reading(Need.NOTHING)),
        (r"/static/[^/]+/[^/]+", _reading(Need.NOTHING)),
        (r"/(?:udfs|docs|openapi\.json)?", _reading(Need.NAME)),
        (r"/udfs/[^/]+", _reading(Need.NAME)),
        (r"/catalog(?:-untyped)?\.(?:duckdb|sql)", _reading(Need.NAME)),
        (r"/runs/[^/]+", _reading(Need.NAME)),
        (r"/jobs/[^/.]+\.[^/]+", _reading(Need.FOLLOW)),
        (SQL_PATH.pattern, _reading(Need.SQL)),
        (SQL_BODY_PATH.pattern, {"POST": Need.SQL}),
        (r"/jobs", {"POST": Need.JOBS}),
        (r"/jobs/[^/]+", {**_reading(Need.JOBS), "DELETE": Need.JOBS}),
        (r"/shares", {**_reading(Need.SHARE), "POST": Need.SHARE}),
        (r"/shares/[^/]+", {"DELETE": Need.SHARE}),
        (r"/(?:metrics|alerts)", _reading(Need.METRICS)),
        (r"/_system/[^/.]+\.[^/]+", _reading(Need.ADMIN)),
    )
)
_RIGHTS = {need: need.value for need in (Need.SQL, Need.JOBS, Need.SHARE, Need.METRICS, Need.ADMIN)}


def wanted_by(scope: Scope) -> Wanted | None:
    """What a request asks for; None if it is not for anything that there is."""
    path, method = path_of(scope), scope["method"]
    if method in _READ:
        # The most common first: thousands come in a second, and few are long.
        find = _table_at if len(path) <= _MOST_REMEMBERED else _table_at.__wrapped__
        if (table := find(path)) is not None:
            return table
        if (match := match_folders(scope)) is not None:
            return Wanted(Need.RESULT, unquote(match[1]), unquote(match[3]), plain=False)
    elif method == "POST" and (match := MAP_PATH.fullmatch(path)) is not None:
        extension = accepted_extension(read_headers(scope).get("accept", ""))
        return Wanted(Need.RESULT, match[1], extension, plain=False)
    elif method == "OPTIONS":
        # A browser asks so, without anybody's key, whether it may ask.
        return Wanted(Need.NOTHING)
    # With a slash at its end, the router sends on to the path without.
    bare = path.rstrip("/") or "/"
    needs = next((needs for pattern, needs in _PATHS if pattern.fullmatch(bare)), None)
    # Tables are in front of the router, and have one address, and their methods.
    is_table = needs is not None and any(need in FOR_RESULTS for need in needs.values())
    if needs is None or (is_table and (path != bare or method not in needs)):
        return None
    return Wanted(needs.get(method, Need.NAME))


@lru_cache(1_000)
def _table_at(path: str) -> Wanted | None:
    match = PATH.fullmatch(path)
    return None if match is None else Wanted(Need.RESULT, match[1], match[2])


def check_rights(asker: Asker, wanted: Wanted) -> None:
    """Refuse what somebody may not ask for.

    A UDF that is not theirs is not refused here: to them there is none.

    Raises:
        Forbidden: It says what they may, or what right they lack.
    """
    need = wanted.need
    if asker.share is not None and not (need in _BY_LINK and wanted.plain):
        raise Forbidden(
            "a share link is for its table at its plain address, and for nothing else; leave out"
            f" {PARAMETER} and ask with a key"
        )
    if need in _RIGHTS and not asker.rights.has(_RIGHTS[need]):
        roles = asker.principal.roles
        given = f"the role {' or '.join(roles)} does not give" if roles else "no role gives you"
        raise Forbidden(f"this needs the right {_RIGHTS[need]!r}, which {given}")
    if need is Need.RESULT:
        check_format(asker, wanted.udf, wanted.extension)


def check_format(asker: Asker, udf: str, extension: str) -> None:
    """Refuse a format in which somebody may not read what they may read in others.

    Raises:
        Forbidden: It says which ones they may.
    """
    rights = asker.rights
    if rights.reads(udf, extension):
        return
    if extension in MEDIA_TYPES and rights.sees(udf):
        allowed = [other for other in MEDIA_TYPES if rights.reads(udf, other)]
        raise Forbidden(
            f"{udf} is not for you as .{extension}; you may read it as"
            f" {', '.join(f'.{other}' for other in allowed) or 'nothing'}"
        )
