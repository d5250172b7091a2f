"""Everything that is checked before a bundle is served, each refusal by its label."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from rollout_stage import ToyLive
from safetensors.numpy import load_file, save
from serving import make_bundle

from fairlead.platform import bundle as bundles
from fairlead.platform.bundle import GOLDEN, MANIFEST, ONNX, WEIGHTS
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.golden import TOLERANCE
from fairlead.platform.rollout import loading
from fairlead.platform.rollout.backends import NumpyBackend, OnnxBackend
from fairlead.platform.rollout.loading import (
    WARMUP,
    LoadRefused,
    build_runtime,
    golden_observations,
    misfit,
)
from fairlead.simulators.interface import Choice

SLOT = SlotSettings(deadline=5.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle", seed=1)


@pytest.fixture
def folder(made, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(made.folder, copy)
    return copy


def build(folder, **options):
    return build_runtime(folder, **{"slot": SLOT, "live": ToyLive, **options})


def refused(folder, **options):
    with pytest.raises(LoadRefused) as caught:
        build(folder, **options)
    return caught.value.label, str(caught.value)


def reseal(folder, changes=None, **files):
    """Replace files and manifest entries and make all digests fit, as a careful forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name, data in files.items():
        file = {"weights": WEIGHTS, "golden": GOLDEN, "onnx": ONNX}[name]
        (folder / file).write_bytes(data)
        manifest["digests"][file] = bundles._digest(data)
    manifest.update(changes or {})
    manifest["digest"] = bundles._seal(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_good_bundle_decides_as_recorded(made):
    loaded = build(made.folder, domain="cloud", serves=made.spec)
    runtime = loaded.runtime
    assert runtime.digest == loaded.digest == made.digest and runtime.stochastic
    assert runtime.observed == made.observed and runtime.mode == "policy"
    assert 0.0 < loaded.latency < 1.0 and loaded.warnings == ()
    assert loaded.made == (made.folder / MANIFEST).stat().st_mtime
    for index, seen in enumerate(golden_observations(made)):
        answer = runtime.policy.ask(seen, None, seed=1, greedy=True, limit=5.0).inference
        legal = seen.mask & seen.active[:, None]
        np.testing.assert_allclose(
            answer.preference[legal], made.golden["scores"][index][legal], atol=1e-5
        )


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, GOLDEN, ONNX])
def test_damage_is_a_matter_of_digests(folder, name):
    data = (folder / name).read_bytes()
    middle = len(data) // 2
    for damaged in (b"", data[:middle], data[:middle] + bytes([data[middle] ^ 4]) + data[middle:]):
        (folder / name).write_bytes(damaged)
        label, message = refused(folder)
        assert label == "digest" and name in message
    (folder / name).unlink()
    assert refused(folder)[0] == "digest"


def test_weights_that_are_not_finite_and_other_weights_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    reseal(folder, weights=save({**tensors, "score.weight": -tensors["score.weight"]}))
    assert refused(folder)[0] == "parity"
    spoiled = tensors["score.weight"].copy()
    spoiled[0, 0] = np.nan
    reseal(folder, weights=save({**tensors, "score.weight": spoiled}))
    label, message = refused(folder)
    assert label == "schema" and "not finite" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"format": 99},
        {"name": ""},
        {"action": {}},
        {"action": {"stochastic": "yes"}},
        {"observed": None},
        {"digests": {}},
        {"spec": {}},
        {"scenario": {"name": "dispatch", "settings": {"agents": "many"}}},
    ],
)
def test_manifests_that_make_no_sense_are_a_matter_of_schema(folder, changes):
    reseal(folder, changes)
    # The settings are looked at by the domain's part only; this one is the registered domain's.
    live = None if "scenario" in changes else ToyLive
    assert refused(folder, live=live)[0] == "schema"


def test_a_bundle_for_another_domain_or_system_is_refused(made, tmp_path):
    label, message = refused(made.folder, domain="power")
    assert label == "schema" and "domain 'cloud', the slot is 'power'" in message
    larger = make_bundle(tmp_path / "larger", agents=12)
    label, message = refused(larger.folder, serves=made.spec)
    assert label == "schema" and "agents is 12, not 10" in message


def test_a_misfit_is_named_feature_by_feature(made):
    spec = made.spec
    assert misfit(replace(spec, scenario="other", dt=9.0, horizon=7), spec) == ""
    first, second, *rest = spec.agent_features
    swapped = misfit(replace(spec, agent_features=(second, first, *rest)), spec)
    assert f"agent_features[0].name is {second.name!r}, not {first.name!r}" in swapped
    other = replace(first, unit="furlong", high=1e9)
    found = misfit(replace(spec, agent_features=(other, second, *rest)), spec)
    assert "agent_features[0].unit is 'furlong'" in found and "high" not in found
    assert "action is" in misfit(replace(spec, action=Choice(5)), spec)
    assert "other groups" in misfit(replace(spec, group_of=spec.group_of + 1), spec)
    fewer = misfit(replace(spec, candidate_features=spec.candidate_features[1:]), spec)
    assert "candidate_features are" in fewer


def test_a_bundle_that_is_too_large_is_not_even_read(folder, monkeypatch):
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate(loading.LARGEST + 1)  # sparse: takes no room

    def never(path):
        raise AssertionError("was read")

    monkeypatch.setattr(loading, "load_bundle", never)
    assert refused(folder)[0] == "memory"


def test_a_policy_that_is_too_slow_or_fails_is_refused_after_the_warm_up(made, monkeypatch):
    real = loading.backend_of
    asked = []

    def wrapped(action):
        def backend_of(bundle, slot):
            backend, stochastic = real(bundle, slot)

            def run(*arguments):
                asked.append(1)
                action(len(asked))
                return backend(*arguments)

            return run, stochastic

        return backend_of

    def fails_late(count):
        if count == WARMUP:
            raise ValueError("tired")

    monkeypatch.setattr(loading, "backend_of", wrapped(fails_late))
    label, message = refused(made.folder)
    assert label == "warmup" and "tired" in message and len(asked) == WARMUP
    monkeypatch.setattr(loading, "backend_of", wrapped(lambda _: time.sleep(0.003)))
    label, message = refused(made.folder, slot=SlotSettings(deadline=0.002))
    assert label == "warmup" and "the slot allows 1.2 ms" in message


def test_the_graph_must_score_as_the_golden_decisions(folder, made, tmp_path):
    slot = SlotSettings(deadline=5.0, backend="onnx")
    loaded = build(folder, slot=slot)
    assert loaded.digest == made.digest
    other = make_bundle(tmp_path / "other", seed=2)
    reseal(folder, onnx=(other.folder / ONNX).read_bytes())
    assert refused(folder, slot=slot)[0] == "parity"
    reseal(folder, onnx=b"no graph")
    assert refused(folder, slot=slot)[0] == "schema"
    # The numpy backend does not look at the graph.
    assert build(folder).runtime.policy is not None


def test_both_backends_sample_alike(made):
    plain = NumpyBackend(made, stochastic=True)
    graph = OnnxBackend(made, stochastic=True)
    some = np.array([8, 1, 5])
    for seed, seen in enumerate(golden_observations(made)):
        a, b = (backend(seen, None, seed, None) for backend in (plain, graph))
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_allclose(a.preference, b.preference, atol=TOLERANCE)
        part = replace(
            seen,
            **{n: getattr(seen, n)[some] for n in ("agent", "candidates", "mask", "active")},
        )
        for greedy in (True, False):
            a, b = (backend(part, some, seed, greedy) for backend in (plain, graph))
            np.testing.assert_array_equal(a.actions, b.actions)
            legal = part.mask[np.arange(3), a.actions]
            assert legal.all() and (a.actions[~part.active] == 0).all()


def test_sampling_is_the_documented_generator(made):
    actor = made.actor()
    seen = golden_observations(made)[2]
    rng = np.random.default_rng(np.random.SeedSequence([12345, 0xF1EE]))
    expected = actor.act(seen, rng)
    answer = NumpyBackend(made, stochastic=True)(seen, None, 12345, None)
    np.testing.assert_array_equal(answer.actions, expected)
    assert answer.actions.dtype == np.int64


@pytest.mark.parametrize(("sample", "expected"), [("bundle", True), ("yes", True), ("no", False)])
def test_the_slot_may_overrule_sampling(made, sample, expected):
    assert build(made.folder, slot=replace_settings(sample=sample)).runtime.stochastic is expected


def replace_settings(**changes):
    return SlotSettings(deadline=5.0, **changes)


def test_a_domain_that_cannot_be_served_says_so(made, monkeypatch):
    from fairlead.platform.registry import find_domain

    silent = replace(find_domain("cloud"), live=None)
    monkeypatch.setattr(loading, "find_domain", lambda name: silent)
    label, message = refused(made.folder, live=None)
    assert label == "schema" and "cannot be served yet" in message

    def unfit(spec, settings, slot):
        raise KeyError("no feature named 'x'")

    label, message = refused(made.folder, live=unfit)
    assert label == "schema" and "no feature named" in message
