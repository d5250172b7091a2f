"""What travels is what was meant, and nothing else is let in."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from serving import HandClock, recorded, request

from fairlead.platform.daemon.interface import Entry
from fairlead.platform.decision.types import Cause, Decision, Rejected, Source, State
from fairlead.platform.wire import frames, oip
from fairlead.platform.wire.problems import CODES, Problem
from fairlead.platform.wire.tensors import INPUTS, Limits, Wanted
from fairlead.simulators.interface import Box

SPEC = recorded()[0]
LIMITS = Limits.of(SPEC)
N, F = SPEC.agents, len(SPEC.agent_features)
C = len(SPEC.candidate_features)


def arrays(asked=None, **changes):
    seen = (asked or request()).observation
    found = {name: getattr(seen, name) for name in ("agent", "candidates", "mask", "active")}
    return {**found, "target": seen.target, **changes}


def entry(asked=None, *, preference=True, box=False):
    asked = asked or request()
    rng = np.random.default_rng(1)
    actions = rng.random((N, 2), np.float32) if box else rng.integers(0, 3, N)
    decision = Decision(
        actions=actions,
        source=np.full(N, Source.PROJECTED, np.int8),
        cause=np.full(N, Cause.LEGALITY, np.int8),
        outcome="degraded",
        mode="degraded",
        bundle="ab" * 32,
        seed=1,
        asked=(None, None),
        distance=np.zeros(N, np.float32),
        margin=1.0,
        deviation=np.zeros(N, np.float32),
        wanted=None,
        preference=rng.random((N, 4), np.float32) if preference else None,
        invalid={},
        seconds={},
    )
    return Entry("cloud-0000abcd-7", "cloud", HandClock()(), asked, decision, State())


def document(tensors=None, binary=(), **more):
    """An /infer body and its header length."""
    listed, tail = [], b""
    for name, array in (arrays() if tensors is None else tensors).items():
        item = {"name": name, "datatype": INPUTS[name], "shape": list(array.shape)}
        if name in binary:
            data = array.tobytes()
            item["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            item["data"] = array.ravel().tolist()
        listed.append(item)
    head = orjson.dumps({"inputs": listed, **more})
    return head + tail, len(head) if binary else None


def same(asked, found):
    for name in ("agent", "candidates", "mask", "active", "target", "low", "high"):
        ours, theirs = getattr(asked.observation, name), getattr(found.observation, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def code_of(call, *given, **named):
    with pytest.raises(Rejected) as caught:
        call(*given, **named)
    return caught.value.code


def test_a_frame_brings_back_the_request():
    asked = request(7, seq=41, observed=1.7e9, deadline=0.02, seed=2**62, greedy=True)
    found, wanted = frames.decode(
        frames.encode_request(asked, want=["action", "preference"]), SPEC, LIMITS, received=5.0
    )
    same(asked, found)
    assert replace(found, observation=asked.observation) == replace(asked, received=5.0)
    assert found.observation.time == pytest.approx(asked.observation.time)
    assert wanted.outputs == ("action", "preference")


@pytest.mark.parametrize("binary", [(), tuple(INPUTS), ("candidates",)])
def test_oip_brings_back_the_request(binary):
    asked = request(4)
    parameters = {"client": "test", "episode": "e", "seq": 4, "deadline_ms": 20, "seed": 3}
    body, length = document(arrays(asked), binary, parameters=parameters, id="x")
    found, wanted = oip.decode(body, length, SPEC, LIMITS)
    same(asked, found)
    assert (found.client, found.episode, found.seq) == ("test", "e", 4)
    assert (found.deadline, found.seed, found.observed, found.greedy) == (0.02, 3, None, None)
    assert wanted == Wanted(id="x")


def test_what_is_left_out_has_its_default():
    tensors = arrays()
    del tensors["active"], tensors["target"]
    found, wanted = oip.decode(*document(tensors), SPEC, LIMITS)
    assert found.observation.active.all()
    assert found.observation.target[3].tolist() == [-1, *range(1, SPEC.action.candidates)]
    assert found.seq == -1 and found.deadline is None
    assert wanted.outputs == ("action", "source", "cause")


def test_some_agents_only():
    rows = {name: array[[2, 5]] for name, array in arrays().items()}
    assert code_of(oip.decode, *document(rows), SPEC, LIMITS) == "agents"
    found, _ = oip.decode(*document({**rows, "agents": np.array([2, 5])}), SPEC, LIMITS)
    assert found.agents.tolist() == [2, 5]
    for wrong in ([2, 2], [-1, 5], [2, N]):
        body = document({**rows, "agents": np.array(wrong)})
        assert code_of(oip.decode, *body, SPEC, LIMITS) == "agents"


def test_nested_json_data():
    body, _ = document()
    parsed = orjson.loads(body)
    for item, array in zip(parsed["inputs"], arrays().values(), strict=True):
        item["data"] = array.tolist()
    found, _ = oip.decode(orjson.dumps(parsed), None, SPEC, LIMITS)
    same(request(), found)
    parsed["inputs"][0]["data"][3] = parsed["inputs"][0]["data"][3][:-1]
    assert code_of(oip.decode, orjson.dumps(parsed), None, SPEC, LIMITS) == "shape"


def changed(**more):
    """The JSON document with the fields of its first tensor changed."""
    parsed = orjson.loads(document()[0])
    parsed["inputs"][0].update(more)
    return orjson.dumps(parsed)


BAD_JSON = [
    (b"", "json"),
    (b"[]", "json"),
    (b'{"inputs": NaN}', "json"),
    (b"{}", "field"),
    (b'{"inputs": {}}', "field"),
    (b'{"inputs": [3]}', "field"),
    (b'{"inputs": []}', "missing"),
    (b'{"inputs": [], "parameters": []}', "field"),
    (b'{"inputs": [], "parameters": {"sequ": 3}}', "parameter"),
    (b'{"inputs": [], "outputs": [{"name": "value"}]}', "unknown"),
    (b'{"inputs": [], "outputs": [{"name": ["x"]}]}', "unknown"),
    (b'{"inputs": [], "id": 3}', "field"),
    (changed(name="agents_"), "unknown"),
    (changed(name=[1]), "unknown"),
    (changed(datatype="FP64"), "dtype"),
    (changed(datatype=["FP32"]), "dtype"),
    (changed(shape=[N, F, 1, 1]), "shape"),
    (changed(shape=[N, -F]), "shape"),
    (changed(shape=[N, True]), "shape"),
    (changed(shape=[2**40, 2**40]), "shape"),
    (changed(shape=[2**31 - 1, 2**31 - 1, 2**31 - 1]), "shape"),
    (changed(shape=[N // 2, 2 * F]), "shape"),
    (changed(data=[0.0] * (N * F - 1)), "shape"),
    (changed(data=[0.0] * (N * F - 1) + ["0"]), "dtype"),
    (changed(data=[0.0] * (N * F - 1) + [None]), "dtype"),
    (changed(data=[0.0] * (N * F - 1) + [[0.0]]), "dtype"),
    (changed(data=[0.0] * (N * F - 1) + [1e39]), "finite"),
    (changed(data="text"), "field"),
    (changed(parameters={"binary_data_size": 4 * N * F}), "field"),
    (changed(name="candidates"), "field"),
]


@pytest.mark.parametrize(("body", "code"), BAD_JSON)
def test_bad_json_is_refused_by_cause(body, code):
    assert code_of(oip.decode, body, None, SPEC, LIMITS) == code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seq", 1.5), ("seq", True), ("seq", 2**63), ("seq", -2), ("seed", -1), ("greedy", 1),
        ("client", 3), ("client", "x" * 129), ("client", "a\nb"), ("observed", "now"),
        ("deadline_ms", -1), ("deadline_ms", 1e9), ("time", True), ("timeout", 1.5),
    ],
)  # fmt: skip
def test_bad_parameters(name, value):
    body, _ = document(parameters={name: value})
    assert code_of(oip.decode, body, None, SPEC, LIMITS) == "parameter"
    if name != "timeout":
        frame = frames.pack({name: value}, arrays())
        assert code_of(frames.decode, frame, SPEC, LIMITS) == "parameter"


def test_tritons_timeout_is_microseconds():
    body, _ = document(parameters={"timeout": 30_000})
    assert oip.decode(body, None, SPEC, LIMITS)[0].deadline == 0.03
    body, _ = document(parameters={"timeout": 30_000, "deadline_ms": 5})
    assert oip.decode(body, None, SPEC, LIMITS)[0].deadline == 0.005


def test_sizes_of_binary_tensors_must_add_up():
    body, length = document(binary=tuple(INPUTS))
    assert code_of(oip.decode, body[:-1], length, SPEC, LIMITS) == "size"
    assert code_of(oip.decode, body + b"\0", length, SPEC, LIMITS) == "size"
    for wrong in (0, -1, len(body) + 1, length - 1):
        assert code_of(oip.decode, body, wrong, SPEC, LIMITS) in {"field", "json"}
    assert code_of(oip.decode, bytes(LIMITS.json + 1), None, SPEC, LIMITS) == "size"
    assert code_of(frames.decode, bytes(LIMITS.binary + 1), SPEC, LIMITS) == "size"


def test_a_bool_byte_is_zero_or_one():
    body, length = document(binary=("mask",))
    assert code_of(oip.decode, body[:-1] + b"\2", length, SPEC, LIMITS) == "dtype"


def test_binary_nan_reaches_the_decision_core():
    tensors = arrays()
    agent = tensors["agent"].copy()
    agent[3, 0] = np.nan
    found, _ = oip.decode(*document({**tensors, "agent": agent}, tuple(INPUTS)), SPEC, LIMITS)
    assert np.flatnonzero(np.isnan(found.observation.agent).any(axis=1)).tolist() == [3]


def test_too_many_candidates():
    tensors = arrays(
        candidates=np.zeros((N, 40, C), np.float32),
        mask=np.ones((N, 40), np.bool_),
        target=np.zeros((N, 40), np.int64),
    )
    few = replace(Limits.of(SPEC), candidates=32)
    assert code_of(frames.decode, frames.pack({}, tensors), SPEC, few) == "size"


def test_set_points_travel_too():
    spec = replace(SPEC, action=Box(2))
    low = np.zeros((N, 2), np.float32)
    tensors = {"agent": arrays()["agent"], "low": low, "high": low + 1}
    limits = Limits.of(spec)
    found, _ = frames.decode(frames.pack({}, tensors), spec, limits)
    np.testing.assert_array_equal(found.observation.high, low + 1)
    again, _ = frames.decode(frames.encode_request(found), spec, limits)
    np.testing.assert_array_equal(again.observation.low, low)
    assert code_of(frames.decode, frames.pack({}, arrays()), spec, limits) == "missing"
    with_mask = frames.pack({}, {**tensors, "mask": arrays()["mask"]})
    assert code_of(frames.decode, with_mask, spec, limits) == "unknown"
    body, _ = frames.encode(entry(box=True), Wanted())
    assert frames.unpack(body, names={"action": "", "source": "", "cause": ""}).tensors[
        "action"
    ].shape == (N, 2)


GOOD = frames.encode_request(replace(request(), deadline=0.02, seed=4), want=["action"])


@pytest.mark.parametrize("cut", [0, 3, 7, 8, 40, len(GOOD) // 2, len(GOOD) - 8, len(GOOD) - 1])
def test_a_cut_frame_is_refused(cut):
    assert code_of(frames.decode, GOOD[:cut], SPEC, LIMITS) in {"frame", "size"}


def test_frame_headers():
    assert code_of(frames.decode, b"FLD2" + GOOD[4:], SPEC, LIMITS) == "frame"
    huge = b"FLD1" + struct.pack("<I", 2**32 - 1) + GOOD[8:]
    assert code_of(frames.decode, huge, SPEC, LIMITS) == "frame"
    assert code_of(frames.decode, GOOD + b"\0" * 8, SPEC, LIMITS) == "size"
    assert code_of(frames.decode, frames.pack({"x": 1}, arrays()), SPEC, LIMITS) == "parameter"
    assert code_of(frames.decode, frames.pack({"want": "action"}, {}), SPEC, LIMITS) == "field"
    assert frames.unpack(frames.encode_request(request(), domain="cloud")).header["domain"] == (
        "cloud"
    )


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_bodies_are_refused_or_understood(data):
    """Whatever a damaged body holds, the only exception is a refusal with a known code."""
    binary = data.draw(st.booleans())
    whole, length = document(binary=tuple(INPUTS) if binary else ())
    use_frame = data.draw(st.booleans())
    body = bytearray(GOOD if use_frame else whole)
    head = len(body) if not use_frame and not binary else (length or 700)
    for _ in range(data.draw(st.integers(1, 6))):
        where = data.draw(st.integers(0, max(0, min(head, len(body)) - 1)))
        act = data.draw(st.sampled_from(["flip", "cut", "insert", "number"]))
        if act == "flip" and body:
            body[where] ^= 1 << data.draw(st.integers(0, 7))
        elif act == "cut":
            del body[where : where + data.draw(st.integers(1, 40))]
        elif act == "insert":
            body[where:where] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            body[where:where] = str(data.draw(st.integers(-(2**70), 2**70))).encode()
    refused, found = None, None
    try:
        if use_frame:
            found, _ = frames.decode(bytes(body), SPEC, LIMITS)
        else:
            found, _ = oip.decode(bytes(body), length, SPEC, LIMITS)
    except Rejected as refusal:
        refused = refusal
    if refused is None:
        assert found.observation.agent.shape == (N, F)
        assert found.observation.mask.dtype == np.bool_
    else:
        assert refused.code in CODES
        assert Problem.rejected(refused).status == refused.status


@given(
    hnp.arrays(
        np.float32, (N, F), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    )
)
@settings(max_examples=50, deadline=None)
def test_every_float_survives_text_and_bytes(agent):
    for binary in ((), ("agent",)):
        found, _ = oip.decode(*document(arrays(agent=agent), binary), SPEC, LIMITS)
        np.testing.assert_array_equal(found.observation.agent, agent)


def test_the_answer_in_all_encodings():
    made = entry()
    wanted = Wanted(("action", "source", "cause", "preference"), frozenset({"action"}), "q")
    body, headers = oip.encode(made, wanted, deadline_left=0.0123456)
    assert headers["Fairlead-Decision"] == "cloud-0000abcd-7"
    assert headers["Fairlead-Bundle"] == "ab" * 32
    assert headers["Fairlead-Outcome"] == headers["Fairlead-Mode"] == "degraded"
    assert headers["Content-Type"] == "application/octet-stream"
    cut = int(headers["Inference-Header-Content-Length"])
    parsed = orjson.loads(body[:cut])
    assert parsed["id"] == "q" and parsed["model_name"] == "cloud"
    assert parsed["model_version"] == "ab" * 6
    assert parsed["parameters"]["deadline_left_ms"] == 12.346
    by_name = {item["name"]: item for item in parsed["outputs"]}
    np.testing.assert_array_equal(np.frombuffer(body[cut:], "<i8"), made.decision.actions)
    assert by_name["source"]["data"] == [int(Source.PROJECTED)] * N
    assert by_name["source"]["datatype"] == "INT8" and by_name["preference"]["shape"] == [N, 4]
    body, headers = frames.encode(made, wanted)
    found = frames.unpack(body, names=dict.fromkeys(wanted.outputs, ""))
    np.testing.assert_array_equal(found.tensors["preference"], made.decision.preference)
    assert found.header["decision"] == made.id and "deadline_left_ms" not in found.header


def test_scores_that_nobody_made_are_not_invented():
    wanted = Wanted(("action", "preference"))
    body, headers = oip.encode(entry(preference=False), wanted)
    assert headers["Content-Type"] == "application/json"
    assert [item["name"] for item in orjson.loads(body)["outputs"]] == ["action"]


def test_no_answer_holds_a_number_that_is_not_finite():
    made = entry()
    scores = made.decision.preference.copy()
    scores[0] = [-np.inf, np.inf, np.nan, 0.5]
    made = replace(made, decision=replace(made.decision, preference=scores))
    body, _ = oip.encode(made, Wanted(("preference",)))
    data = orjson.loads(body)["outputs"][0]["data"]
    assert None not in data and np.isfinite(np.array(data, np.float32)).all()


def test_room_for_every_tensor_of_every_agent():
    """A full request fits its own limits, with integers and floats as long as they get."""
    tensors = arrays(
        agent=np.full((N, F), -1.1754944e-38, np.float32),
        agents=np.arange(N),
        target=np.full(request().observation.mask.shape, -(2**63)),
    )
    tight = Limits.of(SPEC, slack=1.0)
    oip.decode(*document(tensors), SPEC, tight)
    oip.decode(*document(tensors, tuple(INPUTS)), SPEC, tight)
    frames.decode(frames.pack({}, tensors), SPEC, tight)
