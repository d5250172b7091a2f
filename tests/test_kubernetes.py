"""The extender in process: quantities, objects, the cluster's books, features, verbs, scores."""

from __future__ import annotations

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
from fairlead.platform.decision.types import Clock, Inference, Source, State
from fairlead.platform.files import UserError
from fairlead.platform.kubernetes.cluster import Cluster
from fairlead.platform.kubernetes.objects import Node, Pod, read_node, read_pod
from fairlead.platform.kubernetes.quantities import ObjectError, count, mebibytes, milli
from fairlead.platform.kubernetes.ranking import ranked
from fairlead.platform.kubernetes.service import build_extender
from fairlead.platform.kubernetes.view import fits
from fairlead.simulators.cloud.fragmentation import Fragmentation, typical_pods

SHARED = []
NOW = 1_700_000_000.0


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
        (
            ("metadata", "annotations"),
            {"alibabacloud.com/gpu-count": "2", "alibabacloud.com/gpu-milli": "5"},
        ),
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


def as_pods(game, now):
    """What runs in the simulator, as pods on the same nodes with the same devices and ends."""
    d = game.fleet.resources.demands
    for node, station in enumerate(game._cluster.stations):
        present = station.present()
        for at, (job, left) in enumerate(zip(present, station.remaining(), strict=True)):
            yield Pod(
                f"{node}-{at}",
                "x",
                "d",
                int(d.cpu[job.demand]),
                int(d.memory[job.demand]),
                int(d.gpus[job.demand]),
                int(d.gpu_milli[job.demand]),
                node=f"n{node}",
                run_time=left,
                devices=tuple(job.gpus),
                started=now,
            )


def as_nodes(game):
    there = game.fleet.resources
    for node in range(game.fleet.nodes):
        kind = game.fleet.types[game.fleet.type_of[node]]
        yield node_json(
            f"n{node}",
            cpu=f"{int(there.cpu[node])}m",
            memory=f"{int(there.memory[node])}Mi",
            gpus=int(there.gpus[node]),
            model=kind.gpu_model,
        )


def test_observations_are_the_simulators_own():
    """What a dispatcher sees of the present, and what its head job sees as a pod: equal numbers."""
    game, (found, _) = simulator(), extender()
    game.reset(4)
    for _ in range(3):
        seen = game.step(np.zeros(game.spec.agents, np.int64)).observation
    spec, fleet, heads = game.spec, game.fleet, game._heads
    target = np.tile(np.arange(-1, fleet.nodes), (spec.agents, 1))
    capable = fleet.resources.capable()[heads.demand]
    target[:, 1:][~capable] = -1
    want, mask, _ = game._features.candidates(game._snapshots[-1], heads, target)
    found.feed_nodes({"items": list(as_nodes(game)), "time": seen.time})
    for value in as_pods(game, seen.time):
        found.cluster.observe(value, seen.time)
    names = [f"n{i}" for i in range(fleet.nodes)]
    d = fleet.resources.demands
    # Averages, waiting pods, load forecast and time of day are the live system's own.
    own = {"waiting", "load", "day_sin", "day_cos"}
    agent_columns = [i for i, f in enumerate(spec.agent_features) if f.name not in own]
    columns = [i for i, f in enumerate(spec.candidate_features) if f.name != "utilisation"]
    active = np.flatnonzero(seen.active).tolist()
    assert len(active) >= 4
    for agent in active:
        head = game._queues[agent][0]
        value = Pod(
            f"h{agent}",
            "h",
            "d",
            int(d.cpu[head.demand]),
            int(d.memory[head.demand]),
            int(d.gpus[head.demand]),
            int(d.gpu_milli[head.demand]),
            tenant=fleet.groups[fleet.group_of[agent]],
            run_time=float(head.size),
            created=head.arrival,
        )
        ours = found.viewer.see(value, names, seen.time, run_time=1.0)
        assert (ours.legal == mask[agent, 1:]).all()
        assert (ours.legal == fits(found.cluster, value, names).legal).all()
        assert spec.group_of[ours.agent] == fleet.group_of[agent]
        np.testing.assert_allclose(
            ours.observation.candidates[0][:, columns], want[agent][:, columns], rtol=1e-6
        )
        mine, theirs = ours.observation.agent[0], seen.agent[agent]
        np.testing.assert_allclose(mine[agent_columns], theirs[agent_columns], rtol=1e-6)


def test_a_pod_keeps_its_dispatcher_and_unknown_tenants_have_the_first_group():
    found, _ = extender()
    spec = live_runtime().spec
    agents = {found.viewer.agent_of(pod(str(i), tenant=spec.groups[-1])) for i in range(60)}
    assert agents == set(np.flatnonzero(spec.group_of == len(spec.groups) - 1).tolist())
    assert spec.group_of[found.viewer.agent_of(pod("a", tenant="nobody"))] == 0
    assert found.viewer.agent_of(pod("a")) == found.viewer.agent_of(pod("a"))


def test_a_bundle_of_another_scenario_is_refused():
    with pytest.raises(UserError, match="openb"):
        build_extender(replace(live_runtime(), live=None), None)


# -- verbs


def ask(found, value, names):
    return found.filter({"Pod": value, "NodeNames": names})


def test_filter_says_who_can_and_why_the_others_cannot():
    found, entries = extender(nodes=4)
    found.feed_pods(pod_json("big", cpu="63", node="n1"))
    answer = ask(found, pod_json("p", gpus=1, share=500), ["n0", "n1", "n3", "n9"])
    assert answer["NodeNames"] == ["n3"] and answer["Nodes"] is None and answer["Error"] == ""
    assert answer["FailedNodes"] == {
        "n1": "insufficient cpu",
        "n9": "node is not in the extender's cache",
    }
    assert answer["FailedAndUnresolvableNodes"] == {"n0": "too few GPUs"}
    assert set(answer) == {
        "Nodes",
        "NodeNames",
        "FailedNodes",
        "FailedAndUnresolvableNodes",
        "Error",
    }
    assert not entries.asked


def test_filter_with_whole_nodes_answers_with_whole_nodes():
    """nodeCacheCapable: false; the nodes' capacities come with the question."""
    found, _ = extender(nodes=0)
    nodes = [node_json("a", gpus=2), node_json("b")]
    answer = found.filter({"Pod": pod_json("p", gpus=1), "Nodes": {"items": nodes}})
    assert answer["Nodes"]["items"] == [nodes[0]] and answer["NodeNames"] is None
    assert answer["FailedAndUnresolvableNodes"] == {"b": "too few GPUs"}
    scores = found.prioritize({"Pod": pod_json("p", gpus=1), "Nodes": {"items": nodes[:1]}})
    assert scores.view() == [{"Host": "a", "Score": 10}]
    # What was bound is remembered although the nodes come anew with every question.
    bound = {"PodName": "p", "PodNamespace": "default", "PodUID": "uid-p", "Node": "a"}
    assert found.bind(bound) == {"Error": ""}
    whole = found.filter({"Pod": pod_json("q", gpus=2), "Nodes": {"items": nodes}})
    assert whole["Nodes"]["items"] == [] and "insufficient gpu" in whole["FailedNodes"]["a"]


def test_prioritize_follows_the_policy_and_the_best_stands_alone():
    found, entries = extender(nodes=12, drift={"enabled": False}, simplex={"enabled": False})
    names = [f"n{i}" for i in range(12)]
    for at in range(6):
        value = pod_json(f"p{at}", gpus=at % 2, run_time=100.0 + at)
        asked = ask(found, value, names)["NodeNames"]
        answer = found.prioritize({"Pod": value, "NodeNames": asked})
        decision = entries.asked and answer.entry.decision
        assert decision.source[0] in (Source.POLICY, Source.PROJECTED)
        scores = answer.scores.tolist()
        assert scores.count(10) == 1 and all(0 <= s <= 10 for s in scores)
        preference = decision.preference[0, 1:]
        assert int(answer.scores.argmax()) == int(preference.argmax())
        order = np.argsort(-preference, kind="stable")
        assert (np.diff(answer.scores[order]) <= 0).all()
        found.bind({"PodUID": value["metadata"]["uid"], "Node": asked[int(answer.scores.argmax())]})
    request = entries.asked[-1]
    assert request.greedy is True and request.episode == "uid-p5" and request.seq == -1


def raises(*_):
    raise RuntimeError("boom")


def nan(observation, agents, seed, greedy):
    del agents, seed, greedy
    scores = np.full(observation.mask.shape, np.nan, np.float32)
    return Inference(np.ones(scores.shape[0], np.int64), scores)


@pytest.mark.parametrize("policy", [raises, nan])
def test_best_fit_places_when_the_policy_fails(policy):
    found, entries = extender(nodes=0)
    entries.runtime = live_runtime(policy=policy)
    found.feed_nodes(
        {
            "time": 0.0,
            "items": [
                node_json("wide", cpu="120", gpus=8),
                node_json("tight", cpu="16", gpus=1),
                node_json("middle", cpu="64", gpus=2),
            ],
        }
    )
    value = pod_json("p", gpus=1)
    answer = found.prioritize({"Pod": value, "NodeNames": ["wide", "tight", "middle"]})
    assert answer.entry.decision.outcome == "fallback"
    assert answer.entry.decision.source[0] == Source.BASELINE
    assert answer.view()[1] == {"Host": "tight", "Score": 10}
    assert answer.scores[2] > answer.scores[0]


def test_nobody_is_asked_where_nothing_fits():
    found, entries = extender(nodes=2)
    answer = found.prioritize({"Pod": pod_json("p", cpu="999"), "NodeNames": ["n0", "n1"]})
    assert answer.scores.tolist() == [0, 0] and answer.entry is None and not entries.asked


def test_bind_books_once_and_refuses_what_does_not_fit():
    found, _ = extender(nodes=2)
    value = pod_json("p", gpus=2)
    binding = {"PodName": "p", "PodNamespace": "default", "PodUID": "uid-p", "Node": "n1"}
    assert "not known here" in found.bind(binding)["Error"]
    ask(found, value, ["n0", "n1"])
    assert "too few GPUs" in found.bind({**binding, "Node": "n0"})["Error"]
    assert found.bind(binding) == {"Error": ""}
    assert found.bind(binding) == {"Error": ""}
    assert "bound to n1 already" in found.bind({**binding, "Node": "n0"})["Error"]
    assert found.cluster.view(NOW).gpu[1].tolist() == [0, 0]
    assert found.forget("uid-p") and not found.forget("uid-p")
    assert found.cluster.view(NOW).gpu[1].tolist() == [1000, 1000]


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["Pod", "Nodes", "NodeNames", "metadata", "name", "spec"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_answered_with_an_error_and_changes_nothing(value):
    if not SHARED:
        SHARED.extend(extender())
    found = SHARED[0]
    assert found.filter(value)["Error"]
    assert found.bind(value)["Error"]
    for verb in (found.prioritize, found.feed_nodes, found.feed_pods):
        with pytest.raises(ObjectError):
            verb(value)
    assert len(found.cluster.nodes) == 4 and not found.cluster.pods


def test_replace_makes_the_list_of_pods_complete():
    found, _ = extender(nodes=2)
    found.feed_pods({"items": [pod_json("a", node="n0"), pod_json("b")]})
    assert set(found.cluster.pods) == {"uid-a"} and set(found.cluster.waiting) == {"uid-b"}
    found.feed_pods({"items": [pod_json("c", node="n1")], "replace": True})
    assert set(found.cluster.pods) == {"uid-c"} and not found.cluster.waiting


def test_a_replays_clock_counts_only_after_a_list_with_a_time():
    found, _ = extender(nodes=2)
    later = pod_json("p", **{"fairlead.dev/time": "500"})
    ask(found, later, ["n0"])
    assert found._now == 500.0
    found.feed_nodes({"items": [node_json("n0")]})
    ask(found, later, ["n0"])
    assert found._now > 1e9


# -- scores


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=1, max_size=30), st.data())
def test_scores_are_whole_in_range_ordered_and_the_winner_is_alone(rows, data):
    value, legal = np.array([v for v, _ in rows]), np.array([ok for _, ok in rows])
    chosen = data.draw(st.sampled_from([-1, *np.flatnonzero(legal).tolist()]))
    scores = ranked(value, legal, chosen)
    assert scores.dtype == np.int64 and scores.min() >= 0
    assert (scores[~legal] == 0).all()
    if chosen < 0:
        assert not scores.any()
        return
    assert scores[chosen] == 10 and (scores == 10).sum() == 1
    others = np.flatnonzero(legal & (np.arange(value.size) != chosen))
    order = others[np.argsort(value[others], kind="stable")]
    assert (np.diff(scores[order]) >= 0).all()


def test_scores_by_hand():
    scores = ranked(np.array([0.0, 1.0, 0.5, 0.95, 7.0]), np.array([1, 1, 1, 1, 0], bool), 1)
    assert scores.tolist() == [0, 10, 5, 9, 0]
