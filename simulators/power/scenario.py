"""Power scenarios as values: which grid, which days, what may go wrong, what it costs."""

from __future__ import annotations

from typing import Literal

from ..settings import Settings, knob
from .response import SwingSettings


class Prices(Settings):
    """Prices of what the fuel bill does not hold; all in $/MWh."""

    shed: float = knob(5000.0, "value of lost load", unit="$/MWh", usual="1000..20000", ge=0)
    surplus: float = knob(
        250.0, "generation that nobody takes", unit="$/MWh", usual="50..1000", ge=0
    )
    overload: float = knob(
        500.0,
        "flow above a branch's limit (0: limits do not matter)",
        unit="$/MWh",
        usual="100..5000",
        ge=0,
    )
    curtailment: float = knob(
        5.0, "wind, sun or water that is available and not used", unit="$/MWh", ge=0
    )
    imbalance: float = knob(
        20.0,
        "energy that regulation moves because the dispatch met another demand than forecast",
        unit="$/MWh",
        usual="0..50",
        ge=0,
    )
    reserve: float = knob(
        200.0, "spinning reserve that is missing", unit="$/MWh", usual="50..2000", ge=0
    )


class Outages(Settings):
    """What fails at random."""

    units: bool = knob(True, "units fail and are repaired with their own MTTF and MTTR")
    branches: bool = knob(True, "branches fail with their own outage rates")
    scale: float = knob(
        1.0, "multiple of every failure rate", unit="1", usual="0.5..20", gt=0, le=1000
    )


class Regulation(SwingSettings):
    """The seconds between two dispatches: frequency, governors, AGC, load shedding."""

    simulated: bool = knob(
        False, "simulate frequency and automatic generation control inside every interval"
    )
    inertia: float = knob(
        4.0,
        "stored energy of committed units whose data give none, per MW of capacity",
        unit="s",
        usual="2..6",
        gt=0,
    )


class Transmission(Settings):
    """What happens to set-points on their way to the units."""

    delay: float = knob(
        0.0, "delay of a set-point, less than an interval", unit="s", usual="0..30", ge=0
    )
    loss: float = knob(
        0.0,
        "share of set-points that get lost; their units go on with the last one",
        unit="1",
        usual="0..0.05",
        ge=0,
        lt=1,
    )
    expiry: int = knob(
        3,
        "intervals after which a set-point no longer holds; its unit then stays where it is",
        unit="intervals",
        usual="1..12",
        ge=1,
    )


class PowerScenario(Settings):
    """What every power scenario has."""

    hours: int = knob(24, "length of an episode", unit="h", usual="6..168", ge=1, le=744)
    interval: float = knob(300.0, "time between two dispatches", unit="s", usual="300", gt=0)
    leads: int = knob(
        12, "intervals that forecasts look ahead", unit="intervals", usual="6..24", ge=1, le=96
    )
    forecast_error: float = knob(
        1.0, "multiple of the measured forecast errors (0: perfect)", usual="0..3", ge=0
    )
    network: bool = knob(True, "branches have limits; off: copper plate")
    limit_scale: float = knob(
        1.0, "multiple of every branch limit; below 1 congests", usual="0.5..1", gt=0
    )
    projection: Literal["balance", "network"] = knob(
        "balance",
        "what is done to the joint set points: balance (meet the forecast demand), network (also "
        "take off overloads where that is possible)",
    )
    reserve_margin: float = knob(
        0.06, "committed capacity above the forecast net load", usual="0..0.2", ge=0
    )
    renewable_margin: float = knob(
        0.15,
        "committed capacity for renewables that do not come, as a share of their forecast",
        usual="0..0.3",
        ge=0,
    )
    prices: Prices = knob(Prices(), "prices")
    outages: Outages = knob(Outages(), "failures")
    regulation: Regulation = knob(Regulation(), "frequency and generation control")
    telemetry: Transmission = knob(Transmission(), "transmission of set-points")
    batteries: int = knob(
        0, "additional batteries, 50 MW and 4 h each, at the largest loads", usual="0..50", ge=0
    )
    flexible: float = knob(
        0.0,
        "share of every large bus's load that can be shifted by up to 2 h (an agent each)",
        usual="0..0.1",
        ge=0,
        le=0.5,
    )


class GeneratedScenario(PowerScenario):
    """A generated system of any size, with days generated from the seed: no file is needed."""

    name: Literal["generated"] = knob("generated", "scenario name")
    units: int = knob(50, "generating units", usual="10..600", ge=10, le=2000)
    system: int = knob(0, "seed of the system itself", ge=0)


class RtsScenario(PowerScenario):
    """RTS-GMLC: 73 buses, 158 units, the year 2020 in five-minute steps."""

    name: Literal["rts-gmlc"] = knob("rts-gmlc", "scenario name")
    data: str | None = knob(None, "folder with the data (none: FAIRLEAD_DATA)")
    commitment: Literal["priority", "plexos"] = knob(
        "priority",
        "who commits units: priority (a priority list on the day-ahead forecast), plexos (the "
        "reference solution's commitment; days 5 to 14 July only)",
    )
    days: tuple[str, ...] = knob(
        (),
        "days as YYYY-MM-DD that episodes are drawn from, for training and evaluation alike "
        "(empty: the year; evaluation has every fourth day, training the others)",
    )


class ActivsgScenario(PowerScenario):
    """ACTIVSg2000: 2,000 buses, over 400 units in service, a year of hourly area loads."""

    name: Literal["activsg2000"] = knob("activsg2000", "scenario name")
    data: str | None = knob(None, "folder with the data (none: FAIRLEAD_DATA)")


class CaliforniaScenario(PowerScenario):
    """California's 610 thermal units on a copper plate (PGLib-UC, 1 September 2014)."""

    name: Literal["california"] = knob("california", "scenario name")
    network: bool = knob(False, "there is none in the data")
    data: str | None = knob(None, "folder with the data (none: FAIRLEAD_DATA)")


class Grid2opScenario(PowerScenario):
    """Grid and chronics of a Grid2Op environment (needs the extra grid2op), all units connected."""

    name: Literal["grid2op"] = knob("grid2op", "scenario name")
    environment: str = knob(
        "l2rpn_case14_sandbox", "name of an environment that comes with the package"
    )
    limit_scale: float = knob(
        0.85, "multiple of every branch limit; the rest is left to reactive flows", gt=0
    )


Scenario = GeneratedScenario | RtsScenario | ActivsgScenario | CaliforniaScenario | Grid2opScenario
