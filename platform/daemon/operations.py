"""Pieces that an OpenAPI document is made of: operations, answers, refusals, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..wire.problems import MEDIA_TYPE as PROBLEM

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
ANYWHERE = (401, 403, 413, 415, 429, 431, 500)
"""Refusals that any request may meet."""


def get(
    summary: str,
    schema: Mapping[str, Any],
    parameters: Sequence[Mapping[str, Any]] = (),
    *,
    also: Mapping[int, tuple[str, Mapping[str, Any]] | None] | None = None,
    missing: bool = False,
    public: bool = False,
) -> dict[str, Any]:
    """An operation that only looks; ``missing``: 404 is possible, ``public``: for everybody.

    ``also`` holds further answers by status: text and schema, or ``None`` for a problem.
    """
    codes = [*(() if public else ANYWHERE), *([404] if missing else [])]
    responses = {"200": answer("Here it is", schema), **refusals(codes)}
    for code, other in (also or {}).items():
        responses |= refusals([code]) if other is None else {str(code): answer(*other)}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if public:
        operation["security"] = [{}]
    return {"parameters": list(parameters), "get": operation}


def post(
    summary: str, body: Mapping[str, Any], content: Mapping[str, Any], codes: Sequence[int]
) -> dict[str, Any]:
    """An operation with a body: media types of body and answer, statuses besides the usual."""
    responses: dict[str, Any] = {"200": {"description": "Done", "content": dict(content)}}
    refused = [code for code in (*codes, *ANYWHERE) if code != 200]
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": dict(body)},
        "responses": responses | refusals(refused),
    }


def answer(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """An answer in JSON."""
    return {"description": text, "content": {"application/json": {"schema": dict(schema)}}}


def refusals(codes: Sequence[int]) -> dict[str, Any]:
    """Problems by status."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(c): {"description": _REFUSALS[c], "content": content} for c in sorted(set(codes))}


def of_domain(domains: Sequence[str]) -> dict[str, Any]:
    """The parameter ``domain`` with its values."""
    schema = {"type": "string", "enum": [*domains]}
    return {**in_path("domain", "a served domain"), "schema": schema}


def in_path(name: str, text: str) -> dict[str, Any]:
    """A word in the path."""
    schema = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9._-]+$"}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def in_query(name: str, low: int, high: int, default: int) -> dict[str, Any]:
    """A whole number in the query."""
    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return {"name": name, "in": "query", "required": False, "schema": schema}
