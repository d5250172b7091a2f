"""Checkpoints: exact, whole or absent, and loud when damaged."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.platform.checkpoint import (
    COUNTERS,
    DIGESTS,
    TENSORS,
    Checkpoint,
    CheckpointError,
    CheckpointStore,
)
from fairlead.platform.files import UserError


def checkpoint(iteration: int) -> Checkpoint:
    rng = np.random.default_rng(iteration)
    tensors = {
        "weight": rng.normal(size=(3, 4, 5)).astype(np.float32),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "step": np.array(iteration, np.int64),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
    }
    counters = {"best": 0.1 + 0.2, "stream": {"state": 2**127 + 1}, "nothing": None}
    return Checkpoint(iteration, tensors, counters)


def test_round_trip_is_exact(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(7))
    loaded = store.load(7)
    assert loaded.iteration == 7
    assert loaded.counters == checkpoint(7).counters
    for name, array in checkpoint(7).tensors.items():
        assert loaded.tensors[name].dtype == array.dtype
        assert loaded.tensors[name].shape == array.shape
        np.testing.assert_array_equal(loaded.tensors[name], array)


def test_newest_two_and_the_best_are_kept(tmp_path):
    store = CheckpointStore(tmp_path)
    for iteration in range(1, 8):
        store.save(checkpoint(iteration), best=min(3, iteration))
    assert store.iterations() == [3, 6, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000006", "000007"]


def test_same_iteration_again_replaces_it(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(Checkpoint(1, {"a": np.zeros(2)}, {}))
    store.save(Checkpoint(1, {"a": np.ones(2)}, {}))
    assert store.load(1).tensors["a"].tolist() == [1.0, 1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]


@pytest.mark.parametrize("name", [TENSORS, COUNTERS, DIGESTS])
@pytest.mark.parametrize("damage", ["half", "empty", "last byte", "flip", "gone"])
def test_damage_names_the_file_and_the_remedy(name, damage, tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(4))
    store.save(checkpoint(5))
    file = store.path(5) / name
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "flip":
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        # The digest file without its last newline still says the same, so cut deeper there.
        last = data[:-2] if name == DIGESTS else data[:-1]
        file.write_bytes({"half": data[: len(data) // 2], "empty": b"", "last byte": last}[damage])
    with pytest.raises(CheckpointError) as caught:
        store.load(5)
    assert str(store.path(5)) in str(caught.value)
    if name != DIGESTS:
        assert name in str(caught.value)
    assert "--resume-from N with N one of 4" in str(caught.value)
    assert store.load(4).iteration == 4


def test_missing_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*000009; there is no other"):
        CheckpointStore(tmp_path).load(9)


def test_failed_write_leaves_the_old_ones(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        store.save(checkpoint(2))
    monkeypatch.undo()
    assert store.iterations() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    assert store.load(1).iteration == 1


def test_counters_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        CheckpointStore(tmp_path).save(Checkpoint(1, {}, {"best": float("inf")}))
