"""Whole episodes of a Grid2Op environment, driven by the daemon, and what became of its orders."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...simulators.interface import Doubles, Observation
from ...simulators.power.grid2op_case import open_environment
from ...simulators.power.scenario import Grid2opScenario
from ...simulators.power.system import system_of
from ..bundle import Bundle
from ..client.asking import Answer, Client
from ..client.set_points import SetPoint, set_points
from ..decision.types import Source
from ..files import UserError
from .mirror import Mirror
from .plant import Order, Plant

Decide = Callable[[Observation, int, str], Answer]
"""Observation, number of the step and name of the episode to an answer."""

NO_TIME = 1e-5
"""s; a deadline that no policy meets: the daemon answers with its fallback rule."""


@dataclass(frozen=True, slots=True)
class Played:
    """One episode.

    Attributes:
        steps: survived; planned: that it could have.
        cost: $ of production.
        asked: ``[T]`` MW, change of the dispatch that was asked for, summed over units.
        applied: ``[T]`` MW, change that the environment made.
        missed: ``[T]`` MW between the dispatch asked for and the one in force.
        refused: steps whose action the environment called illegal or ambiguous, or could not carry
            out; local: steps that the client decided itself; expired: by then.
        loading: largest of a line, as a share of its limit; overloaded: line-steps above 1.
        ended: why it ended early; empty if it did not.
        made: share of set-points that are the policy's own, projected or not.
        seconds: ``[T]`` of deciding, over the wire.
        messages: set-points of the last step.
    """

    steps: int
    planned: int
    cost: float
    asked: Doubles
    applied: Doubles
    missed: Doubles
    refused: int
    local: int
    expired: int
    loading: float
    overloaded: int
    ended: str
    made: float
    seconds: Doubles
    messages: tuple[SetPoint, ...] = ()


@dataclass(slots=True)
class _Log:
    """What is collected along the way."""

    asked: list[float] = field(default_factory=list[float])
    applied: list[float] = field(default_factory=list[float])
    missed: list[float] = field(default_factory=list[float])
    seconds: list[float] = field(default_factory=list[float])
    cost: float = 0.0
    refused: int = 0
    local: int = 0
    expired: int = 0
    loading: float = 0.0
    overloaded: int = 0
    made: int = 0
    told: int = 0
    moved: float = 0.0
    messages: tuple[SetPoint, ...] = ()


class Session:
    """Plays episodes of the environment that a bundle was trained on.

    Args:
        bundle: of scenario ``grid2op``.

    Attributes:
        environment: name of the environment; env: Grid2Op's object.

    Raises:
        UserError: a bundle of another scenario, or of other agents.
    """

    def __init__(self, bundle: Bundle) -> None:
        spec = bundle.spec
        if (spec.domain, spec.scenario) != ("power", "grid2op"):
            raise UserError(
                f"{bundle.folder} is about {spec.domain}/{spec.scenario}; the bridge drives "
                "bundles of power/grid2op: fairlead train power --scenario grid2op"
            )
        scenario = Grid2opScenario.model_validate(bundle.manifest["scenario"]["settings"])
        # Frozen settings have a hash, which the type checker does not see.
        system = system_of(scenario)  # pyright: ignore[reportArgumentType]
        try:
            self._mirror = Mirror(scenario, system, spec)
        except ValueError as error:
            raise UserError(f"{bundle.folder}: {error}") from error
        self.environment = scenario.environment
        self.env: Any = open_environment(scenario.environment)
        self._fleet = system.fleet
        self._plant = Plant(self.env, system.grid, system.fleet)
        self._dt = scenario.interval
        self._unit_cost = np.asarray(self.env.gen_cost_per_MW, np.float64)

    @property
    def episodes(self) -> int:
        """How many chronics the environment has."""
        return len(self.env.chronics_handler.available_chronics())

    def play(
        self,
        chronic: int,
        decide: Decide | None,
        *,
        steps: int | None = None,
        seed: int = 0,
        client: Client | None = None,
        name: str = "",
    ) -> Played:
        """Play one chronic.

        Args:
            chronic: its number.
            decide: who sets the outputs; ``None``: nobody (do nothing).
            steps: at most so many; ``None``: all.
            seed: of what the environment draws itself (attacks on lines, for example).
            client: executes only what has not expired; ``None``: anything.
            name: of the episode, for the daemon's order of requests.
        """
        env = self.env
        env.seed(seed)
        env.set_id(chronic)
        # AC flows complain about what the power flow itself reports.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = env.reset()
            planned = int(env.max_episode_duration())
            most = planned if steps is None else min(steps, planned)
            log, done, ended, step = _Log(), False, "", 0
            while step < most and not done:
                order = self._decide(seen, decide, client, step, name, log)
                action = env.action_space({} if order is None else order.action)
                after, _, done, info = env.step(action)
                failed = [str(error) for error in info["exception"]]
                if done and step + 1 < planned:
                    ended = "; ".join(failed) or "game over"
                    break
                self._account(log, seen, after, order, info)
                seen = after
                step += 1
        return Played(
            steps=step,
            planned=most,
            cost=log.cost,
            asked=np.array(log.asked),
            applied=np.array(log.applied),
            missed=np.array(log.missed),
            refused=log.refused,
            local=log.local,
            expired=log.expired,
            loading=log.loading,
            overloaded=log.overloaded,
            ended=ended,
            made=log.made / max(log.told, 1),
            seconds=np.array(log.seconds),
            messages=log.messages,
        )

    def _decide(
        self,
        seen: Any,
        decide: Decide | None,
        client: Client | None,
        step: int,
        name: str,
        log: _Log,
    ) -> Order | None:
        if decide is None:
            return None
        schedule = self._plant.schedule(seen)
        reading = self._plant.read(seen, schedule, log.moved)
        observation = self._mirror.look(reading)
        begun = time.monotonic()
        answer = decide(observation, step, name)
        log.seconds.append(time.monotonic() - begun)
        if client is not None:
            held = client.in_force(answer, observation)
            log.expired += held is not answer
            answer = held
        log.local += answer.local
        log.made += int(np.isin(answer.source, (Source.POLICY, Source.PROJECTED)).sum())
        log.told += answer.source.size
        log.messages = set_points(answer, self._fleet.name, reading.power, self._dt)
        points = np.array([message.power for message in log.messages])
        return self._plant.order(seen, schedule, points)

    def _account(self, log: _Log, seen: Any, after: Any, order: Order | None, info: Any) -> None:
        """Read back what the environment made of an order."""
        before = np.asarray(seen.actual_dispatch, np.float64)
        now = np.asarray(after.actual_dispatch, np.float64)
        log.cost += float(np.asarray(after.gen_p, np.float64) @ self._unit_cost) * self._dt / 3600.0
        log.loading = max(log.loading, float(np.max(after.rho)))
        log.overloaded += int(np.sum(np.asarray(after.rho) > 1.0))
        if order is None:
            return
        log.asked.append(float(np.abs(order.dispatch - before).sum()))
        log.applied.append(float(np.abs(now - before).sum()))
        log.missed.append(float(np.abs(now - order.dispatch).sum()))
        log.moved = float((now - order.dispatch).sum())
        refused = info["is_illegal"] or info["is_ambiguous"] or info["failed_redispatching"]
        log.refused += bool(refused) or bool(info["exception"])


def by_daemon(client: Client, *, fallback: bool = False, seed: int = 0) -> Decide:
    """Ask the daemon; ``fallback``: leave its policy no time, so that its rule answers."""

    def decide(observation: Observation, step: int, name: str) -> Answer:
        deadline = NO_TIME if fallback else None
        return client.decide(
            observation, seq=step + 1, episode=name, deadline=deadline, seed=seed + step
        )

    return decide
