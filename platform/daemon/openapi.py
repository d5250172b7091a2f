"""``/openapi.json``: every route of the data plane, kept by hand and held true by tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ..wire import frames
from ..wire.problems import MEDIA_TYPE as PROBLEM
from ..wire.tensors import INPUTS, OUTPUTS

_REFUSALS: Mapping[int, str] = {
    400: "The request does not say what to decide about (code names what)",
    401: "No valid token",
    403: "The token lacks the scope",
    404: "There is nothing of that name",
    405: "The method is not allowed here",
    408: "The request was not received in time",
    409: "Not newer than the last sequence number, or another bundle serves",
    413: "The request is too large",
    415: "The content type or encoding is not accepted",
    422: "A number or mask that no decision can be based on",
    429: "More than this principal's budget",
    431: "The header is too large",
    500: "A defect of the daemon; see its log",
    503: "Not ready, draining or overloaded; ask again later",
}
_ANYWHERE = (401, 403, 413, 415, 429, 431, 500)


def description(domains: Sequence[str], *, admin: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        domains: that are served, for the path parameter's values.
        admin: describe the admin API too.
    """
    paths = {**_health(), **_inference(domains), **_views(domains)}
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
        "/v2": _get("Name and version of the server", {"type": "object"}),
        "/v2/health/live": _get("Whether the process answers", flag, public=True),
        "/v2/health/ready": _get(
            "Whether decisions can be asked for", flag, also={503: ("Not ready", flag)}, public=True
        ),
        "/openapi.json": _get("This document", {"type": "object"}),
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
                    **_refusals(_ANYWHERE),
                },
            }
        },
    }


def _inference(domains: Sequence[str]) -> dict[str, Any]:
    domain, bundle = _domain(domains), _path("version", "leading digits of a bundle's digest")
    model, ready = {"type": "object", "required": ["name"]}, {"type": "object"}
    decided = (200, 400, 404, 408, 409, 413, 415, 422, 503)
    infer = _post(
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
        found[base] = _get("Tensors of a domain's bundle", model, parameters, missing=True)
        found[f"{base}/ready"] = _get(
            "Whether the domain decides", ready, parameters, also=unready, missing=True
        )
        found[f"{base}/infer"] = {"parameters": [*parameters, lengths], "post": infer}
    found["/v1/decide/{domain}"] = {
        "parameters": [domain],
        "post": _post("Decide (raw frame)", native, native, decided),
    }
    return found


def _views(domains: Sequence[str]) -> dict[str, Any]:
    domain, anything = _domain(domains), {"type": "object"}
    limit = _query("limit", 1, 1000, 100)
    return {
        "/v1/state": _get("All domains", anything),
        "/v1/agents/{domain}": _get(
            "Latest decision about each agent",
            anything,
            [domain, _query("offset", 0, 2**31, 0), limit],
            missing=True,
            also={400: None},
        ),
        "/v1/decisions/{domain}": _get(
            "Latest decisions, newest first",
            anything,
            [domain, limit],
            missing=True,
            also={400: None},
        ),
        "/v1/entry/{id}": _get(
            "One decision with its reasons", anything, [_path("id", "of a decision")], missing=True
        ),
        "/v1/events": {
            "get": {
                "summary": "What happens, as server-sent events",
                "responses": {
                    "200": {
                        "description": "A stream without end",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    **_refusals((*_ANYWHERE, 503)),
                },
            }
        },
    }


def _admin(domains: Sequence[str]) -> dict[str, Any]:
    from .admin import ACTS

    act = {**_path("act", "what to do"), "schema": {"type": "string", "enum": list(ACTS)}}
    body = {"application/json": {"schema": {"type": "object"}}}
    return {
        "/v1/admin": _get("Acts and domains", {"type": "object"}),
        "/v1/admin/{domain}/{act}": {
            "parameters": [_domain(domains), act],
            "post": _post(
                "Act (dry_run only says what would happen)", body, body, (200, 400, 404, 409)
            ),
        },
    }


def _get(
    summary: str,
    schema: Mapping[str, Any],
    parameters: Sequence[Mapping[str, Any]] = (),
    *,
    also: Mapping[int, tuple[str, Mapping[str, Any]] | None] | None = None,
    missing: bool = False,
    public: bool = False,
) -> dict[str, Any]:
    codes = [*(() if public else _ANYWHERE), *([404] if missing else [])]
    responses = {"200": _answer("Here it is", schema), **_refusals(codes)}
    for code, answer in (also or {}).items():
        responses |= _refusals([code]) if answer is None else {str(code): _answer(*answer)}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if public:
        operation["security"] = [{}]
    return {"parameters": list(parameters), "get": operation}


def _post(
    summary: str, body: Mapping[str, Any], answer: Mapping[str, Any], codes: Sequence[int]
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Done", "content": dict(answer)}}
    refused = [code for code in (*codes, *_ANYWHERE) if code != 200]
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": dict(body)},
        "responses": responses | _refusals(refused),
    }


def _answer(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": dict(schema)}}}


def _refusals(codes: Sequence[int]) -> dict[str, Any]:
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(c): {"description": _REFUSALS[c], "content": content} for c in sorted(set(codes))}


def _domain(domains: Sequence[str]) -> dict[str, Any]:
    return {**_path("domain", "a served domain"), "schema": {"type": "string", "enum": [*domains]}}


def _path(name: str, text: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9._-]+$"}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _query(name: str, low: int, high: int, default: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return {"name": name, "in": "query", "required": False, "schema": schema}


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
