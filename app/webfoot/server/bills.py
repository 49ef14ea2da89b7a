"""What a request has cost, in the headers of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webfoot.billing import PRICES, architecture

if TYPE_CHECKING:
    from webfoot.lineage import Tally
    from webfoot.server.problems import Headers

# Most requests cost nothing.
_NOTHING: Headers = [(b"x-webfoot-billed-ms", b"0")]


def bill_headers(tally: Tally) -> Headers:
    """What the runs have cost that a request has led to.

    Milliseconds are those of all of them, memory is the most that one had, in bytes, and the cost
    is what Lambda would ask for their time and memory, in US dollars.
    """
    if not tally.runs:
        return _NOTHING
    cost = tally.gb_seconds * PRICES.gb_second[architecture()]
    return [
        (b"x-webfoot-billed-ms", b"%d" % tally.billed_ms),
        (b"x-webfoot-runs", b"%d" % tally.runs),
        (b"x-webfoot-memory", b"%d" % tally.memory_bytes),
        (b"x-webfoot-cost", b"%.10f" % cost),
    ]
