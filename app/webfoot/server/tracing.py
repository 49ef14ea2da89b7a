"""Traces: a span for each request, and for each run that it leads to, wherever that is made.

They are sent if the variables say where to that everything of OpenTelemetry reads. A server without
them loads none of its libraries, and its requests do nothing for it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.engine import Engine
    from webfoot.server.spans import Spans

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"

_log = logging.getLogger(__name__)


def tracing_of(engine: Engine, environment: Mapping[str, str] = os.environ) -> Spans | None:
    """What sends spans; None if nobody wants them.

    What is wrong with the variables is logged, and keeps no server from starting: they are often
    set for all that runs on a cluster.

    Args:
        engine: Tells of its runs.
        environment: Has OpenTelemetry's variables.
    """
    if not _is_wanted(environment):
        return None
    protocol = _first(environment, _PROTOCOLS) or _PROTOCOL
    if protocol != _PROTOCOL:
        _log.warning(
            "no traces are sent: Webfoot speaks %s, not %r; set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,"
            " and the port in the endpoint (4318, mostly)",
            *(_PROTOCOL, protocol),
        )
        return None
    try:
        from webfoot.server.spans import Spans  # noqa: PLC0415  # libraries that only this needs
    except ModuleNotFoundError as error:
        _log.warning("no traces are sent: %s; install webfoot[otel]", error)
        return None
    return Spans(engine)


def _is_wanted(environment: Mapping[str, str]) -> bool:
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = environment.get("OTEL_TRACES_EXPORTER", "") or "otlp"
    return bool(_first(environment, _ENDPOINTS)) and not disabled and "otlp" in exporters


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The value of the first of some variables that is set."""
    return next((environment[name] for name in names if environment.get(name)), "")
