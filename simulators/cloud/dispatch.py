"""Decentralised dispatching: every dispatcher places the head of its own queue, all at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..actions import checked_choices
from ..interface import Choice, Chooser, Doubles, Ints, Observation, Spec, Step
from ..streams import Streams
from .candidates import CandidateSampler
from .cluster import Cluster
from .episode import BACKGROUND, open_workload, prefill
from .exclusive import shares
from .features import Features, Heads
from .fleet import Fleet, resolve
from .kernel import Job
from .live import LiveNodes
from .metrics import Accounts, Epoch, EpochCost
from .scenario import DispatchScenario, OpenbScenario, Scenario
from .snapshot import Observer, Snapshot, influence, profile_edges
from .workload import Batch, Workload

WINDOW = 16
"""Epochs whose arrivals are drawn together."""


@dataclass(frozen=True, slots=True)
class Exogenous:
    """Layout of ``Observation.exogenous``: ``[time, class_rates (C), up (M)]``.

    Attributes:
        time: s since the start of the episode.
        class_rates: ``[C]`` forecast arrivals of every class over all dispatchers, jobs/s.
        up: ``[M]`` 1 for nodes in service.
    """

    time: float
    class_rates: Doubles
    up: Doubles

    @classmethod
    def unpack(cls, values: Doubles, classes: int) -> Exogenous:
        """Name the parts of an ``exogenous`` array."""
        return cls(float(values[0]), values[1 : 1 + classes], values[1 + classes :])

    def pack(self) -> Doubles:
        """The array form."""
        return np.concatenate([[self.time], self.class_rates, self.up])


class DispatchSimulator:
    """Implements ``SequentialSimulator`` for the scenarios ``dispatch``, ``openb`` and ``llm``.

    Jobs arrive at dispatchers and wait there in FIFO order. Every ``dt`` seconds each dispatcher
    with a waiting job sends its head job to one of its candidate nodes or holds; all decide at
    once, on a snapshot of the nodes that is ``snapshot_age`` epochs old. A placement that its node
    no longer accepts stays with its dispatcher and counts as a conflict.

    The reward of an epoch is minus the integral of jobs in system (plus optional cost terms) over
    the expected arrivals of an episode; by Little's law the return is minus the mean response time.
    """

    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        self.fleet: Fleet = resolve(scenario)
        self._limit = scenario.node_limit if isinstance(scenario, DispatchScenario) else None
        self._features = Features(self.fleet, self._limit)
        self._edges = profile_edges(scenario)
        self._exclusive = self.fleet.resources is not None
        self._contended = (
            self._exclusive or self._limit is not None or scenario.failures.mttf is not None
        )
        bins = 2 if self._exclusive else self._edges.shape[0] - 1
        self._spec = Spec(
            domain="cloud",
            scenario=scenario.name,
            agents=self.fleet.agents,
            groups=self.fleet.groups,
            group_of=self.fleet.group_of,
            agent_features=self._features.agent_features,
            candidate_features=self._features.candidate_features,
            critic_features=self._features.critic_features,
            state_size=self.fleet.nodes * bins,
            action=Choice(1 + min(scenario.sampled, self.fleet.nodes)),
            horizon=scenario.horizon,
            dt=self.fleet.dt,
        )
        capable = np.ones((1, self.fleet.nodes), dtype=bool)
        if self.fleet.resources is not None:
            capable = self.fleet.resources.capable()
        self._capable = capable
        self._agents = np.arange(self.fleet.agents)
        self._epoch = -1

    @property
    def spec(self) -> Spec:
        return self._spec

    def reset(self, seed: int) -> Observation:
        """Start an episode; every random draw derives from ``seed``."""
        streams = Streams(seed)
        fleet, scenario = self.fleet, self.scenario
        self._queues: list[deque[Job]] = [deque() for _ in range(fleet.agents)]
        self._cluster = Cluster(
            fleet=fleet,
            node_limit=self._limit,
            failures=scenario.failures,
            rng=streams.generator("failures"),
            returned=self._take_back,
        )
        self._workload: Workload = open_workload(scenario, fleet, streams)
        self._sampler = CandidateSampler(
            capable=self._capable,
            width=min(scenario.sampled, fleet.nodes),
            rng=streams.generator("candidates"),
        )
        self._order = streams.generator("order")
        if isinstance(scenario, OpenbScenario):
            prefill(fleet, scenario.prefill, self._cluster, streams)
        self._observer = Observer(
            cluster=self._cluster, smoothing=1.0 - float(np.exp(-1.0 / scenario.ewma))
        )
        self._accounts = Accounts(fleet=fleet, scenario=scenario)
        self._epoch = 0
        self._jobs: list[Job] = []
        self._next = 0
        self._snapshots: deque[Snapshot] = deque(maxlen=scenario.snapshot_age + 1)
        self._snapshots.append(self._observer.take())
        self._last = self._observe()
        return self._last

    def step(self, actions: NDArray[np.generic]) -> Step:
        """Place all dispatchers' choices at once and run to the next epoch.

        Raises:
            ValueError: wrong shape, or an illegal candidate (names agent and value).
            RuntimeError: before ``reset`` or after the end of the episode.
        """
        self._running()
        chosen = checked_choices(self.spec, self._last, actions)
        placing = np.flatnonzero((chosen > 0) & self._last.active)
        if self._contended:
            placing = self._order.permutation(placing)
        nodes = self._last.target[placing, chosen[placing]]
        cluster, queues = self._cluster, self._queues
        for agent, node in zip(placing.tolist(), nodes.tolist(), strict=True):
            if self._contended and not cluster.accepts(queues[agent][0], node):
                self._accounts.conflicts += 1
                continue
            cluster.place(queues[agent].popleft(), node)
        self._rotate(np.flatnonzero((chosen == 0) & self._last.active))
        return self._advance()

    def step_fresh(self, choose: Chooser) -> Step:
        """Like ``step``, agent after agent in a seeded order, each seeing the true present."""
        self._running()
        held: list[int] = []
        live = LiveNodes(self._snapshots[-1])
        state = self._last.state.copy()
        for agent in self._order.permutation(np.flatnonzero(self._last.active)).tolist():
            seen = self._observe_one(agent, live, state)
            action = int(np.asarray(choose(seen)).reshape(-1)[0])
            if not 0 <= action < seen.mask.shape[1] or not seen.mask[0, action]:
                raise ValueError(f"agent {agent} chose illegal candidate {action}")
            if action == 0:
                held.append(agent)
                continue
            node = int(seen.target[0, action])
            job = self._queues[agent].popleft()
            self._cluster.place(job, node)
            self._refresh(live, state, node, job.service)
        self._rotate(np.array(held, dtype=np.int64))
        return self._advance()

    def metrics(self) -> dict[str, float]:
        """The episode so far; see ``Accounts.metrics``."""
        if self._epoch < 0:
            raise RuntimeError("reset the simulator before asking for metrics")
        return self._accounts.metrics()

    def _finished(self) -> list[Job]:
        done = self._cluster.take_finished()
        if self._exclusive:
            return [job for job in done if job.owner != BACKGROUND]
        return done

    def _running(self) -> None:
        if self._epoch < 0:
            raise RuntimeError("reset the simulator before stepping it")
        if self._epoch >= self.scenario.horizon:
            raise RuntimeError(f"the episode ended after {self._epoch} epochs; reset it")

    def _take_back(self, job: Job) -> None:
        if job.owner != BACKGROUND:
            self._queues[job.owner].appendleft(job)

    def _rotate(self, held: Ints) -> None:
        if self.scenario.rotate:
            for agent in held.tolist():
                self._queues[agent].rotate(-1)

    def _advance(self) -> Step:
        self._epoch += 1
        end = self._epoch * self.fleet.dt
        self._cluster.calendar.run_until(end)
        owner, arrival = self._admit(end)
        snapshot = self._observer.take()
        self._snapshots.append(snapshot)
        epoch = Epoch(
            end=end,
            owner=owner,
            arrival=arrival,
            finished=self._finished(),
            busy=self._observer.busy,
            down=self._cluster.down_times(),
            fragmentation=float(snapshot.fragmentation.sum()) / 1000.0,
        )
        cost = self._accounts.close(epoch)
        self._last = self._observe()
        return self._settle(cost)

    def _admit(self, end: float) -> tuple[Ints, Doubles]:
        """Queue the arrivals up to ``end``; returns their owners and times."""
        if (self._epoch - 1) % WINDOW == 0:
            start = (self._epoch - 1) * self.fleet.dt
            last = min(self._epoch - 1 + WINDOW, self.scenario.horizon)
            self._batch: Batch = self._workload.draw(start, last * self.fleet.dt)
            self._jobs = self._batch.jobs()
            self._next = 0
        batch, first = self._batch, self._next
        stop = int(np.searchsorted(batch.time, end, side="right"))
        if self._epoch % WINDOW == 0 or self._epoch == self.scenario.horizon:
            stop = batch.time.shape[0]
        queues = self._queues
        for job in self._jobs[first:stop]:
            queues[job.owner].append(job)
        self._next = stop
        return batch.owner[first:stop], batch.time[first:stop]

    def _settle(self, cost: EpochCost) -> Step:
        agents, expected = self.fleet.agents, self.fleet.expected_arrivals
        components = {
            "response": -float(cost.response.sum()) / expected,
            "energy": -cost.energy / expected,
            "slo": -float(cost.slo.sum()) / expected,
            "fragmentation": -cost.fragmentation / expected,
        }
        reward = sum(components.values())
        common = components["energy"] + components["fragmentation"]
        local = -(cost.response + cost.slo) * (agents / expected) + common
        self._accounts.total += reward
        return Step(
            observation=self._last,
            reward=reward,
            local_reward=local,
            components=components,
            terminated=False,
            truncated=self._epoch >= self.scenario.horizon,
        )

    def _observe(self) -> Observation:
        fleet, now = self.fleet, self._cluster.calendar.now
        present = self._snapshots[-1]
        self._heads = heads = Heads.collect(self._queues, len(fleet.types))
        factors = self._workload.factors(now)
        self._load = fleet.load * factors
        self._day = self._workload.day(now)
        nodes = self._sampler.draw(heads.demand)
        target = np.concatenate([np.full((fleet.agents, 1), -1), nodes], axis=1)
        target[~heads.active] = -1
        seen, mask, service = self._features.candidates(self._snapshots[0], heads, target)
        private: dict[str, NDArray[np.generic]] = {"agent": self._agents, "service": service}
        if self._exclusive:
            private["delta"] = self._features.delta(present, heads, target)
        rates = (fleet.group_rates * factors) @ fleet.mix
        box = np.zeros((fleet.agents, 0), dtype=np.float32)
        return Observation(
            agent=self._features.agents(heads, fleet.group_of, self._load, self._day, now),
            candidates=seen,
            target=target,
            mask=mask,
            low=box,
            high=box,
            active=heads.active,
            critic=self._features.critic(present, heads, self._load, self._day),
            state=self._state(present),
            exogenous=Exogenous(now, rates, present.up.astype(np.float64)).pack(),
            time=now,
            private=private,
        )

    def _state(self, present: Snapshot) -> Doubles:
        if not self._exclusive:
            return present.profile(self._edges).ravel()
        gpu = present.gpu.sum(axis=1)
        every = np.arange(self.fleet.nodes)
        share = shares(self.fleet.vectors, every, present.cpu, present.memory, gpu)
        return np.stack([present.fragmentation / 1000.0, share], axis=1).ravel()

    def _observe_one(self, agent: int, live: LiveNodes, state: Doubles) -> Observation:
        """What one dispatcher sees when it knows the true present."""
        last, row = self._last, slice(agent, agent + 1)
        heads, target = self._heads.only(agent), last.target[row]
        shown = state.view()  # not a copy per decision: read-only, and valid until the next one
        shown.flags.writeable = False
        seen, mask, service = self._features.candidates(live, heads, target)
        private: dict[str, NDArray[np.generic]] = {
            "agent": self._agents[row],
            "service": service,
        }
        if self._exclusive:
            private["delta"] = self._features.delta(live, heads, target)
        return Observation(
            agent=last.agent[row],
            candidates=seen,
            target=target,
            mask=mask,
            low=last.low[row],
            high=last.high[row],
            active=last.active[row],
            critic=last.critic,
            state=shown,
            exogenous=last.exogenous,
            time=last.time,
            private=private,
        )

    def _refresh(self, live: LiveNodes, state: Doubles, node: int, service: float) -> None:
        """Show a placement to the dispatchers that decide after it."""
        live.add(node, service)
        ledger = self._cluster.ledger
        if ledger is not None:
            state[2 * node : 2 * node + 2] = live.reload(ledger, node)
            return
        bins = self._edges.shape[0] - 1
        state[node * bins : (node + 1) * bins] += influence(np.array(service), self._edges)
