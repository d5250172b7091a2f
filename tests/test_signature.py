"""Signatures: by whom, of what, and what an unsigned bundle meets."""

from __future__ import annotations

import json
import shutil
import stat

import pytest
from rollout_stage import Slot
from serving import make_bundle

from fairlead.platform.bundle import MANIFEST
from fairlead.platform.daemon.settings import SignatureSettings
from fairlead.platform.files import UserError
from fairlead.platform.rollout.loading import LoadRefused
from fairlead.platform.rollout.signature import (
    SIGNATURE,
    SignatureError,
    check_signature,
    make_keys,
    sign_bundle,
)
from fairlead.platform.rollout.store import Store


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    root = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_keys(root / f"{name}.pem", root / f"{name}.pub")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    return [make_bundle(root / f"b{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made[0].folder, tmp_path / "bundle")


def settings(keys, policy="require", name="ours"):
    return SignatureSettings(policy=policy, public_key=str(keys / f"{name}.pub"))


def check(folder, made, keys, **options):
    return check_signature(folder, settings(keys, **options), digest=made[0].digest)


def test_keys_are_private_and_never_written_over(keys, tmp_path):
    assert stat.S_IMODE((keys / "ours.pem").stat().st_mode) == 0o600
    with pytest.raises(UserError, match="exists already"):
        make_keys(keys / "ours.pem", tmp_path / "x.pub")
    assert not (tmp_path / "x.pub").exists()
    with pytest.raises(UserError, match="cannot write key"):
        make_keys(tmp_path / "no" / "a.pem", tmp_path / "a.pub")


def test_a_signed_bundle_passes_and_any_change_does_not(folder, made, keys):
    fingerprint = sign_bundle(folder, keys / "ours.pem")
    assert json.loads((folder / SIGNATURE).read_text())["key"] == fingerprint
    assert check(folder, made, keys) == ""
    text = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(
        text.replace(b'"name": "test policy"', b'"name": "best policy"')
    )
    with pytest.raises(SignatureError, match="does not fit manifest"):
        check(folder, made, keys)
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(SignatureError, match="was changed while it was read"):
        check_signature(folder, settings(keys), digest="0" * 64)


def test_wrong_keys_missing_and_damaged_signatures_are_told_apart(folder, made, keys):
    with pytest.raises(SignatureError, match=r"there is no manifest.sig.*registry sign"):
        check(folder, made, keys)
    sign_bundle(folder, keys / "theirs.pem")
    with pytest.raises(SignatureError, match="is by ed25519 key"):
        check(folder, made, keys)
    assert check(folder, made, keys, name="theirs") == ""
    good = json.loads((folder / SIGNATURE).read_text())
    for broken in (
        "",
        "{",
        "[]",
        "{}",
        json.dumps({**good, "signature": "%%%"}),
        json.dumps({**good, "signature": None}),
    ):
        (folder / SIGNATURE).write_text(broken)
        with pytest.raises(SignatureError, match="is damaged"):
            check(folder, made, keys, name="theirs")
    (folder / SIGNATURE).write_text(json.dumps({**good, "signature": "AAAA"}))
    with pytest.raises(SignatureError, match="does not fit"):
        check(folder, made, keys, name="theirs")


def test_a_signature_of_another_bundle_does_not_fit(folder, made, keys, tmp_path):
    other = shutil.copytree(made[1].folder, tmp_path / "other")
    sign_bundle(other, keys / "ours.pem")
    shutil.copy(other / SIGNATURE, folder / SIGNATURE)
    with pytest.raises(SignatureError, match="does not fit"):
        check(folder, made, keys)


def test_off_looks_at_nothing_and_warn_tells(folder, made, keys):
    assert check_signature(folder, SignatureSettings(), digest="") == ""
    assert check(folder, made, keys, policy="warn") == "there is no manifest.sig"
    with pytest.raises(UserError, match=r"needs signature\.public_key"):
        check_signature(folder, SignatureSettings(policy="warn"), digest="")


def test_bad_key_files_are_named(folder, made, keys, tmp_path):
    bad = tmp_path / "bad.pem"
    with pytest.raises(UserError, match=r"cannot read .*bad\.pem"):
        sign_bundle(folder, bad)
    bad.write_text("hello")
    with pytest.raises(UserError, match="not a private key"):
        sign_bundle(folder, bad)
    with pytest.raises(UserError, match="not a public key"):
        check_signature(folder, SignatureSettings(policy="require", public_key=str(bad)), digest="")
    with pytest.raises(UserError, match="not a private key"):
        sign_bundle(folder, keys / "ours.pub")
    bad.write_text("x" * 100_000)
    with pytest.raises(UserError, match="far too large"):
        sign_bundle(folder, bad)


def test_a_slot_that_requires_signatures_serves_signed_bundles_only(made, keys, tmp_path):
    store = Store(tmp_path / "registry")
    signed = shutil.copytree(made[0].folder, tmp_path / "signed")
    sign_bundle(signed, keys / "ours.pem")
    store.add(made[0].folder)
    store.add(signed)  # the same version gets the signature that it lacked
    store.add(made[1].folder)
    assert {v.digest: v.signed for v in store.list()} == {
        made[0].digest: True,
        made[1].digest: False,
    }
    store.point("cloud", "champion", made[0].digest)
    slot = Slot(store, signature=settings(keys))
    with pytest.raises(LoadRefused, match=r"there is no manifest\.sig"):
        slot.rollout.operate("promote", {"bundle": made[1].digest})
    assert slot.value("policy_loads_total", result="signature") == 1
    assert slot.rollout.champion.digest == made[0].digest
    slot.rollout.close()
    store.point("cloud", "champion", made[1].digest)
    slot = Slot(store, signature=settings(keys, policy="warn"))
    assert slot.kinds() == ["warning"]
    assert slot.rollout.view()["champion"]["warnings"] == ["there is no manifest.sig"]
    slot.rollout.close()
