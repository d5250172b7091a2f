"""``fairlead serve`` on the command line: knobs, --check, tokens, and clear words for mistakes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from serving import make_bundle
from typer.testing import CliRunner

from fairlead.platform.cli.main import build
from fairlead.platform.daemon.tokens import read_tokens
from fairlead.platform.files import UserError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b").folder


def run(*words):
    return CliRunner().invoke(build(), ["serve", *map(str, words)], catch_exceptions=True)


def test_help_explains_bundles_knobs_and_tokens():
    for words in (["--help"], ["run", "--help"]):
        text = " ".join(run(*words).output.split())
        for part in ("BUNDLE", "KEY=VALUE", "--check", "--knobs", "SIGTERM", "serve token"):
            assert part in text, part
    assert "--scope" in run("token", "--help").output


def test_knobs_lists_every_section():
    text = run("--knobs").output
    for name in ("server.receipt_deadline", "admission.queue", "slot.simplex.limit", "audit.fsync"):
        assert name in text.replace("\n", ""), name


def test_check_verifies_and_changes_nothing(bundle, tmp_path):
    state = tmp_path / "state"
    done = run(bundle, f"state.folder={state}", "--check")
    assert done.exit_code == 0, done.output
    assert "configuration: good" in done.output
    assert "cloud, test policy" in done.output
    assert not state.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/no/such/bundle", "--check"], "/no/such/bundle"),
        (["server.prot=1", "--check"], "server.port"),
        (["server.port=99999", "--check"], "at most 65535"),
        (["server.host=0.0.0.0", "--check"], "security.tokens"),
        (["--config", "/no/such/file", "--check"], "/no/such/file"),
        (["--log-level", "loud", "--check"], "warning"),
    ],
)
def test_mistakes_are_told_in_words(words, message):
    done = run(*words)
    assert isinstance(done.exception, UserError), done.output
    assert message in str(done.exception)


def test_nothing_to_serve_is_a_clear_mistake(tmp_path):
    code = "from fairlead.platform.cli.main import main; main()"
    words = ["serve", f"state.folder={tmp_path / 's'}", "server.port=0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "has no champion; name a bundle" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_bundles_of_one_domain_are_refused(bundle, tmp_path):
    other = make_bundle(tmp_path / "other", seed=2).folder
    code = "from fairlead.platform.cli.main import main; main()"
    words = ["serve", str(bundle), str(other), f"state.folder={tmp_path / 's'}", "server.port=0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "give one of them" in done.stderr


def test_a_token_is_shown_once_and_stored_as_a_hash(tmp_path):
    file = tmp_path / "tokens"
    done = run("token", "bridge", "--scope", "infer", "--scope", "read", "--file", file)
    assert done.exit_code == 0
    token = done.stdout.splitlines()[0]
    assert token.startswith("fl_")
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = read_tokens(file).find(token.encode())
    assert (found.name, found.scopes) == ("bridge", {"read", "infer"})
    again = run("token", "bridge", "--file", file)
    assert isinstance(again.exception, UserError)
    assert "remove its line" in str(again.exception)


def test_serving_needs_no_learning_package():
    code = (
        "import sys\n"
        "import fairlead.platform.daemon.main, fairlead.platform.page\n"
        "import fairlead.platform.kubernetes\n"
        "found = {'torch', 'scipy', 'polars', 'pyomo', 'matplotlib', 'highspy', 'onnxruntime'}\n"
        "sys.exit(', '.join(sorted(found & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
