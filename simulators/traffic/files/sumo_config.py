"""SUMO scenarios (``.sumocfg``): which network, which demand, from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import DataError
from ..demand import Demand
from ..network import Network
from .sumo_departures import read_time
from .sumo_net import read_sumo_net
from .sumo_routes import read_sumo_routes
from .sumo_xml import Tag, read_tags

_OPTIONS = {
    "net-file": "net-file",
    "net": "net-file",
    "n": "net-file",
    "route-files": "route-files",
    "routes": "route-files",
    "r": "route-files",
    "additional-files": "additional-files",
    "additional": "additional-files",
    "a": "additional-files",
    "begin": "begin",
    "b": "begin",
    "end": "end",
    "e": "end",
}
"""Ways to write an option, and its name."""
_VALUES = ("value", "v")
_OPEN_END = "-1"


@dataclass(frozen=True, slots=True)
class SumoFiles:
    """What a configuration names.

    Attributes:
        network: the ``.net.xml``; routes: additional files and route files, in order of loading.
        begin: s of SUMO's clock; end: the same, ``None`` where the configuration has none.
    """

    network: Path
    routes: tuple[Path, ...]
    begin: float
    end: float | None


def read_sumo_files(path: str | Path) -> SumoFiles:
    """Read the options for the network file, route files, additional files, begin and end.

    Files are relative to the configuration.

    Raises:
        DataError: malformed XML, no network or no route file named, or an end that is not after
            the begin.
    """
    path = Path(path)
    options = _options(path)
    for name in ("net-file", "route-files"):
        if name not in options:
            raise DataError(path, field=name, accepted="missing; this option is required")
    (network,) = _files(path, options["net-file"])[:1]
    begin = read_time(options["begin"], "value") if "begin" in options else 0.0
    last = options.get("end")
    end = None if last is None or last.values["value"] == _OPEN_END else read_time(last, "value")
    if last is not None and end is not None and end <= begin:
        last.fail("value", f"an end after the begin at {begin:g} is expected")
    routes = [
        file
        for name in ("additional-files", "route-files")
        if name in options
        for file in _files(path, options[name])
    ]
    return SumoFiles(network, tuple(routes), begin, end)


def read_sumo_scenario(
    path: str | Path, *, unroutable: Literal["raise", "drop"] = "raise"
) -> tuple[Network, Demand]:
    """Read a configuration with its network and its demand; see :func:`read_sumo_files`.

    Args:
        path: of the ``.sumocfg``, plain or gzip.
        unroutable: whether a trip without a way is an error or dropped.

    Raises:
        DataError: malformed XML, options that are missing, a file that cannot be read; and
            whatever is wrong inside those files.
    """
    files = read_sumo_files(path)
    network = read_sumo_net(files.network)
    demand = read_sumo_routes(
        files.routes, network, begin=files.begin, end=files.end, unroutable=unroutable
    )
    return network, demand


def _options(path: Path) -> dict[str, Tag]:
    """Options that are read, by name, whatever section they are in; the value is ``value``."""
    found: dict[str, Tag] = {}
    for section in read_tags(path, ("configuration", "sumoConfiguration")):
        for tag in (section, *section.children):
            if tag.name in _OPTIONS:
                value = next((tag.values[name] for name in _VALUES if name in tag.values), "")
                tag.values["value"] = value.strip()
                found[_OPTIONS[tag.name]] = tag
    return found


def _files(path: Path, tag: Tag) -> list[Path]:
    """Files named by an option, separated by commas (or, as SUMO allows, blanks)."""
    names = [name.strip() for name in tag.text("value").split(",") if name.strip()]
    if not names:
        tag.fail("value", "the name of a file is expected")
    return [path.parent / name for name in names]
