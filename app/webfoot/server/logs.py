"""What the server logs: without secrets in it, as text or as JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from webfoot.access.credentials import masked
from webfoot.masking import mask
from webfoot.server.exchanges import REQUEST_ID

_TRACEBACKS = logging.Formatter()


class MaskingFilter(logging.Filter):
    """Lets everything through but secrets: URLs have tokens in them, and errors what they met."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask what is to be logged."""
        record.msg, record.args = without_secrets(record.getMessage()), None
        # The same for a terminal, by uvicorn; it has the arguments that are in the message now.
        vars(record).pop("color_message", None)
        if record.exc_info and not record.exc_text:
            record.exc_text = without_secrets(_TRACEBACKS.formatException(record.exc_info))
        return True


def without_secrets(text: str) -> str:
    """The text without keys of ours, and other secrets, in it."""
    # Keys first: what is left of one tells which it was.
    return mask(masked(text))


class JsonFormatter(logging.Formatter):
    """Writes a record as a line of JSON, with the request that it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        """Write it."""
        told = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            told["request_id"] = request_id
        if record.exc_text:
            told["exception"] = record.exc_text
        return json.dumps(told, ensure_ascii=False)
