"""Fan-outs in the body of a POST; those of a query string are in `webfoot.asking`."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from webfoot.errors import InvalidParameters
from webfoot.fanout import MOST_INPUTS, Inputs
from webfoot.server.bounds import MOST_BODY_BYTES
from webfoot.views import MEDIA_TYPES, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.results import Fanout


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
        raise refuse("_each", "is for GET; a POST has its inputs in the body", options["_each"])
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


def accepted_extension(accept: str, default: str = "parquet") -> str:
    """The format that an Accept header asks for first; the default if it does not care."""
    by_type = {_bare(media_type): extension for extension, media_type in MEDIA_TYPES.items()}
    asked = (by_type.get(_bare(part)) for part in accept.split(","))
    return next(filter(None, asked), default)


def _bare(media_type: str) -> str:
    return media_type.split(";", maxsplit=1)[0].strip().lower()
