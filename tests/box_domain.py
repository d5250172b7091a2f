"""A small domain of set-points: six units track the demand of three zones, and a demand for heat.

Every unit sets its power and its heat, each within what its ramp allows from where it stands. Units
1 and 4 give no heat (a box without width); a unit that is out stays where it is (no width at all,
not active). What is produced stays until it is changed, so that the state after a decision is the
state of the next observation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from fairlead.models.interface import Reference, SetPointInfluence
from fairlead.platform import registry
from fairlead.platform.decision.types import Cause, Projected
from fairlead.platform.domains import Domain
from fairlead.simulators.actions import checked_set_points
from fairlead.simulators.interface import Box, Feature, Observation, Spec, Step
from fairlead.simulators.settings import Settings, knob

NAME, SCENARIO = "toybox", "track"
MOST, HEAT = np.float32(10.0), np.float32(4.0)


class TrackScenario(Settings):
    """Units track demand."""

    name: Literal["track"] = "track"
    agents: int = knob(6, "units", ge=3)
    horizon: int = knob(20, "epochs of an episode", ge=2)
    ramp: float = knob(3.0, "most that an output changes in an epoch", unit="MW", gt=0)
    outage: float = knob(0.1, "share of units that are out", ge=0, le=1)


class TrackSimulator:
    """Implements ``Simulator``."""

    def __init__(self, scenario: TrackScenario):
        self.scenario = scenario
        n = scenario.agents
        self.zone = np.arange(n) % 3
        self.top = np.tile([MOST, HEAT], (n, 1)).astype(np.float32)
        self.top[1::3, 1] = 0.0
        self.spec = Spec(
            domain=NAME,
            scenario=SCENARIO,
            agents=n,
            groups=("both", "power"),
            group_of=(self.top[:, 1] == 0).astype(np.int64),
            agent_features=(
                Feature("output", "MW", 0, 10),
                Feature("heat", "MW", 0, 4),
                Feature("gap", "MW", -100, 100),
                Feature("heat gap", "MW", -100, 100),
                Feature("demand", "MW", 0, transform="log1p"),
            ),
            candidate_features=(),
            critic_features=(Feature("gap", "MW", 0), Feature("heat gap", "MW", 0)),
            state_size=5,
            action=Box(2),
            horizon=scenario.horizon,
            dt=1.0,
        )

    def reset(self, seed):
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 9]))
        n = self.spec.agents
        self.output = (self.top / 2).astype(np.float32)
        self.share = np.array([0.5, 0.4, 0.6]) * (n / 3) * MOST
        self.epoch, self.total, self.missed = 0, 0.0, 0.0
        return self._observe()

    def step(self, actions):
        given = checked_set_points(self.spec, self.last, actions)
        self.output = np.where(self.last.active[:, None], given, self.last.low)
        gap = self.demand - _state(self)[:4]
        own = -np.square(gap[self.zone]) - 0.1 * self.output[:, 0]
        heat = -float(gap[3] ** 2)
        reward = float(own.mean()) + heat
        self.total += reward
        self.missed += float(np.abs(gap).sum())
        self.epoch += 1
        done = self.epoch >= self.spec.horizon
        parts = {"power": float(own.mean()), "heat": heat}
        return Step(self._observe(), reward, own + heat, parts, False, done)

    def metrics(self):
        return {"missed_mwh": self.missed / self.spec.horizon}

    def _observe(self):
        n, ramp = self.spec.agents, np.float32(self.scenario.ramp)
        active = self.rng.random(n) >= self.scenario.outage
        noise = 1.0 + 0.2 * self.rng.standard_normal(3)
        season = 1.0 + 0.3 * np.sin(self.epoch / 3.0 + np.arange(3))
        self.demand = np.append(self.share * np.clip(noise, 0.5, 1.5) * season, 0.3 * n * HEAT)
        low = np.maximum(self.output - ramp, np.float32(0.0))
        high = np.minimum(self.output + ramp, self.top)
        low = np.where(active[:, None], low, self.output)
        high = np.where(active[:, None], high, self.output)
        state = _state(self)
        gap = self.demand - state[:4]
        agent = np.column_stack(
            [self.output, gap[self.zone], np.full(n, gap[3]), self.demand[self.zone]]
        )
        self.last = Observation(
            agent=agent.astype(np.float32),
            candidates=np.zeros((n, 0, 0), np.float32),
            target=np.zeros((n, 0), np.int64),
            mask=np.zeros((n, 0), np.bool_),
            low=low.astype(np.float32),
            high=high.astype(np.float32),
            active=active,
            critic=np.abs([gap[:3].mean(), gap[3]]).astype(np.float32),
            state=state,
            exogenous=self.demand.copy(),
            time=float(self.epoch),
            private={"output": self.output.copy()},
        )
        return self.last


def _state(simulator):
    output = simulator.output.astype(np.float64)
    zones = np.bincount(simulator.zone, weights=output[:, 0], minlength=3)
    return np.array([*zones, output[:, 1].sum(), output[:, 0].sum()])


class TrackModel:
    """Implements ``AnalyticalModel``: x is each zone's output, all heat, and all power."""

    def __init__(self, scenario):
        self.zone, self.state_size = np.arange(scenario.agents) % 3, 5

    def reference(self, exogenous):
        x_ref = np.append(exogenous, exogenous[:3].sum())
        weight = np.array([2.0, 2.0, 2.0, 2.0, 0.5])
        return Reference(x_ref, weight, np.zeros(0), 0.0, 0.0, "optimal")

    def influence(self, observation):
        n = len(self.zone)
        index = np.full((n, 2, 2), -1)
        index[:, 0, 0], index[:, 0, 1], index[:, 1, 0] = self.zone, 4, 3
        slope = np.zeros((n, 2))
        slope[:, 0] = 0.1
        origin = observation.private["output"].astype(np.float64)
        return SetPointInfluence(index, np.ones((n, 2, 2)), origin, slope, np.full((n, 2), 1e-3))


class Proportional:
    """Every unit takes its part of what its zone and the heat still lack."""

    name, information = "proportional", "same"

    def act(self, observation, rng):
        own, gap = observation.agent[:, :2], observation.agent[:, 2:4]
        part = np.array([0.5, 0.25], np.float32)
        return np.clip(own + part * gap, observation.low, observation.high).astype(np.float32)


class Middle:
    """The middle of every box."""

    name, information = "middle", "same"

    def act(self, observation, rng):
        middle = observation.low + (observation.high - observation.low) / np.float32(2)
        return np.clip(middle, observation.low, observation.high)


class TrackLive:
    """Implements ``Live``."""

    def __init__(self, spec, settings, slot):
        rules = {rule.name: rule for rule in (Proportional(), Middle())}
        self.baseline = rules[slot.baseline or "proportional"]

    def project(self, observation, wanted, last, agents):
        low, high = observation.low, observation.high
        actions = np.clip(wanted, low, high).astype(np.float32)
        moved = np.abs(actions - wanted).max(axis=1)
        cause = np.where(moved > 0, int(Cause.BOX), 0).astype(np.int8)
        return Projected(actions, cause, moved.astype(np.float32))

    def recoverable(self, observation, actions, baseline):
        return True, 1.0

    def surely_recoverable(self, observation, actions):
        return 1.0

    def hold(self, observation, last, agents):
        if last is None:
            return None
        own = last if agents is None else last[agents]
        inside = (own >= observation.low) & (own <= observation.high)
        return own.copy() if inside.all() else None

    def safe(self, observation):
        return observation.low.copy()

    def deviation(self, observation, actions):
        return np.zeros(len(actions), np.float32)

    def objective(self, observation, actions):
        return float(np.abs(actions).sum()), float("nan")

    def coupling(self, spec):
        return np.asarray(spec.group_of)


def toybox():
    """The domain as a value."""
    return Domain(
        name=NAME,
        scenarios={SCENARIO: TrackScenario},
        simulator=TrackSimulator,
        model=lambda scenario, reference: TrackModel(scenario),
        heuristics=lambda scenario: (Proportional(), Middle()),
        references=("demand",),
        live=TrackLive,
    )


def with_toybox():
    """All registered domains, and this one; in place of ``registry.domains``."""
    known = {**registry_domains(), NAME: toybox()}
    return lambda: known


registry_domains = registry.domains


def register():
    """For processes of their own (a daemon under test); tests of one process patch instead."""
    registry.domains = with_toybox()


def arrays_of(spec, *, seed=1, width=8, scale=0.5, groups=1):
    """Weights of an untrained policy of set-points."""
    from fairlead.policies.interface import PolicyArrays

    rng = np.random.default_rng(seed)
    own, out = len(spec.agent_features), 2 * spec.action.dimensions
    tensors = {
        "agent.weight": rng.normal(scale=scale, size=(groups, own, width)),
        "agent.bias": rng.normal(scale=scale, size=(groups, width)),
        "hidden.1.weight": rng.normal(scale=scale, size=(groups, width, width)),
        "hidden.1.bias": np.zeros((groups, width)),
        "box.weight": rng.normal(scale=scale, size=(groups, width, out)),
        "box.bias": np.ones((groups, out)),
        "normaliser.agent.shift": np.ones((groups, own)),
        "normaliser.agent.scale": np.full((groups, own), 3.0),
    }
    tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
    member = spec.group_of if groups > 1 else np.zeros(spec.agents, np.int64)
    return PolicyArrays(tensors, member.astype(np.int64))


def make_box_bundle(folder, *, seed=1, groups=2, stochastic=True, settings=None):
    """A valid bundle of the toy with random weights; needs no registered domain."""
    from fairlead.platform.bundle import Contents, save_bundle
    from fairlead.platform.episodes import Stage
    from fairlead.platform.tasks import Task, Trained

    stage = Stage(TrackFactory(**(settings or {})))
    arrays = arrays_of(stage.spec, seed=seed, groups=groups)
    result = stage.play(Task(5, Trained(arrays, stochastic=stochastic), record=True))
    contents = Contents(
        name="toy set-points",
        spec=stage.spec,
        arrays=arrays,
        settings={**(settings or {}), "name": SCENARIO},
        provenance={"iteration": 3, "seed": seed},
        stochastic=stochastic,
    )
    return save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)


class TrackFactory:
    """Builds the toy for workers and stages without any registry."""

    def __init__(self, **settings):
        self.scenario = TrackScenario(**settings)

    def simulator(self):
        return TrackSimulator(self.scenario)

    def model(self, reference):
        return TrackModel(self.scenario)

    def heuristics(self):
        return (Proportional(), Middle())


def observations(count=12, *, seed=3, **settings):
    """Observations of the toy under the middle of every box."""
    simulator, rule = TrackSimulator(TrackScenario(**settings)), Middle()
    seen = [simulator.reset(seed)]
    while len(seen) < count:
        seen.append(simulator.step(rule.act(seen[-1], None)).observation)
    return seen


def rows_of(seen, agents):
    """The observation of some of its agents."""
    names = ("agent", "candidates", "target", "mask", "low", "high", "active")
    return replace(seen, **{name: getattr(seen, name)[agents] for name in names})
