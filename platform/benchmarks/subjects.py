"""What a domain brings to the benches over the number of agents: scenario, sizes, rules, units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ...policies.settings import LearnerConfig
from ...simulators.interface import Simulator
from ...simulators.power.scenario import GeneratedScenario
from ..files import UserError
from ..tasks import DomainFactory
from ..train_config import TrainConfig, load_config

Name = Literal["cloud", "power", "traffic"]

ARRIVALS = 0.7
"""Arrivals per dispatcher and epoch, as in the cloud scenario's default."""
PER_HOUR = 12
"""Intervals of an hour of power dispatch."""
WIDE = 100.0
"""Multiple of every line's limit where noise is measured."""
INTERVAL = 10.0
"""Seconds between two decisions of a signal."""
RATE = 300.0
"""Vehicles per hour that enter at every edge of a grid of signals; see :func:`_traffic`."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One domain under study.

    Attributes:
        domain: its name; scenario: one that has a knob for the number of agents.
        agents: numbers of agents to study; few: of the smallest run that shows something;
            horizon, evaluation: decisions and seeds, by default.
        settings: values of the scenario for so many agents and decisions at a load.
        differing: the same where the stakes of the groups differ much; counts: knobs whose product
            is the number of agents.
        neutral: knobs of learners that are compared, so that all start from the same, plain policy.
        load: what the scenario calls load, by default; ``None`` where it has no such knob.
        bounds: rules with more information than a policy to show; bound: what that is, in words.
        rivals: rules that a guided learner should be ahead of, beside the best with its own
            information; led: whether that is promised (marked) here.
        systems: systems over which noise is averaged, since each is another one; relative: whether
            noise is measured against the signal, since systems differ in what is to be gained.
        timed: number of agents at which the training time is promised.
        knobs: of the guided learner; ``None``: those that suit the scenario. Where training starts
            from a rule of the domain, a study of learning starts from nothing instead.
        plain: in what the unguided learners differ from it, but for the guidance.
        returns: what a return is; figure, unit: of the episode's cost, where it is shown too.
    """

    domain: Name
    scenario: str
    agents: tuple[int, ...]
    few: int
    horizon: int
    evaluation: int
    settings: Callable[[int, int, float], Mapping[str, Any]]
    differing: Callable[[int, int, float], Mapping[str, Any]]
    counts: tuple[str, ...]
    neutral: Mapping[str, Any]
    load: float | None
    bounds: tuple[str, ...]
    bound: str
    rivals: tuple[str, ...]
    led: bool
    timed: int | None
    systems: int
    relative: bool
    knobs: Mapping[str, Any] | None
    plain: Mapping[str, Any]
    returns: str
    figure: str | None = None
    unit: str = "1"

    def factory(self, agents: int, horizon: int, load: float | None) -> DomainFactory:
        """The scenario at one number of agents.

        Raises:
            UserError: a load for a scenario that has none.
        """
        chosen = self.offered(load, self.load or 0.0)
        return DomainFactory(self.domain, self.scenario, self.settings(agents, horizon, chosen))

    def offered(self, load: float | None, default: float) -> float:
        """The load that was asked for, or ``default``.

        Raises:
            UserError: a load for a scenario that has none.
        """
        if load is not None and self.load is None:
            raise UserError(f"load={load}: scenario {self.scenario!r} has no offered load")
        return default if load is None else load

    def count(self, scenario: Mapping[str, Any]) -> int:
        """Number of agents that the scenario's values mean."""
        return math.prod(int(scenario[name]) for name in self.counts)

    def config(self) -> TrainConfig:
        """Knobs of training that suit the scenario."""
        return load_config(self.domain, self.scenario)

    def learner(self, name: str, mix: float | None = None) -> LearnerConfig:
        """Knobs of ``dgpg`` (guided), or of a plain algorithm on the same networks.

        A plain one gets ``mix`` as its ``local_mix``; ``None``: that of the guided one.
        """
        guided = self.config().learner
        if self.knobs is not None:
            guided = LearnerConfig.model_validate(self.knobs)
        if name == "dgpg":
            return guided
        plain: dict[str, Any] = {**guided.model_dump(), **self.plain, "algorithm": name}
        if mix is not None:
            plain["local_mix"] = mix
        # The same networks, without guidance.
        plain["guidance"]["alpha"] = {"schedule": "fixed", "start": 0.0}
        return LearnerConfig.model_validate(plain)


def _cloud(agents: int, horizon: int, load: float) -> Mapping[str, Any]:
    return {"name": "dispatch", "agents": agents, "horizon": horizon, "load": load}


def _tenants(agents: int, horizon: int, load: float) -> Mapping[str, Any]:
    """A cluster of specialised tenants with very different stakes.

    A training job is 250 times the work of a web request. Where the research lab sends its jobs
    decides the mean response time, where the web shop sends its own hardly matters. Epochs are
    short, so that holding a job, which all tenants have to unlearn alike, costs little.
    """
    return {
        **_cloud(agents, horizon, load),
        "class_work": [0.02, 0.05, 0.1, 5.0],
        "own_share": 1.0,
        "arrivals_per_epoch": 0.1,
    }


def _power(agents: int, horizon: int, load: float) -> Mapping[str, Any]:
    del load
    if horizon % PER_HOUR:
        raise UserError(
            f"horizon={horizon}: power episodes are whole hours of {PER_HOUR} decisions"
        )
    return {"name": "generated", "units": agents, "hours": horizon // PER_HOUR}


def _traffic(agents: int, horizon: int, load: float) -> Mapping[str, Any]:
    """The grid of so many signals that is nearest to a square.

    Every edge of the grid gets the same vehicles per hour. Fewer of them per signal enter a large
    grid, but they cross more signals: on every street the flow is the same, whatever N. So the mean
    queue at a signal compares: greedy has 3.2, 3.2, 2.9, 2.5 and 2.1 vehicles at N = 4, 16, 64, 196
    and 400 over 1,200 s, and 3.4, 3.8, 3.7, 3.5 and 3.2 in the last quarter, since large grids take
    longer to fill.
    """
    del load
    rows = max(side for side in range(1, math.isqrt(agents) + 1) if agents % side == 0)
    size = {"rows": rows, "columns": agents // rows}
    time = {"interval": INTERVAL, "seconds": INTERVAL * horizon}
    return {"name": "grid", **size, **time, "rate": RATE}


def _unlike(agents: int, horizon: int, load: float) -> Mapping[str, Any]:
    """The same grid where some signals have four phases, and others two and more room for them."""
    return {**_traffic(agents, horizon, load), "mixed": True}


SUBJECTS: Mapping[Name, Subject] = {
    "cloud": Subject(
        domain="cloud",
        scenario="dispatch",
        agents=(5, 10, 20, 50, 100, 200),
        few=8,
        horizon=200,
        evaluation=40,
        settings=_cloud,
        differing=_tenants,
        counts=("agents",),
        neutral={},
        load=0.7,
        bounds=("sed (fresh)", "greedy-reference (fresh)"),
        bound="fresh information",
        rivals=("greedy-reference",),
        led=True,
        timed=200,
        systems=1,
        relative=False,
        knobs=None,
        plain={},
        returns="return (minus mean response, s)",
    ),
    "power": Subject(
        domain="power",
        scenario="generated",
        agents=(10, 20, 50, 100, 200, 400, 600),
        few=10,
        horizon=288,
        evaluation=20,
        settings=_power,
        # Technologies differ by themselves: in size, price, and how much they can move.
        differing=_power,
        counts=("units",),
        # The middle of the box: from the answer to the indicative price little is left to gain.
        neutral={"network": {"base": 0.0}},
        load=None,
        bounds=("dc-opf", "greedy-reference"),
        bound="one place, all states",
        rivals=("dc-opf", "greedy-reference"),
        led=False,
        timed=None,
        systems=4,
        relative=True,
        knobs={"sharing": "group", "guidance": {"estimator": "expected"}},
        plain={},
        returns="return (minus cost, normal intervals)",
        figure="cost_usd",
        unit="$",
    ),
    "traffic": Subject(
        domain="traffic",
        scenario="grid",
        agents=(4, 16, 36, 64, 100, 196, 400),
        few=4,
        horizon=120,
        evaluation=10,
        settings=_traffic,
        differing=_unlike,
        counts=("rows", "columns"),
        # Signals with the same phases share weights; those that differ are groups of their own.
        neutral={"sharing": "group"},
        load=None,
        bounds=("greedy-reference",),
        bound="one place, all states",
        rivals=("greedy-reference",),
        led=False,
        timed=None,
        systems=1,
        relative=False,
        # Chosen at N = 16 and 64 on the seeds 0 and 1. The guidance looks one interval ahead: it is
        # right at first, and what comes after it is learned from the own delay.
        knobs={
            "sharing": "all",
            "gamma": 0.95,
            "local_mix": 0.5,
            "learning_rate": 1e-3,
            "passes": 12,
            "guidance": {
                "pace": {"first": 8.0, "last": 0.3, "updates": 8},
                "alpha": {"schedule": "linear", "start": 0.9, "end": 0.0, "updates": 6},
            },
        },
        # Without the pace of the guidance they need a longer step.
        plain={"learning_rate": 2e-3},
        returns="return (minus mean delay, s)",
        figure="delay_mean_s",
        unit="s",
    ),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the noise of one domain's learning signals is measured.

    ``scale`` times a reward concerns the whole system, as the guidance concerns one agent;
    ``units`` are those of the two variances: of the return so scaled, and of the guidance.
    """

    factory: DomainFactory
    scale: float
    units: tuple[str, str]


def noise_of(subject: Subject, agents: int, horizon: int, load: float, system: int) -> Setting:
    """A scenario whose agents share no noise but what they do to each other.

    What all agents share (a common arrival rate; the day's demand and weather) would correlate
    their noise, and that is not what more agents add. Heavy tails are left out too: cloud load is
    moderate, no unit or line fails, no line binds and missing reserve has no price (which lines
    bind and where reserve ends is a matter of each generated system, not of N). Vehicles come at
    the same times in all episodes and drive at their own speeds. ``system`` is the seed of a
    generated power system and of its day, or of a town.
    """
    if subject.domain == "cloud":
        pattern = {"amplitude": 0.0, "burst_share": 0.0}
        extra = {"arrivals_per_epoch": ARRIVALS, "pattern": pattern}
        settings = {**subject.settings(agents, horizon, load), **extra}
        factory = DomainFactory("cloud", subject.scenario, settings)
        return Setting(factory, agents * horizon * ARRIVALS, ("s^2", "s^2"))
    if subject.domain == "traffic":
        factory = DomainFactory(
            "traffic", subject.scenario, {**subject.settings(agents, horizon, load), "city": system}
        )
        return Setting(factory, _vehicles(factory), ("(vehicle s)^2", "vehicles^4"))
    still = {
        "outages": {"units": False, "branches": False},
        "limit_scale": WIDE,
        "prices": {"reserve": 0.0},
        "system": system,
    }
    settings = {**subject.settings(agents, horizon, load), **still}
    day = OneDay("power", subject.scenario, settings, day=system)
    return Setting(day, day.normal(), ("($/h)^2", "($/h)^2"))


def _vehicles(factory: DomainFactory) -> float:
    """Vehicles of an episode: the reward is a mean over them."""
    from ...simulators.traffic.town import town_of

    return float(town_of(factory.values()).demand.vehicles)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True)
class OneDay(DomainFactory):
    """Power episodes that all play the same ``day``, the seed of one."""

    day: int = 0

    def simulator(self) -> Simulator:
        """The scenario's simulator, whose seeds do not change the day."""
        from ...simulators.power.dispatch import PowerSimulator
        from ...simulators.power.system import system_of

        scenario = self._generated()
        system = system_of(scenario)  # pyright: ignore[reportArgumentType]
        day = replace(system, episode=lambda _, intervals: system.episode(self.day, intervals))
        return PowerSimulator(scenario, day)

    def normal(self) -> float:
        """$/h that the reward is a multiple of."""
        from ...simulators.power.system import system_of

        system = system_of(self._generated())  # pyright: ignore[reportArgumentType]
        return system.fleet.normal

    def _generated(self) -> GeneratedScenario:
        return GeneratedScenario.model_validate(dict(self.settings))
