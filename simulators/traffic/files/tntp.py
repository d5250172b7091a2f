"""Networks of the Transportation Networks collection (TNTP): links, trips, best-known flows, nodes.

Format: the README of github.com/bstabler/TransportationNetworks. ``~`` starts a comment, ``;`` ends
a row (often left out), metadata stands in tags before ``<END OF METADATA>``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Doubles, Ints
from ..static_network import StaticNetwork
from .tntp_file import Line, TntpFile

_COLUMNS = (
    *("init_node", "term_node", "capacity", "length", "free_flow_time", "b", "power"),
    *("speed", "toll"),
)
_NEEDED = 7
"""Columns that every row of links has; the others may be left out."""
_ROUNDING = 1e-3
"""Relative difference from the total in the metadata that rounding explains."""
_ORIGIN = re.compile(r"origin\s+(?P<zone>\S+)(?P<rest>.*)", re.IGNORECASE)


def read_tntp(
    net: str | Path,
    trips: str | Path,
    flow: str | Path | None = None,
    node: str | Path | None = None,
) -> StaticNetwork:
    """Read one network; files may be gzip.

    Args:
        net: links (``*_net.tntp``).
        trips: demand (``*_trips.tntp``).
        flow: best-known volumes and costs (``*_flow.tntp``).
        node: coordinates (``*_node.tntp``).

    Raises:
        DataError: a file that is not of the format, contradicts its own metadata or another file;
            names file, line and field.
    """
    file = TntpFile(Path(net))
    nodes = file.count("NUMBER OF NODES")
    ends, numbers = _read_links(file, nodes)
    volume, cost = (None, None) if flow is None else _read_flow(TntpFile(Path(flow)), ends)
    network = StaticNetwork(
        name=file.path.name.removesuffix(".gz").removesuffix(".tntp").removesuffix("_net"),
        nodes=nodes,
        tail=ends[:, 0],
        head=ends[:, 1],
        free_flow_time=numbers["free_flow_time"],
        capacity=numbers["capacity"],
        b=numbers["b"],
        power=numbers["power"],
        toll=numbers["toll"],
        length=numbers["length"],
        first_thru=file.count("FIRST THRU NODE") - 1,
        demand=_read_trips(TntpFile(Path(trips)), file.count("NUMBER OF ZONES")),
        xy=None if node is None else _read_nodes(TntpFile(Path(node)), nodes),
        best_volume=volume,
        best_cost=cost,
    )
    try:
        network.check()
    except ValueError as error:
        raise DataError(net, accepted=str(error)) from error
    return network


def read_tntp_folder(folder: str | Path) -> StaticNetwork:
    """Read a folder: its ``*_net.tntp``, ``*_trips.tntp`` and, where there, the other two files.

    Raises:
        DataError: as :func:`read_tntp`, or not exactly one file of links or of trips.
    """
    folder = Path(folder)
    net, trips = (_files(folder, kind) for kind in ("net", "trips"))
    for kind, files in (("net", net), ("trips", trips)):
        if not files:
            raise DataError(folder, accepted=f"a file *_{kind}.tntp is expected in this folder")
    flow, node = (next(iter(_files(folder, kind)), None) for kind in ("flow", "node"))
    return read_tntp(net[0], trips[0], flow, node)


def _files(folder: Path, kind: str) -> list[Path]:
    """The file of a kind, if there is one; two are an error."""
    files = sorted(path for end in ("", ".gz") for path in folder.glob(f"*_{kind}.tntp{end}"))
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise DataError(folder, value=names, accepted=f"only one *_{kind}.tntp is expected")
    return files


def _read_links(file: TntpFile, nodes: int) -> tuple[Ints, dict[str, Doubles]]:
    """``[L, 2]`` nodes from 0, and the other columns."""
    count = file.count("NUMBER OF LINKS")
    if len(file.lines) != count:
        last = file.lines[-1].number if file.lines else None
        accepted = f"{count} rows of links are expected, as NUMBER OF LINKS says"
        file.fail(last, "NUMBER OF LINKS", f"{len(file.lines)} rows", accepted)
    ends = np.zeros((count, 2), dtype=np.int64)
    values = np.zeros((count, len(_COLUMNS)))
    for row, line in enumerate(file.lines):
        cells = _cells(file, line, _NEEDED)[: len(_COLUMNS)]
        for column, (name, cell) in enumerate(zip(_COLUMNS, cells, strict=False)):
            if column < 2:
                ends[row, column] = file.whole(line.number, name, cell, 1, nodes) - 1
            else:
                values[row, column] = file.number(line.number, name, cell)
    return ends, {name: values[:, column].copy() for column, name in enumerate(_COLUMNS)}


def _read_trips(file: TntpFile, zones: int) -> Doubles:
    """``[Z, Z]`` from blocks ``Origin 1`` of items ``2 : 100.0;``."""
    if file.count("NUMBER OF ZONES") != zones:
        found = file.count("NUMBER OF ZONES")
        file.fail(None, "NUMBER OF ZONES", found, f"{zones} are expected, as in the links' file")
    demand = np.full((zones, zones), np.nan)
    origin = -1
    for line in file.lines:
        text, block = line.text, _ORIGIN.match(line.text)
        if block:
            origin = file.whole(line.number, "Origin", block["zone"], 1, zones) - 1
            text = block["rest"]
        elif origin < 0:
            file.fail(line.number, None, text, "a line 'Origin ZONE' is expected before trips")
        for item in filter(None, (part.strip() for part in text.split(";"))):
            zone, colon, trips = item.partition(":")
            if not colon:
                file.fail(line.number, None, item, "ZONE : TRIPS is expected")
            to = file.whole(line.number, "destination", zone.strip(), 1, zones) - 1
            if not np.isnan(demand[origin, to]):
                accepted = f"one figure from zone {origin + 1} to it is expected"
                file.fail(line.number, "destination", zone.strip(), accepted)
            demand[origin, to] = file.number(line.number, "trips", trips.strip())
    demand = np.nan_to_num(demand)
    total = file.total("TOTAL OD FLOW")
    if total is not None and abs(demand.sum() - total) > _ROUNDING * total:
        accepted = f"they sum to {demand.sum():g}; is the file cut short?"
        file.fail(None, "TOTAL OD FLOW", total, accepted)
    return demand


def _read_flow(file: TntpFile, ends: Ints) -> tuple[Doubles, Doubles]:
    """``[L]`` volumes and costs; rows of parallel links are taken in the links' order."""
    waiting: dict[tuple[int, int], list[int]] = {}
    for link, (tail, head) in enumerate(ends.tolist()):
        waiting.setdefault((tail + 1, head + 1), []).append(link)
    values = np.zeros((2, ends.shape[0]))
    for line in _without_header(file):
        tail, head, volume, cost = _cells(file, line, 4)[:4]
        pair = (
            file.whole(line.number, "From", tail, 1, None),
            file.whole(line.number, "To", head, 1, None),
        )
        if not waiting.get(pair):
            accepted = "a link of the links' file is expected, each once"
            file.fail(line.number, "From, To", f"{tail} {head}", accepted)
        link = waiting[pair].pop(0)
        values[0, link] = file.number(line.number, "Volume", volume)
        values[1, link] = file.number(line.number, "Cost", cost)
    for (tail, head), links in waiting.items():
        if links:
            file.fail(None, "From, To", f"{tail} {head}", "this link has no row")
    return values[0], values[1]


def _read_nodes(file: TntpFile, nodes: int) -> Doubles:
    """``[N, 2]``; every node once."""
    xy = np.full((nodes, 2), np.nan)
    for line in _without_header(file):
        name, x, y = _cells(file, line, 3)[:3]
        at = file.whole(line.number, "Node", name, 1, nodes) - 1
        xy[at] = [
            file.number(line.number, field, text, signed=True)
            for field, text in (("X", x), ("Y", y))
        ]
    missing = np.flatnonzero(np.isnan(xy).any(axis=1))
    if missing.size:
        file.fail(None, "Node", int(missing[0]) + 1, "this node has no row")
    return xy


def _without_header(file: TntpFile) -> list[Line]:
    """Rows from the first one that starts with a digit, which a header never does."""
    named = bool(file.lines) and not file.lines[0].text[0].isdigit()
    return file.lines[1:] if named else file.lines


def _cells(file: TntpFile, line: Line, least: int) -> list[str]:
    # Some files set a colon between the nodes and the figures.
    cells = line.text.replace(":", " ").replace(";", " ").split()
    if len(cells) < least:
        accepted = f"at least {least} fields are expected"
        file.fail(line.number, None, line.text, accepted)
    return cells
