"""The OpenAPI document: valid, complete, and true."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import schemathesis
from tests.server_process import EVERY_TYPE, write_udfs

from webfoot import registry, sources
from webfoot.server.openapi import describe
from webfoot.views import MEDIA_TYPES, OPTIONS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    loaded = registry.load(sources.read(write_udfs(tmp_path, types=EVERY_TYPE)))
    assert loaded.problems == ()
    made = describe(loaded, "https://tables.example/base")
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    return made


def operation(document: dict[str, Any], udf: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][f"/udfs/{udf}.{{extension}}"]["get"]
    return found


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()


def test_every_schema_is_valid_and_every_reference_leads_somewhere(
    document: dict[str, Any],
) -> None:
    for path in document["paths"].values():
        for parameter in path["get"]["parameters"]:
            content = parameter.get("content", {}).get("application/json", {})
            schema = parameter.get("schema", content.get("schema"))
            whole = schema | {"components": document["components"]}
            validator = jsonschema_rs.Draft202012Validator(whole)
            if "default" in schema:
                assert validator.is_valid(schema["default"]), parameter["name"]


def test_every_udf_and_every_parameter_is_there(document: dict[str, Any]) -> None:
    own = {
        path.removeprefix("/udfs/").removesuffix(".{extension}"): [
            p["name"] for p in item["get"]["parameters"] if p["name"] not in OPTIONS
        ]
        for path, item in document["paths"].items()
    }
    assert own == {
        "größe": ["länge", "baum"],
        "lists": ["numbers", "words", "days", "colours", "some"],
        "moments": ["day", "at", "clock", "span", "until"],
        "nothing": [],
        "numbers": ["whole", "real", "exact", "yes", "few", "maybe", "share"],
        "objects": ["tree", "point", "free", "trees"],
        "texts": ["text", "code", "kind", "colour", "id", "optional"],
    }
    for path in document["paths"].values():
        names = [p["name"] for p in path["get"]["parameters"]]
        assert names[-len(OPTIONS) :] == list(OPTIONS)
        assert path["parameters"][0]["schema"]["enum"] == list(MEDIA_TYPES)


def test_what_is_required_and_what_it_means_is_said(document: dict[str, Any]) -> None:
    numbers = operation(document, "numbers")
    by_name = {p["name"]: p for p in numbers["parameters"]}
    assert [name for name, p in by_name.items() if p.get("required")] == ["whole"]
    assert by_name["whole"]["description"] == "A whole number."
    assert by_name["few"]["schema"]["maximum"] == 10
    assert numbers["tags"] == ["numbers"]
    assert numbers["summary"] == "Numbers."
    assert document["servers"] == [{"url": "https://tables.example/base"}]


def test_components_are_named_as_openapi_allows(document: dict[str, Any]) -> None:
    names = list(document["components"]["schemas"])
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names), names
    assert len(names) == len(set(names))


def test_errors_are_described_in_their_one_shape(document: dict[str, Any]) -> None:
    responses = operation(document, "nothing")["responses"]
    assert {"200", "206", "304", "404", "416", "422", "500", "503", "504", "507"} <= set(responses)
    for status in ("404", "422", "500", "503"):
        reference = responses[status]["content"]["application/problem+json"]["schema"]["$ref"]
        assert reference == "#/components/schemas/Problem"
