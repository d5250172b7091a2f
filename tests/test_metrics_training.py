"""Metrics of training jobs: a port while they run, a text file that outlives them."""

from __future__ import annotations

import math
import re
import shutil
import socket
import subprocess
import time
from urllib.request import urlopen

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from fairlead.ops import contract
from fairlead.platform.cli.main import main
from fairlead.platform.files import UserError
from fairlead.platform.loop import DivergedError
from fairlead.platform.metrics.training import TrainingMetrics, exporting
from fairlead.platform.moments import Recorded

QUICK = (
    "cloud",
    "scenario.agents=4",
    "scenario.horizon=12",
    "learner.network.hidden=[8]",
    "learner.critic.hidden=[8]",
    "iterations=2",
    "episodes=2",
    "evaluation.every=2",
    "evaluation.episodes=2",
    "evaluation.baselines=none",
    "execution.executor=inline",
)


def figures(text, **wanted):
    """Values by sample name (without prefix) and distinguishing label."""
    found = {}
    for family in parse(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("run", "domain")}
            key = sample.name.removeprefix("fairlead_")
            found[key, *labels.values()] = sample.value
    return found


def recorded(number, **changes):
    given = {
        "return": -3.0,
        "decisions_per_agent": 40.0 * number,
        "trust/joint_kl": 0.02,
        "trust/total": 0.025,
        "policy/kl": 0.005,
        "guidance/alpha": 0.7,
        "projection/kappa": 0.09,
        "projection/residual": 0.19,
    }
    values = {"figures": {**given, **changes.pop("figures", {})}, "workers_lost": 0}
    values |= {"seconds": {"collect": 1.5, "update": 0.5, "other": 9.0}, "groups": {}}
    return Recorded(iteration=number, **{**values, **changes})


def made():
    return TrainingMetrics(run="runs-1", domain="cloud", iterations=10)


def test_a_record_becomes_the_contracts_metrics(tmp_path):
    file = tmp_path / "train.prom"
    with exporting(made(), textfile=file) as record:
        record(recorded(0))
        before = time.time()
        record(recorded(1, groups={"kl": [2e-5, 2e-3, 0.5]}, workers_lost=2))
        found = figures(file.read_text())
        assert found["train_running",] == 1.0
    assert found["train_iterations_total",] == 1.0
    assert found["train_iterations_planned",] == 10.0
    assert found["train_env_steps_total",] == 40.0
    assert found["train_return",] == -3.0
    assert math.isnan(found.get(("train_evaluation_return",), math.nan))
    assert (found["train_kl_used",], found["train_kl_budget",]) == (0.02, 0.025)
    assert found["train_guidance_weight",] == 0.7
    assert math.isnan(found["train_clip_ratio",])  # this learner clips nothing
    assert found["train_hodge_norm", "curl"] == pytest.approx(0.3)
    assert found["train_hodge_norm", "gradient"] == pytest.approx(0.9)
    assert found["train_worker_restarts_total",] == 2.0
    assert found["train_nan_skips_total",] == 0.0
    assert found["train_iteration_duration_seconds", "collect"] == 1.5
    assert ("train_iteration_duration_seconds", "other") not in found
    # 0.005 of all groups together at first, then three groups.
    assert found["train_kl_count",] == 4.0
    assert found["train_kl_bucket", "3e-05"] == 1.0
    assert found["train_kl_bucket", "0.01"] == 3.0
    assert 0.0 <= found["train_checkpoint_timestamp_seconds",] - before < 5.0
    assert figures(file.read_text())["train_running",] == 0.0


def test_the_divergence_of_a_usual_update_lies_between_two_buckets():
    """Groups use some 0.2, all together some 1; a quantile beyond the last bucket is the last."""
    bounds = np.array(contract.METRICS["train_kl"].buckets)
    for usual in (0.03, 0.15, 0.25, 0.4, 0.9, 3.5):
        above = int((bounds < usual).sum())
        assert 0 < above < len(bounds)
        assert bounds[above] / bounds[above - 1] <= 10 / 3 + 1e-9


def test_counters_never_fall_when_a_run_goes_on_from_an_earlier_checkpoint(tmp_path):
    metrics = made()
    for number in (5, 3, 6):
        metrics.record(recorded(number))
    assert metrics.meter.value("train_iterations_total", run="runs-1", domain="cloud") == 6.0


def test_the_text_file_has_nothing_that_node_exporter_also_has(tmp_path):
    file = tmp_path / "train.prom"
    with exporting(made(), textfile=file):
        assert not re.search("^(process|python)_", file.read_text(), flags=re.MULTILINE)
    if shutil.which("promtool"):
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=file.read_bytes(),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_diverged_job_says_so_and_still_fails(tmp_path):
    file = tmp_path / "train.prom"
    with pytest.raises(DivergedError), exporting(made(), textfile=file):
        raise DivergedError("iteration 3: policy/kl is not finite")
    found = figures(file.read_text())
    assert (found["train_nan_skips_total",], found["train_running",]) == (1.0, 0.0)


def test_a_port_serves_while_the_job_runs_and_is_free_afterwards():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/metrics"
    with exporting(made(), port=port) as record:
        record(recorded(1))
        with urlopen(url, timeout=5) as answer:
            found = figures(answer.read().decode())
        assert found["train_iterations_total",] == 1.0
        assert ("process_open_fds",) in found
    with pytest.raises(OSError, match="refused"):
        urlopen(url, timeout=5)


def test_a_taken_port_or_folder_is_a_clear_mistake(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--metrics-port {port}"), exporting(made(), port=port):
            pass
    with (
        pytest.raises(UserError, match="nowhere"),
        exporting(made(), textfile=tmp_path / "nowhere" / "x.prom"),
    ):
        pass


@pytest.mark.parametrize("algorithm", ["hatrpo", "happo"])
def test_a_real_run_exports_every_training_metric(tmp_path, capsys, algorithm):
    file = tmp_path / "train.prom"
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("train", *QUICK, "--out", str(out), "--json"),
                *("--algorithm", algorithm, "--metrics-textfile", str(file)),
            ]
        )
    assert ended.value.code == 0, capsys.readouterr().err
    found = figures(file.read_text())
    names = {key[0] for key in found}
    wanted = {
        sample.removeprefix("fairlead_")
        for metric in contract.METRICS.values()
        if metric.scope == "train" and metric.name != "train_hodge_norm"
        for sample in metric.samples
    }
    assert wanted <= names
    assert found["train_iterations_total",] == 2.0
    assert found["train_running",] == 0.0
    assert math.isfinite(found["train_return",]) and math.isfinite(
        found["train_evaluation_return",]
    )
    assert found["train_kl_count",] > 0.0 and found["train_kl_sum",] > 0.0
    trusted = algorithm == "hatrpo"
    assert math.isfinite(found["train_kl_budget",]) == trusted
    assert math.isfinite(found["train_clip_ratio",]) != trusted
    if trusted:
        assert 0.0 < found["train_kl_used",] <= found["train_kl_budget",] * 1.01
