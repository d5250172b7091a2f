"""The contract between a simulator and everything that learns from it or controls it.

Arrays first: agents are an axis, never a dictionary. A simulator describes itself once in a
:class:`Spec`; after that it only exchanges :class:`Observation` and :class:`Step` values whose
shapes follow from that spec:

====  ==========================================================================
A     agents
K     candidates per agent (choice actions); candidate 0 is always 'hold'
F     features of an agent
C     features of a candidate
D     dimensions of a set-point (box actions)
S     length of the central critic's input; must not grow with A
X     length of the system state x
====  ==========================================================================

Features are raw, in the unit that their :class:`Feature` names. Scaling for networks is the
policy's business, so that heuristics and operators read the numbers that a network reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HOLD = 0
"""Index of the candidate that means 'do nothing now'; its mask entry is always true."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a feature array.

    ``low`` and ``high`` bound the raw value (``inf`` where nothing bounds it). ``transform`` says
    how a network should read it: heavy-tailed non-negative quantities ask for ``log1p``.
    """

    name: str
    unit: str
    low: float = 0.0
    high: float = float("inf")
    transform: Literal["linear", "log1p"] = "linear"


@dataclass(frozen=True, slots=True)
class Choice:
    """Every agent picks one of ``candidates`` described alternatives; index 0 is 'hold'."""

    candidates: int


@dataclass(frozen=True, slots=True)
class Box:
    """Every agent picks a set-point of ``dimensions`` numbers inside the box it observes.

    ``base`` may name an agent feature for every dimension that is a share of the box: a set-point
    that is sensible without any learning, where policies may start.
    """

    dimensions: int
    base: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """What a simulator looks like from outside; constant over its life.

    ``group_of[a]`` is the index into ``groups`` of agent ``a``; agents of one group are
    exchangeable and may share parameters. ``horizon`` is the number of decision epochs of an
    episode (= decisions per agent) and ``dt`` the seconds between two of them.
    """

    domain: str
    scenario: str
    agents: int
    groups: tuple[str, ...]
    group_of: Ints
    agent_features: tuple[Feature, ...]
    candidate_features: tuple[Feature, ...]
    critic_features: tuple[Feature, ...]
    state_size: int
    action: Choice | Box
    horizon: int
    dt: float

    def agent_column(self, name: str) -> int:
        """Index of an agent feature by name; ``KeyError`` naming the known ones."""
        return _column(self.agent_features, name)

    def candidate_column(self, name: str) -> int:
        """Index of a candidate feature by name; ``KeyError`` naming the known ones."""
        return _column(self.candidate_features, name)


def _column(features: tuple[Feature, ...], name: str) -> int:
    for index, feature in enumerate(features):
        if feature.name == name:
            return index
    known = ", ".join(feature.name for feature in features)
    raise KeyError(f"no feature named {name!r}; known: {known}")


@dataclass(frozen=True, slots=True)
class Observation:
    """What the agents (and, in training, the critic and the guidance) see at a decision epoch.

    The *decentralised* part is ``agent``, ``candidates``, ``mask``, ``low``, ``high`` and
    ``active``: this is all that a policy or a same-information heuristic may read, and it is as
    stale as the scenario says. ``critic``, ``state`` and ``exogenous`` are the *centralised* part:
    the true present, used in training only (central critic, guidance).

    Attributes:
        agent: ``[A, F]`` float32.
        candidates: ``[A, K, C]`` float32 (choice actions), else ``[A, 0, 0]``.
        target: ``[A, K]`` int64, what the candidate stands for (a node, a job, a phase), -1 for
            hold and padding. Only identity: neither networks nor rules may learn from it.
        mask: ``[A, K]`` bool, legal candidates; column 0 ('hold') is always true.
        low, high: ``[A, D]`` float32, feasible box (box actions), else ``[A, 0]``.
        active: ``[A]`` bool, agents that have something to decide now.
        critic: ``[S]`` float32.
        state: ``[X]`` float64, system state x just before the joint decision takes effect.
        exogenous: ``[E]`` float64, inputs that no policy can influence (clock, forecast arrivals,
            units up), for the analytical model's reference.
        time: seconds since the start of the episode.
        private: arrays for the analytical model's influence (for example the jobs that wait).
    """

    agent: Floats
    candidates: Floats
    target: Ints
    mask: Bools
    low: Floats
    high: Floats
    active: Bools
    critic: Floats
    state: Doubles
    exogenous: Doubles
    time: float
    private: dict[str, NDArray[np.generic]] = field(default_factory=dict[str, NDArray[np.generic]])


@dataclass(frozen=True, slots=True)
class Step:
    """Result of one decision epoch.

    ``reward`` is what all agents share; ``local_reward`` ``[A]`` is each agent's own share of the
    cost, scaled so that its mean over agents equals ``reward``. A learner mixes them as
    ``(1 - m) * reward + m * local_reward``. ``components`` names the parts that sum to
    ``reward``. ``terminated`` means the process ended (nothing more to earn); ``truncated`` means
    the horizon cut it (bootstrap with the value of ``observation``).
    """

    observation: Observation
    reward: float
    local_reward: Doubles
    components: dict[str, float]
    terminated: bool
    truncated: bool


Chooser = Callable[[Observation], Ints]
"""Maps an observation to one action per agent of that observation, ``[A]`` int64."""


@runtime_checkable
class Simulator(Protocol):
    """A discrete-event system under decentralised control.

    ``reset`` starts an episode whose every random draw derives from ``seed``. ``step`` applies all
    actions of an epoch at once and runs to the next epoch. ``metrics`` reports the episode so far
    in the domain's own terms, as a flat mapping of name to number.
    """

    @property
    def spec(self) -> Spec: ...

    def reset(self, seed: int) -> Observation: ...

    def step(self, actions: NDArray[np.generic]) -> Step:
        """Apply ``actions`` (``[A]`` int64 for choices, ``[A, D]`` float for boxes).

        Raises:
            ValueError: wrong shape, or an action outside the mask or box (agent and value named).
        """
        ...

    def metrics(self) -> dict[str, float]: ...


@runtime_checkable
class SequentialSimulator(Simulator, Protocol):
    """A simulator that can also let agents decide one after another with fresh information."""

    def step_fresh(self, choose: Chooser) -> Step:
        """Like ``step``, but agent after agent in a seeded order sees the true present.

        ``choose`` receives observations of one active agent (A = 1) in which the effect of the
        agents before it is already visible. This is an upper bound on information, not a
        decentralised policy.
        """
        ...


@runtime_checkable
class Closeable(Protocol):
    """What holds a process or files outside this one, to be closed after use."""

    def close(self) -> None:
        """Let go of it; harmless if done already."""
        ...


@runtime_checkable
class LocallyControlled(Simulator, Protocol):
    """A simulator whose plant can also be run by controllers of its own, between the decisions."""

    def use_local(self, plan: str) -> None:
        """From the next ``reset`` on the plant runs ``plan``; ``""`` gives control back to agents.

        While a plan runs all agents are inactive: the mask allows hold only.

        Raises:
            ValueError: a plan that the plant does not know; names the known ones.
        """
        ...
