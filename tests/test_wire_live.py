"""The codecs against a running daemon: real clients, damaged requests, schemathesis."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from daemon_process import running
from serving import make_bundle, observations, request

from fairlead.platform import client
from fairlead.platform.client.asking import infeasible
from fairlead.platform.decision.seeds import generator
from fairlead.platform.wire import frames

AGENTS = 10
# The look-ahead would take an untrained policy's decisions away, and here they are compared.
PLAIN = ("slot.simplex.enabled=false", "slot.drift.enabled=false", "slot.deadline=5")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("live") / "bundle", agents=AGENTS)


@pytest.fixture(scope="module")
def daemon(bundle, tmp_path_factory):
    with running(bundle.folder, tmp_path_factory.mktemp("daemon"), PLAIN) as found:
        yield found


def in_process(bundle, seen, seed):
    return bundle.actor().act(seen, generator(seed))


@pytest.mark.parametrize("where", ["http", "unix"])
def test_the_client_gets_the_decisions_of_the_policy_in_process(daemon, bundle, where):
    address = daemon.url if where == "http" else f"unix:{daemon.frames}"
    with client.Client(address, "cloud", timeout=10, name=where) as asking:
        for seq, seen in enumerate(observations(AGENTS)):
            answer = asking.decide(seen, seq=seq, seed=seq, want=["preference"])
            assert not answer.local and answer.bundle == bundle.manifest["digest"]
            np.testing.assert_array_equal(answer.actions, in_process(bundle, seen, seq))
            assert (answer.source == 0).all() and answer.outcome == "ok"
            assert answer.preference.shape == seen.mask.shape
        with pytest.raises(client.Refused, match="order"):
            asking.decide(observations(AGENTS)[3], seq=2)


def test_the_same_seq_is_answered_from_memory(daemon):
    """A lost answer: another connection of the same client asks again."""
    seen = observations(AGENTS)[4]
    found = []
    for _ in range(2):
        with client.Client(daemon.url, "cloud", timeout=10, name="again") as asking:
            found.append(asking.decide(seen, seq=7, observed=time.time()))
    assert found[0].decision == found[1].decision
    np.testing.assert_array_equal(found[0].actions, found[1].actions)


def triton_inputs(http, seen, *, binary):
    inputs = []
    for name, kind in (("agent", "FP32"), ("candidates", "FP32"), ("mask", "BOOL"),
                       ("active", "BOOL"), ("target", "INT64")):  # fmt: skip
        array = np.ascontiguousarray(getattr(seen, name))
        tensor = http.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


@pytest.mark.filterwarnings("ignore")  # of a package that is not ours
def test_tritonclient(daemon, bundle):
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    from tritonclient.utils import InferenceServerException

    triton = http.InferenceServerClient(daemon.url.removeprefix("http://"))
    try:
        assert triton.is_server_live() and triton.is_server_ready()
        assert triton.is_model_ready("cloud")
        assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
        described = triton.get_model_metadata("cloud")
        assert described["inputs"][0] == {
            "name": "agent", "datatype": "FP32", "shape": [-1, len(bundle.spec.agent_features)],
        }  # fmt: skip
        for binary in (True, False):
            seen = observations(AGENTS)[6]
            outputs = [
                http.InferRequestedOutput(name, binary_data=binary)
                for name in ("action", "source", "preference")
            ]
            answer = triton.infer(
                "cloud",
                triton_inputs(http, seen, binary=binary),
                outputs=outputs,
                request_id="r1",
                parameters={"seed": 11, "client": f"triton-{binary}", "seq": 1},
            )
            np.testing.assert_array_equal(answer.as_numpy("action"), in_process(bundle, seen, 11))
            assert answer.as_numpy("preference").shape == seen.mask.shape
            assert answer.get_response()["id"] == "r1"
        all_binary = triton.infer("cloud", triton_inputs(http, seen, binary=True))
        assert infeasible(seen, all_binary.as_numpy("action")) == ""
        version = bundle.manifest["digest"][:12]
        inputs = triton_inputs(http, seen, binary=True)
        assert triton.infer("cloud", inputs, model_version=version).get_response()[
            "model_version"
        ] == version  # fmt: skip
        with pytest.raises(InferenceServerException, match="missing: tensor candidates"):
            triton.infer("cloud", inputs[:1])
        with pytest.raises(InferenceServerException):
            triton.infer("cloud", inputs, model_version="0" * 12)
        with pytest.raises(InferenceServerException):
            triton.infer("traffic", inputs)
    finally:
        triton.close()


def http_request(body, kind, path="/v1/decide/cloud", extra=b""):
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*lines, ""]).encode() + extra + b"\r\n" + body


def seeds():
    """Valid requests of every kind to damage."""
    asked = request(5, agents=AGENTS, seq=-1)
    frame = frames.encode_request(replace(asked, deadline=1.0))
    seen = asked.observation
    listed = [
        {"name": name, "datatype": kind, "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, kind, array in (
            ("agent", "FP32", seen.agent), ("candidates", "FP32", seen.candidates),
            ("mask", "BOOL", seen.mask),
        )
    ]  # fmt: skip
    text = json.dumps({"inputs": listed, "parameters": {"seq": 4}}).encode()
    raw = seen.agent.tobytes()
    described = {**listed[0], "parameters": {"binary_data_size": len(raw)}}
    del described["data"]
    head = json.dumps({"inputs": [described, *listed[1:]]}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}\r\n".encode()
    infer = "/v2/models/cloud/infer"
    return [
        http_request(frame, frames.MEDIA_TYPE),
        http_request(text, "application/json", infer),
        http_request(head + raw, "application/octet-stream", infer, length),
        b"GET /v1/decisions/cloud?limit=3 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /v1/agents/cloud?offset=0&limit=5 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /static/../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        http_request(b"5\r\nhello\r\n0\r\n\r\n", "application/json", infer,
                     b"Transfer-Encoding: chunked\r\n"),
    ]  # fmt: skip


# 100 is the answer to a damage that asks whether to go on.
FINE = {0, 100, 200, *range(400, 432), 503}
HOSTILE = (
    b"\0", b"\r\n", b"\r\n\r\n", b"Content-Length: 99999999999\r\n", b"%2e%2e%2f", b"-1", b"1e999",
    b"[[[[[[[[", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"null", b"\xff",
    b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"{}", b'"',
)  # fmt: skip


def damaged(rng, base):
    """One of the requests with one to six small damages."""
    body = bytearray(base)
    for _ in range(rng.integers(1, 7)):
        where = int(rng.integers(0, max(1, min(len(body), 900 if rng.random() < 0.7 else 10**6))))
        act = rng.integers(0, 5)
        if act == 0 and body:
            body[where % len(body)] = int(rng.integers(0, 256))
        elif act == 1:
            del body[where : where + int(rng.integers(1, 60))]
        elif act == 2:
            body[where:where] = HOSTILE[rng.integers(0, len(HOSTILE))]
        elif act == 3:
            body[where:where] = body[where : where + int(rng.integers(1, 200))]
        else:
            body[where:where] = rng.bytes(int(rng.integers(1, 16)))
    return bytes(body)


def first_line(link):
    """Status of an answer; 0 if the daemon closed without one or still waits for the rest."""
    try:
        data = link.recv(65536)
    except (TimeoutError, ConnectionError):
        return 0
    if not data:
        return 0
    version, _, rest = data.partition(b" ")
    assert version in {b"HTTP/1.1", b"HTTP/1.0"}, data[:100]
    return int(rest[:3])


def resident(daemon):
    pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def still_well(daemon, before):
    """It decides as ever, has lost no memory or descriptors, and logged no defect."""
    assert daemon.process.poll() is None
    with client.Client(daemon.url, "cloud", timeout=10, name=f"after-{time.monotonic_ns()}") as ask:
        seen = observations(AGENTS)[2]
        answer = ask.decide(seen, seq=1)
        assert not answer.local and infeasible(seen, answer.actions) == ""
    assert "Traceback" not in daemon.text
    memory, files = before
    assert resident(daemon) < memory + 30
    end = time.monotonic() + 10
    while open_files(daemon) > files + 4 and time.monotonic() < end:
        time.sleep(0.1)
    assert open_files(daemon) <= files + 4


def fuzz(daemon, count, seed):
    """Send damaged requests; how often each status came back."""
    rng = np.random.default_rng(seed)
    bases, found = seeds(), {}
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=5) as link:
            link.sendall(damaged(rng, bases[rng.integers(0, len(bases))]))
            # No more comes: what is unfinished need not wait for its deadline.
            link.shutdown(socket.SHUT_WR)
            status = first_line(link)
        found[status] = found.get(status, 0) + 1
    return found


def test_every_seed_of_the_fuzz_is_what_it_seems(daemon):
    """Otherwise the fuzz would only test the first check."""
    statuses = []
    for base in seeds():
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=5) as link:
            link.sendall(base)
            statuses.append(first_line(link))
    assert statuses[:5] == [200] * 5, statuses
    assert statuses[5] in {400, 404} and statuses[6] == 400


def test_damaged_http_requests(daemon):
    before = resident(daemon), open_files(daemon)
    found = fuzz(daemon, 600, seed=1)
    assert found.keys() <= FINE, found
    assert found.get(400, 0) > 50, found
    still_well(daemon, before)


@pytest.mark.slow
def test_a_hundred_thousand_damaged_http_requests(daemon):
    before = resident(daemon), open_files(daemon)
    found = {}
    end, seed = time.monotonic() + 240, 100
    while sum(found.values()) < 100_000 and time.monotonic() < end:
        for status, count in fuzz(daemon, 2000, seed).items():
            found[status] = found.get(status, 0) + count
        seed += 1
    assert found.keys() <= FINE, found
    assert sum(found.values()) >= 20_000  # on a slow machine; else all of them
    still_well(daemon, before)


def test_damaged_frames_on_the_unix_socket(daemon):
    rng = np.random.default_rng(3)
    before = resident(daemon), open_files(daemon)
    good = frames.encode_request(request(5, agents=AGENTS, seq=-1), domain="cloud")
    codes = {}
    for _ in range(400):
        body = damaged(rng, good)
        length = len(body) if rng.random() < 0.9 else int(rng.integers(0, 2**32))
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(daemon.frames))
            link.sendall(frames.LENGTH.pack(length) + body)
            link.shutdown(socket.SHUT_WR)
            data = b""
            while part := link.recv(65536):
                data += part
        code = "closed"
        if data:
            assert frames.LENGTH.unpack_from(data)[0] == len(data) - 4
            names = dict.fromkeys(("action", "source", "cause", "preference"), "")
            header = frames.unpack(data[4:], names=names).header
            code = header.get("problem", {"code": "ok"})["code"]
        codes[code] = codes.get(code, 0) + 1
    assert "internal" not in codes, codes
    assert len(codes.keys() - {"closed", "ok"}) >= 3, codes
    still_well(daemon, before)


def schemathesis(daemon, folder, *options):
    """Run it on our own description; its exit status and output."""
    # Refusing while not ready is no defect of a server, frames are no format that it knows, and no
    # schema says that a tensor's type follows from its name and its length from its shape.
    config = folder / "schemathesis.toml"
    config.write_text('[checks]\nnot_a_server_error.expected-statuses = ["2xx", "4xx", "503"]\n')
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run",
        f"{daemon.url}/openapi.json", "--exclude-path", "/v1/events", "--exclude-path",
        "/v1/decide/{domain}", "--mode", "all", "--seed", "1", "--request-timeout", "10",
        "--suppress-health-check", "all", "--no-color", "--exclude-checks",
        "positive_data_acceptance", *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False,
        timeout=280,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_description_holds(daemon, tmp_path):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    before = resident(daemon), open_files(daemon)
    status, said = schemathesis(daemon, tmp_path, "--phases", "fuzzing", "--max-examples", "2")
    assert status == 0, said[-6000:]
    still_well(daemon, before)


@pytest.mark.slow
def test_the_description_holds_for_long(daemon, tmp_path):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    before = resident(daemon), open_files(daemon)
    status, said = schemathesis(
        daemon, tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "40"
    )
    assert status == 0, said[-6000:]
    still_well(daemon, before)
