"""SUMO on the grids of the speed bench: the same streets, vehicles and fixed plan, on one core.

The grid is exported and SUMO runs the plan of its net file. Timed are its model of every car
(``micro``), once left alone and once with the detector readings that agents need, taken every
interval; and its queue model (``meso``), which puts no vehicle on a lane, so has no readings.
The time is that of SUMO's process and, while it is spoken to, of this one; loading is not counted.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...simulators.traffic.files.sumo_config import SumoFiles, read_sumo_files
from ...simulators.traffic.files.sumo_export import export_sumo
from ...simulators.traffic.sumo.lanes import lane_ids
from ...simulators.traffic.sumo.process import SumoEngine
from ...simulators.traffic.town import Town
from ..rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """s before the first window, of a window, between readings; how many windows; SUMO's seed."""

    filled: int
    seconds: int
    windows: int
    interval: int
    seed: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Simulated seconds per second of the fastest window, and vehicles on the streets, mean."""

    best: float
    vehicles: float


class ClockedEngine(SumoEngine):
    """An engine that knows what its process has used."""

    def busy(self) -> float:
        """Processor time of SUMO's process and of this one, s."""
        # Linux numbers the processor clock of another process so; its C library hides the formula.
        clock = (~self._pid() << 3) | 2
        return time.clock_gettime(clock) + time.process_time()

    def peak_memory(self) -> float:
        """MiB of SUMO's process, at most so far."""
        lines = Path(f"/proc/{self._pid()}/status").read_text(encoding="ascii").splitlines()
        words = dict(line.split(":", 1) for line in lines)
        return float(words["VmHWM"].split()[0]) / 1024.0

    def _pid(self) -> int:
        if self._child is None:
            raise RuntimeError("no run is under way: call reset(seed) first")
        return self._child.pid


def sumo_rows(name: str, town: Town, timing: Timing, ours: float) -> list[Row]:
    """Export the town, time SUMO on it.

    Args:
        name: of the rows.
        town: generated streets and their vehicles.
        timing: what is timed.
        ours: simulated seconds per second of our streets with the same plan and readings.

    Raises:
        ModuleNotFoundError: SUMO is not installed; names the remedy.
    """
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        files = read_sumo_files(export_sumo(town.network, town.demand, folder, name="grid"))
        with _engine(files, town, mesoscopic=False) as engine:
            version = engine.version
            engine.reset(timing.seed)
            engine.advance(timing.filled)
            alone = _speed(engine, timing, timing.seconds)
            engine.lanes(lane_ids(files.network, town.network))
            read = _speed(engine, timing, timing.interval)
            micro = engine.peak_memory()
        with _engine(files, town, mesoscopic=True) as engine:
            engine.reset(timing.seed)
            engine.advance(timing.filled)
            meso = _speed(engine, timing, timing.seconds)
            small = engine.peak_memory()
    rows = [Row.info(f"{name}: version", version, "")]
    for kind, speed in (
        ("micro", alone),
        (f"micro with readings every {timing.interval} s", read),
        ("meso, no readings", meso),
    ):
        rows += [
            Row.info(f"{name} {kind}: simulated seconds", speed.best, "1/s"),
            Row.info(f"{name} {kind}: vehicles on the streets", speed.vehicles, "1"),
            Row.info(f"{name} {kind}: our streets with readings over it", ours / speed.best, "1"),
        ]
    return [
        *rows,
        Row.info(f"{name} micro: peak memory", micro, "MiB"),
        Row.info(f"{name} meso, no readings: peak memory", small, "MiB"),
    ]


def _engine(files: SumoFiles, town: Town, *, mesoscopic: bool) -> ClockedEngine:
    return ClockedEngine(
        net=files.network,
        routes=files.routes,
        begin=files.begin,
        end=files.begin + town.scenario.seconds,
        mesoscopic=mesoscopic,
    )


def _speed(engine: ClockedEngine, timing: Timing, step: int) -> Speed:
    """Time the windows, in steps of so many s."""
    speeds: list[float] = []
    vehicles: list[int] = []
    for _ in range(timing.windows):
        begin = engine.busy()
        for _ in range(timing.seconds // step):
            engine.advance(step)
        speeds.append(timing.seconds / (engine.busy() - begin))
        vehicles.append(engine.counters.running)
    return Speed(max(speeds), float(np.mean(vehicles)))
