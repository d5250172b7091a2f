"""Bundles: what is saved decides as it did in training, and damage is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ring import RandomRule, RingFactory

from fairlead.platform.bundle import (
    GOLDEN,
    MANIFEST,
    ONNX,
    WEIGHTS,
    BundleError,
    Contents,
    load_bundle,
    save_bundle,
    spec_from_json,
    spec_to_json,
)
from fairlead.platform.episodes import Stage
from fairlead.platform.executors import Task, Trained
from fairlead.platform.golden import TOLERANCE
from fairlead.platform.onnx_check import graph_error
from fairlead.policies.learners import LearnerConfig, make_learner


@pytest.fixture(scope="module")
def stage():
    return Stage(RingFactory(agents=10))


@pytest.fixture(scope="module", params=["all", "group", "none"])
def sharing(request):
    return request.param


def contents_of(stage, sharing: str) -> Contents:
    learner = make_learner(stage.spec, LearnerConfig(sharing=sharing), seed=1)
    arrays = learner.policy()
    rng = np.random.default_rng(2)
    for name, tensor in arrays.tensors.items():
        if name.startswith("normaliser"):
            tensor[...] += rng.uniform(0.1, 0.9, tensor.shape)
        else:
            tensor[...] += rng.normal(scale=0.4, size=tensor.shape)
    return Contents(
        name="ring policy",
        spec=stage.spec,
        arrays=arrays,
        settings={"agents": 10},
        provenance={"iteration": 3, "seed": 1},
    )


@pytest.fixture
def saved(stage, sharing, tmp_path):
    contents = contents_of(stage, sharing)
    result = stage.play(Task(5, Trained(contents.arrays), record=True))
    folder = tmp_path / "run" / "bundle"
    bundle = save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)
    return contents, result, bundle


def test_loaded_policy_acts_as_in_training(saved, stage):
    contents, result, bundle = saved
    again = stage.play(Task(5, load_bundle(bundle.folder).trained(), record=True))
    assert again.total == result.total
    np.testing.assert_array_equal(again.episode.actions, result.episode.actions)
    for name, tensor in contents.arrays.tensors.items():
        np.testing.assert_array_equal(bundle.arrays.tensors[name], tensor)
    assert bundle.arrays.member.tolist() == contents.arrays.member.tolist()
    # The policy is far from uniform, otherwise equal actions would say little.
    assert np.abs(bundle.golden["scores"]).max() > 0.5


def test_graph_scores_as_the_policy(saved):
    _, _, bundle = saved
    model = (bundle.folder / ONNX).read_bytes()
    assert graph_error(model, bundle.arrays, bundle.golden) <= TOLERANCE
    changed = {**bundle.golden, "scores": bundle.golden["scores"] + np.float32(0.01)}
    size = max(1.0, float(np.abs(changed["scores"]).max()))
    assert graph_error(model, bundle.arrays, changed) > 0.009 / size


def test_graph_takes_any_number_of_agents_and_gives_probabilities(saved):
    import onnxruntime

    _, _, bundle = saved
    session = onnxruntime.InferenceSession((bundle.folder / ONNX).read_bytes())
    rng = np.random.default_rng(0)
    mask = rng.random((23, 7)) < 0.5
    mask[:, 0] = True
    inputs = {
        "agent": rng.random((23, 2), dtype=np.float32),
        "candidates": rng.random((23, 7, 3), dtype=np.float32),
        "mask": mask,
        "member": np.zeros(23, np.int64),
    }
    wanted = {port.name for port in session.get_inputs()}
    scores, probabilities = session.run(
        ["scores", "probabilities"], {k: v for k, v in inputs.items() if k in wanted}
    )
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert (probabilities[~mask] == 0.0).all()
    assert np.isneginf(scores[~mask]).all()
    assert np.isfinite(scores[mask]).all()


def test_spec_survives_json(stage):
    text = json.dumps(spec_to_json(stage.spec), allow_nan=False)
    back = spec_from_json("toy", "ring", json.loads(text))
    assert back.group_of.tolist() == stage.spec.group_of.tolist()
    zeros = np.zeros(0, np.int64)
    assert replace(back, group_of=zeros) == replace(stage.spec, group_of=zeros)


@pytest.fixture
def one(stage, tmp_path):
    contents = contents_of(stage, "group")
    result = stage.play(Task(5, RandomRule(), record=True))
    folder = tmp_path / "bundle"
    save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)
    return folder


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, GOLDEN, ONNX])
@pytest.mark.parametrize("damage", ["truncate", "flip", "gone"])
def test_damage_is_refused_and_named(one, name, damage):
    file = one / name
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(data[: len(data) // 2])
    else:
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(BundleError, match=name):
        load_bundle(one)


def test_changed_training_record_is_refused(one):
    manifest = json.loads((one / MANIFEST).read_text())
    manifest["provenance"]["iteration"] = 4
    (one / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="changed after it was written"):
        load_bundle(one)


def reseal(folder, name: str, tensors) -> None:
    """Replace a tensor file and make all digests fit, as a careful forger would."""
    from safetensors.numpy import save

    from fairlead.platform import bundle as module

    (folder / name).write_bytes(save(tensors))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["digests"][name] = module._digest((folder / name).read_bytes())
    manifest["digest"] = module._seal(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_other_weights_with_right_digests_fail_the_golden_decisions(one):
    from safetensors.numpy import load_file

    tensors = load_file(one / WEIGHTS)
    tensors["score.weight"] = -tensors["score.weight"]
    reseal(one, WEIGHTS, tensors)
    with pytest.raises(BundleError, match=r"does not decide as it did.*actions differ"):
        load_bundle(one)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(one, value, stage):
    from safetensors.numpy import load_file

    tensors = load_file(one / WEIGHTS)
    tensors["hidden.1.weight"][0, 0, 0] = value
    reseal(one, WEIGHTS, tensors)
    with pytest.raises(BundleError, match=r"'hidden.1.weight' holds values that are not finite"):
        load_bundle(one)
    contents = contents_of(stage, "all")
    contents.arrays.tensors["agent.bias"][0, 0] = value
    episode = stage.play(Task(5, RandomRule(), record=True)).episode
    with pytest.raises(BundleError, match=r"agent.bias"):
        save_bundle(one, contents, episode=episode, epochs=20)


def test_wrong_shape_and_newer_format_are_refused(one):
    from safetensors.numpy import load_file

    tensors = load_file(one / WEIGHTS)
    reseal(one, WEIGHTS, {**tensors, "agent.bias": tensors["agent.bias"][:, :3]})
    with pytest.raises(BundleError, match=r"agent.bias: expected shape"):
        load_bundle(one)
    manifest = json.loads((one / MANIFEST).read_text())
    (one / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(BundleError, match="format 99"):
        load_bundle(one)


def test_saving_again_replaces_and_leaves_nothing_beside(one, stage):
    episode = stage.play(Task(6, RandomRule(), record=True)).episode
    save_bundle(one, contents_of(stage, "all"), episode=episode, epochs=20)
    assert load_bundle(one).arrays.member.max() == 0
    assert [path.name for path in one.parent.iterdir()] == ["bundle"]


def test_loading_needs_neither_torch_nor_onnx(one):
    probe = (
        "import sys; from fairlead.platform.bundle import load_bundle; "
        f"load_bundle({str(one)!r}).actor(); print([m for m in ('torch', 'onnx', 'simpy', "
        "'polars') if m in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_observed_quantiles_are_those_of_the_episode(saved, stage):
    _, result, bundle = saved
    episode, epochs = result.episode, result.epochs
    agent = episode.agent[:epochs].reshape(-1, 2)
    part = bundle.observed["agent"]
    np.testing.assert_array_equal(part["low"], agent.min(axis=0))
    np.testing.assert_array_equal(part["high"], agent.max(axis=0))
    assert np.shape(part["edges"]) == (2, 11)
    below = [(agent[:, 0] <= edge).mean() for edge in part["edges"][0]]
    assert all(share >= (i + 1) / 12 - 1e-9 for i, share in enumerate(below))
    # Only what could be chosen counts: not hold, not the masked, not those of idle agents.
    rows = [
        episode.candidates[t, a, k]
        for t in range(epochs)
        for a in np.flatnonzero(episode.active[t])
        for k in np.flatnonzero(episode.mask[t, a])
        if k != 0
    ]
    part = bundle.observed["candidate"]
    np.testing.assert_array_equal(part["low"], np.min(rows, axis=0))
    np.testing.assert_array_equal(part["high"], np.max(rows, axis=0))
    np.testing.assert_allclose(np.array(part["edges"])[:, 5], np.median(rows, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o.pop("agent"), "observed.agent is not quantiles"),
        (lambda o: o["agent"]["low"].pop(), "observed.agent is about 2 features"),
        (lambda o: o["candidate"]["edges"][0].pop(), "observed.candidate is not quantiles"),
        (lambda o: o["candidate"]["edges"][0].__setitem__(0, 1e9), "not in order"),
        (lambda o: o["agent"]["high"].__setitem__(0, None), "not finite"),
        (lambda o: o["agent"]["usual"].pop(), "observed.agent.usual"),
        (lambda o: o["candidate"]["usual"].__setitem__(0, -1.0), "observed.candidate.usual"),
        (lambda o: o.__setitem__("stretch", 0), "observed.stretch"),
    ],
)
def test_observed_that_makes_no_sense_is_refused(one, change, message):
    from fairlead.platform import bundle as module

    manifest = json.loads((one / MANIFEST).read_text())
    change(manifest["observed"])
    manifest["digest"] = module._seal(manifest)
    (one / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        load_bundle(one)


def test_nothing_but_its_own_files_is_read(one):
    from fairlead.platform import bundle as module

    manifest = json.loads((one / MANIFEST).read_text())
    manifest["digests"]["../../../etc/passwd"] = "0" * 64
    manifest["digest"] = module._seal(manifest)
    (one / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"digests must be those of") as caught:
        load_bundle(one)
    assert caught.value.flaw == "schema"
