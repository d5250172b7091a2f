"""A simulator's spec as JSON: what a bundle says about the system that its policy is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..simulators.interface import Box, Choice, Feature, Spec

_OBSERVED = ("agent_features", "candidate_features", "critic_features")


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """The spec without domain and scenario, as JSON-able values; no bound is written as null.

    ``candidates`` stands for a choice, ``dimensions`` for a box.
    """
    features = {
        kind: [
            {**asdict(feature), "low": _bound(feature.low), "high": _bound(feature.high)}
            for feature in getattr(spec, kind)
        ]
        for kind in _OBSERVED
    }
    action = spec.action
    size = (
        {"candidates": action.candidates}
        if isinstance(action, Choice)
        else {"dimensions": action.dimensions, "base": list(action.base)}
    )
    return {
        "agents": spec.agents,
        "groups": list(spec.groups),
        "group_of": [int(group) for group in spec.group_of],
        **features,
        "state_size": spec.state_size,
        **size,
        "horizon": spec.horizon,
        "dt": spec.dt,
    }


def spec_from_json(domain: str, scenario: str, values: Mapping[str, Any]) -> Spec:
    """The inverse of :func:`spec_to_json`.

    Raises:
        KeyError: a value that is missing.
    """
    features = {kind: tuple(map(_feature, values[kind])) for kind in _OBSERVED}
    box = "dimensions" in values
    return Spec(
        domain=domain,
        scenario=scenario,
        agents=values["agents"],
        groups=tuple(values["groups"]),
        group_of=np.array(values["group_of"], np.int64),
        **features,
        state_size=values["state_size"],
        action=Box(values["dimensions"], tuple(values.get("base", ())))
        if box
        else Choice(values["candidates"]),
        horizon=values["horizon"],
        dt=values["dt"],
    )


def _feature(values: Mapping[str, Any]) -> Feature:
    low = float("-inf") if values["low"] is None else float(values["low"])
    high = float("inf") if values["high"] is None else float(values["high"])
    return Feature(values["name"], values["unit"], low, high, values["transform"])


def _bound(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
