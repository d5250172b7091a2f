"""Power simulators on hand-made grids and days, and episodes played on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairlead.simulators.observations import random_actions
from fairlead.simulators.power.dispatch import PowerSimulator
from fairlead.simulators.power.scenario import GeneratedScenario, Outages, PowerScenario
from fairlead.simulators.power.series import Series, check_series
from fairlead.simulators.power.sources import Chosen
from fairlead.simulators.power.system import build

QUIET = Outages(units=False, branches=False)
START = np.datetime64("2020-01-01T00:00:00")


def series(grid, load, available=None, *, step=300.0, reserve=0.0):
    """Series of ``load`` ``[T]`` or ``[T, areas]`` MW and ``available`` ``[T, V]``."""
    load = np.asarray(load, float)
    load = load[:, None] if load.ndim == 1 else load
    length, count = load.shape[0], int(grid.units.renewable.sum())
    given = np.zeros((length, count)) if available is None else np.asarray(available, float)
    return check_series(
        grid,
        Series(START, step, load, given.reshape(length, count), np.full(length, float(reserve))),
    )


def toy(grid, load, available=None, *, plan=None, ahead=None, reserve=0.0, **values):
    """A simulator that plays ``load`` every episode.

    ``plan`` ``[H, U]`` is a commitment; ``ahead`` the day-ahead load ``[H]`` (the hourly mean).
    """
    values = {"hours": 1, "outages": QUIET, "forecast_error": 0.0, **values}
    scenario = PowerScenario(**values)
    actual = series(grid, load, available, reserve=reserve)
    hours = -(-actual.length // 12)

    def means(rows):
        return np.stack([rows[12 * h : 12 * (h + 1)].mean(axis=0) for h in range(hours)])

    hourly = means(actual.load) if ahead is None else np.asarray(ahead, float)[:, None]
    forecast = series(grid, hourly, means(actual.available), step=3600.0, reserve=reserve)
    chosen = Chosen(actual, forecast, None if plan is None else np.asarray(plan, bool))
    return PowerSimulator(scenario, build(grid, lambda _seed, _intervals: chosen, scenario))


class Record:
    """What an episode showed: arrays over epochs, and the metrics at its end."""

    def __init__(self, simulator: PowerSimulator, choose: Any, seed: int = 0):
        self.rewards, self.parts = [], []
        seen = simulator.reset(seed)
        self.seen = [seen]
        while True:
            step = simulator.step(choose(seen))
            seen = step.observation
            self.seen.append(seen)
            self.rewards.append(step.reward)
            self.parts.append(step.components)
            if step.truncated:
                break
        self.metrics = simulator.metrics()
        self.power = np.stack([one.state for one in self.seen])
        self.low = np.stack([one.low[:, 0] for one in self.seen]).astype(float)
        self.high = np.stack([one.high[:, 0] for one in self.seen]).astype(float)
        self.outlooks = [simulator.packing.unpack(one.exogenous) for one in self.seen]


def at_random(simulator: PowerSimulator, seed: int = 0):
    """Random legal set-points."""
    rng = np.random.default_rng(seed)
    return lambda seen: random_actions(simulator.spec, seen, rng)


def share(of: float):
    """Everybody at the same share of its box."""
    return lambda seen: np.clip(seen.low + of * (seen.high - seen.low), seen.low, seen.high)


def column(simulator: PowerSimulator, name: str):
    """Everybody at the share of its box that a feature names."""
    index = simulator.spec.agent_column(name)

    def choose(seen):
        wanted = seen.low + (seen.high - seen.low) * np.clip(seen.agent[:, index, None], 0, 1)
        return np.clip(wanted, seen.low, seen.high)

    return choose


def generated(**values):
    """A generated scenario of 30 units and 6 h by default, and its simulator."""
    from fairlead.simulators.power.system import system_of

    scenario = GeneratedScenario(**{"units": 30, "hours": 6, **values})
    return PowerSimulator(scenario, system_of(scenario))
