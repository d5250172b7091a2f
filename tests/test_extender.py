"""The extender over HTTP: verbs and feed, bindings at an API server, replay, fail-open, the CLI."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tomllib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import uvicorn
from openb_bundle import live_runtime, make_openb_bundle, node_json, pod_json
from starlette.applications import Starlette

from fairlead.platform.bundle import load_bundle
from fairlead.platform.cli.main import main
from fairlead.platform.daemon.interface import AuditStopped
from fairlead.platform.daemon.settings import KubernetesSettings, ServeConfig
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Rejected
from fairlead.platform.files import UserError
from fairlead.platform.kubernetes import routes
from fairlead.platform.kubernetes.binding import ApiServer, BindingFailed
from fairlead.platform.kubernetes.experiment import InProcess, by_rule, through_http
from fairlead.platform.kubernetes.objects import Pod, read_node, read_pod
from fairlead.platform.kubernetes.remote import ExtenderApi
from fairlead.platform.kubernetes.workload import Size, load_trace

# Without the guards that keep random weights from deciding.
KNOBS = SlotSettings(deadline=5.0, drift={"enabled": False}, simplex={"enabled": False})
SMALL = Size(pods=40, nodes=40, prefill=0.85)


class CoreSlot:
    """The decision core behind the slot's interface."""

    def __init__(self, core):
        self._core, self.runtime, self.principals = core, core.runtime, []
        self.failure = None

    def decide(self, request, *, principal="local", probe=False):
        assert not probe
        if self.failure is not None:
            raise self.failure
        self.principals.append(principal)
        return self._core(request)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openb") / "bundle"
    make_openb_bundle(folder)
    return load_bundle(folder)


class AppClient:
    """Calls an ASGI application without a socket."""

    def __init__(self, daemon):
        self._transport = httpx.ASGITransport(Starlette(routes=routes(daemon)))

    def call(self, method, path, **body):
        async def go():
            base = "http://test"
            async with httpx.AsyncClient(transport=self._transport, base_url=base) as client:
                return await client.request(method, path, **body)

        return asyncio.run(go())

    def post(self, path, **body):
        return self.call("POST", path, **body)

    def put(self, path, **body):
        return self.call("PUT", path, **body)

    def delete(self, path):
        return self.call("DELETE", path)


def daemon(bundle, **kubernetes):
    slot = CoreSlot(InProcess(bundle, KNOBS))
    settings = SimpleNamespace(kubernetes=KubernetesSettings(**kubernetes))
    return SimpleNamespace(slots={"cloud": slot}, settings=settings), slot


@pytest.fixture
def client(bundle):
    made, slot = daemon(bundle)
    found = AppClient(made)
    found.slot = slot
    nodes = [node_json("n0"), node_json("n1", gpus=2), node_json("n2", gpus=4)]
    assert found.put("/v1/cluster/cloud/nodes", json={"items": nodes}).json() == {"nodes": 3}
    return found


def verb(client, name, body):
    return client.post(f"/v1/extender/cloud/{name}", json=body)


def test_a_pod_is_filtered_scored_bound_and_gone(client):
    pod = pod_json("p", gpus=1, share=500)
    asked = {"Pod": pod, "Nodes": None, "NodeNames": ["n0", "n1", "n2"]}
    filtered = verb(client, "filter", asked).json()
    assert filtered["NodeNames"] == ["n1", "n2"]
    answer = verb(client, "prioritize", {**asked, "NodeNames": ["n1", "n2"]})
    scores = answer.json()
    assert [s["Host"] for s in scores] == ["n1", "n2"]
    assert sorted(s["Score"] == 10 for s in scores) == [False, True]
    assert answer.headers["Fairlead-Decision"].startswith("cloud-")
    assert answer.headers["Fairlead-Outcome"] in ("ok", "fallback")
    binding = {"PodName": "p", "PodNamespace": "default", "PodUID": "uid-p", "Node": "n1"}
    assert verb(client, "bind", binding).json() == {"Error": ""}
    whole = {"Pod": pod_json("q", gpus=2), "NodeNames": ["n1"]}
    assert verb(client, "filter", whole).json()["NodeNames"] == []
    assert client.delete("/v1/cluster/cloud/pods/uid-p").json() == {"known": True}
    assert verb(client, "filter", whole).json()["NodeNames"] == ["n1"]
    assert client.delete("/v1/cluster/cloud/pods/uid-p").json() == {"known": False}


def test_malformed_questions_are_told_as_the_protocol_says(client):
    for body in (b"", b"{", b"[]", b'{"Pod": {}}', b'{"Pod": null, "NodeNames": []}'):
        for name in ("filter", "bind"):
            answer = client.post(f"/v1/extender/cloud/{name}", content=body)
            if body in (b"", b"{"):  # no JSON: not yet a question in the protocol
                assert answer.status_code == 400 and answer.json()["detail"]
            else:
                assert answer.status_code == 200 and answer.json()["Error"]
        # The result type of prioritize has no room for an error: the status tells.
        scored = client.post("/v1/extender/cloud/prioritize", content=body)
        assert scored.status_code == 400
        assert scored.headers["content-type"] == "application/problem+json"
        assert client.post("/v1/cluster/cloud/pods", content=body).status_code == 400
        assert client.put("/v1/cluster/cloud/nodes", content=body).status_code == 400
    assert client.delete("/v1/cluster/cloud/pods/x?time=soon").status_code == 400


def test_refusals_of_the_slot_have_their_status(client):
    asked = {"Pod": pod_json("p"), "NodeNames": ["n0"]}
    client.slot.failure = Rejected("shape", "no", 400)
    assert verb(client, "prioritize", asked).json()["code"] == "shape"
    client.slot.failure = AuditStopped("disk full")
    answer = verb(client, "prioritize", asked)
    assert answer.status_code == 503 and answer.json()["retryable"] is True


def test_other_domains_and_other_bundles(bundle):
    made, slot = daemon(bundle)
    client = AppClient(made)
    assert client.put("/v1/cluster/power/nodes", json={"items": []}).status_code == 404
    slot.runtime = SimpleNamespace(live=None, spec=bundle.spec, digest="x")
    answer = client.put("/v1/cluster/cloud/nodes", json={"items": []})
    assert answer.status_code == 503 and "openb" in answer.json()["detail"]


def test_the_cluster_outlives_a_champion(client):
    held = pod_json("p", gpus=2, node="n1")
    assert client.post("/v1/cluster/cloud/pods", json=held).json() == {"pods": 1}
    before = client.slot.runtime
    client.slot.runtime = live_runtime(policy=lambda *_: None)
    assert client.slot.runtime is not before
    whole = {"Pod": pod_json("q", gpus=2), "NodeNames": ["n1", "n2"]}
    assert verb(client, "filter", whole).json()["NodeNames"] == ["n2"]


# -- bindings at an API server


@contextmanager
def api_server(status=201, delay=0.0):
    """A fake API server that keeps what is posted to it."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            time.sleep(delay)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"why")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def bind_through(bundle, url, token=""):
    made, _ = daemon(bundle, api=url, token=token, timeout=0.3)
    client = AppClient(made)
    client.put("/v1/cluster/cloud/nodes", json={"items": [node_json("n1", gpus=2)]})
    pod = pod_json("p", gpus=2)
    verb(client, "filter", {"Pod": pod, "NodeNames": ["n1"]})
    binding = {"PodName": "p", "PodNamespace": "default", "PodUID": "uid-p", "Node": "n1"}
    answer = verb(client, "bind", binding).json()
    left = verb(client, "filter", {"Pod": pod_json("q", gpus=1), "NodeNames": ["n1"]}).json()
    return answer, left["NodeNames"]


def test_a_binding_is_posted_with_the_devices_and_the_token(bundle, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    with api_server() as (url, posted):
        answer, left = bind_through(bundle, url, str(secret))
    assert answer == {"Error": ""} and left == []
    path, authorization, body = posted[0]
    assert path == "/api/v1/namespaces/default/pods/p/binding"
    assert authorization == "Bearer s3cret"
    assert body["target"] == {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    assert body["metadata"]["annotations"] == {"alibabacloud.com/gpu-index": "0-1"}


def test_a_refused_binding_holds_nothing(bundle):
    with api_server(status=409) as (url, _):
        answer, left = bind_through(bundle, url)
    assert "409: why" in answer["Error"] and left == ["n1"]


def test_an_api_server_that_is_slow_or_not_there(bundle):
    with api_server(delay=0.8) as (url, _):
        answer, left = bind_through(bundle, url)
    assert "API server" in answer["Error"] and left == ["n1"]
    with pytest.raises(BindingFailed):
        ApiServer("http://127.0.0.1:9", timeout=0.2).bind(Pod("u", "p", "d", 1, 1), "n", ())


# -- manifests


def test_manifests_are_what_the_extender_reads():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    folder = Path(__file__).resolve().parents[1] / "ops" / "kubernetes"
    nodes = [
        read_node(value) for value in yaml.safe_load_all((folder / "kwok-nodes.yaml").read_text())
    ]
    assert [(node.gpus, node.model) for node in nodes] == [(0, ""), (2, "T4"), (8, "G2")]
    pod = read_pod(yaml.safe_load((folder / "pod.yaml").read_text()))
    assert (pod.gpus, pod.gpu_milli, pod.models, pod.tenant) == (1, 460, ("T4",), "LS")
    every = list(yaml.safe_load_all((folder / "fairlead.yaml").read_text()))
    config = {name: text for value in every for name, text in value.get("data", {}).items()}
    served = ServeConfig.model_validate(tomllib.loads(config["serve.toml"]))
    assert served.kubernetes.api
    scheduler = yaml.safe_load(config["scheduler.yaml"])
    alone = yaml.safe_load((folder / "scheduler-config.yaml").read_text())
    for found in (scheduler, alone):
        extender = found["extenders"][0]
        paths = {route.path for route in routes(SimpleNamespace(slots={}, settings=None))}
        for name in ("filterVerb", "prioritizeVerb", "bindVerb"):
            assert f"/v1/extender/{{domain}}/{extender[name]}" in paths
        assert extender["urlPrefix"].endswith("/v1/extender/cloud") and extender["ignorable"]


# -- replay


class Server:
    """uvicorn in a thread; can be stopped and started again on its port, with an empty memory."""

    def __init__(self, bundle):
        self._bundle, self.port, self.url = bundle, 0, ""

    def start(self):
        made, _ = daemon(self._bundle)
        config = uvicorn.Config(
            Starlette(routes=routes(made)), port=self.port, log_level="error", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()


@pytest.fixture
def server(bundle):
    found = Server(bundle)
    found.start()
    yield found
    found.stop()


def test_answers_over_http_equal_those_in_process(bundle, server):
    trace = load_trace(None, SMALL)
    result, comparison = through_http(bundle, KNOBS, trace, ExtenderApi(server.url))
    assert comparison.different == 0 and comparison.differences == []
    assert comparison.compared >= 38 and comparison.away == 0
    # Most of it is the policy's own, not the fallback's.
    assert comparison.outcomes == {"ok": comparison.compared}
    assert 0.4 < result.allocation <= 1.0 and 0.0 <= result.fragmentation <= 1.0
    assert len(result.placed) == 40 and result.unplaced <= 2


def test_a_difference_is_found(bundle, server, tmp_path):
    """The daemon serves another policy than the one that is compared: it must not go unnoticed."""
    other = make_openb_bundle(tmp_path / "other", seed=2)
    trace = load_trace(None, SMALL)
    _, comparison = through_http(other, KNOBS, trace, ExtenderApi(server.url))
    assert comparison.different > 0 and "scores differ" in comparison.differences[0]


class Interrupted(ExtenderApi):
    """Stops the server before some question and starts it again some attempts later."""

    def __init__(self, server, *, down, attempts):
        super().__init__(server.url, timeout=2.0)
        self._server, self._down, self._attempts, self._filtered = server, down, attempts, 0

    def ask(self, name, body):
        if name == "filter":
            self._filtered += 1
            if self._filtered == self._down:
                self._server.stop()
        return super().ask(name, body)

    def feed_nodes(self, body):
        if self._filtered >= self._down:
            self._attempts -= 1
            if self._attempts == 0:
                self._server.start()
        super().feed_nodes(body)


def test_without_the_extender_the_scheduler_goes_on_alone_and_then_comes_back(bundle):
    server = Server(bundle)
    server.start()
    try:
        trace = load_trace(None, Size(pods=60, nodes=40, prefill=0.5))
        api = Interrupted(server, down=20, attempts=9)
        result, comparison = through_http(bundle, KNOBS, trace, api)
    finally:
        server.stop()
    # One question found it gone and eight more attempts failed (of pods that fit nowhere, too); all
    # others were answered equally, although the daemon came back with an empty memory.
    assert 2 <= comparison.away <= 9
    assert comparison.different == 0, comparison.differences
    assert comparison.compared >= 48 and result.unplaced <= 3


def test_rules_in_process_fill_the_same_cluster(bundle):
    trace = load_trace(None, Size(pods=60, nodes=40))
    best, descent = (by_rule(bundle, KNOBS, trace, name) for name in ("best-fit", "fgd"))
    again = by_rule(bundle, KNOBS, trace, "fgd")
    assert descent.placed == again.placed != best.placed
    assert descent.fragmentation < best.fragmentation


def test_the_trace_offers_the_load_that_is_asked_for():
    trace = load_trace(None, Size(pods=4000, nodes=None, load=0.8, prefill=0.0))
    coming, pods = trace.coming, trace.pods
    work = float((coming.run_time * pods.total_gpu_milli[coming.pod]).sum())
    capacity = float(trace.nodes.gpus.sum()) * 1000.0
    assert work / (capacity * coming.time[-1]) == pytest.approx(0.8, rel=0.1)
    assert trace.before.pod.size == 0 and trace.rows.size == 1523
    assert (np.diff(coming.time) >= 0).all()


def test_a_url_that_is_none():
    with pytest.raises(UserError, match="http://HOST:PORT"):
        ExtenderApi("ftp://x")


def status(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_the_command_says_whether_all_answers_were_equal(bundle, server, capsys):
    arguments = ["extender", "replay", "--bundle", str(bundle.folder), "--url", server.url]
    arguments += ["--pods", "12", "--nodes", "40", "--prefill", "0.5", "--json"]
    arguments += ["slot.drift.enabled=false", "slot.simplex.enabled=false"]
    assert status(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["answers that differ"]["measured"] == 0
    assert rows["decisions compared with the in-process run"]["measured"] >= 11
    assert {"Best-Fit: GPU allocation", "FGD: GPU allocation"} <= set(rows)
    assert len(report["placed"]) == 12


def test_the_command_fails_where_the_extender_is_away(bundle, capsys):
    arguments = ["extender", "replay", "--bundle", str(bundle.folder), "--json"]
    arguments += ["--url", "http://127.0.0.1:9", "--pods", "3", "--nodes", "40", "--prefill", "0"]
    assert status(arguments) == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["placed without the extender"]["measured"] == 3
