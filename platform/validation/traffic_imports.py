"""Scenarios of other simulators that the data folder holds: do they import, run and add up?

Found are SUMO configurations, plain SUMO networks that netconvert must build first, and CityFlow
pairs of ``roadnet_NAME.json`` and ``*_NAME_*.json``. Where a well-known one is recognised by its
name, signals and vehicles are compared with what its authors state.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from ...simulators.tables import open_text
from ...simulators.traffic.demand import Demand
from ...simulators.traffic.files.cityflow import read_cityflow_flow, read_cityflow_roadnet
from ...simulators.traffic.files.netconvert import build_net, sumo_program
from ...simulators.traffic.files.sumo_config import read_sumo_scenario
from ...simulators.traffic.network import Network
from ...simulators.traffic.plans import FIXED
from ...simulators.traffic.scenario import SumoScenario
from ...simulators.traffic.signals import TrafficSimulator
from ...simulators.traffic.town import Town
from ..rows import Row
from .suites import Check, skipped
from .traffic_episodes import balance_rows, random_episode

KNOWN = {
    "cologne1": (1, 2015, 2015),
    "cologne3": (3, 4494, 2856),
    "cologne8": (8, 2046, 2046),
    "manhattan_28x7": (196, 16317, 15841),
    "anon_3_4_jinan_real": (12, 6295, 6295),
    "anon_3_4_jinan_real_2000": (12, 4365, 4365),
    "anon_3_4_jinan_real_2500": (12, 5494, 5494),
    "anon_4_4_hangzhou_real": (16, 2983, 2983),
    "anon_4_4_hangzhou_real_5816": (16, 6984, 6984),
}
"""Signals, vehicles of the file, and those that depart within its hour, by name of the file."""
HOUR = 3600.0
_DEPTH = 3
"""Folders below the data folder that are searched."""


def import_checks(folders: Sequence[Path], *, quick: bool) -> list[Check]:
    """A check for every scenario in ``folders`` or up to three folders below."""
    seconds = 600.0 if quick else HOUR
    found: list[Check] = []
    for config in _files(folders, "*.sumocfg"):
        check = partial(built_rows if _plain(config) else sumo_rows, config, seconds)
        found.append(Check(f"import: {config.stem}", check, seconds / 900.0))
    for net in _files(folders, "roadnet_*.json*"):
        size = _name(net).removeprefix("roadnet_")
        for flow in sorted(net.parent.glob(f"*_{size}_*.json*")):
            check = partial(cityflow_rows, net, flow, seconds)
            found.append(Check(f"import: {_name(flow)}", check, seconds / 900.0))
    return found


def sumo_rows(config: Path, seconds: float) -> list[Row]:
    """A SUMO scenario with its network."""
    return _rows(config.stem, *read_sumo_scenario(config), seconds)


def built_rows(config: Path, seconds: float) -> list[Row]:
    """A SUMO scenario whose network netconvert makes from plain XML in the same folder."""
    try:
        sumo_program("netconvert")
    except ModuleNotFoundError as error:
        return [skipped(f"import: {config.stem}", str(error))]
    with tempfile.TemporaryDirectory() as work:
        build_net(config.parent, work)
        shutil.copyfile(config, Path(work) / config.name)
        for routes in config.parent.glob("*.rou.xml*"):
            target = Path(work) / routes.name.removesuffix(".gz")
            with open_text(routes) as source, target.open("w", encoding="utf-8") as plain:
                shutil.copyfileobj(source, plain)
        network, demand = read_sumo_scenario(Path(work) / config.name)
    return _rows(config.stem, network, demand, seconds)


def cityflow_rows(roadnet: Path, flow: Path, seconds: float) -> list[Row]:
    """A CityFlow scenario."""
    network = read_cityflow_roadnet(roadnet)
    return _rows(_name(flow), network, read_cityflow_flow(flow, network, end=HOUR), seconds)


def _rows(name: str, network: Network, demand: Demand, seconds: float) -> list[Row]:
    """Counts, an episode of the fixed programmes, and one of random actions."""
    counts = {
        "signals": len(network.signals),
        "vehicles of the file": demand.vehicles + demand.dropped,
        "vehicles within the hour": demand.vehicles,
    }
    known = KNOWN.get(name)
    rows = [
        Row.info(f"{name}: {what}", count, "1")
        if known is None
        else Row.near(f"{name}: {what}", count, "1", known[at], 0)
        for at, (what, count) in enumerate(counts.items())
    ]
    town = Town(SumoScenario(seconds=seconds), network, demand)
    simulator = TrafficSimulator(town)
    fixed = all(signal.programme for signal in network.signals)
    for plan in (FIXED, "") if fixed else ("",):
        simulator.use_local(plan)
        _, balance = random_episode(simulator, seed=1)
        label = f"{name}, {'fixed programmes' if plan else 'random actions'}"
        metrics = simulator.metrics()
        rows += [
            *balance_rows(label, simulator.streets, balance),
            Row.info(f"{label}: mean trip time", metrics["trip_time_mean_s"], "s"),
            Row.info(f"{label}: unfinished share", metrics["unfinished_share"], "1"),
            Row.info(f"{label}: deadlocks", metrics["deadlocks"], "1"),
        ]
    return rows


def _plain(config: Path) -> bool:
    """Whether the folder holds the parts of a network instead of a network."""
    folder = config.parent
    return any(folder.glob("*.nod.xml*")) and not any(folder.glob("*.net.xml*"))


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")


def _files(folders: Sequence[Path], pattern: str) -> Iterator[Path]:
    """Distinct files, in order of their names."""
    levels = ["*/" * depth + pattern for depth in range(_DEPTH + 1)]
    found = chain.from_iterable(folder.glob(level) for folder in folders for level in levels)
    return iter(sorted({path.resolve() for path in found}))
