"""No call waits for itself, by way of others or not."""

from __future__ import annotations

import pytest

from webfoot.engine.circles import Circles
from webfoot.errors import FanoutLimit


def test_a_call_that_waits_for_itself_through_others_is_refused() -> None:
    circles = Circles()
    with circles.waiting("a", "b", "b"), circles.waiting("b", "c", "c"):
        refused = pytest.raises(FanoutLimit, match="'a' is called in a circle")
        with refused, circles.waiting("c", "a", "a"):
            pass
        with circles.waiting("c", "d", "d"), circles.waiting("a", "c", "c"):
            pass


def test_a_call_may_wait_for_what_no_longer_waits_for_it() -> None:
    circles = Circles()
    with circles.waiting("a", "b", "b"):
        pass
    with circles.waiting("b", "a", "a"):
        pass


def test_a_request_waits_for_anything() -> None:
    circles = Circles()
    one, other = circles.waiting(None, "a", "a"), circles.waiting("a", "b", "b")
    with one, other, circles.waiting(None, "b", "b"):
        pass
