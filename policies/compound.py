"""The compound ratio of the groups that have moved, and the joint policy they now form.

Sequential learners weight the advantage of the next block with
``M = prod_j pi_new(a_j) / pi_old(a_j)`` over the agents that moved before it (arXiv 2109.11251,
lemma 1). Its variance grows exponentially with their number; clamping the product from above at 1
where it is used bounds it (low-variance clipping, after arXiv 2606.25526). The product itself is
kept as it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..simulators.interface import Ints
from .ascent import Ascent
from .minibatch import DecisionBatch

Seen = tuple[DecisionBatch, Tensor, Tensor]
"""All decisions of some groups, with their outputs before and after a move."""

DETAILED = 32
"""Up to this many positions, statistics are given for each; beyond it at powers of two."""


class Compound:
    """Log-ratios of all decisions since the roll-out, kept up to date as blocks move.

    Every decision is evaluated once at the start and once after its group has moved, unless the
    learner has done so anyway. Decisions that are no decision (idle agents) contribute a ratio of
    exactly 1.
    """

    def __init__(self, ascent: Ascent, *, reported: bool = False) -> None:
        """``reported``: every call of ``advance`` brings the outputs along."""
        experience = ascent.ppo.experience
        self._ascent, self._agents = ascent, experience.agents
        self._shape = (experience.episodes, experience.epochs)
        rows = experience.episodes * experience.epochs * experience.agents
        self._old = torch.zeros(rows, device=experience.device)
        self._new = torch.zeros(rows, device=experience.device)
        self._total = torch.zeros(
            self._shape[0] * self._shape[1], dtype=torch.float64, device=experience.device
        )
        joint = ascent.ppo.blend.joint if ascent.ppo.blend is not None else None
        self._joint = joint
        if joint is not None:
            joint.policy = torch.zeros(
                self._total.numel(), self._agents, experience.choices, device=experience.device
            )
        self._reported = reported and joint is None
        if not self._reported:
            self._evaluate(np.arange(ascent.groups), self._old)
            self._new.copy_(self._old)
        self._known = np.zeros(ascent.groups, dtype=np.bool_)
        self.moved = 0
        self._statistics: dict[str, float] = {}

    def raw(self, groups: Ints | None = None) -> Tensor:
        """``log M`` ``[E, T]`` float64 of all that moved, without these groups' own share."""
        total = self._total
        if groups is not None and self.moved:
            total = total - self._change(groups)
        return total.view(self._shape)

    def factor(self, groups: Ints | None = None) -> Tensor | None:
        """M ``[E, T]`` as the next block uses it; None while nobody has moved."""
        if not self.moved:
            return None
        log = self.raw(groups)
        return (log.clamp(max=0.0) if self._ascent.config.clips_factor else log).exp().float()

    def advance(self, groups: Ints, *, last: bool, seen: list[Seen] | None = None) -> None:
        """Take in that these groups have new weights; with ``last`` nobody needs to know.

        ``seen`` are all their decisions with outputs before and after.
        """
        if last:
            return
        before = self._change(groups) if self.moved else 0.0
        if not self._reported:
            self._evaluate(groups, self._new)
        elif seen is None:
            raise ValueError("this compound ratio needs the outputs of every move")
        else:
            first = not self._known[groups].all()
            for batch, old, new in seen:
                real = batch.weight > 0.0
                flat = batch.index[real]
                self._new[flat] = batch.log_probability(new)[real]
                if first:
                    self._old[flat] = batch.log_probability(old)[real]
            self._known[groups] = True
        self._total = self._total - before + self._change(groups)
        self.moved += 1
        self._observe()

    @property
    def statistics(self) -> dict[str, float]:
        """Largest ratio and effective sample size by position; of the last block its weights."""
        return self._statistics

    @torch.no_grad()
    def _evaluate(self, groups: Ints, into: Tensor) -> None:
        ascent = self._ascent
        widest = int(ascent.decisions.count[groups].max(initial=1))
        for members in ascent.pieces(groups, widest):
            placed = ascent.placed(members)
            weights = ascent.weights(placed)
            for index, real in ascent.everything(members):
                batch = ascent.ppo.experience.minibatch(index, real, placed)
                outputs = batch.outputs(weights)
                into[index[real]] = batch.log_probability(outputs)[real]
                if self._joint is not None and self._joint.policy is not None:
                    chosen = batch.mean_action(outputs)[real]
                    self._joint.policy.view(-1, chosen.shape[1])[index[real]] = chosen

    def _change(self, groups: Ints) -> Tensor:
        """Sum over the groups' decisions of the change of ``log pi(a)``, ``[E * T]`` float64."""
        total = torch.zeros_like(self._total)
        for index, real in self._ascent.everything(groups):
            flat = index[real]
            change = (self._new[flat] - self._old[flat]).double()
            total.index_add_(0, torch.div(flat, self._agents, rounding_mode="floor"), change)
        return total

    def _observe(self) -> None:
        position, log = self.moved, self._total
        weight = (log - log.max()).exp()
        advantages = self._ascent.ppo.advantages
        raw, used = log.exp(), log.clamp(max=0.0).exp()
        if not self._ascent.config.clips_factor:
            used = raw
        shape = (*self._shape, *([1] * (advantages.ndim - 2)))
        known = advantages.isfinite()
        weighted = [
            torch.where(known, one.view(shape) * advantages, 0.0).var(correction=0)
            for one in (used, raw)
        ]
        ess, ess_used = _effective(weight), _effective(used)
        largest = float(log.max())
        self._statistics |= {
            "factor/ess": ess,
            "factor/ess_used": ess_used,
            "factor/ess_min": min(ess, self._statistics.get("factor/ess_min", 1.0)),
            "factor/log_max": largest,
            "factor/mean": float(used.mean()),
            "factor/variance": float(weighted[0]),
            "factor/variance_raw": float(weighted[1]),
        }
        blocks = min(self._ascent.config.blocks, self._ascent.groups)
        if blocks <= DETAILED or position & (position - 1) == 0:
            self._statistics |= {
                f"factor_ess/{position}": ess,
                f"factor_ess_used/{position}": ess_used,
                f"factor_log_max/{position}": largest,
                f"factor_mean/{position}": float(used.mean()),
                f"factor_variance/{position}": float(weighted[0]),
            }


def _effective(weight: Tensor) -> float:
    """Effective sample size of non-negative weights as a share of their number."""
    square = weight.sum().square() / weight.square().sum().clamp_min(1e-300)
    return float(square / weight.numel())
