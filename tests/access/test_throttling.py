"""Rates, requests at once, requests a day: what is more is refused, and told when to come back."""

from __future__ import annotations

import pytest

from webfoot.access import throttling
from webfoot.access.throttling import PATIENCE_S, Limits, Rate, Throttle, read_rate
from webfoot.access.usage import Usage
from webfoot.errors import TooManyRequests


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("webfoot.access.throttling.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 1.5 s after midnight UTC, and stays so."""
    monkeypatch.setattr("webfoot.access.throttling.time.time", lambda: 20_000 * 86_400 + 1.5)


@pytest.fixture
def throttle() -> Throttle:
    return Throttle(Usage(None))


def ask(throttle: Throttle, limits: Limits, name: str = "key:a") -> float:
    """Make a request that is over at once."""
    wait_s = throttle.enter(name, limits)
    throttle.leave(name)
    return wait_s


def refused(throttle: Throttle, limits: Limits, name: str = "key:a") -> TooManyRequests:
    with pytest.raises(TooManyRequests) as raised:
        throttle.enter(name, limits)
    return raised.value


@pytest.mark.parametrize(
    ("text", "rate", "written"),
    [
        ("10/s", Rate(10, 1.0), "10/s"),
        ("100/m", Rate(100, 60.0), "100/m"),
        (" 5 / 10s ", Rate(5, 10.0), "5/10s"),
        ("1000/h", Rate(1000, 3600.0), "1000/h"),
        ("3/1m30s", Rate(3, 90.0), "3/90s"),
        ("7/d", Rate(7, 86_400.0), "7/d"),
    ],
)
def test_a_rate_is_read_and_written(text: str, rate: Rate, written: str) -> None:
    assert read_rate(text) == rate
    assert str(rate) == written
    assert read_rate(written) == rate


@pytest.mark.parametrize(
    "text", ["", "10", "/s", "0/s", "-1/s", "10/forever", "10/x", "10/0s", "1.5/s", 10]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a rate is"):
        read_rate(text)


def test_a_burst_is_answered_at_once_then_one_by_one(throttle: Throttle, clock: Clock) -> None:
    limits = Limits(Rate(4, 1.0))
    assert [ask(throttle, limits) for _ in range(4)] == [0, 0, 0, 0]
    # Four more wait for their turn, as long as anybody waits.
    assert [round(ask(throttle, limits), 3) for _ in range(4)] == [0.25, 0.5, 0.75, 1.0]
    error = refused(throttle, limits)
    assert error.retry_after_s == 2
    assert "key:a: 4 requests are answered in 1s" in error.detail
    clock.now += 0.25
    assert ask(throttle, limits) == PATIENCE_S
    clock.now += 100
    assert [ask(throttle, limits) for _ in range(4)] == [0, 0, 0, 0]
    assert ask(throttle, limits) > 0


def test_a_refusal_costs_nothing(throttle: Throttle, clock: Clock) -> None:
    limits = Limits(Rate(1, 10.0))
    assert ask(throttle, limits) == 0
    for _ in range(50):
        error = refused(throttle, limits)
        assert error.retry_after_s == 10
        assert error.detail.endswith("try again in 10s")
    clock.now += 9.5
    assert ask(throttle, limits) == pytest.approx(0.5)


def test_names_are_counted_apart(throttle: Throttle, clock: Clock) -> None:
    limits = Limits(Rate(1, 60.0))
    assert ask(throttle, limits, "key:a") == ask(throttle, limits, "key:b") == 0
    refused(throttle, limits, "key:a")


def test_another_rate_begins_anew(throttle: Throttle, clock: Clock) -> None:
    ask(throttle, Limits(Rate(1, 60.0)))
    assert ask(throttle, Limits(Rate(2, 60.0))) == 0


def test_what_nobody_uses_is_forgotten(
    throttle: Throttle, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "_MANY", 10)
    limits = Limits(Rate(1, 60.0))
    for number in range(10):
        ask(throttle, limits, f"key:{number}")
    clock.now += 60
    ask(throttle, limits, "key:new")
    assert list(throttle._buckets) == ["key:new"]


def test_so_many_at_once_and_no_more(throttle: Throttle) -> None:
    limits = Limits(concurrency=2)
    throttle.enter("key:a", limits)
    throttle.enter("key:a", limits)
    error = refused(throttle, limits)
    assert error.retry_after_s == 1
    assert "2 requests are being answered" in error.detail
    throttle.leave("key:a")
    assert throttle.enter("key:a", limits) == 0
    throttle.leave("key:a")
    throttle.leave("key:a")
    assert not throttle._at_once


@pytest.mark.usefixtures("one_moment")
def test_so_many_a_day_and_no_more(throttle: Throttle) -> None:
    limits = Limits(daily=3)
    for _ in range(3):
        ask(throttle, limits)
    error = refused(throttle, limits)
    assert error.retry_after_s == 86_399
    assert "3 requests are answered on one day" in error.detail


@pytest.mark.usefixtures("one_moment")
def test_what_is_refused_for_one_reason_is_not_counted_for_another(throttle: Throttle) -> None:
    limits = Limits(concurrency=1, daily=2)
    throttle.enter("key:a", limits)
    for _ in range(5):
        refused(throttle, limits)
    throttle.leave("key:a")
    ask(throttle, limits)
    assert "on one day" in refused(throttle, limits).detail


def test_without_limits_everything_is_answered(throttle: Throttle) -> None:
    assert {throttle.enter("key:a", Limits()) for _ in range(1000)} == {0.0}


def test_limits_survive_being_written_down() -> None:
    for limits in (Limits(), Limits(Rate(10, 1.0)), Limits(Rate(1, 90.0), 2, 3)):
        assert Limits.from_plain(limits.plain()) == limits


def test_a_key_says_less_than_its_roles() -> None:
    roles = Limits(Rate(1, 1.0), 5, 100)
    assert Limits(concurrency=2).over(roles) == Limits(Rate(1, 1.0), 2, 100)
