"""The sequential pass of trust-region steps that all learners of the HATRPO family share.

Block after block: gradient of ``E[M r A]`` under the compound ratio M of those that moved before,
natural-gradient step within the block's KL budgets, line search on the exact surrogate and the
exact KL, new M (arXiv 2109.11251, algorithm 2). Which block comes next and with which budgets is
what the learners decide (:mod:`.hatrpo`, :mod:`.hatrpo_w`, :mod:`.hatrpo_g`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ...simulators.interface import Doubles, Ints
from ..ascent import NAMED_GROUPS, Ascent
from ..compound import Compound, Seen
from ..minibatch import DecisionBatch
from ..networks import Parameters
from ..ppo import Ppo
from .batches import Gain
from .budgets import allocate
from .fisher import FisherProduct, conjugate_gradient, inner
from .region import Move, Natural, half_slopes, natural, search, slope

COLUMNS = ("budget", "kl", "gain", "predicted", "fraction", "backtracks", "residual", "iterations")
TINY = 1e-30


class Walk:
    """State of one pass over one roll-out.

    Attributes:
        even: the equal share: KL budget of every group, nats per decision.
        total: D, the joint KL of one epoch's decisions, nats.
        sizes: m, deciding members of each group per epoch ``[G]``.
        used: KL of each group's decisions from the roll-out policy so far ``[G]``.
    """

    def __init__(self, ascent: Ascent, names: tuple[str, ...]) -> None:
        self.ascent, self._names = ascent, names
        self._settings = ascent.config.trust_region
        self.sizes = ascent.sizes
        everyone = np.arange(ascent.groups)
        self._table = ascent.decisions.table(
            ascent.rng("trust region"), everyone, per_group=ascent.per_group
        )
        blend = ascent.ppo.blend
        joint = blend.joint if blend is not None else None
        many = min(ascent.config.blocks, ascent.groups) > 1 or ascent.sweeps > 1
        # Where the samples are all there is, the line search has seen what the ratio needs.
        self._whole = int(ascent.decisions.count.max(initial=0)) <= ascent.per_group
        self._compound = (
            Compound(ascent, reported=self._whole) if many or joint is not None else None
        )
        self._joint = joint
        # The guidance is taken at the present joint policy when a block starts, and then held.
        held = blend if blend is None else dataclasses.replace(blend, joint=None)
        self._ppo: Ppo = dataclasses.replace(ascent.ppo, blend=held)
        self._first = {name: value.clone() for name, value in ascent.parameters.items()}
        self.total = self._total()
        self.even = allocate(np.zeros(ascent.groups), size=self.sizes, total=self.total)
        self.used: Doubles = np.zeros(ascent.groups)
        self._record = {name: np.zeros(ascent.groups) for name in (*COLUMNS, "entropy", "k")}
        self._finite = np.ones(ascent.groups, dtype=np.bool_)
        self._moves = np.zeros(ascent.groups)

    def _total(self) -> float:
        """D: members times the equal share, bounded by ``total_kl``; longer with guidance."""
        settings, blend = self._settings, self.ascent.ppo.blend
        plain = settings.kl * float(self.sizes.sum())
        shrink = 1.0
        if settings.total_kl is not None and plain > settings.total_kl:
            shrink = settings.total_kl / plain
        if blend is None:
            return plain * shrink
        share = (blend.target_kl * shrink**blend.of_return).double().cpu().numpy()
        return float((self.sizes * share).sum())

    # -- measuring ----------------------------------------------------------------------------

    def improvement(self, members: Ints) -> Doubles:
        """Measure k of these groups under the present M, ``[g]``; NaN where not finite.

        With ``split_half`` it is ``g_A' H^-1 g_B`` from two halves of the roll-out, whose noise is
        independent: unbiased (and sometimes negative), where ``g' H^-1 g`` grows with the noise.
        """
        gain = self._gain(members)
        k = [self._improvement(piece, gain) for piece in self._pieces(members)]
        return np.concatenate(k)

    def _improvement(self, members: Ints, gain: Gain[DecisionBatch]) -> Doubles:
        groups = self.ascent.placed(members)
        weights = self.ascent.weights(groups)
        batch = self._batch(members, weights)
        if self._settings.budget.split_half:
            first, second = half_slopes(weights, batch, gain)
        else:
            first = second = slope(weights, batch, gain).gradient
        if self.ascent.correction is not None:
            off = self.ascent.correction[groups]
            first, second = first - off, second - off
        finite = (first.square() + second.square()).sum(dim=1).isfinite()
        safe = torch.where(finite.unsqueeze(1), second, 0.0)
        solution = conjugate_gradient(
            self._fisher(members, weights),
            safe,
            damping=self._settings.damping,
            iterations=self._settings.cg_iterations,
            tolerance=self._settings.cg_tolerance,
        )
        k = torch.where(finite, inner(torch.nan_to_num(first), solution.x), torch.nan)
        self._finite[members] &= k.isfinite().cpu().numpy()
        return k.double().cpu().numpy()

    def improvements(self) -> Doubles:
        """Measure k of all groups before anybody has moved, ``[G]``."""
        k = np.zeros(self.ascent.groups)
        for members in self.ascent.blocks(np.arange(self.ascent.groups)):
            k[members] = self.improvement(members)
        # Who decided nothing is unknown, not worthless.
        return np.where(self.sizes > 0.0, k, np.nan)

    # -- moving -------------------------------------------------------------------------------

    def step(self, members: Ints, budget: Doubles, *, last: bool = False) -> None:
        """Move a block within ``budget`` ``[g]``, nats of KL from the roll-out policy.

        ``last``: nobody moves after it, so that its ratio need not be known.
        """
        gain = self._gain(members)
        again = bool(self._moves[members].any())
        seen: list[Seen] = []
        moved: list[tuple[Tensor, Parameters]] = []
        for piece in self._pieces(np.arange(members.size)):
            groups, new = self._move(members[piece], budget[piece], gain, again=again, seen=seen)
            moved.append((groups, new))
        for groups, new in moved:
            self.ascent.replace(groups, new)
        if self._compound is not None:
            self._compound.advance(members, last=last, seen=seen if self._whole else None)

    def _move(
        self,
        members: Ints,
        budget: Doubles,
        gain: Gain[DecisionBatch],
        *,
        again: bool,
        seen: list[Seen],
    ) -> tuple[Tensor, Parameters]:
        """New weights of a part of a block; what was evaluated on the way goes to ``seen``."""
        groups = self.ascent.placed(members)
        weights = self.ascent.weights(groups)
        batch = self._batch(members, weights)
        old, base = None, None
        limit = torch.from_numpy(budget).to(groups.device, torch.float32)
        if again:
            with torch.no_grad():
                old = batch.outputs({name: value[groups] for name, value in self._first.items()})
                base = batch.mean(batch.kl(old, batch.outputs(weights)))
            limit = (limit - base).clamp_min(0.0)
        start = slope(weights, batch, gain, old=old)
        gradient = start.gradient
        if self.ascent.correction is not None:
            gradient = gradient - self.ascent.correction[groups]
        step = natural(self._fisher(members, weights), gradient, self._settings)
        move = search(weights, batch, gain, start, step, limit, self._settings, old=old, base=base)
        self._note(members, budget, batch, start.outputs, step, move)
        if self._whole and self._compound is not None:
            seen.append((batch, start.outputs, move.outputs))
        return groups, move.parameters

    def _pieces(self, members: Ints) -> list[Ints]:
        return self.ascent.pieces(members, self._table[0].shape[1])

    def _batch(self, members: Ints, weights: Parameters) -> DecisionBatch:
        batch = self.ascent.sample(self._table, members)
        if self._joint is None:
            return batch
        with torch.no_grad():
            values = self._joint(batch, batch.outputs(weights))
        return dataclasses.replace(batch, guidance=values)

    def _gain(self, members: Ints) -> Gain[DecisionBatch]:
        factor = self._compound.factor(members) if self._compound is not None else None
        bonus = self.ascent.config.entropy

        def gain(batch: DecisionBatch, old: Tensor, new: Tensor) -> Tensor:
            value = self._ppo.surrogate(batch, old, new, factor, clip=None)[0]
            return value + bonus * batch.mean(batch.entropy(new)) if bonus else value

        return gain

    def _fisher(self, members: Ints, weights: Parameters) -> FisherProduct:
        most = self._settings.fisher_samples
        return FisherProduct(weights, self.ascent.sample(self._table, members, most))

    # -- statistics ---------------------------------------------------------------------------

    def _note(
        self,
        members: Ints,
        budget: Doubles,
        batch: DecisionBatch,
        outputs: Tensor,
        step: Natural,
        move: Move,
    ) -> None:
        columns = {
            "kl": move.kl,
            "gain": move.gain,
            "predicted": move.predicted,
            "fraction": move.fraction,
            "backtracks": move.backtracks,
            "residual": step.residual,
            "iterations": step.iterations,
            "entropy": batch.mean(batch.entropy(outputs)),
            "k": step.k,
        }
        table = torch.stack([value.double() for value in columns.values()]).cpu().numpy()
        for name, row in zip(columns, table, strict=True):
            self._record[name][members] = row
        self._record["budget"][members] = budget
        self._finite[members] &= step.finite.cpu().numpy()
        self._moves[members] += 1.0
        self.used[members] = self._record["kl"][members]

    def statistics(self) -> dict[str, float]:
        """Means over groups weighted by their members; what was used of the total; by group."""
        record, size = self._record, self.sizes
        share = size / max(float(size.sum()), TINY)
        means = {name: float((share * column).sum()) for name, column in record.items()}
        budgets = np.sort(record["budget"][size > 0.0])
        statistics = {
            "policy/kl": means["kl"],
            "policy/entropy": means["entropy"],
            "trust/kl": means["kl"],
            "trust/joint_kl": float((size * record["kl"]).sum()),
            "trust/total": self.total,
            "trust/gain": means["gain"],
            "trust/predicted": means["predicted"],
            "trust/k": means["k"],
            "trust/accepted": float((share * (record["fraction"] > 0.0)).sum()),
            "trust/fraction": means["fraction"],
            "trust/backtracks": means["backtracks"],
            "trust/cg_residual": means["residual"],
            "trust/cg_iterations": means["iterations"],
            "trust/moved": float((record["fraction"] > 0.0).sum()),
            "trust/nonfinite": float((~self._finite).sum()),
            "trust/budget_max": float(budgets.max(initial=0.0)),
            "trust/gini": _gini(budgets),
        }
        if self._compound is not None:
            statistics |= self._compound.statistics
        self.ascent.table.update(record)
        if 1 < len(self._names) <= NAMED_GROUPS:
            for name in ("kl", "budget", "fraction", "backtracks", "residual", "entropy", "k"):
                for group, value in zip(self._names, record[name], strict=True):
                    statistics[f"{name}/{group}"] = float(value)
        return statistics


def _gini(ordered: Doubles) -> float:
    """Inequality of ascending budgets: 0 all equal, near 1 one group has everything."""
    total = float(ordered.sum())
    if total <= 0.0:
        return 0.0
    rank = np.arange(1, ordered.size + 1)
    return float(2.0 * (rank * ordered).sum() / (ordered.size * total) - 1.0 - 1.0 / ordered.size)
