"""A network with its demand as files for SUMO; ids, lanes and signal indices stay the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from ..demand import Demand, Kind
from ..network import Network
from .netconvert import convert, sumo_program

_FORBIDDEN = " \t\n\r|\\'\";,<>&"


def export_sumo(network: Network, demand: Demand, folder: str | Path, *, name: str) -> Path:
    """Write ``network`` and ``demand`` for SUMO and build the net.

    Writes plain XML (``NAME.nod.xml``, ``.edg.xml``, ``.con.xml``, ``.tll.xml``), the net that
    netconvert builds from it, the vehicles with their routes, and a configuration that runs them
    without teleporting. A controller may talk to the run in the ids of ``network``: nodes, links,
    lane numbers, signals and the places in their state strings are the same. Links are straight,
    and lengths are what netconvert makes of the nodes' positions; those of generated networks agree
    with ``network``.

    Args:
        network: whose signals each control whole nodes.
        demand: its clock starts at 0 in SUMO.
        folder: created if absent; files of the same name are replaced, all at once at the end.
        name: of the files.

    Returns:
        Path of ``NAME.sumocfg``.

    Raises:
        ValueError: demand that the network cannot carry, or ids that SUMO cannot hold.
        DataError: netconvert refuses the network.
        ModuleNotFoundError: netconvert is not installed; names the extra.
    """
    program = sumo_program("netconvert")
    demand.check(network)
    kinds = (kind.name for kind in demand.kinds)
    _check_ids((name, *network.nodes, *network.links, *demand.names, *kinds))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        base = Path(work) / name
        _write(base, "nod", "nodes", _nodes(network))
        _write(base, "edg", "edges", _edges(network))
        _write(base, "con", "connections", _connections(network))
        _write(base, "tll", "tlLogics", _signals(network))
        _write(base, "rou", "routes", _vehicles(network, demand))
        _write(base, "sumocfg", "configuration", _configuration(demand, name))
        command = [str(program), "--no-turnarounds", "true", "-o", f"{base}.net.xml"]
        for option, part in (("-n", "nod"), ("-e", "edg"), ("-x", "con"), ("-i", "tll")):
            command += [option, f"{base}.{part}.xml"]
        convert(command, source=folder)
        for path in sorted(Path(work).iterdir()):
            path.replace(folder / path.name)
    return folder / f"{name}.sumocfg"


def _write(base: Path, part: str, root: str, lines: Iterable[str]) -> None:
    ending = part if part == "sumocfg" else f"{part}.xml"
    with Path(f"{base}.{ending}").open("w", encoding="utf-8") as stream:
        stream.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>\n')
        stream.writelines(f"    {line}\n" for line in lines)
        stream.write(f"</{root}>\n")


def _element(tag: str, **attributes: object) -> str:
    """An empty element; attributes whose names are Python's words end in an underscore."""
    pairs = "".join(f" {key.rstrip('_')}={quoteattr(str(v))}" for key, v in attributes.items())
    return f"<{tag}{pairs}/>"


def _nodes(network: Network) -> Iterator[str]:
    signal_of = _signal_of_node(network)
    for at, (node, (x, y)) in enumerate(zip(network.nodes, network.xy.tolist(), strict=True)):
        if at in signal_of:
            yield _element("node", id=node, x=x, y=y, type="traffic_light", tl=signal_of[at])
        else:
            yield _element("node", id=node, x=x, y=y, type="priority")


def _signal_of_node(network: Network) -> dict[int, str]:
    controlled = np.flatnonzero(network.connection_signal >= 0)
    nodes = network.head[network.move_from[network.connection_move[controlled]]]
    signals = network.connection_signal[controlled]
    return {
        node: network.signals[signal].name
        for node, signal in zip(nodes.tolist(), signals.tolist(), strict=True)
    }


def _edges(network: Network) -> Iterator[str]:
    for at, link in enumerate(network.links):
        yield _element(
            "edge",
            id=link,
            from_=network.nodes[network.tail[at]],
            to=network.nodes[network.head[at]],
            numLanes=network.lanes[at],
            speed=network.speed[at],
        )


def _connection_ends(network: Network, at: int) -> dict[str, object]:
    move = network.connection_move[at]
    enter, leave = int(network.move_from[move]), int(network.move_to[move])
    return {
        "from_": network.links[enter],
        "to": network.links[leave],
        "fromLane": network.connection_lane[at] - network.lane_start[enter],
        "toLane": network.connection_into[at] - network.lane_start[leave],
    }


def _connections(network: Network) -> Iterator[str]:
    signal_of = _signal_of_node(network)
    for at in range(network.connection_lane.size):
        ends = _connection_ends(network, at)
        node = int(network.head[network.move_from[network.connection_move[at]]])
        if network.connection_signal[at] < 0 and node in signal_of:
            ends["uncontrolled"] = "true"
        yield _element("connection", **ends)


def _signals(network: Network) -> Iterator[str]:
    for signal in network.signals:
        head = _element(
            "tlLogic", id=signal.name, type="static", programID="0", offset=signal.offset
        )
        yield head.removesuffix("/>") + ">"
        for state, seconds in signal.programme:
            yield "    " + _element("phase", duration=seconds, state=state)
        yield "</tlLogic>"
    for at in np.flatnonzero(network.connection_signal >= 0).tolist():
        yield _element(
            "connection",
            **_connection_ends(network, at),
            tl=network.signals[network.connection_signal[at]].name,
            linkIndex=network.connection_index[at],
        )


def _vehicles(network: Network, demand: Demand) -> Iterator[str]:
    for kind in demand.kinds:
        yield _kind(kind)
    for at, route in enumerate(demand.routes):
        edges = " ".join(network.links[link] for link in route.tolist())
        yield _element("route", id=f"route{at}", edges=edges)
    names = [quoteattr(kind.name) for kind in demand.kinds]
    columns = zip(
        demand.names,
        demand.depart.tolist(),
        demand.kind.tolist(),
        demand.route.tolist(),
        strict=True,
    )
    for vehicle, depart, kind, route in columns:
        yield (
            f'<vehicle id={quoteattr(vehicle)} type={names[kind]} route="route{route}" '
            f'depart="{depart:.3f}" departLane="best" departSpeed="max"/>'
        )


def _kind(kind: Kind) -> str:
    # SUMO's own bounds of a driver's speed factor. Where only a mean is given it adds a deviation
    # of its own, so the absent one is said as well.
    factor = f"normc({kind.factor},{kind.spread},0.2,2)" if kind.spread else f"{kind.factor}"
    return _element(
        "vType",
        id=kind.name,
        length=kind.length,
        minGap=kind.gap,
        tau=kind.tau,
        accel=kind.accel,
        decel=kind.decel,
        speedFactor=factor,
        speedDev=kind.spread,
        maxSpeed=kind.top,
        sigma=kind.sigma,
    )


def _configuration(demand: Demand, name: str) -> Iterator[str]:
    yield "<input>"
    yield "    " + _element("net-file", value=f"{name}.net.xml")
    yield "    " + _element("route-files", value=f"{name}.rou.xml")
    yield "</input>"
    yield "<time>"
    yield "    " + _element("begin", value=0)
    if demand.end > 0.0:
        yield "    " + _element("end", value=demand.end)
    yield "</time>"
    yield "<processing>"
    yield "    " + _element("time-to-teleport", value=-1)
    yield "</processing>"


def _check_ids(names: tuple[str, ...]) -> None:
    for name in names:
        if not name or name[0] == ":" or any(sign in _FORBIDDEN for sign in name):
            raise ValueError(
                f"SUMO cannot hold the id {name!r}; expected at least one character, none of "
                f"{_FORBIDDEN!r} and no colon at the start"
            )
