"""The extender's routes in ``/openapi.json``.

Bodies are Kubernetes' own objects. They are described as far as the daemon insists on them: what a
later version adds is nothing to refuse a scheduler for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..daemon.operations import ANYWHERE, answer, in_path, of_domain, post, refusals

_REFUSED = (400, 404, 503)


def description(domains: Sequence[str]) -> dict[str, Any]:
    """OpenAPI path items by path.

    Args:
        domains: that are served.
    """
    domain = of_domain(domains)
    extender, cluster = "/v1/extender/{domain}", "/v1/cluster/{domain}"
    return {
        f"{extender}/filter": {
            "parameters": [domain],
            "post": _lenient(
                "Nodes that can take a pod (ExtenderArgs; what is wrong with them stands in Error)",
                _FILTERED,
            ),
        },
        f"{extender}/prioritize": {
            "parameters": [domain],
            "post": post(
                "Scores of nodes, 10 for the policy's choice alone (ExtenderArgs)",
                _json(_ARGUMENTS),
                _json(_PRIORITIES),
                (*_REFUSED, 422),
            ),
        },
        f"{extender}/bind": {
            "parameters": [domain],
            "post": _lenient(
                "Book a pod's place and bind it (ExtenderBindingArgs; Error is empty if it worked)",
                {"type": "object", "required": ["Error"], "properties": {"Error": _TEXT}},
            ),
        },
        f"{cluster}/nodes": {
            "parameters": [domain],
            "put": post(
                "All nodes (v1.NodeList), instead of those known",
                _json(_LIST),
                _counted("nodes"),
                _REFUSED,
            ),
        },
        f"{cluster}/pods": {
            "parameters": [domain],
            "post": post(
                "What pods are now (v1.Pod, or v1.PodList; complete if replace is true)",
                _json({"type": "object"}),
                _counted("pods"),
                _REFUSED,
            ),
        },
        f"{cluster}/pods/{{uid}}": {
            "parameters": [domain, in_path("uid", "of the pod that is gone"), _TIME],
            "delete": {
                "summary": "A pod is gone",
                "responses": {
                    "200": answer("Whether it was known", _flag("known")),
                    **refusals((*ANYWHERE, *_REFUSED)),
                },
            },
        },
    }


def _lenient(summary: str, answered: Mapping[str, Any]) -> dict[str, Any]:
    """A verb that answers any JSON: schedulers read the field Error, not the status."""
    return post(summary, _json({}), _json(answered), _REFUSED)


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}


def _counted(name: str) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0}
    return _json({"type": "object", "required": [name], "properties": {name: number}})


def _flag(name: str) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}


_TEXT: Mapping[str, Any] = {"type": "string"}
_NAMES: Mapping[str, Any] = {"type": ["array", "null"], "items": _TEXT}
_REASONS: Mapping[str, Any] = {"type": "object", "additionalProperties": _TEXT}
_LIST: Mapping[str, Any] = {
    "type": "object",
    "required": ["items"],
    "properties": {"items": {"type": "array"}},
}
_ARGUMENTS: Mapping[str, Any] = {
    "type": "object",
    "required": ["Pod"],
    "properties": {
        "Pod": {"type": "object", "description": "v1.Pod"},
        "Nodes": {"type": ["object", "null"], "description": "v1.NodeList"},
        "NodeNames": _NAMES,
    },
}
_FILTERED: Mapping[str, Any] = {
    "type": "object",
    "required": ["Nodes", "NodeNames", "FailedNodes", "Error"],
    "properties": {
        "Nodes": {"type": ["object", "null"], "description": "v1.NodeList"},
        "NodeNames": _NAMES,
        "FailedNodes": _REASONS,
        "FailedAndUnresolvableNodes": _REASONS,
        "Error": _TEXT,
    },
}
_PRIORITIES: Mapping[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["Host", "Score"],
        "properties": {
            "Host": _TEXT,
            "Score": {"type": "integer", "minimum": 0, "maximum": 10},
        },
    },
}
_TIME: Mapping[str, Any] = {
    "name": "time",
    "in": "query",
    "required": False,
    "description": "seconds since 1970, in replays",
    "schema": {"type": "number"},
}
