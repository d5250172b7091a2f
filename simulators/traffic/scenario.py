"""Traffic scenarios as values: which streets, who drives, how signals may change."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from ..settings import Settings, knob
from .driving import Driving
from .timing import TimingSettings


class SumoSettings(Settings):
    """How SUMO is run, where it is the plant."""

    backend: Literal["libsumo", "traci"] = knob(
        "libsumo", "libsumo (in a child process, fast) or traci (any sumo program)"
    )
    binary: str | None = knob(None, "another sumo program, for traci (none: the installed package)")


class TrafficScenario(Settings):
    """What every traffic scenario has."""

    seconds: float = knob(
        3600.0, "length of an episode", unit="s", usual="1200..3600", gt=0, le=86400
    )
    interval: float = knob(
        10.0, "time between two decisions of a signal", unit="s", usual="5..15", ge=2, le=60
    )
    scale: float = knob(
        1.0,
        "multiple of the demand: vehicles are left out or doubled at random",
        usual="0.3..1.3",
        gt=0,
        le=5,
    )
    jitter: float = knob(
        0.0,
        "standard deviation by which departures move from seed to seed",
        unit="s",
        usual="0..60",
        ge=0,
    )
    plant: Literal["streets", "sumo"] = knob(
        "streets", "what moves the vehicles: our own streets, or SUMO (extra sumo)"
    )
    sumo: SumoSettings = knob(SumoSettings(), "how SUMO is run")
    timing: TimingSettings = knob(TimingSettings(), "what every change of a signal keeps to")
    driving: Driving = knob(Driving(), "how queues discharge, spill back and give way")

    @model_validator(mode="after")
    def _changes_fit(self) -> Self:
        between = self.timing.yellow + self.timing.all_red
        if between > self.interval - 1.0:
            raise ValueError(
                f"timing.yellow and timing.all_red together are {between:g} s; at most "
                f"interval - 1 = {self.interval - 1.0:g} s, so that a change leaves some green"
            )
        return self


class GridScenario(TrafficScenario):
    """A generated grid of signals with random demand: no file is needed."""

    name: Literal["grid"] = knob("grid", "scenario name")
    rows: int = knob(4, "rows of signals", usual="2..32", ge=1, le=64)
    columns: int = knob(4, "columns of signals", usual="2..32", ge=1, le=64)
    lanes: int = knob(2, "lanes of every link", usual="1..3", ge=1, le=3)
    spacing: float = knob(200.0, "distance between signals", unit="m", usual="100..400", ge=60)
    rate: float = knob(
        400.0, "vehicles that enter at every edge of the grid", unit="1/h", usual="200..800", gt=0
    )
    mixed: bool = knob(False, "some signals have permissive, others protected left turns")
    city: int = knob(0, "seed of what is random about the streets themselves", ge=0)


class ArterialScenario(TrafficScenario):
    """A generated main road with side roads; signals differ in their phases."""

    name: Literal["arterial"] = knob("arterial", "scenario name")
    signals: int = knob(8, "signals along the main road", usual="2..32", ge=2, le=128)
    spacing: float = knob(250.0, "distance between signals", unit="m", usual="100..500", ge=60)
    rate: float = knob(800.0, "vehicles that enter at both ends of the main road", unit="1/h", gt=0)
    side_rate: float = knob(200.0, "vehicles that enter at every side road", unit="1/h", gt=0)
    city: int = knob(0, "seed of what is random about the streets themselves", ge=0)


class FileScenario(TrafficScenario):
    """Streets and demand from files."""

    data: str | None = knob(None, "folder with the data (none: FAIRLEAD_DATA)")


class SumoScenario(FileScenario):
    """Any SUMO scenario: a .sumocfg file, or a folder with one."""

    name: Literal["sumo"] = knob("sumo", "scenario name")
    config: str = knob("cologne8.sumocfg", "a .sumocfg file; looked up in the data folder")


class Cologne1Scenario(FileScenario):
    """RESCO's Cologne junction: one signal, the morning hour."""

    name: Literal["cologne1"] = knob("cologne1", "scenario name")


class Cologne3Scenario(FileScenario):
    """RESCO's Cologne corridor: three signals, the morning hour.

    One of its junctions is 30 m wide and locks in SUMO if a green ends while cars wait inside.
    """

    name: Literal["cologne3"] = knob("cologne3", "scenario name")
    timing: TimingSettings = knob(
        TimingSettings(clear_inside=40.0), "what every change of a signal keeps to"
    )


class Cologne8Scenario(FileScenario):
    """RESCO's Cologne district: eight signals, the morning hour."""

    name: Literal["cologne8"] = knob("cologne8", "scenario name")


class JinanScenario(FileScenario):
    """Jinan, 12 signals, from CityFlow files."""

    name: Literal["jinan"] = knob("jinan", "scenario name")
    jitter: float = knob(
        10.0,
        "standard deviation by which departures move; the files have no chance in them",
        unit="s",
    )
    flow: Literal["real", "real_2000", "real_2500"] = knob("real", "which of its flow files")


class HangzhouScenario(FileScenario):
    """Hangzhou, 16 signals, from CityFlow files."""

    name: Literal["hangzhou"] = knob("hangzhou", "scenario name")
    jitter: float = knob(
        10.0,
        "standard deviation by which departures move; the files have no chance in them",
        unit="s",
    )
    flow: Literal["real", "real_5816"] = knob("real", "which of its flow files")


class ManhattanScenario(FileScenario):
    """Manhattan's 28 x 7 grid: 196 signals; the full demand jams it. Needs the extra sumo."""

    name: Literal["manhattan"] = knob("manhattan", "scenario name")
    scale: float = knob(0.4, "multiple of the demand", usual="0.3..0.5", gt=0, le=5)


Scenario = (
    GridScenario
    | ArterialScenario
    | SumoScenario
    | Cologne1Scenario
    | Cologne3Scenario
    | Cologne8Scenario
    | JinanScenario
    | HangzhouScenario
    | ManhattanScenario
)
