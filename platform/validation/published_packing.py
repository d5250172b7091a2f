"""GPU packing against the published allocation curves of the FGD paper (USENIX ATC 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...simulators.cloud.openb import (
    GPU_MILLI,
    OpenbNodes,
    OpenbPods,
    read_openb_nodes,
    read_openb_pods,
)
from ...simulators.cloud.packing import POLICIES, Arrivals, Ties, pack, random_order
from ...simulators.errors import DataError
from ...simulators.interface import Doubles, Ints
from ...simulators.tables import read_table
from ..rows import Row
from .suites import Check, skipped

LOADS = (100, 130)
"""Arrived GPU demand, in % of capacity, at which allocations are compared."""

RANKED_GATE, RANDOM_GATE, QUICK_GATE = 0.15, 0.6, 1.5
"""Percentage points: with the published orders and ranks; for Random or for own orders; for less
than all runs."""

RANDOM_TIES = (88.5, 91.0)
"""Where FGD's allocation at 100 % demand falls with a fresh random choice among equal scores."""

RUNS, QUICK_RUNS = 20, 2
"""Own random orders of a mix without published ones; runs of a quick comparison."""

_NODES = ("openb_node_list_gpu_node.csv", "openb_node_list_all_node.csv")
_PREFIX = "fgd_published_alloc_"
_SECONDS = {"FGD": 1.2, "Random": 0.3}


@dataclass(frozen=True, slots=True)
class Mix:
    """One workload with everything published about it.

    Attributes:
        name: for example ``default`` or ``multigpu20``.
        nodes, pods, curves: files.
        orders, ranks: files of pod orders and node ranks by seed, if there are.
    """

    name: str
    nodes: Path
    pods: Path
    curves: Path
    orders: Path | None
    ranks: Path | None


@dataclass(frozen=True, slots=True)
class Published:
    """Published allocation of one policy: ``[seeds, 2]`` % at :data:`LOADS`, and the seeds."""

    seeds: tuple[int, ...]
    allocation: Doubles


def packing_checks(folders: Sequence[Path], *, quick: bool) -> list[Check]:
    """Comparisons for every mix with published curves; ``quick`` runs two orders per policy."""
    found: list[Check] = []
    for folder in folders:
        for curves in sorted([*folder.glob(f"{_PREFIX}*.csv"), *folder.glob(f"{_PREFIX}*.csv.gz")]):
            found += _mix_checks(curves, quick=quick)
    return found


def _mix_checks(curves: Path, *, quick: bool) -> list[Check]:
    name = curves.name.removeprefix(_PREFIX).partition(".")[0]
    folder = curves.parent
    pods = _existing(folder, f"openb_pod_list_{name}.csv")
    nodes = next((file for wanted in _NODES if (file := _existing(folder, wanted))), None)
    if pods is None or nodes is None:
        what = f"openb_pod_list_{name}.csv" if pods is None else _NODES[0]
        row = skipped(curves.name, f"no {what} beside it")
        return [Check(f"openb {name}", partial(_only, row), cost=0.0)]
    mix = Mix(
        name=name,
        nodes=nodes,
        pods=pods,
        curves=curves,
        orders=_by_seed(folder, "fgd_pod_order", name),
        ranks=_by_seed(folder, "fgd_node_rank", name),
    )
    found: list[Check] = []
    for policy, published in read_curves(mix).items():
        if policy not in POLICIES:
            row = skipped(f"openb {name}, {policy}", "this policy is not built in")
            found.append(Check(f"openb {name}: {policy}", partial(_only, row), cost=0.0))
            continue
        runs = _runs(mix, published, quick=quick)
        cost = runs * _SECONDS.get(policy, 0.3)
        run = partial(compare_policy, mix, policy, published, runs)
        found.append(Check(f"openb {name}: {policy}", run, cost))
    ranked = ("Random", "BestFit", "FGD")
    if all(policy in {check.name.partition(": ")[2] for check in found} for policy in ranked):
        runs = QUICK_RUNS if quick else 5
        run = partial(compare_order, mix, runs)
        found.append(Check(f"openb {name}: order of policies and random ties", run, runs * 3.0))
    return found


def _only(row: Row) -> list[Row]:
    return [row]


def _existing(folder: Path, name: str) -> Path | None:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    return None


def _by_seed(folder: Path, prefix: str, mix: str) -> Path | None:
    """``<prefix>_<mix>_*.csv``; for the default mix also ``<prefix>_seed*.csv``."""
    patterns = [f"{prefix}_{mix}[_.]*"] + ([f"{prefix}_seed*"] if mix == "default" else [])
    for pattern in patterns:
        files = sorted(file for file in folder.glob(pattern) if ".csv" in file.suffixes)
        if files:
            return files[0]
    return None


def read_curves(mix: Mix) -> dict[str, Published]:
    """Published figures of a mix by policy name.

    Raises:
        DataError: missing columns or an unusable number.
    """
    columns = tuple(str(load) for load in LOADS)
    table = read_table(mix.curves, ("sc_policy", "seed", *columns), ("workload",))
    seeds = table.integers("seed")
    figures = np.stack([table.numbers(column, high=100.0) for column in columns], axis=1)
    workloads = table.text("workload") if "workload" in table.columns else None
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(table.text("sc_policy", required=True)):
        if workloads is None or workloads[row].removeprefix("openb_pod_list_") == mix.name:
            # Published labels carry a running number: "06-FGD".
            rows_of.setdefault(label.rpartition("-")[2], []).append(row)
    if not rows_of:
        accepted = f"rows of workload openb_pod_list_{mix.name} are expected"
        raise DataError(mix.curves, field="workload", accepted=accepted)
    return {
        policy: Published(tuple(int(seeds[row]) for row in rows), figures[rows])
        for policy, rows in rows_of.items()
    }


def _runs(mix: Mix, published: Published, *, quick: bool) -> int:
    if quick:
        return QUICK_RUNS
    return len(published.seeds) if mix.orders and mix.ranks else RUNS


class Experiment:
    """Nodes, pods and orders of a mix, read once."""

    def __init__(self, mix: Mix):
        self.mix = mix
        nodes = read_openb_nodes(mix.nodes)
        self.nodes = _with_gpus(nodes)
        self.pods: OpenbPods = read_openb_pods(mix.pods)
        self.capacity = int(self.nodes.gpus.sum()) * GPU_MILLI
        self.orders = _values(mix.orders, "position", "pod_row", self.pods.pods)
        self.ranks = _values(mix.ranks, "node_row", "tiebreak_rank", self.nodes.nodes)
        self.published_orders = bool(self.orders and self.ranks)

    def seeds(self, published: Published, runs: int) -> tuple[int, ...]:
        """The published seeds if their orders are given, else 0, 1, ..."""
        if not self.published_orders:
            return tuple(range(runs))
        known = [s for s in published.seeds if s in self.orders and s in self.ranks]
        if not known:
            accepted = f"orders of some of the published seeds {published.seeds} are expected"
            raise DataError(self.mix.orders or self.mix.pods, field="seed", accepted=accepted)
        return tuple(known[:runs])

    def allocation(self, policy: str, seed: int, *, ties: Ties | None = None) -> Doubles:
        """Allocation in % at :data:`LOADS` of one run, ``[2]``."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0xF6D]))
        if ties is None:
            ties = "random" if policy == "Random" else "rank"
        if self.published_orders:
            order, rank = self.orders[seed], self.ranks[seed]
        else:
            order, rank = random_order(self.pods, self.capacity, rng), None
        arrivals = Arrivals(order, ties, rank)
        result = pack(self.nodes, self.pods, POLICIES[policy](), arrivals, rng)
        return result.curve(max(LOADS))[list(LOADS)]


def _with_gpus(nodes: OpenbNodes) -> OpenbNodes:
    keep = np.flatnonzero(nodes.gpus > 0)
    return OpenbNodes(
        name=tuple(nodes.name[row] for row in keep),
        cpu_milli=nodes.cpu_milli[keep],
        memory_mib=nodes.memory_mib[keep],
        gpus=nodes.gpus[keep],
        models=nodes.models,
        model=nodes.model[keep],
    )


def _values(file: Path | None, index: str, value: str, count: int) -> dict[int, Ints]:
    """Column ``value`` in the order of column ``index``, by seed; values below ``count``."""
    if file is None:
        return {}
    table = read_table(file, ("seed", index, value))
    seeds, values = table.integers("seed"), table.integers(value, high=count - 1)
    order = np.lexsort((table.integers(index), seeds))
    seeds, values = seeds[order], values[order]
    return {int(seed): values[seeds == seed] for seed in np.unique(seeds)}


def compare_policy(mix: Mix, policy: str, published: Published, runs: int) -> list[Row]:
    """Mean allocation of one policy against the published mean."""
    experiment = Experiment(mix)
    seeds = experiment.seeds(published, runs)
    ours = np.array([experiment.allocation(policy, seed) for seed in seeds])
    rows: list[Row] = []
    if experiment.published_orders:
        source = f"published orders of {len(seeds)} seeds"
        chosen = [published.seeds.index(seed) for seed in seeds]
        expected = published.allocation[chosen].mean(axis=0)
        gate = RANDOM_GATE if policy == "Random" else RANKED_GATE
    else:
        source = f"{len(seeds)} own orders"
        expected, gate = published.allocation.mean(axis=0), RANDOM_GATE
    if runs <= QUICK_RUNS:
        gate = QUICK_GATE
    for column, load in enumerate(LOADS):
        name = f"openb {mix.name}, {policy}, {source}: GPU allocation at {load} % demand"
        mean = float(ours[:, column].mean())
        rows.append(Row.near(name, mean, "%", float(expected[column]), gate))
    return rows


def compare_order(mix: Mix, runs: int) -> list[Row]:
    """FGD above Best-Fit above Random, and what random ties make of FGD.

    The order has a mark where the published means are further apart than the gate.
    """
    experiment = Experiment(mix)
    curves = read_curves(mix)
    seeds = experiment.seeds(curves["FGD"], runs)

    def mean(policy: str, ties: Ties | None = None) -> float:
        runs = [experiment.allocation(policy, seed, ties=ties)[0] for seed in seeds]
        return float(np.mean(runs))

    means = {policy: mean(policy) for policy in ("FGD", "BestFit", "Random")}
    name = f"openb {mix.name}, {len(seeds)} runs, GPU allocation at {LOADS[0]} % demand"
    rows: list[Row] = []
    for better, worse in (("FGD", "BestFit"), ("BestFit", "Random")):
        title, lead = f"{name}: {better} minus {worse}", means[better] - means[worse]
        published = curves[better].allocation[:, 0].mean() - curves[worse].allocation[:, 0].mean()
        marked = published > RANDOM_GATE
        rows.append(Row.at_least(title, lead, "%", 0.0) if marked else Row.info(title, lead, "%"))
    shuffled = mean("FGD", "random")
    title = f"{name}: FGD with a fresh random choice among equal scores"
    if mix.name == "default":
        low, high = RANDOM_TIES
        rows += [
            Row.at_least(f"{title}, lower end", shuffled, "%", low),
            Row.at_most(f"{title}, upper end", shuffled, "%", high),
        ]
    else:
        rows.append(Row.info(title, shuffled, "%"))
    return rows
