"""Power dynamics against closed forms: frequency after a loss, its control, unavailability."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ...simulators.calendar import Calendar
from ...simulators.interface import Doubles
from ...simulators.power.failures import HOUR, YEAR_HOURS, Failures, unavailability
from ...simulators.power.files.rts_gmlc import read_grid
from ...simulators.power.response import Online, ShedStage, SwingSettings
from ...simulators.power.swing import Swing
from ...simulators.streams import Streams
from ...simulators.tables import search_folders
from ..rows import Row
from .suites import Check

YEARS = 50.0
TABLE = {
    "oil-st": (2940.0, 60.0),
    "oil-ct": (450.0, 50.0),
    "coal 76": (1960.0, 40.0),
    "coal 155": (960.0, 40.0),
    "coal 350": (1150.0, 100.0),
    "nuclear": (1100.0, 150.0),
    "gas-ct": (969.0, 31.0),
    "gas-cc": (967.0, 33.0),
    "hydro": (1980.0, 20.0),
}
"""MTTF and MTTR, h, of RTS-GMLC's technologies: taken where no data folder holds its table."""

SETTINGS = SwingSettings(dead_band=0.0, shedding=())
STAGE = ShedStage(frequency=59.5, share=0.05)
ONLINE = Online(
    inertia=15000.0, load=4000.0, capacity=5000.0, regulation_up=200.0, regulation_down=200.0
)
UNCONTROLLED = replace(ONLINE, regulation_up=0.0, regulation_down=0.0)
LOSSES = (100.0, 400.0, -150.0)
DAMPING = SETTINGS.damping * ONLINE.load / SETTINGS.nominal
GOVERNOR = ONLINE.capacity / (SETTINGS.droop * SETTINGS.nominal)


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """Swing, control and failures; the units are RTS-GMLC's where ``data`` holds them."""
    del quick  # All of it takes a second.
    return [
        Check("frequency after a loss", frequency, 0.1),
        Check("automatic generation control", control, 0.1),
        Check("load shedding", shedding, 0.1),
        Check("unavailability of units", partial(failures, data), 1.0),
    ]


def frequency() -> list[Row]:
    """Initial rate of change and steady state after a sudden loss."""
    rows: list[Row] = []
    short = SETTINGS.model_copy(update={"tick": 1e-4, "steps": 1})
    for loss in LOSSES:
        slope = Swing(short).step(-loss, ONLINE, ticks=1).frequency[0] - SETTINGS.nominal
        expected = -loss * SETTINGS.nominal / (2.0 * ONLINE.inertia)
        rows.append(
            Row.near(
                f"initial rate of change after losing {loss:g} MW",
                slope / short.tick,
                "Hz/s",
                expected,
                0.01 * abs(expected),
            )
        )
        settled = Swing(SETTINGS).step(-loss, UNCONTROLLED, ticks=150).frequency[-1]
        expected = -loss / (DAMPING + GOVERNOR)
        rows.append(
            Row.near(
                f"steady deviation after losing {loss:g} MW",
                settled - SETTINGS.nominal,
                "Hz",
                expected,
                0.01 * abs(expected),
            )
        )
    return rows


def control() -> list[Row]:
    """The control brings frequency back and stays in its range."""
    rows: list[Row] = []
    for band in (0.0, 0.015):
        settings = SETTINGS.model_copy(update={"dead_band": band})
        result = Swing(settings).step(-100.0, ONLINE, ticks=300)
        name = f"20 min after losing 100 MW, dead band {band:g} Hz"
        rows += [
            Row.near(f"{name}: frequency", result.frequency[-1], "Hz", SETTINGS.nominal, 1e-3),
            Row.near(f"{name}: control", result.agc[-1], "MW", 100.0, 1.0),
        ]
    order = Swing(SETTINGS).step(-100.0, ONLINE, ticks=75).agc
    missing = 100.0 - order[20:40]
    kept = float(np.mean(missing[1:] / missing[:-1]))
    expected = 1.0 - SETTINGS.tick / SETTINGS.integral
    rows.append(Row.near("what control has to do yet, kept a tick", kept, "1", expected, 0.01))
    top = Swing(SETTINGS).step(-600.0, ONLINE, ticks=75).agc.max()
    rows.append(Row.at_most("largest order", top, "MW", ONLINE.regulation_up))
    return rows


def shedding() -> list[Row]:
    """A stage acts where frequency crosses it, and lifts the steady state by its load."""
    settings = SETTINGS.model_copy(update={"shedding": (STAGE,)})
    stuck = replace(UNCONTROLLED, capacity=0.0)
    share = STAGE.share * stuck.load
    mild, deep = (SETTINGS.nominal - STAGE.frequency) * DAMPING, 100.0
    above = Swing(settings).step(-0.99 * mild, stuck, ticks=150)
    below = Swing(settings).step(-(mild + deep), stuck, ticks=150)
    settled = below.frequency[-1] - SETTINGS.nominal
    expected = -(mild + deep - share) / DAMPING
    return [
        Row.near("load shed where frequency stays above the stage", above.shed_power, "MW", 0.0, 0),
        Row.near("load shed where it would fall below", below.shed_power, "MW", share, 1e-9),
        Row.near("steady deviation after shedding", settled, "Hz", expected, 0.01 * abs(expected)),
    ]


def failures(data: Path | None) -> list[Row]:
    """Time down over 50 years against MTTR / (MTTF + MTTR)."""
    source, kinds, up, down = _units(data)
    share = down_share(up, down, seed=0, years=YEARS)
    expected = unavailability(up, down)
    # Of the time-averaged state of a two-state Markov process, for times much longer than a cycle.
    variance = 2.0 * expected * (1.0 - expected) / (YEARS * YEAR_HOURS * (1.0 / up + 1.0 / down))
    rows: list[Row] = []
    groups = sorted(set(zip(kinds, up.tolist(), down.tolist(), strict=True)))
    for kind, mttf, mttr in groups:
        mine = (np.array(kinds) == kind) & (up == mttf) & (down == mttr)
        count = int(mine.sum())
        sigma = float(np.sqrt(variance[mine][0] / count))
        name = f"unavailability, {kind}, MTTF {mttf:g} h, MTTR {mttr:g} h, {count} units"
        rows.append(Row.near(name, share[mine].mean(), "1", expected[mine][0], 3.0 * sigma))
    beyond = int((np.abs(share - expected) > 3.0 * np.sqrt(variance)).sum())
    # 0.27 % of units are expected there; more than 3 of 100 have a chance below 0.1 %.
    allowed = max(1.0, 0.03 * len(share))
    rows.append(Row.at_most(f"units of {source} beyond 3 sigma", beyond, "units", allowed))
    rows.append(Row.info(f"units of {source} that fail", len(share), "units"))
    return rows


def down_share(up_hours: Doubles, down_hours: Doubles, *, seed: int, years: float) -> Doubles:
    """Share of ``years`` that each item is down, ``[N]``, from a simulation of its own."""
    calendar, end = Calendar(), years * YEAR_HOURS * HOUR
    down, since = np.zeros(len(up_hours)), np.zeros(len(up_hours))

    def change(item: int, up: bool) -> None:
        if up:
            down[item] += calendar.now - since[item]
        since[item] = calendar.now

    process = Failures(
        calendar,
        up_hours=up_hours,
        down_hours=down_hours,
        rng=Streams(seed).generator("unit failures"),
        on_change=change,
        begun=True,
    )
    calendar.run_until(end)
    down += np.where(process.up, 0.0, end - since)
    return down / end


def _units(data: Path | None) -> tuple[str, list[str], Doubles, Doubles]:
    """Where units come from; kind, MTTF and MTTR of those that fail."""
    if data is not None:
        for folder in search_folders(data):
            if (folder / "rts_gmlc" / "source" / "gen.csv").is_file():
                units = read_grid(folder / "rts_gmlc").units
                fails = np.flatnonzero(np.isfinite(units.mttf))
                kinds = [units.kind[unit] for unit in fails]
                return "RTS-GMLC", kinds, units.mttf[fails], units.mttr[fails]
    copies = 10
    kinds = [kind for kind in TABLE for _ in range(copies)]
    hours = np.repeat(np.array(list(TABLE.values())), copies, axis=0)
    return "the built-in table", kinds, hours[:, 0], hours[:, 1]
