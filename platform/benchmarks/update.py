"""What one policy update costs per agent, and what becomes of the compound ratio of many agents.

*Cost*: process-CPU seconds of one update of N agents that share no weights, divided by N; one
thread, every run in a process of its own. Beside it, if a checkout is given, HARL on problems of
the same size, in turns with ours, so that both meet the same load of the machine.

*Compound ratio*: sequential learners weight the advantage of agent k by the product of k - 1
probability ratios. The bench follows its largest value and its effective sample size (share of the
samples that count) from agent to agent while all fit the same noise, and checks on a team problem
with a known answer that the joint policy really became better. ``update_problem`` describes both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from ...simulators.settings import Settings, knob
from ..progress import Report
from ..rows import Row
from .update_factor import factor_rows
from .update_problem import Problem
from .update_runs import Case, Checkout, Cost, measure

MARKED = 200
"""Teams of at least so many agents have to meet the marks."""
MANY = 32
"""From so many agents on the compound ratio is worth following."""
LARGE = 500
"""Teams of at least so many agents are measured once: the figure is a mean over them anyway."""
FASTER = 10.0
"""Times that HARL's HATRPO update has to cost at least, over ours in blocks."""
ON_GPU = 0.3
"""Seconds on the clock for one HATRPO-W update of 200 agents on a GPU."""


class Options(Settings):
    """What to measure."""

    agents: tuple[int, ...] = knob((8, 32, 200, 1000), "numbers of agents")
    samples: int = knob(2000, "decisions per agent", unit="decisions", ge=16)
    observation: int = knob(18, "features of an agent", ge=1)
    actions: int = knob(5, "actions to choose from", ge=2)
    hidden: tuple[int, ...] = knob((128, 128), "widths of the policy's hidden layers", min_length=1)
    block: int = knob(32, "agents of a block, which move at once", usual="8 ... 32", ge=2)
    fisher: int = knob(
        500, "decisions per agent in the Fisher products of the runs in blocks", ge=8
    )
    repeats: int = knob(3, "runs per figure, of which the median counts; large teams: one", ge=1)
    factor_agents: tuple[int, ...] | None = knob(
        None,
        f"numbers of agents whose compound ratio is followed; unset: those of ``agents`` from "
        f"{MANY} on; empty: none",
    )
    total_kl: float = knob(1.0, "bound on the joint KL in the bounded runs", unit="nats", gt=0.0)
    harl: Path | None = knob(None, "root of a HARL checkout to measure beside ours")
    harl_python: Path | None = knob(None, "interpreter for it, with torch and numpy; unset: ours")
    harl_agents: tuple[int, ...] = knob((8, 32), "numbers of agents that HARL is measured with")
    harl_factor_agents: int = knob(64, "agents whose factor HARL is followed with", ge=2)
    harl_space: Literal["discrete", "box"] = knob(
        "discrete", "HARL's actions: one of ``actions``, or a Gaussian with so many dimensions"
    )
    seeds: int = knob(1, "seed of features, actions and weights", ge=0)
    plot: Path | None = knob(None, "write a chart here")
    quick: bool = knob(False, "smallest useful run")

    def problem(self, agents: int) -> Problem:
        """The synthetic team of so many agents."""
        return Problem(
            agents=agents,
            samples=self.samples,
            observation=self.observation,
            actions=self.actions,
            hidden=self.hidden,
            seed=self.seeds,
        )

    @property
    def followed(self) -> tuple[int, ...]:
        """Numbers of agents whose compound ratio is followed."""
        many = tuple(agents for agents in self.agents if agents >= MANY)
        return many if self.factor_agents is None else self.factor_agents

    @property
    def checkout(self) -> Checkout | None:
        """The HARL checkout, checked; None if none is asked for."""
        if self.harl is None:
            return None
        python = self.harl_python or Path(sys.executable)
        found = Checkout(self.harl.expanduser().resolve(), python, self.harl_space)
        found.check()
        return found


SMALL = {
    "agents": (4,),
    "samples": 64,
    "hidden": (16,),
    "block": 2,
    "fisher": 32,
    "repeats": 1,
    "factor_agents": (6,),
    "harl_agents": (4,),
    "harl_factor_agents": 4,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the cost table: a case, what it is called, and its mark in seconds per agent."""

    name: str
    case: Case
    mark: float


def entries(options: Options) -> tuple[Entry, ...]:
    """The cost table's lines.

    All with the compound ratio clamped, which costs nothing: without it the late agents of a large
    team see hardly any sample, find nothing to do and would look cheap.
    """
    blocks, fisher = options.block, options.fisher
    suffix = f"clamped, blocks of {blocks}"
    part = f"{suffix}, {fisher} in Fisher products"
    return (
        Entry(f"hatrpo {part}", Case("hatrpo", blocks, fisher, clip=True), 0.04),
        Entry(f"hatrpo-w {part}", Case("hatrpo-w", blocks, fisher, clip=True), 0.04),
        Entry(f"happo 5 x 1 {suffix}", Case("happo", blocks, clip=True), 0.02),
        Entry("hatrpo clamped, one by one, all samples", Case("hatrpo", 1, clip=True), 0.12),
    )


def run(options: Options, progress: Report) -> list[Row]:
    """Measure cost and compound ratio; see ``Options``.

    Raises:
        UserError: a HARL checkout or its interpreter is missing or cannot be used.
    """
    if options.quick:
        options = options.model_copy(update=SMALL)
    checkout = options.checkout
    costs = [Cost(agents) for agents in options.agents]
    for cost in costs:
        jobs = list(_jobs(options, cost, checkout))
        for done, (what, job) in enumerate(jobs):
            progress(done, len(jobs), f"{cost.agents} agents: {what}")
            job()
    rows = [_machine(), *(row for cost in costs for row in _rows(options, cost))]
    if torch.cuda.is_available() and not options.quick:
        rows.append(_on_gpu(options))
    curves, more = factor_rows(
        [options.problem(agents) for agents in options.followed],
        block=options.block,
        fisher=options.fisher,
        total_kl=options.total_kl,
        harl=checkout,
        harl_problem=options.problem(options.harl_factor_agents),
        progress=progress,
    )
    if options.plot is not None:
        from .update_chart import draw_update

        draw_update(costs, [entry.name for entry in entries(options)], curves, options.plot)
    return [*rows, *more]


def _jobs(
    options: Options, cost: Cost, checkout: Checkout | None
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Runs of one team size; within every repeat each of ours is followed by HARL's, if any."""
    problem = options.problem(cost.agents)

    def ours(entry: Entry) -> Callable[[], None]:
        return lambda: cost.ours.setdefault(entry.name, []).extend(measure((problem, entry.case)))

    def theirs(algorithm: str, found: Checkout) -> Callable[[], None]:
        return lambda: cost.harl.setdefault(algorithm, []).append(
            found.run(problem, algorithm, advantage="own")
        )

    for _ in range(options.repeats if cost.agents < LARGE else 1):
        for entry in entries(options):
            yield entry.name, ours(entry)
            algorithm = entry.case.algorithm
            same = algorithm in ("hatrpo", "happo") and entry.case.block == options.block
            if checkout is not None and same and cost.agents in options.harl_agents:
                yield f"HARL {algorithm}", theirs(algorithm, checkout)


def _rows(options: Options, cost: Cost) -> list[Row]:
    rows: list[Row] = []
    for entry in entries(options):
        name = f"N={cost.agents}: {entry.name}"
        seconds = cost.per_agent(entry.name)
        label = f"{name}, CPU per agent"
        peak = max(one.peak for one in cost.ours[entry.name])
        rows += [
            Row.at_most(label, seconds, "s", entry.mark)
            if cost.agents >= MARKED
            else Row.info(label, seconds, "s"),
            Row.info(f"{name}, peak memory", round(peak), "MiB"),
        ]
    for algorithm, runs in cost.harl.items():
        name = f"N={cost.agents}: HARL {algorithm}"
        train = median(one.train_seconds[0] for one in runs) / cost.agents
        (ours,) = (
            entry.name
            for entry in entries(options)
            if entry.case.algorithm == algorithm and entry.case.block == options.block
        )
        ratio = cost.harl_per_agent(algorithm) / cost.per_agent(ours)
        label = f"{name} over ours in blocks"
        rows += [
            Row.info(f"{name}, CPU per agent, its train() alone", train, "s"),
            Row.info(f"{name}, CPU per agent", cost.harl_per_agent(algorithm), "s"),
            Row.info(f"{name}, peak memory", round(max(one.peak_mib for one in runs)), "MiB"),
            Row.at_least(label, ratio, "1", FASTER)
            if algorithm == "hatrpo"
            else Row.info(label, ratio, "1"),
        ]
    return rows


def _machine() -> Row:
    """What a CPU second is worth here and now: other work on the machine makes it shorter."""
    torch.set_num_threads(1)
    inputs, weights = torch.ones(8, 500, 128), torch.ones(8, 128, 128)
    operations = 2.0 * inputs.numel() * weights.shape[2]
    spent: list[float] = []
    for _ in range(20):
        begin = time.process_time()
        torch.bmm(inputs, weights)
        spent.append(time.process_time() - begin)
    name = "machine: matrix products of this size, per CPU second"
    return Row.info(name, operations / median(spent) / 1e9, "GFLOP/s")


def _on_gpu(options: Options) -> Row:
    """The same blocks on a GPU; seconds on the clock, of all agents together."""
    problem = options.problem(MARKED).model_copy(update={"device": "cuda"})
    (result,) = measure((problem, Case("hatrpo-w", options.block, options.fisher)))
    name = f"N={MARKED}: hatrpo-w on {torch.cuda.get_device_name()}, all agents, on the clock"
    return Row.at_most(name, result.wall, "s", ON_GPU)
