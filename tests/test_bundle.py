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
