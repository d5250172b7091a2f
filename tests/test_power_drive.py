"""The power simulator in closed loop with the daemon, at speed, with faults."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from test_power_live import LIVE, SEEN, SPEC, spread

from fairlead.platform.cli.main import main
from fairlead.platform.drive.faults import disturb
from fairlead.platform.drive.loop import Driver
from fairlead.platform.drive.session import _lengthened
from fairlead.platform.drive.verdict import _returned
from fairlead.platform.registry import find_domain
from fairlead.platform.tasks import DomainFactory


@cache
def driver():
    class Plant:
        spec = SPEC

    return Driver(
        simulator=Plant(),
        actor=None,
        live=LIVE,
        client=None,
        plan=None,
        speed=0.0,
        daemon=None,
        label="",
        watch=lambda epoch: None,
    )


def test_executed_set_points_are_held_to_box_ramp_and_balance():
    seen = SEEN[6]
    good = LIVE.project(seen, spread(seen, 1), None, None).actions
    assert driver()._broken(seen, good, []) == {}
    short = good.copy()
    short[int(np.argmax(good - seen.low))] -= np.float32(5.0)
    broken = driver()._broken(seen, short, [])
    assert broken.keys() == {"coupling"} and broken["coupling"] > 1
    beyond = good.copy()
    wide = int(np.argmax((seen.high - seen.low)[:, 0]))
    beyond[wide] = seen.high[wide] + np.float32(1e4)
    assert driver()._broken(seen, beyond, ["epoch 6: row"])["box"] == 2


def test_stale_numbers_with_new_time_stamps_are_seen_to_miss_the_balance():
    """The fault that nobody can tell while it lasts shows in what was executed."""
    past = list(SEEN[:25])
    shot = disturb(["frozen"], past, 24, np.random.default_rng(0))
    rule = LIVE.project(shot.observation, LIVE.baseline.act(shot.observation, None), None, None)
    assert driver()._broken(past[-1], rule.actions, []).keys() == {"coupling"}
    own = LIVE.project(past[-1], LIVE.baseline.act(past[-1], None), None, None)
    assert driver()._broken(past[-1], own.actions, []) == {}


def test_days_are_made_as_long_as_the_drive_needs():
    factory = DomainFactory("power", "generated", {"units": 12, "hours": 6})
    longer = _lengthened(factory, 100)
    assert longer.settings["hours"] == 9 and longer.simulator().spec.horizon == 108


def test_a_policy_that_is_not_sampled_has_returned_within_a_share():
    theirs = np.array([[100.0, 100.0], [50.0, 50.0]])
    (row,) = _returned(np.array([100.5, 50.5]), theirs)
    assert row.passed
    (row,) = _returned(np.array([102.0, 51.0]), theirs)
    assert row.passed is False
    rows = _returned(np.array([100.5, 50.5]), theirs + np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert [row.passed for row in rows] == [True, None]


@pytest.mark.slow
def test_faults_and_a_killed_daemon_break_nothing_and_cost_no_more_than_the_rule(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["scenario.units=12", "scenario.hours=6", "iterations=1", "evaluation.episodes=2"]
    with pytest.raises(SystemExit) as caught:
        main(["train", "power", "--scenario", "generated", "--out", str(run), *words])
    assert caught.value.code == 0
    capsys.readouterr()
    options = ["--speed", "3000", "--seeds", "1", "--epochs", "120", "--settle", "5", "--json"]
    with pytest.raises(SystemExit) as caught:
        main(["drive", "power", str(run), *options])
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["rows"]}
    assert caught.value.code == 0, {name: row for name, row in rows.items() if not row["passed"]}
    for constraint in ("box", "ramp", "coupling"):
        assert rows[f"set-points that violate {constraint}"]["measured"] == 0
    assert rows["outage: cost over the baseline's"]["measured"] <= 1.05
    assert rows["starts of the daemon"]["measured"] == 2
    assert found["violations"] == [{}]


@pytest.mark.parametrize("domain", ["cloud", "power"])
def test_a_drive_at_the_pace_of_its_domain_takes_minutes(domain):
    known = find_domain(domain)
    scenario = known.scenarios["dispatch" if domain == "cloud" else "generated"]()
    simulator = known.simulator(scenario)
    pace = known.pace
    assert 10.0 < pace.epochs * simulator.spec.dt / pace.speed < 120.0
