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

from ..simulators.interface import Doubles, Ints, Observation


@dataclass(frozen=True, slots=True)
class Reference:
    """What the model prescribes for one control step; a function of exogenous inputs only.

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
    ``[A, K, M]`` with M the largest support of a candidate.
    """

    index: Ints
    value: Doubles


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

    def influence(self, observation: Observation) -> Influence: ...


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

    Larger is better; hold has q = 0. Returns ``[A, K]`` float64; masked candidates hold 0.
    Only active agents' actions move x.
    """
    if form not in ("exact", "linear"):
        raise ValueError(f"form must be 'exact' or 'linear', got {form!r}")
    agents = np.arange(actions.shape[0])
    index, value = influence.index, influence.value
    present = (index >= 0) & observation.mask[:, :, None] & observation.active[:, None, None]
    value = np.where(present, value, 0.0)
    index = np.where(present, index, 0)
    own_index, own_value = index[agents, actions], value[agents, actions]
    joint = observation.state - reference.x_ref
    joint = joint + np.bincount(
        own_index.ravel(), weights=own_value.ravel(), minlength=joint.shape[0]
    )
    deviation = joint[index]
    if form == "exact":
        # Remove the agent's own chosen effect wherever it overlaps a candidate's support.
        same = index[:, :, :, None] == own_index[:, None, None, :]
        deviation = deviation - np.einsum("akmj,aj->akm", same, own_value)
        deviation = deviation + 0.5 * value
    return -np.einsum("akm,akm->ak", reference.weight[index] * deviation, value)
