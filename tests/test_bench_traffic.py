"""Benches on traffic: speed beside SUMO, learning over the number of signals, budgets, HPML."""

from __future__ import annotations

import importlib
import time

import numpy as np
import pytest

from fairlead.platform.benchmarks import (
    dgpg_scaling,
    dgpg_variance,
    projection,
    traffic_simulator,
    trust_region,
)
from fairlead.platform.benchmarks.learning_plan import assignments, heterogeneous
from fairlead.platform.benchmarks.subjects import RATE, SUBJECTS, noise_of
from fairlead.platform.cli.bench import build_options
from fairlead.platform.files import UserError
from fairlead.platform.progress import silent
from fairlead.policies.heuristics.traffic import SAME
from fairlead.simulators.traffic.sumo.install import available
from fairlead.simulators.traffic.town import town_of

CHEAP = ("critic.passes=1", "passes=1")
METHODS = ("hatrpo", "hatrpo-w", "hatrpo-g")


def by_name(rows):
    return {row.name: row for row in rows}


def tiny(**given):
    return traffic_simulator.Options.model_validate(
        {"sides": (2, 4), "seconds": 20, "windows": 2, "sumo": False, **given}
    )


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    monkeypatch.setattr(traffic_simulator, "MANY", 4)


# -- speed ----------------------------------------------------------------------------------------


def test_speed_is_measured_on_full_streets_and_marked_on_the_promised_grids():
    rows = by_name(traffic_simulator.run(tiny(), silent))
    assert rows["grid 4 x 4, greedy: simulated seconds"].target == 5000.0
    assert rows["grid 2 x 2, greedy: simulated seconds"].passed is None
    assert rows["grid 4 x 4, fixed: simulated seconds"].passed is None
    for control in traffic_simulator.CONTROLS:
        name = f"grid 4 x 4, {control}"
        assert rows[f"{name}: deadlocks"].passed
        assert float(rows[f"{name}: vehicles on the streets"].measured) > 100
        # Every vehicle crosses about four of the sixteen signals, 16 entries send 300 an hour.
        per_second = float(rows[f"{name}: crossings"].measured) / float(
            rows[f"{name}: simulated seconds"].measured
        )
        assert 16 * 300 / 3600 * 3 < per_second < 16 * 300 / 3600 * 8
    assert "skipped" in str(rows["grid 2 x 2, SUMO"].measured)
    growth = rows["growth of allocated memory, 4 episodes over 2"]
    assert growth.target == 1.1 and growth.passed


def test_the_fastest_window_counts(monkeypatch):
    # Three windows of 9, 2 and 5 seconds; the clock is asked once before and once after each.
    ticks = iter(np.cumsum([0.0, 9, 0, 2, 0, 5, *range(100)]))
    monkeypatch.setattr(traffic_simulator.time, "process_time", lambda: next(ticks))
    options = tiny(sides=(1,), seconds=50, windows=3)
    rows = by_name(traffic_simulator.run(options, silent))
    assert rows["grid 1 x 1, greedy: simulated seconds"].measured == 25.0


def test_a_window_comes_after_the_streets_have_filled():
    options = traffic_simulator.Options()
    assert [options.filled(side) for side in (4, 14, 32)] == [300, 560, 1280]
    scenario = options.scenario(14)
    assert (scenario.rows, scenario.lanes, scenario.interval) == (14, 2, 5.0)
    assert scenario.seconds == 560 + 2 * 3 * 200


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sides=[4, 4]", "must ascend"),
        ("sides=[0]", "1 to 64"),
        ("seconds=7", "multiple of 5"),
        ("agents=[4]", "agents"),
    ],
)
def test_mistakes_in_the_options_of_the_speed_bench_are_named(given, message):
    with pytest.raises(UserError, match=message):
        build_options(
            "traffic-simulator", traffic_simulator.Options, file=None, overrides=[given], flags={}
        )


@pytest.mark.slow
def test_the_smallest_run_times_the_two_smaller_grids():
    rows = by_name(traffic_simulator.run(tiny(sides=(1, 2, 14), quick=True), silent))
    assert rows["a timed window"].measured == 100
    assert any("2 x 2" in name for name in rows) and not any("14 x 14" in name for name in rows)


def test_without_sumo_its_rows_are_skipped_with_the_remedy(monkeypatch):
    real = importlib.util.find_spec

    def absent(name, package=None):
        found = name.partition(".")[0] in ("sumo", "libsumo", "traci")
        return None if found else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    rows = by_name(traffic_simulator.run(tiny(sides=(1,), windows=1, sumo=True), silent))
    assert "pip install 'fairlead[sumo]'" in str(rows["grid 1 x 1, SUMO"].measured)
    assert float(rows["grid 1 x 1, greedy: simulated seconds"].measured) > 0.0


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="needs SUMO: pip install 'fairlead[sumo]'")
def test_sumo_plays_the_same_vehicles_with_and_without_readings():
    rows = by_name(traffic_simulator.run(tiny(sides=(2,), sumo=True), silent))
    name = "grid 2 x 2, SUMO"
    assert str(rows[f"{name}: version"].measured).startswith("SUMO 1.")
    ours = float(rows["grid 2 x 2, fixed: vehicles on the streets"].measured)
    for kind in ("micro", "micro with readings every 5 s", "meso, no readings"):
        speed = float(rows[f"{name} {kind}: simulated seconds"].measured)
        over = float(rows[f"{name} {kind}: our streets with readings over it"].measured)
        fixed = float(rows["grid 2 x 2, fixed: simulated seconds"].measured)
        assert over == pytest.approx(fixed / speed)
        # The same vehicles on the same streets under the same plan: about as many are there.
        there = float(rows[f"{name} {kind}: vehicles on the streets"].measured)
        assert there == pytest.approx(ours, rel=0.5)
    assert float(rows[f"{name} micro: peak memory"].measured) > 10.0


@pytest.mark.skipif(not available(), reason="needs SUMO: pip install 'fairlead[sumo]'")
def test_the_clock_of_sumo_runs_while_sumo_works(tmp_path):
    from fairlead.platform.benchmarks.traffic_simulator_sumo import ClockedEngine
    from fairlead.simulators.traffic.files.sumo_export import export_sumo

    town = town_of(tiny().scenario(2))
    path = export_sumo(town.network, town.demand, tmp_path, name="grid")
    net, routes = tmp_path / "grid.net.xml", tmp_path / "grid.rou.xml"
    assert path.exists()
    with ClockedEngine(net=net, routes=(routes,), begin=0.0, end=400.0) as engine:
        with pytest.raises(RuntimeError, match="reset"):
            engine.busy()
        engine.reset(1)
        before, wall = engine.busy(), time.perf_counter()
        engine.advance(300)
        used, passed = engine.busy() - before, time.perf_counter() - wall
        assert 0.0 < used < 2.0 * passed + 0.1
        time.sleep(0.3)
        assert engine.busy() - before - used < 0.2  # it does not run while SUMO waits


# -- subjects -------------------------------------------------------------------------------------


def test_grids_have_exactly_so_many_signals_and_the_same_demand_at_every_edge():
    traffic = SUBJECTS["traffic"]
    assert traffic.agents == (4, 16, 36, 64, 100, 196, 400)
    for agents, shape in ((4, (2, 2)), (12, (3, 4)), (7, (1, 7)), (196, (14, 14)), (400, (20, 20))):
        values = traffic.factory(agents, 120, None).values().model_dump()
        assert (values["rows"], values["columns"]) == shape
        assert traffic.count(values) == agents
        assert values["rate"] == RATE and values["seconds"] == 1200.0
    assert SUBJECTS["cloud"].count({"agents": 7}) == 7
    assert SUBJECTS["power"].count({"units": 9}) == 9
    with pytest.raises(UserError, match="no offered load"):
        traffic.factory(4, 120, 0.5)


def test_guided_and_plain_learners_have_the_same_networks():
    traffic = SUBJECTS["traffic"]
    guided, plain = traffic.learner("dgpg"), traffic.learner("mappo")
    assert guided.guided and not plain.guided and plain.algorithm == "mappo"
    assert guided.network == plain.network and guided.gamma == plain.gamma
    assert guided.sharing == plain.sharing == "all" and guided.local_mix == plain.local_mix == 0.5
    assert traffic.learner("mappo", 0.0).local_mix == 0.0
    assert traffic.learner("dgpg", 0.0) == guided
    # At the first update the guided learner steps further, later less far.
    pace = guided.guidance.pace
    assert guided.learning_rate < plain.learning_rate < pace.first * guided.learning_rate
    assert guided.guidance.alpha.end == 0.0


@pytest.mark.slow
def test_the_queue_at_a_signal_is_about_the_same_at_every_number_of_signals():
    from fairlead.simulators.traffic.signals import TrafficSimulator

    found = []
    for agents in (4, 100):
        simulator = TrafficSimulator(
            town_of(SUBJECTS["traffic"].factory(agents, 120, None).values())
        )
        observation, queues = simulator.reset(0), []
        wave = simulator.spec.candidate_column("wave")
        for _ in range(120):
            value = np.where(observation.mask, observation.candidates[:, :, wave], -1.0)
            observation = simulator.step(value.argmax(axis=1)).observation
            queues.append(observation.agent[:, simulator.spec.agent_column("queue")].mean())
        found.append(np.mean(queues[60:]))
    assert found[1] == pytest.approx(found[0], rel=0.15)


# -- learning -------------------------------------------------------------------------------------


def test_scaling_bench_runs_on_traffic_beside_every_rule_with_the_same_information(tmp_path):
    picture = tmp_path / "scaling.svg"
    options = dgpg_scaling.Options(
        domain="traffic", agents=(4,), episodes=2, plain_episodes=1, plain_every=1, evaluation=2,
        horizon=12, learners=("dgpg", "mappo"), workers=1, plot=picture,
    )  # fmt: skip
    rows = by_name(dgpg_scaling.run(options, silent))
    assert rows["N=4: dgpg, episodes to convergence"].target == 10
    assert float(rows["N=4: dgpg, final cost"].measured) > 0.0
    assert rows["N=4: greedy-reference, cost"].unit == "s"
    assert "N=4: store-forward-mpc" not in rows  # not asked for: it sees all queues
    names = {name.partition(", best with")[0] for name in rows}
    assert {f"N=4: {rule}" for rule in SAME} <= names
    assert rows["N=4: dgpg, ahead of greedy-reference, 95 % low"].passed is None
    assert "minus mean delay" in picture.read_text()


def test_noise_is_measured_on_the_same_vehicles_whose_drivers_differ():
    setting = noise_of(SUBJECTS["traffic"], 4, 12, 0.5, 1)
    town = town_of(setting.factory.values())
    assert setting.scale == town.demand.vehicles > 0
    assert town.scenario.city == 1 and town.scenario.seconds == 120.0
    simulator = setting.factory.simulator()
    hold = np.zeros(4, dtype=np.int64)
    found = []
    for seed in (3, 4):
        simulator.reset(seed)
        steps = [simulator.step(hold) for _ in range(12)]
        found.append((simulator.streets.demand.depart, sum(step.reward for step in steps)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] != found[1][1]


def test_variance_bench_runs_on_traffic(tmp_path):
    picture = tmp_path / "variance.svg"
    options = dgpg_variance.Options(
        domain="traffic", agents=(4, 9), episodes=4, horizon=12, updates=0, workers=1, plot=picture
    )
    rows = by_name(dgpg_variance.run(options, silent))
    assert rows["N=4: return, variance per agent"].unit == "(vehicle s)^2"
    assert rows["N=4: guidance, variance per agent"].unit == "vehicles^4"
    for what, expected in (("return", 1.0), ("guidance", 0.0)):
        slope = rows[f"slope of log variance over log N, {what}"]
        few, many = (float(rows[f"N={n}: {what}, variance per agent"].measured) for n in (4, 9))
        assert slope.expected == expected and slope.tolerance == 0.15
        assert float(slope.measured) == pytest.approx(np.log(many / few) / np.log(9 / 4))
    assert "vehicles^4" in picture.read_text()


def traffic(**given) -> trust_region.Options:
    return trust_region.Options.model_validate({"domain": "traffic", **given})


def test_signals_with_unlike_phases_are_groups_with_weights_of_their_own():
    options = traffic(seeds=2)
    assert options.agents == (36,) and options.horizon == 120 and options.long_updates == 0
    scenario = heterogeneous(options, 16)
    assert scenario["mixed"] and (scenario["rows"], scenario["columns"]) == (4, 4)
    groups = town_groups(scenario)
    assert groups == ("2-phase permissive", "4-phase protected")
    for learner, sharing in (((), "group"), (("sharing=none",), "none")):
        chosen = traffic(seeds=2, learner=learner)
        for one in assignments(chosen, trust_region.variants(chosen, 0.01), scenario):
            assert one.agents == 16 and one.config["domain"] == "traffic"
            assert one.config["learner"]["sharing"] == sharing
    with pytest.raises(UserError, match=r"load=0\.5: scenario 'grid' has no offered load"):
        heterogeneous(traffic(load=0.5), 16)


def town_groups(scenario):
    from fairlead.platform.registry import find_domain, find_scenario

    values = find_scenario("traffic", "grid").model_validate(scenario)
    return find_domain("traffic").simulator(values).spec.groups


def test_groups_of_signals_learn_within_equal_total_kl():
    cheap = {"agents": (9,), "seeds": 2, "iterations": 1, "episodes": 1, "evaluation": 2}
    options = traffic(**cheap, horizon=12, workers=1, learner=CHEAP)
    rows = by_name(trust_region.run(options, silent))
    assert len({rows[f"N=9: {m}, total KL of an update"].measured for m in METHODS}) == 1
    for method in METHODS:
        used = rows[f"N=9: {method}, largest used over allowed KL"]
        assert used.passed and float(used.measured) > 0.0
    assert rows["N=9: hatrpo-w, improvement over that of hatrpo"].target is None


def test_projection_plays_own_queues_and_leaves_the_team_game_alone():
    options = projection.Options.model_validate({"domain": "traffic"})
    assert options.mix == 1.0 and options.seeds == 5 and options.agents == (16,)
    small = {"agents": (4,), "seeds": 2, "iterations": 2, "episodes": 1, "evaluation": 2}
    more = {"horizon": 12, "every": 1, "probes": 1, "team_updates": 1, "methods": ("mappo",)}
    given = {"domain": "traffic", "workers": 1, "learner": CHEAP, **small, **more}
    rows = by_name(projection.run(projection.Options.model_validate(given), silent))
    assert rows["m, share of the own jobs in a reward"].measured == 1.0
    assert rows["N=4: mappo, team game, largest difference of a weight with HPML"].passed
    assert float(rows["N=4: mappo + HPML, kappa in the first third"].measured) >= 0.0
