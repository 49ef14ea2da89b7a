"""What travels with calls bounds how many there are and how deep they go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from webfoot.errors import FanoutLimit
from webfoot.lineage import lineage_of, new_lineage
from webfoot.registry import Registry
from webfoot.runners import Descent
from webfoot.runs import Run
from webfoot.sources import Code

REGISTRY = Registry(Code(Path("udfs"), "udfs", {}), {})


def test_calls_below_know_their_trace_depth_and_parent() -> None:
    root = new_lineage(REGISTRY, 10, 5, 60)
    child = root.below("key of root", "run of root")
    grandchild = child.below("key of a fan-out")
    assert root.trace == child.trace == grandchild.trace
    assert (root.depth, child.depth, grandchild.depth) == (0, 1, 2)
    assert (child.parent, grandchild.parent) == ("run of root", "run of root")
    assert (root.key, child.key, grandchild.key) == (None, "key of root", "key of a fan-out")
    assert grandchild.path == ("key of root", "key of a fan-out")


def test_what_runs_cost_is_added_up_wherever_they_are() -> None:
    root = new_lineage(REGISTRY, 10, 5, 60)
    run = Run("a", "u", "{}", 0, 0, billed_ms=1500, memory_bytes=2 << 30)
    root.below("a").tally.add(run)
    root.below("b").below("c").tally.add(replace(run, billed_ms=500, memory_bytes=1 << 30))
    root.tally.add(replace(run, billed_ms=1, memory_bytes=None))
    tally = root.tally
    assert (tally.trace, tally.runs, tally.billed_ms) == (root.trace, 3, 2001)
    assert (tally.gb_seconds, tally.memory_bytes) == (3.5, 2 << 30)


def test_only_a_requests_own_run_lingers() -> None:
    root = replace(new_lineage(REGISTRY, 10, 5, 60), linger_s=2.0)
    assert root.below("a").linger_s == 0.0


def test_each_request_has_a_trace_of_its_own() -> None:
    assert new_lineage(REGISTRY, 1, 1, 60).trace != new_lineage(REGISTRY, 1, 1, 60).trace


def test_calls_that_go_too_deep_are_refused() -> None:
    place = new_lineage(REGISTRY, 10, 2, 60).below("a").below("b")
    with pytest.raises(FanoutLimit, match=r"more than 2 deep.*WEBFOOT_DEPTH"):
        place.below("c")


def test_the_budget_is_shared_by_all_that_one_request_led_to() -> None:
    root = new_lineage(REGISTRY, 10, 5, 60)
    root.below("a").budget.take(4)
    root.below("b").below("c").budget.take(6)
    with pytest.raises(FanoutLimit, match=r"1 more calls after 10 .* which is 10.*WEBFOOT_CALLS"):
        root.budget.take(1)


def test_calls_made_elsewhere_count_and_are_never_too_many() -> None:
    budget = new_lineage(REGISTRY, 10, 5, 60).budget
    budget.take(4)
    budget.count(5)
    assert (budget.left, budget.spent) == (1, 9)
    budget.count(5)
    assert (budget.left, budget.spent) == (0, 10)


def test_a_run_in_another_process_has_the_place_that_it_had() -> None:
    descent = Descent("run", "trace", 2, ("a", "b", "its own"), 7, 60)
    place = lineage_of(descent, REGISTRY, 3)
    assert (place.trace, place.depth, place.key, place.budget.left) == ("trace", 2, "b", 7)
    below = place.below("its own", "run")
    assert (below.depth, below.path, below.parent) == (3, ("a", "b", "its own"), "run")
    with pytest.raises(FanoutLimit):
        below.below("too deep")


def test_a_call_that_is_refused_costs_nothing() -> None:
    budget = new_lineage(REGISTRY, 10, 5, 60).budget
    with pytest.raises(FanoutLimit):
        budget.take(11)
    budget.take(10)
