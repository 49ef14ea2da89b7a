"""Runs that one instance of a function hands over to another: what it asks, what it is answered."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from webfoot.access.principal import Principal
from webfoot.errors import DeadlineReached, Error
from webfoot.runners import Descent, frames
from webfoot.runners.jobs import UdfJob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.engine import Engine
    from webfoot.results import Draft

_KIND = "webfoot.run"


@dataclass
class Deadline:
    """When what this process does now is of no use any more.

    Args:
        ends_at: In seconds since 1970.
    """

    ends_at: float = math.inf


@dataclass(frozen=True)
class Order:
    """A run that is handed over.

    Args:
        udf: The UDF's name.
        version: The hash of its code.
        arguments: Canonical arguments.
        timeout_s: How long it may take, in seconds.
        memory_bytes: How much memory it may use.
        asker: For whom it is, as the UDF is told.
        ends_at: When nobody waits for it any more, in seconds since 1970.
        descent: Its place among all calls.
    """

    udf: str
    version: str
    arguments: str
    timeout_s: float
    memory_bytes: int
    asker: Principal
    ends_at: float
    descent: Descent

    def event(self) -> dict[str, Any]:
        """The event that an instance is given."""
        return {"kind": _KIND, **asdict(self)}


@dataclass(frozen=True)
class Done:
    """What the other instance has made.

    Args:
        draft: What it has written, which the store has.
        calls: How many calls it has led to.
        cost: What these have cost; see `webfoot.lineage.Tally.sums`.
    """

    draft: Draft
    calls: int
    cost: Mapping[str, float]


def is_order(event: Mapping[str, Any]) -> bool:
    """Whether an event is a run that is handed over."""
    return event.get("kind") == _KIND


def order_for(job: UdfJob, descent: Descent, ends_at: float) -> Order:
    """Hand over `job`."""
    return Order(
        udf=job.udf.name,
        version=job.udf.version,
        arguments=job.arguments,
        timeout_s=job.timeout_s,
        memory_bytes=job.memory_bytes,
        asker=job.asker,
        ends_at=ends_at,
        descent=descent,
    )


async def obey(event: Mapping[str, Any], engine: Engine, deadline: Deadline) -> dict[str, Any]:
    """Make the run that an event hands over.

    Args:
        event: The event.
        engine: Makes it.
        deadline: When the platform ends this process' turn; brought forward to when nobody waits.

    Returns:
        What `answer_of` reads.
    """
    order = _read_order(event)
    udf = engine.registry.get(order.udf)
    if udf is None or udf.version != order.version:
        return {"refused": f"this instance has another version of {order.udf!r}"}
    job = UdfJob(udf, order.arguments, order.timeout_s, order.memory_bytes, order.asker)
    lineage = engine.lineage_of(order.descent)
    deadline.ends_at = min(order.ends_at, deadline.ends_at)
    left_s = deadline.ends_at - time.time()
    try:
        async with asyncio.timeout(left_s) as clock:
            draft = await engine.run_for(job, order.descent, lineage)
    except Error as error:
        return frames.write_error(error)
    except TimeoutError:
        if not clock.expired():
            raise
        late = DeadlineReached(
            f"no answer came within the {left_s:.3g} s that were left when it began", limit_s=left_s
        )
        return frames.write_error(late)
    return {
        "draft": frames.write_draft(draft),
        "calls": lineage.budget.spent,
        "cost": lineage.tally.sums(),
    }


def answer_of(answer: Mapping[str, Any]) -> Done | None:
    """What has become of an order; None if that instance would not make the run.

    Raises:
        Error: Why the run failed.
    """
    if "problem" in answer:
        raise frames.read_error(answer)
    if "draft" not in answer:
        return None
    return Done(frames.read_draft(answer["draft"]), answer["calls"], answer["cost"])


def _read_order(event: Mapping[str, Any]) -> Order:
    told = {name: value for name, value in event.items() if name != "kind"}
    descent = told["descent"]
    place = Descent(**(descent | {"path": tuple(descent["path"])}))
    return Order(**(told | {"descent": place, "asker": Principal.from_plain(told["asker"])}))
