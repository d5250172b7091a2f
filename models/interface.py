"""The contract of an analytical model: where the system should be, and how each agent moves it.

An analytical model prescribes a *reference state* from exogenous inputs alone, and says how each
possible action of each agent moves the *system state* x, as a sparse vector. From the two follows
each agent's noise-free guidance (DG-PG, arXiv 2602.20078): the change of

    d(x, x_ref) = 1/2 (x - x_ref)' W (x - x_ref),   W = diag(weight)

that the agent's own action causes, everybody else's action held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import HOLD, Doubles, Ints, Observation


@dataclass(frozen=True, slots=True)
class Reference:
    """What the model prescribes for one control step; a function of exogenous inputs only.

    Exogenous is what the joint decision of this epoch cannot influence. For choices that is what no
    policy influences at all. For set-points it may hold the plant's state before the decision
    (previous outputs, charge, feasible box), because ramp limits tie what is good now to what was.

    Attributes:
        x_ref: ``[X]`` reference of the system state, in the units of ``Observation.state``.
        weight: ``[X]`` non-negative curvature (diagonal of W), cost per squared unit of x.
        prices: ``[P]`` dual prices in the model's own order (empty where it has none).
        objective: value of the model's optimum.
        lower_bound: proven bound on the cost that any policy can reach, same unit as objective.
        status: solver status in words; anything but ``"optimal"`` never leaves a model.
    """

    x_ref: Doubles
    weight: Doubles
    prices: Doubles
    objective: float
    lower_bound: float
    status: str


@dataclass(frozen=True, slots=True)
class Influence:
    """Sparse effect of every candidate of every agent on x.

    ``index[a, k, m]`` is a coordinate of x (int64, -1 = padding) and ``value[a, k, m]`` the change
    of that coordinate if agent ``a`` takes candidate ``k``. Hold moves nothing. Shape
    ``[A, K, M]`` with M the largest support of a candidate; a candidate names no coordinate twice.

    ``hold_cost`` ``[A]`` is what one more epoch of waiting costs, in the unit of d. Holding does
    not move x, but it is not free: it *defers* the same choice by an epoch, so it is worth the best
    other candidate less this cost. ``None`` where waiting shows in x itself (or costs nothing):
    hold is then worth 0.
    """

    index: Ints
    value: Doubles
    hold_cost: Doubles | None = None


@dataclass(frozen=True, slots=True)
class SetPointInfluence:
    """Effect of set-points on x, linear in each, and what a set-point costs by itself.

    Dimension d of agent a at ``u`` moves coordinate ``index[a, d, m]`` of x (int64, -1 = padding)
    by ``gain[a, d, m] * (u - origin[a, d])``; shapes ``[A, D, M]`` and ``[A, D]``. ``origin`` is
    where the state stands now.

    ``slope`` and ``curvature`` ``[A, D]`` add ``slope (u - origin) + curvature (u - origin)^2 / 2``
    to d: a cost that does not show in x (marginal cost less price). ``None``: nothing.
    """

    index: Ints
    gain: Doubles
    origin: Doubles
    slope: Doubles | None = None
    curvature: Doubles | None = None


def of_choices(influence: Influence | SetPointInfluence) -> Influence:
    """The influence itself, where candidates are chosen.

    Raises:
        TypeError: it is of set-points.
    """
    if isinstance(influence, SetPointInfluence):
        raise TypeError("the model guides set-points; candidates are needed here")
    return influence


@runtime_checkable
class AnalyticalModel(Protocol):
    """Reference and influence for one scenario."""

    @property
    def state_size(self) -> int: ...

    def reference(self, exogenous: Doubles) -> Reference:
        """Solve (or look up) the reference for these exogenous inputs ``[E]``.

        Raises:
            RuntimeError: the solver did not prove an optimum; names the status.
        """
        ...

    def influence(self, observation: Observation) -> Influence | SetPointInfluence:
        """``Influence`` for choice actions, ``SetPointInfluence`` for boxes."""
        ...


def counterfactual_values(
    observation: Observation,
    reference: Reference,
    influence: Influence,
    actions: NDArray[np.int64],
    *,
    form: str = "exact",
) -> Doubles:
    """Guidance value q[a, k] of each own action, all other agents' actions held fixed.

    With ``x_-i`` = state plus the influence of everyone else's chosen action,

    - ``exact``: ``q_i(k) = d(x_-i, x_ref) - d(x_-i + z_i(k), x_ref)`` (own-action counterfactual);
    - ``linear``: ``q_i(k) = -(x - x_ref)' W z_i(k)`` at the joint state x (first order, as in
      arXiv 2602.20078's inner-product form).

    Larger is better. Hold has q = 0, or the best other candidate's q less ``hold_cost`` where the
    influence states one. Returns ``[A, K]`` float64; masked candidates and inactive agents hold 0.
    Only active agents' actions move x.

    Cost: O(A K M), plus O(M) for each candidate that overlaps the agent's own choice.
    """
    if form not in ("exact", "linear"):
        raise ValueError(f"form must be 'exact' or 'linear', got {form!r}")
    agents = np.arange(actions.shape[0])
    legal = observation.mask & observation.active[:, None]
    # Padding and masked candidates move some coordinate by nothing.
    value = influence.value * (legal[:, :, None] & (influence.index >= 0))
    index = np.maximum(influence.index, 0)
    own_index, own_value = index[agents, actions], value[agents, actions]
    joint = observation.state - reference.x_ref
    joint += np.bincount(own_index.ravel(), weights=own_value.ravel(), minlength=joint.shape[0])
    # Marginal cost of each coordinate; times the influence it is the cost's first-order change.
    slope = (reference.weight * joint).take(index)
    if form == "exact":
        weight = reference.weight.take(index)
        slope += 0.5 * weight * value
        moving = legal & np.any(own_value != 0.0, axis=1, keepdims=True)
        agent, candidate = np.nonzero(moving & _overlap(index, actions))
        # Remove the agent's own chosen effect where it overlaps a candidate's support.
        same = index[agent, candidate][:, :, None] == own_index[agent][:, None, :]
        effect = np.where(same, own_value[agent][:, None, :], 0.0).sum(axis=2)
        slope[agent, candidate] -= weight[agent, candidate] * effect
    values = -np.einsum("akm,akm->ak", slope, value)
    if influence.hold_cost is not None:
        others = legal[:, HOLD + 1 :]
        best = np.where(others, values[:, HOLD + 1 :], -np.inf).max(axis=1, initial=-np.inf)
        values[:, HOLD] = np.where(others.any(axis=1), best - influence.hold_cost, 0.0)
    return values


def _overlap(index: Ints, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a candidate's support may meet that of the agent's own choice, ``[A, K]``.

    Supports are compared by the range of their coordinates, which for candidates that are blocks
    (one node each) leaves little more than the choice itself.
    """
    low, high = index[:, :, 0].copy(), index[:, :, 0].copy()
    for m in range(1, index.shape[2]):  # much faster than a reduction over a short last axis
        np.minimum(low, index[:, :, m], out=low)
        np.maximum(high, index[:, :, m], out=high)
    agents = np.arange(actions.shape[0])
    return (low <= high[agents, actions, None]) & (low[agents, actions, None] <= high)


def set_point_values(
    observation: Observation,
    reference: Reference,
    influence: SetPointInfluence,
    actions: NDArray[np.floating],
) -> Doubles:
    """Guidance of every own set-point, all other agents' set-points held fixed, ``[A, 2 D]``.

    On the share ``v`` of its feasible box, ``u = low + (high - low) v``, a dimension is worth
    ``q(v) = -(s v + h v^2 / 2)`` more than its lower end, exactly, because d is quadratic. Columns
    ``:D`` hold s, ``D:`` hold h, in the unit of d per whole box. Boxes without width and inactive
    agents hold 0. ``actions`` ``[A, D]`` in the unit of the box. Cost: O(A D M).
    """
    low, high = observation.low.astype(np.float64), observation.high.astype(np.float64)
    free = observation.active[:, None] & (high > low)
    width = np.where(free, high - low, 0.0)
    there = influence.index >= 0
    gain = np.where(there, influence.gain, 0.0)
    index = np.maximum(influence.index, 0)
    # Dimensions without a choice stay where the simulator puts them, at their lower end.
    moved = np.where(free, np.asarray(actions, np.float64), low) - influence.origin
    effect = gain * moved[:, :, None]
    joint = observation.state - reference.x_ref
    joint += np.bincount(index.ravel(), weights=effect.ravel(), minlength=joint.shape[0])
    weight = reference.weight[index]
    # Where this dimension alone puts the state back to, if it went to its lower end.
    others = joint[index] - effect
    at_low = others + gain * (low - influence.origin)[:, :, None]
    slope = (weight * gain * at_low).sum(axis=2)
    bend = (weight * gain * gain).sum(axis=2)
    if influence.curvature is not None:
        bend += influence.curvature
        slope += influence.curvature * (low - influence.origin)
    if influence.slope is not None:
        slope += influence.slope
    return np.concatenate([slope * width, bend * width * width], axis=1)
