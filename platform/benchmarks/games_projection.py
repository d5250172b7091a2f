"""Games with known fields, with and without HPML: who comes to an equilibrium, how far off, kappa.

Every contest plays the same games from the same starts with each of the dynamics in
:mod:`.games_dynamics`; *small steps* is the plain one with a tenth of the step, the cheapest remedy
against rotation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...simulators.interface import Doubles
from ..rows import Row
from .games_dynamics import CENTRES, SETTLED, Centre, Climb, End, Measure, climb_hpml, climb_plain
from .games_fields import (
    AffineGame,
    cournot,
    pennies_mixed_with_coordination,
    quadratic,
    stag_hunt,
)

PLAIN, SMALL = "simultaneous", "simultaneous, small steps"
HPML: dict[Centre, str] = {centre: f"HPML, centre {centre}" for centre in CENTRES}
DYNAMICS = (PLAIN, SMALL, *HPML.values())
TEN = 10
FAIR = 0.02
"""Gap, as a share of the payoffs' half range, up to which a bimatrix point is an equilibrium."""
FEW = 0.1
"""Share of converging runs up to which a dynamics counts as failing."""
WITHIN = 0.05
"""How far an estimated kappa may be from the exact one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one dynamics in one family of games: each ``[runs]``.

    ``settled``: came to the equilibrium; ``gap`` at the end, its mean over the last quarter of the
    path (``cycling``), and the distance travelled relative to the start's distance from rest.
    """

    settled: Doubles
    gap: Doubles
    cycling: Doubles
    travelled: Doubles
    ends: Doubles


@dataclass(frozen=True, slots=True)
class Contest:
    """All dynamics at one value of a parameter (a twist or a share)."""

    label: str
    value: float
    kappa_exact: float
    kappa: float
    kappa_graph: float
    outcomes: dict[str, Outcome]


Maker = Callable[[np.random.Generator], AffineGame]
Judge = Callable[[AffineGame, Doubles, End], bool]


def near_rest(game: AffineGame, start: Doubles, end: End) -> bool:
    """Whether the run ended at the interior equilibrium."""
    return bool(np.linalg.norm(end.y - game.rest) <= SETTLED * np.linalg.norm(start - game.rest))


def fair(game: AffineGame, start: Doubles, end: End) -> bool:  # noqa: ARG001
    """Whether the run ended where nobody gains by leaving (any equilibrium)."""
    return bool(game.gap(end.y) <= FAIR)


def contest(
    label: str,
    value: float,
    maker: Maker,
    climb: Climb,
    *,
    runs: int,
    seed: int,
    judge: Judge,
) -> Contest:
    """Play ``runs`` games from ``maker`` with every dynamics."""
    ends: dict[str, list[tuple[AffineGame, Doubles, End]]] = {name: [] for name in DYNAMICS}
    exact: list[float] = []
    found: list[float] = []
    graph: list[float] = []
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        game = maker(rng)
        players = game.constant.size
        measure = Measure(rng, players, climb)
        start = _start(rng, game)
        exact.append(game.kappa())
        found.append(measure.energies(game).kappa)
        if run < 2:
            graph.append(Measure(rng, players, replace(climb, samples=600)).graph_kappa(game))
        slow = replace(climb, step=climb.step / TEN)
        ends[PLAIN].append((game, start, climb_plain(game, start, climb)))
        ends[SMALL].append((game, start, climb_plain(game, start, slow)))
        for centre, name in HPML.items():
            end = climb_hpml(game, start, climb, measure, centre)
            ends[name].append((game, start, end))
    worst = int(np.argmax(np.abs(np.array(found) - np.array(exact))))
    return Contest(
        label,
        value,
        exact[worst],
        found[worst],
        float(np.mean(graph)),
        {name: _outcome(played, judge) for name, played in ends.items()},
    )


def _start(rng: np.random.Generator, game: AffineGame) -> Doubles:
    if float(game.high.max()) <= 1.0:
        return rng.uniform(0.1, 0.9, game.constant.size)
    return game.rest + rng.standard_normal(game.constant.size)


def _outcome(played: Sequence[tuple[AffineGame, Doubles, End]], judge: Judge) -> Outcome:
    travelled = [
        np.linalg.norm(end.y - start) / np.linalg.norm(start - game.rest)
        for game, start, end in played
    ]
    return Outcome(
        settled=np.array([judge(*one) for one in played], np.float64),
        gap=np.array([game.gap(end.y) for game, _, end in played]),
        cycling=np.array([game.gap(end.tail).mean() for game, _, end in played]),
        travelled=np.array(travelled, np.float64),
        ends=np.array([end.y for _, _, end in played]),
    )


# -- families -------------------------------------------------------------------------------------


def quadratic_games(
    players: int, twists: Sequence[float], climb: Climb, *, runs: int, seed: int
) -> list[Contest]:
    """``(A + lambda S)(y - rest)`` for every lambda; the same matrices for all of them."""
    return [
        contest(
            f"quadratic r={players}, lambda={twist:g}",
            twist,
            lambda rng, twist=twist: quadratic(rng, players, twist),
            climb,
            runs=runs,
            seed=seed,
            judge=near_rest,
        )
        for twist in twists
    ]


def cournot_games(
    firms: int, twists: Sequence[float], climb: Climb, *, runs: int, seed: int
) -> list[Contest]:
    """Markets with ever more one-sided cross terms."""
    return [
        contest(
            f"Cournot {firms} firms, twist={twist:g}",
            twist,
            lambda rng, twist=twist: cournot(rng, firms, twist),
            climb,
            runs=runs,
            seed=seed,
            judge=near_rest,
        )
        for twist in twists
    ]


def bimatrix_games(
    shares: Sequence[float], climb: Climb, *, runs: int, seed: int
) -> tuple[list[Contest], Contest]:
    """Matching pennies mixed with coordination, by the share of coordination; and a stag hunt."""
    mixed = [
        contest(
            f"pennies with {share:g} coordination",
            share,
            lambda _, share=share: pennies_mixed_with_coordination(share),
            climb,
            runs=runs,
            seed=seed,
            judge=fair,
        )
        for share in shares
    ]
    hunt = contest("stag hunt", 0.0, lambda _: stag_hunt(), climb, runs=runs, seed=seed, judge=fair)
    return mixed, hunt


# -- rows -----------------------------------------------------------------------------------------


def outcome_rows(one: Contest) -> list[Row]:
    """Share of runs that settle and median gap of every dynamics."""
    rows: list[Row] = []
    for name, outcome in one.outcomes.items():
        what = f"{one.label}: {name}"
        rows += [
            Row.info(f"{what}, converged", float(outcome.settled.mean()), "share"),
            Row.info(f"{what}, median gap", float(np.median(outcome.gap)), "payoff"),
        ]
    return rows


def linear_rows(contests: Sequence[Contest], *, most: float) -> list[Row]:
    """Of quadratic games or markets by twist; ``most`` is the accepted error of kappa."""
    rows = [row for one in contests for row in outcome_rows(one)]
    family = contests[0].label.split(",")[0]
    error = max(abs(one.kappa - one.kappa_exact) for one in contests)
    graph = max(abs(one.kappa_graph - one.kappa_exact) for one in contests)
    rows += [
        Row.at_most(f"{family}: kappa, largest error", error, "1", most),
        Row.info(f"{family}: kappa of the graph form, largest error", graph, "1"),
    ]
    plain = contests[0].outcomes[PLAIN].settled.mean()
    rows.append(Row.at_least(f"{contests[0].label}: {PLAIN}, all converge", plain, "share", 1.0))
    hard = next((one for one in contests if one.outcomes[PLAIN].settled.mean() <= FEW), None)
    if hard is None:
        what = "no twist at which the simultaneous dynamics fail; raise the largest"
        return [*rows, Row.info(f"{family}: {what}", contests[-1].value, "1")]
    share = hard.outcomes[HPML["rest"]].settled.mean()
    name = f"{hard.label}, where {PLAIN} first fails: {HPML['rest']}, nearly all converge"
    return [*rows, Row.at_least(name, share, "share", 1.0 - FEW)]


def bimatrix_rows(mixed: Sequence[Contest], hunt: Contest) -> list[Row]:
    """What becomes of rotation, of potential games, and of mixtures."""
    rows = [row for one in (*mixed, hunt) for row in outcome_rows(one)]
    for one in mixed:
        plain, guided = one.outcomes[PLAIN], one.outcomes[HPML["rest"]]
        rows.append(Row.info(f"{one.label}: kappa", one.kappa, "1"))
        if one.value < 0.5:
            cycling = float(np.mean(plain.cycling))
            rows.append(Row.info(f"{one.label}: {PLAIN}, mean gap on its orbit", cycling, "payoff"))
        if one.value == 0.0:
            rows += _pennies(one)
        elif one.value < 0.5:
            # At (1, 1) or (0, 0) player 2 gains 2 (1 - 2 share) by leaving.
            left = 2.0 * (1.0 - 2.0 * one.value)
            rows.append(
                Row.near(
                    f"{one.label}: HPML stops at a corner that is no equilibrium, gap",
                    float(np.median(guided.gap)),
                    "payoff",
                    left,
                    0.02,
                )
            )
        elif one.value == 1.0:
            rows.append(_unchanged(one))
    rows.append(_unchanged(hunt))
    return rows


def _pennies(one: Contest) -> list[Row]:
    plain, guided = one.outcomes[PLAIN], one.outcomes[HPML["rest"]]
    return [
        Row.at_most(
            f"{one.label}: length of the projected field over that of the field",
            float(np.sqrt(1.0 - one.kappa)),
            "1",
            0.1,
        ),
        Row.info(
            f"{one.label}: {HPML['rest']}, way made over first distance from the equilibrium",
            float(np.median(guided.travelled)),
            "1",
        ),
        Row.info(
            f"{one.label}: {PLAIN}, way made over first distance from the equilibrium",
            float(np.median(plain.travelled)),
            "1",
        ),
        Row.at_most(
            f"{one.label}: {HPML['rest']} finds the equilibrium (it cannot)",
            float(guided.settled.mean()),
            "share",
            0.05,
        ),
    ]


def _unchanged(one: Contest) -> Row:
    plain = one.outcomes[PLAIN].ends
    apart = max(float(np.abs(one.outcomes[name].ends - plain).max()) for name in HPML.values())
    name = f"{one.label}: a potential game ends where it did without HPML, apart"
    return Row.at_most(name, apart, "1", 1e-6)
