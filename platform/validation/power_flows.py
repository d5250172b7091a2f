"""DC flows against angles, rebuilt networks, other slacks, and pandapower."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.power.grid import Grid
from ...simulators.power.lodf import Topology, drop_branches, lodf
from ...simulators.power.network import Network, bridges
from ..rows import Row
from .power_cases import Lines, bare_grid, meshed, straight
from .suites import Check, skipped

EXACT = 1e-8
"""MW, and flow per MW: what two ways to the same numbers may differ by."""
PANDAPOWER_CASES = ("case14", "case118")


def flow_checks(*, seeds: range) -> list[Check]:
    """Checks of the network model."""
    return [
        Check("flows of random grids", partial(flows, seeds), 0.5),
        Check("outages of random grids", partial(outages, seeds), 1.0),
        Check("flows against pandapower", pandapower, 6.0),
    ]


def flows(seeds: range) -> list[Row]:
    """PTDF flows against a direct solution in angles, and under other slacks."""
    angles = slacks = column = 0.0
    for seed in seeds:
        grid = meshed(seed)
        network, injection = Network(grid, convention="x-tap"), _balanced(grid, seed)
        flow = network.flows(injection)
        angles = max(angles, _worst(flow - _flows_of_angles(network, injection)))
        share = np.random.default_rng(seed).dirichlet(np.ones(network.buses))
        for slack in (7, share):
            other = Network(grid, convention="x-tap", slack=slack)
            slacks = max(slacks, _worst(flow - other.flows(injection)))
        column = max(column, _worst(network.ptdf[:, grid.reference]))
    name = f"DC flow, {len(seeds)} random grids"
    return [
        Row.near(f"{name}: PTDF against angles", angles, "MW", 0.0, EXACT),
        Row.near(f"{name}: choice of slack", slacks, "MW", 0.0, EXACT),
        Row.near(f"{name}: PTDF of the reference bus", column, "1", 0.0, 1e-12),
    ]


def outages(seeds: range) -> list[Row]:
    """LODF and outages in sequence against networks built without the branches."""
    single = several = 0.0
    refused = 0
    for seed in seeds:
        grid = meshed(seed)
        network, injection = Network(grid, convention="x-tap"), _balanced(grid, seed)
        factors, flow, cut = lodf(network), network.flows(injection), bridges(network)
        topology = Topology(network)
        refused += int((np.isnan(factors).all(axis=0) == cut).all())
        for branch in np.flatnonzero(~cut)[:6].tolist():
            out = np.arange(network.branches) == branch
            after = Network(drop_branches(grid, out), convention="x-tap").flows(injection)
            single = max(single, _worst((flow + factors[:, branch] * flow[branch])[~out] - after))
            if topology.splits(branch):
                continue
            topology.open(branch)
            rebuilt = Network(drop_branches(grid, ~topology.closed), convention="x-tap")
            there = topology.closed
            several = max(
                several,
                _worst(topology.ptdf[there] - rebuilt.ptdf),
                _worst(topology.flows(injection)[there] - rebuilt.flows(injection)),
            )
    name = f"outages, {len(seeds)} random grids"
    return [
        Row.near(f"{name}: LODF against the network rebuilt", single, "MW", 0.0, EXACT),
        Row.near(f"{name}: several at once against it", several, "MW", 0.0, EXACT),
        Row.near(f"{name}: bridges are those without LODF", refused, "1", len(seeds), 0),
    ]


def pandapower() -> list[Row]:
    """Flows of pandapower's own cases, transformer taps and phase shifts on."""
    rows: list[Row] = []
    for case in PANDAPOWER_CASES:
        with _quiet():
            try:
                networks: Any = import_module("pandapower.networks")
                net = getattr(networks, case)()
                import_module("pandapower").rundcpp(net, numba=False)
            except ModuleNotFoundError as error:
                missing = f"the package {error.name!r} is missing"
                return [skipped("DC flows against pandapower", missing)]
        tables = net._ppc["internal"]
        grid, injection, flow = _of_pandapower(case, tables)
        network = Network(grid, convention="x-tap")
        name = f"pandapower {case}"
        rows += [
            Row.near(
                f"{name}: worst of {len(flow)} flows",
                _worst(network.flows(injection) - flow),
                "MW",
                0.0,
                1e-6,
            ),
            Row.at_least(
                f"{name}: transformers off their nominal ratio",
                int((grid.branches.tap != 1.0).sum()),
                "1",
                1,
            ),
        ]
    return rows


@contextmanager
def _quiet() -> Generator[None]:
    """Without pandapower's remarks on a missing compiler and on its own old data."""
    log = logging.getLogger("pandapower")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _of_pandapower(name: str, tables: Any) -> tuple[Grid, Doubles, Doubles]:
    """Grid, injections ``[B]`` and solved flows ``[L]`` from pandapower's internal case."""
    bus, branch, gen = (np.real(tables[part]) for part in ("bus", "branch", "gen"))
    taps = np.where(branch[:, 8] == 0.0, 1.0, branch[:, 8])
    lines = Lines(
        start=branch[:, 0].astype(np.int64),
        end=branch[:, 1].astype(np.int64),
        r=branch[:, 2],
        x=branch[:, 3],
        rate=np.full(branch.shape[0], np.inf),
        tap=taps,
        shift=np.deg2rad(branch[:, 9]),
    )
    at = gen[:, 0].astype(np.int64)
    grid = bare_grid(name, bus[:, 2], lines, at, straight(np.ones(len(at)), np.ones(len(at))))
    grid = replace(grid, base=float(tables["baseMVA"]))
    injection = np.bincount(at, gen[:, 1], bus.shape[0]) - bus[:, 2] - bus[:, 4]
    return grid, injection, branch[:, 13]


def _balanced(grid: Grid, seed: int) -> Doubles:
    injection = np.random.default_rng(seed).normal(0.0, 50.0, len(grid.buses.name))
    return injection - injection.mean()


def _flows_of_angles(network: Network, injection: Doubles) -> Doubles:
    weight = network.base * network.susceptance
    pushed = injection.copy()
    np.add.at(pushed, network.start, weight * network.shift)
    np.add.at(pushed, network.end, -weight * network.shift)
    kept = np.arange(network.buses) != network.grid.reference
    angle = np.zeros(network.buses)
    angle[kept] = np.linalg.solve(network.laplacian()[np.ix_(kept, kept)], pushed[kept])
    return weight * (angle[network.start] - angle[network.end] - network.shift)


def _worst(difference: Doubles) -> float:
    return float(np.abs(difference).max())
