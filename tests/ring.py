"""The toy ring as a picklable factory, with controllers that fail on demand."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from toys import RingModel, RingSimulator

from fairlead.simulators.errors import DataError


@dataclass(frozen=True)
class RingFactory:
    agents: int = 6
    horizon: int = 20

    def simulator(self) -> RingSimulator:
        return RingSimulator(agents=self.agents, horizon=self.horizon)

    def model(self, reference: str) -> RingModel:
        assert reference == "drain"
        return RingModel(self.simulator())

    def heuristics(self):
        return (RandomRule(), LowestLoad())


@dataclass(frozen=True)
class RandomRule:
    name: str = "random"
    information: str = "same"

    def act(self, observation, rng):
        keys = np.where(observation.mask, rng.random(observation.mask.shape), -1.0)
        return keys.argmax(axis=1)


@dataclass(frozen=True)
class LowestLoad:
    """Least marginal cost: cost times (2 load + 1), never hold when work is there."""

    name: str = "lowest"
    information: str = "same"

    def act(self, observation, rng):
        load, cost = observation.candidates[:, :, 1], observation.candidates[:, :, 2]
        score = np.where(observation.mask, cost * (2 * load + 1), np.inf)
        score[:, 0] = np.where(observation.mask[:, 1:].any(axis=1), 1e9, 0.0)
        return score.argmin(axis=1)


@dataclass(frozen=True)
class Saboteur:
    """Plays at random; when the marker file is missing, creates it and fails in its own way."""

    marker: str
    how: str
    always: bool = False
    name: str = "saboteur"
    information: str = "same"

    def act(self, observation, rng):
        if observation.time == 5.0 and (self.always or not Path(self.marker).exists()):
            Path(self.marker).touch()
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.how == "hang":
                time.sleep(600)
            elif self.how == "raise":
                raise ArithmeticError("sabotage")
            elif self.how == "bad data":
                raise DataError("days.csv", line=5, accepted="a finite number is expected")
        return RandomRule().act(observation, rng)


@dataclass(frozen=True)
class Slow:
    """Plays at random, ``seconds`` per epoch."""

    seconds: float
    name: str = "slow"
    information: str = "same"

    def act(self, observation, rng):
        time.sleep(self.seconds)
        return RandomRule().act(observation, rng)
