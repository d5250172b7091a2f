"""How fragile each agent's decision is: the Taylor remainder of its action-commitment cost.

After arXiv 2602.08104 (of which the abstract and second-hand summaries were available, not the
body). Agent i, about to take its greedy action ``a*`` at observation ``o``, is committed at the
cost ``J(o) = -log pi(a* | o)``. If its observation moves by eta, with ``a*`` held fixed,

    L(eta) = J(o + eta) - J(o) - grad J(o)' eta

is what the first-order picture of the decision misses; for small eta it is half the curvature of J
along eta. A small ``|L|`` means that the policy reacts as foreseen, a large one that the decision
turns on details of the observation. Observations are meant in the *normalised* features that the
network reads, so that eta has one scale for all columns.

All agents of an epoch are rows of one batch. Rows do not mix, so one gradient of the summed cost
serves them all. Sums run in float64, because L is a small difference of larger numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import Bools, Choice, Doubles, Floats, Ints, Observation, Spec
from .columns import NORMALISER
from .interface import PolicyArrays
from .networks import Parameters, normalise, scores


@dataclass(frozen=True, slots=True)
class View:
    """What the policies of ``B`` agents read: normalised, masked candidates zero.

    Attributes:
        member: ``[B]`` int64 parameter group of every row.
        agent: ``[B, F]`` float64.
        candidates: ``[B, K, C]`` float64.
        mask: ``[B, K]`` bool.
    """

    member: Tensor
    agent: Tensor
    candidates: Tensor
    mask: Tensor

    def moved(self, shift: Shift) -> View:
        """The view at ``o + eta``; what masked candidates show does not move."""
        shifted = self.candidates + shift.candidates
        visible = torch.where(self.mask.unsqueeze(-1), shifted, 0.0)
        return View(self.member, self.agent + shift.agent, visible, self.mask)

    def repeated(self, times: int) -> View:
        """Every row ``times`` in a row, ``[B * times, ...]``."""
        parts = (self.member, self.agent, self.candidates, self.mask)
        return View(*(part.repeat_interleave(times, dim=0) for part in parts))


@dataclass(frozen=True, slots=True)
class Shift:
    """A change eta of a view: ``agent [B, F]`` and ``candidates [B, K, C]``, float64."""

    agent: Tensor
    candidates: Tensor


@dataclass(frozen=True, slots=True)
class Remainder:
    """The parts of the expansion, each ``[B]`` float64, in nats.

    Attributes:
        cost: ``J(o)``.
        slope: ``grad J(o)' eta``.
        remainder: ``L(eta)``.
    """

    cost: Doubles
    slope: Doubles
    remainder: Doubles


class FragilityGauge:
    """Commitment costs and their Taylor remainders under one policy.

    Args:
        spec: of the simulator that the policy was trained for.
        arrays: weights and feature scales of a candidate-scorer policy.
        device: where to compute.

    Raises:
        TypeError: a scenario whose agents set boxes: a density has no commitment cost.
    """

    def __init__(self, spec: Spec, arrays: PolicyArrays, device: str = "cpu") -> None:
        if not isinstance(spec.action, Choice):
            raise TypeError(
                f"scenario {spec.scenario!r} has box actions; commitment costs are of choices"
            )
        self._device = torch.device(device)
        tensors = {
            name: torch.tensor(value, dtype=torch.float64, device=self._device)
            for name, value in arrays.tensors.items()
        }
        self._scales = [tensors.pop(name) for name in NORMALISER]
        self._parameters: Parameters = tensors
        self._member = torch.tensor(arrays.member, device=self._device)
        self._logs = [
            torch.tensor([f.transform == "log1p" for f in features], device=self._device)
            for features in (spec.agent_features, spec.candidate_features)
        ]
        self._groups = int(tensors["score.weight"].shape[0])

    def view(self, observation: Observation) -> View:
        """All agents of an observation ``[A]``, as the policy reads them."""
        return self.view_of(observation.agent, observation.candidates, observation.mask)

    def view_of(
        self, agent: Floats, candidates: Floats, mask: Bools, rows: Ints | None = None
    ) -> View:
        """Raw features ``[B, F]``, ``[B, K, C]`` and mask ``[B, K]`` of the agents ``rows``.

        Without ``rows``, row b is agent b.
        """
        index = self._member if rows is None else self._member[torch.as_tensor(rows)]
        own, each = (torch.as_tensor(raw, device=self._device) for raw in (agent, candidates))
        legal = torch.as_tensor(mask, device=self._device)
        shift, scale, each_shift, each_scale = (part[index] for part in self._scales)
        own = normalise(own.double(), self._logs[0], shift, scale)
        wide = normalise(each.double(), self._logs[1], each_shift[:, None], each_scale[:, None])
        return View(index, own, torch.where(legal.unsqueeze(-1), wide, 0.0), legal)

    def log_probabilities(self, view: View) -> Tensor:
        """``log pi(k | o)`` ``[B, K]``; minus infinity for masked candidates."""
        groups, row, column = self._places(view.member)
        agent, each, legal = (
            part.new_zeros((self._groups, groups, *part.shape[1:])).index_put((row, column), part)
            for part in (view.agent, view.candidates, view.mask)
        )
        legal[..., 0] = True  # padding rows, too, have a candidate to be normalised over
        raw = scores(self._parameters, agent, each, legal)[row, column]
        return torch.where(view.mask, raw, -torch.inf).log_softmax(dim=-1)

    def greedy(self, view: View) -> Tensor:
        """Best legal candidate of every row, ``[B]``."""
        with torch.no_grad():
            return self.log_probabilities(view).argmax(dim=-1)

    def cost(self, view: View, choice: Tensor) -> Tensor:
        """``-log pi(choice | o)`` ``[B]``; differentiable in the view."""
        return -self.log_probabilities(view).gather(1, choice.unsqueeze(1)).squeeze(1)

    def remainder(self, view: View, shift: Shift, choice: Tensor | None = None) -> Remainder:
        """Taylor remainder of every row for its own eta; ``choice`` defaults to the greedy one.

        Exactly zero where eta is zero. An agent without a choice (one legal candidate) has J = 0
        everywhere and hence no remainder.
        """
        leaves = View(
            view.member,
            view.agent.detach().clone().requires_grad_(),
            view.candidates.detach().clone().requires_grad_(),
            view.mask,
        )
        with torch.enable_grad():
            logs = self.log_probabilities(leaves)
            fixed = logs.detach().argmax(dim=-1) if choice is None else choice
            here = -logs.gather(1, fixed.unsqueeze(1)).squeeze(1)
            own, each = torch.autograd.grad(here.sum(), (leaves.agent, leaves.candidates))
        visible = torch.where(view.mask.unsqueeze(-1), shift.candidates, 0.0)
        slope = (own * shift.agent).sum(dim=1) + (each * visible).sum(dim=(1, 2))
        with torch.no_grad():
            there = self.cost(view.moved(shift), fixed)
        cost = here.detach()
        return Remainder(*(part.cpu().numpy() for part in (cost, slope, there - cost - slope)))

    def probe(self, view: View, probes: Shift) -> Doubles:
        """Fragility ``[B]``: root mean square of L over common small perturbations.

        Args:
            view: ``[B, ...]``.
            probes: from :meth:`probes`; ``[P, F]`` and ``[P, K, C]``, the same for every row.
        """
        rows, count = view.agent.shape[0], probes.agent.shape[0]
        eta = Shift(probes.agent.repeat(rows, 1), probes.candidates.repeat(rows, 1, 1))
        found = self.remainder(view.repeated(count), eta).remainder
        return np.sqrt(np.square(found.reshape(rows, count)).mean(axis=1))

    def probes(
        self, rng: np.random.Generator, candidates: int, *, pairs: int, radius: float
    ) -> Shift:
        """``2 * pairs`` perturbations in pairs of opposite sign.

        Entries are Gaussian with standard deviation ``radius`` (normalised units). The 'hold'
        candidate describes nothing that is measured, so it does not move.
        """
        features, width = self._logs[0].shape[0], self._logs[1].shape[0]
        own = radius * rng.standard_normal((pairs, features))
        each = radius * rng.standard_normal((pairs, candidates, width))
        each[:, 0] = 0.0
        halves: list[NDArray[np.float64]] = [own, each]
        both = (torch.tensor(np.concatenate([half, -half]), device=self._device) for half in halves)
        return Shift(*both)

    def _places(self, member: Tensor) -> tuple[int, Tensor, Tensor]:
        """Rows of the largest group, and each row's place ``[group, place in it]``."""
        count = torch.bincount(member, minlength=self._groups)
        order = torch.argsort(member, stable=True)
        place = torch.empty_like(order)
        start = torch.cumsum(count, 0) - count
        place[order] = torch.arange(member.shape[0], device=self._device) - start[member[order]]
        return int(count.max()), member, place
