"""Stage 1 of a diagnosis: four signals per agent and decision, and when they are alarming.

The Taylor remainder is that of arXiv 2602.08104 (after; see ``policies.fragility``). Everything
else here is derived, because the paper's choices were not available to us:

- *eta*. Candidates are drawn anew in every epoch, so the difference of two epochs is large and
  means little. Instead the observation is split into what clean operation explains (its projection
  on the leading principal components of clean observations) and the rest. The expansion point is
  the explained part, eta is the rest, the committed action is the greedy one at the explained part.
- *signals*. ``remainder`` is ``|L(eta)|``. ``observation`` is ``|eta|`` itself. ``surprise`` is
  the commitment cost of the action that was carried out, less its mean under the policy (its
  entropy). ``frozen`` counts decisions in a row on exactly the same observation. A remainder is
  blind to the last two failures by construction: eta says nothing of them.
- *thresholds*. Clean episodes give every agent and signal a scale (its 99 % quantile), and the
  largest value of each whole episode, scaled by the other episodes. A Gumbel law fitted to the
  logarithms of these maxima gives the level that one clean episode in 1 / alarm exceeds, anywhere,
  at any time: with hundreds of agents a level per agent would call wolf in every episode. Once
  there is an incident, whether an agent *follows* is one question per agent, with the lower level
  for one agent and all times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..policies.fragility import FragilityGauge, Shift, View
from ..simulators.interface import Bools, Doubles
from .diagnosis_faults import Seen

SIGNALS = ("remainder", "observation", "surprise", "frozen")
"""Signals in the order of every signal axis."""

_ROWS = 2048
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Explained:
    """The subspace of clean (agent, candidate) features.

    Attributes:
        centre: ``[F + C]`` their mean, normalised units.
        projector: ``[F + C, F + C]`` onto the leading principal components.
    """

    centre: Doubles
    projector: Doubles

    @classmethod
    def fit(cls, rows: Sequence[Doubles], unexplained: float) -> Explained:
        """Leave out the last components that hold at most ``unexplained`` of the variance.

        At least one component is left out, else there would be nothing to measure.
        """
        pooled = np.concatenate(rows)
        centre = pooled.mean(axis=0)
        spread, axes = np.linalg.eigh(np.cov((pooled - centre).T))
        kept = np.cumsum(spread) > unexplained * spread.sum()
        kept[0] = False
        return cls(centre, axes[:, kept] @ axes[:, kept].T)

    def split(self, view: View) -> tuple[View, Shift, Doubles]:
        """The explained view, eta from there to the view, and ``|eta|`` ``[B]``."""
        shown = _described(view)
        paired = _pairs(view)
        rest = (paired - self.centre) @ (np.eye(self.centre.shape[0]) - self.projector)
        rest *= shown[:, :, None]
        count = np.maximum(shown.sum(axis=1), 1)
        features = view.agent.shape[1]
        own = rest[:, :, :features].sum(axis=1) / count[:, None]
        each = rest[:, :, features:]
        size = np.sqrt((own**2).sum(axis=1) + (each**2).sum(axis=(1, 2)) / count)
        eta = Shift(torch.from_numpy(own), torch.from_numpy(each))
        base = View(
            view.member, view.agent - eta.agent, view.candidates - eta.candidates, view.mask
        )
        return base, eta, size


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What clean operation looks like, per signal (axis S) and agent.

    Attributes:
        scale: ``[S, A]`` the 99 % quantile of clean values.
        incident: ``[S]`` level of the scaled signal above which there is an incident.
        follow: ``[S]`` level for one given agent, at most ``incident``.
        maxima: ``[E, S]`` largest scaled value of every clean episode.
    """

    scale: Doubles
    incident: Doubles
    follow: Doubles
    maxima: Doubles

    @classmethod
    def fit(cls, clean: Doubles, alarm: float, chosen: Sequence[str] = SIGNALS) -> Yardstick:
        """Calibrate on clean signals ``[E, S, T, A]``, NaN where nothing was decided.

        ``alarm`` is the chance of a false incident per episode, shared equally by the ``chosen``
        signals; the others never alarm.
        """
        scale = _scale(clean)
        # Each episode is scaled by the others: scaled by itself, an odd one would hide its oddity,
        # and few episodes would promise fewer false incidents than there are.
        scaled = [
            one / _scale(np.delete(clean, number, axis=0))[:, None]
            for number, one in enumerate(clean)
        ]
        per_agent = np.stack([np.nan_to_num(one, nan=0.0).max(axis=1) for one in scaled])
        # A scaled maximum below 1 means too few decisions to say anything.
        per_agent = np.maximum(per_agent, 1.0)
        maxima = per_agent.max(axis=2)
        share = alarm / len(chosen)
        logs = np.log(maxima)
        spread = logs.std(axis=0, ddof=1) * np.sqrt(6.0) / np.pi
        reach = -np.log(-np.log1p(-share)) - _EULER
        incident = np.maximum(np.exp(logs.mean(axis=0) + spread * reach), maxima.max(axis=0))
        incident *= 1.0 + 1e-9  # rounding must not make the largest clean value an incident
        each = np.moveaxis(per_agent, 1, 0).reshape(clean.shape[1], -1)
        follow = np.minimum(np.quantile(each, 1.0 - share, axis=1), incident)
        silent = np.array([name not in chosen for name in SIGNALS])
        incident[silent] = follow[silent] = np.inf
        return cls(scale, incident, follow, maxima)

    def ratio(self, signals: Doubles) -> Doubles:
        """Signals ``[S, T, A]`` in incident thresholds; 0 where nothing was decided."""
        level = self.scale[:, None] * self.incident[:, None, None]
        return np.nan_to_num(signals / level, nan=0.0)

    def followers(self, signals: Doubles) -> Doubles:
        """The largest signal ``[T, A]``, in thresholds for a single agent."""
        level = self.scale[:, None] * self.follow[:, None, None]
        return np.nan_to_num(signals / level, nan=0.0).max(axis=0)


class Signals:
    """Computes the signals of episodes under one policy.

    Args:
        gauge: of the policy.
        explained: the subspace of clean observations.
    """

    def __init__(self, gauge: FragilityGauge, explained: Explained) -> None:
        self._gauge, self._explained = gauge, explained

    def __call__(self, seen: Seen) -> Doubles:
        """``[S, T, A]`` float64; NaN where an agent had nothing to decide."""
        epoch, agent = np.nonzero(seen.deciding)
        found = np.full((len(SIGNALS), *seen.deciding.shape), np.nan)
        for start in range(0, epoch.size, _ROWS):
            at = (epoch[start : start + _ROWS], agent[start : start + _ROWS])
            view = self._gauge.view_of(
                seen.agent[at], seen.candidates[at], seen.mask[at], rows=at[1]
            )
            values = self._values(view, torch.from_numpy(seen.actions[at]))
            for name, value in values.items():
                found[SIGNALS.index(name)][at] = value
        found[SIGNALS.index("frozen")] = _repeats(seen)
        return found

    def _values(self, view: View, actions: torch.Tensor) -> Mapping[str, Doubles]:
        base, eta, size = self._explained.split(view)
        remainder = self._gauge.remainder(base, eta).remainder
        with torch.no_grad():
            logs = self._gauge.log_probabilities(view)
            taken = logs.gather(1, actions.unsqueeze(1)).squeeze(1)
            entropy = torch.special.entr(logs.exp()).sum(dim=1)
        surprise = torch.clamp(-taken - entropy, min=0.0).numpy()
        return {"remainder": np.abs(remainder), "observation": size, "surprise": surprise}


def clean_rows(gauge: FragilityGauge, seen: Seen) -> Doubles:
    """Normalised (agent, candidate) feature pairs of all decisions, ``[n, F + C]``."""
    at = np.nonzero(seen.deciding)
    view = gauge.view_of(seen.agent[at], seen.candidates[at], seen.mask[at], rows=at[1])
    return _pairs(view)[_described(view)]


def _pairs(view: View) -> Doubles:
    own = view.agent.unsqueeze(1).expand(-1, view.mask.shape[1], -1)
    return torch.cat([own, view.candidates], dim=2).cpu().numpy()


def _described(view: View) -> Bools:
    """Legal candidates other than hold, whose features say nothing, ``[B, K]``."""
    shown = view.mask.cpu().numpy().copy()
    shown[:, 0] = False
    return shown


def _scale(clean: Doubles) -> Doubles:
    """99 % quantile per signal and agent; agents that never decided get the median of the rest."""
    signals, agents = clean.shape[1], clean.shape[3]
    flat = np.moveaxis(clean, 1, 0).reshape(signals, -1, agents)
    known = ~np.isnan(flat).all(axis=(0, 1))
    scale = np.full((signals, agents), np.nan)
    scale[:, known] = np.nanquantile(flat[:, :, known], 0.99, axis=1)
    scale = np.where(known, scale, np.median(scale[:, known], axis=1, keepdims=True))
    # One repetition is a coincidence, and the unit of what is counted.
    scale[SIGNALS.index("frozen")] = np.maximum(scale[SIGNALS.index("frozen")], 1.0)
    return np.maximum(scale, 1e-9)


def _repeats(seen: Seen) -> Doubles:
    """How many decisions in a row saw exactly what the decision before saw, ``[T, A]``."""
    found = np.full(seen.deciding.shape, np.nan)
    count = np.zeros(seen.deciding.shape[1])
    agent, candidates = seen.agent[0].copy(), seen.candidates[0].copy()
    known = np.zeros(seen.deciding.shape[1], bool)
    for epoch, deciding in enumerate(seen.deciding):
        now, each = seen.agent[epoch], seen.candidates[epoch]
        same = (now == agent).all(axis=1) & (each == candidates).all(axis=(1, 2)) & known
        count = np.where(deciding, np.where(same, count + 1.0, 0.0), count)
        found[epoch, deciding] = count[deciding]
        agent[deciding], candidates[deciding] = now[deciding], each[deciding]
        known |= deciding
    return found
