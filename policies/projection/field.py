"""The joint update field around the current policies, measured on one roll-out.

At perturbed joint parameters ``theta + U y`` every player's own gradient is wanted, for a hundred
``y`` or more. What the networks put out is linearised along ``U`` once (:func:`linearise`); the
policy of a decision is then ``softmax(z + dz y)`` exactly, or the Beta distribution of ``z + dz y``
(:mod:`.tangent`), and all samples are small matrix work. What this leaves out, the curvature of the
networks, enters the field's Jacobian only as second derivatives of each player's own
log-probabilities: symmetric, so no rotation is lost or invented. With ``M_e(y)`` the probability
ratio of *all* decisions of epoch ``e``, player ``p`` has

    ``f_p(y) = mean_e M_e(y) sum_{d of p in e} A_d grad log pi_d(a_d | y)``,

the gradient of ``E[M A_p]`` in its own coordinates. With one advantage for everybody this is the
gradient of one function, whatever the sample, so its Jacobian is symmetric: a team game has no
rotation. Ratios are neither clipped nor normalised, for either would spoil that identity; the
effective sample size says whether the radius is too large for plain ones. Common random numbers
(one roll-out for all ``y``) make differences between samples meaningful.

Only the return's advantages enter. Guidance is the gradient of a potential of its own and would be
kept by the projection; entropy bonuses likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...simulators.interface import Bools, Doubles, Ints
from ..box_minibatch import BoxMinibatch
from ..experience import Experience
from ..minibatch import DecisionBatch
from ..networks import Parameters
from ..trust.fisher import flatten, leaves_of, unflatten
from .subspace import Subspace
from .tangent import BoxTangent, ChoiceTangent, Tangent

Worth = Callable[[DecisionBatch], Tensor]
"""The advantage that each decision of a batch is credited with, ``[g, b]``."""

CHUNK = 4096
"""Decisions whose network outputs are held at once."""

FLOATS = 4_000_000
"""Entries of one temporary of the sampled policies."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Whole epochs of a roll-out, as a table of decisions by parameter group.

    Attributes:
        index: decision addresses ``[G, b]``.
        real: which of them are real ``[G, b]``.
        epoch: of each decision, counting only epochs in which anybody decides ``[G, b]``.
        unit: time block of each of those epochs ``[epochs]``, numbered from 0.
        size: deciding members of each group in such an epoch, on average ``[G]``.
    """

    index: Ints
    real: Bools
    epoch: Ints
    unit: Ints
    size: Doubles

    @staticmethod
    def of(table: tuple[Ints, Bools], agents: int, units: list[slice]) -> Sample:
        """``table`` of whole epochs; ``units`` cover the flattened ``[E * T]`` axis in order."""
        index, real = table
        seen, epoch = np.unique(index[real] // agents, return_inverse=True)
        number = np.zeros(index.shape, np.int64)
        number[real] = epoch
        starts = np.array([unit.start for unit in units])
        _, unit = np.unique(np.searchsorted(starts, seen, side="right"), return_inverse=True)
        return Sample(index, real, number, unit, real.sum(axis=1) / max(1, seen.size))

    @property
    def epochs(self) -> int:
        """Epochs with decisions."""
        return self.unit.size


@dataclass(frozen=True, slots=True)
class Field:
    """The field at ``K`` samples, as sums over the epochs of each of ``u`` time units.

    ``sums`` ``[u, K, r]``; ``epochs`` ``[u]``; ``effective`` is the effective share of the epochs
    under the importance ratios, averaged over the samples.
    """

    sums: Doubles
    epochs: Doubles
    effective: float

    @property
    def mean(self) -> Doubles:
        """Covectors ``[K, r]``, per epoch."""
        return self.sums.sum(axis=0) / self.epochs.sum()

    def split(self, count: int) -> tuple[Field, Doubles]:
        """The field at the first ``count`` samples, and its mean at those after ``[.., r]``."""
        first = Field(self.sums[:, :count], self.epochs, self.effective)
        return first, self.mean[count:]


def _batches(experience: Experience, sample: Sample) -> list[tuple[DecisionBatch, Tensor, Tensor]]:
    """The table in pieces, each with its epochs and which entries are real."""
    groups = np.arange(sample.index.shape[0])
    width = max(1, CHUNK // groups.size)
    pieces: list[tuple[DecisionBatch, Tensor, Tensor]] = []
    for begin in range(0, sample.index.shape[1], width):
        part = slice(begin, begin + width)
        placed = experience.placed(sample.index[:, part], sample.real[:, part], groups)
        epoch = torch.from_numpy(np.ascontiguousarray(sample.epoch[:, part]))
        pieces.append((experience.minibatch(*placed), epoch.to(experience.device), placed[1]))
    return pieces


def own_gradient(
    parameters: Parameters, experience: Experience, sample: Sample, worth: Worth
) -> Tensor:
    """Every group's gradient of its own return at the current policies, per epoch, ``[G, P]``."""
    leaves = leaves_of(parameters)
    total = torch.zeros_like(flatten(parameters))
    for batch, _, _ in _batches(experience, sample):
        taken = batch.log_probability(batch.outputs(leaves))
        gain = (taken * worth(batch) * batch.weight).sum()
        gradients = torch.autograd.grad(gain, list(leaves.values()))
        total = total + flatten(dict(zip(leaves, gradients, strict=True)))
    return total / max(1, sample.epochs)


def linearise(
    parameters: Parameters,
    experience: Experience,
    sample: Sample,
    subspace: Subspace,
    worth: Worth,
) -> Tangent:
    """Network outputs of all decisions and their slopes along the subspace.

    A slope is a Jacobian-vector product by two reverse passes: ``u -> J' u`` is linear in ``u``,
    so its derivative along ``v`` is ``J v``. One pass per slot serves all players, because no
    decision depends on two players' parameters.
    """
    columns: list[tuple[Tensor, ...]] = []
    kind: type[Tangent] = ChoiceTangent
    directions = [tuple(unflatten(d, parameters).values()) for d in subspace.basis]
    for batch, epoch, real in _batches(experience, sample):
        leaves = leaves_of(parameters)
        raw = batch.raw(leaves)
        dual = torch.zeros_like(raw, requires_grad=True)
        pulled = torch.autograd.grad(raw, list(leaves.values()), dual, create_graph=True)
        slopes = [
            torch.autograd.grad(pulled, dual, direction, retain_graph=slot + 1 < len(directions))[0]
            for slot, direction in enumerate(directions)
        ]
        kind = BoxTangent if isinstance(batch, BoxMinibatch) else ChoiceTangent
        at, slope = kind.expanded(raw.detach(), torch.stack(slopes, dim=3), batch.mask)
        player = subspace.player.unsqueeze(1).expand_as(batch.index)
        values = (at, slope, batch.mask, batch.actions, worth(batch), epoch, player)
        columns.append(tuple(value[real] for value in values))
    return kind(*(torch.cat(column) for column in zip(*columns, strict=True)))


@torch.no_grad()
def measure(tangent: Tangent, subspace: Subspace, sample: Sample, y: Doubles) -> Field:
    """The field at samples ``y`` ``[K, r]``, every epoch under its own joint ratio."""
    device = tangent.at.device
    players, slots = subspace.live.shape
    units = int(sample.unit.max()) + 1
    unit = torch.from_numpy(sample.unit).to(device)
    points = torch.from_numpy(subspace.spread(y)).to(tangent.slope)  # [K, players, D]
    wide = max(1, FLOATS // max(1, sample.epochs * players * slots))
    sums: list[Doubles] = []
    effective: list[Tensor] = []
    for part in points.split(wide):
        log_ratio, pull = _epoch_sums(tangent, part, sample.epochs)
        ratio = log_ratio.exp()
        effective.append(ratio.sum(dim=0).square() / ratio.square().sum(dim=0) / sample.epochs)
        weighted = pull.double() * ratio[:, None, None, :]
        total = torch.zeros((units, *weighted.shape[1:]), dtype=torch.float64, device=device)
        total.index_add_(0, unit, weighted)
        own = total.cpu().numpy()[:, subspace.live]  # [u, r, k]
        sums.append(np.swapaxes(own, 1, 2))
    epochs = np.bincount(sample.unit, minlength=units).astype(np.float64)
    return Field(np.concatenate(sums, axis=1), epochs, float(torch.cat(effective).mean()))


def _epoch_sums(tangent: Tangent, points: Tensor, epochs: int) -> tuple[Tensor, Tensor]:
    """Log joint ratio ``[epochs, k]`` and ``sum A grad log pi`` ``[epochs, players, D, k]``."""
    count, players, slots = points.shape
    log_ratio = torch.zeros(epochs, count, dtype=torch.float64, device=points.device)
    pull = torch.zeros(epochs * players, slots, count, dtype=points.dtype, device=points.device)
    by_player = points.permute(1, 2, 0).contiguous()  # [players, D, k]
    rows = max(1, FLOATS // (tangent.at.shape[1] * count))
    for begin in range(0, tangent.player.numel(), rows):
        part = slice(begin, begin + rows)
        player = tangent.player[part]
        shift, score = tangent.moved(part, by_player[player])
        log_ratio.index_add_(0, tangent.epoch[part], shift.double())
        score *= tangent.advantage[part][:, None, None]
        pull.index_add_(0, tangent.epoch[part] * players + player, score)
    return log_ratio, pull.view(epochs, players, slots, count)
