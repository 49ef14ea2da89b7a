"""New share links: what is asked for, checked against the UDF and against who asks for it."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webfoot.access.keys import lifetime, new_id
from webfoot.access.shares import PARAMETER, Share
from webfoot.access.throttling import read_rate
from webfoot.errors import Forbidden, InvalidParameters
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from webfoot.access.guards import Asker
    from webfoot.definition import Udf

EXPIRES = "30d"


@dataclass(frozen=True)
class ShareTerms:
    """What a new link shall be good for.

    Args:
        fixed: The parameters that it gives, as names and texts.
        free: The names of those that its reader may give; `*` for all others.
        formats: In which formats; none for all that whoever gives it out may read.
        expires: For how long: "30d", seconds, or "forever".
        rate: How many requests in what time, such as "10/m"; empty for no limit.
    """

    fixed: Sequence[tuple[str, str]] = ()
    free: Sequence[str] = ()
    formats: Sequence[str] = ()
    expires: str | float = EXPIRES
    rate: str = ""


def new_share(udf: Udf, terms: ShareTerms, giver: Asker) -> Share:
    """A new link.

    Args:
        udf: The UDF that it calls.
        terms: What it shall be good for.
        giver: Who gives it out: it can do no more than they can.

    Raises:
        InvalidParameters: If a parameter has no sense, or one is missing that has no default.
        Forbidden: If it were good for a format that its giver may not read.
    """
    _check_names(udf, terms.free)
    _check_fixed(udf, terms)
    readable = [other for other in MEDIA_TYPES if giver.rights.reads(udf.name, other)]
    for extension in terms.formats:
        if extension not in MEDIA_TYPES:
            known = ", ".join(MEDIA_TYPES)
            raise InvalidParameters(
                f"formats: there is no format {extension!r}; use some of {known}"
            )
        if extension not in readable:
            raise Forbidden(
                f"{udf.name} is not for you as .{extension}; a link may be for"
                f" {', '.join(readable) or 'nothing'}"
            )
    fixed: dict[str, tuple[str, ...]] = {}
    for name, text in terms.fixed:
        fixed[name] = (*fixed.get(name, ()), text)
    try:
        left_s = lifetime(terms.expires)
    except ValueError as error:
        raise InvalidParameters(f"expires: {error}") from error
    try:
        rate = str(read_rate(terms.rate)) if terms.rate else ""
    except ValueError as error:
        raise InvalidParameters(f"rate: {error}") from error
    return Share(
        id=new_id(),
        udf=udf.name,
        # To the second: it is part of an address.
        expires=math.inf if math.isinf(left_s) else int(time.time() + left_s),
        fixed=fixed,
        free=tuple(terms.free),
        formats=tuple(terms.formats) or _all_or(readable),
        rate=rate,
        tenant=giver.principal.tenant,
        by=giver.principal.id,
    )


def link(share: Share, token: str, base_url: str, extension: str) -> str:
    """The address to hand to somebody: what the link gives, the server adds."""
    return f"{base_url}/udfs/{quote(share.udf, safe='')}.{extension}?{PARAMETER}={token}"


def extensions(share: Share) -> list[str]:
    """The formats that a link is good for."""
    return [other for other in MEDIA_TYPES if "*" in share.formats or other in share.formats]


def texts_of(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Parameters that are given as JSON values, as the texts of a query.

    Raises:
        InvalidParameters: If one is null or empty, which in a query means the default.
    """
    for name, value in parameters.items():
        if value is None or value == "":
            raise InvalidParameters(
                f"{name}: a link cannot give null or an empty text; leave it out for the default"
            )
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in parameters.items()
    ]


def _all_or(readable: Sequence[str]) -> tuple[str, ...]:
    return ("*",) if len(readable) == len(MEDIA_TYPES) else tuple(readable)


def _check_names(udf: Udf, names: Iterable[str]) -> None:
    for name in names:
        if name not in udf.parameters and name != "*":
            known = ", ".join(udf.parameters) or "none"
            raise InvalidParameters(f"{udf.name} has no parameter {name!r} to free; it has {known}")


def _check_fixed(udf: Udf, terms: ShareTerms) -> None:
    """Refuse what no call could be made of, whatever the link's reader adds."""
    both = {name for name, _ in terms.fixed} & set(terms.free)
    if both:
        raise InvalidParameters(f"{', '.join(sorted(both))}: is fixed and free; choose one")
    try:
        udf.parameters.from_text(terms.fixed)
    except InvalidParameters as error:
        given = {name for name, _ in terms.fixed}
        left = [
            fault
            for fault in error.errors
            if fault["parameter"] in given or not {"*", fault["parameter"]} & set(terms.free)
        ]
        if left:
            told = "; ".join(f"{fault['parameter']}: {fault['message']}" for fault in left)
            known = all(fault["parameter"] in udf.parameters for fault in left)
            cure = "; fix it, or free it" if known else ""
            raise InvalidParameters(f"{told}{cure}", errors=left) from None
