"""Golden decisions: observations and what the policy decided on them when it was saved.

Of a choice they hold the scores, of a set-point the shapes ``a`` and ``b`` of its distribution, so
that a difference says where it arose. Both are compared to a tolerance, because float32 sums come
out otherwise on another machine. The actions of choices must be the same. Set-points are drawn
again from the *recorded* shapes: sampling rejects trials, so that a shape that is off by the last
bit may, if rarely, take another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..policies.acting import PolicyActor
from ..policies.box_acting import SetPointActor, mode, sample, set_points
from ..simulators.interface import Box, Floats, Observation, Spec
from .tasks import Episode

TOLERANCE = 1e-5
"""How far a score may be off on another machine (other order of float32 sums), as a share of the
largest score (of 1, if that is larger). Also for shapes, and for set-points as shares of a box."""

CHOICE_PARTS = ("agent", "candidates", "mask", "active")
"""Parts of an observation that a policy of choices reads."""

BOX_PARTS = ("agent", "low", "high", "active")
"""Parts of an observation that a policy of set-points reads."""

_STREAM = 0x601D

Golden = Mapping[str, NDArray[Any]]


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


def box_observation_of(agent: Floats, low: Floats, high: Floats, active: Any) -> Observation:
    """As :func:`observation_of`, for set-points."""
    agents = len(agent)
    return Observation(
        agent=agent,
        candidates=np.zeros((agents, 0, 0), np.float32),
        target=np.zeros((agents, 0), np.int64),
        mask=np.zeros((agents, 0), np.bool_),
        low=low,
        high=high,
        active=active,
        critic=np.zeros(0, np.float32),
        state=np.zeros(0),
        exogenous=np.zeros(0),
        time=0.0,
    )


def parts_of(golden: Golden) -> tuple[str, ...]:
    """Names of the arrays that make up its observations."""
    return BOX_PARTS if "low" in golden else CHOICE_PARTS


def seen_in(golden: Golden) -> tuple[Observation, ...]:
    """The observations of golden decisions."""
    names = parts_of(golden)
    build = box_observation_of if names is BOX_PARTS else observation_of
    return tuple(build(*rows) for rows in zip(*(golden[name] for name in names), strict=True))


def make_golden(
    actor: PolicyActor | SetPointActor, episode: Episode, *, epochs: int, count: int = 8
) -> dict[str, NDArray[Any]]:
    """Decisions of ``actor`` at ``count`` epochs spread over the first ``epochs`` of an episode.

    Returns what was seen (:data:`CHOICE_PARTS` or :data:`BOX_PARTS`), ``seed`` ``[n]`` (of the
    generator that sampled), ``scores`` (or ``a`` and ``b``) and ``actions``, each with the epoch as
    first axis.
    """
    chosen = np.unique(np.linspace(0, epochs - 1, count).astype(np.int64))
    boxes = isinstance(actor, SetPointActor)
    seen: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(getattr(episode, name)[chosen])
        for name in (BOX_PARTS if boxes else CHOICE_PARTS)
    }
    seen["seed"] = np.arange(len(chosen), dtype=np.int64)
    if boxes:
        shapes = _shapes(actor, seen)
        return {**seen, **shapes, "actions": _set(actor, {**seen, **shapes})}
    scores, actions = _decide(actor, seen, seen["seed"])
    return {**seen, "scores": scores, "actions": actions}


def score_error(scores: NDArray[Any], golden: NDArray[Any]) -> float:
    """Largest difference of two sets of scores, in the unit of :data:`TOLERANCE`."""
    if not golden.size:
        return 0.0
    return float(np.abs(scores - golden).max() / max(1.0, float(np.abs(golden).max())))


def share_error(points: NDArray[Any], golden: NDArray[Any], low: Floats, high: Floats) -> float:
    """Largest difference of set-points as a share of their box, beyond float32's own rounding."""
    if not golden.size:
        return 0.0
    apart = np.abs(points.astype(np.float64) - golden)
    rounding = 2.0 * np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high))
    width = np.maximum(high.astype(np.float64) - low, np.finfo(np.float32).tiny)
    return float((np.maximum(apart - rounding, 0.0) / width).max())


def check_golden(actor: PolicyActor | SetPointActor, golden: Golden, spec: Spec) -> list[str]:
    """Differences between what ``actor`` decides now and what was recorded; empty if none."""
    boxes = isinstance(spec.action, Box)
    needed = (*BOX_PARTS, "a", "b") if boxes else (*CHOICE_PARTS, "scores")
    lacking = [name for name in (*needed, "seed", "actions") if name not in golden]
    if lacking:
        return [f"golden decisions lack {', '.join(lacking)}"]
    if golden["agent"].shape[1:] != (spec.agents, len(spec.agent_features)):
        return [f"golden observations have shape {golden['agent'].shape}, not that of the spec"]
    if golden["seed"].size == 0:
        return ["there are no golden decisions"]
    if isinstance(actor, SetPointActor):
        return _check_set_points(actor, golden)
    return _check_choices(actor, golden)


def _check_choices(actor: PolicyActor, golden: Golden) -> list[str]:
    scores, actions = _decide(actor, golden, golden["seed"])
    found: list[str] = []
    worst = score_error(scores, golden["scores"])
    if not worst <= TOLERANCE:
        found.append(f"scores differ by {worst:.3g} (allowed {TOLERANCE:g})")
    wrong = int((actions != golden["actions"]).sum())
    if wrong:
        found.append(f"{wrong} of {actions.size} actions differ")
    return found


def _check_set_points(actor: SetPointActor, golden: Golden) -> list[str]:
    expected = golden["low"].shape
    for name in ("high", "a", "b", "actions"):
        if golden[name].shape != expected:
            return [f"golden {name} have shape {golden[name].shape}, the boxes {expected}"]
    shapes = _shapes(actor, golden)
    found: list[str] = []
    worst = float(np.max([score_error(shapes[name], golden[name]) for name in ("a", "b")]))
    if not worst <= TOLERANCE:
        found.append(f"shapes of the distribution differ by {worst:.3g} (allowed {TOLERANCE:g})")
    points = _set(actor, golden)
    apart = share_error(points, golden["actions"], golden["low"], golden["high"])
    if not apart <= TOLERANCE:
        found.append(f"set-points differ by {apart:.3g} of their box (allowed {TOLERANCE:g})")
    return found


def _decide(
    actor: PolicyActor, seen: Golden, seeds: NDArray[np.int64]
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
        scores.append(actor.scores(observation))
        actions.append(actor.act(observation, _generator(int(seed))))
    return np.stack(scores), np.stack(actions)


def _shapes(actor: SetPointActor, seen: Golden) -> dict[str, NDArray[Any]]:
    pairs = [actor.shapes(observation) for observation in seen_in(seen)]
    return {name: np.stack([pair[at] for pair in pairs]) for at, name in enumerate("ab")}


def _set(actor: SetPointActor, golden: Golden) -> NDArray[np.float32]:
    """Set-points from the shapes in ``golden``, as ``SetPointActor.act`` takes them."""
    found: list[NDArray[np.float32]] = []
    for index, observation in enumerate(seen_in(golden)):
        a, b = golden["a"][index], golden["b"][index]
        rng = _generator(int(golden["seed"][index]))
        share = sample(a, b, rng) if actor.stochastic else mode(a, b)
        found.append(set_points(observation, share))
    return np.stack(found)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, _STREAM]))
