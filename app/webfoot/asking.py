"""What is asked of a UDF: one call or many, for whom, and what part of the answer, how written."""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from webfoot.errors import Error, InvalidParameters
from webfoot.fanout import Inputs, make_fanout
from webfoot.results import Call
from webfoot.views import read_view, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.results import Fanout
    from webfoot.views import View

FANOUT_OPTIONS: Mapping[str, str] = {
    "_each": "Names of parameters, separated by commas, each of whose values is a call of its own;"
    " of several, all combinations, the last name's values in turn first.",
    "_partial": "`allow`: calls of a fan-out may fail; a column `_error` then tells why.",
}
ALLOW = "allow"
_MOST_QUERY_BYTES = 64_000
_MOST_PARAMETERS = 10_000

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class QueryString:
    """A query string, taken apart.

    Args:
        view: What part of the result is asked for, and how it is written.
        fanout: The options of fan-outs; if there are any, it makes many calls.
        pairs: The UDF's own parameters.
    """

    view: View
    fanout: Mapping[str, str]
    pairs: Pairs


def read_query_string(query: bytes, extension: str) -> QueryString:
    """Take a query string apart.

    Args:
        query: As it came.
        extension: The format that is asked for.

    Raises:
        UnsupportedFormat: If there is no such format.
        InvalidParameters: If one of Webfoot's own parameters is unknown or has no sense.
    """
    own, others = split_query(query)
    options, own = take_options(own)
    return QueryString(read_view(extension, own), options, others)


def split_query(query: bytes) -> tuple[Pairs, Pairs]:
    """Split a query string into Webfoot's own parameters, which begin with `_`, and the UDF's.

    Raises:
        InvalidParameters: If it is too long, or no text.
    """
    if len(query) > _MOST_QUERY_BYTES:
        raise InvalidParameters(
            f"the query is {len(query)} bytes long, and at most {_MOST_QUERY_BYTES} are read"
        )
    if query.count(b"&") >= _MOST_PARAMETERS:
        raise InvalidParameters(f"the query has more than {_MOST_PARAMETERS} parameters")
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidParameters(f"the query is not UTF-8: {error}") from error
    own = [pair for pair in pairs if pair[0].startswith("_")]
    return own, [pair for pair in pairs if not pair[0].startswith("_")]


def take_options(own: Pairs) -> tuple[dict[str, str], Pairs]:
    """Webfoot's own parameters, as those of fan-outs and the others.

    Raises:
        InvalidParameters: If one has no sense.
    """
    options: dict[str, str] = {}
    for name, text in own:
        if name == "_each" and text:
            options[name] = f"{options[name]},{text}" if name in options else text
        elif name == "_partial" and text:
            if text != ALLOW:
                raise refuse(name, f"must be {ALLOW}", text)
            options[name] = text
    return options, [pair for pair in own if pair[0] not in FANOUT_OPTIONS]


@contextlib.contextmanager
def about(udf: Udf) -> Iterator[None]:
    """Have errors say that they are about `udf`."""
    try:
        yield
    except Error as error:
        error.udf = udf.name
        raise


def audience_of(udf: Udf, asker: Principal) -> Principal:
    """For whom the results of a call are that `asker` makes."""
    return asker if udf.parameters.personal else asker.among_all()


def call_of(udf: Udf, pairs: Iterable[tuple[str, str]], asker: Principal) -> Call:
    """The call that `asker` makes with the pairs of a query string.

    Raises:
        InvalidParameters: If it makes none.
    """
    with about(udf):
        arguments = udf.parameters.from_text(pairs)
    return Call(udf.name, udf.version, arguments, audience_of(udf, asker))


def call_with(udf: Udf, values: Mapping[str, Any], asker: Principal) -> Call:
    """The call that parameters make which are given as values; see `call_of`."""
    with about(udf):
        arguments = udf.parameters.from_values(values)
    return Call(udf.name, udf.version, arguments, audience_of(udf, asker))


def fanout_of(udf: Udf, asked: QueryString, audience: Principal, most: int) -> Fanout:
    """The fan-out of a query string: a call for each value of the parameters in `_each`.

    Args:
        udf: The UDF.
        asked: The query string; in its pairs, an empty text means the default.
        audience: For whom it is.
        most: How many calls there may be.

    Raises:
        InvalidParameters: If a parameter in `_each` has no value, or there is no such parameter.
    """
    options, pairs = asked.fanout, asked.pairs
    if "_each" not in options:
        raise refuse("_partial", "is for fan-outs; add _each, or leave it out", ALLOW)
    names = list(dict.fromkeys(name.strip() for name in options["_each"].split(",")))
    for name in names:
        if name not in udf.parameters:
            known = ", ".join(udf.parameters) or "none"
            raise refuse("_each", f"{udf.name} has no parameter of that name; it has {known}", name)
        if not any(pair[0] == name for pair in pairs):
            raise refuse("_each", f"add a value, {name}=…, for each call", name)
    values = [[pair for pair in pairs if pair[0] == name] for name in names]
    others = [pair for pair in pairs if pair[0] not in names]
    arguments = (
        partial(udf.parameters.from_text, [*others, *chosen])
        for chosen in itertools.product(*values)
    )
    count = math.prod(map(len, values))
    inputs = Inputs(arguments, count, names, "_partial" in options)
    return make_fanout(udf, inputs, audience, most)
