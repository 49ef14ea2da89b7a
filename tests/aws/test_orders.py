"""What one instance asks another for, and what it is told."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from tests.places import places_in

from webfoot.aws.orders import Deadline, answer_of, is_order, obey, order_for
from webfoot.errors import DeadlineReached, UdfFailed
from webfoot.runners import Descent
from webfoot.runners.jobs import UdfJob
from webfoot.store.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from tests.places import Place

    from webfoot.aws.orders import Done


@pytest.fixture
def places(tmp_path: Path, write_files: Callable[..., Path]) -> Iterator[Callable[[], Place]]:
    stores: list[LocalStore] = []

    def open_store() -> LocalStore:
        stores.append(LocalStore(tmp_path / "store", 10**8))
        return stores[-1]

    yield places_in(tmp_path, write_files, open_store)
    for store in stores:
        store.close()


def event_for(place: Place, *, ends_at: float | None = None, **changes: Any) -> dict[str, Any]:
    call = place.call()
    job = UdfJob(place.udf("hourly"), call.arguments, 10.0, 10**9)
    descent = Descent("run", "trace", 1, ("key of the parent", call.key), 5, 60.0)
    order = order_for(job, descent, time.time() + 60 if ends_at is None else ends_at)
    event: dict[str, Any] = json.loads(json.dumps(order.event() | changes))
    assert is_order(event)
    return event


async def done(place: Place, event: dict[str, Any]) -> Done | None:
    answer = await obey(event, place.engine, Deadline(time.time() + 60))
    return answer_of(json.loads(json.dumps(answer)))


def test_who_asked_publishes_what_the_other_has_written(places: Callable[[], Place]) -> None:
    async def hand_over() -> None:
        one, other = places(), places()
        made = await done(other, event_for(one))
        assert made is not None
        assert made.draft.stored
        # Nobody else has seen it.
        assert await one.engine.stored(one.call()) is None
        one.runner.draft = made.draft
        assert await one.read() == b"run 1"
        assert other.runner.runs == 1

    asyncio.run(hand_over())


def test_other_code_is_refused_and_runs_nothing(places: Callable[[], Place]) -> None:
    place = places()
    assert asyncio.run(done(place, event_for(place, version="other"))) is None
    assert asyncio.run(done(place, event_for(place, udf="gone"))) is None
    assert place.runner.runs == 0


def test_an_error_comes_back_as_its_own_class(places: Callable[[], Place]) -> None:
    place = places()
    place.runner.error = UdfFailed("no station 3")
    place.runner.error.traceback = "line 3"
    with pytest.raises(UdfFailed, match="no station 3") as caught:
        asyncio.run(done(place, event_for(place)))
    assert caught.value.traceback == "line 3"


def test_what_comes_too_late_for_who_asked_is_stopped(places: Callable[[], Place]) -> None:
    async def late() -> None:
        place = places()
        place.runner.go.clear()
        with pytest.raises(DeadlineReached):
            await done(place, event_for(place, ends_at=time.time() + 0.05))
        assert place.runner.cancelled == 1

    asyncio.run(late())


def test_other_events_are_no_orders() -> None:
    assert not is_order({"kind": "other"})
    assert not is_order({"requestContext": {}})


def test_who_will_not_run_it_is_no_result() -> None:
    assert answer_of({"refused": "another version"}) is None
