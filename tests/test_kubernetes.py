"""The extender in process: quantities, objects, the cluster's books, features, verbs, scores."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openb_bundle import live_runtime, node_json, openb_files, pod_json, simulator

from fairlead.platform.decision.core import decide
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Clock, Source, State
from fairlead.platform.kubernetes.cluster import Cluster
from fairlead.platform.kubernetes.objects import Node, Pod, read_node, read_pod
from fairlead.platform.kubernetes.quantities import ObjectError, count, mebibytes, milli
from fairlead.platform.kubernetes.ranking import ranked
from fairlead.platform.kubernetes.service import build_extender
from fairlead.simulators.cloud.fragmentation import Fragmentation, typical_pods

NOW = 1_700_000_000.0
TYPICAL = {"cpu": "4", "memory": "8Gi"}


@cache
def measure():
    _, pods = openb_files()
    return lambda models: Fragmentation(typical_pods(pods, models))


def cluster(*nodes):
    found = Cluster(measure=measure(), smoothing=100.0, run_time=600.0)
    found.set_nodes(nodes, NOW)
    return found


def gpu_node(name="g", *, cpu=64_000, memory=262_144, gpus=2, model="T4", ready=True):
    return Node(name, cpu, memory, gpus, model if gpus else "", ready)


def pod(uid="p", **changes):
    return replace(Pod(uid, uid, "default", 4000, 8192), **changes)


def share(uid="s", milli_=600, **changes):
    return pod(uid, gpus=1, gpu_milli=milli_, **changes)


class Entries:
    """The decision core as the extender's slot: what the daemon does, without the daemon."""

    def __init__(self, runtime, knobs=None):
        self.runtime, self.knobs = runtime, knobs or SlotSettings(deadline=5.0)
        self.state, self.asked = State(), []

    def __call__(self, request):
        self.asked.append(request)
        clock = Clock(request.received, NOW)
        self.state, decision = decide(self.runtime, self.knobs, self.state, request, clock)
        return SimpleNamespace(id="e", decision=decision, request=request)


def extender(nodes=4, **changes):
    runtime = live_runtime(**changes)
    entries = Entries(runtime)
    found = build_extender(runtime, entries)
    listed = [node_json(f"n{i}", gpus=2 if i % 2 else 0) for i in range(nodes)]
    found.feed_nodes({"items": listed, "time": 0.0})
    return found, entries


# -- quantities and objects


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("2", 2000), (2, 2000), ("0.5", 500), ("250m", 250), ("1e3", 1_000_000), ("1500u", 2), (0, 0)],
)
def test_cpu_quantities(text, wanted):
    assert milli(text, "cpu", up=True) == wanted


@pytest.mark.parametrize(
    ("text", "up", "down"),
    [("1Gi", 1024, 1024), ("1M", 1, 0), ("128974848", 123, 123), ("1", 1, 0), ("1.5Mi", 2, 1)],
)
def test_memory_is_rounded_against_whoever_asks(text, up, down):
    assert mebibytes(text, "m", up=True) == up
    assert mebibytes(text, "m", up=False) == down


@pytest.mark.parametrize("text", ["", "x", "1X", "-1", "1..2", None, True, "1e999", [], "NaN"])
def test_nonsense_is_no_quantity(text):
    with pytest.raises(ObjectError, match="cpu"):
        milli(text, "cpu", up=True)
    with pytest.raises(ObjectError):
        count("1.5", "n")


def test_a_pod_with_a_gpu_share_and_init_containers():
    value = pod_json("p", cpu="1500m", memory="1Gi", gpus=1, share=300, tenant="BE", run_time=77)
    value["spec"]["containers"].append({"resources": {"limits": {"cpu": "500m"}}})
    value["spec"]["initContainers"] = [{"resources": {"requests": {"cpu": "3", "memory": "1Mi"}}}]
    value["spec"]["overhead"] = {"cpu": "100m", "memory": "2Mi"}
    found = read_pod(value)
    # Together the containers ask for 2,000 milli-cores, the init container for 3,000.
    assert (found.cpu, found.memory) == (3100, 1026)
    assert (found.gpus, found.gpu_milli, found.tenant, found.run_time) == (1, 300, "BE", 77.0)


def test_whole_gpus_of_the_nvidia_resource():
    value = pod_json("p")
    value["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": "2"}
    assert (read_pod(value).gpus, read_pod(value).gpu_milli) == (2, 1000)
    node = node_json("n")
    node["status"]["allocatable"]["nvidia.com/gpu"] = "4"
    node["metadata"]["labels"] = {"nvidia.com/gpu.product": "A10"}
    assert (read_node(node).gpus, read_node(node).model) == (4, "A10")


def test_nodes_that_take_nobody():
    node = node_json("n")
    assert read_node(node).ready
    node["spec"] = {"unschedulable": True}
    assert not read_node(node).ready
    node["spec"] = {}
    node["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    assert not read_node(node).ready


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata",), None),
        (("metadata", "name"), 3),
        (("metadata", "annotations"), {"alibabacloud.com/gpu-count": "2", "alibabacloud.com/gpu-milli": "5"}),
        (("metadata", "annotations"), {"alibabacloud.com/gpu-count": "9999"}),
        (("metadata", "annotations"), {"fairlead.dev/run-time": "nan"}),
        (("metadata", "annotations"), {"alibabacloud.com/gpu-index": "0-x"}),
        (("metadata", "annotations"), ["a"]),
        (("metadata", "creationTimestamp"), "yesterday"),
        (("spec",), None),
        (("spec", "containers"), "none"),
        (("spec", "containers"), [{"resources": {"requests": {"cpu": "much"}}}]),
    ],
)
def test_malformed_pods_are_told_and_never_crash(path, value):
    broken = pod_json("p")
    at = broken
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(ObjectError):
        read_pod(broken)
    found, _ = extender()
    answer = found.filter({"Pod": broken, "NodeNames": ["n0"]})
    assert answer["Error"] and answer["NodeNames"] is None


# -- the cluster's books


def test_a_share_goes_to_the_smallest_sufficient_device_and_back():
    books = cluster(gpu_node(gpus=2))
    first = books.book(share("a", 600), "g", NOW)
    second = books.book(share("b", 300), "g", NOW)
    third = books.book(share("c", 500), "g", NOW)
    assert [b.devices.tolist() for b in (first, second, third)] == [[0], [0], [1]]
    assert books.view(NOW).gpu[0].tolist() == [100, 500]
    for uid in "abc":
        assert books.release(uid, NOW)
    assert books.view(NOW).gpu[0].tolist() == [1000, 1000]
    assert not books.release("a", NOW)


def test_devices_that_a_pod_names_are_believed():
    books = cluster(gpu_node(gpus=4))
    books.observe(pod("a", gpus=2, gpu_milli=1000, node="g", devices=(1, 3)), NOW)
    assert books.view(NOW).gpu[0].tolist() == [1000, 0, 1000, 0]


def test_the_feed_is_level_triggered():
    books = cluster(gpu_node("g"), gpu_node("h"))
    running = share("a", 600, node="g")
    books.observe(running, NOW)
    books.observe(running, NOW)
    assert books.view(NOW).gpu.sum() == 3400
    books.observe(replace(running, node="h"), NOW)
    assert books.view(NOW).gpu.sum(axis=1).tolist() == [2000, 1400]
    # A stale message of the time when it waited does not undo the binding.
    books.observe(replace(running, node=""), NOW)
    assert books.view(NOW).gpu.sum() == 3400
    books.observe(replace(running, finished=True), NOW)
    assert books.view(NOW).gpu.sum() == 4000
    assert not books.pods and not books.waiting


def test_pods_on_nodes_not_known_yet_are_booked_when_the_node_comes():
    books = cluster(gpu_node("g"))
    books.observe(share("a", 600, node="later"), NOW)
    assert not books.pods
    books.set_nodes([gpu_node("g"), gpu_node("later")], NOW)
    assert books.view(NOW).gpu.sum(axis=1).tolist() == [2000, 1400]
    books.set_nodes([gpu_node("g")], NOW)
    books.set_nodes([gpu_node("later"), gpu_node("g")], NOW)
    assert books.view(NOW).gpu.sum(axis=1).tolist() == [1400, 2000]


def test_other_schedulers_may_book_more_than_there_is():
    books = cluster(gpu_node(gpus=1, cpu=5000))
    books.book(share("a", 600), "g", NOW)
    books.book(share("b", 600), "g", NOW)
    assert books.overbooked == 1
    seen = books.view(NOW)
    assert seen.gpu[0].tolist() == [0] and seen.cpu[0] == 0
    books.release("a", NOW)
    books.release("b", NOW)
    assert books.view(NOW).gpu[0].tolist() == [1000] and books.view(NOW).cpu[0] == 5000


def test_averages_are_exact_between_changes():
    books = cluster(gpu_node(gpus=2))
    books.book(share("a", 1000), "g", NOW)
    # The share is 1/2 for 70 s, then 1 for 30 s, with a time constant of 100 s.
    books.book(share("b", 1000), "g", NOW + 70)
    half = 0.5 * (1 - math.exp(-0.7))
    wanted = 1.0 + (half - 1.0) * math.exp(-0.3)
    assert books.view(NOW + 100).utilisation[0] == pytest.approx(wanted, rel=1e-12)
    assert books.view(NOW + 100).work[0] == pytest.approx(500.0 + 570.0)
    overlap = books.view(NOW + 100).overlap(np.array([0]), np.array([520.0]))
    assert overlap[0] == pytest.approx(500.0 + 520.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(1, 1000)), max_size=60))
def test_books_balance_after_any_history(steps):
    nodes = [gpu_node(f"n{i}", gpus=i) for i in range(3)]
    books = cluster(*nodes)
    for uid, where, amount in steps:
        if where == 3:
            books.release(str(uid), NOW)
        else:
            books.observe(share(str(uid), amount, node=f"n{where}"), NOW)
    held = [b.pod for b in books.pods.values()]
    assert books.view(NOW).jobs.sum() == len(held)
    for booking in list(books.pods):
        books.release(booking, NOW)
    fresh = cluster(*nodes).view(NOW)
    after = books.view(NOW)
    for name in ("cpu", "memory", "gpu", "jobs"):
        assert (getattr(after, name) == getattr(fresh, name)).all()


# -- observations


def test_observations_are_the_simulators_own():
    """A head job that a dispatcher sees, and the same job as a pod: the same numbers."""
    game, found, names = simulator(), extender()[0], None
    runtime = live_runtime()
    fleet = game.fleet
    listed = [
        node_json(
            f"n{i}",
            cpu=f"{int(fleet.resources.cpu[i])}m",
            memory=f"{int(fleet.resources.memory[i])}Mi",
            gpus=int(fleet.resources.gpus[i]),
            model=fleet.types[fleet.type_of[i]].gpu_model,
        )
        for i in range(fleet.nodes)
    ]
    found.feed_nodes({"items": listed, "time": 0.0})
    names = [f"n{i}" for i in range(fleet.nodes)]
    seen = game.reset(4)
    d = fleet.resources.demands
    # The jobs that run at the start are pods of the same demands on the same nodes.
    for node, station in enumerate(game._cluster.stations):
        for job in station.present():
            left = dict(zip(map(id, station.present()), station.remaining(), strict=True))[id(job)]
            value = Pod(
                f"{node}-{id(job)}", "x", "d", int(d.cpu[job.demand]), int(d.memory[job.demand]),
                int(d.gpus[job.demand]), int(d.gpu_milli[job.demand]), node=f"n{node}",
                run_time=left, devices=tuple(job.gpus),
            )
            found.cluster.observe(value, 0.0)
    rng = np.random.default_rng(0)
    checked = 0
    for _ in range(3):
        seen = game.step(np.zeros(game.spec.agents, np.int64)).observation
        snapshot = game._snapshots[-1]
    for agent in np.flatnonzero(seen.active)[:6].tolist():
        head = game._queues[agent][0]
        value = Pod(
            f"h{agent}", "h", "d", int(d.cpu[head.demand]), int(d.memory[head.demand]),
            int(d.gpus[head.demand]), int(d.gpu_milli[head.demand]),
            tenant=fleet.groups[fleet.group_of[agent]], run_time=float(head.size),
            created=head.arrival,
        )
        kept = rng.permutation(fleet.nodes)
        ours = found.viewer.see(value, [names[i] for i in kept], seen.time, run_time=1.0)
        for column, node in enumerate(seen.target[agent].tolist()):
            if node < 0:
                continue
            mine = ours.observation.candidates[0, 1 + int(np.flatnonzero(kept == node)[0])]
            theirs, *_ = game._features.candidates(
                snapshot, game._heads, seen.target
            )
            want = theirs[agent, column]
            skip = {game.spec.candidate_column(n) for n in ("utilisation",)}
            keep = [c for c in range(want.shape[0]) if c not in skip]
            if snapshot.jobs[node] == found.cluster.view(seen.time).jobs[node]:
                np.testing.assert_allclose(mine[keep], want[keep], rtol=2e-6, atol=1e-3)
                assert ours.legal[int(np.flatnonzero(kept == node)[0])] == seen.mask[agent, column] or game.scenario.snapshot_age
                checked += 1
        mine = ours.observation.agent[0]
        # Waiting pods, load forecast and time of day are the live system's own.
        own = {game.spec.agent_column(n) for n in ("waiting", "load", "day_sin", "day_cos")}
        columns = [c for c in range(mine.shape[0]) if c not in own]
        np.testing.assert_allclose(mine[columns], seen.agent[agent][columns], rtol=2e-6)
    assert checked > 30
    assert runtime.spec.agents == game.spec.agents
