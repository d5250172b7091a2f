"""SUMO's ids of a network's lanes, read from the net file that the network came from."""

from __future__ import annotations

from pathlib import Path

from ..network import Network
from .elements import scan

_EVERYBODY = "all"
_CAR = "passenger"


def lane_ids(net: Path, network: Network) -> tuple[str, ...]:
    """``[P]`` SUMO's id of every lane of ``network``.

    A network holds the lanes that passenger cars may use. Where it leaves out a footway or a bus
    lane, its numbering differs from SUMO's, so the ids are taken from the file.

    Raises:
        DataError: not well-formed XML.
        ValueError: a link has another number of such lanes in the file than in ``network``.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    edge = ""

    def element(tag: str, attributes: dict[str, str], _line: int) -> None:
        nonlocal edge
        if tag == "edge":
            edge = attributes.get("id", "")
        elif tag == "lane" and edge in network.link_index and _open_to_cars(attributes):
            index = int(attributes.get("index", "0"))
            found.setdefault(edge, []).append((index, attributes.get("id", f"{edge}_{index}")))

    scan(net, element)
    names: list[str] = []
    for link, lanes in zip(network.links, network.lanes.tolist(), strict=True):
        own = sorted(found.get(link, []))
        if len(own) != lanes:
            raise ValueError(
                f"link {link!r} has {lanes} lanes, but {len(own)} lanes for cars in {net}; "
                "name SUMO's lanes with SumoEngine.lanes()"
            )
        names.extend(name for _, name in own)
    return tuple(names)


def _open_to_cars(attributes: dict[str, str]) -> bool:
    allowed, forbidden = attributes.get("allow"), attributes.get("disallow")
    if allowed is not None:
        return not {_CAR, _EVERYBODY}.isdisjoint(allowed.split())
    return forbidden is None or {_CAR, _EVERYBODY}.isdisjoint(forbidden.split())
