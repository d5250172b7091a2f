"""The engine: one SUMO in a child process, advanced decision by decision from here.

libsumo allows one simulation per process and may take its process down with it. In a child, any
number of engines run side by side, and a crash is an error with SUMO's last words.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ...errors import DataError
from ..network import Network
from ..readings import Readings
from .child import Child
from .install import Backend, Installation, find_sumo
from .lanes import lane_ids
from .protocol import TRIPINFO, Message
from .street import FIELDS
from .tripinfo import Planned, TripReport, read_planned, read_tripinfo, summary

_SEEDS = 2**31

FIXED = (
    "--net-file",
    "--route-files",
    "--begin",
    "--end",
    "--seed",
    "--step-length",
    "--tripinfo-output",
    "--tripinfo-output.write-unfinished",
    "--mesosim",
    "--remote-port",
)
"""Options of SUMO that only the engine sets."""

Change = tuple[int, str, str]
"""(second of the interval, signal, state): shown from that second on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What happened in the last ``advance``, and how many there are after it.

    Attributes:
        time: s of SUMO's clock.
        departed, arrived: vehicles that entered, that reached their destination.
        teleports: vehicles that SUMO began to move by magic (after a collision; never for waiting).
        collisions: vehicles in a collision, summed over the seconds.
        running: vehicles on the streets now.
        pending: vehicles that wait to enter now.
    """

    time: float
    departed: int = 0
    arrived: int = 0
    teleports: int = 0
    collisions: int = 0
    running: int = 0
    pending: int = 0


class SumoEngine:
    """SUMO under our control; a context manager.

    One step is 1 s; nobody is teleported for waiting, so gridlock stays visible, as in RESCO, and
    SUMO's own tripinfo output is the source of all figures of :meth:`finish`.

    Args:
        net: ``.net.xml``; routes: route files, in order of loading.
        begin, end: s of SUMO's clock between which is simulated.
        network: gives the lanes to read, unless :meth:`lanes` names them.
        backend: ``libsumo`` or ``traci``.
        binary: another ``sumo`` program for ``traci``.
        mesoscopic: SUMO's queue model instead of car following. It has no vehicles on lanes, so
            there are no readings; signals work.
        options: further words of SUMO's command line, ``("--name", "value", ...)`` in the long
            form; they replace ours of the same name, except those the engine relies on.

    Raises:
        ModuleNotFoundError: SUMO is not installed; names the remedy.
        DataError: a file that does not exist, or a binary that is no SUMO.
        ValueError: an interval that is none, an unknown backend, or an option of :data:`FIXED`.
    """

    def __init__(
        self,
        *,
        net: Path,
        routes: Sequence[Path],
        begin: float,
        end: float,
        network: Network | None = None,
        backend: Backend = "libsumo",
        binary: Path | None = None,
        mesoscopic: bool = False,
        options: tuple[str, ...] = (),
    ) -> None:
        for path in (net, *routes):
            if not path.is_file():
                raise DataError(path, accepted="no such file; an existing one is expected")
        if not 0.0 <= begin < end:
            raise ValueError(f"begin {begin}, end {end}: expected 0 <= begin < end")
        for name in options:
            if name in FIXED:
                raise ValueError(f"option {name} is the engine's own and cannot be replaced")
        self.installation: Installation = find_sumo(backend, binary)
        self.begin, self.end = begin, end
        self._net, self._routes = net, tuple(routes)
        self._mesoscopic = mesoscopic
        self._options = options
        self._lanes: tuple[str, ...] = ()
        if network is not None and not mesoscopic:
            self._lanes = lane_ids(net, network)
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-sumo-")
        self._closed = False
        self._child: Child | None = None
        self._seed: int | None = None
        self._signals: dict[str, int] = {}
        self._counters = Counters(time=begin)
        self._planned: Planned | None = None

    @property
    def version(self) -> str:
        """What stands beside results, for example ``SUMO 1.28.0 (libsumo)``."""
        return self.installation.label

    @property
    def counters(self) -> Counters:
        """Of the last :meth:`advance`; after :meth:`reset` only the time."""
        return self._counters

    @property
    def time(self) -> float:
        """Seconds of SUMO's clock."""
        return self._counters.time

    @property
    def signals(self) -> dict[str, int]:
        """Signals that SUMO has loaded, with the number of letters in their states."""
        return dict(self._signals)

    def reset(self, seed: int) -> None:
        """Start the simulation anew; ``seed`` decides every random draw of SUMO.

        Raises:
            RuntimeError: SUMO does not accept the files or options; its own words are in it.
        """
        if not 0 <= seed < _SEEDS:
            raise ValueError(f"seed {seed}: expected 0..{_SEEDS - 1}")
        self._seed = None
        binary = self.installation.binary
        reply = self._ask(
            {
                "do": "start",
                "binary": None if binary is None else str(binary),
                "options": self._command(int(seed)),
                "mesoscopic": self._mesoscopic,
            }
        )
        self._signals = dict(reply.header["signals"])
        self._counters = Counters(time=float(reply.header["time"]))
        if self._lanes:
            self._ask({"do": "lanes", "names": list(self._lanes)})
        self._seed = int(seed)

    def lanes(self, names: Sequence[str]) -> None:
        """Read these lanes (SUMO's ids), in this order, now and after every :meth:`reset`.

        Raises:
            ValueError: a lane that SUMO has not loaded, or one named twice; said here if a
                simulation runs, else by ``reset``.
        """
        if self._seed is not None:
            self._ask({"do": "lanes", "names": list(names)})
        self._lanes = tuple(names)

    def set_states(self, states: Mapping[str, str]) -> None:
        """Let signals show these states until told otherwise; their own programmes are then off.

        Raises:
            ValueError: an unknown signal or a state of another length; then none was set.
        """
        self._need_run()
        self._ask({"do": "states", "states": dict(states)})

    def advance(self, seconds: int, states: Sequence[Change] = ()) -> Readings:
        """Simulate ``seconds``, showing ``states`` on the way; the readings are those of the end.

        Args:
            seconds: at least 1; how far ``soon`` looks ahead.
            states: ``(offset, signal, state)``; shown from second ``offset`` of this interval on,
                ``0 <= offset < seconds``; of two for the same signal and second the later wins.

        Raises:
            ValueError: beyond ``end``, a bad offset, signal or state; then no time has passed.
            RuntimeError: SUMO crashed; its last words are in it.
        """
        self._need_run()
        if seconds < 1 or self.time + seconds > self.end:
            raise ValueError(
                f"{seconds} s from {self.time:g} on: expected at least 1 and no further than "
                f"{self.end:g}"
            )
        for offset, name, _ in states:
            if not 0 <= offset < seconds:
                raise ValueError(f"signal {name!r}: offset {offset}, expected 0..{seconds - 1}")
        schedule = [(int(offset), name, state) for offset, name, state in states]
        return self._advance(int(seconds), schedule, float(seconds))

    def read(self, horizon: float) -> Readings:
        """Readings now; ``soon`` looks ``horizon`` s ahead. For the first decision of a run."""
        self._need_run()
        return self._advance(0, [], float(horizon))

    def finish(self) -> TripReport:
        """End the run and say what became of the trips; vehicles on the way count as unfinished.

        Figures are as of the present time, which may be before ``end``.
        """
        seed = self._need_run()
        self._ask({"do": "stop"})
        self._seed = None
        if self._planned is None:
            self._planned = read_planned(self._routes, self.begin)
        return summary(
            read_tripinfo(self._tripinfo),
            self._planned,
            begin=self.begin,
            end=self.time,
            version=self.version,
            seed=seed,
        )

    def close(self) -> None:
        """End SUMO and remove its files; harmless if done already."""
        child, self._child, self._seed = self._child, None, None
        self._closed = True
        if child is not None:
            child.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _tripinfo(self) -> Path:
        return Path(self._folder.name) / TRIPINFO

    def _command(self, seed: int) -> list[str]:
        """SUMO's options; it refuses one that is given twice."""
        ours = {
            "--net-file": str(self._net),
            "--route-files": ",".join(map(str, self._routes)),
            "--begin": str(self.begin),
            "--end": str(self.end),
            "--seed": str(seed),
            "--step-length": "1",
            "--time-to-teleport": "-1",
            "--no-warnings": "true",
            "--no-step-log": "true",
            "--duration-log.disable": "true",
            "--xml-validation": "never",
            "--tripinfo-output": str(self._tripinfo),
            "--tripinfo-output.write-unfinished": "true",
        }
        if not self._routes:
            del ours["--route-files"]
        if self._mesoscopic:
            # Without junction control the queue model drives through red.
            ours |= {"--mesosim": "true", "--meso-junction-control": "true"}
        kept = [(name, value) for name, value in ours.items() if name not in self._options]
        return [*(word for pair in kept for word in pair), *self._options]

    def _advance(self, seconds: int, schedule: list[Change], horizon: float) -> Readings:
        reply = self._ask(
            {"do": "advance", "seconds": seconds, "schedule": schedule, "horizon": horizon}
        )
        self._counters = Counters(**reply.header)
        return Readings(**dict(zip(FIELDS, reply.arrays["readings"], strict=True)))

    def _need_run(self) -> int:
        if self._seed is None:
            raise RuntimeError("no run is under way: call reset(seed) first")
        return self._seed

    def _ask(self, request: dict[str, object]) -> Message:
        """One round trip; starts a child if there is none."""
        if self._closed:
            raise RuntimeError("the engine is closed")
        if self._child is None:
            self._child = Child(Path(self._folder.name), self.installation.home)
        try:
            return self._child.ask(request)
        finally:
            if not self._child.alive:
                self._child = self._seed = None
