"""The wall clock jumps an hour under a running daemon; hundred scrapers at once."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
import pytest
from daemon_process import running
from serving import make_bundle, request

from fairlead.platform.decision.seeds import generator
from fairlead.platform.decision.types import Cause
from fairlead.platform.wire import frames

KIND = {"Content-Type": frames.MEDIA_TYPE}
OUT = {"action": "INT64", "source": "INT8", "cause": "INT8"}
DEADLINE = 2.0
# An untrained policy costs more than the look-ahead and the range gate allow.
KNOBS = ("slot.deadline=2", "slot.simplex.enabled=false", "slot.drift.enabled=false")
LIBRARY = sorted(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


def decide(daemon, asked):
    status, _, body = daemon.call(
        "POST", "/v1/decide/cloud", frames.encode_request(asked), KIND
    )  # fmt: skip
    return status, frames.unpack(body, names=OUT) if status == 200 else json.loads(body)


class WallClock:
    """What the daemon takes for the time; its monotonic clock stays the machine's."""

    def __init__(self, folder):
        self._file = folder / "offset"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": LIBRARY[-1],
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds):
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.replace(self._file)


@pytest.mark.skipif(not LIBRARY, reason="libfaketime is not installed")
def test_steps_of_an_hour_change_neither_deadlines_nor_the_order(bundle, tmp_path):
    wall, actor = WallClock(tmp_path), bundle.actor()
    with running(bundle.folder, tmp_path, KNOBS, environment=wall.environment) as daemon:
        seq = 0
        for hours in (0, 1, -1, 0):
            wall.set(3600 * hours)
            # It is the daemon's clock that jumped, not ours: the steps are real.
            seen = daemon.get("/v1/state")["now"] - time.time()
            assert seen == pytest.approx(3600 * hours, abs=5)
            for _ in range(3):
                seq += 1
                asked = replace(request(seq, seq=seq, seed=seq), observed=None)
                status, answer = decide(daemon, asked)
                assert status == 200
                assert answer.header["outcome"] == "ok" and answer.header["mode"] == "policy"
                assert 0.0 < answer.header["deadline_left_ms"] <= 1000 * DEADLINE
                expected = actor.act(asked.observation, generator(seq))
                np.testing.assert_array_equal(answer.tensors["action"], expected)
            repeated = replace(request(seq, seq=seq, seed=seq), observed=None)
            assert decide(daemon, repeated)[1].header["decision"] == answer.header["decision"]
            status, problem = decide(daemon, request(3, seq=0, seed=3))
            assert (status, problem["code"]) == (409, "order")
            time.sleep(1.2 if hours else 0.0)  # self-tests go by the monotonic clock
            assert daemon.call("GET", "/v2/health/ready")[0] == 200
        wall.set(3600)
        asked = replace(request(1, seq=seq + 1), observed=time.time())
        answer = decide(daemon, asked)[1]
        # What bears a time stamp is an hour old by that clock, and so it is the baseline's.
        active = asked.observation.active
        assert (answer.tensors["cause"][active] == Cause.STALE).all()
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.text
    wall.set(-3600)  # the saved state is two hours in the future
    with running(None, tmp_path, KNOBS, environment=wall.environment) as daemon:
        assert daemon.get("/v1/state")["domains"]["cloud"]["ticks"] == seq + 1
        assert decide(daemon, replace(request(2, seq=seq + 2, seed=1), observed=None))[0] == 200
        assert daemon.stop() == 0


def latencies(daemon, count, first):
    """Seconds of decisions over one connection."""
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    found = []
    for seq in range(first, first + count):
        body = frames.encode_request(request(seq, seq=seq))
        began = time.perf_counter()
        connection.request("POST", "/v1/decide/cloud", body, KIND)
        answer = connection.getresponse()
        assert answer.read() and answer.status == 200
        found.append(time.perf_counter() - began)
        time.sleep(0.01)
    connection.close()
    return np.array(found)


@pytest.mark.slow
def test_a_hundred_scrapers_leave_the_decisions_their_time(bundle, tmp_path):
    """Each scrapes twice a second, thirty times as often as Prometheus does."""
    with running(bundle.folder, tmp_path, KNOBS) as daemon:
        latencies(daemon, 100, 0)  # warm
        alone = latencies(daemon, 600, 1000)
        stop, sizes, failures = threading.Event(), [], []

        def scrape(offset):
            connection = HTTPConnection("127.0.0.1", daemon.port, timeout=30)
            stop.wait(offset)
            while not stop.is_set():
                try:
                    connection.request("GET", "/metrics")
                    answer = connection.getresponse()
                    sizes.append(len(answer.read()))
                    assert answer.status == 200
                except (OSError, HTTPException, AssertionError) as error:
                    failures.append(error)
                    return
                stop.wait(0.5)
            connection.close()

        scrapers = [threading.Thread(target=scrape, args=(i / 200,)) for i in range(100)]
        for each in scrapers:
            each.start()
        time.sleep(1.0)
        crowded = latencies(daemon, 600, 5000)
        stop.set()
        for each in scrapers:
            each.join(30)
        assert failures == [] and len(sizes) > 500 and min(sizes) > 1000
        before, after = np.quantile(alone, 0.99), np.quantile(crowded, 0.99)
        # The scrapers themselves take the test's processor too; a tick lasts a second.
        assert after < max(3 * before, 0.025), (before, after)
        assert daemon.stop() == 0
