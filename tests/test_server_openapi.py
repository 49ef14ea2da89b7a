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
from webfoot.asking import FANOUT_OPTIONS
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


def tables(document: dict[str, Any]) -> dict[str, Any]:
    """The paths of UDFs' tables, without those of fan-outs, of jobs, of links and of SQL."""
    paths = document["paths"].items()
    return {path: item for path, item in paths if re.match(r"/udfs/.+\{extension\}", path)}


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()


def test_every_schema_is_valid_and_every_reference_leads_somewhere(
    document: dict[str, Any],
) -> None:
    for path in tables(document).values():
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
            p["name"] for p in item["get"]["parameters"] if not p["name"].startswith("_")
        ]
        for path, item in tables(document).items()
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
    for path in tables(document).values():
        names = [p["name"] for p in path["get"]["parameters"]]
        options = [*OPTIONS, *FANOUT_OPTIONS]
        assert names[-len(options) :] == options
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


def test_options_with_few_values_list_them(document: dict[str, Any]) -> None:
    by_name = {p["name"]: p["schema"] for p in operation(document, "nothing")["parameters"]}
    assert by_name["_for"] == {"enum": ["sheets", "excel"]}
    assert by_name["_limit"] == {"type": "integer", "minimum": 0}


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


def test_how_a_key_is_sent_is_described(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert {(scheme["type"], scheme.get("scheme")) for scheme in schemes.values()} == {
        ("http", "bearer"),
        ("http", "basic"),
        ("apiKey", None),
    }
    assert [*({}, *({name: []} for name in schemes))] == document["security"]
    for path in ("/shares", "/jobs"):
        assert {"401", "403", "429"} <= set(document["paths"][path]["post"]["responses"])
    for path in ("/metrics", "/alerts"):
        assert {"401", "403", "429"} <= set(document["paths"][path]["get"]["responses"])
    assert {"401", "403", "429"} <= set(operation(document, "nothing")["responses"])


def test_every_udf_has_a_fan_out(document: dict[str, Any]) -> None:
    names = {path.split("/")[2].split(".")[0] for path in tables(document)}
    fan_outs = {p: item for p, item in document["paths"].items() if p.endswith("/map")}
    assert set(fan_outs) == {f"/udfs/{name}/map" for name in names}
    for item in fan_outs.values():
        body = item["post"]["requestBody"]["content"]
        assert body["application/json"]["schema"]["type"] == "array"
        assert {"application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"} < set(body)
        assert [parameter["name"] for parameter in item["post"]["parameters"]] == ["_partial"]
