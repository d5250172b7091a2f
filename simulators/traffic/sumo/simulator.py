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
from ...interface import Bools, Ints, Observation, Spec, Step
from ..files.sumo_config import read_sumo_files
from ..files.sumo_export import export_sumo
from ..observer import Observer
from ..plans import ACTUATED, FIXED, PLANS, plan_signals
from ..readings import Readings
from ..timing import Change, Timing
from ..town import Town
from .install import find_sumo
from .lanes import inner_lanes, lane_ids
from .process import SumoEngine
from .programmes import write_actuated, write_static
from .tripinfo import TripReport

_SEEDS = 2**31


class SumoSimulator:
    """Implements ``Simulator`` and ``LocallyControlled``; to be closed after use.

    Files and the process of SUMO come with the first ``reset``.

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
        self._binary = Path(scenario.sumo.binary) if scenario.sumo.binary else None
        self.version: str = find_sumo(scenario.sumo.backend, self._binary).label
        """What stands beside results, for example ``SUMO 1.28.0 (libsumo)``."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._loaded: tuple[str, SumoEngine] | None = None
        self._expected = max(float((town.demand.depart < scenario.seconds).sum()), 1.0)
        self._plan = ""
        self._inner: Ints = np.zeros(0, dtype=np.int64)
        self._epoch = -1
        self._report: TripReport | None = None

    @property
    def spec(self) -> Spec:
        return self._observer.spec

    def use_local(self, plan: str) -> None:
        """From the next ``reset`` on: a plan of :data:`..plans.PLANS`, or ``""`` for the agents.

        SUMO itself runs it: the programme of its net file, one timed by Webster's method, or SUMO's
        own actuated control.

        Raises:
            ValueError: unknown plan.
        """
        if plan not in {"", *PLANS}:
            raise ValueError(f"the signals know no plan {plan!r}; known: {', '.join(PLANS)}")
        self._plan = plan

    def reset(self, seed: int) -> Observation:
        """Start SUMO anew; ``seed`` decides every random draw of it."""
        signals = self.town.network.signals
        self._engine = self._engine_of("" if self._plan == FIXED else self._plan)
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
        found = {
            "delay_mean_s": report.resco_delay,
            "trip_time_mean_s": report.trip_time,
            "trip_time_all_s": report.trip_time_all,
            "finished_trips": float(report.finished),
            "running_trips": float(report.unfinished),
            "outside_trips": float(report.undeparted),
            "unfinished_share": report.unfinished_share,
            "gridlock": float(report.gridlock),
        }
        if not self._plan:  # what SUMO does by itself it does not report
            found["switches"] = float(self._switches)
        return found

    def close(self) -> None:
        """End SUMO and remove its files; a later ``reset`` makes them anew."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded[1].close()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def _engine_of(self, plan: str) -> SumoEngine:
        """The engine with ``plan`` instead of the net file's programmes, if one is named."""
        if self._loaded is not None:
            if self._loaded[0] == plan:
                return self._loaded[1]
            self._loaded[1].close()
            self._loaded = None
        town, scenario = self.town, self.scenario
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="fairlead-streets-")
        folder = Path(self._folder.name)
        source = town.source or folder / f"{scenario.name}.sumocfg"
        if not source.exists():
            export_sumo(town.network, town.demand, folder, name=scenario.name)
        files = read_sumo_files(source)
        engine = SumoEngine(
            net=files.network,
            routes=files.routes,
            begin=files.begin,
            end=files.begin + scenario.seconds,
            network=town.network,
            backend=scenario.sumo.backend,
            binary=self._binary,
            options=("--additional-files", str(self._write(plan, folder))) if plan else (),
        )
        if scenario.timing.clear_inside:
            inner, self._inner = inner_lanes(files.network, town.network)
            engine.lanes([*lane_ids(files.network, town.network), *inner])
        self._loaded = (plan, engine)
        return engine

    def _write(self, plan: str, folder: Path) -> Path:
        """The additional file by which SUMO runs ``plan``."""
        town, path = self.town, folder / f"{plan}.add.xml"
        agents = town.approaches.agents.tolist()
        if plan == ACTUATED:
            signals = [town.network.signals[at] for at in agents]
            write_actuated(path, signals, self.scenario.timing)
        else:
            planned = plan_signals(town, plan)
            write_static(path, [planned[at] for at in agents])
        return path

    def _schedule(self, changes: list[Change], now: float) -> list[tuple[int, str, str]]:
        signals = self.town.network.signals
        return [
            (round(change.time - now), signals[change.signal].name, change.state)
            for change in changes
        ]

    def _observe(self, readings: Readings) -> Observation:
        if self._inner.size:
            readings, inner = readings.split(self.town.network.lane_link.size)
            standing = np.bincount(self._inner, inner.queue, minlength=len(self.timing.signals))
            self.timing.inside = standing > 0.0
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
        queue = readings.queue[: owner.size]
        standing = np.bincount(slot, weights=queue, minlength=spec.agents + 1)
        scale = interval / self._expected
        own = (-standing[: spec.agents] * scale).astype(np.float64)
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
