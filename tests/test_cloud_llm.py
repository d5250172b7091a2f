"""The `llm` scenario: the Azure trace as a ring, its service times and its forecast."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fairlead.simulators.cloud.episode import open_workload
from fairlead.simulators.cloud.fleet import resolve
from fairlead.simulators.cloud.llm_fleet import LlmFleet
from fairlead.simulators.cloud.scenario import DispatchScenario, LlmScenario
from fairlead.simulators.errors import DataError
from fairlead.simulators.streams import Streams

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "cloud" / "azure_llm_2023_conv.csv").is_file(),
    reason="no Azure trace; set FAIRLEAD_DATA to its folder",
)


@pytest.fixture
def folder(tmp_path):
    """A trace of 400 requests: twice as busy in its second half."""
    rng = np.random.default_rng(0)
    times = np.sort(np.concatenate([rng.random(133) * 300, 300 + rng.random(267) * 300]))
    times[0], times[-1] = 0.0, 600.0 * 399 / 400
    tokens = zip(times, rng.integers(1, 3000, 400), rng.integers(1, 600, 400), strict=True)
    rows = [
        f"2023-11-16 18:{int(t) // 60:02d}:{t % 60:010.7f},{prompt},{answer}\n"
        for t, prompt, answer in tokens
    ]
    (tmp_path / "azure_llm_2023_conv.csv").write_text(HEADER + "".join(rows))
    return str(tmp_path)


def batches(fleet, scenario, seed, edges):
    workload = open_workload(scenario, fleet, Streams(seed))
    return workload, [workload.draw(a, b) for a, b in pairwise(edges)]


def test_one_lap_holds_every_request_once(folder):
    scenario = LlmScenario(agents=4, data=folder)
    fleet = resolve(scenario)
    assert isinstance(fleet, LlmFleet)
    lap = 400 / fleet.rate
    for seed in (1, 2):
        _, parts = batches(fleet, scenario, seed, np.linspace(0.0, lap, 38))
        sizes = np.concatenate([part.size for part in parts])
        assert sizes.shape == (400,)
        assert np.sort(sizes) == pytest.approx(np.sort(fleet.size))
        times = np.concatenate([part.time for part in parts])
        assert (np.diff(times) >= 0).all() and times.min() > 0 and times.max() <= lap
        # Cut anywhere, the arrivals are the same.
        _, whole = batches(fleet, scenario, seed, [0.0, lap])
        assert whole[0].time == pytest.approx(times) and (whole[0].size == sizes).all()
    first, second = (batches(fleet, scenario, s, [0.0, lap])[1][0].size for s in (1, 2))
    assert first[0] != second[0]


def test_forecast_follows_the_trace(folder):
    scenario = LlmScenario(agents=4, data=folder)
    fleet = resolve(scenario)
    lap = 400 / fleet.rate
    workload, _ = batches(fleet, scenario, 0, [0.0, 1.0])
    grid = (np.arange(2000) + 0.5) * lap / 2000
    factor = np.array([workload.factors(t)[0] for t in grid])
    assert factor.mean() == pytest.approx(1.0, abs=0.01)
    assert factor.max() > 1.15 and factor.min() < 0.85
    sin, cos = workload.day(3.0)
    assert sin**2 + cos**2 == pytest.approx(1.0)


def test_service_times_and_load(folder):
    fleet = resolve(LlmScenario(agents=10, data=folder, load=0.6))
    trace = fleet.trace
    names = [kind.name for kind in fleet.types]
    slow = names.index("a10-1")
    expected = trace.context_tokens / 4_000 + trace.generated_tokens / 350
    assert fleet.service[:, slow] == pytest.approx(expected)
    assert (fleet.kind[trace.generated_tokens > 256] == 2).all()
    mean = fleet.service[fleet.kind == 1].mean(axis=0)
    assert fleet.mean_service[:, 1] == pytest.approx(mean)
    assert fleet.class_rates.sum() == pytest.approx(fleet.rate)
    twice = resolve(LlmScenario(agents=10, data=folder, load=0.3))
    assert twice.rate == pytest.approx(fleet.rate / 2) and twice.dt == pytest.approx(2 * fleet.dt)


@needs_data
def test_real_trace_runs_at_its_load():
    fleet = resolve(LlmScenario())
    assert fleet.trace.requests == 19_366
    capacity_share = (fleet.class_rates * fleet.mean_service.min(axis=0)).sum() / fleet.nodes
    assert 0.1 < capacity_share < 0.7


def test_missing_data_and_wrong_pairs_are_named(tmp_path):
    with pytest.raises(DataError, match=r"azure_llm_2023_conv\.csv"):
        resolve(LlmScenario(data=str(tmp_path)))
    with pytest.raises(TypeError, match="llm"):
        open_workload(LlmScenario(), resolve(DispatchScenario()), Streams(0))
