"""The HPML stage: takes off the joint gradient what no potential explains.

HPML (after arXiv 2605.18809, whose body was not available) follows the projection of the stacked
update field onto metric gradients. Here, once per update and before any group moves:

1. A subspace ``U``: a few directions per player (:mod:`.subspace`): the player's own gradient, the
   displacement of the parameters from their running mean, earlier updates. The gradient comes
   first: with it in the subspace, ``g - U f_perp`` is the projected field and nothing else.
2. The field ``f(y)`` at perturbed parameters ``theta + U y``, all on the same roll-out by joint
   importance ratios (:mod:`.field`), under a Gaussian about the calmest point within reach
   (:mod:`.measure`).
3. Its rotation and the noise of that estimate (:mod:`.rotation`). Unless kappa exceeds ``least``,
   ``confidence`` noise floors and noise's 98 % point, nothing is projected, and the learner gets
   exactly nothing.
4. The correction ``g_perp = U f_perp(0)``. With the quadratic potential it is the rotating part
   alone; what else a quadratic does not explain is mostly potential of higher order and is kept.
   With the network or the graph it is the whole residual of the potential found.

``f`` sums over an epoch's decisions, a group's surrogate is a mean over its own: its rows of
``U f_perp`` are divided by the group's deciding members per epoch. Signs are those of ascent, to be
subtracted from the gradient of the surrogate.

The quadratic potential of one update, read at the parameters of the next, says whether the step
rose in it (Lyapunov): ``projection/potential_gain``, and ``projection/violations`` counts falls.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...simulators.interface import Doubles
from ..actor import Actor
from ..experience import Decisions
from ..gradients import time_units
from ..interface import Rollout
from ..minibatch import DecisionBatch
from ..ppo import Ppo
from ..settings import LearnerConfig
from ..trust.fisher import flatten
from .field import Field, Sample, Worth, linearise, measure, own_gradient
from .galerkin import Galerkin
from .graph import LEAST_SAMPLES, MOST_DIMENSIONS, SampleGraph
from .measure import Spread, distinct
from .memory import Memory
from .network import project_amortised
from .rotation import Rotation
from .subspace import Subspace, players_of
from .tangent import Tangent

BLOCK, UNITS = 25, 64
"""Epochs of a time unit at least, and about how many units are taken."""

NOTHING = {
    "projection/kappa": 0.0,
    "projection/noise_floor": 0.0,
    "projection/noise_point": 0.0,
    "projection/residual": 0.0,
    "projection/ess": 1.0,
    "projection/rank": 0.0,
    "projection/distance": 0.0,
    "projection/projected": 0.0,
    "projection/removed": 0.0,
    "projection/cosine": 1.0,
    "projection/potential_gain": 0.0,
}
"""Statistics of an update in which nothing was measured."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The roll-out's decisions, linearised along the subspace."""

    sample: Sample
    subspace: Subspace
    tangent: Tangent
    metric: Doubles


class ProjectionStage:
    """Implements the stage for the networks of ``actor``; state between updates.

    Attributes:
        last_seconds: wall clock of the last call of :meth:`correction`.

    Raises:
        ValueError: the graph form outside the bounds in which it is any good.
    """

    def __init__(self, actor: Actor, config: LearnerConfig) -> None:
        self._actor, self._settings = actor, config.projection
        self._player = players_of(actor.groups, config.projection.players)
        self.last_seconds = 0.0
        self._memory: Memory | None = None
        if self._settings.method == "none":
            return
        most = (int(self._player.max()) + 1) * self._settings.directions
        if self._settings.form == "graph" and (
            most > MOST_DIMENSIONS or self._settings.samples < LEAST_SAMPLES
        ):
            raise ValueError(
                f"projection.form=graph needs at most {MOST_DIMENSIONS} dimensions (players x "
                f"directions, here {most}) and at least {LEAST_SAMPLES} projection.samples (here "
                f"{self._settings.samples}); use form=galerkin"
            )
        self._memory = Memory(flatten(actor.parameters), self._player, self._settings.directions)

    def correction(
        self,
        rollout: Rollout,
        ppo: Ppo,
        decisions: Decisions,
        *,
        update: int,
        rng: np.random.Generator,
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Covector ``[G, P]`` to subtract from every group's mean gradient, and statistics.

        None where nothing is projected: on the first update, where nobody decides, and where the
        rotation does not stand out. ``update`` numbers the updates; a potential is read at the very
        next one only. Non-finite advantages, weights or fields project nothing and are counted in
        ``projection/skipped``. With method ``none`` nothing is computed or drawn.
        """
        memory = self._memory
        if memory is None:
            return None, {}
        begin = time.perf_counter()
        theta = flatten(self._actor.parameters)
        finite = bool(torch.isfinite(theta).all())
        statistics = dict(NOTHING)
        if finite:
            statistics["projection/potential_gain"] = memory.potential_gain(theta, update) or 0.0
        correction: Tensor | None = None
        if decisions.flat.size > 0:
            usable = finite and bool(torch.isfinite(ppo.advantages).all())
            probe = self._probe(memory, rollout, ppo, decisions, theta, rng) if usable else None
            if probe is None:
                memory.skipped += 1
            elif probe.subspace.rank > 0:
                correction = self._project(memory, probe, statistics, update, rng)
        if finite:
            memory.observe(theta, self._settings.memory)
        statistics["projection/violations"] = float(memory.violations)
        statistics["projection/skipped"] = float(memory.skipped)
        self.last_seconds = time.perf_counter() - begin
        return correction, statistics

    def _probe(
        self,
        memory: Memory,
        rollout: Rollout,
        ppo: Ppo,
        decisions: Decisions,
        theta: Tensor,
        rng: np.random.Generator,
    ) -> Probe | None:
        """Steps 1 and the network's part of 2; None where something is not finite."""
        settings, experience, parameters = self._settings, ppo.experience, self._actor.parameters
        worth = _worth(ppo)
        (table,) = decisions.whole_epochs(
            rng, np.arange(self._actor.groups), most=settings.max_samples, pieces=1
        )
        units = time_units(*rollout.reward.shape, block=BLOCK, aim=UNITS)
        sample = Sample.of(table, experience.agents, units)
        directions = [
            own_gradient(parameters, experience, sample, worth),
            memory.displacement(theta),
            *memory.updates(theta),
        ]
        if not all(bool(torch.isfinite(one).all()) for one in directions):
            return None
        subspace = Subspace.spanned(self._player, directions, settings.directions)
        tangent = linearise(parameters, experience, sample, subspace, worth)
        metric = tangent.metric(subspace, sample.epochs)
        if not np.isfinite(metric).all():
            return None
        seen = distinct(metric)
        return Probe(sample, subspace.without(~seen), tangent, metric[np.ix_(seen, seen)])

    def _project(
        self,
        memory: Memory,
        probe: Probe,
        statistics: dict[str, float],
        update: int,
        rng: np.random.Generator,
    ) -> Tensor | None:
        """Steps 2 to 4; fills in the statistics."""
        settings, subspace = self._settings, probe.subspace
        spread = Spread(probe.metric, kl=settings.kl, samples=settings.samples, rng=rng)
        first = measure(probe.tangent, subspace, probe.sample, spread.steps)
        if not np.isfinite(first.sums).all():
            memory.skipped += 1
            return None
        near = Galerkin(spread.steps, spread.metric)
        flat = near.project(first.mean).potential
        centre = spread.calmest(flat.linear, flat.quadratic + near.rotation(first.mean))
        # The current policies are one more point, but not one of the measure's samples.
        points = np.concatenate([centre + spread.steps, np.zeros((1, subspace.rank))])
        field = measure(probe.tangent, subspace, probe.sample, points)
        if not np.isfinite(field.sums).all():
            memory.skipped += 1
            return None
        field, at = field.split(spread.steps.shape[0])
        galerkin = Galerkin(centre + spread.steps, spread.metric)
        rotation = Rotation.of(galerkin, field, rng)
        projection = galerkin.project(field.mean)
        memory.keep_potential(projection.potential, subspace, update)
        statistics |= {
            "projection/kappa": rotation.kappa,
            "projection/noise_floor": rotation.noise_floor,
            "projection/noise_point": rotation.noise_point,
            "projection/residual": projection.energies.kappa,
            "projection/ess": field.effective,
            "projection/rank": float(subspace.rank),
            "projection/distance": spread.distance(centre),
        }
        if not rotation.significant(least=settings.least, confidence=settings.confidence):
            return None
        removed = self._residual(memory, subspace, galerkin, field, at, rotation, rng)
        statistics |= _figures(galerkin, at, removed)
        return _per_decision(subspace.lift(removed[0]), probe.sample.size)

    def _residual(
        self,
        memory: Memory,
        subspace: Subspace,
        galerkin: Galerkin,
        field: Field,
        at: Doubles,
        rotation: Rotation,
        rng: np.random.Generator,
    ) -> Doubles:
        """``f_perp`` at the current policies, ``[1, r]``; ``at`` is the field there."""
        here = np.zeros_like(at)
        if self._settings.form == "galerkin":
            return (here - galerkin.centre) @ rotation.matrix.T
        if self._settings.form == "graph":
            graph = SampleGraph.nearest(galerkin.y, galerkin.metric.matrix)
            return at - graph.gradient(graph.project(field.mean).phi, here)
        start = memory.network_weights(subspace.live)
        found = project_amortised(galerkin, field.mean, rng=rng, start=start, antithetic=True)
        memory.keep_network(found.weights, subspace.live)
        return at - found.potential.gradient(here)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that ``load_state`` needs for an exact resume; nothing where switched off."""
        return {} if self._memory is None else self._memory.state()

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore a state; shapes were checked by the learner."""
        if self._memory is not None:
            self._memory.load_state(arrays)


def _worth(ppo: Ppo) -> Worth:
    """The return's share of a decision's advantage; guidance is left out (:mod:`.field`)."""

    def worth(batch: DecisionBatch) -> Tensor:
        advantage = ppo.experience.spread(ppo.advantages, batch.index)
        if ppo.blend is None:
            return advantage
        return advantage * ppo.blend.of_return[batch.groups].unsqueeze(1)

    return worth


def _figures(galerkin: Galerkin, field: Doubles, removed: Doubles) -> dict[str, float]:
    """Of the field at the current policies and what is removed from it, ``[1, r]`` each."""
    inner, kept = galerkin.metric.inner, field - removed
    square = inner(field, field)
    both = np.sqrt(square * inner(kept, kept))
    return {
        "projection/projected": 1.0,
        "projection/removed": float(np.sqrt(inner(removed, removed) / square)) if square else 0.0,
        "projection/cosine": float(inner(field, kept) / both) if both else 0.0,
    }


def _per_decision(flat: Tensor, size: Doubles) -> Tensor:
    """From a sum over an epoch's decisions to the groups' means; 0 for groups without any."""
    members = torch.from_numpy(size).to(flat).unsqueeze(1)
    return torch.where(members > 0.0, flat / members.clamp_min(1e-12), torch.zeros_like(flat))
