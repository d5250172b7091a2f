"""Finished training runs as values: one run, the file that keeps them, the table of a bench."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...simulators.interface import Doubles
from ..files import UserError, write_atomic

ARRAYS = ("returns", "at", "probes", "final", "collect", "update")


@dataclass(frozen=True, slots=True)
class Run:
    """What one training run did, over I updates.

    Attributes:
        variant: name of the learner.
        agents: number of agents.
        seed: of the run.
        returns: ``[I]`` mean return of the episodes that each update learned from.
        at: ``[P]`` updates after which the policy was evaluated in between.
        probes: ``[P]`` mean returns of these evaluations, on seeds of their own.
        figures: statistics of the updates ``[I]``; NaN where an update did not state one.
        final: ``[evaluation]`` returns of the trained policy on held-out seeds.
        collect, update: ``[I]`` processor seconds.
    """

    variant: str
    agents: int
    seed: int
    returns: Doubles
    at: Doubles
    probes: Doubles
    figures: Mapping[str, Doubles]
    final: Doubles
    collect: Doubles
    update: Doubles

    @classmethod
    def played(cls, variant: str, agents: int, seed: int, final: Doubles) -> Run:
        """A controller that was evaluated and never trained."""
        none = np.zeros(0)
        return cls(variant, agents, seed, none, none, none, {}, final, none, none)

    def named(self, variant: str) -> Run:
        """The same run under another name."""
        return dataclasses.replace(self, variant=variant)

    def figure(self, name: str) -> Doubles:
        """One statistic of every update, ``[I]``.

        Raises:
            KeyError: the learner never stated it; names what it did state.
        """
        if name not in self.figures:
            raise KeyError(
                f"{self.variant}, N={self.agents}, seed {self.seed}: no statistic {name!r}; "
                f"known: {', '.join(self.figures)}"
            )
        return self.figures[name]

    def to_json(self) -> dict[str, Any]:
        """JSON-able; NaN becomes null."""
        values = {name: _listed(getattr(self, name)) for name in ARRAYS}
        figures = {name: _listed(values) for name, values in self.figures.items()}
        about = {"variant": self.variant, "agents": self.agents, "seed": self.seed}
        return {**about, **values, "figures": figures}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Run:
        """What ``to_json`` made.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        arrays = {name: _array(values[name]) for name in ARRAYS}
        figures = {str(name): _array(listed) for name, listed in values["figures"].items()}
        return cls(
            str(values["variant"]),
            int(values["agents"]),
            int(values["seed"]),
            figures=figures,
            **arrays,
        )


def _listed(values: Doubles) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _array(values: list[float | None]) -> Doubles:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


class Ledger:
    """Finished runs in a file of JSON lines; without a path it remembers nothing.

    A line is appended by one write and flushed to disk, so a crash loses at most the line being
    written; the half line that it leaves is dropped when the file is opened next.

    Raises:
        UserError: the file cannot be read, or a line before the last is no run.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._runs: dict[str, Run] = {}
        if path is None:
            return
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read runs from {path}: {error}") from error
        lines, tail = text.split("\n")[:-1], text.split("\n")[-1]
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                self._runs[str(entry["key"])] = Run.from_json(entry["run"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{path}, line {number} is no finished run ({error}); delete the line or name "
                    "another file"
                ) from error
        if tail or not path.exists():  # also finds out early that the file cannot be written
            write_atomic(path, "".join(f"{line}\n" for line in lines))

    def find(self, key: str) -> Run | None:
        """The run of that key, if it is finished."""
        return self._runs.get(key)

    def append(self, key: str, run: Run) -> None:
        """Keep a finished run.

        Raises:
            UserError: the file cannot be written.
        """
        self._runs[key] = run
        if self._path is None:
            return
        entry = {"key": key, "run": run.to_json()}
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                written = os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}") from error
        if written < len(line):
            raise UserError(f"cannot write {self._path}: only part of a line; is the disk full?")


@dataclass(frozen=True, slots=True)
class RunTable:
    """All runs of a bench. Rows of the arrays are seeds in rising order, common to all variants."""

    runs: tuple[Run, ...]

    @property
    def agents(self) -> list[int]:
        """Numbers of agents, rising."""
        return sorted({run.agents for run in self.runs})

    def of(self, variant: str, agents: int) -> list[Run]:
        """Runs of a variant by seed.

        Raises:
            KeyError: there are none; names the known variants.
        """
        found = [run for run in self.runs if (run.variant, run.agents) == (variant, agents)]
        if not found:
            known = dict.fromkeys(run.variant for run in self.runs if run.agents == agents)
            raise KeyError(f"no run of {variant!r} with N={agents}; known: {', '.join(known)}")
        return sorted(found, key=lambda run: run.seed)

    def final(self, variant: str, agents: int) -> Doubles:
        """Mean final return of every run, ``[seeds]``."""
        return np.array([run.final.mean() for run in self.of(variant, agents)])

    def curves(self, variant: str, agents: int) -> Doubles:
        """Training returns ``[seeds, I]``."""
        return np.array([run.returns for run in self.of(variant, agents)])

    def probes(self, variant: str, agents: int) -> tuple[Doubles, Doubles]:
        """Updates ``[P]`` and mean returns ``[seeds, P]`` of the evaluations in between."""
        runs = self.of(variant, agents)
        return runs[0].at, np.array([run.probes for run in runs])

    def figure(self, variant: str, agents: int, name: str) -> Doubles:
        """A statistic of all updates ``[seeds, I]``; NaN where an update did not state it.

        Raises:
            KeyError: a run never stated it.
        """
        return np.array([run.figure(name) for run in self.of(variant, agents)])

    def mean(self, variant: str, agents: int, name: str) -> float:
        """Mean of a statistic over seeds and updates.

        Raises:
            KeyError: a run never stated it.
        """
        return float(np.nanmean(self.figure(variant, agents, name)))

    def seconds(self, variant: str, agents: int) -> tuple[float, float]:
        """Processor seconds of (collecting, updating) per update, mean over runs and updates."""
        runs = self.of(variant, agents)
        return (
            float(np.mean([run.collect.mean() for run in runs])),
            float(np.mean([run.update.mean() for run in runs])),
        )
