"""Set-points decided live: the core with a real bundle, wire, audit, replay, state, figures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from audit_doubles import BOOT, CountingMeter
from box_domain import (
    NAME,
    Middle,
    Proportional,
    TrackLive,
    TrackScenario,
    TrackSimulator,
    make_box_bundle,
    observations,
    rows_of,
)
from serving import HandClock

from fairlead.platform.audit.codec import Recorded, decode, encode_entry
from fairlead.platform.audit.recompute import recompute
from fairlead.platform.audit.replay import Sources, replay
from fairlead.platform.audit.state_file import StateFile, fitted
from fairlead.platform.audit.writer import AuditWriter, Context
from fairlead.platform.client.asking import infeasible
from fairlead.platform.daemon.figures import gauges
from fairlead.platform.daemon.interface import Entry
from fairlead.platform.daemon.memory import _size
from fairlead.platform.daemon.settings import AuditSettings
from fairlead.platform.decision.arrays import apart
from fairlead.platform.decision.asking import Injected
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.drift import Drift
from fairlead.platform.decision.ladder import feasible
from fairlead.platform.decision.seeds import generator
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import (
    Cause,
    Inference,
    Outcome,
    Rejected,
    Request,
    Source,
    State,
)
from fairlead.platform.drive.loop import _executable, _same
from fairlead.platform.page.agents import _points
from fairlead.platform.page.summary import summary
from fairlead.platform.rollout.canary import _merged
from fairlead.platform.rollout.judge import compare
from fairlead.platform.rollout.loading import build_runtime
from fairlead.platform.wire import frames, metadata, oip
from fairlead.platform.wire.answers import outputs
from fairlead.platform.wire.tensors import Limits, Wanted
from fairlead.simulators.observations import random_actions

SLOT = SlotSettings(deadline=5.0, validation={"imputed_share": 0.5})
SEEN = observations()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_box_bundle(tmp_path_factory.mktemp("live") / "bundle")


@pytest.fixture(scope="module", params=["numpy", "onnx"])
def loaded(request, bundle):
    slot = SLOT.model_copy(update={"backend": request.param})
    found = build_runtime(bundle.folder, slot=slot, live=TrackLive)
    yield found.runtime, slot
    found.runtime.policy.close()


@pytest.fixture(scope="module")
def runtime(bundle):
    found = build_runtime(bundle.folder, slot=SLOT, live=TrackLive)
    yield found.runtime
    found.runtime.policy.close()


class Slot:
    """Decides like a slot and keeps entries like one."""

    def __init__(self, runtime, slot=SLOT, state=None, previous=""):
        self.runtime, self.slot, self.previous = runtime, slot, previous
        self.state, self.clock, self.entries = state or State(), HandClock(), []

    def decide(self, seen, **fields):
        self.clock.advance(0.5)
        asked = Request(seen, observed=self.clock.wall, received=self.clock.mono, **fields)
        before = self.state
        self.state, decision = decide(self.runtime, self.slot, before, asked, self.clock())
        entry = Entry(
            id=f"{NAME}-{BOOT}-{len(self.entries)}",
            domain=NAME,
            clock=self.clock(),
            request=asked,
            decision=decision,
            before=before,
            previous=self.previous,
        )
        self.entries.append(entry)
        return entry


def with_policy(runtime, answer):
    """The runtime with a policy that gives this outcome or these set-points."""
    outcome = answer
    if not isinstance(answer, Outcome):
        outcome = Outcome("ok", Inference(np.asarray(answer, np.float32), None), 0.001)
    return replace(runtime, policy=Injected("d1gest", outcome))


def test_decisions_are_those_of_the_policy(loaded, bundle):
    runtime, settings = loaded
    slot = Slot(runtime, settings)
    for seq, seen in enumerate(SEEN):
        decision = slot.decide(seen, seq=seq, seed=seq).decision
        expected = bundle.actor().act(seen, generator(seq))
        np.testing.assert_allclose(decision.actions, expected, atol=1e-4)
        if settings.backend == "numpy":
            np.testing.assert_array_equal(decision.actions, expected)
        assert decision.outcome == "ok" and decision.preference is None
        assert feasible(seen, decision.actions) and infeasible(seen, decision.actions) == ""
    greedy = [slot.decide(SEEN[3], greedy=True).decision.actions for _ in range(2)]
    np.testing.assert_array_equal(*greedy)


def test_some_agents_only_and_their_last_set_points(runtime, bundle):
    slot = Slot(runtime)
    agents = np.array([5, 2])
    entry = slot.decide(rows_of(SEEN[0], agents), agents=agents, seed=1)
    expected = bundle.actor().of(agents).act(rows_of(SEEN[0], agents), generator(1))
    np.testing.assert_array_equal(entry.decision.actions, expected)
    known = np.isfinite(slot.state.last).all(axis=1)
    assert known.tolist() == [False, False, True, False, False, True]
    np.testing.assert_array_equal(slot.state.last[agents], entry.decision.actions)


def test_inactive_agents_stay_at_their_lower_end_whatever_the_policy_says(runtime):
    active = np.arange(6) != 1
    low, high = np.full((6, 2), 1, np.float32), np.full((6, 2), 3, np.float32)
    seen = replace(SEEN[0], active=active, low=low, high=high)
    decision = Slot(with_policy(runtime, np.full((6, 2), 2.5))).decide(seen).decision
    assert (decision.actions[1] == 1.0).all() and (decision.actions[active] == 2.5).all()
    assert decision.outcome == "ok" and (decision.source == Source.POLICY).all()


def test_set_points_beyond_the_box_are_projected(runtime):
    decision = Slot(with_policy(runtime, SEEN[0].high + 1)).decide(SEEN[0]).decision
    moved = decision.cause == Cause.BOX
    np.testing.assert_array_equal(decision.actions[moved], SEEN[0].high[moved])
    assert moved.tolist() == SEEN[0].active.tolist() and moved.any()
    assert (decision.source[moved] == Source.PROJECTED).all()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (np.full((6, 2), np.nan), Cause.NON_FINITE),
        (np.zeros((6, 3)), Cause.ERROR),
        (np.zeros(6), Cause.ERROR),
        (Outcome("timeout", None, 9.0), Cause.DEADLINE),
        (Outcome("error", None, 0.0, "boom"), Cause.ERROR),
    ],
)
def test_answers_of_no_use_fall_back_to_the_rule(runtime, answer, cause):
    decision = Slot(with_policy(runtime, answer)).decide(SEEN[2]).decision
    np.testing.assert_array_equal(decision.actions, Proportional().act(SEEN[2], None))
    assert decision.outcome == "fallback" and (decision.cause == cause).all()


def test_broken_sensors_fall_back_alone_and_unheard_of_values_drift(runtime):
    agent = SEEN[0].agent.copy()
    agent[2, 0] = np.nan
    agent[4, :] = [9.0, 3.9, 99.0, -99.0, 1e4]
    seen = replace(SEEN[0], agent=agent, active=np.ones(6, np.bool_))
    decision = Slot(runtime).decide(seen, seed=1).decision
    assert decision.cause.tolist() == [0, 0, Cause.INVALID, 0, Cause.DRIFT, 0]
    assert decision.outcome == "degraded" and np.isfinite(decision.actions).all()
    assert feasible(seen, decision.actions)


class Broken(TrackLive):
    """A domain's part of which nothing works."""

    def __init__(self):
        self.baseline = self

    name, information = "broken", "same"

    def act(self, observation, rng):
        raise ArithmeticError("no rule")

    project = hold = safe = act


def test_the_ladder_goes_down_to_the_lower_ends(runtime):
    gone = Outcome("error", None, 0.0)
    slot = Slot(replace(with_policy(runtime, gone), live=Broken()))
    decision = slot.decide(SEEN[1]).decision
    np.testing.assert_array_equal(decision.actions, SEEN[1].low)
    assert (decision.source == Source.SAFE).all()

    class Holding(TrackLive):
        def __init__(self):
            self.baseline = Broken()

    slot = Slot(replace(with_policy(runtime, gone), live=Holding()))
    slot.state = State(last=Middle().act(SEEN[1], None))
    decision = slot.decide(SEEN[1]).decision
    assert (decision.source == Source.HOLD).all() and decision.mode == "hold"
    np.testing.assert_array_equal(decision.actions, Middle().act(SEEN[1], None))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"low": SEEN[0].high, "high": SEEN[0].low}, "box"),
        ({"low": np.full((6, 2), -np.inf, "f4"), "high": np.full((6, 2), np.inf, "f4")}, "box"),
        ({"high": SEEN[0].high * np.float32(np.nan)}, "box"),
        ({"low": SEEN[0].low[:, :1]}, "shape"),
        ({"high": SEEN[0].high.astype("f8")}, "dtype"),
        ({"mask": np.ones((6, 2), np.bool_)}, "shape"),
    ],
)
def test_requests_that_say_no_box_are_refused(runtime, changes, code):
    with pytest.raises(Rejected) as refused:
        Slot(runtime).decide(replace(SEEN[0], **changes))
    assert refused.value.code == code


@pytest.mark.parametrize("agents", [None, np.array([3, 0])])
def test_requests_and_answers_travel_in_both_encodings(runtime, agents):
    spec, limits = runtime.spec, Limits.of(runtime.spec)
    seen = SEEN[4] if agents is None else rows_of(SEEN[4], agents)
    seen = replace(seen, active=np.arange(len(seen.agent)) != 1)
    asked = Request(seen, agents=agents, client="c", seq=3, seed=5, greedy=False)
    body = frames.encode_request(asked)
    tensors = {"agent": seen.agent, "low": seen.low, "high": seen.high, "active": seen.active}
    if agents is not None:
        tensors["agents"] = agents
    kinds = {"f": "FP32", "b": "BOOL", "i": "INT64"}
    text = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": kinds[array.dtype.kind],
                    "shape": array.shape,
                    "data": array.tolist(),
                }
                for name, array in tensors.items()
            ],
            "parameters": {"client": "c", "seq": 3, "seed": 5, "greedy": False},
        }
    ).encode()
    found = [frames.decode(body, spec, limits)[0], oip.decode(text, None, spec, limits)[0]]
    for one in found:
        for name in ("agent", "low", "high", "active", "mask", "candidates", "target"):
            np.testing.assert_array_equal(getattr(one.observation, name), getattr(seen, name))
        assert (one.client, one.seq, one.seed, one.greedy) == ("c", 3, 5, False)
    entry = Slot(runtime).decide(seen, agents=agents, seed=5)
    wanted = Wanted(("action", "source", "cause", "preference"))
    back = frames.unpack(frames.encode(entry, wanted)[0], names=dict.fromkeys(wanted.outputs, ""))
    assert "preference" not in back.tensors
    np.testing.assert_array_equal(back.tensors["action"], entry.decision.actions)
    assert back.tensors["action"].dtype == np.float32
    said = json.loads(oip.encode(entry, wanted)[0])["outputs"][0]
    assert (said["datatype"], said["shape"]) == ("FP32", list(entry.decision.actions.shape))
    assert outputs(entry, wanted)["action"] is entry.decision.actions


def test_metadata_names_boxes():
    spec = TrackSimulator(TrackScenario()).spec
    said = metadata.model(NAME, spec, ["abc"])
    inputs = {one["name"]: one["shape"] for one in said["inputs"]}
    assert inputs["low"] == inputs["high"] == [-1, 2] and "mask" not in inputs
    assert said["outputs"][0] == {"name": "action", "datatype": "FP32", "shape": [-1, 2]}


def test_records_come_back_whole_and_are_recomputed(loaded):
    runtime, settings = loaded
    slot = Slot(runtime, settings)
    for seq, seen in enumerate(SEEN):
        entry = slot.decide(seen, seq=seq)
        record = decode(encode_entry(entry, full=True))
        assert isinstance(record, Recorded)
        back = record.entry
        for name in ("low", "high", "agent", "active", "mask", "candidates"):
            one, other = (getattr(e.request.observation, name) for e in (entry, back))
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(back.decision.wanted, entry.decision.wanted)
        assert recompute(back, runtime, settings).identical
        changed = entry.decision.actions.copy()
        changed[0, 0] += 0.01
        wrong = replace(back, decision=replace(back.decision, actions=changed))
        assert "actions" in recompute(wrong, runtime, settings).differences[0]


def test_an_audit_of_set_points_is_replayed_identically(loaded, bundle, tmp_path):
    runtime, settings = loaded
    writer = AuditWriter(
        tmp_path, settings=AuditSettings(fsync=0.05), boot=BOOT, meter=CountingMeter()
    )
    writer.describe(NAME, Context(slot=settings))
    slot = Slot(runtime, settings)
    for seq in range(40):
        writer.record(slot.decide(SEEN[seq % 12], seq=seq))
    agents = np.array([4, 0, 3])
    for seq in range(40, 50):
        seen = rows_of(SEEN[seq % 12], agents)
        writer.record(slot.decide(seen, seq=seq, agents=agents, greedy=seq % 2 == 0))
    assert writer.close(20.0)
    result = replay(tmp_path, Sources(folders=[bundle.folder], live=TrackLive))
    assert (result.identical, result.different, result.missing, result.faults) == (50, 0, 0, [])
    assert result.unlinked == 0 and result.identical_all


def test_state_survives_a_restart_and_fits_its_own_spec_only(runtime, tmp_path):
    slot = Slot(runtime)
    agents = np.array([0, 3])
    slot.decide(rows_of(SEEN[0], agents), agents=agents)
    file = StateFile(tmp_path / "state.json")
    file.save({NAME: slot.state}, slot.clock())
    back = StateFile(tmp_path / "state.json").load(slot.clock())
    assert back.warning == ""
    state = back.states[NAME]
    np.testing.assert_array_equal(state.last, slot.state.last)
    assert state.last.dtype == np.float32 and np.isnan(state.last[1]).all()
    assert fitted(state, runtime.spec).last is state.last
    larger = TrackSimulator(TrackScenario(agents=9)).spec
    assert fitted(state, larger).last is None
    choices = replace(state, last=np.zeros(6, np.int64))
    assert fitted(choices, runtime.spec).last is None
    following = Slot(runtime, state=state).decide(SEEN[1])
    assert feasible(SEEN[1], following.decision.actions)


def test_figures_and_page_of_set_points(runtime, bundle):
    slot = Slot(runtime)
    first, second = slot.decide(SEEN[5], seed=1), slot.decide(SEEN[5], seed=2)
    again = slot.decide(SEEN[5], seed=2)
    found = gauges(second, runtime.live)
    assert np.isnan(found.entropy) and np.isfinite(found.objective)
    assert found.switched > 0.0 and gauges(again, runtime.live).switched == 0.0
    assert np.isnan(gauges(first, runtime.live).switched)
    points = _points(second, 0)
    assert [p.executed for p in points] == pytest.approx(second.decision.actions[0].tolist())
    assert points[0].low == SEEN[5].low[0, 0] and len(points) == 2
    assert summary(second).agents == 6
    assert _size(second) >= SEEN[5].low.nbytes * 4
    same = compare(runtime.policy, runtime.live, second, limit=5.0)
    assert same.status == "ok" and same.disagreement == 0.0 and same.cost == same.executed
    drift = Drift(spec=runtime.spec, observed=bundle.observed, settings=SLOT.drift)
    for seen in observations(120):
        drift.update(seen)
    assert set(drift.figures().features) == {f.name for f in runtime.spec.agent_features}


def test_set_points_are_apart_where_they_clearly_differ():
    seen = replace(SEEN[0], low=np.zeros((6, 2), "f4"), high=np.full((6, 2), 10, "f4"))
    one = np.full((6, 2), 5, np.float32)
    other = one.copy()
    other[1, 1], other[2, 0], other[3] = 5.1, 5.3, np.nan
    assert apart(one, other, seen).tolist() == [False, False, True, True, False, False]
    stuck = replace(seen, high=seen.low)
    assert not apart(stuck.low, stuck.low, stuck).any()


def test_canary_takes_whole_rows():
    halves = [Inference(np.full((6, 2), value, np.float32), None) for value in (1, 2)]
    new = np.arange(6) < 3
    found = _merged(halves, new)
    assert found.preference is None and found.actions[:, 0].tolist() == [2, 2, 2, 1, 1, 1]


def test_a_drive_cuts_infeasible_set_points_off():
    seen = SEEN[0]
    fine = Middle().act(seen, None)
    assert _executable(seen, fine, 3) == (fine, [])
    wrong = fine.copy()
    wrong[0, 0], wrong[2, 0] = 99.0, np.nan
    done, found = _executable(seen, wrong, 3)
    assert found[0].startswith("epoch 3: row 0") and feasible(seen, done)
    assert done[0, 0] == seen.high[0, 0] and done[2, 0] == seen.low[2, 0]
    assert feasible(seen, _executable(seen, np.zeros(6, np.int64), 3)[0])
    assert _same(done, fine).tolist() == [False, True, False, True, True, True]


def test_random_set_points_never_leave_their_box():
    spec, rng = TrackSimulator(TrackScenario()).spec, np.random.default_rng(0)
    low = rng.uniform(-1e3, 1e3, (6, 2)).astype("f4")
    seen = replace(SEEN[0], low=low, high=low + np.float32(1e-3))
    for _ in range(200):
        drawn = random_actions(spec, seen, rng)
        assert drawn.dtype == np.float32 and (drawn >= low).all() and (drawn <= seen.high).all()
