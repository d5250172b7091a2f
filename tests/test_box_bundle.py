"""Bundles of set-points: they decide as they were saved, by numpy and by the exported graph."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from box_domain import TrackFactory, arrays_of, make_box_bundle
from safetensors.numpy import load, save

from fairlead.platform.bundle import (
    GOLDEN,
    MANIFEST,
    ONNX,
    WEIGHTS,
    BundleError,
    _digest,
    _seal,
    load_bundle,
    spec_from_json,
    spec_to_json,
)
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Inference
from fairlead.platform.episodes import Stage
from fairlead.platform.golden import TOLERANCE, check_golden, seen_in
from fairlead.platform.onnx_check import graph_error
from fairlead.platform.rollout.backends import NumpyBackend, OnnxBackend
from fairlead.platform.rollout.loading import LoadRefused, build_runtime, misfit
from fairlead.platform.tasks import Task
from fairlead.policies.box_acting import set_points
from fairlead.policies.interface import PolicyArrays
from fairlead.simulators.interface import Box


@pytest.fixture(scope="module", params=[1, 2], ids=["shared", "by group"])
def made(request, tmp_path_factory):
    return make_box_bundle(tmp_path_factory.mktemp("box") / "bundle", groups=request.param)


def test_loaded_policy_acts_as_when_it_was_saved(made):
    stage = Stage(TrackFactory())
    first, again = (
        stage.play(Task(5, load_bundle(made.folder).trained(), record=True)) for _ in range(2)
    )
    assert first.total == again.total
    golden = made.golden
    assert golden["actions"].dtype == np.float32 and golden["actions"].shape == (8, 6, 2)
    # What was decided in the recorded episode lies in the boxes that are kept with it.
    assert (golden["low"] <= golden["actions"]).all() and (
        golden["actions"] <= golden["high"]
    ).all()
    assert np.ptp(golden["a"]) > 0.5


def test_manifest_says_what_an_action_is(made):
    action = made.manifest["action"]
    assert action["kind"] == "box" and "Beta(a, b)" in action["rule"]
    assert made.manifest["spec"]["dimensions"] == 2 and "candidates" not in made.manifest["spec"]
    assert made.spec.action == Box(2)
    assert made.manifest["observed"]["candidate"]["low"] == []
    assert len(made.manifest["observed"]["agent"]["low"]) == 5


def test_spec_survives_json(made):
    spec = TrackFactory().simulator().spec
    back = spec_from_json("toybox", "track", json.loads(json.dumps(spec_to_json(spec))))
    none = np.zeros(0, np.int64)
    assert back.group_of.tolist() == spec.group_of.tolist()
    assert replace(back, group_of=none) == replace(spec, group_of=none)
    other = replace(spec, action=Box(3))
    assert "dimensions" in str(spec_to_json(other).keys()) and misfit(other, spec)


def test_graph_gives_the_shapes_and_the_most_likely_set_points(made):
    model = (made.folder / ONNX).read_bytes()
    assert graph_error(model, made.arrays, made.golden) <= TOLERANCE
    for name in ("a", "b"):
        changed = {**made.golden, name: made.golden[name] + np.float32(0.01)}
        assert graph_error(model, made.arrays, changed) > 0.001


@pytest.mark.parametrize("greedy", [True, False, None])
@pytest.mark.parametrize("agents", [None, np.array([4, 1])])
def test_both_backends_set_the_same_points(made, greedy, agents):
    numpy_, onnx = (kind(made, stochastic=True) for kind in (NumpyBackend, OnnxBackend))
    seen = seen_in(made.golden)[3]
    if agents is not None:
        rows = {n: getattr(seen, n)[agents] for n in ("agent", "low", "high", "active")}
        empty = {n: getattr(seen, n)[agents] for n in ("mask", "target", "candidates")}
        seen = replace(seen, **rows, **empty)
    ours, theirs = (backend(seen, agents, 7, greedy) for backend in (numpy_, onnx))
    assert isinstance(ours, Inference) and ours.preference is None is theirs.preference
    assert ours.actions.dtype == theirs.actions.dtype == np.float32
    assert (ours.actions >= seen.low).all() and (ours.actions <= seen.high).all()
    np.testing.assert_allclose(ours.actions, theirs.actions, atol=1e-4)
    again = numpy_(seen, agents, 7, greedy)
    np.testing.assert_array_equal(again.actions, ours.actions)
    if greedy is not True:
        assert (numpy_(seen, agents, 8, greedy).actions != ours.actions).any()


def test_the_mode_decides_where_the_bundle_is_not_sampled(tmp_path):
    made = make_box_bundle(tmp_path / "bundle", stochastic=False)
    a, b = made.golden["a"].astype(float), made.golden["b"].astype(float)
    for epoch, seen in enumerate(seen_in(made.golden)):
        expected = set_points(seen, (a[epoch] - 1) / (a[epoch] + b[epoch] - 2))
        np.testing.assert_array_equal(made.golden["actions"][epoch], expected)
    assert "(a - 1)" in made.manifest["action"]["rule"]


def reseal(folder, name, data):
    """Put another file into a bundle and make all digests fit, as a forger would."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["digests"][name] = _digest(data)
    manifest["digest"] = _seal(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.fixture
def one(tmp_path):
    return make_box_bundle(tmp_path / "bundle").folder


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, GOLDEN, ONNX])
def test_damage_is_refused_and_named(one, name):
    data = (one / name).read_bytes()
    middle = len(data) // 2
    (one / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(BundleError, match=name):
        load_bundle(one)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("actions", lambda v: v + np.float32(0.01), "set-points differ"),
        ("a", lambda v: v * np.float32(1.01), "shapes of the distribution differ"),
        ("b", lambda v: np.full_like(v, np.nan), "shapes of the distribution differ by nan"),
        ("low", lambda v: v[:, :, :1], "golden high have shape"),
        ("seed", lambda v: v + 1, "set-points differ"),
    ],
)
def test_golden_decisions_that_do_not_follow_are_refused(one, name, change, said):
    golden = load((one / GOLDEN).read_bytes())
    golden[name] = np.ascontiguousarray(change(golden[name]))
    reseal(one, GOLDEN, save(golden))
    with pytest.raises(BundleError, match=said) as refused:
        load_bundle(one)
    assert refused.value.flaw == "parity"


def test_weights_of_another_policy_are_refused(one):
    bundle = load_bundle(one)
    other = arrays_of(bundle.spec, seed=9, groups=2)
    reseal(one, WEIGHTS, save({**other.tensors, "member": other.member}))
    with pytest.raises(BundleError, match="does not decide as it did"):
        load_bundle(one)
    lost = {k: v for k, v in other.tensors.items() if k != "box.bias"}
    reseal(one, WEIGHTS, save({**lost, "member": other.member}))
    with pytest.raises(BundleError, match=r"box\.bias"):
        load_bundle(one)


def test_kind_of_action_must_be_that_of_the_spec(one):
    manifest = json.loads((one / MANIFEST).read_text())
    manifest["action"]["kind"] = "choice"
    manifest["digest"] = _seal(manifest)
    (one / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"action\.kind is 'choice', the spec is of kind 'box'"):
        load_bundle(one)


def test_a_last_bit_in_the_weights_is_within_the_tolerance(one):
    bundle = load_bundle(one)
    tensors = {k: np.nextafter(v, np.float32(9)) for k, v in bundle.arrays.tensors.items()}
    shaken = replace(bundle, arrays=PolicyArrays(tensors, bundle.arrays.member))
    assert check_golden(shaken.actor(), bundle.golden, bundle.spec) == []


def test_a_graph_of_another_policy_is_refused_where_it_would_decide(one):
    from box_domain import TrackLive

    from fairlead.platform.onnx_graph import policy_graph

    bundle = load_bundle(one)
    slot = SlotSettings(backend="onnx", deadline=5.0)
    assert build_runtime(one, slot=slot, live=TrackLive).runtime.digest == bundle.digest
    reseal(one, ONNX, policy_graph(bundle.spec, arrays_of(bundle.spec, seed=9, groups=2)))
    with pytest.raises(LoadRefused, match="shapes differ") as refused:
        build_runtime(one, slot=slot, live=TrackLive)
    assert refused.value.label == "parity"
