"""The state file: a restart goes on where it stopped, and no file can keep it from starting."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import orjson
import pytest
from audit_doubles import same
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import recorded

from fairlead.platform.audit.state_file import StateFile, fitted
from fairlead.platform.decision.types import Breaker, Clock, State
from fairlead.platform.files import UserError
from fairlead.simulators.interface import Box

THEN = Clock(500.0, 1.7e9)


def some_state(**changes):
    state = State(
        mode="degraded",
        breaker=Breaker("open", (True, True, False), since=480.0, probes=2, trips=3),
        clean=4,
        latched=True,
        forced=True,
        last=np.array([0, 3, 1], np.int64),
        sequence=(("a/b", 7), ("c/ü", 2**60)),
        ticks=99,
    )
    return replace(state, **changes)


def test_states_come_back_and_the_breaker_keeps_its_age(tmp_path):
    file = StateFile(tmp_path / "deep" / "state.json")
    other = some_state(last=np.array([[0.5, np.nan]], np.float32), mode="hold")
    states = {"cloud": some_state(), "power": other, "traffic": State()}
    file.save(states, THEN)
    now = Clock(20.0, 1.7e9 + 5)  # another boot of the machine: the monotonic clock began anew
    found = file.load(now)
    assert (found.warning, found.saved) == ("", THEN.wall)
    for domain in ("cloud", "power"):
        breaker = replace(states[domain].breaker, since=0.0)
        assert same(found.states[domain], replace(states[domain], breaker=breaker))
    assert found.states["traffic"].last is None


def test_there_need_not_be_one(tmp_path):
    found = StateFile(tmp_path / "state.json").load(THEN)
    assert found.states == {} and found.warning == "" and math.isnan(found.saved)


def saved(tmp_path):
    file = StateFile(tmp_path / "state.json")
    file.save({"cloud": some_state()}, THEN)
    return file


def test_each_truncation_is_set_aside_with_a_warning(tmp_path, caplog):
    file = saved(tmp_path)
    whole = file.path.read_bytes()
    for cut in range(len(whole)):
        file.path.write_bytes(whole[:cut])
        found = file.load(THEN)
        assert found.states == {} and "state.json.damaged-1" in found.warning
        assert not file.path.exists()
        assert (tmp_path / "state.json.damaged-1").read_bytes() == whole[:cut]
        (tmp_path / "state.json.damaged-1").unlink()
    assert "is not used" in caplog.text


def test_each_flipped_byte_is_noticed(tmp_path):
    file = saved(tmp_path)
    whole = file.path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        file.path.write_bytes(damaged)
        assert file.load(THEN).warning, at


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
@settings(max_examples=60, deadline=None)
def test_any_json_with_a_right_seal_is_survived(tmp_path_factory, value):
    from fairlead.platform.audit import state_file

    file = StateFile(tmp_path_factory.mktemp("state") / "state.json")
    try:
        body = orjson.dumps(value)
    except TypeError:
        return  # integers beyond 64 bits
    file.path.write_bytes(orjson.dumps({"seal": state_file._seal(body), "state": value}))
    assert file.load(THEN).warning


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "turbo"},
        {"last": {"dtype": "|O", "shape": [1], "data": ""}},
        {"last": {"dtype": "<i8", "shape": [5], "data": "AAAAAAAAAAA="}},
        {"last": {"dtype": "<i8", "shape": [1], "data": "?"}},
        {"breaker": {}},
        {"sequence": [["a"]]},
    ],
)
def test_wrong_values_under_a_right_seal_are_set_aside(tmp_path, change):
    from fairlead.platform.audit import state_file

    file = saved(tmp_path)
    document = orjson.loads(file.path.read_bytes())
    document["state"]["slots"]["cloud"] |= change
    document["seal"] = state_file._seal(orjson.dumps(document["state"]))
    file.path.write_bytes(orjson.dumps(document))
    assert "damaged-1" in file.load(THEN).warning


def test_a_newer_format_and_a_folder_in_its_place_are_named(tmp_path):
    from fairlead.platform.audit import state_file

    file = StateFile(tmp_path / "state.json")
    body = {"format": 99, "saved": 0.0, "slots": {}}
    seal = state_file._seal(orjson.dumps(body))
    file.path.write_bytes(orjson.dumps({"seal": seal, "state": body}))
    assert "format 99" in file.load(THEN).warning
    file.path.mkdir()
    assert "cannot be read" in file.load(THEN).warning
    file.save({"cloud": some_state()}, THEN)
    assert not file.load(THEN).warning


def test_damaged_files_do_not_replace_each_other(tmp_path):
    file = saved(tmp_path)
    (tmp_path / "state.json.damaged-notes").write_text("an operator's")
    for number in (1, 2, 3):
        file.path.write_text(f"rubbish {number}")
        assert f"damaged-{number}" in file.load(THEN).warning
        assert (tmp_path / f"state.json.damaged-{number}").read_text() == f"rubbish {number}"


def test_what_a_crash_left_of_a_save_is_swept(tmp_path):
    file = saved(tmp_path)
    leftover = tmp_path / ".state.json.123.abcd.tmp"
    leftover.write_text("half")
    assert not file.load(THEN).warning
    assert not leftover.exists()


def test_a_save_that_fails_says_so_and_leaves_the_old_one(tmp_path):
    file = saved(tmp_path)
    before = file.path.read_bytes()
    strange = some_state(last=np.zeros(3, np.int16))
    with pytest.raises(TypeError, match="int16"):
        file.save({"cloud": strange}, THEN)
    with pytest.raises(UserError):
        StateFile("/proc/nowhere/state.json").save({}, THEN)
    assert file.path.read_bytes() == before


def test_last_actions_of_another_bundle_are_dropped_and_nothing_else():
    spec = recorded()[0]
    good = some_state(last=np.zeros(spec.agents, np.int64))
    assert fitted(good, spec) is good
    for last in (
        np.zeros(spec.agents + 1, np.int64),
        np.zeros(spec.agents, np.float32),
        np.full(spec.agents, 10_000),
        np.full(spec.agents, -1),
    ):
        found = fitted(replace(good, last=last), spec)
        assert found.last is None and found.sequence == good.sequence
    box = replace(spec, action=Box(2))
    assert fitted(good, box).last is None
    points = replace(good, last=np.zeros((spec.agents, 2), np.float32))
    assert fitted(points, box) is points
    assert fitted(State(), spec).last is None
