"""Grid2Op: its grid and days as ours, its environment as a plant, and whole episodes by the daemon.

Everything is skipped without the extra ``grid2op``. Its warnings at import (accelerators of a back
end that is not used) are kept inside ``open_environment``.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache

import numpy as np
import pytest
from box_domain import arrays_of
from daemon_process import running

from fairlead.platform.bundle import Contents, save_bundle
from fairlead.platform.cli.main import main
from fairlead.platform.client import Client, baseline
from fairlead.platform.client.asking import Answer
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Cause, Source
from fairlead.platform.episodes import Stage
from fairlead.platform.files import UserError
from fairlead.platform.grid2op.mirror import Mirror
from fairlead.platform.grid2op.plant import Plant
from fairlead.platform.grid2op.session import Session, by_daemon
from fairlead.platform.power_live import power_live
from fairlead.platform.tasks import DomainFactory, Task, Trained
from fairlead.simulators.errors import DataError
from fairlead.simulators.power.grid2op_case import chronics_of, open_environment, read_days
from fairlead.simulators.power.network import Network
from fairlead.simulators.power.scenario import Grid2opScenario
from fairlead.simulators.power.system import system_of

if importlib.util.find_spec("grid2op") is None or importlib.util.find_spec("lightsim2grid") is None:
    pytest.skip("the extra grid2op is not installed", allow_module_level=True)

SETTINGS = {"hours": 6}


@cache
def environment():
    return open_environment("l2rpn_case14_sandbox")


@cache
def system():
    return system_of(Grid2opScenario(**SETTINGS))


@cache
def spec():
    return DomainFactory("power", "grid2op", SETTINGS).simulator().spec


def first(chronic=0):
    environment().set_id(chronic)
    return environment().reset()


@cache
def plant():
    return Plant(environment(), system().grid, system().fleet)


@cache
def live():
    return power_live(spec(), SETTINGS, SlotSettings())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Random weights: what is tested is the way to the plant and back."""
    stage = Stage(DomainFactory("power", "grid2op", SETTINGS))
    arrays = arrays_of(stage.spec)
    result = stage.play(Task(5, Trained(arrays), record=True))
    contents = Contents(
        name="random set-points",
        spec=stage.spec,
        arrays=arrays,
        settings={**SETTINGS, "name": "grid2op"},
        provenance={"iteration": 1, "seed": 1},
    )
    folder = tmp_path_factory.mktemp("grid2op") / "bundle"
    return save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)


def test_dc_flows_of_the_grid_are_near_the_environments_ac_flows():
    seen, grid = first(), system().grid
    load = np.bincount(environment().load_to_subid, weights=seen.load_p, minlength=14)
    given = np.bincount(grid.units.bus, weights=seen.gen_p, minlength=14)
    flows = Network(grid, convention="x").flows(given - load * (given.sum() / load.sum()))
    np.testing.assert_allclose(flows, seen.p_or, atol=3.5)
    # Limits in A at the voltages of that moment; the apparent power holds the reactive one too.
    apparent = np.hypot(seen.p_or, seen.q_or)
    np.testing.assert_allclose(apparent / grid.branches.rate, seen.rho, rtol=5e-3)


def test_days_are_the_chronics_with_the_losses_in_the_load():
    series = read_days(environment(), system().grid)
    assert len(series) == 3 and all(part.length == 576 for part in series)
    first(0)
    load, production = chronics_of(environment())
    np.testing.assert_allclose(series[0].load.sum(axis=1), production.sum(axis=1), rtol=1e-9)
    share = series[0].load.sum(axis=1) / load.sum(axis=1)
    assert (share > 1.0).all() and (share < 1.05).all()
    renewable = system().grid.units.renewable
    np.testing.assert_allclose(series[0].available, production[:, renewable])


def test_mistakes_are_named():
    with pytest.raises(DataError, match=r"environment.*one of .*l2rpn_case14_sandbox"):
        open_environment("case15")
    with pytest.raises(ValueError, match="choose fewer hours"):
        system().episode(0, 288 * 3)
    other = DomainFactory("power", "generated", {"units": 12, "hours": 6}).simulator().spec
    with pytest.raises(ValueError, match="the bundle is about"):
        Mirror(Grid2opScenario(**SETTINGS), system(), other)


def test_the_mirror_shows_what_is_scheduled():
    seen = first(1)
    mirror = Mirror(Grid2opScenario(**SETTINGS), system(), spec())
    schedule = plant().schedule(seen)
    reading = plant().read(seen, schedule, 0.0)
    observation = mirror.look(reading)
    target = live()._reader.target(observation)
    assert target.demand == pytest.approx(schedule.production.sum(), abs=1e-3)
    np.testing.assert_allclose(observation.state, seen.gen_p, rtol=1e-6)
    ramp = np.asarray(environment().gen_max_ramp_up)
    thermal = system().fleet.thermal
    np.testing.assert_allclose(
        observation.high[thermal, 0],
        np.minimum(seen.gen_p + ramp, environment().gen_pmax)[thermal],
        rtol=1e-6,
    )
    # A line that goes out changes what branches show, and comes back.
    loading = spec().agent_column("loading_1")
    closed = reading.closed.copy()
    closed[4] = False
    without = mirror.look(type(reading)(**{**_fields(reading), "closed": closed}))
    assert without.agent[0, loading] != observation.agent[0, loading]
    again = mirror.look(reading)
    np.testing.assert_allclose(again.agent, observation.agent, atol=1e-6)


def _fields(reading):
    return {name: getattr(reading, name) for name in reading.__slots__}


def test_orders_by_hand():
    seen = first(1)
    schedule = plant().schedule(seen)
    base = schedule.production
    assert plant().order(seen, schedule, base).action == {}
    wanted = base + np.array([3.0, -3.0, 0.0, 0.0, 0.0, 0.0])
    order = plant().order(seen, schedule, wanted)
    assert [unit for unit, _ in order.action["redispatch"]] == [0, 1]
    np.testing.assert_allclose([mw for _, mw in order.action["redispatch"]], [3.0, -3.0])
    # No more than a unit's ramp at once: 5, 10 and 15 MW a step.
    far = plant().order(seen, schedule, base + np.array([50.0, -50.0, 0, 0, 0, 50.0]))
    np.testing.assert_allclose([mw for _, mw in far.action["redispatch"]], [5.0, -10.0, 15.0])
    # Wind below what it could give is curtailed, as a share of its 70 MW.
    assert base[2] > 2.0
    less = base.copy()
    less[2] -= 1.4
    ((unit, share),) = plant().order(seen, schedule, less).action["curtail"]
    assert unit == 2 and share == pytest.approx((base[2] - 1.4) / 70.0)


def merit(observation, step, name):
    wanted = live().baseline.act(observation, None)
    points = live().project(observation, wanted, None, None).actions
    rows = len(points)
    return Answer(
        actions=points,
        source=np.full(rows, Source.BASELINE, np.int8),
        cause=np.full(rows, Cause.NONE, np.int8),
        local=False, problem="", decision="", bundle="", mode="fallback", outcome="fallback",
        attempts=1, seconds=0.0,
    )  # fmt: skip


def test_merit_order_is_carried_out_and_cheaper_than_doing_nothing(bundle):
    session = Session(bundle)
    assert session.episodes == 3
    idle = session.play(0, None, steps=60)
    ours = session.play(0, merit, steps=60)
    assert ours.steps == idle.steps == 60 and ours.refused == 0 and ours.ended == ""
    assert ours.cost < 0.97 * idle.cost
    assert 0 < ours.applied.mean() <= 1.1 * ours.asked.mean()
    # The environment rebalances by itself, so what is in force is near what was asked, not it.
    assert 0 < ours.missed.mean() < 0.5 * ours.asked.mean() + 2.0
    assert len(ours.messages) == 6 and ours.messages[0].reason == "baseline"


def test_the_daemon_drives_and_what_expires_is_not_executed(bundle, tmp_path):
    session, rule = Session(bundle), baseline(bundle.folder)
    with (
        running(bundle.folder, tmp_path, ["slot.expiry=600.0", "slot.deadline=1.0"]) as daemon,
        Client(daemon.url, "power", fallback=rule, timeout=2.0) as client,
    ):
        played = session.play(2, by_daemon(client), steps=25, client=client, name="a")
        assert played.steps == 25 and played.refused == played.local == played.expired == 0
        assert played.made > 0.5
        assert played.messages[0].valid_until < float("inf")
        held = session.play(2, by_daemon(client, fallback=True), steps=10, client=client, name="b")
        assert held.made == 0.0 and held.local == 0
        assert {point.reason for point in held.messages} == {"baseline: deadline"}
    late = tmp_path / "late"
    late.mkdir()
    with (
        running(bundle.folder, late, ["slot.expiry=1e-6", "slot.deadline=1.0"]) as daemon,
        Client(daemon.url, "power", fallback=rule, timeout=2.0) as client,
    ):
        played = session.play(2, by_daemon(client), steps=5, client=client, name="c")
        assert played.expired == played.local == 5 and played.made == 0.0
        assert daemon.metric("power_set_points_expired_total", domain="power") == 5 * 6


def test_bundles_of_other_scenarios_are_refused(bundle, tmp_path):
    class Other:
        folder, manifest = tmp_path, {}
        spec = DomainFactory("power", "generated", {"units": 12, "hours": 6}).simulator().spec

    with pytest.raises(UserError, match="train power --scenario grid2op"):
        Session(Other())


@pytest.mark.slow
def test_a_whole_episode_is_driven_by_rule_and_by_a_trained_bundle(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["iterations=2", "evaluation.episodes=2"]
    with pytest.raises(SystemExit) as caught:
        main(["train", "power", "--scenario", "grid2op", "--out", str(run), *words])
    assert caught.value.code == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["bridge", "grid2op", str(run), "slot.deadline=1.0", "--json"])
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row["measured"] for row in found["rows"]}
    assert caught.value.code == 0, rows
    for player in ("daemon, merit-order", "daemon, policy"):
        assert rows[f"{player}: steps survived of 575"] == 575
        assert rows[f"{player}: refused actions"] == 0
        assert rows[f"{player}: cost of production"] < 0.95 * rows["do nothing: cost of production"]
    assert rows["daemon, policy: set-points that are the policy's"] > 0.9
    assert len(found["set_points"]) == 6 and "set_point_mw" in found["set_points"][0]
