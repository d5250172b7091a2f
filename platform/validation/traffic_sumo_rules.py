"""Rules in both plants: does their order carry over, and are RESCO's published figures met.

RESCO publishes what SUMO 1.9.x gave: the same maps and rules differ by 20 to 50 % of delay in
1.28. Its figures are compared with a program of that version only, which is not part of the extra:
its path is an option, or stands in the environment variable :data:`PROGRAM`.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...policies.heuristics.traffic_local import COLUMN
from ...policies.interface import Controller, Information
from ...simulators.interface import Doubles, Ints, Observation, Spec
from ...simulators.traffic.sumo.install import find_sumo
from ..executors import InlineExecutor
from ..plant import OURS, Placed, placed
from ..rows import Row
from ..statistics import kendall
from ..tasks import DomainFactory, Heuristic, Task
from .suites import Check, skipped
from .traffic_sumo_maps import maps_at

PROGRAM = "FAIRLEAD_SUMO191"
"""Environment variable with the path of a ``sumo`` program of version 1.9.1."""
RULES = ("fixed", "webster", "actuated", "greedy", "max-pressure")
TAU = 0.8
RANK_SEEDS = 8
"""Seeds of each mean at least: the delay of max pressure differs by 7 s between seeds."""
FIXED, GREEDY = (63.77, 3.0), (21.87, 1.5)
"""RESCO's delay on cologne8, s, and the accepted distance of a mean over five seeds."""
PARITY_SEEDS = 5


def rank_checks(data: Path | None, *, seeds: int, quick: bool) -> list[Check]:
    """The Cologne maps that are at hand."""
    count = seeds if quick else max(seeds, RANK_SEEDS)
    return [
        Check(f"order of rules on {name}", partial(rank_rows, name, data, count), 18.0 * count)
        for name in maps_at(data)
    ]


def parity_checks(data: Path | None, binary: Path | None, *, quick: bool) -> list[Check]:
    """RESCO's figures on cologne8."""
    seeds = 1 if quick else PARITY_SEEDS
    given = binary or (Path(os.environ[PROGRAM]) if os.environ.get(PROGRAM) else None)
    if "cologne8" not in maps_at(data):
        return []
    return [Check("RESCO parity", partial(parity_rows, data, given, seeds), 12.0 * seeds)]


def rank_rows(name: str, data: Path | None, seeds: int) -> list[Row]:
    """Kendall's tau of the rules' orders by mean delay, ours and SUMO's: at least 0.8."""
    base = _factory(name, data)
    ours = delays(placed(base, "streets"), RULES, range(seeds))
    sumo = placed(base, "sumo")
    theirs = delays(sumo, RULES, range(seeds))
    title = f"{name}, {sumo.label}"
    found: list[Row] = []
    for rule in sorted(RULES, key=lambda rule: theirs[rule].mean()):
        found += [
            Row.info(f"{title}: delay of {rule} in SUMO", float(theirs[rule].mean()), "s"),
            Row.info(f"{title}: standard error of {rule} in SUMO", _error(theirs[rule]), "s"),
            Row.info(f"{title}: delay of {rule} in {OURS}", float(ours[rule].mean()), "s"),
        ]
    means = [[float(delay[rule].mean()) for rule in RULES] for delay in (ours, theirs)]
    tau = kendall(*means)
    return [*found, Row.at_least(f"{title}: Kendall's tau of the two orders", tau, "1", TAU)]


def parity_rows(data: Path | None, binary: Path | None, seeds: int) -> list[Row]:
    """Fixed plan and greedy on cologne8 in SUMO 1.9.1, against RESCO's table."""
    if binary is None:
        return [skipped("RESCO parity", f"no SUMO 1.9.1; give --sumo-binary or {PROGRAM}")]
    version = find_sumo("traci", binary).version
    if not version.startswith("1.9."):
        return [skipped("RESCO parity", f"{binary} is SUMO {version}; RESCO's is 1.9")]
    # RESCO knows no longest red.
    base = _factory("cologne8", data, timing={"max_red": 0.0})
    sumo = placed(base, "sumo", binary)
    with InlineExecutor(sumo.factory) as executor:
        wave = Maxwave(executor.spec)
        found = {
            name: float(_delay(executor, who, range(seeds)).mean())
            for name, who in (
                ("fixed", Heuristic("fixed")),
                ("greedy", wave),
                ("our greedy", Heuristic("greedy")),
            )
        }
    title = f"RESCO, cologne8, {sumo.label}"
    return [
        Row.near(f"{title}: delay of the fixed plan", found["fixed"], "s", *FIXED),
        Row.near(
            f"{title}: delay of greedy, ties to the first phase", found["greedy"], "s", *GREEDY
        ),
        Row.info(f"{title}: delay of our rule greedy", found["our greedy"], "s"),
    ]


class Maxwave:
    """RESCO's greedy rule: most vehicles within 50 m, the first phase of the programme at ties."""

    information: Information = "same"
    name = "maxwave"

    def __init__(self, spec: Spec) -> None:
        self._column = spec.candidate_column(COLUMN["greedy"])

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        del rng
        legal = observation.mask
        seen = np.where(legal, observation.candidates[:, :, self._column], -np.inf)
        best = seen == seen.max(axis=1, keepdims=True)
        order = np.where(best & legal, observation.private["order"], np.iinfo(np.int64).max)
        return order.argmin(axis=1).astype(np.int64)


def delays(plant: Placed, rules: tuple[str, ...], seeds: range) -> dict[str, Doubles]:
    """RESCO delay of every rule, ``[seeds]`` s."""
    with InlineExecutor(plant.factory) as executor:
        return {rule: _delay(executor, Heuristic(rule), seeds) for rule in rules}


def _delay(executor: InlineExecutor, who: Heuristic | Controller, seeds: range) -> Doubles:
    results = executor.map([Task(seed, who) for seed in seeds])
    return np.array([result.metrics["delay_mean_s"] for result in results])


def _error(values: Doubles) -> float:
    """Standard error of the mean; nan for one value."""
    return float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else float("nan")


def _factory(name: str, data: Path | None, **settings: Any) -> DomainFactory:
    folder = {} if data is None else {"data": str(data)}
    return DomainFactory("traffic", name, {**folder, **settings})
