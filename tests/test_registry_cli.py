"""``fairlead registry`` as typed, from a bundle to a signed champion."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from serving import make_bundle
from typer.testing import CliRunner

from fairlead.platform.cli.main import build, main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    return [make_bundle(root / f"b{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def typed(*words, status=0):
        done = CliRunner().invoke(build(), ["registry", *map(str, words)])
        assert done.exit_code == status, (done.output, done.exception)
        return done.output

    return typed


def test_from_a_bundle_to_a_champion_and_back(run, made):
    one, two = (bundle.digest for bundle in made)
    assert one in run("add", made[0].folder, "--champion")
    run("add", made[1].folder)
    assert f"champion = {two[:12]}" in run("alias", "cloud", "champion", two[:8])
    document = json.loads(run("list", "--json"))
    held = {v["digest"]: v["aliases"] for v in document["versions"]}
    assert held == {one: ["previous"], two: ["champion"]}
    assert "[champion] test policy" in " ".join(run("list", "cloud").split())
    assert "decides as it did" in run("check", "cloud", "previous")
    assert f"champion = {one[:12]}" in run("alias", "cloud", "champion", "previous")
    run("alias", "cloud", "previous", "--delete")
    assert two in run("remove", "cloud", two[:10])
    assert "nothing to delete" in run("sweep")


def test_a_version_that_cannot_be_used_is_listed_with_status_1(run, made, tmp_path):
    run("add", made[0].folder, "-r", tmp_path / "r")
    (tmp_path / "r" / "cloud" / "versions" / made[0].digest / "_SUCCESS").unlink()
    assert "UNUSABLE: not complete" in " ".join(run("list", "-r", tmp_path / "r", status=1).split())


def test_keys_and_signatures(run, made, tmp_path):
    import shutil

    folder = shutil.copytree(made[0].folder, tmp_path / "run" / "bundle")
    assert "keep key.pem secret" in run("keygen", "key.pem", "key.pub")
    assert "signed" in run("sign", tmp_path / "run", "--key", "key.pem")
    assert (folder / "manifest.sig").is_file()
    run("add", tmp_path / "run")
    assert json.loads(run("list", "--json"))["versions"][0]["signed"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["alias", "cloud", "champion", "nobody"], "no version or alias 'nobody'"),
        (["alias", "cloud", "champion"], "or --delete it"),
        (["alias", "../x", "champion", "a"], "cannot be the name of a domain"),
        (["add", "/nowhere"], "cannot read /nowhere"),
        (["check", "cloud", "champion"], "no version or alias 'champion'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["registry", *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_registry_needs_neither_torch_nor_onnx_to_work(made, tmp_path):
    code = (
        "import sys; from fairlead.platform.cli.main import main\n"
        f"try: main(['registry', 'add', {str(made[0].folder)!r}, '-r', {str(tmp_path / 'r')!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'scipy', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
