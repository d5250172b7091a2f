"""A whole drive: our daemon or another's, the driven episodes, and the same ones in process."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import time_ns
from types import FrameType

import numpy as np
from numpy.typing import NDArray

from ...policies.interface import Controller
from ...simulators.interface import Simulator
from ..bundle import Bundle
from ..client.asking import Client
from ..client.circuit import Circuit
from ..client.fallback import domain_part
from ..files import UserError
from ..progress import Report
from ..registry import find_domain, find_scenario
from ..tasks import DomainFactory
from .faults import PROCESS, Plan
from .loop import Driver, Run, in_process
from .spawn import OwnDaemon


@dataclass(frozen=True, slots=True)
class Order:
    """What to drive.

    Attributes:
        bundle: the policy; its scenario is the system.
        plan: faults.
        seeds: of the episodes.
        speed: simulated seconds per second; 0: as fast as it goes.
        draws: in-process episodes per seed and controller, with other draws of the same rule.
        url: of a running daemon; empty: start one.
        token: bearer token for it.
        overrides: knobs of our own daemon, ``key=value``.
        folder: for our daemon's state and log; ``None``: a temporary one.
    """

    bundle: Bundle
    plan: Plan
    seeds: tuple[int, ...]
    speed: float = 10.0
    draws: int = 4
    url: str = ""
    token: str | None = None
    overrides: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Driven:
    """What came of it.

    Attributes:
        order: that was carried out.
        runs: driven episodes by seed.
        policy, baseline: ``[S, R, T]`` cost by seed, draw and epoch, in process.
        rule: name of the baseline.
        starts: of our daemon.
        status: its exit status after SIGTERM; ``None``: it was not ours.
    """

    order: Order
    runs: tuple[Run, ...]
    policy: NDArray[np.float64]
    baseline: NDArray[np.float64]
    rule: str
    starts: int
    status: int | None

    @property
    def unit(self) -> str:
        """Of the cost, as the domain says."""
        return find_domain(self.order.bundle.spec.domain).cost

    @property
    def accepted(self) -> float:
        """Cost during the faults over the baseline's that the domain accepts."""
        return find_domain(self.order.bundle.spec.domain).outage

    @property
    def length(self) -> int:
        """Epochs that all driven episodes have."""
        return min(self.order.plan.end(run.back) for run in self.runs)

    def parts(self, phase: str) -> Sequence[slice]:
        """Epochs of a phase in every driven episode; its outage ends when the daemon is back."""
        return [self.order.plan.phases(run.back)[phase] for run in self.runs]


def run_drive(order: Order, progress: Report) -> Driven:
    """Carry out an order.

    Raises:
        UserError: the daemon does not start, or a fault needs a daemon of our own.
    """
    plan = order.plan
    needed = {fault.kind for fault in plan.faults} & PROCESS
    if order.url and needed:
        raise UserError(
            f"faults {', '.join(sorted(needed))} need a daemon that the drive starts itself: "
            "leave --url out"
        )
    factory = order.bundle.factory()
    factory = _lengthened(factory, plan.room)
    actor, live = order.bundle.actor(), domain_part(order.bundle.folder)
    rule = live.baseline
    total = len(order.seeds) * plan.epochs
    runs: list[Run] = []
    with _daemon(order) as (daemon, url), _client(order, factory, url, rule) as client:
        driver = Driver(
            simulator=factory.simulator(),
            actor=actor,
            live=live,
            client=client,
            plan=plan,
            speed=order.speed,
            daemon=daemon,
            label=f"drive-{time_ns():x}",
            watch=lambda epoch: progress(len(runs) * plan.epochs + epoch + 1, total, "driven"),
        )
        for seed in order.seeds:
            if daemon is not None:
                daemon.wait()
            runs.append(driver.episode(seed))
        status = None if daemon is None else daemon.stop()
    longest = max(plan.end(run.back) for run in runs)
    costs = _in_process(order, factory.simulator(), (actor, rule), longest, progress)
    starts = 0 if daemon is None else daemon.starts
    return Driven(order, tuple(runs), *costs, rule=rule.name, starts=starts, status=status)


def _lengthened(factory: DomainFactory, room: int) -> DomainFactory:
    """The scenario with episodes of at least ``room`` epochs.

    Raises:
        UserError: its episodes are shorter, and no knob makes them longer.
    """
    knobs = find_scenario(factory.domain, factory.scenario).model_fields
    spec = factory.simulator().spec
    lengths = {"horizon": room, "hours": ceil(room * spec.dt / 3600.0)}
    for knob, length in lengths.items():
        if knob in knobs:
            return replace(factory, settings={**factory.settings, knob: length})
    horizon = spec.horizon
    if horizon < room:
        raise UserError(
            f"episodes of {factory.domain}/{factory.scenario} have {horizon} epochs, the drive may "
            f"need {room}: give a smaller --epochs"
        )
    return factory


@contextmanager
def ended_orderly() -> Generator[None]:
    """While this is open, SIGTERM unwinds the stack, so that no daemon of ours is left behind."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _daemon(order: Order) -> Generator[tuple[OwnDaemon | None, str]]:
    """Our own daemon, ready, or the address of another's."""
    if order.url:
        yield None, order.url
        return
    with ExitStack() as stack:
        folder = order.folder
        if folder is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-drive-"))
            folder = Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        # The breaker's pause is a time of the system, which goes faster here.
        pause = max(0.2, 10.0 / order.speed) if order.speed > 0 else 0.2
        scaled = (f"slot.breaker.open_time={pause:g}",)
        daemon = OwnDaemon(order.bundle.folder, folder, overrides=(*scaled, *order.overrides))
        stack.callback(daemon.kill)
        daemon.start()
        daemon.wait()
        yield daemon, daemon.url


def _client(order: Order, factory: DomainFactory, url: str, rule: Controller) -> Client:
    """A bridge whose patience is two epochs, within reason."""
    dt = order.bundle.spec.dt
    tick = dt / order.speed if order.speed > 0 else 0.25
    return Client(
        url,
        factory.domain,
        fallback=rule,
        token=order.token,
        timeout=float(np.clip(2.0 * tick, 0.1, 0.25)),
        name="drive",
        circuit=Circuit(failures=3, pause=max(0.05, 2.0 * tick)),
    )


def _in_process(
    order: Order,
    simulator: Simulator,
    controllers: tuple[Controller, Controller],
    epochs: int,
    progress: Report,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Costs ``[S, R, T]`` of policy and baseline."""
    total, done = 2 * len(order.seeds) * order.draws, 0
    found: list[NDArray[np.float64]] = []
    for controller in controllers:
        rows: list[NDArray[np.float64]] = []
        for seed in order.seeds:
            for draw in range(order.draws):
                rows.append(in_process(simulator, controller, seed, epochs, draw=draw))
                done += 1
                progress(done, total, f"{controller.name} in process")
        found.append(np.array(rows).reshape(len(order.seeds), order.draws, -1))
    return found[0], found[1]


def phase_costs(driven: Driven, phase: str) -> Sequence[NDArray[np.float64]]:
    """Summed cost in a phase: driven ``[S]``, policy ``[S, R]``, baseline ``[S, R]``."""
    parts = driven.parts(phase)
    ours = np.array([run.cost[part].sum() for run, part in zip(driven.runs, parts, strict=True)])
    policy, rule = (
        np.array([cost[:, part].sum(axis=1) for cost, part in zip(costs, parts, strict=True)])
        for costs in (driven.policy, driven.baseline)
    )
    return ours, policy, rule
