"""From detector readings to the observation of the simulator's contract, for streets and SUMO."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..interface import HOLD, Bools, Choice, Doubles, Ints, Observation, Spec
from .readings import Readings
from .timing import Timing
from .town import Town
from .view import AGENT, CANDIDATE, CRITIC, Counts, Scene, View


class Observer:
    """What a scenario looks like from outside.

    Args:
        town: streets and demand.
    """

    def __init__(self, town: Town) -> None:
        scenario, approaches = town.scenario, town.approaches
        self._approaches = approaches
        self._interval = scenario.interval
        self._effects = town.effects
        self._view = View(approaches, effects=self._effects, storage=town.storage)
        groups, group_of = phase_structures(town)
        self.spec = Spec(
            domain="traffic",
            scenario=scenario.name,
            agents=len(approaches.agents),
            groups=groups,
            group_of=group_of,
            agent_features=AGENT,
            candidate_features=CANDIDATE,
            critic_features=CRITIC,
            state_size=town.network.lane_link.size,
            action=Choice(approaches.most),
            horizon=max(int(scenario.seconds // scenario.interval), 1),
            dt=scenario.interval,
        )
        self._later = np.arange(approaches.most) > HOLD

    def observe(
        self,
        readings: Readings,
        timing: Timing,
        *,
        driving: int,
        outside: int,
        epoch: int,
        local: bool = False,
    ) -> tuple[Observation, Bools]:
        """The observation, and who waits at which letter of the signals' states ``[N, J]``.

        With ``local`` signals run a plan of their own: no agent has a choice.
        """
        now, spec = epoch * self._interval, self.spec
        counts = Counts(driving, outside, 1.0 - epoch / spec.horizon)
        scene = self._view.look(readings, timing, counts, now)
        order = self._view.order(timing)
        free = timing.open(now) & (timing.forced(now, scene.waiting) < 0)
        active = free[self._approaches.agents] & (not local)
        mask = (order >= 0) & active[:, None]
        mask[:, HOLD] = True
        box = np.zeros((spec.agents, 0), np.float32)
        observation = Observation(
            agent=scene.agent,
            candidates=self._view.candidates(scene, order),
            target=np.where(self._later, order, -1),
            mask=mask,
            low=box,
            high=box,
            active=active,
            critic=scene.critic,
            state=self._held(scene, order),
            exogenous=np.array([now]),
            time=now,
            private={
                "order": order,
                "lanes": scene.discharge.lanes,
                "onward": scene.discharge.onward,
            },
        )
        return observation, scene.waiting

    def _held(self, scene: Scene, order: Ints) -> Doubles:
        """``[lanes]`` vehicles left at the end of the interval if every signal kept its phase."""
        left = scene.arriving.copy()
        agents = np.arange(len(order))
        for lanes, moved, sign in (
            (self._effects.lane, scene.discharge.lanes, -1.0),
            (self._effects.onward, scene.discharge.onward, 1.0),
        ):
            there = lanes >= 0
            np.add.at(left, lanes[there], sign * moved[agents, order[:, 0]][there])
        return left

    def wanted(self, seen: Observation, chosen: Ints, timing: Timing) -> Ints:
        """``[N]`` phase that every signal is asked for."""
        wanted = timing.phase.copy()
        order: NDArray[Any] = seen.private["order"]
        wanted[self._approaches.agents] = order[np.arange(len(chosen)), chosen]
        return wanted


def phase_structures(town: Town) -> tuple[tuple[str, ...], Ints]:
    """Groups of signals alike: same number of phases, permissive left turns or not."""
    names: list[str] = []
    for signal in town.approaches.agents.tolist():
        greens = town.network.signals[signal].greens
        gives_way = any("g" in state for state in greens)
        names.append(f"{len(greens)}-phase {'permissive' if gives_way else 'protected'}")
    groups = tuple(sorted(set(names)))
    return groups, np.array([groups.index(name) for name in names], dtype=np.int64)
