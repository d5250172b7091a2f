"""Episodes of many controllers on common days, with the time of every decision; can be resumed."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...simulators.interface import Observation, Simulator, Spec, Step
from ..evaluation import Entrant, EvaluationTable
from ..executors import Result, Task, make_executor
from ..files import UserError
from ..progress import Report
from ..tasks import DomainFactory

Key = tuple[str, str, int]
"""Setting, controller, seed."""
BOUND = "perfect foresight"
"""Name of the lower bound among the controllers of an archive."""


class Clocked:
    """A simulator that also measures how long it waits for each decision.

    The time between an observation and the next step is the controller's (and a few microseconds of
    bookkeeping); it is counted as CPU time of the process, so that others on the machine do not
    show. The first decision of an episode, in which solvers are built, is left out.
    """

    def __init__(self, inner: Simulator) -> None:
        self._inner = inner
        self.spec: Spec = inner.spec
        self._waits: list[float] = []
        self._since = 0.0

    def reset(self, seed: int) -> Observation:
        """See ``Simulator``."""
        observation = self._inner.reset(seed)
        self._waits.clear()
        self._since = time.process_time()
        return observation

    def step(self, actions: NDArray[Any]) -> Step:
        """See ``Simulator``."""
        self._waits.append(time.process_time() - self._since)
        step = self._inner.step(actions)
        self._since = time.process_time()
        return step

    def metrics(self) -> dict[str, float]:
        """The simulator's, and percentiles of the time of a decision in ms."""
        waits = 1e3 * np.array(self._waits[1:] or self._waits or [np.nan])
        half, most = np.percentile(waits, [50.0, 99.0])
        return {**self._inner.metrics(), "decision_p50": float(half), "decision_p99": float(most)}


@dataclass(frozen=True, slots=True)
class ClockedFactory(DomainFactory):
    """A scenario whose episodes measure decisions."""

    def simulator(self) -> Simulator:
        """The scenario's simulator inside :class:`Clocked`."""
        # Not super(): dataclasses with slots are made anew.
        return cast("Simulator", Clocked(DomainFactory.simulator(self)))


class Archive:
    """Finished episodes, in memory and (if asked) in a file with a line for each.

    Args:
        path: the file; ``None``: in memory only.
        what: values that must be the same when a file is continued.

    Raises:
        UserError: the file was written for something else, or has a damaged line.
    """

    def __init__(self, path: Path | None, what: Mapping[str, Any]) -> None:
        self._path, self._records = path, dict[Key, dict[str, float]]()
        header = json.dumps({"what": what}, sort_keys=True)
        if path is None:
            return
        if not path.exists():
            path.write_text(header + "\n")
            return
        first, *lines = path.read_text().splitlines() or [""]
        if first != header:
            raise UserError(
                f"{path} holds episodes of other settings; give another file, or delete it"
            )
        for number, line in enumerate(lines, start=2):
            self._read(path, number, line)

    def _read(self, path: Path, number: int, line: str) -> None:
        try:
            entry = json.loads(line)
            setting, name, seed = entry["key"]
            self._records[setting, name, seed] = entry["figures"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}:{number} is no finished episode ({error}); delete this line to go on"
            ) from error

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def add(self, key: Key, figures: Mapping[str, float]) -> None:
        """Keep a finished episode."""
        self._records[key] = dict(figures)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"key": key, "figures": dict(figures)}) + "\n")

    def table(
        self, setting: str, entrants: Sequence[Entrant], seeds: Sequence[int]
    ) -> EvaluationTable:
        """The episodes of one setting, one row per controller and seed."""
        records = [
            {
                "controller": entrant.name,
                "kind": entrant.kind,
                "information": entrant.information,
                "seed": seed,
                **self._records[setting, entrant.name, seed],
            }
            for entrant in entrants
            for seed in seeds
        ]
        return EvaluationTable(pl.DataFrame(records, infer_schema_length=None))

    def bounds(self, setting: str, seeds: Sequence[int]) -> NDArray[np.float64] | None:
        """Lower bounds ``[seeds]`` in $, if they are there."""
        if any((setting, BOUND, seed) not in self for seed in seeds):
            return None
        return np.array([self._records[setting, BOUND, seed]["cost_usd"] for seed in seeds])


@dataclass(frozen=True, slots=True)
class Contest:
    """Who plays where: ``settings`` by name, all of them on the same ``seeds``."""

    settings: Mapping[str, ClockedFactory]
    entrants: Sequence[Entrant]
    seeds: Sequence[int]
    workers: int
    foresight: bool

    @property
    def total(self) -> int:
        """Episodes and bounds."""
        each = len(self.entrants) + int(self.foresight)
        return len(self.settings) * each * len(self.seeds)


def play(contest: Contest, archive: Archive, progress: Report) -> None:
    """Play what the archive lacks, in worker processes (one worker: in this process)."""
    done = 0
    for setting, factory in contest.settings.items():
        done = _episodes(contest, archive, (setting, factory), progress, done)
        if contest.foresight:
            done = _bounds(contest, archive, (setting, factory), progress, done)


def _episodes(
    contest: Contest,
    archive: Archive,
    where: tuple[str, ClockedFactory],
    progress: Report,
    done: int,
) -> int:
    setting, factory = where
    wanted = [
        (setting, entrant.name, seed) for entrant in contest.entrants for seed in contest.seeds
    ]
    missing = [key for key in wanted if key not in archive]
    by_name = {entrant.name: entrant for entrant in contest.entrants}
    tasks = [Task(seed, by_name[name].controller) for _, name, seed in missing]
    done += len(wanted) - len(missing)

    def finished(index: int, result: Result) -> None:
        nonlocal done
        done += 1
        archive.add(missing[index], {"return": result.total, **result.metrics})
        progress(done, contest.total, f"{setting}, {missing[index][1]}")

    if tasks:
        kind = "inline" if contest.workers == 1 else "processes"
        with make_executor(kind, factory, workers=contest.workers) as executor:
            executor.map(tasks, on_result=finished)
    return done


def _bounds(
    contest: Contest,
    archive: Archive,
    where: tuple[str, ClockedFactory],
    progress: Report,
    done: int,
) -> int:
    setting, factory = where
    missing = [seed for seed in contest.seeds if (setting, BOUND, seed) not in archive]
    done += len(contest.seeds) - len(missing)
    if not missing:
        return done
    plain = DomainFactory(factory.domain, factory.scenario, factory.settings)

    def finished(values: Iterable[float]) -> None:
        nonlocal done
        for seed, value in zip(missing, values, strict=True):
            done += 1
            archive.add((setting, BOUND, seed), {"cost_usd": value})
            progress(done, contest.total, f"{setting}, {BOUND}")

    given = [plain] * len(missing)
    if contest.workers == 1:
        finished(map(foresight_cost, given, missing))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(contest.workers, mp_context=context) as pool:
            finished(pool.map(foresight_cost, given, missing))
    return done


def foresight_cost(factory: DomainFactory, seed: int) -> float:
    """$ that no controller undercuts in the episode of ``seed``."""
    from ...models.power.foresight import Foresight
    from ...simulators.power.scenario import Scenario
    from ...simulators.power.system import system_of

    scenario = cast("Scenario", factory.values())
    system = system_of(scenario)  # pyright: ignore[reportArgumentType]
    return Foresight(scenario, system).bound(seed).value
