"""Static traffic assignment against closed forms and the best solutions that are published.

Pigou's two routes and Braess's network need no data. Networks of the TNTP collection are found by
their files; the published figure is Beckmann's objective of the volumes that lie beside a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...models.traffic.assignment import (
    Assignment,
    marginal_tolls,
    system_optimum,
    user_equilibrium,
)
from ...models.traffic.assignment_bound import objective_bounds
from ...models.traffic.bpr import bpr
from ...simulators.traffic.files.tntp import read_tntp_folder
from ...simulators.traffic.static_network import StaticNetwork
from ..rows import Row
from .suites import Check
from .traffic_assignment_cases import braess, pigou, random_network

PUBLISHED = 1e-5
"""Accepted relative distance from a best-known objective."""
EXACT = 1e-6
"""Accepted distance from a closed form."""
POWERS = (1.0, 2.0, 4.0, 8.0)
"""Powers of Pigou's second route."""


def closed_checks(*, quick: bool) -> list[Check]:
    """What needs no data: closed forms, and linear programs as a second opinion."""
    seeds = range(4 if quick else 20)
    return [
        Check("assignment: Pigou", pigou_rows, 0.1),
        Check("assignment: Braess", braess_rows, 0.1),
        Check("assignment: random networks", partial(bound_rows, seeds), 0.2 * len(seeds)),
    ]


def published_checks(folders: Sequence[Path]) -> list[Check]:
    """A check for every TNTP network in ``folders``, or in a folder ``tntp`` of theirs."""
    return [
        Check(f"assignment: {folder.name}", partial(network_rows, folder), 1.0)
        for folder in _networks(folders)
    ]


def rows(folder: Path) -> list[Row]:
    """The rows of every TNTP network in one folder, at once.

    Raises:
        DataError: a network that cannot be read.
    """
    return [row for check in published_checks([folder]) for row in check.run()]


def pigou_rows() -> list[Row]:
    """Equilibrium 1; optimum ``1 - p (p + 1) ** (-(p + 1) / p)``."""
    found: list[Row] = []
    for power in POWERS:
        network = pigou(power)
        best = _pigou_optimum(power)
        name = f"Pigou, power {power:g}"
        equilibrium, optimum = user_equilibrium(network), system_optimum(network)
        found += [
            Row.near(f"{name}: equilibrium, total time", equilibrium.total_time, "1", 1.0, EXACT),
            Row.near(f"{name}: optimum, total time", optimum.total_time, "1", best, EXACT),
        ]
    return found


def _pigou_optimum(power: float) -> float:
    return 1.0 - power * (power + 1.0) ** (-(power + 1.0) / power)


def braess_rows() -> list[Row]:
    """A link more makes the equilibrium slower, not the optimum."""
    wide, narrow = braess(), braess(middle=False)
    equilibrium, optimum = user_equilibrium(wide), system_optimum(wide)
    without = user_equilibrium(narrow)
    return [
        Row.near("Braess: equilibrium, total time", equilibrium.total_time, "1", 552.0, 1e-5),
        Row.near(
            "Braess: equilibrium, time of a trip", equilibrium.routes.cost.max(), "1", 92.0, 1e-5
        ),
        Row.near("Braess: optimum, total time", optimum.total_time, "1", 498.0, 1e-5),
        Row.near(
            "Braess without the middle link: total time", without.total_time, "1", 498.0, 1e-5
        ),
        *_toll_rows("Braess", wide, optimum),
    ]


def bound_rows(seeds: range) -> list[Row]:
    """Objectives against the bounds that cutting planes in HiGHS prove."""
    above = below = 0.0
    for seed in seeds:
        network = random_network(seed)
        for latency, found in (
            (bpr(network), user_equilibrium(network)),
            (bpr(network).marginal(), system_optimum(network)),
        ):
            bounds = objective_bounds(network, latency, around=found.volume)
            above = max(above, found.objective / bounds.lower - 1.0)
            below = max(below, 1.0 - found.objective / bounds.upper)
    name = f"assignment, {len(seeds)} random networks, equilibrium and optimum"
    return [
        Row.at_most(f"{name}: above the lower bound by HiGHS", above, "1", 2e-6),
        Row.at_most(f"{name}: below the upper bound by HiGHS", below, "1", 2e-6),
    ]


def network_rows(folder: Path) -> list[Row]:
    """One TNTP network: published solution, price of anarchy, tolls."""
    network = read_tntp_folder(folder)
    equilibrium, optimum = user_equilibrium(network), system_optimum(network)
    name = folder.name
    anarchy = equilibrium.total_time / optimum.total_time
    # Pigou's two routes are the worst case of all networks with that power (Roughgarden, 2003).
    worst = 1.0 / _pigou_optimum(float(network.power.max(initial=1.0)))
    return [
        *_published_rows(name, network, equilibrium),
        *_own_rows(f"{name}: equilibrium", equilibrium),
        *_own_rows(f"{name}: optimum", optimum),
        Row.at_least(f"{name}: price of anarchy", anarchy, "1", 1.0 - 1e-9),
        Row.at_most(f"{name}: price of anarchy, bound of the power", anarchy, "1", worst),
        *_toll_rows(name, network, optimum),
    ]


def _published_rows(name: str, network: StaticNetwork, found: Assignment) -> list[Row]:
    if network.best_volume is None:
        return [Row.info(f"{name}: objective (none is published)", found.objective, "1")]
    latency, volume = bpr(network), network.best_volume
    objective, total = latency.integral(volume), float(volume @ latency.cost(volume))
    apart = float(np.abs(found.volume - volume).max() / volume.max())
    return [
        Row.near(
            f"{name}: objective, best known", found.objective, "1", objective, PUBLISHED * objective
        ),
        Row.near(f"{name}: total time, best known", found.total_time, "1", total, 1e-4 * total),
        Row.at_most(
            f"{name}: largest difference of a volume, of the largest volume", apart, "1", 1e-3
        ),
    ]


def _own_rows(name: str, found: Assignment) -> list[Row]:
    return [
        Row.at_most(f"{name}, relative gap", found.gap, "1", 1e-6),
        Row.info(f"{name}, total time", found.total_time, "1"),
        Row.info(f"{name}, wall time", found.seconds, "s"),
    ]


def _toll_rows(name: str, network: StaticNetwork, optimum: Assignment) -> list[Row]:
    """Under marginal tolls everybody's own interest gives the optimum."""
    tolled = user_equilibrium(network, fixed=marginal_tolls(network, optimum))
    total = optimum.total_time
    return [
        Row.near(
            f"{name}: equilibrium under marginal tolls, total time",
            tolled.total_time,
            "1",
            total,
            EXACT * total,
        )
    ]


def _networks(folders: Sequence[Path]) -> list[Path]:
    found = {
        net.parent.resolve()
        for folder in folders
        for place in (folder, folder / "tntp")
        for net in place.glob("*/*_net.tntp*")
    }
    return sorted(found)
