"""A traffic scenario in SUMO, behind the same contract as our own streets.

Same spaces, same features, same timing layer: a policy trained on our streets is judged here
unchanged. Only what moves the vehicles differs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...actions import checked_choices
from ...interface import Bools, Observation, Spec, Step
from ..files.sumo_config import read_sumo_files
from ..files.sumo_export import export_sumo
from ..observer import Observer
from ..readings import Readings
from ..timing import Change, Timing
from ..town import Town
from .process import SumoEngine
from .tripinfo import TripReport

_SEEDS = 2**31


class SumoSimulator:
    """Implements ``Simulator``.

    The reward is minus the vehicles that stand or wait to enter, times the interval, over the
    expected vehicles; SUMO's own trip records give the metrics, once the episode has ended.

    Args:
        town: streets and demand; those that were generated or converted are written for SUMO.

    Raises:
        ModuleNotFoundError: SUMO is not installed; names the remedy.
        ValueError: an interval or a yellow that is no whole number of seconds; demand that is
            changed from seed to seed, which a route file cannot say.
    """

    def __init__(self, town: Town) -> None:
        scenario = town.scenario
        self.town, self.scenario = town, scenario
        for name, value in (
            ("interval", scenario.interval),
            ("timing.yellow", scenario.timing.yellow),
            ("timing.all_red", scenario.timing.all_red),
        ):
            if value != int(value):
                raise ValueError(f"SUMO runs in whole seconds; {name} is {value:g} s")
        if scenario.scale != 1.0 or scenario.jitter:
            raise ValueError("in SUMO the demand is the file's: scale must be 1 and jitter 0")
        self._observer = Observer(town)
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-streets-")
        source = town.source or export_sumo(
            town.network, town.demand, Path(self._folder.name), name=scenario.name
        )
        files = read_sumo_files(source)
        self._begin = files.begin
        self._engine = SumoEngine(
            net=files.network,
            routes=files.routes,
            begin=files.begin,
            end=files.begin + scenario.seconds,
            network=town.network,
            backend=scenario.sumo.backend,
            binary=Path(scenario.sumo.binary) if scenario.sumo.binary else None,
        )
        self._expected = max(float((town.demand.depart < scenario.seconds).sum()), 1.0)
        self._plan = ""
        self._epoch = -1
        self._report: TripReport | None = None

    @property
    def spec(self) -> Spec:
        return self._observer.spec

    @property
    def version(self) -> str:
        """What stands beside results, for example ``SUMO 1.28.0 (libsumo)``."""
        return self._engine.version

    def use_local(self, plan: str) -> None:
        """From the next reset on signals run ``plan`` by themselves; empty: agents decide."""
        if plan not in {"", "fixed"}:
            raise ValueError(f"no plan {plan!r} in SUMO; known: fixed")
        self._plan = plan

    def reset(self, seed: int) -> Observation:
        """Start SUMO anew; ``seed`` decides every random draw of it."""
        signals = self.town.network.signals
        self._engine.reset(seed % _SEEDS)
        self.timing = Timing(signals, self.scenario.timing, interval=self.scenario.interval)
        if not self._plan:
            self._engine.set_states({signal.name: signal.greens[0] for signal in signals})
        self._epoch, self._report, self._switches = 0, None, 0
        self._last = self._observe(self._engine.read(self.scenario.interval))
        return self._last

    def step(self, actions: NDArray[np.generic]) -> Step:
        """Give all signals their next phase and run to the next decision.

        Raises:
            ValueError: wrong shape, or an illegal candidate (names agent and value).
            RuntimeError: before ``reset`` or after the end of the episode, or SUMO crashed.
        """
        if not 0 <= self._epoch < self.spec.horizon:
            raise RuntimeError("reset the simulator before stepping it")
        chosen = checked_choices(self.spec, self._last, actions)
        now = self._epoch * self.scenario.interval
        changes: list[Change] = []
        if not self._plan:
            wanted = self._observer.wanted(self._last, chosen, self.timing)
            changes = self.timing.order(now, wanted, self._waiting)
        self._switches += len({change.signal for change in changes})
        readings = self._engine.advance(int(self.scenario.interval), self._schedule(changes, now))
        self._epoch += 1
        self._last = self._observe(readings)
        if self._epoch >= self.spec.horizon:
            self._report = self._engine.finish()
        return self._settle(readings)

    def metrics(self) -> dict[str, float]:
        """Trips as SUMO recorded them, as ``Accounts.metrics`` names them; after the end only."""
        report = self._report
        if report is None:
            raise RuntimeError("SUMO's trips are known at the end of an episode only")
        return {
            "delay_mean_s": report.resco_delay,
            "trip_time_mean_s": report.trip_time,
            "trip_time_all_s": report.trip_time_all,
            "finished_trips": float(report.finished),
            "running_trips": float(report.unfinished),
            "outside_trips": float(report.undeparted),
            "unfinished_share": report.unfinished_share,
            "gridlock": float(report.gridlock),
            "switches": float(self._switches),
        }

    def close(self) -> None:
        """End SUMO and remove its files."""
        self._engine.close()
        self._folder.cleanup()

    def _schedule(self, changes: list[Change], now: float) -> list[tuple[int, str, str]]:
        signals = self.town.network.signals
        return [
            (round(change.time - now), signals[change.signal].name, change.state)
            for change in changes
        ]

    def _observe(self, readings: Readings) -> Observation:
        counters = self._engine.counters
        observation, self._waiting = self._observer.observe(
            readings,
            self.timing,
            driving=counters.running,
            outside=counters.pending,
            epoch=self._epoch,
            local=bool(self._plan),
        )
        return observation

    def _settle(self, readings: Readings) -> Step:
        spec, interval = self.spec, self.scenario.interval
        owner = self.town.owner
        slot = np.where(owner >= 0, owner, spec.agents)
        standing = np.bincount(slot, weights=readings.queue, minlength=spec.agents + 1)
        scale = interval / self._expected
        own = -standing[: spec.agents] * scale
        common = -float(standing[spec.agents] + self._engine.counters.pending) * scale
        reward = float(own.sum()) + common
        return Step(
            observation=self._last,
            reward=reward,
            local_reward=own * spec.agents + common,
            components={"signals": float(own.sum()), "elsewhere": common},
            terminated=False,
            truncated=self._epoch >= spec.horizon,
        )

    _waiting: Bools
