"""Whole networks in both plants under a fixed plan: generated grids, and RESCO's Cologne maps.

SUMO's own queue model (mesoscopic, with junction control) runs on the same maps: what a model
without car following has to beat.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.tables import search_folders
from ...simulators.traffic.files.sumo_config import read_sumo_files
from ...simulators.traffic.files.sumo_xml import read_tags
from ...simulators.traffic.generated import grid_network
from ...simulators.traffic.generated_demand import grid_demand, movement_flows
from ...simulators.traffic.scenario import (
    Cologne1Scenario,
    Cologne3Scenario,
    Cologne8Scenario,
    GridScenario,
)
from ...simulators.traffic.signals import TrafficSimulator
from ...simulators.traffic.sumo.process import SumoEngine
from ...simulators.traffic.sumo.tripinfo import TripReport
from ...simulators.traffic.town import Town, town_of
from ...simulators.traffic.webster import webster
from ..rows import Row
from .suites import Check
from .traffic_sumo_plants import apart, in_sumo, left_links, mean_of, played

Phases = Literal["2", "4"]

RATES: dict[Phases, tuple[float, ...]] = {"2": (200.0, 400.0, 600.0), "4": (200.0, 400.0, 600.0)}
"""veh/h at every edge of the grid, by the phases of its signals; the last is near saturation."""
MAPS = {"cologne1": Cologne1Scenario, "cologne3": Cologne3Scenario, "cologne8": Cologne8Scenario}
GEH = 5.0
"""Difference of two hourly flows that counts as small."""


def grid_checks(*, seeds: int, quick: bool) -> list[Check]:
    """Generated 4x4 grids; no data is needed."""
    return [
        Check(f"grid, {phases} phases", partial(grid_rows, phases, rates[-1:], seeds), 20.0 * seeds)
        if quick
        else Check(f"grid, {phases} phases", partial(grid_rows, phases, rates, seeds), 60.0 * seeds)
        for phases, rates in RATES.items()
    ]


def map_checks(data: Path | None, *, seeds: int) -> list[Check]:
    """The Cologne maps that are at hand.

    Raises:
        DataError: no such folder.
    """
    return [
        Check(f"map {name}", partial(map_rows, name, data, seeds), 8.0 * seeds)
        for name in maps_at(data)
    ]


def maps_at(data: Path | None) -> list[str]:
    """Names of the maps in ``data``."""
    if data is None:
        return []
    folders = search_folders(data)
    return [
        name
        for name in MAPS
        if any((folder / "resco" / name / f"{name}.sumocfg").is_file() for folder in folders)
    ]


def map_town(name: str, data: Path | None) -> Town:
    """Streets and demand of a map."""
    scenario = MAPS[name](data=None if data is None else str(data))
    # Frozen settings have a hash, which the type checker does not see.
    return town_of(scenario)  # pyright: ignore[reportArgumentType]


def grid_rows(phases: Phases, rates: tuple[float, ...], seeds: int) -> list[Row]:
    """Mean trip time: within 10 %, 15 % near saturation."""
    found: list[Row] = []
    for rate in rates:
        town = grid_town(phases, rate)
        ours = played(TrafficSimulator(town), range(seeds))
        with in_sumo(town) as simulator:
            theirs = played(simulator, range(seeds))
            version = simulator.version
        share = 0.15 if rate == max(RATES[phases]) else 0.1
        mine, other = (mean_of(runs, "trip_time_mean_s") for runs in (ours, theirs))
        name = f"4x4 grid, {phases} phases, {rate:g} veh/h, {version}"
        found += [
            Row.info(f"{name}: trip time in SUMO", other, "s"),
            Row.near(f"{name}: our trip time", mine, "s", other, share * other),
            Row.info(f"{name}: delay in SUMO", mean_of(theirs, "delay_mean_s"), "s"),
            Row.info(f"{name}: our delay", mean_of(ours, "delay_mean_s"), "s"),
            Row.info(f"{name}: unfinished in SUMO", mean_of(theirs, "unfinished_share"), "1"),
        ]
    return found


def grid_town(phases: Phases, rate: float) -> Town:
    """A 4x4 grid of two-lane streets with plans by Webster's method.

    Two phases: left turns give way. Four: they have greens of their own.
    """
    scenario = GridScenario(rate=rate)
    network = grid_network(4, 4, spacing=scenario.spacing, lanes=scenario.lanes, phases=phases)
    demand = grid_demand(network, rate=rate, seconds=scenario.seconds, seed=scenario.city)
    signals = webster(network, movement_flows(network, demand))
    return Town(scenario, replace(network, signals=signals), demand)


@dataclass(frozen=True, slots=True)
class MapRun:
    """SUMO on a map under its own fixed programmes.

    Attributes:
        report: what became of the trips; flow: ``[L]`` vehicles that left each link.
    """

    report: TripReport
    flow: Doubles


def map_rows(name: str, data: Path | None, seeds: int) -> list[Row]:
    """Trip time within 15 % and closer than SUMO's queue model; flows of links."""
    town = map_town(name, data)
    simulator, runs, flow = TrafficSimulator(town), [], np.zeros(len(town.network.links))
    for seed in range(seeds):
        runs += played(simulator, [seed])
        flow += left_links(town, simulator)
    micro = sumo_runs(town, seeds)
    meso = sumo_runs(town, seeds, mesoscopic=True)
    version = micro[0].report.version
    other = float(np.mean([run.report.trip_time for run in micro]))
    queue = float(np.mean([run.report.trip_time for run in meso]))
    mine = mean_of(runs, "trip_time_mean_s")
    hours = seeds * town.scenario.seconds / 3600.0
    differences = geh(flow / hours, np.sum([run.flow for run in micro], axis=0) / hours)
    title = f"{name}, fixed, {version}"
    delays = {"": mean_of(runs, "delay_mean_s")}
    for label, found in (("in SUMO", micro), ("in SUMO's queue model", meso)):
        delays[label] = float(np.mean([run.report.resco_delay for run in found]))
    return [
        Row.info(f"{title}: trip time in SUMO", other, "s"),
        Row.near(f"{title}: our trip time", mine, "s", other, 0.15 * other),
        Row.info(f"{title}: trip time in SUMO's queue model", queue, "s"),
        Row.at_most(
            f"{title}: our error of trip time, at most that of SUMO's queue model",
            abs(apart(mine, other)),
            "%",
            abs(apart(queue, other)),
        ),
        Row.info(f"{title}: RESCO delay in SUMO", delays["in SUMO"], "s"),
        Row.info(f"{title}: our RESCO delay", delays[""], "s"),
        Row.info(
            f"{title}: RESCO delay in SUMO's queue model", delays["in SUMO's queue model"], "s"
        ),
        Row.at_least(
            f"{title}: share of links whose flow has a GEH below {GEH:g}",
            float((differences < GEH).mean()),
            "1",
            0.85,
        ),
        Row.info(f"{title}: largest GEH of a link", float(differences.max()), "1"),
    ]


def sumo_runs(town: Town, seeds: int, *, mesoscopic: bool = False) -> list[MapRun]:
    """SUMO on the files of a map, once per seed."""
    if town.source is None:
        raise ValueError("only towns that were read from a SUMO configuration have its files")
    files = read_sumo_files(town.source)
    seconds = int(town.scenario.seconds)
    found: list[MapRun] = []
    with tempfile.TemporaryDirectory(prefix="fairlead-flows-") as folder:
        flows, request = Path(folder) / "flows.xml", Path(folder) / "flows.add.xml"
        request.write_text(
            f'<additional><edgeData id="flows" file="{flows.name}"/></additional>', encoding="utf-8"
        )
        with SumoEngine(
            net=files.network,
            routes=files.routes,
            begin=files.begin,
            end=files.begin + seconds,
            mesoscopic=mesoscopic,
            options=("--additional-files", str(request)),
        ) as engine:
            for seed in range(seeds):
                engine.reset(seed)
                engine.advance(seconds)
                report = engine.finish()
                found.append(MapRun(report, read_flows(flows, town)))
    return found


def read_flows(path: Path, town: Town) -> Doubles:
    """``[L]`` vehicles that left each link of the town or arrived on it, from ``edgeData``.

    Raises:
        DataError: not well-formed, or counts that are no numbers.
    """
    flow = np.zeros(len(town.network.links))
    index = town.network.link_index
    for interval in read_tags(path, ("meandata",)):
        for edge in interval.children:
            at = index.get(edge.text("id"))
            if at is not None:
                flow[at] += edge.number("left", low=0.0) + edge.number("arrived", low=0.0)
    return flow


def geh(ours: Doubles, theirs: Doubles) -> Doubles:
    """GEH statistic of two hourly flows (Highways Agency): ``sqrt(2 (m - c)^2 / (m + c))``."""
    total = np.maximum(ours + theirs, 1e-12)
    return np.sqrt(2.0 * (ours - theirs) ** 2 / total)
