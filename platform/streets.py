"""What is in a file of streets: networks, signals and demand, read by the domain's importers."""

from __future__ import annotations

from pathlib import Path

from ..simulators.traffic.demand import Demand
from ..simulators.traffic.files.cityflow import read_cityflow_roadnet
from ..simulators.traffic.files.sumo_config import read_sumo_scenario
from ..simulators.traffic.files.sumo_net import read_sumo_net
from ..simulators.traffic.files.tntp import read_tntp_folder
from ..simulators.traffic.network import Network
from .rows import Row


def sumo(file: Path) -> list[Row]:
    """A ``.sumocfg`` with its network and demand, or a ``.net.xml`` alone."""
    if file.name.endswith((".net.xml", ".net.xml.gz")):
        return _streets(read_sumo_net(file))
    network, demand = read_sumo_scenario(file)
    return [*_streets(network), *_demand(demand)]


def cityflow(file: Path) -> list[Row]:
    """A roadnet file of CityFlow."""
    return _streets(read_cityflow_roadnet(file))


def tntp(folder: Path) -> list[Row]:
    """A folder of TNTP files."""
    network = read_tntp_folder(folder)
    known = network.best_volume is not None
    return [
        Row.info("links", network.links, "links"),
        Row.info("zones", network.zones, "zones"),
        Row.info("trips", float(network.demand.sum()), "trips"),
        Row.info("best-known flows", "yes" if known else "no", ""),
    ]


def _streets(network: Network) -> list[Row]:
    phases = [len(signal.greens) for signal in network.signals]
    rows = [
        Row.info("links", len(network.links), "links"),
        Row.info("lanes", network.lane_link.size, "lanes"),
        Row.info("length of all links", float(network.length.sum()) / 1000.0, "km"),
        Row.info("movements", network.move_from.size, "movements"),
        Row.info("signals", len(phases), "signals"),
    ]
    if phases:
        rows.append(Row.info("green phases of a signal, least", min(phases), "phases"))
        rows.append(Row.info("green phases of a signal, most", max(phases), "phases"))
    return rows


def _demand(demand: Demand) -> list[Row]:
    rows = [
        Row.info("vehicles", demand.vehicles, "vehicles"),
        Row.info("vehicles outside the time that is simulated", demand.dropped, "vehicles"),
        Row.info("distinct routes", len(demand.routes), "routes"),
    ]
    if demand.vehicles:
        rows.append(Row.info("last departure", float(demand.depart[-1]), "s"))
    return rows
