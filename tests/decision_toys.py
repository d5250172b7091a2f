"""Two small domains for tests of the decision core, and policies that misbehave on demand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairlead.platform.decision.core import decide
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import (
    Cause,
    Clock,
    Inference,
    Outcome,
    Projected,
    Request,
    Runtime,
    State,
)
from fairlead.simulators.interface import Box, Choice, Feature, Observation, Spec

NOW = Clock(1000.0, 1_700_000_000.0)


def spec_of(agents=4, *, box=False, choices=5):
    return Spec(
        domain="toy",
        scenario="box" if box else "choice",
        agents=agents,
        groups=("all",),
        group_of=np.zeros(agents, np.int64),
        agent_features=(Feature("load", "1", 0.0, 100.0), Feature("age", "s", 0.0)),
        candidate_features=() if box else (Feature("cost", "1", -10.0, 10.0),),
        critic_features=(),
        state_size=0,
        action=Box(2) if box else Choice(choices),
        horizon=10,
        dt=1.0,
    )


def observe(agents=4, *, box=False, choices=5, seed=0, active=None, mask=None):
    """A random observation within the spec's bounds."""
    rng = np.random.default_rng(seed)
    wide = 0 if box else choices
    if mask is None:
        mask = rng.random((agents, wide)) < 0.6
    mask = np.array(mask, np.bool_)
    if wide:
        mask[:, 0] = True
    low = rng.uniform(-1, 0, (agents, 2 if box else 0)).astype(np.float32)
    high = low + rng.uniform(0, 2, low.shape).astype(np.float32)
    return Observation(
        agent=rng.uniform(0, 10, (agents, 2)).astype(np.float32),
        candidates=rng.uniform(-5, 5, (agents, wide, 0 if box else 1)).astype(np.float32),
        target=np.tile(np.arange(wide) - 1 * (np.arange(wide) == 0), (agents, 1)),
        mask=mask,
        low=low,
        high=high,
        active=np.ones(agents, np.bool_) if active is None else np.array(active, np.bool_),
        critic=np.zeros(0, np.float32),
        state=np.zeros(0),
        exogenous=np.zeros(0),
        time=0.0,
    )


class Cheapest:
    """Baseline of the choice toy: the legal candidate of least cost other than hold."""

    name, information = "cheapest", "same"

    def act(self, observation, rng):
        cost = np.where(observation.mask, observation.candidates[:, :, 0], np.inf)
        cost[:, 0] = 1e6
        return np.where(observation.active, cost.argmin(axis=1), 0).astype(np.int64)


class Middle:
    """Baseline of the box toy."""

    name, information = "middle", "same"

    def act(self, observation, rng):
        return (observation.low + observation.high) / np.float32(2)


class ChoiceToy:
    """At most ``room`` agents may take the same candidate column (not hold).

    ``sure`` is what it knows of the way back without a baseline; NaN: nothing.
    """

    sure = float("nan")

    def __init__(self, *, room=2, limit=np.inf):
        self.baseline = Cheapest()
        self.room, self.limit = room, limit

    def project(self, observation, wanted, last, agents):
        rows = np.arange(len(wanted))
        actions, cause = wanted.copy(), np.zeros(len(wanted), np.int8)
        illegal = ~observation.mask[rows, actions]
        actions[illegal], cause[illegal] = 0, Cause.LEGALITY
        counts = np.bincount(actions, minlength=observation.mask.shape[1])
        for column in np.flatnonzero(counts[1:] > self.room) + 1:
            taken = np.flatnonzero(actions == column)[self.room :]
            actions[taken], cause[taken] = 0, Cause.COUPLING
        return Projected(actions, cause, (actions != wanted).astype(np.float32))

    def recoverable(self, observation, actions, baseline):
        cost = self.cost(observation, actions)
        return cost <= self.limit, self.limit - cost

    def surely_recoverable(self, observation, actions):
        return self.sure

    def cost(self, observation, actions):
        rows = np.arange(len(actions))
        return float(np.where(actions > 0, observation.candidates[rows, actions, 0], 0).sum())

    def hold(self, observation, last, agents):
        if last is None:
            return None
        own = last if agents is None else last[agents]
        own = np.where(observation.active & (own < observation.mask.shape[1]), own, 0)
        legal = observation.mask[np.arange(len(own)), own]
        return self.project(observation, np.where(legal, own, 0), None, agents).actions

    def safe(self, observation):
        return np.zeros(observation.active.shape, np.int64)

    def deviation(self, observation, actions):
        return np.zeros(actions.shape, np.float32)

    def objective(self, observation, actions):
        return self.cost(observation, actions), float("nan")

    def coupling(self, spec):
        return np.zeros(spec.agents, np.int64)


class BoxToy(ChoiceToy):
    """Set-points in a box, ramped by at most 0.5 from the last executed ones where possible."""

    def __init__(self, *, limit=np.inf):
        super().__init__(limit=limit)
        self.baseline = Middle()

    def project(self, observation, wanted, last, agents):
        low, high = observation.low, observation.high
        inside = np.clip(wanted, low, high)
        actions = inside
        if last is not None:
            own = last if agents is None else last[agents]
            own = np.where(np.isfinite(own), own, inside)
            # The box wins over the ramp.
            near = np.clip(own, low, high)
            actions = np.clip(inside, np.maximum(low, near - 0.5), np.minimum(high, near + 0.5))
        actions = actions.astype(np.float32)
        boxed, ramped = (inside != wanted).any(axis=1), (actions != inside).any(axis=1)
        cause = np.where(ramped, int(Cause.RAMP), np.where(boxed, int(Cause.BOX), 0))
        distance = np.abs(actions - wanted).max(axis=1).astype(np.float32)
        return Projected(actions, cause.astype(np.int8), distance)

    def cost(self, observation, actions):
        return float(np.abs(actions).sum())

    def hold(self, observation, last, agents):
        if last is None:
            return None
        own = last if agents is None else last[agents]
        return own if ((own >= observation.low) & (own <= observation.high)).all() else None

    def safe(self, observation):
        return observation.high.copy()

    def deviation(self, observation, actions):
        return np.zeros(len(actions), np.float32)


class Scripted:
    """A policy whose next outcomes a test writes down: actions, a status, or an exception."""

    def __init__(self, answer="first", digest="d1gest"):
        self.digest, self.answer, self.asked = digest, answer, []

    def ask(self, observation, agents, *, seed, greedy, limit):
        self.asked.append((observation, agents, seed, greedy, limit))
        answer = self.answer
        if isinstance(answer, Outcome):
            return answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            if answer != "first":
                return Outcome(answer, None, 0.001, "as told")
            answer = first_legal(observation)
        preference = None if observation.low.shape[1] else np.zeros(observation.mask.shape, "f4")
        return Outcome("ok", Inference(np.array(answer), preference), 0.001)


def first_legal(observation):
    """The first legal candidate after hold (hold where there is none); the low end of a box."""
    if observation.low.shape[1]:
        return observation.low.copy()
    legal = observation.mask.copy()
    legal[:, 0] = False
    return np.where(observation.active, legal.argmax(axis=1), 0).astype(np.int64)


def runtime(policy=None, *, agents=4, box=False, live=None, **changes):
    base = Runtime(
        spec=spec_of(agents, box=box),
        policy=Scripted() if policy is None else policy,
        previous=None,
        live=live or (BoxToy() if box else ChoiceToy(room=agents)),
    )
    return replace(base, **changes)


def ask(run, *, settings=None, state=None, now=NOW, seen=None, **fields):
    """Decide once, with everything unnamed at its default."""
    agents = fields.get("agents")
    rows = run.spec.agents if agents is None else len(agents)
    if seen is None:
        seen = observe(rows, box=isinstance(run.spec.action, Box))
    request = Request(observation=seen, **fields)
    return decide(run, settings or SlotSettings(), state or State(), request, now)
