"""The OpenAPI 3.1 document: one path per UDF, with every parameter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import webfoot
from webfoot.asking import ALLOW, FANOUT_OPTIONS
from webfoot.server.problems import PROBLEM_TYPE
from webfoot.views import CHOICES, MEDIA_TYPES, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.definition import Udf
    from webfoot.parameters import Parameter
    from webfoot.registry import Registry

# What every address that asks for a key may answer.
_REFUSALS = {
    "401": "A key is needed, or the one that was sent is not good.",
    "403": "Who asks may not do that.",
    "429": "Who asks may not ask for more right now; try again after Retry-After seconds.",
}
_ERRORS = {
    **_REFUSALS,
    "404": "There is no such table or format.",
    "412": "The result is another than If-Match names.",
    "416": "The range begins behind the end.",
    "422": "The parameters are at fault; nothing ran.",
    "500": "The UDF failed.",
    "503": "The queue is full; try again after Retry-After seconds.",
    "504": "The UDF took too long.",
    "507": "The store's disk is full.",
}
_QUERY_ERRORS = {
    "413": "The query has too many rows.",
    "422": "The SQL is wrong, or its parameters are.",
    "502": "A dataset cannot be read.",
}
# Of what has no conditions and no ranges.
_RANGED = ("412", "416")
_JOB_ERRORS = {**_REFUSALS, "404": "There is no such job, or it ended too long ago."}
_SUBMIT_ERRORS = {
    **_REFUSALS,
    "404": "There is no such UDF.",
    "409": "The idempotency key is another job's.",
    "422": "It makes no job; nothing ran.",
}
_SHARE_ERRORS = {
    **_REFUSALS,
    "404": "There is no such UDF, or no such link.",
    "422": "It makes no link.",
}
# A server asks for one of these from the day on which its first key was made.
_CREDENTIALS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a token."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key."},
    "basic": {"type": "http", "scheme": "basic", "description": "A key, as the password."},
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "udf": {"type": "string"},
        "run": {"type": "string"},
    },
}


def describe(registry: Registry, base_url: str) -> dict[str, Any]:
    """The document for the UDFs of `registry`."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, Any] = {}
    for udf in registry.values():
        paths[f"/udfs/{udf.name}.{{extension}}"] = {
            "parameters": [_extension()],
            "get": _operation(udf, schemas),
        }
        paths[f"/udfs/{udf.name}/map"] = {"post": _map_operation(udf)}
    if paths:
        paths |= _job_paths() | _share_paths() | _watching_paths()
    paths |= _query_paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Webfoot",
            "version": webfoot.__version__,
            "description": "Python functions as tables.",
        },
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _CREDENTIALS},
        "security": [{}, *({name: []} for name in _CREDENTIALS)],
    }


def _job_paths() -> dict[str, Any]:
    wanted = {
        "type": "object",
        "required": ["udf"],
        "properties": {
            "udf": {"type": "string", "description": "The UDF's name."},
            "parameters": {"type": "object", "description": "Its parameters."},
            "inputs": {
                "type": "array",
                "items": {"type": "object"},
                "description": "In place of parameters: those of many calls, answered as one.",
            },
            "partial": {"const": "allow", "description": "Some of many calls may fail."},
        },
        "additionalProperties": False,
    }
    job = {"content": {"application/json": {"schema": {"type": "object"}}}}
    key = _header("Idempotency-Key", "The same key gives the same job.")
    schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
    identity = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The job's id.",
        "schema": schema,
    }
    return {
        "/jobs": {
            "post": {
                "operationId": "submit_job",
                "summary": "Make a call, or many, that goes on when nobody waits",
                "parameters": [key],
                "requestBody": {
                    "required": True,
                    "description": "A UDF, and its parameters, or the inputs of many calls.",
                    "content": {"application/json": {"schema": wanted}},
                },
                "responses": {"202": {"description": "The job.", **job}, **_errors(_SUBMIT_ERRORS)},
            }
        },
        "/jobs/{id}": {
            "parameters": [identity],
            "get": {
                "operationId": "show_job",
                "summary": "The state of a job, and where its result is",
                "responses": {"200": {"description": "The job.", **job}, **_errors(_JOB_ERRORS)},
            },
            "delete": {
                "operationId": "cancel_job",
                "summary": "Cancel a job",
                "responses": {"200": {"description": "The job.", **job}, **_errors(_JOB_ERRORS)},
            },
        },
    }


def _share_paths() -> dict[str, Any]:
    texts = {"type": "array", "items": {"type": "string"}}
    wanted = {
        "type": "object",
        "required": ["udf"],
        "properties": {
            "udf": {"type": "string", "description": "The UDF's name."},
            "parameters": {"type": "object", "description": "Those that the link gives."},
            "free": {**texts, "description": "Those that its reader may give; `*` for all."},
            "formats": {**texts, "description": "In which formats; all if there are none."},
            "expires": {"type": "string", "description": "For how long, such as `30d`."},
            "rate": {"type": "string", "description": "How many requests, such as `10/m`."},
        },
        "additionalProperties": False,
    }
    link = {"content": {"application/json": {"schema": {"type": "object"}}}}
    identity = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The link's id.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
    }
    errors = _errors(_SHARE_ERRORS)
    return {
        "/shares": {
            "post": {
                "operationId": "give_link",
                "summary": "Make a link to one table, for those who can show no key",
                "requestBody": {
                    "required": True,
                    "description": "The UDF, and what its readers may and may not choose.",
                    "content": {"application/json": {"schema": wanted}},
                },
                "responses": {"201": {"description": "The link.", **link}, **errors},
            },
            "get": {
                "operationId": "list_links",
                "summary": "The links that you have given out",
                "responses": {"200": {"description": "The links.", **link}, **errors},
            },
        },
        "/shares/{id}": {
            "parameters": [identity],
            "delete": {
                "operationId": "revoke_link",
                "summary": "Make a link good for nothing",
                "responses": {"204": {"description": "It is."}, **errors},
            },
        },
    }


def _watching_paths() -> dict[str, Any]:
    metrics: dict[str, Any] = {"text/plain": {}, "application/openmetrics-text": {}}
    alerts: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}, "text/html": {}}
    errors = _errors(_REFUSALS)
    return {
        "/metrics": {
            "get": {
                "operationId": "show_metrics",
                "summary": "What the server counts, as Prometheus reads it",
                "responses": {"200": {"description": "All metrics.", "content": metrics}, **errors},
            }
        },
        "/alerts": {
            "get": {
                "operationId": "show_alerts",
                "summary": "Whether requests fail or take long, and memory is short, just now",
                "responses": {"200": {"description": "All alerts.", "content": alerts}, **errors},
            }
        },
    }


def _query_paths() -> dict[str, Any]:
    parameters = {
        "anyOf": [{"type": "array"}, {"type": "object"}],
        "description": "What the placeholders ?, $1 or $name stand for.",
    }
    limit = {"type": "integer", "minimum": 0, "description": "At most this many rows."}
    wanted = {
        "type": "object",
        "required": ["query"],
        "properties": {
            "query": {"type": "string", "description": "One SELECT."},
            "parameters": parameters,
            "limit": limit,
            "exact": {"type": "boolean", "description": OPTIONS["_exact"]},
        },
        "additionalProperties": False,
    }
    sql = {
        "name": "sql",
        "in": "query",
        "required": True,
        "description": "One SELECT, or an EXPLAIN of one. UDFs are its table functions.",
        "schema": {"type": "string", "minLength": 1},
    }
    given = {
        "name": "parameters",
        "in": "query",
        "description": parameters["description"],
        "content": {"application/json": {"schema": {"anyOf": parameters["anyOf"]}}},
    }
    most = {"name": "limit", "in": "query", "description": limit["description"]}
    formats: dict[str, Any] = {kind.split(";")[0]: {} for kind in MEDIA_TYPES.values()}
    return {
        "/query.{extension}": {
            "parameters": [_extension()],
            "get": {
                "operationId": "query",
                "summary": "The rows of a query",
                "parameters": [
                    sql,
                    given,
                    most | {"schema": {"type": "integer", "minimum": 0}},
                    *(_option(name, text) for name, text in OPTIONS.items()),
                ],
                "responses": {
                    "200": {"description": "The rows.", "content": formats},
                    "206": {"description": "The byte range that Range asks for."},
                    "304": {"description": "What If-None-Match names is still the result."},
                    **_errors(_ERRORS | _QUERY_ERRORS),
                },
            },
        },
        "/query": {
            "post": {
                "operationId": "post_query",
                "summary": "The rows of a query, and what is known of them",
                "requestBody": {
                    "required": True,
                    "description": "A query.",
                    "content": {"application/json": {"schema": wanted}},
                },
                "responses": {
                    "200": {
                        "description": "An object whose data are the rows; or the rows alone, in"
                        " the format that Accept names.",
                        "content": formats,
                    },
                    **_errors(
                        {k: v for k, v in (_ERRORS | _QUERY_ERRORS).items() if k not in _RANGED}
                    ),
                },
            }
        },
    }


def _header(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _operation(udf: Udf, schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": udf.name,
        "summary": udf.title or udf.name,
        "description": "\n\n".join(part for part in (udf.description, udf.returns) if part),
        "tags": list(udf.options.tags),
        "parameters": [
            *(_parameter(parameter, udf.name, schemas) for parameter in udf.parameters.values()),
            *(_option(name, text) for name, text in {**OPTIONS, **FANOUT_OPTIONS}.items()),
        ],
        "responses": {
            "200": {
                "description": udf.returns or "The table.",
                "content": {kind.split(";")[0]: {} for kind in MEDIA_TYPES.values()},
            },
            "206": {"description": "The byte range that Range asks for."},
            "304": {"description": "What If-None-Match names is still the result."},
            **_errors(_ERRORS),
        },
    }


def _map_operation(udf: Udf) -> dict[str, Any]:
    """Many inputs in one request. What an input may be, the UDF's own operation says."""
    inputs = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    tables: dict[str, Any] = {MEDIA_TYPES[kind].split(";")[0]: {} for kind in ("parquet", "arrow")}
    return {
        "operationId": f"{udf.name}.map",
        "summary": f"{udf.title or udf.name} For many inputs, as one table.",
        "tags": list(udf.options.tags),
        "parameters": [_option("_partial", FANOUT_OPTIONS["_partial"])],
        "requestBody": {
            "required": True,
            "description": "A list of inputs, or a table of them.",
            "content": {"application/json": {"schema": inputs}, **tables},
        },
        "responses": {
            "200": {
                "description": "The inputs as first columns, then the results' own.",
                "content": {kind.split(";")[0]: {} for kind in MEDIA_TYPES.values()},
            },
            **_errors({k: v for k, v in _ERRORS.items() if k not in _RANGED}),
        },
    }


def _errors(told: Mapping[str, str]) -> dict[str, Any]:
    problem = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": text, "content": problem} for status, text in told.items()}


def _extension() -> dict[str, Any]:
    return {
        "name": "extension",
        "in": "path",
        "required": True,
        "description": "The format of the answer.",
        "schema": {"type": "string", "enum": list(MEDIA_TYPES)},
    }


def _parameter(parameter: Parameter, udf: str, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = dict(parameter.schema)
    for name, definition in schema.pop("$defs", {}).items():
        schemas[_component(udf, name)] = _refer(definition, udf)
    schema = _refer(schema, udf)
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.help,
    }
    if parameter.shape == "json":
        return described | {"content": {"application/json": {"schema": schema}}}
    return described | {"schema": schema}


def _component(udf: str, name: str) -> str:
    """The name of a definition among the components: OpenAPI allows it no other letters."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: f"-{ord(match[0]):x}-", f"{udf}.{name}")


def _refer(schema: Any, udf: str) -> Any:
    """The schema with references to `$defs` led to the document's components."""
    if isinstance(schema, dict):
        return {key: _refer(value, udf) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_refer(item, udf) for item in schema]
    if isinstance(schema, str) and schema.startswith("#/$defs/"):
        return f"#/components/schemas/{_component(udf, schema.removeprefix('#/$defs/'))}"
    return schema


def _option(name: str, text: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name in ("_limit", "_offset"):
        schema = {"type": "integer", "minimum": 0}
    elif name in CHOICES:
        schema = {"enum": list(CHOICES[name])}
    elif name == "_partial":
        schema = {"enum": [ALLOW]}
    return {"name": name, "in": "query", "description": text, "schema": schema}
