"""Records of the audit: what goes in comes out, and nothing else is taken for a record."""

from __future__ import annotations

import contextlib
import zlib
from dataclasses import replace

import numpy as np
import orjson
import pytest
from audit_doubles import make_entry, same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fairlead.platform.audit.codec import (
    Event,
    Header,
    Link,
    decode,
    encode_entry,
    encode_event,
    encode_header,
)
from fairlead.platform.audit.tensors import RecordError, Tensors, unpack
from fairlead.platform.decision.types import Inference, Outcome

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@given(
    seq=st.integers(-1, 2**63 - 1),
    seed=st.one_of(st.none(), st.integers(0, 2**80)),
    observed=st.one_of(st.none(), ANY_FLOAT),
    margin=ANY_FLOAT,
    text=st.text(max_size=20).filter(lambda t: t.isprintable()),
    greedy=st.sampled_from([None, True, False]),
    rows=st.integers(0, 12),
)
@settings(max_examples=60, deadline=None)
def test_an_entry_comes_back_bit_for_bit(seq, seed, observed, margin, text, greedy, rows):
    entry = make_entry(7, rows=rows)
    request = replace(
        entry.request,
        seq=seq,
        seed=seed,
        observed=observed,
        client=text,
        greedy=greedy,
        agents=np.arange(rows)[::-1].copy(),
    )
    before = replace(entry.before, sequence=((f"{text}/e", 5),))
    decision = replace(entry.decision, margin=margin)
    entry = replace(entry, request=request, decision=decision, before=before, principal=text)
    found = decode(encode_entry(entry, full=True))
    assert found.full
    assert same(found.entry, entry)


def test_set_points_and_failed_askings_come_back():
    entry = make_entry(3)
    points = np.array([[0.5, np.inf], [np.nan, -0.0]], np.float32)
    asked = (Outcome("timeout", None, 0.05, "hung"), Outcome("ok", Inference(points, None), 1e-3))
    decision = replace(
        entry.decision,
        asked=asked,
        actions=points,
        wanted=None,
        preference=None,
        failures={"x": "y"},
    )
    observation = replace(
        entry.request.observation,
        low=np.zeros((5, 2), np.float32),
        high=np.ones((5, 2), np.float32),
        candidates=np.zeros((5, 0, 0), np.float32),
    )
    request = replace(entry.request, observation=observation)
    entry = replace(entry, decision=decision, request=request)
    assert same(decode(encode_entry(entry, full=True)).entry, entry)


def test_a_brief_record_holds_the_decision_but_not_the_observation():
    entry = make_entry(3, rows=200, choices=9)
    payload = encode_entry(entry, full=False)
    found = decode(payload)
    assert not found.full
    assert same(found.entry.decision.actions, entry.decision.actions)
    assert same(found.entry.decision.source, entry.decision.source)
    assert found.entry.request.observation.agent.shape[0] == 0
    assert found.entry.decision.preference is None
    assert found.entry.before.last is None
    assert len(payload) * 10 < len(encode_entry(entry, full=True))


def test_only_the_requests_own_sequence_is_kept():
    entry = make_entry(3)
    before = replace(entry.before, sequence=(("other/e", 9), ("c/e", 2), ("c/f", 1)))
    found = decode(encode_entry(replace(entry, before=before), full=True))
    assert found.entry.before.sequence == (("c/e", 2),)


def test_an_array_that_stands_in_two_places_is_stored_once():
    entry = make_entry(1, rows=200, choices=9)
    twice = encode_entry(entry, full=True)
    copied = replace(entry.decision, preference=entry.decision.preference.copy())
    once = encode_entry(replace(entry, decision=copied), full=True)
    assert len(once) - len(twice) >= 200 * 9 * 4


@given(arrays(np.int64, array_shapes(max_dims=3), elements=st.integers(-(2**63), 2**63 - 1)))
@settings(deadline=None)
def test_narrowed_whole_numbers_come_back_as_they_were(array):
    tensors = Tensors()
    tensors.add(array)
    _, found = unpack(tensors.payload({}))
    assert same(found[0], array)


def test_events_and_headers_come_back():
    event = Event("promote", "cloud", 1.5, {"to": "abc", "n": 3, "who": None})
    assert decode(encode_event(event)) == event
    header = Header("cloud", 7, "0123abcd", 2.5, Link(6, 12, "ff" * 32, "torn"), {"slot": {}})
    assert decode(encode_header(header)) == header


def test_an_event_that_is_not_json_is_refused_at_once():
    with pytest.raises(TypeError):
        encode_event(Event("x", "cloud", 0.0, {"what": object()}))


def test_an_array_of_a_strange_type_is_refused_by_name():
    entry = make_entry(1)
    decision = replace(entry.decision, actions=entry.decision.actions.astype(complex))
    with pytest.raises(RecordError, match="complex128"):
        encode_entry(replace(entry, decision=decision), full=True)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_payloads_are_refused_by_name_or_decode_to_a_record(data):
    """Checksums are the segment's business; here nothing but RecordError may come out."""
    payload = bytearray(encode_entry(make_entry(2), full=True))
    length = int.from_bytes(payload[:4], "little")
    at = data.draw(st.integers(0, 4 + length - 1))
    payload[at] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.one_of(st.just(len(payload)), st.integers(0, len(payload))))
    with contextlib.suppress(RecordError):
        decode(bytes(payload[:cut]))


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ([["<f4", [2**40], "<f4", 0]], "runs beyond"),
        ([["<f4", [-1], "<f4", 0]], "does not describe"),
        ([["|O", [1], "|O", 0]], "does not describe"),
        ([["<f4", "x", "<f4", 0]], "does not describe"),
        ([["<f4", [1], "<f4", -8]], "does not describe"),
        ([["<f4", [2**20], "<f4", 16]], "cannot be unpacked"),
        ([["<f4", [1], "<f4"]], "does not describe"),
        ([3], "does not describe"),
        ([], "where the description says"),
    ],
)
def test_descriptions_that_lie_about_arrays(described, words):
    text = orjson.dumps({"v": 1, "tensors": described})
    payload = len(text).to_bytes(4, "little") + text
    payload += b"\0" * (-len(payload) % 8) + b"\0" * 16
    with pytest.raises(RecordError, match=words):
        unpack(payload)


def test_a_newer_record_is_refused_by_its_version():
    payload = Tensors().payload({"v": 99, "is": "event"})
    with pytest.raises(RecordError, match="version 99"):
        decode(payload)


def test_repetitive_arrays_are_packed_and_come_back():
    rng = np.random.default_rng(1)
    nodes = rng.normal(size=(8, 9)).astype(np.float32)
    candidates = nodes[rng.integers(0, 8, (200, 9))]
    candidates[rng.random((200, 9)) < 0.3] = 0.0
    tensors = Tensors()
    tensors.add(candidates)
    payload = tensors.payload({})
    assert len(payload) < candidates.nbytes / 2
    assert same(unpack(payload)[1][0], candidates)


@pytest.mark.parametrize("claimed", [4096, 8 * 2**20 - 4, 8 * 2**20 + 4])
def test_a_packed_array_never_grows_beyond_what_it_claims(claimed):
    bomb = zlib.compress(b"\0" * (8 * 2**20), 9)
    described = [["<f4", [claimed // 4], "<f4", len(bomb)]]
    text = orjson.dumps({"v": 1, "tensors": described})
    payload = len(text).to_bytes(4, "little") + text
    payload += b"\0" * (-len(payload) % 8) + bomb + b"\0" * (-len(bomb) % 8)
    with pytest.raises(RecordError, match="something else"):
        unpack(payload)
