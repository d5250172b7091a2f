"""Small hand-made grids for tests of the power models."""

import numpy as np

from fairlead.simulators.power.grid import (
    Branches,
    Buses,
    Curves,
    DcLines,
    Grid,
    Storages,
    Units,
    check_grid,
)

UNIT = {"bus": 0, "low": 0.0, "high": 100.0, "slopes": (10.0,), "base": 0.0, "ramp": np.inf}
STORE = {"bus": 0, "power": 10.0, "energy": 40.0, "efficiency": 0.8, "initial": 20.0}


def small_grid(units, *, stores=(), branches=(), dc=(), loads=(0.0,)):
    """A checked grid.

    ``units`` and ``stores`` are dicts over UNIT and STORE; ``renewable=True`` makes a unit
    curtailable. ``branches`` are (start, end, x, rate), ``dc`` (start, end, limit).
    """
    table = [{**UNIT, **unit} for unit in units]
    held = [{**STORE, **store} for store in stores]
    count, widest = len(table), max(len(unit["slopes"]) for unit in table)
    power, cost = np.zeros((count, widest + 1)), np.zeros((count, widest + 1))
    for row, unit in enumerate(table):
        points = np.linspace(unit["low"], unit["high"], len(unit["slopes"]) + 1)
        money = unit["base"] + np.cumsum([0.0, *np.diff(points) * unit["slopes"]])
        power[row] = np.pad(points, (0, widest - len(unit["slopes"])), mode="edge")
        cost[row] = np.pad(money, (0, widest - len(unit["slopes"])), mode="edge")
    zero, three = np.zeros(count), np.zeros((count, 3))
    renewable = np.array([bool(unit.get("renewable")) for unit in table])
    lines = np.array(branches, dtype=float).reshape(-1, 4)
    none = np.zeros(len(lines))
    direct = np.array(dc, dtype=float).reshape(-1, 3)
    return check_grid(
        Grid(
            name="small",
            base=100.0,
            buses=Buses(
                name=_names("b", len(loads)),
                load=np.array(loads, dtype=float),
                shunt=np.zeros(len(loads)),
                area=np.zeros(len(loads), dtype=np.int64),
                areas=("a",),
            ),
            branches=Branches(
                name=_names("l", len(lines)),
                start=lines[:, 0].astype(np.int64),
                end=lines[:, 1].astype(np.int64),
                r=none,
                x=lines[:, 2],
                tap=none + 1.0,
                shift=none,
                rate=lines[:, 3],
                angle_low=none - np.inf,
                angle_high=none + np.inf,
                outage_rate=none,
                outage_hours=none,
            ),
            dc_lines=DcLines(
                name=_names("d", len(direct)),
                start=direct[:, 0].astype(np.int64),
                end=direct[:, 1].astype(np.int64),
                limit=direct[:, 2],
            ),
            units=Units(
                name=_names("u", count),
                bus=np.array([unit["bus"] for unit in table], dtype=np.int64),
                kind=tuple("wind" if unit.get("renewable") else "thermal" for unit in table),
                low=power[:, 0].copy(),
                high=power[:, -1].copy(),
                curve=Curves(power, cost),
                quadratic=np.full((count, 3), np.nan),
                ramp=np.array([unit["ramp"] for unit in table], dtype=float),
                min_up=np.array([unit.get("min_up", 1.0) for unit in table]),
                min_down=np.array([unit.get("min_down", 1.0) for unit in table]),
                start_hours=three,
                start_after=three,
                start_cost=np.array([unit.get("start_cost", (0.0,) * 3) for unit in table]),
                mttf=zero + np.inf,
                mttr=zero,
                inertia=zero,
                renewable=renewable,
                curtailable=renewable,
            ),
            storages=Storages(
                name=_names("s", len(held)),
                bus=np.array([store["bus"] for store in held], dtype=np.int64),
                **{
                    key: np.array([store[key] for store in held], dtype=float)
                    for key in ("power", "energy", "efficiency", "initial")
                },
            ),
            reference=0,
            flexible=np.zeros(len(loads)),
        )
    )


def _names(letter, count):
    return tuple(f"{letter}{index}" for index in range(count))
