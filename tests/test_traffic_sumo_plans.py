"""Plans that SUMO runs by itself: Webster's programmes and SUMO's own actuated control."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fairlead.simulators.traffic.files.sumo_config import read_sumo_files
from fairlead.simulators.traffic.files.sumo_export import export_sumo
from fairlead.simulators.traffic.plans import Programmes, plan_signals
from fairlead.simulators.traffic.programme import Signal
from fairlead.simulators.traffic.scenario import GridScenario
from fairlead.simulators.traffic.sumo.install import available
from fairlead.simulators.traffic.sumo.process import SumoEngine
from fairlead.simulators.traffic.sumo.programmes import write_actuated, write_static
from fairlead.simulators.traffic.sumo.simulator import SumoSimulator
from fairlead.simulators.traffic.timing import TimingSettings
from fairlead.simulators.traffic.town import Town, town_of

SECONDS = 600.0


@pytest.fixture(scope="module")
def town() -> Town:
    """Two signals whose plans in the file are poor: Webster's differ from them."""
    made = town_of(GridScenario(rows=1, columns=2, rate=300.0, seconds=SECONDS))
    poor = tuple(
        replace(signal, programme=tuple((s, d if "y" in s else 30.0) for s, d in signal.programme))
        for signal in made.network.signals
    )
    return Town(made.scenario, replace(made.network, signals=poor), made.demand)


def played(simulator, plan, seed=1):
    simulator.use_local(plan)
    observation = simulator.reset(seed)
    assert not observation.active.any() or not plan
    while not simulator.step(np.zeros(simulator.spec.agents, dtype=np.int64)).truncated:
        pass
    return simulator.metrics()


def test_static_plans_are_written_as_they_are(tmp_path):
    signal = Signal(name='a"&b', greens=("Gr",), programme=(("Gr", 7.5), ("yr", 3.0)), offset=-4.0)
    write_static(tmp_path / "a.xml", [signal])
    text = (tmp_path / "a.xml").read_text()
    assert '<tlLogic id=\'a"&amp;b\' type="static" programID="fairlead" offset="-4">' in text
    assert text.count("<phase") == 2 and '<phase duration="7.5" state="Gr"/>' in text


def test_actuated_control_has_yellow_and_red_only_where_somebody_loses_green(tmp_path):
    signal = Signal(name="a", greens=("Gr", "GG", "rG"), programme=(("Gr", 9.0),))
    timing = TimingSettings(yellow=4.0, all_red=2.0, min_green=8.0)
    write_actuated(tmp_path / "a.xml", [signal], timing)
    lines = [line.strip() for line in (tmp_path / "a.xml").read_text().splitlines()]
    phases = [line for line in lines if line.startswith("<phase")]
    green = '<phase duration="8" minDur="8" maxDur="50" state="{}"/>'
    assert phases == [
        green.format("Gr"),
        green.format("GG"),
        '<phase duration="4" state="yG"/>',
        '<phase duration="2" state="rG"/>',
        green.format("rG"),
        '<phase duration="4" state="ry"/>',
        '<phase duration="2" state="rr"/>',
    ]
    assert '<param key="max-gap" value="3"/>' in lines
    assert '<param key="detector-gap" value="2"/>' in lines


sumo = pytest.mark.skipif(not available(), reason="needs the extra sumo")


@sumo
def test_webster_in_sumo_is_what_our_time_table_says(town, tmp_path):
    simulator = SumoSimulator(town)
    metrics = played(simulator, "webster")
    simulator.close()
    signals = plan_signals(town, "webster")
    assert [s.programme for s in signals] != [s.programme for s in town.network.signals]
    files = read_sumo_files(export_sumo(town.network, town.demand, tmp_path, name="two"))
    table = Programmes(signals, begin=0.0)
    with SumoEngine(
        net=files.network, routes=files.routes, begin=0.0, end=SECONDS, network=town.network
    ) as engine:
        engine.reset(1)
        engine.set_states({signals[s.signal].name: s.state for s in table.at(0.0)})
        for start in range(0, int(SECONDS), 60):
            changes = table.changes(start, start + 60)
            engine.advance(
                60, [(int(s.time - start), signals[s.signal].name, s.state) for s in changes]
            )
        report = engine.finish()
    assert metrics["delay_mean_s"] == pytest.approx(report.resco_delay)
    assert metrics["finished_trips"] == report.finished


@sumo
def test_plans_follow_each_other_and_differ(town):
    simulator = SumoSimulator(town)
    fixed = played(simulator, "fixed")
    actuated, webster = played(simulator, "actuated"), played(simulator, "webster")
    agents = played(simulator, "")
    assert played(simulator, "fixed") == fixed
    simulator.close()
    # A green of 30 s for everybody is far too long for so few.
    assert max(actuated["delay_mean_s"], webster["delay_mean_s"]) < 0.8 * fixed["delay_mean_s"]
    # Agents that always keep the first phase starve the others; only their changes are counted.
    assert agents["delay_mean_s"] > fixed["delay_mean_s"]
    assert "switches" in agents and "switches" not in fixed


@sumo
def test_an_unknown_plan_is_refused_and_files_go(town, monkeypatch, tmp_path):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    simulator = SumoSimulator(town)
    assert not list(tmp_path.iterdir())  # nothing before the first reset
    with pytest.raises(ValueError, match="known: fixed, webster, actuated"):
        simulator.use_local("NEMA")
    simulator.reset(1)
    assert list(Path(tmp_path).glob("fairlead-streets-*"))
    simulator.close()
    simulator.close()
    assert not list(tmp_path.glob("fairlead-*"))
    assert simulator.version.startswith("SUMO 1.")
    simulator.reset(1)
    simulator.close()
