"""The bridge's client against a daemon that misbehaves on order."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import orjson
import pytest
from serving import observations, recorded, request

from fairlead.platform import client
from fairlead.platform.client.asking import infeasible
from fairlead.platform.client.transport import connect
from fairlead.platform.decision.types import Source
from fairlead.platform.wire import frames
from fairlead.platform.wire.problems import MEDIA_TYPE, Problem
from fairlead.platform.wire.tensors import Limits

SPEC = recorded()[0]
LIMITS = Limits.of(SPEC)
SEEN = observations()[5]
N = SPEC.agents


class Rule:
    """A fallback rule that can be recognised: everybody holds."""

    name, information = "hold everybody", "same"

    def __init__(self):
        self.asked = 0

    def act(self, observation, rng):
        self.asked += 1
        return np.zeros(len(observation.agent), np.int64)


def good(asked, **changes):
    """First legal candidate of every active agent that is not hold."""
    seen = asked.observation
    action = np.where(seen.active, np.argmax(seen.mask[:, 1:], axis=1) + 1, 0)
    action[~seen.mask[:, 1:].any(axis=1)] = 0
    tensors = {
        "action": action,
        "source": np.zeros(N, np.int8),
        "cause": np.zeros(N, np.int8),
        **changes,
    }
    header = {"decision": f"d{asked.seq}", "bundle": "b", "mode": "policy", "outcome": "ok"}
    return frames.pack(header, {key: value for key, value in tensors.items() if value is not None})


def refusal(code):
    return frames.problem(Problem.of(code, "scripted"))


class Daemon:
    """Answers one frame after another as a script says; repeats its last line.

    A line is bytes (a frame to send), a callable of the request, or ``hang``, ``close``,
    ``garbage``, ``drip``, ``cut``, ``html``.
    """

    def __init__(self, script, *, unix):
        self.script, self.unix = list(script), unix
        self.seen = []
        self.connections, self.keep = 0, True
        self._stop = threading.Event()

    def serve(self, listener):
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(link,), daemon=True).start()

    def stop(self):
        self._stop.set()

    def _talk(self, link):
        with link, link.makefile("rb") as stream:
            while (body := self._receive(stream)) is not None:
                asked, _ = frames.decode(body, SPEC, LIMITS)
                self.seen.append(asked)
                line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if callable(line):
                    line = line(asked)
                # Whoever gave up waiting hangs up in the middle of an answer.
                stays = False
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    stays = self._answer(link, line)
                if not stays:
                    return

    def _receive(self, stream):
        if self.unix:
            head = stream.read(4)
            return stream.read(frames.LENGTH.unpack(head)[0]) if len(head) == 4 else None
        length = 0
        while (line := stream.readline()) not in {b"\r\n", b""}:
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return stream.read(length) if line else None

    def _answer(self, link, line):
        """Send it; whether the connection stays."""
        if line == "close":
            return False
        if line == "hang":
            self._stop.wait(5)
            return False
        if line == "garbage":
            link.sendall(b"\xff" * 64)
            return False
        body = good(self.seen[-1]) if isinstance(line, str) else line
        kind = MEDIA_TYPE if b'"problem"' in body else frames.MEDIA_TYPE
        status = "503 No" if kind == MEDIA_TYPE else "200 OK"
        if line == "html":
            kind, body = "text/html", b"<html>"
        if kind == MEDIA_TYPE and not self.unix:
            body = orjson.dumps(frames.unpack(body).header["problem"])
        head = frames.LENGTH.pack(len(body))
        if not self.unix:
            lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
            closing = () if self.keep else ("Connection: close",)
            head = "\r\n".join([*lines, *closing, "", ""]).encode()
        whole = head + body
        if line == "cut":
            link.sendall(whole[:-5])
            return False
        if line == "drip":
            for byte in whole:
                if self._stop.wait(0.02):
                    return False
                link.sendall(bytes([byte]))
        link.sendall(whole)
        return self.keep


@contextmanager
def daemon(tmp_path, *script, unix=False):
    """A scripted daemon and its address."""
    if unix:
        listener = socket.socket(socket.AF_UNIX)
        path = tmp_path / "d.sock"
        listener.bind(str(path))
        address = f"unix:{path}"
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.listen(8)
    served = Daemon(script, unix=unix)
    thread = threading.Thread(target=served.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield served, address
    finally:
        served.stop()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def ask(address, *, want=(), **options):
    with client.Client(address, "cloud", timeout=5, **options) as asking:
        return asking.decide(SEEN, want=want)


BOTH = pytest.mark.parametrize("unix", [False, True], ids=["http", "unix"])


@BOTH
def test_an_answer_comes_over_one_kept_connection(tmp_path, unix):
    with (
        daemon(tmp_path, good, unix=unix) as (served, address),
        client.Client(address, "cloud", name="b7", timeout=5) as asking,
    ):
        for seq in range(20):
            answer = asking.decide(SEEN, seq=seq, episode="e", deadline=0.1, seed=9)
            assert not answer.local and answer.decision == f"d{seq}" and answer.attempts == 1
            assert infeasible(SEEN, answer.actions) == ""
        assert served.connections == 1
        asked = served.seen[-1]
        assert (asked.client, asked.episode, asked.seq, asked.seed) == ("b7", "e", 19, 9)
        assert abs(asked.observed - time.time()) < 60
        np.testing.assert_array_equal(asked.observation.candidates, SEEN.candidates)


@BOTH
@pytest.mark.parametrize("fault", ["close", "garbage", "cut", refusal("overload")])
def test_one_lost_answer_is_asked_again_by_the_same_seq(tmp_path, unix, fault):
    with (
        daemon(tmp_path, fault, good, unix=unix) as (served, address),
        client.Client(address, "cloud", fallback=Rule(), timeout=5) as asking,
    ):
        answer = asking.decide(SEEN, seq=3)
        assert not answer.local and answer.attempts == 2
        assert [asked.seq for asked in served.seen] == [3, 3]
        assert asking.circuit.closed


@BOTH
@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_slow_daemon_costs_no_more_than_the_timeout(tmp_path, unix, fault):
    rule = Rule()
    with (
        daemon(tmp_path, fault, unix=unix) as (_, address),
        client.Client(address, "cloud", fallback=rule, timeout=0.15) as asking,
    ):
        begun = time.monotonic()
        answer = asking.decide(SEEN, seq=0)
        assert 0.1 < time.monotonic() - begun < 0.6
        assert answer.local and rule.asked == 1 and "no answer within 0.1" in answer.problem
        assert (answer.source == Source.BASELINE).all()


def test_a_late_answer_is_not_taken_for_the_next(tmp_path):
    def slow(asked):
        time.sleep(0.3)
        return good(asked)

    with (
        daemon(tmp_path, slow, good) as (_, address),
        client.Client(address, "cloud", fallback=Rule(), timeout=0.1) as asking,
    ):
        assert asking.decide(SEEN, seq=1).local
        time.sleep(0.4)
        assert asking.decide(SEEN, seq=2).decision == "d2"


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        {"action": np.full(N, 99)},
        {"action": np.full(N, -1)},
        {"action": np.zeros(N + 1, np.int64)},
        {"action": np.zeros((N, 1), np.int64)},
        {"action": np.full(N, np.nan, np.float32)},
        {"action": None},
        {"source": np.zeros(2, np.int8)},
        {"cause": None},
    ],
)
def test_an_infeasible_answer_is_never_executed(tmp_path, unix, change):
    with daemon(tmp_path, lambda asked: good(asked, **change), unix=unix) as (_, address):
        answer = ask(address, fallback=Rule())
        assert answer.local and answer.attempts == 3 and (answer.actions == 0).all()
        with pytest.raises(client.Unavailable):
            ask(address)


def test_an_action_of_an_inactive_agent_is_infeasible():
    seen = replace(SEEN, active=np.zeros(N, np.bool_), mask=np.ones_like(SEEN.mask))
    assert infeasible(seen, np.zeros(N, np.int64)) == ""
    actions = np.zeros(N, np.int64)
    actions[4] = 2
    assert infeasible(seen, actions) == "row 4 has action 2"
    assert infeasible(replace(seen, active=~seen.active), actions) == ""


def test_set_points_are_checked_against_their_box():
    low = np.zeros((N, 2), np.float32)
    seen = replace(SEEN, low=low, high=low + 1)
    actions = low + np.float32(0.5)
    assert infeasible(seen, actions) == ""
    for wrong in (np.nan, 1.5, -0.1):
        changed = actions.copy()
        changed[3, 1] = wrong
        assert infeasible(seen, changed).startswith("row 3")
    assert "expected set-points" in infeasible(seen, np.zeros(N, np.int64))


@BOTH
def test_a_wrong_request_is_told_and_does_not_open_the_circuit(tmp_path, unix):
    with daemon(tmp_path, refusal("shape"), unix=unix) as (served, address):
        with pytest.raises(client.Refused) as caught:
            ask(address)
        assert caught.value.problem["code"] == "shape"
        with client.Client(address, "cloud", fallback=Rule(), timeout=5) as guarded:
            for _ in range(5):
                answer = guarded.decide(SEEN)
                assert answer.local and answer.problem == "shape: scripted" and answer.attempts == 1
            assert guarded.circuit.closed
        assert len(served.seen) == 6


def test_a_connection_that_the_daemon_closes_is_opened_again(tmp_path):
    with daemon(tmp_path, good) as (served, address):
        served.keep = False
        with client.Client(address, "cloud", timeout=5) as asking:
            assert [asking.decide(SEEN, seq=k).attempts for k in range(3)] == [1, 1, 1]
        assert served.connections == 3


def test_a_decision_is_not_executed_for_another_observation(tmp_path):
    """A bridge that uses a seq twice gets the daemon's old answer; the client notices."""
    old = good(replace(request(5), seq=3))
    other = replace(SEEN, agent=SEEN.agent + 1)
    with daemon(tmp_path, old) as (_, address), ExitStack() as closing:
        asking = client.Client(address, "cloud", fallback=Rule(), timeout=5)
        closing.enter_context(asking)
        assert not asking.decide(SEEN, seq=3).local
        assert not asking.decide(SEEN, seq=3).local  # its answer was lost, say
        answer = asking.decide(other, seq=3)
        assert answer.local and "d3 was made for another observation" in answer.problem
        assert asking.circuit.closed
    assert len(asking._decided) == 1


def test_something_else_on_the_port(tmp_path):
    with daemon(tmp_path, "html") as (_, address):
        answer = ask(address, fallback=Rule())
        assert answer.local and "text/html" in answer.problem


def test_the_circuit_opens_and_comes_back(tmp_path):
    clock = [0.0]
    circuit = client.Circuit(failures=2, pause=1.0, clock=lambda: clock[0])
    rule = Rule()
    script = ["close"] * 7
    with daemon(tmp_path, *script, good) as (served, address), ExitStack() as closing:
        asking = client.Client(address, "cloud", fallback=rule, timeout=5, circuit=circuit)
        closing.enter_context(asking)
        assert [asking.decide(SEEN, seq=k).attempts for k in range(4)] == [3, 3, 0, 0]
        assert not circuit.closed and len(served.seen) == 6
        clock[0] = 1.0  # one probe, which fails: the pause doubles
        assert asking.decide(SEEN, seq=4).attempts == 1
        clock[0] = 2.9
        answer = asking.decide(SEEN, seq=5)
        assert answer.attempts == 0 and answer.problem == "circuit open"
        clock[0] = 3.0
        answer = asking.decide(SEEN, seq=6)
        assert not answer.local and answer.attempts == 1 and circuit.closed
        assert rule.asked == 6


def test_nobody_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    begun = time.monotonic()
    answer = ask(f"http://127.0.0.1:{port}", fallback=Rule())
    assert answer.local and "refused" in answer.problem.lower()
    answer = ask(f"unix:{tmp_path}/none", fallback=Rule())
    assert answer.local and "FileNotFound" in answer.problem
    assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize("answer", [np.full(N, 99), ValueError("no"), IndexError("no")])
def test_a_rule_that_fails_too_leaves_everybody_holding(tmp_path, answer):
    class Bad(Rule):
        def act(self, observation, rng):
            if isinstance(answer, Exception):
                raise answer
            return answer

    found = ask(f"unix:{tmp_path}/none", fallback=Bad())
    assert (found.actions == 0).all() and (found.source == Source.HOLD).all()
    assert "the fallback rule failed too" in found.problem


def test_set_points_hold_near_the_last_ones(tmp_path):
    low = np.zeros((N, 1), np.float32)
    seen = replace(SEEN, low=low, high=low + 1, mask=SEEN.mask[:, :0])
    with client.Client(f"unix:{tmp_path}/none", "power", fallback=Rule(), timeout=5) as asking:
        assert (asking.decide(seen).actions == 0.5).all()
        asking._last = low + np.float32(0.9)
        lower = replace(seen, high=low + np.float32(0.6))
        assert (asking.decide(lower).actions == np.float32(0.6)).all()


@pytest.mark.parametrize("where", ["", "localhost:80", "ftp://x", "http://", "unix:"])
def test_addresses_of_another_kind(where):
    with pytest.raises(ValueError, match="expected http"):
        connect(where, "cloud", token=None, context=None)


def test_unix_sockets_take_no_token():
    with pytest.raises(ValueError, match="token"):
        connect("unix:/x", "cloud", token="x" * 3, context=None)


def test_wanted_scores_come_with_what_every_answer_needs(tmp_path):
    scores = np.ones(SEEN.mask.shape, np.float32)
    with daemon(tmp_path, lambda asked: good(asked, preference=scores)) as (_, address):
        answer = ask(address, want=["preference"])
        np.testing.assert_array_equal(answer.preference, scores)


def test_the_domains_own_rule(tmp_path):
    from serving import make_bundle

    make_bundle(tmp_path / "bundle")
    rule = client.baseline(tmp_path / "bundle")
    actions = rule.act(SEEN, np.random.default_rng(0))
    assert infeasible(SEEN, actions) == ""
    assert (actions[SEEN.active & SEEN.mask[:, 1:].any(axis=1)] > 0).any()
