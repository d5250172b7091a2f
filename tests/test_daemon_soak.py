"""Long runs: two hundred reloads under load, ten minutes of everything, with flat figures."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import socket
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from daemon_process import running
from serving import make_bundle, request

from fairlead.platform.wire import frames

KIND = {"Content-Type": frames.MEDIA_TYPE}
RELOADS = 200
SOAK = float(os.environ.get("FAIRLEAD_SOAK_SECONDS", "600"))
# A generous deadline: refusals for lateness belong to other tests.
KNOBS = ("slot.deadline=5", "state.history=4", "audit.segment=8", "audit.keep=2")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    good = [make_bundle(folder / f"good{seed}", seed=seed).folder for seed in (1, 2, 3)]
    bad = folder / "bad"
    shutil.copytree(good[0], bad)
    data = bytearray((bad / "weights.safetensors").read_bytes())
    data[-2] ^= 4
    (bad / "weights.safetensors").write_bytes(data)
    return good, bad


def figures(daemon):
    """Resident memory (MiB), open descriptors, threads and metric series."""
    process = Path(f"/proc/{daemon.process.pid}")
    lines = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    _, _, text = daemon.call("GET", "/metrics")
    series = sum(not line.startswith("#") for line in text.decode().splitlines())
    memory = int(lines["VmRSS"].split()[0]) / 1024
    return memory, len(list((process / "fd").iterdir())), int(lines["Threads"]), series


class Load(threading.Thread):
    """Asks for decisions over one kept-alive connection until it is told to stop."""

    def __init__(self, daemon, name):
        super().__init__(name=name)
        self.daemon_process, self.stopped = daemon, threading.Event()
        self.bundles, self.failures, self.count = set(), [], 0

    def run(self):
        connection = HTTPConnection("127.0.0.1", self.daemon_process.port, timeout=30)
        while not self.stopped.is_set():
            self.count += 1
            body = frames.encode_request(request(self.count, client=self.name, seq=self.count))
            connection.request("POST", "/v1/decide/cloud", body, KIND)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200:
                self.failures.append((answer.status, data))
                continue
            names = {"action": "INT64", "source": "INT8", "cause": "INT8"}
            frame = frames.unpack(data, names=names)
            mask = request(self.count).observation.mask
            if not mask[np.arange(10), frame.tensors["action"]].all():
                self.failures.append("not feasible")
            if frame.header["bundle"] != answer.getheader("Fairlead-Bundle"):
                self.failures.append("mixed versions")
            self.bundles.add(frame.header["bundle"])
        connection.close()

    def finish(self):
        self.stopped.set()
        self.join(60)
        assert self.failures == []


def promote(daemon, folder):
    status, said = daemon.act("cloud", "load", path=str(folder))
    assert status == 200, said
    status, said = daemon.act("cloud", "promote", bundle=said["digest"])
    assert status == 200, said
    return said["digest"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_reloads_of_good_and_bad_bundles_under_load(bundles, tmp_path):
    good, bad = bundles
    with running(good[0], tmp_path, KNOBS) as daemon:
        load = [Load(daemon, f"c{index}") for index in range(2)]
        for each in load:
            each.start()
        served = set()
        early = None
        for index in range(RELOADS):
            if index % 4 == 3:
                before = daemon.get("/v1/state")["domains"]["cloud"]["bundle"]
                status, said = daemon.act("cloud", "load", path=str(bad))
                assert (status, said["code"]) == (409, "digest")
                assert daemon.get("/v1/state")["domains"]["cloud"]["bundle"] == before
            else:
                served.add(promote(daemon, good[(index + 1) % 3]))
            if index == RELOADS // 4:
                early = figures(daemon)
        late = figures(daemon)
        for each in load:
            each.finish()
        assert served == set.union(*(each.bundles for each in load)) | served
        assert len(served) == 3
        assert late[0] - early[0] < 15, (early, late)  # MiB over 150 reloads
        assert abs(late[1] - early[1]) <= 4, (early, late)
        assert abs(late[2] - early[2]) <= 4, (early, late)
        assert daemon.metric("policy_loads_total", domain="cloud", result="digest") == RELOADS / 4
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_minutes_of_everything_leave_memory_descriptors_and_series_flat(bundles, tmp_path):
    good, bad = bundles
    rng, turn = random.Random(5), itertools.cycle([good[1], good[2], good[0]])
    with running(good[0], tmp_path, KNOBS) as daemon:
        load = [Load(daemon, f"c{index}") for index in range(2)]
        for each in load:
            each.start()
        seen = []
        began = time.monotonic()
        acts = (
            lambda: promote(daemon, next(turn)),
            lambda: daemon.act("cloud", "load", path=str(bad)),
            lambda: daemon.call("POST", "/v1/decide/cloud", rng.randbytes(5000), KIND),
            lambda: daemon.call("POST", "/v2/models/cloud/infer", b"{" * 2000),
            lambda: daemon.call("GET", f"/nowhere/{rng.random()}"),
            lambda: daemon.call("GET", "/v1/state"),
            lambda: daemon.call("GET", "/"),
            lambda: daemon.call("GET", "/metrics"),
            lambda: daemon.call("GET", "/v1/agents/cloud"),
            lambda: half_open(daemon),
            lambda: daemon.process.send_signal(1),
        )
        while time.monotonic() - began < SOAK:
            rng.choice(acts)()
            time.sleep(0.05)
            if not seen or time.monotonic() - began > len(seen) * SOAK / 24:
                seen.append(figures(daemon))
        for each in load:
            each.finish()
        assert daemon.stop() == 0
    half = np.array(seen[len(seen) // 2 :], float)
    slopes = (half[-4:].mean(axis=0) - half[:4].mean(axis=0)).tolist()
    limits = (8.0, 8.0, 3.0, 3.0)  # MiB, descriptors, threads, series: over the second half
    assert all(slope <= limit for slope, limit in zip(slopes, limits, strict=True)), (slopes, seen)
    assert "Traceback" not in daemon.text


def half_open(daemon):
    with socket.create_connection(("127.0.0.1", daemon.port)) as sock:
        sock.sendall(b"POST /v1/decide/cloud HTTP/1.1\r\nHost: localhost\r\nContent-Le")
