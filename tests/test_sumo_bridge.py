"""The bridge to SUMO: whoever answers, or does not, the lamps are safe and the street goes on."""

from __future__ import annotations

import json
import time
from functools import cache

import numpy as np
import pytest
from lamp_oracle import unsafe
from traffic_bundle import SMALL, make_traffic_bundle
from typer.testing import CliRunner

from fairlead.ops import contract
from fairlead.platform.cli.main import build
from fairlead.platform.client.asking import Answer, Client, Refused, Unavailable
from fairlead.platform.client.circuit import Circuit
from fairlead.platform.decision.types import Source
from fairlead.platform.drive.spawn import OwnDaemon
from fairlead.platform.files import UserError
from fairlead.platform.sumo_bridge.local_plans import PLANS, ActuatedPlan, FixedPlan, local_plan
from fairlead.platform.sumo_bridge.session import LOCAL, Session
from fairlead.platform.sumo_bridge.status import WORDS, StatusBoard
from fairlead.policies.heuristics.traffic_local import local
from fairlead.simulators.traffic.observer import Observer
from fairlead.simulators.traffic.programme import Signal
from fairlead.simulators.traffic.scenario import GridScenario
from fairlead.simulators.traffic.timing import Change, Timing, TimingSettings
from fairlead.simulators.traffic.town import town_of

SCENARIO = GridScenario(**SMALL)
TOWN = town_of(SCENARIO)
SPEC = Observer(TOWN).spec
RULES = {rule.name: rule for rule in local(SPEC)}


@pytest.fixture(scope="module")
def street():
    """The small grid in SUMO, with a record of the lamps of every run."""
    pytest.importorskip("sumo", reason="needs SUMO: pip install 'fairlead[sumo]'")
    pytest.importorskip("libsumo")
    from fairlead.platform.sumo_bridge.street import Street

    class Recorded(Street):
        def begin(self, seed):
            self.shown = []
            super().begin(seed)

        def pass_second(self, due):
            self.shown += due
            return super().pass_second(due)

    with Recorded(TOWN, seconds=600.0) as found:
        yield found


def judged(street):
    """What the oracle finds wrong with the lamps of the last run."""
    wrong = []
    for at, signal in enumerate(TOWN.network.signals):
        own = [change for change in street.shown if change.signal == at]
        wrong += unsafe(signal, own, 600.0, SCENARIO.timing, step=1.0)
    return wrong


class Toy:
    """A daemon in process; ``answer`` makes actions of an observation, or raises."""

    def __init__(self, answer, **fields):
        self.answer, self.fields, self.reports, self.asked = answer, fields, [], 0

    def decide(self, seen, *, seq, episode):
        self.asked += 1
        actions = self.answer(seen, seq)
        none = np.zeros(len(actions), np.int8)
        known = {
            "source": none, "cause": none, "local": False, "problem": "", "bundle": "b",
            "decision": f"traffic-0a0a0a0a-{seq}", "mode": "policy", "outcome": "ok",
            "attempts": 1, "seconds": 0.001, "valid_until": float("inf"),
        }  # fmt: skip
        return Answer(actions=actions, **{**known, **self.fields})

    def report(self, decision, *, measured):
        self.reports.append((decision, measured))


def play(street, client=None, plan="fixed", seed=1, **options):
    made = local_plan(plan, TOWN, RULES["max-pressure"])
    return Session(street, made, client=client, speed=0.0, **options).play(seed)


def discharge(seen, seq):
    return RULES["discharge"].act(seen, None)


@cache
def fixed_alone(street):
    return play(street)


# --- the street ---------------------------------------------------------------------------------


def test_a_daemon_that_answers_drives_and_is_told_what_came_of_it(street):
    toy = Toy(discharge)
    run = play(street, toy)
    assert run.unsafe == 0 and run.stopped == () and judged(street) == []
    assert set(run.sources) == {"policy"} and not run.refused and run.silent == 0
    assert run.trips.charged_delay < fixed_alone(street).trips.charged_delay
    assert toy.asked == 60 and len(toy.reports) == 60
    total = {}
    for decision, measured in toy.reports:
        assert decision.startswith("traffic-") and set(measured) <= set(
            contract.REPORTED["traffic"]
        )
        for name, value in measured.items():
            total[name] = total.get(name, 0.0) + value
    assert total["trips"] == run.trips.finished and total["phase_changes"] == run.switched
    assert "local_seconds" not in total and "unsafe_changes" not in total
    # Standing and waiting to enter is most of what is lost; braking is not counted.
    trips = run.trips.departed + run.trips.undeparted
    assert 0.5 < total["delay_seconds"] / trips / run.trips.charged_delay < 1.1


def wild(seen, seq):
    """Any phase that there is, or is not, whatever is allowed."""
    return np.random.default_rng(seq).integers(0, SPEC.action.candidates, SPEC.agents)


def silent(seen, seq):
    raise Unavailable("nobody there")


def refusing(seen, seq):
    raise Refused({"code": "shape", "detail": "wrong"})


def moody(seen, seq):
    """Answers, and does not, in turns of three."""
    return silent(seen, seq) if seq // 3 % 2 else wild(seen, seq)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("answer", [wild, moody])
def test_whatever_is_answered_and_whatever_takes_over_the_lamps_are_safe(street, plan, answer):
    run = play(street, Toy(answer), plan)
    assert run.unsafe == 0 and run.stopped == () and judged(street) == []
    assert run.switched > 50
    if answer is moody:
        assert 0 < run.sources[LOCAL] < sum(run.sources.values()) and run.silent == 30


@pytest.mark.parametrize("answer", [silent, refusing])
def test_without_answers_the_signals_do_what_they_do_alone(street, answer):
    run, alone = play(street, Toy(answer)), fixed_alone(street)
    assert run.trips.charged_delay == alone.trips.charged_delay
    assert set(run.sources) == {LOCAL} and run.switched == alone.switched
    assert run.silent == 60 and run.expired == 0


def test_answers_that_have_expired_are_not_carried_out_and_are_counted(street):
    toy = Toy(discharge, valid_until=time.time() - 1.0)
    run = play(street, toy)
    assert run.expired == 60 and set(run.sources) == {LOCAL}
    assert run.trips.charged_delay == fixed_alone(street).trips.charged_delay
    # Nobody to tell: no decision was carried out.
    assert toy.reports == []


def test_what_cannot_be_told_is_told_with_the_next_decision(street):
    class Deaf(Toy):
        def report(self, decision, *, measured):
            if len(self.reports) == 0 and self.asked < 30:
                raise Unavailable("away")
            super().report(decision, measured=measured)

    toy = Deaf(discharge)
    run = play(street, toy)
    assert sum(measured.get("trips", 0.0) for _, measured in toy.reports) == run.trips.finished


def test_the_fixed_plan_is_that_of_the_street(street):
    """Through our filter it is SUMO's own programme but for yellow times."""
    from fairlead.simulators.traffic.sumo.simulator import SumoSimulator

    short = GridScenario(**{**SMALL, "seconds": 600.0})
    own = SumoSimulator(town_of(short))
    try:
        own.use_local("fixed")
        own.reset(1)
        for _ in range(60):
            own.step(np.zeros(SPEC.agents, np.int64))
        expected = own.metrics()["trip_time_mean_s"]
    finally:
        own.close()
    plan = FixedPlan(town_of(short))
    found = Session(street, plan, speed=0.0).play(1).trips.trip_time
    assert found == pytest.approx(expected, rel=0.05)


def test_speed_is_kept(street):
    begun = time.monotonic()
    from fairlead.platform.sumo_bridge.street import Street

    with Street(TOWN, seconds=40.0) as short:
        run = Session(short, FixedPlan(TOWN), speed=20.0).play(1)
    assert time.monotonic() - begun >= 1.9 and 15.0 < run.factor <= 20.5


def test_the_status_file_says_what_is_shown(street, tmp_path):
    path, found = tmp_path / "status.json", []

    def watch(second):
        if path.exists():
            found.append(json.loads(path.read_text()))

    play(street, Toy(discharge), status=path, watch=watch)
    assert len(found) > 500
    for document in found[::50]:
        assert document["form"].startswith("SPaT-like")
        assert [one["name"] for one in document["signals"]] == [
            signal.name for signal in TOWN.network.signals
        ]
        for one in document["signals"]:
            assert one["source"] == "policy"
            for group in one["groups"]:
                assert group["state"] in WORDS.values()
                known = [group[k] for k in ("minEndTime", "likelyTime", "maxEndTime") if group[k]]
                assert known == sorted(known)
                assert group["minEndTime"] is None or group["minEndTime"] >= document["time"] - 1


# --- parts that need no SUMO --------------------------------------------------------------------

TWO = Signal(name="two", greens=("Ggrr", "rrGG"), programme=(("Ggrr", 30.0), ("rrGG", 30.0)))


def groups(board, now, waiting=(False, False, False, False)):
    document = board.document(now, np.array([waiting]), ["policy"])
    json.dumps(document)
    return document["signals"][0]["groups"]


def times(group):
    return group["minEndTime"], group["likelyTime"], group["maxEndTime"]


def test_status_by_hand():
    board = StatusBoard([TWO], TimingSettings(all_red=1.0, max_red=60.0), interval=10.0)
    first = groups(board, 2.0)
    assert [group["state"] for group in first] == [
        "protected-Movement-Allowed", "permissive-Movement-Allowed",
        "stop-And-Remain", "stop-And-Remain",
    ]  # fmt: skip
    # Green may end after 5 s, red after yellow and all-red behind that; nobody waits.
    assert times(first[0]) == (5.0, None, None) and times(first[2]) == (9.0, None, None)
    # Somebody waits at red: 60 s, and two phases and one more decision.
    waits = groups(board, 12.0, (False, False, True, False))
    assert times(waits[2]) == (16.0, None, 90.0) and times(waits[0]) == (12.0, None, 90.0)
    board.plan([Change(20.0, 0, "yyrr"), Change(23.0, 0, "rrrr"), Change(24.0, 0, "rrGG")])
    assert [change.state for change in board.show(20.0)] == ["yyrr"]
    coming = groups(board, 21.0)
    assert coming[0]["state"] == "protected-clearance"
    assert times(coming[0]) == (23.0, 23.0, 23.0) and times(coming[2]) == (24.0, 24.0, 24.0)
    assert len(board.show(24.0)) == 2 and board.show(24.0) == []
    assert times(groups(board, 25.0)[3]) == (29.0, None, None)


def test_the_fixed_plan_follows_the_programme_and_its_offset():
    plan, timing = FixedPlan(TOWN), Timing(TOWN.network.signals, SCENARIO.timing, interval=10.0)
    for at, signal in enumerate(TOWN.network.signals):
        for now in np.arange(0.5, 2 * signal.cycle, 1.0):
            place = (now - signal.offset) % signal.cycle
            starts = np.cumsum([0.0, *(seconds for _, seconds in signal.programme)])
            state = signal.programme[int(np.searchsorted(starts, place, side="right")) - 1][0]
            wanted = int(plan.wanted(float(now), None, timing, None)[at])
            if state in signal.greens:
                assert signal.greens[wanted] == state


class Near:
    """Readings with vehicles near the stop lines of some lanes."""

    def __init__(self, lanes):
        self.near = lanes


def test_the_actuated_plan_ends_a_green_that_nobody_uses_and_none_too_early():
    plan = ActuatedPlan(TOWN)
    timing = Timing(TOWN.network.signals, SCENARIO.timing, interval=10.0)
    lanes = len(TOWN.network.lane_link)
    empty, full = Near(np.zeros(lanes)), Near(np.ones(lanes))
    agents = TOWN.approaches.agents
    for now, readings, after in (
        (4.0, empty, 0),
        (5.0, empty, 1),
        (49.0, full, 0),
        (50.0, full, 1),
    ):
        assert (plan.wanted(now, readings, timing, None)[agents] == after).all()


def test_unknown_plans_and_programmes_are_refused():
    with pytest.raises(UserError, match="known: fixed, actuated, max-pressure"):
        local_plan("wave", TOWN, RULES["keep"])


# --- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_traffic_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


def command(*words):
    return CliRunner().invoke(build(), ["bridge", "sumo", *map(str, words)])


def test_mistakes_of_the_command_are_told(bundle, tmp_path):
    from serving import make_bundle

    cloud = make_bundle(tmp_path / "cloud").folder
    for words, said in (
        ((cloud,), "drives bundles of the traffic domain"),
        ((bundle.folder, "--outage", "soon"), "expected FROM-TO"),
        ((bundle.folder, "--outage", "1-2", "--url", "http://x"), "leave --url out"),
        ((bundle.folder, "--local", "wave"), "no local plan named"),
    ):
        done = command(*words)
        assert isinstance(done.exception, UserError), (words, done.output)
        assert said in str(done.exception).replace(
            "bundles of the traffic", "bundles of the traffic"
        )


@pytest.mark.slow
def test_the_command_compares_with_the_local_plan(street, bundle):
    words = ("--speed", 0, "--seconds", 600, "--reference", "--deadline", 2, "--json", "--seed", 1)
    done = command(bundle.folder, *words, "slot.deadline=1")
    document = json.loads(done.stdout)
    rows = {row["name"]: row for row in document["rows"]}
    assert done.exit_code == 0 and rows["unsafe changes of lamps"]["measured"] == 0
    assert rows["fixed alone: delay, mean of a trip"]["measured"] == pytest.approx(
        fixed_alone(street).trips.charged_delay
    )
    assert rows["delay, mean of a trip"]["passed"] and rows["decided by policy"]["measured"] > 0.5


@pytest.mark.slow
def test_a_daemon_that_is_killed_and_comes_back_costs_no_safety_and_little_time(
    street, bundle, tmp_path
):
    alone = fixed_alone(street)
    daemon = OwnDaemon(bundle.folder, tmp_path, overrides=["slot.deadline=1"])
    daemon.start()
    daemon.wait()

    def watch(second):
        if second == 200:
            daemon.kill()
        elif second == 300:
            daemon.start()
            daemon.wait()

    try:
        with Client(
            daemon.url, "traffic", timeout=1.0, name="test", circuit=Circuit(pause=0.01)
        ) as client:
            plan = FixedPlan(TOWN)
            session = Session(street, plan, client=client, deadline=1.0, speed=0.0, watch=watch)
            run = session.play(1, name="killed")
    finally:
        daemon.kill()
    assert run.unsafe == 0 and run.stopped == () and judged(street) == []
    assert run.trips.charged_delay <= 1.1 * alone.trips.charged_delay
    share = {name: count / sum(run.sources.values()) for name, count in run.sources.items()}
    # Ten decisions are missed, and one or two until the daemon is asked again.
    assert 10 <= run.silent <= 13 and share["policy"] > 0.6
    assert set(share) <= {LOCAL, *(source.name.lower() for source in Source)}
