"""Does a reference state point downhill? Measured, not assumed.

DG-PG rests on *descent alignment* (arXiv 2602.20078): moving x towards x_ref must improve the true
cost. Here one agent's action is changed from a to b in an otherwise identical episode (same seed,
common random numbers, everybody else unchanged in that epoch), the episode goes on under a fixed
base policy, and the change of the cost that follows is set against the change of the guidance value
``q(a) - q(b)``. A useful reference has a clearly positive correlation; two references are compared
on the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import HOLD, Doubles, Ints, Observation, Simulator
from .interface import AnalyticalModel, counterfactual_values, of_choices

Base = Callable[[Observation, np.random.Generator], NDArray[Any]]
"""The policy that everybody follows; must have no memory (it is replayed)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well one reference's guidance values predict what actions cost.

    Attributes:
        reference: its name.
        pairs: pairs of actions that it was measured on.
        correlation: Pearson's, between the gain in value and the saving of cost.
        cosine: the same without centring: that of the two vectors over pairs.
        agreement: share of pairs in which the action of higher value also costs less; pairs that
            tie in either do not count.
    """

    reference: str
    pairs: int
    correlation: Interval
    cosine: Interval
    agreement: Interval


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of actions of one agent in one epoch, P of them.

    Attributes:
        saving: ``[P]`` cost of the episode with b minus with a, in units of the reward.
        gain: per reference ``[P]``, q(a) - q(b).
    """

    saving: Doubles
    gain: dict[str, Doubles]


def measure_alignment(
    simulator: Simulator,
    models: Mapping[str, AnalyticalModel],
    base: Base,
    *,
    seeds: Sequence[int],
    probes: int = 10,
    continuation: int = 20,
    hold: bool = False,
    resamples: int = 1000,
) -> list[Alignment]:
    """Alignment of every model's guidance, on common pairs; one entry per model.

    Args:
        simulator: replayable (``reset(seed)`` and the same actions give the same episode).
        models: reference name to model.
        base: policy of everybody but the probed agent, and of all before and after the probe.
        seeds: episodes to probe.
        probes: pairs per episode, at epochs and agents drawn uniformly.
        continuation: epochs after the probed one whose cost is counted.
        hold: whether holding may be one of the two actions.
        resamples: bootstrap resamples of the intervals.
    """
    pairs = collect_pairs(
        simulator,
        models,
        base,
        seeds=seeds,
        probes=probes,
        continuation=continuation,
        hold=hold,
    )
    return [
        summarise(name, gain, pairs.saving, resamples=resamples)
        for name, gain in pairs.gain.items()
    ]


def collect_pairs(
    simulator: Simulator,
    models: Mapping[str, AnalyticalModel],
    base: Base,
    *,
    seeds: Sequence[int],
    probes: int = 10,
    continuation: int = 20,
    hold: bool = False,
) -> Pairs:
    """Play the pairs behind :func:`measure_alignment`; same arguments."""
    last = simulator.spec.horizon - continuation - 1
    if last < 0:
        raise ValueError(
            f"continuation {continuation} leaves no epoch to probe in a horizon of "
            f"{simulator.spec.horizon}"
        )
    saving: list[float] = []
    gain: dict[str, list[float]] = {name: [] for name in models}
    for seed in seeds:
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0xA119]))
        episode = _Replay(simulator, base, seed)
        for _ in range(probes):
            epoch = int(rng.integers(0, last + 1))
            seen = episode.arrive(epoch)
            choice = None if seen is None else _draw(seen, rng, hold=hold)
            if seen is None or choice is None:
                continue
            agent, first, second = choice
            actions = episode.act(seen, epoch)
            for name, model in models.items():
                values = counterfactual_values(
                    seen,
                    model.reference(seen.exogenous),
                    of_choices(model.influence(seen)),
                    actions,
                )
                gain[name].append(float(values[agent, first] - values[agent, second]))
            costs: list[float] = []
            for candidate in (first, second):
                episode.arrive(epoch)
                changed = actions.copy()
                changed[agent] = candidate
                costs.append(episode.cost(changed, epoch, continuation))
            saving.append(costs[1] - costs[0])
    return Pairs(np.array(saving), {name: np.array(values) for name, values in gain.items()})


def summarise(name: str, gain: Doubles, saving: Doubles, *, resamples: int = 1000) -> Alignment:
    """Correlation, cosine and agreement of ``gain`` and ``saving`` ``[P]`` with intervals.

    Raises:
        ValueError: fewer than three pairs.
    """
    count = saving.shape[0]
    if count < 3:
        raise ValueError(f"alignment needs at least 3 pairs, got {count}")
    rng = np.random.default_rng(np.random.SeedSequence([count, 0xB007]))
    rows = rng.integers(0, count, (resamples, count))

    def interval(statistic: Callable[[Doubles, Doubles], Doubles]) -> Interval:
        value = float(statistic(gain[None], saving[None])[0])
        spread = statistic(gain[rows], saving[rows])
        low, high = np.quantile(spread, (0.025, 0.975))
        return Interval(value, float(low), float(high))

    return Alignment(name, count, interval(_correlation), interval(_cosine), interval(_agreement))


class _Replay:
    """One seed's episode under the base policy, replayed as often as needed.

    The base draws from a stream of its own per epoch, so that its draws in later epochs do not
    depend on how many it made before.
    """

    def __init__(self, simulator: Simulator, base: Base, seed: int):
        self._simulator, self._base, self._seed = simulator, base, seed

    def act(self, seen: Observation, epoch: int) -> Ints:
        stream = np.random.SeedSequence([self._seed, epoch, 0xBA5E])
        return self._base(seen, np.random.default_rng(stream))

    def arrive(self, epoch: int) -> Observation | None:
        """Play up to ``epoch``; the observation there, ``None`` if the episode ended before."""
        seen = self._simulator.reset(self._seed)
        for at in range(epoch):
            step = self._simulator.step(self.act(seen, at))
            seen = step.observation
            if step.terminated or step.truncated:
                return None
        return seen

    def cost(self, actions: Ints, epoch: int, continuation: int) -> float:
        """Cost of taking ``actions`` at ``epoch`` and of ``continuation`` more epochs."""
        step = self._simulator.step(actions)
        cost = -step.reward
        for at in range(epoch + 1, epoch + 1 + continuation):
            if step.terminated or step.truncated:
                break
            step = self._simulator.step(self.act(step.observation, at))
            cost -= step.reward
        return cost


def _draw(
    seen: Observation, rng: np.random.Generator, *, hold: bool
) -> tuple[int, int, int] | None:
    """An agent that can choose, and two of its legal candidates."""
    legal = seen.mask & seen.active[:, None]
    if not hold:
        legal[:, HOLD] = False
    able = np.flatnonzero(legal.sum(axis=1) >= 2)
    if not able.size:
        return None
    agent = int(rng.choice(able))
    first, second = rng.choice(np.flatnonzero(legal[agent]), 2, replace=False).tolist()
    return agent, first, second


def _correlation(gain: Doubles, saving: Doubles) -> Doubles:
    return _cosine(
        gain - gain.mean(axis=1, keepdims=True), saving - saving.mean(axis=1, keepdims=True)
    )


def _cosine(gain: Doubles, saving: Doubles) -> Doubles:
    size = np.sqrt((gain**2).sum(axis=1) * (saving**2).sum(axis=1))
    return (gain * saving).sum(axis=1) / np.where(size > 0.0, size, 1.0)


def _agreement(gain: Doubles, saving: Doubles) -> Doubles:
    same = np.sign(gain) * np.sign(saving)
    return (same > 0.0).sum(axis=1) / np.maximum((same != 0.0).sum(axis=1), 1)
