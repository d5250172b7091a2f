"""GPU packing: fragmentation by hand, policies, ties, and the published allocation curves."""

import os
from pathlib import Path

import numpy as np
import pytest

from fairlead.platform.validation.published_packing import (
    Experiment,
    compare_policy,
    packing_checks,
    read_curves,
)
from fairlead.simulators.cloud.fragmentation import (
    Fragmentation,
    first_of_equals,
    typical_pods,
)
from fairlead.simulators.cloud.openb import read_openb_nodes, read_openb_pods
from fairlead.simulators.cloud.packing import (
    POLICIES,
    Arrivals,
    PackingResult,
    pack,
    random_order,
)
from fairlead.simulators.cloud.packing_policies import Machines, Pod

DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
CURVES = DATA / "cloud" / "fgd_published_alloc_default.csv"
needs_data = pytest.mark.skipif(not CURVES.is_file(), reason=f"needs {CURVES}")
ANY = np.array([True, True])


def nodes(tmp_path, *rows):
    text = "sn,cpu_milli,memory_mib,gpu,model\n"
    text += "".join(
        f"n{i},{cpu},{mem},{gpu},{model}\n" for i, (cpu, mem, gpu, model) in enumerate(rows)
    )
    (tmp_path / "nodes.csv").write_text(text)
    return read_openb_nodes(tmp_path / "nodes.csv")


def pods(tmp_path, *rows):
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    text += "".join(f"p{i},{','.join(map(str, row))}\n" for i, row in enumerate(rows))
    (tmp_path / "pods.csv").write_text(text)
    return read_openb_pods(tmp_path / "pods.csv")


@pytest.fixture
def workload(tmp_path):
    """Half of the pods share 500 milli, a quarter want two GPUs, a quarter none."""
    share, double, plain = (1000, 1, 1, 500, ""), (4000, 1, 2, 1000, "A"), (500, 1, 0, 0, "")
    return pods(tmp_path, share, share, double, plain)


def test_fragmentation_by_hand(workload):
    typical = typical_pods(workload, ("A", "B"), popularity=1.0)
    assert typical.count.tolist() == [2, 1, 1]
    fragmentation = Fragmentation(typical)
    cpu = np.array([8000, 8000, 8000, 2000, 100])
    gpu = np.array([[1000, 1000], [1000, 400], [1000, 1000], [1000, 1000], [600, 0]])
    model = np.array([0, 0, 1, 0, 0])
    # Node 0: only the CPU-only quarter cannot use the 2,000 milli. Node 1: the share wastes 400,
    # the pair and the plain pod all 1,400. Node 2: wrong model for the pair. Node 3: too little
    # CPU for the pair. Node 4: too little CPU for any GPU pod.
    expected = [500, 0.5 * 400 + 0.5 * 1400, 1000, 1000, 600]
    assert fragmentation(cpu, gpu, model).tolist() == expected


def test_fragmentation_equals_its_definition(workload):
    rng = np.random.default_rng(3)
    typical = typical_pods(workload, ("A", "B"))
    fragmentation = Fragmentation(typical)
    gpu = rng.choice([0, 300, 500, 700, 1000], size=(200, 4))
    cpu, model = rng.integers(0, 6000, 200), rng.integers(0, 2, 200)
    found = fragmentation(cpu, gpu, model)
    for row in range(200):
        total = 0.0
        for kind in range(typical.kinds):
            milli, count = typical.gpu_milli[kind], typical.gpus[kind]
            hosts = count > 0 and cpu[row] >= typical.cpu_milli[kind]
            hosts = hosts and typical.accepts[kind, model[row]]
            hosts = hosts and (gpu[row] >= milli).sum() >= count
            wasted = gpu[row][gpu[row] < milli].sum() if hosts else gpu[row].sum()
            total += typical.count[kind] * wasted
        assert found[row] == total / typical.count.sum()


def test_choices_of_a_share_equal_the_states_they_lead_to(workload):
    rng = np.random.default_rng(5)
    fragmentation = Fragmentation(typical_pods(workload, ("A", "B")))
    gpu = rng.choice([0, 300, 500, 700, 1000], size=(50, 4))
    cpu, model = rng.integers(0, 6000, 50), rng.integers(0, 2, 50)
    row, device, weighted = fragmentation.weighted_after_share(cpu, gpu, model, 400)
    after = gpu[row].copy()
    assert (after[np.arange(row.size), device] >= 400).all()
    after[np.arange(row.size), device] -= 400
    assert np.array_equal(weighted, fragmentation.weighted(cpu[row], after, model[row]))
    distinct = sum(len({v for v in values if v >= 400}) for values in gpu.tolist())
    assert row.size == distinct


def test_typical_pods_cut_at_the_popularity(tmp_path):
    rows = [(1, 1, 0, 0, "")] * 6 + [(2, 1, 0, 0, "")] * 3 + [(3, 1, 0, 0, "")]
    workload = pods(tmp_path, *rows)
    counts = [typical_pods(workload, (), popularity=p).count.tolist() for p in (0.6, 0.61, 0.95)]
    assert counts == [[6], [6, 3], [6, 3, 1]]
    with pytest.raises(ValueError, match="popularity"):
        typical_pods(workload, (), popularity=0.0)


def test_first_of_equals():
    values = np.array([[5, 5, 3, 5], [1, 2, 1, 2]])
    expected = [[True, False, True, False], [True, True, False, False]]
    assert first_of_equals(values).tolist() == expected


def test_machines_filter_on_every_resource(tmp_path):
    machines = Machines(nodes(tmp_path, (4000, 10, 2, "A"), (4000, 10, 1, "B"), (4000, 10, 0, "")))
    rows = np.arange(3)

    def hosts(cpu, memory, gpus, milli, accepts=ANY):
        return machines.hosts(Pod(cpu, memory, gpus, milli, np.array(accepts)), rows).tolist()

    assert hosts(4000, 10, 0, 0) == [True, True, True]
    assert hosts(4001, 1, 0, 0) == [False, False, False]
    assert hosts(1, 11, 0, 0) == [False, False, False]
    assert hosts(1, 1, 1, 300) == [True, True, False]
    assert hosts(1, 1, 2, 1000) == [True, False, False]
    assert hosts(1, 1, 1, 300, [False, True]) == [False, True, False]
    pod = Pod(1000, 4, 1, 600, ANY)
    machines.take(pod, 0, machines.tightest(pod, 0))
    assert machines.gpu[0].tolist() == [400, 1000] and machines.cpu[0] == 3000
    assert machines.tightest(Pod(1, 1, 1, 300, ANY), 0).tolist() == [0]
    assert machines.tightest(Pod(1, 1, 1, 1000, ANY), 0).tolist() == [1]


def test_scores_by_hand(tmp_path):
    cluster = nodes(tmp_path, (64000, 10**6, 8, "A"), (64000, 10**6, 8, "A"))
    machines = Machines(cluster)
    rows = np.arange(2)
    share = Pod(8000, 1, 1, 500, ANY[:1])
    machines.take(share, 0, np.array([0]))
    scores = {
        name: POLICIES[name]().scores(machines, share, rows).tolist()
        for name in POLICIES
        if name != "FGD"
    }
    # Best-Fit: 1 - 48/128/2 - 7000/8000/2 = .375; 1 - 56/128/2 - 7500/8000/2 = .3125.
    assert scores["BestFit"] == [37, 31]
    # DotProd: 1 - (56/128 8/128 + 7500/8000 500/8000)/2 = .957; 1 - (64/128 8/128 + 500/8000)/2.
    assert scores["DotProd"] == [95, 95]
    # GpuPacking: a used GPU with 50 % left: 100 - 50/10; an idle node: 33 - 8.
    assert scores["GpuPacking"] == [95, 25]
    # GpuClustering: only pods of the same size there: 75 + 25 500 / 8000; idle: 25.
    assert scores["GpuClustering"] == [76, 25]
    double = Pod(8000, 1, 2, 1000, ANY[:1])
    assert POLICIES["GpuPacking"]().scores(machines, double, rows).tolist() == [48, 25]
    assert POLICIES["GpuClustering"]().scores(machines, double, rows).tolist() == [1, 25]


def test_fgd_keeps_whole_gpus_for_pods_that_need_them(tmp_path):
    # One node, GPUs at 1000 and 500: a share of 500 belongs on the second, so that the whole one
    # stays usable for the pods that want one.
    cluster = nodes(tmp_path, (64000, 10**6, 2, "A"), (64000, 10**6, 2, "A"))
    workload = pods(tmp_path, *[(1000, 1, 1, 500, "")] * 3, *[(1000, 1, 1, 1000, "")] * 3)
    order = np.array([0, 1, 2, 3, 4, 5])
    rng = np.random.default_rng(0)
    result = pack(cluster, workload, POLICIES["FGD"](), Arrivals(order, "index"), rng)
    # Three shares fit into two GPUs of one node, the rest is whole.
    assert result.placed[:2].tolist() == [0, 0]
    assert (result.placed >= 0).sum() == 5
    assert result.allocated[-1] == 3 * 500 + 2 * 1000


def test_tie_rules_choose_different_nodes(tmp_path):
    cluster = nodes(tmp_path, *[(64000, 10**6, 2, "A")] * 5)
    workload = pods(tmp_path, (1000, 1, 2, 1000, ""))
    order, best = np.zeros(5, dtype=np.int64), POLICIES["BestFit"]
    rank = np.array([3, 1, 4, 0, 2])

    def placed(ties, rank=None, seed=0):
        arrivals = Arrivals(order, ties, rank)
        return pack(
            cluster, workload, best(), arrivals, np.random.default_rng(seed)
        ).placed.tolist()

    assert placed("index") == [0, 1, 2, 3, 4]
    assert placed("rank", rank) == [3, 1, 4, 0, 2]
    assert placed("random") == placed("random")
    assert len({tuple(placed("random", seed=seed)) for seed in range(8)}) > 3
    with pytest.raises(ValueError, match="different number for each of 5 nodes, got 1"):
        placed("rank", np.zeros(5, dtype=np.int64))
    with pytest.raises(ValueError, match="ties must be one of rank, random, index"):
        placed("coin")


def test_dropped_pods_leave_no_trace(tmp_path):
    cluster = nodes(tmp_path, (4000, 100, 1, "A"))
    workload = pods(tmp_path, (1000, 1, 1, 600, ""), (1000, 1, 1, 1000, ""), (1000, 1, 0, 0, ""))
    order = np.array([0, 1, 0, 2])
    arrivals = Arrivals(order, "index")
    result = pack(cluster, workload, POLICIES["BestFit"](), arrivals, np.random.default_rng(0))
    assert result.placed.tolist() == [0, -1, -1, 0]
    assert result.arrived.tolist() == [600, 1600, 2200, 2200]
    assert result.allocated.tolist() == [600, 600, 600, 600]


def test_curve_averages_events_that_round_to_a_column():
    arrived, allocated = np.array([4, 6, 14, 40]), np.array([4, 6, 10, 20])
    result = PackingResult(arrived, allocated, capacity=1000, placed=np.zeros(4, dtype=np.int64))
    curve = result.curve(5)
    # 0.4 % rounds to 0; 0.6 and 1.4 to 1; 4.0 to 4; columns 2, 3 and 5 take their neighbours.
    assert curve.tolist() == [0.4, 0.8, 0.8, 2.0, 2.0, 2.0]
    assert np.isnan(result.curve(6)[6])


def test_random_orders_reach_the_demand_and_no_more(tmp_path):
    workload = pods(tmp_path, (1, 1, 1, 500, ""), (1, 1, 2, 1000, ""), (1, 1, 0, 0, ""))
    rng = np.random.default_rng(1)
    order = random_order(workload, 10_000, rng)
    assert sorted(order[:3].tolist()) == [0, 1, 2]
    assert 12_000 < workload.total_gpu_milli[order].sum() <= 14_000
    short = random_order(workload, 1000, rng)
    assert workload.total_gpu_milli[short].sum() <= 1300


@needs_data
def test_one_published_run_of_fgd_matches_its_curve():
    (mix,) = {check.run.args[0] for check in packing_checks([CURVES.parent], quick=True)}
    experiment = Experiment(mix)
    published = read_curves(mix)["FGD"]
    row = published.seeds.index(44)
    assert experiment.published_orders and experiment.pods.pods == 8152
    found = experiment.allocation("FGD", 44)
    assert found == pytest.approx(published.allocation[row], abs=0.02)


@needs_data
def test_published_means_of_two_seeds():
    (mix,) = {check.run.args[0] for check in packing_checks([CURVES.parent], quick=True)}
    published = read_curves(mix)
    assert sorted(published) == sorted(POLICIES)
    for policy in ("BestFit", "Random"):
        rows = compare_policy(mix, policy, published[policy], 2)
        assert [row.tolerance for row in rows] == [1.5, 1.5]
        assert all(row.passed for row in rows), rows


@needs_data
@pytest.mark.slow
def test_all_published_means_order_and_random_ties():
    found = packing_checks([CURVES.parent], quick=False)
    rows = [row for check in found for row in check.run()]
    assert len(rows) == 2 * len(POLICIES) + 4
    assert all(row.passed for row in rows), [row for row in rows if not row.passed]
    assert {row.tolerance for row in rows} == {0.15, 0.6, None}


@needs_data
def test_a_mix_without_orders_uses_its_own(tmp_path):
    for name in ("openb_node_list_gpu_node.csv", "openb_pod_list_default.csv", CURVES.name):
        target = name.replace("default", "other")
        text = (CURVES.parent / name).read_text()
        (tmp_path / target).write_text(
            text.replace("openb_pod_list_default", "openb_pod_list_other")
        )
    found = {check.name: check for check in packing_checks([tmp_path], quick=True)}
    rows = found["openb other: BestFit"].run()
    assert "2 own orders" in rows[0].name and all(row.passed for row in rows)
    (tmp_path / "openb_pod_list_other.csv").unlink()
    (check,) = packing_checks([tmp_path], quick=True)
    assert check.run()[0].name.startswith("skipped: fgd_published_alloc_other.csv")
