"""Golden decisions: observations and what the policy decided on them when it was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..policies.acting import PolicyActor
from ..simulators.interface import Observation, Spec
from .tasks import Episode

TOLERANCE = 1e-5
"""How far a score may be off on another machine (other order of float32 sums), as a share of the
largest score (of 1, if that is larger)."""

_STREAM = 0x601D


def observation_of(
    agent: NDArray[np.float32],
    candidates: NDArray[np.float32],
    mask: NDArray[np.bool_],
    active: NDArray[np.bool_],
) -> Observation:
    """An observation that holds what a policy reads, and nothing of the centralised part."""
    agents, choices = mask.shape
    return Observation(
        agent=agent,
        candidates=candidates,
        target=np.full((agents, choices), -1, np.int64),
        mask=mask,
        low=np.zeros((agents, 0), np.float32),
        high=np.zeros((agents, 0), np.float32),
        active=active,
        critic=np.zeros(0, np.float32),
        state=np.zeros(0),
        exogenous=np.zeros(0),
        time=0.0,
    )


def make_golden(
    actor: PolicyActor, episode: Episode, *, epochs: int, count: int = 8
) -> dict[str, NDArray[Any]]:
    """Decisions of ``actor`` at ``count`` epochs spread over the first ``epochs`` of an episode.

    Returns ``agent``, ``candidates``, ``mask``, ``active``, ``seed`` ``[n]`` (of the generator
    that sampled), ``scores`` and ``actions``, each with the epoch as first axis.
    """
    chosen = np.unique(np.linspace(0, epochs - 1, count).astype(np.int64))
    seen = {
        name: np.ascontiguousarray(getattr(episode, name)[chosen])
        for name in ("agent", "candidates", "mask", "active")
    }
    seed = np.arange(len(chosen), dtype=np.int64)
    scores, actions = _decide(actor, seen, seed)
    return {**seen, "seed": seed, "scores": scores, "actions": actions}


def score_error(scores: NDArray[Any], golden: NDArray[Any]) -> float:
    """Largest difference of two sets of scores, in the unit of :data:`TOLERANCE`."""
    if not golden.size:
        return 0.0
    return float(np.abs(scores - golden).max() / max(1.0, float(np.abs(golden).max())))


def check_golden(actor: PolicyActor, golden: Mapping[str, NDArray[Any]], spec: Spec) -> list[str]:
    """Differences between what ``actor`` decides now and what was recorded; empty if none."""
    needed = ("agent", "candidates", "mask", "active", "seed", "scores", "actions")
    lacking = [name for name in needed if name not in golden]
    if lacking:
        return [f"golden decisions lack {', '.join(lacking)}"]
    if golden["agent"].shape[1:] != (spec.agents, len(spec.agent_features)):
        return [f"golden observations have shape {golden['agent'].shape}, not that of the spec"]
    if golden["seed"].size == 0:
        return ["there are no golden decisions"]
    scores, actions = _decide(actor, golden, golden["seed"])
    found: list[str] = []
    worst = score_error(scores, golden["scores"])
    if not worst <= TOLERANCE:
        found.append(f"scores differ by {worst:.3g} (allowed {TOLERANCE:g})")
    wrong = int((actions != golden["actions"]).sum())
    if wrong:
        found.append(f"{wrong} of {actions.size} actions differ")
    return found


def _decide(
    actor: PolicyActor, seen: Mapping[str, NDArray[Any]], seeds: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    scores: list[NDArray[np.float32]] = []
    actions: list[NDArray[np.int64]] = []
    for index, seed in enumerate(seeds):
        observation = observation_of(
            seen["agent"][index],
            seen["candidates"][index],
            seen["mask"][index],
            seen["active"][index],
        )
        rng = np.random.default_rng(np.random.SeedSequence([int(seed), _STREAM]))
        scores.append(actor.scores(observation))
        actions.append(actor.act(observation, rng))
    return np.stack(scores), np.stack(actions)
