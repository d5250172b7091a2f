"""SUMO as the street: seconds that pass, lamps that are set, detectors that are read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ...simulators.traffic.files.sumo_config import read_sumo_files
from ...simulators.traffic.files.sumo_export import export_sumo
from ...simulators.traffic.readings import Readings
from ...simulators.traffic.sumo.process import Counters, SumoEngine
from ...simulators.traffic.sumo.tripinfo import TripReport
from ...simulators.traffic.timing import Change
from ...simulators.traffic.town import Town
from ..files import UserError

STEP = 1.0
"""s of one step of the street."""


class Street:
    """A scenario's streets in SUMO; a context manager.

    Generated and converted streets are written for SUMO first. ``scale`` of the scenario becomes
    SUMO's own; ``jitter`` is none of a street's.

    Args:
        town: streets and demand.
        seconds: length of a run; ``None``: the scenario's.

    Raises:
        UserError: durations that are no whole seconds.
        ModuleNotFoundError: SUMO is not installed; names the remedy.
        DataError: files that SUMO or we cannot read.
    """

    def __init__(self, town: Town, *, seconds: float | None = None) -> None:
        scenario, timing = town.scenario, town.scenario.timing
        self.seconds = int(scenario.seconds if seconds is None else seconds)
        for name, value in (
            ("interval", scenario.interval),
            ("timing.yellow", timing.yellow),
            ("timing.all_red", timing.all_red),
        ):
            if value != int(value):
                raise UserError(f"SUMO runs in whole seconds; {name} is {value:g} s")
        self.town = town
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-street-")
        source = town.source
        if source is None:
            folder = Path(self._folder.name)
            source = export_sumo(town.network, town.demand, folder, name=scenario.name)
        files = read_sumo_files(source)
        binary = scenario.sumo.binary
        self._engine = SumoEngine(
            net=files.network,
            routes=files.routes,
            begin=files.begin,
            end=files.begin + self.seconds,
            network=town.network,
            backend=scenario.sumo.backend,
            binary=None if binary is None else Path(binary),
            options=("--scale", f"{scenario.scale:g}") if scenario.scale != 1.0 else (),
        )

    @property
    def version(self) -> str:
        """Of SUMO, with the backend."""
        return self._engine.version

    def begin(self, seed: int) -> None:
        """Start anew, every signal in its first green phase."""
        self._engine.reset(seed)
        signals = self.town.network.signals
        self._engine.set_states({signal.name: signal.greens[0] for signal in signals})

    def read(self) -> Readings:
        """Detectors now; ``soon`` looks a decision interval ahead."""
        return self._engine.read(self.town.scenario.interval)

    def pass_second(self, due: Sequence[Change]) -> tuple[Readings, Counters]:
        """Let a second pass in which these changes are shown; detectors and counts at its end."""
        signals = self.town.network.signals
        states = [(0, signals[change.signal].name, change.state) for change in due]
        return self._engine.advance(int(STEP), states), self._engine.counters

    @property
    def counters(self) -> Counters:
        """Of the last second."""
        return self._engine.counters

    def finish(self) -> TripReport:
        """What became of the trips so far; ends the run."""
        return self._engine.finish()

    def close(self) -> None:
        """End SUMO and remove its files."""
        self._engine.close()
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
