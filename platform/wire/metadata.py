"""What the Open Inference Protocol's metadata routes say about server and models."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from ...simulators.interface import Choice, Feature, Spec
from .tensors import INPUTS, OUTPUTS


def server() -> dict[str, Any]:
    """Answer of ``GET /v2``."""
    return {
        "name": "fairlead",
        "version": version("fairlead"),
        "extensions": ["binary_tensor_data", "model_versions"],
    }


def model(domain: str, spec: Spec, versions: Sequence[str]) -> dict[str, Any]:
    """Answer of ``GET /v2/models/{domain}``.

    Args:
        domain: the model's name.
        spec: of the bundle that serves it.
        versions: digests that can be asked for, cut to 12 digits.

    Returns:
        The protocol's members; -1 is the number of rows n, and of candidates K. The extra member
        ``parameters`` names the columns, their units and the optional tensors.
    """
    own = len(spec.agent_features)
    shapes: dict[str, list[int]] = {"agent": [-1, own]}
    if isinstance(spec.action, Choice):
        shapes["candidates"] = [-1, -1, len(spec.candidate_features)]
        shapes["mask"] = shapes["target"] = [-1, -1]
        action: dict[str, Any] = {"name": "action", "datatype": "INT64", "shape": [-1]}
        outputs = {"source": [-1], "cause": [-1], "preference": [-1, -1]}
    else:
        shapes["low"] = shapes["high"] = [-1, spec.action.dimensions]
        action = {"name": "action", "datatype": "FP32", "shape": [-1, spec.action.dimensions]}
        outputs = {"source": [-1], "cause": [-1]}
    shapes["active"] = shapes["agents"] = [-1]
    return {
        "name": domain,
        "versions": list(versions),
        "platform": "fairlead",
        "inputs": [
            {"name": name, "datatype": INPUTS[name], "shape": shape}
            for name, shape in shapes.items()
        ],
        "outputs": [
            action,
            *(
                {"name": name, "datatype": OUTPUTS[name], "shape": shape}
                for name, shape in outputs.items()
            ),
        ],
        "parameters": {
            "scenario": spec.scenario,
            "agents": spec.agents,
            "dt": spec.dt,
            "optional": [name for name in ("active", "target", "agents") if name in shapes],
            "agent_features": [_column(feature) for feature in spec.agent_features],
            "candidate_features": [_column(feature) for feature in spec.candidate_features],
        },
    }


def _column(feature: Feature) -> str:
    return f"{feature.name} [{feature.unit}]"
