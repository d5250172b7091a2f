"""``/openapi.json``: every route of the data plane, kept by hand and held true by tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ..wire import frames
from ..wire.tensors import INPUTS, OUTPUTS
from .operations import ANYWHERE, get, in_path, in_query, of_domain, post, refusals
from .outcomes import described


def description(domains: Sequence[str], *, admin: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        domains: that are served, for the path parameter's values.
        admin: describe the admin API too.
    """
    # Imported late: the extender's package needs ours.
    from ..kubernetes.description import description as extender

    paths = {**_health(), **_inference(domains), **_views(domains), **extender(domains)}
    if admin:
        paths |= _admin(domains)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead live controller",
            "version": version("fairlead"),
            "description": "Decisions by trained policies, checked, with fallbacks. /v2 follows "
            "the Open Inference Protocol. A late policy is answered 200 with fallback actions.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Scopes: read (GET), infer (decisions), admin (acts). Without a "
                    "token file, loopback and unix sockets read and infer.",
                }
            },
            "schemas": {"Problem": _PROBLEM, "InferRequest": _INFER, "InferResponse": _INFERRED},
        },
    }


def _health() -> dict[str, Any]:
    flag = {"type": "object", "additionalProperties": {"type": "boolean"}}
    return {
        "/v2": get("Name and version of the server", {"type": "object"}),
        "/v2/health/live": get("Whether the process answers", flag, public=True),
        "/v2/health/ready": get(
            "Whether decisions can be asked for", flag, also={503: ("Not ready", flag)}, public=True
        ),
        "/openapi.json": get("This document", {"type": "object"}),
        "/metrics": {
            "get": {
                "summary": "All metrics",
                "responses": {
                    "200": {
                        "description": "Prometheus text, or OpenMetrics if Accept asks for it",
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                        },
                    },
                    **refusals(ANYWHERE),
                },
            }
        },
    }


def _inference(domains: Sequence[str]) -> dict[str, Any]:
    domain, bundle = of_domain(domains), in_path("version", "leading digits of a bundle's digest")
    model, ready = {"type": "object", "required": ["name"]}, {"type": "object"}
    decided = (200, 400, 404, 408, 409, 413, 415, 422, 503)
    infer = post(
        "Decide (Open Inference Protocol, JSON or binary tensors)",
        {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
        {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferResponse"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
        decided,
    )
    native = {frames.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    lengths = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "length of the JSON part where binary tensors follow it",
        "schema": {"type": "integer", "minimum": 1, "maximum": 99999999999},
    }
    unready = {503: ("Not ready", ready)}
    found: dict[str, Any] = {}
    for suffix, extra in (("", []), ("/versions/{version}", [bundle])):
        base, parameters = "/v2/models/{domain}" + suffix, [domain, *extra]
        found[base] = get("Tensors of a domain's bundle", model, parameters, missing=True)
        found[f"{base}/ready"] = get(
            "Whether the domain decides", ready, parameters, also=unready, missing=True
        )
        found[f"{base}/infer"] = {"parameters": [*parameters, lengths], "post": infer}
    found["/v1/decide/{domain}"] = {
        "parameters": [domain],
        "post": post("Decide (raw frame)", native, native, decided),
    }
    schemas = described()
    report = {"application/json": {"schema": schemas["report"]}}
    answer = {"application/json": {"schema": schemas["answer"]}}
    found["/v1/outcome/{domain}"] = {
        "parameters": [domain],
        "post": post("Report what a decision did to the plant", report, answer, (400, 404)),
    }
    return found


def _views(domains: Sequence[str]) -> dict[str, Any]:
    domain, anything = of_domain(domains), {"type": "object"}
    limit = in_query("limit", 1, 1000, 100)
    return {
        "/v1/state": get("All domains", anything),
        "/v1/agents/{domain}": get(
            "Latest decision about each agent",
            anything,
            [domain, in_query("offset", 0, 2**31, 0), limit],
            missing=True,
            also={400: None},
        ),
        "/v1/decisions/{domain}": get(
            "Latest decisions, newest first",
            anything,
            [domain, limit],
            missing=True,
            also={400: None},
        ),
        "/v1/entry/{id}": get(
            "One decision with its reasons",
            anything,
            [in_path("id", "of a decision")],
            missing=True,
        ),
        "/v1/events": {
            "get": {
                "summary": "What happens, as server-sent events",
                "responses": {
                    "200": {
                        "description": "A stream without end",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    **refusals((*ANYWHERE, 503)),
                },
            }
        },
    }


def _admin(domains: Sequence[str]) -> dict[str, Any]:
    from .admin import ACTS

    act = {**in_path("act", "what to do"), "schema": {"type": "string", "enum": list(ACTS)}}
    body = {"application/json": {"schema": {"type": "object"}}}
    return {
        "/v1/admin": get("Acts and domains", {"type": "object"}),
        "/v1/admin/{domain}/{act}": {
            "parameters": [of_domain(domains), act],
            "post": post(
                "Act (dry_run only says what would happen)", body, body, (200, 400, 404, 409)
            ),
        },
    }


_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "retryable": {"type": "boolean"},
        "error": {"type": "string"},
        "decision_id": {"type": "string"},
    },
}

_INFER: Mapping[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 128},
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "client": {"type": "string", "maxLength": 128},
                "episode": {"type": "string", "maxLength": 128},
                "seq": {"type": "integer", "minimum": -1},
                "observed": {"type": "number", "minimum": 0, "description": "unix seconds"},
                "deadline_ms": {"type": "number", "minimum": 0, "maximum": 60000},
                "seed": {"type": "integer", "minimum": 0},
                "greedy": {"type": "boolean"},
                "time": {"type": "number"},
                "binary_data_output": {"type": "boolean"},
                "timeout": {"type": "integer", "minimum": 0, "description": "microseconds"},
                "priority": {"type": "integer"},
            },
        },
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"type": "string", "enum": list(INPUTS)},
                    "datatype": {"type": "string", "enum": sorted(set(INPUTS.values()))},
                    "shape": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 3,
                        "items": {"type": "integer", "minimum": 0},
                    },
                    "data": {"type": "array"},
                    "parameters": {"type": "object"},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "enum": list(OUTPUTS)},
                    "parameters": {"type": "object"},
                },
            },
        },
    },
}

_INFERRED: Mapping[str, Any] = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": {"type": "array", "items": {"type": "object"}},
    },
}
