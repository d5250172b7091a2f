"""Controlled experiments on games whose answers are known.

Four parts, each in a module of its own: fields with a rotating part, with and without HPML
(:mod:`.games_projection`); the bimodal differential game of HATRPO-W and HATRPO-G
(:mod:`.games_differential`); random cooperative matrix games, learnt and stepped exactly
(:mod:`.games_matrix`). Marks stand where theory says what must come out; where methods compete,
figures and intervals are given as they fall, for whichever wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ...simulators.settings import Settings, knob
from ..progress import Report
from ..rows import Row
from .games_differential import compete, differential_rows
from .games_dynamics import Climb
from .games_matrix import Learnt, Size, exact_rows, learn, learning_rows, rules
from .games_projection import (
    WITHIN,
    Contest,
    bimatrix_games,
    bimatrix_rows,
    cournot_games,
    linear_rows,
    quadratic_games,
)
from .games_walk import METHODS

CLOSE = Climb(step=0.05, iterations=400, samples=4096, radius=0.15)
"""In the unit square of two mixed strategies: short steps, a narrow measure."""


class Options(Settings):
    """What to play, and how often."""

    seeds: int = knob(100, "runs of the differential game per method and start", ge=2)
    seed: int = knob(0, "first seed of everything random", ge=0)
    runs: int = knob(10, "random games and starts per figure with and without HPML", ge=2)
    twists: tuple[float, ...] = knob((0.0, 0.5, 1.0, 2.0, 3.0, 5.0), "lambda of quadratic games")
    players: tuple[int, ...] = knob((2, 8), "players of the quadratic games")
    samples: int = knob(1024, "points at which HPML samples a field", ge=64)
    shares: tuple[float, ...] = knob(
        (0.0, 0.25, 0.4, 0.6, 0.75, 1.0), "share of coordination mixed with matching pennies"
    )
    firms: tuple[int, ...] = knob((2, 5), "firms of the Cournot markets")
    markets: tuple[float, ...] = knob((0.0, 2.0, 5.0), "twist of their cross terms")
    kl: float = knob(0.01, "equal share of the KL of one agent's update", unit="nats", gt=0)
    plays: int = knob(30, "plays per update of the differential game", ge=4)
    updates: int = knob(250, "updates of the differential game", ge=1)
    games: int = knob(200, "random matrix games", ge=2)
    agents: tuple[int, ...] = knob((4,), "agents of a matrix game")
    actions: int = knob(3, "actions of an agent", ge=2)
    matrix_plays: int = knob(64, "plays per update of a matrix game", ge=4)
    matrix_updates: int = knob(100, "updates of a matrix game", ge=1)
    exact_games: int = knob(1000, "matrix games for exact steps", ge=1)
    plot: Path | None = knob(None, "write a picture here")
    quick: bool = knob(False, "smallest useful run")


QUICK = {
    "seeds": 50,
    "runs": 2,
    "samples": 256,
    "twists": (0.0, 5.0),
    "players": (2,),
    "shares": (0.0, 0.25, 1.0),
    "firms": (2,),
    "markets": (0.0, 5.0),
    "updates": 15,
    "games": 20,
    "matrix_updates": 25,
    "exact_games": 100,
}


@dataclass(frozen=True, slots=True)
class Learning:
    """Matrix games of one kind and what was learnt in them."""

    title: str
    learnt: list[Learnt]


def run(options: Options, progress: Report) -> list[Row]:
    """Play everything; see ``Options``."""
    torch.set_num_threads(1)
    if options.quick:
        given = options.model_fields_set
        options = options.model_copy(
            update={name: value for name, value in QUICK.items() if name not in given}
        )
    quadratics = _quadratics(options, progress)
    progress(25, 100, "bimatrix games")
    mixed, hunt = bimatrix_games(options.shares, CLOSE, runs=options.runs, seed=options.seed)
    progress(30, 100, "Cournot markets")
    markets = _markets(options)
    progress(40, 100, "differential game")
    crossings = compete(
        runs=options.seeds,
        updates=options.updates,
        plays=options.plays,
        kl=options.kl,
        seed=options.seed,
    )
    progress(70, 100, "matrix games")
    learning = _learning(options)
    rows = [row for family in quadratics for row in linear_rows(family, most=WITHIN)]
    rows += bimatrix_rows(mixed, hunt)
    rows += [row for family in markets for row in linear_rows(family, most=WITHIN)]
    rows += differential_rows(crossings)
    rows += [row for one in learning for row in learning_rows(one.title, one.learnt)]
    for agents in options.agents:
        rows += exact_rows(Size(options.exact_games, agents, options.actions), seed=options.seed)
    progress(100, 100, "done")
    if options.plot is not None:
        from .games_chart import Played, draw_games

        learnt = [(one.title, one.learnt) for one in learning]
        draw_games(Played(quadratics, mixed, crossings, learnt), options.plot)
    return rows


def _quadratics(options: Options, progress: Report) -> list[list[Contest]]:
    families: list[list[Contest]] = []
    climb = Climb(samples=options.samples)
    for done, players in enumerate(options.players):
        progress(25 * done / len(options.players), 100, f"quadratic games, {players} players")
        families.append(
            quadratic_games(players, options.twists, climb, runs=options.runs, seed=options.seed)
        )
    return families


def _markets(options: Options) -> list[list[Contest]]:
    climb = Climb(samples=options.samples)
    return [
        cournot_games(firms, options.markets, climb, runs=options.runs, seed=options.seed)
        for firms in options.firms
    ]


def _learning(options: Options) -> list[Learning]:
    every = rules(options.kl)
    learning: list[Learning] = []
    for agents in options.agents:
        for uneven, some in ((False, every), (True, every[: len(METHODS)])):
            size = Size(options.games, agents, options.actions, uneven)
            learnt = [
                learn(
                    rule,
                    size,
                    updates=options.matrix_updates,
                    plays=options.matrix_plays,
                    seed=options.seed,
                )
                for rule in some
            ]
            title = f"{'uneven ' if uneven else ''}matrix games, n={agents}"
            learning.append(Learning(title, learnt))
    return learning
