"""Reports of what executed decisions did to the plant: counted, audited, shown."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from http.client import HTTPConnection

import numpy as np
import pytest
from daemon_process import running
from serving import factory, make_bundle, observations

from fairlead.platform import client
from fairlead.platform.audit.codec import Event
from fairlead.platform.audit.reader import Log
from fairlead.platform.client.fallback import domain_part
from fairlead.platform.drive.faults import Plan
from fairlead.platform.drive.loop import Driver

KNOBS = ("slot.deadline=2",)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


@pytest.fixture(scope="module")
def daemon(bundle, tmp_path_factory):
    with running(bundle.folder, tmp_path_factory.mktemp("daemon"), KNOBS) as found:
        yield found
        assert "Traceback" not in found.text


def address(daemon, where):
    return daemon.url if where == "http" else f"unix:{daemon.frames}"


def decided(daemon, name):
    with client.Client(daemon.url, "cloud", timeout=10, name=name) as asking:
        return asking.decide(observations(10)[3], seq=1).decision


def counts(daemon):
    """Violations by constraint, after the exposition's quarter of a second."""
    time.sleep(0.3)
    return {
        name: daemon.metric("constraint_violations_total", domain="cloud", constraint=name)
        for name in ("box", "ramp", "coupling", "legality")
    }


def tell(daemon, body, domain="cloud"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = daemon.call("POST", f"/v1/outcome/{domain}", data)
    return status, json.loads(answer)


@pytest.mark.parametrize("where", ["http", "unix"])
def test_a_report_is_counted_once(daemon, where):
    before = counts(daemon)
    with client.Client(address(daemon, where), "cloud", timeout=10, name=where) as asking:
        decision = asking.decide(observations(10)[3], seq=1).decision
        assert asking.report(decision, {"coupling": 3, "legality": 1}, objective=12.5)
        assert not asking.report(decision, {"coupling": 3})  # the answer may have been lost
        assert asking.decide(observations(10)[4], seq=2).decision  # the connection goes on
    more = {"coupling": before["coupling"] + 3, "legality": before["legality"] + 1}
    assert counts(daemon) == before | more
    assert daemon.metric("objective_value", domain="cloud", objective="measured") == 12.5


def test_it_stands_in_the_event_stream(daemon):
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    connection.request("GET", "/v1/events")
    stream = connection.getresponse()
    decision = decided(daemon, "streamed")
    tell(daemon, {"decision": decision, "violations": {"ramp": 2}})
    kind, end = "", time.monotonic() + 10
    while kind != "outcome" and time.monotonic() < end:
        line = stream.readline().decode().strip()
        kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
    event = json.loads(stream.readline().decode().removeprefix("data: "))
    connection.close()
    told = {key: event[key] for key in ("domain", "decision", "violations", "principal")}
    assert told == {
        "domain": "cloud", "decision": decision, "violations": {"ramp": 2}, "principal": "local",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"decision": "nonsense"}, 400, "field"),
        ({"decision": 3}, 400, "field"),
        ({"decision": "traffic-00000000-0"}, 404, "not_found"),
        ({"violations": {"gravity": 1}}, 400, "unknown"),
        ({"violations": {"coupling": -1}}, 400, "parameter"),
        ({"violations": {"coupling": 11}}, 400, "parameter"),  # of ten agents
        ({"violations": {"coupling": True}}, 400, "parameter"),
        ({"violations": [1]}, 400, "field"),
        ({"objective": "much"}, 400, "parameter"),
        ({"severity": 1}, 400, "unknown"),
        ({"measured": {"unserved_joules": 1.0}}, 400, "unknown"),  # a figure of power
        ({"measured": 3}, 400, "field"),
    ],
)
def test_what_is_no_report_is_refused_and_not_counted(daemon, change, status, code):
    before = counts(daemon)
    decision = decided(daemon, f"wrong-{time.monotonic_ns()}")
    found, answer = tell(daemon, {"decision": decision, "violations": {"coupling": 1}} | change)
    assert (found, answer["code"]) == (status, code)
    assert counts(daemon) == before


def test_neither_strangers_nor_the_future_nor_other_domains_can_be_reported(daemon):
    decision = decided(daemon, "future")
    head, _, number = decision.rpartition("-")
    assert tell(daemon, {"decision": f"{head}-{int(number) + 10**6}"})[0] == 404
    assert tell(daemon, {"decision": decision}, domain="traffic")[0] == 404
    assert tell(daemon, b"[1")[1]["code"] == "json"
    assert tell(daemon, b"[]")[1]["code"] == "json"
    # Of an earlier run: its decisions are in the audit only.
    assert tell(daemon, {"decision": "cloud-00000000-7"})[1] == {"counted": True, "known": False}
    for where in ("http", "unix"):
        with client.Client(address(daemon, where), "cloud", timeout=10) as asking:
            with pytest.raises(client.Refused, match="has made no decision"):
                asking.report(f"{head}-{10**9}")
            assert asking.circuit.closed
    away = client.Client("http://127.0.0.1:9", "cloud", timeout=1)
    with away as asking, pytest.raises(client.Unavailable, match="not taken"):
        asking.report(decision)


def test_a_drive_reports_infeasible_actions_and_the_audit_keeps_it(bundle, tmp_path):
    plan = Plan(12, (), 0)
    with running(bundle.folder, tmp_path, KNOBS) as daemon:
        with client.Client(daemon.url, "cloud", timeout=10, name="drive") as asking:
            run = Driver(
                simulator=Refusing(factory().simulator()),
                actor=bundle.actor(),
                live=domain_part(bundle.folder),
                client=Garbling(asking),
                plan=plan,
                speed=0.0,
                daemon=None,
                label="garbled",
                watch=lambda epoch: None,
            ).episode(3)
        assert run.problems == {} and len(run.infeasible) == 4
        assert counts(daemon)["legality"] == 4  # every third of twelve epochs
        assert counts(daemon)["coupling"] == 0  # a refused placement breaks nothing
        assert daemon.stop() == 0
    events = [
        line.record
        for line in Log(tmp_path / "state" / "audit", "cloud").lines()
        if isinstance(line.record, Event) and line.record.kind == "outcome"
    ]
    assert [each.detail["violations"] for each in events] == [{"legality": 1}] * 4
    assert len({each.detail["decision"] for each in events}) == 4


class Garbling:
    """A bridge that loses an action in every third answer."""

    def __init__(self, inner):
        self._inner, self._answers = inner, 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def decide(self, observation, **options):
        answer = self._inner.decide(observation, **options)
        self._answers += 1
        if self._answers % 3:
            return answer
        return replace(answer, actions=np.full_like(answer.actions, 99))


class Refusing:
    """A plant of which every third epoch refuses two placements."""

    def __init__(self, simulator):
        self._simulator, self._steps = simulator, 0

    def __getattr__(self, name):
        return getattr(self._simulator, name)

    def step(self, actions):
        self._steps += 1
        return self._simulator.step(actions)

    def metrics(self):
        return {**self._simulator.metrics(), "conflicts": 2.0 * (self._steps // 3)}
