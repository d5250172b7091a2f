"""Learning dynamics in games with known fields: everybody climbs at once, with or without HPML.

Plain: ``y <- y + step f(y)``. HPML (after arXiv 2605.18809): ``y <- y + step grad phi(y)``, with
phi the quadratic potential closest to the field that is sampled around a centre. The centre
decides what becomes of a rotation:

- ``rest``: where the field vanishes. The rotation is removed and nothing else. A learner does not
  know that point.
- ``mean``: the running mean of the iterates, fitted anew at every step. This is what the learners'
  projection stage does.
- ``start``: the first iterate, for good. The rotation's value at the centre is a constant field,
  which has a potential, so the dynamics settle away from the equilibrium.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...policies.projection.galerkin import Energies, Galerkin, Potential
from ...policies.projection.graph import SampleGraph
from ...simulators.interface import Doubles
from .games_fields import AffineGame

Direction = Callable[[Doubles], Doubles]
Centre = Literal["rest", "mean", "start"]
CENTRES: tuple[Centre, ...] = ("rest", "mean", "start")

SETTLED = 1e-2
"""Distance to the equilibrium, relative to the start's, that counts as convergence."""
LOST = 1e3
"""Relative distance at which a run counts as diverged and ends."""
CALM = 1e-5
"""Step length below which a run has come to rest."""


@dataclass(frozen=True, slots=True)
class Climb:
    """How long and how far.

    Attributes:
        step: length of a step per unit of field.
        iterations: at most.
        memory: weight of the past in the running mean.
        samples: points at which the field is sampled.
        radius: standard deviation of the Gaussian measure.
    """

    step: float = 0.25
    iterations: int = 1000
    memory: float = 0.99
    samples: int = 256
    radius: float = 0.3


@dataclass(frozen=True, slots=True)
class End:
    """Where a run ended ``[r]``, after how many steps, and its path's last quarter ``[m, r]``."""

    y: Doubles
    steps: int
    tail: Doubles


class Measure:
    """A cloud of Gaussian samples that can be put anywhere; one fit for each field."""

    def __init__(self, rng: np.random.Generator, players: int, climb: Climb) -> None:
        self.offsets: Doubles = climb.radius * rng.standard_normal((climb.samples, players))
        self.offsets -= self.offsets.mean(axis=0)
        self._solver = Galerkin(self.offsets, np.eye(players), ridge=0.0)

    def potential(self, game: AffineGame, centre: Doubles) -> Potential:
        """The closest potential around ``centre`` ``[r]``, as a function of y."""
        fit = self._solver.project(game.field(centre + self.offsets)).potential
        return Potential(fit.centre + centre, fit.linear, fit.quadratic)

    def energies(self, game: AffineGame) -> Energies:
        """Of the field, its potential part and the rest, around the rest point."""
        return self._solver.project(game.field(game.rest + self.offsets)).energies

    def graph_kappa(self, game: AffineGame) -> float:
        """Non-potentiality on the graph of the samples, in edge space."""
        y = game.rest + self.offsets
        graph = SampleGraph.nearest(y, np.eye(y.shape[1]))
        return graph.project(game.field(y)).energies.kappa


def climb_plain(game: AffineGame, start: Doubles, climb: Climb) -> End:
    """Simultaneous gradient steps."""
    return _follow(game, start, climb, game.field)


def climb_hpml(
    game: AffineGame, start: Doubles, climb: Climb, measure: Measure, centre: Centre
) -> End:
    """Steps along the gradient of the fitted potential."""
    if centre != "mean":
        fixed = measure.potential(game, game.rest if centre == "rest" else start)
        return _follow(game, start, climb, fixed.gradient)
    middle = start.copy()

    def direction(y: Doubles) -> Doubles:
        middle[:] = climb.memory * middle + (1.0 - climb.memory) * y
        return measure.potential(game, middle).gradient(y)

    return _follow(game, start, climb, direction)


def _follow(game: AffineGame, start: Doubles, climb: Climb, direction: Direction) -> End:
    y, path = game.inside(start), [game.inside(start)]
    far = LOST * (1.0 + float(np.abs(start - game.rest).max()))
    for _ in range(climb.iterations):
        new = game.inside(y + climb.step * direction(y))
        moved = float(np.abs(new - y).max())
        y = new
        path.append(y)
        if moved < CALM or float(np.abs(y - game.rest).max()) > far:
            break
    return End(y, len(path) - 1, np.array(path[-max(len(path) // 4, 1) :]))
