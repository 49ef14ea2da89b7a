"""What stands before a function, read from its events."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.aws.events import KINDS, Asked, event_of, recorded

from webfoot.aws.fronts import LAMBDA_BYTES, front_of, is_request
from webfoot.errors import Error


@pytest.mark.parametrize(
    ("kind", "patience_s", "payload_bytes"),
    [
        ("function_url", math.inf, LAMBDA_BYTES),
        ("http_api", 30, LAMBDA_BYTES),
        ("rest_api", 29, LAMBDA_BYTES),
        ("load_balancer", math.inf, 1_000_000),
    ],
)
def test_each_service_waits_and_carries_what_it_does(
    kind: str, patience_s: float, payload_bytes: int
) -> None:
    front = front_of(recorded(kind))
    assert (front.patience_s, front.payload_bytes) == (patience_s, payload_bytes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_is_told_encoded_and_decoded(kind: str) -> None:
    front = front_of(event_of(kind, Asked("GET", "/udfs/gr%C3%B6%C3%9Fe.csv")))
    assert front.raw_path == "/udfs/gr%C3%B6%C3%9Fe.csv"
    assert front.path == front.prefix + "/udfs/größe.csv"


def test_a_rest_api_has_its_stage_before_the_path() -> None:
    front = front_of(event_of("rest_api", Asked("GET", "/udfs/a.csv")))
    assert (front.prefix, front.path) == ("/Prod", "/Prod/udfs/a.csv")


def test_an_http_api_has_its_stage_in_the_path() -> None:
    event = event_of("http_api", Asked("GET", "/live/udfs/a.csv"))
    event["requestContext"]["stage"] = "live"
    front = front_of(event)
    assert (front.prefix, front.raw_path) == ("/live", "/udfs/a.csv")


def test_a_stage_that_a_custom_domain_hides_is_no_prefix() -> None:
    event = event_of("http_api", Asked("GET", "/udfs/a.csv"))
    event["requestContext"]["stage"] = "live"
    assert front_of(event).prefix == ""


def test_the_mapping_of_a_custom_domain_is_a_prefix() -> None:
    event = event_of("rest_api", Asked("GET", "/tables/udfs/a.csv"))
    event["pathParameters"]["proxy"] = "udfs/a.csv"
    event["requestContext"]["path"] = "/tables/udfs/a.csv"
    front = front_of(event)
    assert (front.prefix, front.raw_path) == ("/tables", "/udfs/a.csv")


@pytest.mark.parametrize(
    "event", [{}, {"Records": []}, {"source": "aws.s3"}, {"requestContext": {"x": 1}}]
)
def test_an_event_that_is_no_request_says_what_to_do(event: dict[str, Any]) -> None:
    assert not is_request(event)
    with pytest.raises(Error, match="call the function through API Gateway"):
        front_of(event)
