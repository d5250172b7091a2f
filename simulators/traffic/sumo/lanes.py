"""SUMO's ids of a network's lanes, read from the net file that the network came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...interface import Ints
from ..files.sumo_net_parts import read_parts
from ..network import Network


def inner_lanes(net: Path, network: Network) -> tuple[tuple[str, ...], Ints]:
    """SUMO's ids of the lanes inside signalled junctions, and the signal of each ``[n]``.

    Raises:
        DataError: not a SUMO network.
    """
    parts = read_parts(net)
    signal_of = {signal.name: at for at, signal in enumerate(network.signals)}
    owner: dict[str, int] = {}
    for join in parts.joins:
        signal = signal_of.get(join.tag.values.get("tl", ""))
        if signal is not None and join.via:
            owner[join.via.rsplit("_", 2)[0]] = signal
    names: list[str] = []
    signals: list[int] = []
    for name, edge in parts.edges.items():
        signal = owner.get(name.rsplit("_", 1)[0]) if edge.inside else None
        if signal is not None:
            names += [f"{name}_{at}" for at in range(len(edge.lanes))]
            signals += [signal] * len(edge.lanes)
    return tuple(names), np.array(signals, dtype=np.int64)


def lane_ids(net: Path, network: Network) -> tuple[str, ...]:
    """``[P]`` SUMO's id of every lane of ``network``.

    A network holds the lanes that passenger cars may use. Where it leaves out a footway or a bus
    lane, its numbering differs from SUMO's, so the places are taken from the file.

    Raises:
        DataError: not a SUMO network.
        ValueError: a link has another number of such lanes in the file than in ``network``.
    """
    edges = read_parts(net).edges
    names: list[str] = []
    for link, lanes in zip(network.links, network.lanes.tolist(), strict=True):
        edge = edges.get(link)
        places = [at for at, lane in enumerate(edge.lanes) if lane.cars] if edge else []
        if len(places) != lanes:
            raise ValueError(
                f"link {link!r} has {lanes} lanes, but {len(places)} lanes for cars in {net}; "
                "name SUMO's lanes with SumoEngine.lanes()"
            )
        names += [f"{link}_{at}" for at in places]
    return tuple(names)
