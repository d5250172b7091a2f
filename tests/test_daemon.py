"""The daemon end to end: decisions over every way in, looking, operating, restarting, ending."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from daemon_process import running, start
from serving import make_bundle, request

from fairlead.platform.daemon.main import _routes
from fairlead.platform.daemon.outcomes import Outcomes
from fairlead.platform.daemon.settings import ServeConfig
from fairlead.platform.wire import frames

KIND = {"Content-Type": frames.MEDIA_TYPE}
OUT = {"action": "INT64", "source": "INT8", "cause": "INT8"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b").folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("other") / "b", seed=2).folder


@pytest.fixture(scope="module")
def daemon(bundle, tmp_path_factory):
    # A generous deadline: what is tested here is what is answered, not how fast a busy machine is.
    with running(bundle, tmp_path_factory.mktemp("daemon"), ["slot.deadline=2"]) as found:
        yield found
        assert found.stop() == 0
        assert "Traceback" not in found.text


def decide(daemon, asked, **headers):
    body = frames.encode_request(asked)
    return daemon.call("POST", "/v1/decide/cloud", body, {**KIND, **headers})


def unpack(body):
    return frames.unpack(body, names=OUT)


class FrameClient:
    """A connection to the frame socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")

    def ask(self, body):
        self.sock.sendall(struct.pack("<I", len(body)) + body)
        return self.read()

    def read(self):
        head = self.file.read(4)
        return self.file.read(struct.unpack("<I", head)[0]) if len(head) == 4 else None

    def close(self):
        self.file.close()
        self.sock.close()


def infer_body(seq, index=5):
    seen = request(index).observation
    tensors = {"agent": seen.agent, "candidates": seen.candidates, "mask": seen.mask}
    inputs = [
        {
            "name": name,
            "datatype": "BOOL" if array.dtype == bool else "FP32",
            "shape": list(array.shape),
            "data": array.reshape(-1).tolist(),
        }
        for name, array in {**tensors, "active": seen.active}.items()
    ]
    return {"inputs": inputs, "parameters": {"client": "oip", "seq": seq}}


def test_the_same_decision_over_every_way_in(daemon):
    asked = request(5, seq=-1, seed=7)
    status, headers, body = decide(daemon, asked)
    assert status == 200, body
    first = unpack(body)
    actions = first.tensors["action"]
    assert asked.observation.mask[np.arange(10), actions].all()
    assert headers["Fairlead-Outcome"] == first.header["outcome"]
    assert headers["Fairlead-Decision"].startswith("cloud-")
    client = FrameClient(daemon.frames)
    over_socket = unpack(client.ask(frames.encode_request(asked, domain="cloud")))
    client.close()
    document = infer_body(-1)
    document["parameters"] = {"client": "test", "episode": "e", "seed": 7}
    status, _, body = daemon.call("POST", "/v2/models/cloud/infer", json.dumps(document))
    assert status == 200, body
    (action,) = [out for out in json.loads(body)["outputs"] if out["name"] == "action"]
    assert over_socket.tensors["action"].tolist() == actions.tolist() == action["data"]


def test_a_repeated_seq_is_answered_from_memory_and_an_older_one_refused(daemon):
    first = decide(daemon, request(5, seq=10))
    again = decide(daemon, request(6, seq=10))  # whatever it now says
    assert first[1]["Fairlead-Decision"] == again[1]["Fairlead-Decision"]
    assert (
        unpack(first[2]).tensors["action"].tolist() == unpack(again[2]).tensors["action"].tolist()
    )
    status, _, body = decide(daemon, request(5, seq=9))
    assert (status, json.loads(body)["code"]) == (409, "order")
    assert decide(daemon, request(6, seq=11))[0] == 200


def test_wrong_requests_say_what_is_wrong(daemon):
    for body, code in ((b"", "frame"), (b"FLD1", "frame"), (b"FLD1" + b"\xff" * 100, "frame")):
        status, _, text = daemon.call("POST", "/v1/decide/cloud", body, KIND)
        assert (status, json.loads(text)["code"]) == (400, code)
    document = infer_body(-1)
    document["inputs"][0]["shape"] = [3, 3]
    status, _, text = daemon.call("POST", "/v2/models/cloud/infer", json.dumps(document))
    assert (status, json.loads(text)["code"]) == (400, "shape")
    status, _, text = daemon.call("POST", "/v1/decide/power", b"", KIND)
    assert (status, json.loads(text)["code"]) == (404, "not_found")
    status, _, text = daemon.call("POST", "/v1/state", b"")
    assert (status, json.loads(text)["code"]) == (405, "method")
    client = FrameClient(daemon.frames)
    for header, code in (({"domain": "power"}, "not_found"), ({"domain": 5}, "not_found")):
        problem = frames.unpack(client.ask(frames.pack(header, {}))).header["problem"]
        assert problem["code"] == code
    client.sock.sendall(struct.pack("<I", 2**31))
    assert frames.unpack(client.read()).header["problem"]["code"] == "size"
    assert client.read() is None  # and closed
    client.close()


def test_everything_can_be_looked_at(daemon):
    status, headers, _ = decide(daemon, request(5, seq=20))
    assert status == 200
    entry = daemon.get(f"/v1/entry/{headers['Fairlead-Decision']}")
    assert len(entry["actions"]) == 10
    assert entry["bundle"] and entry["principal"] == "local"
    assert daemon.get("/v1/decisions/cloud?limit=1")["decisions"][0]["seq"] == 20
    page = daemon.get("/v1/agents/cloud?offset=4&limit=3")
    assert [row["agent"] for row in page["agents"]] == [4, 5, 6]
    assert page["total"] == 10
    assert page["agents"][0]["decision"] == entry["decision"]
    assert daemon.call("GET", "/v1/agents/cloud?limit=0")[0] == 400
    assert daemon.call("GET", "/v1/agents/cloud?offset=-1")[0] == 400
    state = daemon.get("/v1/state")
    assert state["ready"] is True
    assert state["domains"]["cloud"]["ticks"] > 0
    assert state["domains"]["cloud"]["rollout"]["champion"]["digest"]
    assert daemon.get("/v2")["name"] == "fairlead"
    model = daemon.get("/v2/models/cloud")
    assert daemon.get(f"/v2/models/cloud/versions/{model['versions'][0]}/ready")["ready"] is True
    assert daemon.call("GET", "/v2/models/cloud/versions/000000000000/ready")[0] == 404
    path = "/v2/models/cloud/versions/000000000000/infer"
    assert daemon.call("POST", path, json.dumps(infer_body(-1)))[0] == 409


def test_the_description_names_every_route_that_there_is(daemon):
    paths = daemon.get("/openapi.json")["paths"]
    for path, item in paths.items():
        if path == "/v1/events":
            continue
        concrete = path.replace("{domain}", "cloud").replace("{version}", "0")
        concrete = concrete.replace("{id}", "x").replace("{uid}", "x")
        for method in item.keys() - {"parameters"}:
            status, _, body = daemon.call(method.upper(), concrete)
            assert status != 405, path
            if status == 404:
                assert b"no such route" not in body, path
            assert str(status) in item[method]["responses"], (path, status)


def test_every_route_that_there_is_stands_in_the_description(daemon):
    """The other way round; the operator page's own routes are not for programs."""
    settings = ServeConfig.model_validate({"page": {"enabled": False}})
    outcomes = Outcomes(slots={}, meter=None, hub=None, recorder=None, budgets=None)
    table = _routes(SimpleNamespace(settings=settings, slots={}, outcomes=outcomes))
    described = daemon.get("/openapi.json")["paths"]
    listed = {(m, r.path.replace(":path", "")) for r in table for m in r.methods - {"HEAD"}}
    assert len(listed) >= 20 and ("PUT", "/v1/cluster/{domain}/nodes") in listed
    missing = [each for each in listed if each[0].lower() not in described.get(each[1], {})]
    assert missing == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v2/models/cloud/infer", "POST"),
        ("GET", "/v2/models/cloud/versions/0/infer", "POST"),
        ("DELETE", "/v1/decide/cloud", "POST"),
        ("POST", "/v1/state", "GET, HEAD"),
        ("PATCH", "/metrics", "GET, HEAD"),
        ("POST", "/v1/cluster/cloud/nodes", "PUT"),
        ("GET", "/v1/extender/cloud/filter", "POST"),
        ("PUT", "/static/page.css", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_ones_there_are(daemon, method, path, allow):
    status, headers, body = daemon.call(method, path)
    assert (status, headers["Allow"], json.loads(body)["code"]) == (405, allow, "method")


def test_metrics_count_what_was_decided(daemon):
    before = daemon.metric("decision_ticks_total", domain="cloud", outcome="ok") or 0
    fallback = daemon.metric("decision_ticks_total", domain="cloud", outcome="fallback") or 0
    degraded = daemon.metric("decision_ticks_total", domain="cloud", outcome="degraded") or 0
    agents = sum(
        daemon.metric("decisions_total", domain="cloud", source=name) or 0
        for name in ("policy", "projected", "previous", "baseline", "hold", "safe")
    )
    assert agents == 10 * (before + fallback + degraded)
    for _ in range(3):
        assert decide(daemon, request(5, seq=-1))[0] == 200
    time.sleep(0.3)  # the exposition is cached for 250 ms
    after = sum(
        daemon.metric("decision_ticks_total", domain="cloud", outcome=name) or 0
        for name in ("ok", "fallback", "degraded")
    )
    assert after == before + fallback + degraded + 3
    assert daemon.metric("selftest_timestamp_seconds", domain="cloud") > time.time() - 30
    assert daemon.metric("build_info") == 1
    assert daemon.metric("event_loop_lag_seconds_count") > 0
    assert daemon.metric("http_requests_total", route="/v1/decide/{domain}", code="2xx") >= 3


def test_events_are_streamed_as_they_happen(daemon):
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    connection.request("GET", "/v1/events")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type").startswith("text/event-stream")
    time.sleep(0.3)
    decide(daemon, request(5, seq=-1))
    daemon.act("cloud", "fallback")
    seen = []
    while "operate" not in seen:
        line = answer.readline().decode()
        if line.startswith("event:"):
            seen.append(line.split()[1])
    assert "decision" in seen
    connection.close()
    assert daemon.act("cloud", "resume")[0] == 200


def test_an_operator_can_force_the_fallback_and_drain_a_domain(daemon):
    status, said = daemon.act("cloud", "fallback", dry_run=True)
    assert (status, said["forced"], said["dry_run"]) == (200, True, True)
    assert daemon.get("/v1/state")["domains"]["cloud"]["safety"]["forced"] is False
    assert daemon.act("cloud", "fallback")[0] == 200
    entry = daemon.get(f"/v1/entry/{decide(daemon, request(5, seq=-1))[1]['Fairlead-Decision']}")
    active = request(5).observation.active
    assert {c for c, a in zip(entry["cause"], active, strict=True) if a} == {9}
    assert daemon.act("cloud", "drain")[0] == 200
    status, headers, body = decide(daemon, request(5, seq=-1))
    assert (status, json.loads(body)["code"], headers["Retry-After"]) == (503, "not_ready", "1")
    assert daemon.call("GET", "/v2/health/ready")[0] == 503
    assert daemon.act("cloud", "resume")[0] == 200
    assert decide(daemon, request(5, seq=-1))[0] == 200
    assert daemon.act("cloud", "explode")[0] == 404
    assert daemon.act("nowhere", "fallback")[0] == 404
    assert daemon.act("cloud", "fallback", surprise=1)[0] == 409


def test_a_new_bundle_is_swapped_in_under_load_without_a_failure(daemon, bundle, other):
    digests = {
        json.loads((Path(b) / "manifest.json").read_text())["digest"] for b in (bundle, other)
    }
    stop, found, failed = threading.Event(), [], []

    def load():
        while not stop.is_set():
            status, headers, body = decide(daemon, request(5, seq=-1))
            if status != 200:
                failed.append(body)
            else:
                found.append((headers["Fairlead-Bundle"], unpack(body).header["bundle"]))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for folder in (other, bundle, other, bundle):
            status, said = daemon.act("cloud", "load", path=str(folder))
            assert status == 200, said
            status, said = daemon.act("cloud", "promote", bundle=said["digest"])
            assert status == 200, said
            assert daemon.get("/v1/state")["domains"]["cloud"]["bundle"] == said["digest"]
        status, said = daemon.act("cloud", "load", path="/does/not/exist")
        assert status == 409
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert {pair[0] for pair in found} == digests
    assert all(one == two for one, two in found)


def resident(daemon):
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_it_is_small_and_has_no_learning_packages(daemon):
    maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
    assert "numpy" in maps
    for name in ("torch", "scipy", "polars", "pyomo", "matplotlib", "highspy"):
        assert f"/{name}/" not in maps, name
    assert resident(daemon) < 150 * 1024


def test_it_is_ready_soon(daemon):
    assert daemon.seconds < 2.0 * max(1.0, os.getloadavg()[0])  # 2 s on a machine of its own


# Beginning and ending.


def test_a_restart_goes_on_where_the_last_run_stopped(bundle, tmp_path):
    with running(bundle, tmp_path) as daemon:
        for seq in range(3):
            assert decide(daemon, request(5 + seq, seq=seq))[0] == 200
        daemon.act("cloud", "fallback")
        before = daemon.get("/v1/state")["domains"]["cloud"]
        assert daemon.stop() == 0
        assert not daemon.admin.exists() and not daemon.frames.exists()
        assert '"boot"' not in daemon.text
    # From the registry alone, killed this time.
    with running(None, tmp_path) as daemon:
        state = daemon.get("/v1/state")["domains"]["cloud"]
        assert (state["ticks"], state["bundle"]) == (3, before["bundle"])
        assert state["safety"]["forced"] is True
        status, _, body = decide(daemon, request(5, seq=2))
        assert (status, json.loads(body)["code"]) == (409, "order")
        assert decide(daemon, request(5, seq=3))[0] == 200
        time.sleep(1.5)  # state.save_every
        daemon.process.kill()
        daemon.process.wait()
    with running(None, tmp_path) as daemon:
        assert daemon.get("/v1/state")["domains"]["cloud"]["ticks"] == 4
        assert decide(daemon, request(5, seq=4))[0] == 200


def test_drain_answers_all_that_was_accepted(bundle, tmp_path):
    answers, refused, stop = [], [], threading.Event()
    with running(bundle, tmp_path, ["slot.deadline=5"]) as daemon:  # busy machines may be slow

        def client(index):
            connection = HTTPConnection("127.0.0.1", daemon.port, timeout=10)
            seq = 0
            while not stop.is_set():
                seq += 1
                body = frames.encode_request(request(5, seq=seq, client=f"c{index}"))
                try:
                    connection.request("POST", "/v1/decide/cloud", body, KIND)
                except OSError as error:  # nobody listens any more
                    refused.append(error)
                    return
                answer = connection.getresponse()  # must come: the request was accepted
                answer.read()
                answers.append((answer.status, answer.getheader("Connection")))
                if answer.getheader("Connection") == "close":
                    connection.close()

        failures = []

        def guarded(index):
            try:
                client(index)
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        began = time.monotonic()
        assert daemon.stop() == 0
        took = time.monotonic() - began
        stop.set()
        for thread in threads:
            thread.join(10)
        assert failures == []
        assert {status for status, _ in answers} == {200}
        assert any(said == "close" for _, said in answers)
        assert len(refused) == 4
        assert took < 10
    with running(None, tmp_path) as daemon:
        assert daemon.get("/v1/state")["domains"]["cloud"]["ticks"] == len(answers)


def test_a_second_signal_ends_at_once(bundle, tmp_path):
    with (
        running(bundle, tmp_path, ["server.receipt_deadline=8"]) as daemon,
        socket.create_connection(("127.0.0.1", daemon.port)) as sock,
    ):
        line = b"POST /v1/decide/cloud HTTP/1.1\r\nHost: localhost\r\n"
        sock.sendall(line + b"Content-Length: 9\r\n\r\nab")
        time.sleep(0.2)
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert daemon.process.poll() is None  # waits for the rest of what it has accepted
        began = time.monotonic()
        assert daemon.stop(timeout=5) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 1.0


def test_one_state_folder_and_one_port_for_one_daemon(bundle, tmp_path):
    with running(bundle, tmp_path) as daemon:
        with pytest.raises(RuntimeError, match="in use by another daemon"):
            start(bundle, tmp_path)
        away = tmp_path / "other"
        away.mkdir()
        with pytest.raises(RuntimeError, match=r"server\.port"):
            start(bundle, away, [f"server.port={daemon.port}"])
        with pytest.raises(RuntimeError, match="another process listens"):
            start(bundle, away, [f"server.admin={daemon.admin}"])
        assert daemon.get("/v2/health/live") == {"live": True}


def test_a_reload_applies_what_is_safe_and_refuses_the_rest(bundle, tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text("[admission]\nrate = 0\n")
    with running(bundle, tmp_path, arguments=["--config", str(file)]) as daemon:

        def reload(text):
            seen = daemon.text.count("reload")
            file.write_text(text)
            daemon.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 5
            while daemon.text.count("reload") == seen:
                assert time.monotonic() < end
                time.sleep(0.02)

        reload("[admission]\nrate = 1e-3\nburst = 2\n[page]\nenabled = false\n")
        assert "page.enabled needs a restart" in daemon.text
        codes = [decide(daemon, request(5, seq=-1))[0] for _ in range(4)]
        assert codes == [200, 200, 429, 429]
        _, headers, body = decide(daemon, request(5, seq=-1))
        assert json.loads(body)["code"] == "quota" and int(headers["Retry-After"]) > 100
        reload("[admission]\nrate = -1\n")
        assert "nothing has changed" in daemon.text and "admission.rate" in daemon.text
        assert decide(daemon, request(5, seq=-1))[0] == 429
        reload("[admission]\nrate = 0\n[slot]\ndeadline = 0.2\nbackend = 'onnx'\n")
        assert decide(daemon, request(5, seq=-1))[0] == 200
        assert "slot.backend needs a restart" in daemon.text
        time.sleep(0.3)
        assert daemon.metric("decision_deadline_seconds", domain="cloud") == 0.2
