"""One episode of a simulator: driven by the daemon over the wire, or by a controller in process."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...policies.interface import Controller
from ...simulators.interface import HOLD, Observation, Simulator
from ..client.asking import Answer, Client, Unavailable, infeasible
from ..decision.seeds import generator
from ..decision.types import CONSTRAINTS, Actions, Cause, Live, Source
from .faults import Fault, Plan, Shot, disturb
from .spawn import OwnDaemon

_LOG = logging.getLogger(__name__)
_STREAM = 0xD21E
_PAST = 32


@dataclass(frozen=True, slots=True)
class Run:
    """One driven episode, by epoch; T is the plan's ``room``, zero after the episode's end.

    Attributes:
        seed: of the simulator.
        cost: ``[T]`` minus the reward.
        source: ``[T, 6]`` active agents by :class:`..decision.types.Source`.
        local: ``[T]`` decided by the client's own fallback rule.
        seconds: ``[T]`` from asking to answer, wall clock.
        agreed: ``[T]`` share of active agents whose action is the one that the policy takes in
            process, on the true observation, with the same generator.
        late: epochs that began after their time.
        infeasible: executed actions that the simulator would have refused, in words.
        violations: set-points in all that the domain's projection would still have moved, on the
            true observation, by constraint; empty for choices.
        recovery: seconds from the daemon's restart to its next answer; NaN without one.
        back: epoch of that answer, ``T`` if it never came; 0 if the daemon was not restarted.
        memory: of our own daemon at the end, MiB.
        problems: why the client decided itself, with how often; ``report``: what a decision broke
            could not be reported.
    """

    seed: int
    cost: NDArray[np.float64]
    source: NDArray[np.int64]
    local: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    agreed: NDArray[np.float64]
    late: int
    infeasible: tuple[str, ...]
    recovery: float
    back: int
    memory: float
    problems: dict[str, int] = field(default_factory=dict[str, int])
    violations: dict[str, int] = field(default_factory=dict[str, int])


def seeds_of(seed: int, epochs: int, draw: int = 0) -> list[int]:
    """Seeds of the policy's sampling by epoch; another ``draw`` gives other ones."""
    words = np.random.SeedSequence([seed, _STREAM, draw]).generate_state(epochs, np.uint64)
    return [int(word) >> 1 for word in words]


def in_process(
    simulator: Simulator, controller: Controller, seed: int, epochs: int, *, draw: int = 0
) -> NDArray[np.float64]:
    """Cost by epoch ``[T]`` of an episode that ``controller`` decides without any daemon."""
    observation = simulator.reset(seed)
    cost = np.zeros(epochs)
    for epoch, action_seed in enumerate(seeds_of(seed, epochs, draw)):
        step = simulator.step(controller.act(observation, generator(action_seed)))
        cost[epoch] = -step.reward
        if step.terminated or step.truncated:
            break
        observation = step.observation
    return cost


class Driver:
    """Drives episodes: the simulator keeps the time, the daemon decides.

    Args:
        simulator: the system; it goes on whether or not the daemon answers.
        actor: the policy in process, to compare with.
        live: the domain's part, whose projection tells what executed set-points violate.
        client: of the daemon.
        plan: faults by epoch.
        speed: simulated seconds per second; 0: as fast as answers come.
        daemon: our own, for faults that need one; ``None``: somebody else's.
        label: names the drive in episodes, so that two of them never share a sequence.
        watch: told ``(epoch)`` after every epoch.
    """

    def __init__(
        self,
        *,
        simulator: Simulator,
        actor: Controller,
        live: Live,
        client: Client,
        plan: Plan,
        speed: float,
        daemon: OwnDaemon | None,
        label: str,
        watch: Callable[[int], None],
    ) -> None:
        self._simulator, self._actor, self._live = simulator, actor, live
        self._client = client
        self._plan, self._daemon, self._label, self._watch = plan, daemon, label, watch
        self._tick = simulator.spec.dt / speed if speed > 0 else 0.0
        self._started = float("nan")
        self._back = (float("nan"), 0)

    def episode(self, seed: int) -> Run:
        """Drive one episode."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, _STREAM, 1]))
        run = _empty(seed, self._plan.room)
        wrong: list[str] = []
        past = [self._simulator.reset(seed)]
        begun, late, self._back = time.monotonic(), 0, (float("nan"), 0)
        for epoch, action_seed in enumerate(seeds_of(seed, self._plan.room)):
            if epoch >= self._end():
                break
            late += self._keep_time(begun, epoch)
            self._process_faults(epoch)
            true = past[-1]
            shot = disturb(self._kinds(epoch), past, epoch, rng)
            answer = self._ask(shot, f"{self._label}/{seed}", action_seed)
            actions, found = _executable(true, answer.actions, epoch)
            wrong.extend(found)
            _note(run, epoch, true, answer)
            self._recovered(answer, epoch)
            run.agreed[epoch] = _share(_same(actions, self._wanted(true, action_seed)), true)
            broken = self._broken(true, actions, found)
            for constraint, count in broken.items():
                run.violations[constraint] = run.violations.get(constraint, 0) + count
            step = self._simulator.step(actions)
            run.cost[epoch] = -step.reward
            self._report(run, answer, broken)
            self._watch(epoch)
            if step.terminated or step.truncated:
                break
            past = [*past[-_PAST:], step.observation]
        self._process_faults(self._plan.epochs)
        memory = float("nan") if self._daemon is None else self._daemon.memory
        recovery, back = self._back
        return replace(
            run,
            late=late,
            infeasible=tuple(wrong),
            recovery=recovery,
            back=back,
            memory=memory,
        )

    def _wanted(self, true: Observation, seed: int) -> Actions:
        """What the policy in process does; set-points as the domain projects them."""
        wanted: Actions = self._actor.act(true, generator(seed))
        if not true.low.shape[1]:
            return wanted
        return self._live.project(true, wanted, None, None).actions

    def _broken(self, true: Observation, actions: Actions, found: list[str]) -> dict[str, int]:
        """Hard constraints that the executed actions break, with how many actions."""
        if not true.low.shape[1]:
            # A placement that a node refuses, as a stale snapshot must expect, breaks nothing.
            return {"legality": len(found)} if found else {}
        moved = self._live.project(true, actions, None, None).cause
        causes = np.bincount(moved, minlength=len(Cause))
        broken = {name: int(causes[cause]) for cause, name in CONSTRAINTS.items() if causes[cause]}
        if found:
            broken["box"] = broken.get("box", 0) + len(found)
        return broken

    def _end(self) -> int:
        """Where the episode ends, as far as is known by now."""
        waiting = bool(np.isfinite(self._started))
        return self._plan.room if waiting else self._plan.end(self._back[1])

    def _kinds(self, epoch: int) -> list[str]:
        return [fault.kind for fault in self._plan.faults if fault.at(epoch)]

    def _keep_time(self, begun: float, epoch: int) -> int:
        """Wait for the epoch's time; 1 if it is past already by a whole tick."""
        if not self._tick:
            return 0
        ahead = begun + epoch * self._tick - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        return int(ahead < -self._tick)

    def _process_faults(self, epoch: int) -> None:
        """Signals of the faults that begin or end now."""
        daemon = self._daemon
        if daemon is None:
            return
        for fault in self._plan.faults:
            if fault.kind == "stall" and epoch in {fault.first, fault.last}:
                daemon.signal(signal.SIGSTOP if epoch == fault.first else signal.SIGCONT)
            if fault.kind == "kill" and epoch == fault.first:
                daemon.kill()
            if fault.kind == "kill" and epoch == _restart(fault):
                daemon.start()
                self._started = time.monotonic()

    def _recovered(self, answer: Answer, epoch: int) -> None:
        """Note the first answer after a restart: how long it took, and the epoch."""
        if np.isfinite(self._started):
            self._back = (float("nan"), self._plan.room)
            if not answer.local:
                self._back = (time.monotonic() - self._started, epoch)
                self._started = float("nan")

    def _ask(self, shot: Shot, episode: str, seed: int) -> Answer:
        observed = time.time() - shot.age
        if shot.damage:
            return self._client.ask(shot.frame(observed), shot.observation)
        return self._client.decide(
            shot.observation,
            seq=shot.seq,
            episode=episode,
            observed=observed,
            deadline=shot.deadline,
            seed=seed,
        )

    def _report(self, run: Run, answer: Answer, broken: dict[str, int]) -> None:
        """Tell the daemon what its decision broke, if it did and if it was the daemon's."""
        if not broken or answer.local:
            return
        try:
            self._client.report(answer.decision, broken)
        except Unavailable as failure:
            _LOG.warning("%s of decision %s: %s", broken, answer.decision, failure)
            run.problems["report"] = run.problems.get("report", 0) + 1


def _restart(fault: Fault) -> int:
    """Half-way, so that the daemon comes back inside the outage."""
    return (fault.first + fault.last + 1) // 2


def _executable(true: Observation, actions: Actions, epoch: int) -> tuple[Actions, list[str]]:
    """The actions, or hold for everybody if one of them is not feasible, and what that was.

    Set-points that are not feasible are cut off at the end of their box, as a plant would.
    """
    found = infeasible(true, actions)
    if not found:
        return actions, []
    if true.low.shape[1]:
        known = actions.shape == true.low.shape
        wanted = np.where(np.isfinite(actions), actions, true.low) if known else true.low
        held = np.clip(wanted, true.low, true.high).astype(np.float32)
    else:
        held = np.full(len(true.agent), HOLD, np.int64)
    return held, [f"epoch {epoch}: {found}"]


def _same(actions: Actions, wanted: Actions) -> NDArray[np.bool_]:
    """``[A]`` agents whose action is the wanted one in every dimension."""
    equal = actions == wanted
    return equal if equal.ndim == 1 else equal.all(axis=1)


def _empty(seed: int, epochs: int) -> Run:
    return Run(
        seed=seed,
        cost=np.zeros(epochs),
        source=np.zeros((epochs, len(Source)), np.int64),
        local=np.zeros(epochs, np.bool_),
        seconds=np.zeros(epochs),
        agreed=np.zeros(epochs),
        late=0,
        infeasible=(),
        recovery=float("nan"),
        back=0,
        memory=float("nan"),
    )


def _note(run: Run, epoch: int, true: Observation, answer: Answer) -> None:
    run.source[epoch] = np.bincount(answer.source[true.active], minlength=len(Source))
    run.local[epoch] = answer.local
    run.seconds[epoch] = answer.seconds
    if answer.local:
        # What varies from case to case comes after the first colon.
        kind = answer.problem.partition(":")[0]
        run.problems[kind] = run.problems.get(kind, 0) + 1


def _share(which: NDArray[np.bool_], true: Observation) -> float:
    return float(which[true.active].mean()) if true.active.any() else 1.0
