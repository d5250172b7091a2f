"""What breaks inside: a hanging policy, a stalled loop, a defect, overload, a full disk."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from http.client import HTTPConnection

import numpy as np
import pytest
from daemon_process import running
from serving import make_bundle, request

from fairlead.platform.wire import frames

KIND = {"Content-Type": frames.MEDIA_TYPE}

HANG = """
import time
from pathlib import Path
import fairlead.platform.rollout.backends as backends
real = backends.NumpyBackend.__call__
def slow(self, *arguments, **named):
    if Path({flag!r}).exists():
        time.sleep(3.0)
    return real(self, *arguments, **named)
backends.NumpyBackend.__call__ = slow
"""

STALL = """
import time
from pathlib import Path
import fairlead.platform.daemon.slot as slot
real = slot.LiveSlot.decide
def stalling(self, request, **named):
    if request.client == "stall":
        time.sleep(2.5)
    return real(self, request, **named)
slot.LiveSlot.decide = stalling
"""

BROKEN = """
import fairlead.platform.daemon.slot as slot
real = slot.LiveSlot.decide
def broken(self, request, **named):
    if request.client == "break":
        raise ZeroDivisionError("a defect")
    return real(self, request, **named)
slot.LiveSlot.decide = broken
"""

SLOW = """
import time
import fairlead.platform.daemon.slot as slot
real = slot.LiveSlot.decide
def slow(self, request, **named):
    time.sleep(0.01)
    return real(self, request, **named)
slot.LiveSlot.decide = slow
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b").folder


def decide(daemon, asked, **headers):
    body = frames.encode_request(asked)
    return daemon.call("POST", "/v1/decide/cloud", body, {**KIND, **headers})


def wait_for(true, seconds=10.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


def test_a_hanging_policy_is_replaced_in_time_and_comes_back(bundle, tmp_path):
    flag = tmp_path / "hang"
    knobs = [
        "slot.deadline=0.1",
        "slot.simplex.enabled=false",
        "slot.breaker.minimum=3",
        "slot.breaker.open_time=1.5",
        "slot.breaker.probes=2",
    ]
    with running(bundle, tmp_path, knobs, prelude=HANG.format(flag=str(flag))) as daemon:
        connection = HTTPConnection("127.0.0.1", daemon.port, timeout=10)

        def ask(seq):
            body = frames.encode_request(request(5, seq=seq))
            began = time.monotonic()
            connection.request("POST", "/v1/decide/cloud", body, KIND)
            answer = connection.getresponse()
            frame = frames.unpack(
                answer.read(), names={"action": "INT64", "source": "INT8", "cause": "INT8"}
            )
            assert answer.status == 200
            return frame, time.monotonic() - began

        frame, _ = ask(0)
        assert frame.header["outcome"] == "ok"
        flag.touch()
        taken = []
        phases = set()
        mask = request(5).observation.mask
        for seq in range(1, 12):
            frame, took = ask(seq)
            taken.append(took)
            assert frame.header["outcome"] == "fallback"
            assert mask[np.arange(10), frame.tensors["action"]].all()
            phases.add(daemon.get("/v1/state")["domains"]["cloud"]["breaker"]["phase"])
        assert max(taken) < 0.1 + 0.15  # the deadline, and a busy machine
        assert "open" in phases
        assert min(taken) < 0.03  # with the breaker open nobody waits for the policy
        assert daemon.metric("decision_deadline_misses_total", domain="cloud", stage="policy") >= 2
        assert daemon.metric("breaker_trips_total", domain="cloud") >= 1
        assert daemon.get("/v2/health/ready") == {"ready": True}  # it decides, if by the baseline
        flag.unlink()
        seq = [100]

        def recovered():
            seq[0] += 1
            return ask(seq[0])[0].header["outcome"] == "ok"

        wait_for(recovered, 15)
        connection.close()


class Supervisor:
    """What systemd would be: a datagram socket, and what arrived on it."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.sock.setblocking(False)
        self.seen = []

    def read(self):
        try:
            while True:
                self.seen.append((time.monotonic(), self.sock.recv(4096).decode()))
        except BlockingIOError:
            return [text for _, text in self.seen]

    def pings(self):
        self.read()
        return [when for when, text in self.seen if "WATCHDOG=1" in text]


@pytest.fixture
def supervisor(tmp_path):
    made = Supervisor(tmp_path)
    yield made
    made.sock.close()


def test_a_stalled_loop_pings_nobody_and_is_not_ready(bundle, tmp_path, supervisor):
    environment = {"NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": "900000"}
    knobs = ["server.selftest_interval=0.3", "server.selftest_age=1.0"]
    with running(bundle, tmp_path, knobs, prelude=STALL, environment=environment) as daemon:
        assert any("READY=1" in text for text in supervisor.read())
        time.sleep(1.0)
        assert len(supervisor.pings()) >= 2
        connection = HTTPConnection("127.0.0.1", daemon.port, timeout=10)
        body = frames.encode_request(request(5, client="stall", seq=-1))
        began = time.monotonic()
        connection.request("POST", "/v1/decide/cloud", body, KIND)
        assert connection.getresponse().status == 200
        ended = time.monotonic()
        connection.close()
        assert ended - began > 2.0
        pings = supervisor.pings()
        gaps = np.diff(sorted([*pings, ended]))
        assert max(gaps) > 2.0
        wait_for(lambda: daemon.call("GET", "/v2/health/ready")[0] == 200)
        wait_for(lambda: len(supervisor.pings()) > len(pings))
        time.sleep(0.3)
        buckets = daemon.call("GET", "/metrics")[2].decode()
        late = [x for x in buckets.splitlines() if x.startswith("fairlead_event_loop_lag_seconds")]
        within = next(float(x.split()[-1]) for x in late if 'le="1.0"' in x)
        whole = next(float(x.split()[-1]) for x in late if 'le="+Inf"' in x)
        assert whole > within  # the stall was seen
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: any("RELOADING=1" in text for text in supervisor.read()))
        assert daemon.stop() == 0
        assert any("STOPPING=1" in text for text in supervisor.read())


def test_a_stopped_process_is_not_ready_when_it_goes_on(bundle, tmp_path):
    knobs = ["server.selftest_interval=5", "server.selftest_age=1.0"]
    with running(bundle, tmp_path, knobs) as daemon:
        assert daemon.call("GET", "/v2/health/ready")[0] == 200
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        daemon.process.send_signal(signal.SIGCONT)
        status, _, _ = daemon.call("GET", "/v2/health/ready")
        assert status == 503
        state = daemon.get("/v1/state")
        assert "self-test" in state["reason"]
        assert decide(daemon, request(5))[0] == 200  # it can still be asked


def test_a_defect_in_one_request_ends_nothing_else(bundle, tmp_path):
    with running(bundle, tmp_path, prelude=BROKEN) as daemon:
        status, _, body = decide(daemon, request(5, client="break", seq=-1))
        problem = json.loads(body)
        assert (status, problem["code"]) == (500, "internal")
        assert "ZeroDivisionError" not in body.decode()
        assert "ZeroDivisionError: a defect" in daemon.text
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(daemon.frames))
        frame = frames.encode_request(request(5, client="break", seq=-1), domain="cloud")
        sock.sendall(frames.LENGTH.pack(len(frame)) + frame)
        with sock.makefile("rb") as stream:
            (length,) = frames.LENGTH.unpack(stream.read(4))
            answer = frames.unpack(stream.read(length))
            assert answer.header["problem"]["code"] == "internal"
            frame = frames.encode_request(request(5, seq=-1), domain="cloud")
            sock.sendall(frames.LENGTH.pack(len(frame)) + frame)
            (length,) = frames.LENGTH.unpack(stream.read(4))
            answer = frames.unpack(stream.read(length), names={"action": "INT64"} | OUT)
            assert "action" in answer.tensors
        sock.close()
        assert decide(daemon, request(5, seq=-1))[0] == 200


OUT = {"source": "INT8", "cause": "INT8"}


def test_overload_is_refused_at_once_and_the_admitted_are_served_in_time(bundle, tmp_path):
    """Four times the capacity of 100 decisions per second, by an open loop of clients."""
    knobs = ["admission.queue=4", "slot.deadline=0.2"]
    with running(bundle, tmp_path, knobs, prelude=SLOW) as daemon:
        alone = []
        for _ in range(20):
            began = time.monotonic()
            assert decide(daemon, request(5, seq=-1))[0] == 200
            alone.append(time.monotonic() - began)
        results = []
        lock = threading.Lock()
        body = frames.encode_request(request(5, seq=-1))
        begin = time.monotonic() + 0.2

        def client(offset):
            connection = HTTPConnection("127.0.0.1", daemon.port, timeout=10)
            for index in range(40):
                due = begin + offset + index * 0.05
                time.sleep(max(due - time.monotonic(), 0.0))
                connection.request("POST", "/v1/decide/cloud", body, KIND)
                answer = connection.getresponse()
                answer.read()
                with lock:  # from when it was due: a late start is the server's delay, too
                    late = time.monotonic() - due
                    results.append((answer.status, late, answer.getheader("Retry-After")))
            connection.close()

        threads = [threading.Thread(target=client, args=(i * 0.0025,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        good = [took for status, took, _ in results if status == 200]
        bad = [(took, after) for status, took, after in results if status == 503]
        assert len(good) + len(bad) == len(results) == 800
        assert len(bad) > 200
        assert all(after is not None for _, after in bad)
        # At most a turn, a queue of four and the client's own lateness.
        assert np.median(good) < 6 * np.median(alone) + 0.1
        assert np.median([took for took, _ in bad]) < np.median(good)
        rejected = daemon.metric("requests_rejected_total", domain="cloud", reason="overload")
        assert rejected == len(bad)
        time.sleep(0.3)
        assert daemon.metric("queue_length", domain="cloud") == 0
        assert daemon.metric("inflight_requests", domain="cloud") == 0


def test_an_audit_that_cannot_be_written_stops_decisions_if_that_is_asked_for(bundle, tmp_path):
    refusing = """
import fairlead.platform.audit.stream as stream
def fail(self, *arguments):
    raise OSError(28, "No space left on device")
stream.Stream.write = fail
"""
    with running(bundle, tmp_path, ["audit.on_error=stop"], prelude=refusing) as daemon:
        wait_for(lambda: not daemon.get("/v1/state")["audit"]["healthy"])
        status, headers, body = decide(daemon, request(5, seq=1))
        assert (status, json.loads(body)["code"]) == (503, "audit")
        assert headers["Retry-After"]
        assert daemon.get("/v1/state")["domains"]["cloud"]["ticks"] == 0
    away = tmp_path / "second"
    away.mkdir()
    with running(bundle, away, prelude=refusing) as daemon:
        assert decide(daemon, request(5, seq=1))[0] == 200
        wait_for(lambda: not daemon.get("/v1/state")["audit"]["healthy"])
        assert decide(daemon, request(5, seq=2))[0] == 200


def test_a_damaged_bundle_never_gets_to_serve(bundle, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-3] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    with running(bundle, tmp_path) as daemon:
        before = daemon.get("/v1/state")["domains"]["cloud"]["bundle"]
        status, said = daemon.act("cloud", "load", path=str(copy))
        assert (status, said["code"]) == (409, "digest")
        assert daemon.get("/v1/state")["domains"]["cloud"]["bundle"] == before
        time.sleep(0.3)
        assert daemon.metric("policy_loads_total", domain="cloud", result="digest") == 1
        assert decide(daemon, request(5, seq=1))[0] == 200
