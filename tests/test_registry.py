"""The registry of bundles: complete or not there, addressed by digest, names that move at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from serving import make_bundle

from fairlead.platform.bundle import GOLDEN, MANIFEST, ONNX, WEIGHTS, BundleError
from fairlead.platform.files import UserError
from fairlead.platform.rollout.store import ALIASES, SUCCESS, Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    return [make_bundle(root / f"b{seed}", seed=seed) for seed in (1, 2, 3)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "registry")


def test_an_added_bundle_is_found_by_digest_prefix_and_alias(store, made):
    one, two = made[0].digest, made[1].digest
    assert store.add(made[0].folder).digest == one
    store.add(made[1].folder)
    assert store.resolve("cloud", one) == store.resolve("cloud", one[:8]) == one
    store.point("cloud", "champion", two[:10])
    assert store.load("cloud", "champion").digest == two
    assert {v.digest for v in store.list()} == {one, two}
    (champion,) = [v for v in store.list("cloud") if "champion" in v.aliases]
    assert champion.digest == two and champion.name == "test policy" and champion.problem == ""
    with pytest.raises(UserError, match=r"there is no version or alias 'nobody'.*champion"):
        store.resolve("cloud", "nobody")
    with pytest.raises(UserError, match="no version or alias"):
        store.resolve("cloud", one[:5])


def test_moving_the_champion_keeps_the_one_before(store, made):
    for bundle in made:
        store.add(bundle.folder)
    one, two, three = (bundle.digest for bundle in made)
    assert store.point("cloud", "champion", one) == {"champion": one}
    assert store.point("cloud", "champion", one) == {"champion": one}
    assert store.point("cloud", "champion", two) == {"champion": two, "previous": one}
    store.point("cloud", "nightly", three)
    assert store.point("cloud", "champion", "previous")["previous"] == two
    assert "nightly" not in store.point("cloud", "nightly", None)
    with pytest.raises(UserError, match="is champion; move that first"):
        store.remove("cloud", one)
    assert store.remove("cloud", three[:12]) == three
    assert three not in {v.digest for v in store.list()}


def test_adding_again_changes_nothing_and_repairs_damage(store, made):
    bundle = store.add(made[0].folder)
    before = {p.name: p.stat().st_mtime_ns for p in bundle.folder.iterdir()}
    store.add(made[0].folder)
    assert {p.name: p.stat().st_mtime_ns for p in bundle.folder.iterdir()} == before
    (bundle.folder / WEIGHTS).write_bytes(b"garbage")
    with pytest.raises(BundleError, match=WEIGHTS):
        store.load("cloud", bundle.digest)
    store.add(made[0].folder)
    assert store.load("cloud", bundle.digest).digest == bundle.digest
    assert not list((store.root / "cloud").rglob("*.tmp"))


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, GOLDEN, ONNX])
def test_every_sampled_truncation_and_flip_is_refused(store, made, name):
    bundle = store.add(made[0].folder)
    file = bundle.folder / name
    data = file.read_bytes()
    for length in {0, 1, 7, 8, 9, *range(0, len(data), max(1, len(data) // 25)), len(data) - 2}:
        file.write_bytes(data[:length])
        with pytest.raises(BundleError, match=name) as caught:
            store.load("cloud", bundle.digest)
        assert caught.value.flaw == "digest"
    for place in {0, 8, *range(3, len(data), max(1, len(data) // 25)), len(data) - 1}:
        byte = bytes([data[place] ^ (1 << (place % 8))])
        file.write_bytes(data[:place] + byte + data[place + 1 :])
        try:
            loaded = store.load("cloud", bundle.digest)
        except BundleError:
            continue
        # White space of the manifest means nothing; everything else is sealed.
        assert name == MANIFEST and data[place : place + 1].isspace() and byte.isspace()
        assert loaded.digest == bundle.digest


def test_swapped_folders_and_files_and_missing_marks_are_refused(store, made):
    one, two = (store.add(bundle.folder) for bundle in made[:2])
    away = store.root / "away"
    one.folder.rename(away)
    shutil.copytree(two.folder, one.folder)
    with pytest.raises(BundleError, match="folders were swapped"):
        store.load("cloud", one.digest)
    (listed,) = [v for v in store.list() if v.digest == one.digest]
    assert "swapped" in listed.problem
    shutil.rmtree(one.folder)
    away.rename(one.folder)
    data = (one.folder / WEIGHTS).read_bytes()
    (one.folder / WEIGHTS).write_bytes((two.folder / WEIGHTS).read_bytes())
    with pytest.raises(BundleError, match=WEIGHTS):
        store.load("cloud", one.digest)
    (one.folder / WEIGHTS).write_bytes(data)
    (one.folder / SUCCESS).unlink()
    with pytest.raises(BundleError, match="not complete"):
        store.load("cloud", one.digest)
    with pytest.raises(BundleError, match="not complete"):
        store.point("cloud", "champion", one.digest)


@pytest.mark.parametrize(
    "name", ["../../etc", "..", "a/b", "a\\b", "", ".hidden", "A", "x" * 65, "a..b", "a\0b", "é"]
)
def test_names_cannot_lead_out_of_the_registry(store, made, name):
    store.add(made[0].folder)
    outside = set(store.root.parent.rglob("*"))
    with pytest.raises(UserError, match="cannot be the name"):
        store.point("cloud", name, made[0].digest)
    with pytest.raises(UserError, match="cannot be the name"):
        store.aliases(name)
    with pytest.raises(UserError, match="is not a digest"):
        store.folder("cloud", name)
    assert set(store.root.parent.rglob("*")) == outside


def test_a_forged_domain_cannot_lead_out_of_the_registry(store, made, tmp_path):
    from fairlead.platform import bundle as module

    forged = tmp_path / "forged"
    shutil.copytree(made[0].folder, forged)
    manifest = json.loads((forged / MANIFEST).read_text())
    manifest["domain"] = "../../../tmp"
    manifest["digest"] = module._seal(manifest)
    (forged / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="cannot be the name of a domain"):
        store.add(forged)
    assert not store.root.exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"champion": 3}', '{"champion": "../x"}', '{"../x": "%s"}' % ("0" * 64)]
)
def test_damaged_aliases_are_named(store, made, text):
    store.add(made[0].folder)
    (store.root / "cloud" / ALIASES).write_text(text)
    with pytest.raises(UserError, match=ALIASES):
        store.aliases("cloud")


def _writer(root, digests, stop):
    store = Store(root)
    turn = 0
    while not stop.is_set():
        store.point("cloud", "champion", digests[turn % 2])
        turn += 1


def test_readers_never_see_half_a_move(store, made):
    digests = [store.add(bundle.folder).digest for bundle in made[:2]]
    store.point("cloud", "champion", digests[0])
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    writers = [
        context.Process(target=_writer, args=(store.root, digests, stop), daemon=True)
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    try:
        seen = set()
        deadline = time.monotonic() + 20
        while len(seen) < 2 or time.monotonic() < deadline - 18:
            aliases = store.aliases("cloud")
            assert set(aliases.values()) <= set(digests)
            seen.add(aliases["champion"])
            assert time.monotonic() < deadline, "the writers never moved the champion"
    finally:
        stop.set()
        for writer in writers:
            writer.join(20)
    assert [writer.exitcode for writer in writers] == [0, 0]


ADDER = """
import sys
from pathlib import Path
from fairlead.platform.rollout.store import Store
import shutil
store, source, digest = Store(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
sys.stdout.write("go"); sys.stdout.flush()
while True:
    store.add(source)
    store.remove("cloud", digest)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_versions_only(store, made):
    bundle = made[0]
    whole = 0
    for trial in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", ADDER, str(store.root), str(bundle.folder), bundle.digest],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert child.stdout.read(2) == b"go"
        time.sleep(0.02 + 0.013 * trial)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for version in store.list():
            assert version.problem == ""
            assert store.load("cloud", version.digest).digest == bundle.digest
            whole += 1
        store.sweep()
        assert not list(store.root.rglob("*.tmp"))
    store.add(bundle.folder)
    assert [v.digest for v in store.list()] == [bundle.digest]
    assert whole < 12, "no kill ever fell between an add and a remove"


def test_a_registry_that_cannot_be_written_says_so(tmp_path, made):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot write into folder"):
        Store(blocked).add(made[0].folder)
    assert Store(tmp_path / "nothing").list() == ()
