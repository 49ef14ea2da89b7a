"""Fan-outs as requests ask for them: in a query string, or in the body of a POST."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from webfoot.errors import InvalidParameters
from webfoot.fanout import MOST_INPUTS, Inputs
from webfoot.server.bounds import MOST_BODY_BYTES
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.results import Fanout

FANOUT_OPTIONS: Mapping[str, str] = {
    "_each": "Names of parameters, separated by commas, each of whose values is a call of its own;"
    " of several, all combinations, the last name's values in turn first.",
    "_partial": "`allow`: calls of a fan-out may fail; a column `_error` then tells why.",
}
ALLOW = "allow"

Pairs = list[tuple[str, str]]


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
                raise _refuse(name, f"must be {ALLOW}", text)
            options[name] = text
    return options, [pair for pair in own if pair[0] not in FANOUT_OPTIONS]


def from_query(
    engine: Engine, udf: Udf, options: Mapping[str, str], pairs: Pairs, asker: Principal
) -> Fanout:
    """The fan-out of a query string: a call for each value of the parameters in `_each`.

    Args:
        engine: Makes it.
        udf: The UDF.
        options: Those of fan-outs.
        pairs: The UDF's own parameters; an empty text means the default.
        asker: Who asks.

    Raises:
        InvalidParameters: If a parameter in `_each` has no value, or there is no such parameter.
    """
    if "_each" not in options:
        raise _refuse("_partial", "is for fan-outs; add _each, or leave it out", ALLOW)
    names = list(dict.fromkeys(name.strip() for name in options["_each"].split(",")))
    for name in names:
        if name not in udf.parameters:
            known = ", ".join(udf.parameters) or "none"
            raise _refuse(
                "_each", f"{udf.name} has no parameter of that name; it has {known}", name
            )
        if not any(pair[0] == name for pair in pairs):
            raise _refuse("_each", f"add a value, {name}=…, for each call", name)
    values = [[pair for pair in pairs if pair[0] == name] for name in names]
    others = [pair for pair in pairs if pair[0] not in names]
    arguments = (
        partial(udf.parameters.from_text, [*others, *chosen])
        for chosen in itertools.product(*values)
    )
    count = math.prod(map(len, values))
    return engine.fanout(udf, Inputs(arguments, count, names, "_partial" in options), asker)


def from_body(  # a request has so many parts
    engine: Engine,
    udf: Udf,
    options: Mapping[str, str],
    media_type: str,
    body: bytes,
    asker: Principal,
) -> Fanout:
    """The fan-out of a body: JSON, a list of objects; or a Parquet file or an Arrow stream.

    Args:
        engine: Makes it.
        udf: The UDF.
        options: Those of fan-outs.
        media_type: What the body is, as its Content-Type says.
        body: The body.
        asker: Who asks.

    Raises:
        InvalidParameters: If it is nothing of the kind.
    """
    if "_each" in options:
        raise _refuse("_each", "is for GET; a POST has its inputs in the body", options["_each"])
    records = _read_body(media_type, body)
    return from_records(engine, udf, records, asker, may_fail="_partial" in options)


def from_records(
    engine: Engine,
    udf: Udf,
    records: Sequence[Mapping[str, Any]],
    asker: Principal,
    *,
    may_fail: bool,
) -> Fanout:
    """The fan-out of records, one for each call.

    Args:
        engine: Makes it.
        udf: The UDF.
        records: The parameters of each call, as values.
        asker: Who asks.
        may_fail: Whether some of the calls may fail.

    Raises:
        InvalidParameters: If there are none, or too many; or, unless some may fail, if one makes no
            call.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    arguments = (partial(udf.parameters.from_values, record) for record in records)
    known = [name for name in names if name in udf.parameters]
    return engine.fanout(udf, Inputs(arguments, len(records), known, may_fail), asker)


def _read_body(media_type: str, body: bytes) -> Sequence[Mapping[str, Any]]:
    _refuse_large(body)
    if media_type in (_bare(MEDIA_TYPES["parquet"]), _bare(MEDIA_TYPES["arrow"])):
        from webfoot.tables.records import read_records  # noqa: PLC0415  # 200 ms: pyarrow

        try:
            return read_records(body, MOST_INPUTS)
        except ValueError as error:
            raise InvalidParameters(f"the body cannot be read: {error}") from None
    records = read_json(body, 'a list of objects, such as [{"month": 1}, {"month": 2}]')
    if not isinstance(records, list) or not all(isinstance(item, dict) for item in records):
        raise InvalidParameters(
            'the body must be a list of objects, such as [{"month": 1}, {"month": 2}], got'
            f" {json.dumps(records)[:100]}"
        )
    return records


def read_json(body: bytes, wanted: str) -> Any:
    """What a body of JSON has.

    Args:
        body: The body.
        wanted: What it should be, for the message.

    Raises:
        InvalidParameters: If it is no JSON, or too much of it.
    """
    _refuse_large(body)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidParameters(f"the body is not JSON ({error}); send {wanted}") from None


def _refuse_large(body: bytes) -> None:
    if len(body) > MOST_BODY_BYTES:
        raise InvalidParameters(
            f"the body has more than {MOST_BODY_BYTES} bytes; send the inputs in parts"
        )


def accepted_extension(accept: str) -> str:
    """The format that an Accept header asks for first; Parquet if it does not care."""
    by_type = {_bare(media_type): extension for extension, media_type in MEDIA_TYPES.items()}
    asked = (by_type.get(_bare(part)) for part in accept.split(","))
    return next(filter(None, asked), "parquet")


def _bare(media_type: str) -> str:
    return media_type.split(";", maxsplit=1)[0].strip().lower()


def _refuse(option: str, message: str, value: str) -> InvalidParameters:
    fault = {"parameter": option, "message": message, "value": value}
    return InvalidParameters(f"{option}: {message}, got {value!r}", errors=[fault])
