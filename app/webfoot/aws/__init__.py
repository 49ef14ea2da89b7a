"""A folder of UDFs on AWS Lambda: `webfoot.aws.handler` is the function's handler.

The name is made when it is first asked for, which Lambda's runtime does while it starts: so the
UDFs are loaded once for each instance, and importing this package loads nothing.
"""

from __future__ import annotations

import gc
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webfoot.aws.invocations import Handler

    handler: Handler

__all__ = ["handler"]


def __getattr__(name: str) -> object:
    """Make the handler of this process."""
    if name != "handler":
        raise AttributeError(f"module 'webfoot.aws' has no attribute {name!r}")
    return _start()


@cache
def _start() -> Handler:
    # Modules stay: to look among what they make for garbage, again and again, takes a tenth of a
    # start.
    gc.disable()
    try:
        from webfoot.aws.environment import read_settings  # noqa: PLC0415  # see above
        from webfoot.aws.invocations import Handler  # noqa: PLC0415  # likewise
        from webfoot.aws.shutdown import close_at_sigterm  # noqa: PLC0415  # likewise
    finally:
        gc.freeze()
        gc.enable()
    started = Handler(read_settings())
    close_at_sigterm(started.close)
    return started
