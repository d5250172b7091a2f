"""The operator page from outside: what it says in every state, and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_daemon import CHAMPION, Browser, Daemon, Slot

from fairlead.platform.decision.types import Breaker, Cause, Source
from fairlead.platform.page import routes, site, words
from fairlead.platform.page.agents import BACK, agent, grid
from fairlead.platform.page.decisions import constraints
from fairlead.platform.page.rollout import roles, told
from fairlead.platform.page.series import Curves, bar
from fairlead.platform.page.status import latency, own_share, rate
from fairlead.platform.page.summary import Summaries, summary

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def slot():
    made = Slot()
    made.tick(20)
    return made


@pytest.fixture
def daemon(slot):
    return Daemon(slot)


@pytest.fixture
def client(daemon):
    return Browser(daemon)


def text_of(html):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def changed(slot, **changes):
    slot.state = replace(slot.state, **changes)


# What a person reads in every state.


def test_a_clean_domain_says_that_the_policy_decides(client, slot):
    text = text_of(client.get("/").text)
    assert "The policy decides." in text
    assert f"{CHAMPION[:12]} gate demo" in text
    assert "alarm" not in client.get("/").text


STATES = {
    "fallback": (lambda d, s: changed(s, mode="fallback"), "Mode is fallback", "tone-bad"),
    "hold": (lambda d, s: changed(s, mode="hold"), "Agents hold what was last safe.", "tone-bad"),
    "degraded": (lambda d, s: changed(s, mode="degraded"), "Some agents fall back", "tone-warn"),
    "canary": (lambda d, s: changed(s, mode="canary"), "A canary decides a share", "tone-note"),
    "drain": (lambda d, s: setattr(d, "draining", True), "is shutting down", "tone-note"),
    "forced": (lambda d, s: changed(s, forced=True), "An operator has forced", "alarm"),
    "latched": (lambda d, s: changed(s, latched=True, clean=3), "3 clean ticks", "alarm"),
    "breaker": (
        lambda d, s: changed(s, breaker=Breaker("open", (True,) * 5, trips=2)),
        "Circuit breaker is open",
        "5 of the last 5 askings failed",
    ),
    "not ready": (
        lambda d, s: d.reasons.update(cloud="the self-test is old"),
        "Not ready: the self-test is old",
        "alarm",
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_the_page_says_in_words_what_is_wrong(client, daemon, slot, name):
    change, words_of_it, mark = STATES[name]
    before = client.get("/").text
    assert words_of_it not in text_of(before)
    change(daemon, slot)
    for path in ("/", "/page/cloud/live"):
        html = client.get(path).text
        assert words_of_it in text_of(html) and mark in html


def test_silence_is_an_alarm_and_the_first_decision_ends_it():
    slot = Slot()
    client = Browser(Daemon(slot))
    assert "No decision yet" in client.get("/").text
    slot.tick(1, ago=3600.0)
    assert "No observations arrive" in client.get("/").text
    slot.tick(1)
    assert "No observations arrive" not in client.get("/").text


def test_an_unhealthy_audit_is_an_alarm(client, slot):
    slot.view = lambda: {"rollout": {}, "audit": {"healthy": False}}
    assert "The audit cannot be written" in client.get("/").text


def test_without_a_policy_the_baseline_decides_and_the_page_says_so():
    slot = Slot(loaded=False)
    slot.tick(3)
    html = Browser(Daemon(slot)).get("/").text
    assert "no policy loaded" in html
    assert "no policy was loaded" in html  # the cause of every intervention


def test_several_domains_have_a_card_each_and_one_is_open(slot):
    other = Slot(domain="second")
    client = Browser(Daemon(slot, other))
    html = client.get("/?domain=second").text
    assert html.count('class="card ') == 2 and 'data-domain="second"' in html
    assert 'data-domain="cloud"' in client.get("/").text
    assert client.get("/?domain=third").status_code == 404


def test_no_domain_at_all_is_a_page_too():
    answer = Browser(Daemon()).get("/")
    assert answer.status_code == 200 and "No domain is served" in answer.text


def test_what_clients_call_themselves_is_escaped(client, slot):
    slot.tick(1, client='<script>alert("x")</script>')
    html = client.get("/").text
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html


# Agents.


def test_the_grid_tells_every_agents_latest_active_decision(slot):
    shown = grid(slot)
    for index in range(10):
        own = [e for e in slot.history(BACK) if e.request.observation.active[index]]
        entry = own[0].decision
        assert shown.sources[index] == str(int(entry.source[index]))
        assert ord(shown.causes[index]) - ord("A") == entry.cause[index]
        assert shown.active[index] == str(int(slot.entries[0].request.observation.active[index]))
    assert shown.newest == slot.entries[0].id and shown.ticks == 20


def test_agents_that_no_decision_was_about_are_unknown():
    assert grid(Slot()).sources == "?" * 10


def test_decisions_about_some_agents_concern_only_those(slot):
    whole = slot.entries[0].request
    seen = whole.observation
    rows = np.array([3, 7])
    part = replace(
        seen,
        agent=seen.agent[rows],
        candidates=seen.candidates[rows],
        target=seen.target[rows],
        mask=seen.mask[rows],
        low=seen.low[rows],
        high=seen.high[rows],
        active=np.ones(2, np.bool_),
    )
    before = grid(slot).sources
    changed(slot, forced=True)
    entry = slot.decide(replace(whole, observation=part, agents=rows, seq=900))
    after = grid(slot).sources
    assert after[3] == after[7] == str(int(Source.BASELINE))
    assert [after[k] for k in range(10) if k not in (3, 7)] == [
        before[k] for k in range(10) if k not in (3, 7)
    ]
    found = agent(slot, 7)
    assert found.entry is entry and found.source == "baseline" and found.cause == "operator"


def test_an_agent_shows_what_it_saw_and_did(client, slot):
    index = int(np.flatnonzero(slot.entries[0].request.observation.active)[0])
    entry = slot.entries[0]
    found = agent(slot, index)
    assert found.entry is entry
    assert [f.value for f in found.features] == entry.request.observation.agent[index].tolist()
    (executed,) = [c for c in found.candidates if c.executed]
    assert executed.index == entry.decision.actions[index]
    assert executed.deviation == pytest.approx(float(entry.decision.deviation[index]), abs=1e-6)
    scores = [c.score for c in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert len(found.candidates) == found.legal == entry.request.observation.mask[index].sum()
    html = client.get(f"/page/cloud/agent/{index}", headers={"HX-Request": "true"}).text
    assert "<html" not in html and f"Agent {index}" in html and entry.id in html
    assert "<html" in client.get(f"/page/cloud/agent/{index}").text  # a page without script


def test_a_feature_outside_of_training_is_marked(client, slot):
    known = slot.runtime.observed["agent"]
    low = [1e6, *known["low"][1:]]
    slot.runtime = replace(slot.runtime, observed={"agent": {**known, "low": low}})
    found = agent(slot, 0)
    assert found.features[0].outside and not found.features[1].outside
    assert found.features[0].place != found.features[0].place  # no range to be placed in


def test_an_agent_that_does_not_exist_is_not_found(client):
    assert client.get("/page/cloud/agent/10").status_code == 404
    assert client.get("/page/nowhere/agent/1").status_code == 404
    assert client.get("/page/nowhere/agents.json").status_code == 404


# Decisions, curves, roll-out.


def test_unusable_agents_appear_among_the_interventions(client, slot):
    seen = slot.entries[0].request.observation
    broken = seen.agent.copy()
    broken[np.flatnonzero(seen.active)[0]] = np.nan
    slot.tick(1, observation=replace(seen, agent=broken))
    assert (slot.entries[0].decision.cause == Cause.INVALID).sum() == 1
    text = text_of(client.get("/page/cloud/live").text)
    assert "1 the agent's own observation was not usable" in text
    assert "missing 1" in text


def test_curves_hold_every_decision_once_and_in_order(client, slot):
    data = client.get("/page/cloud/series.json").json()
    assert data["at"] == sorted(data["at"]) and len(data["at"]) == 20
    for column in (*data["sources"].values(), data["latency"], data["margin"], data["cost"]):
        assert len(column) == 20
    oldest = slot.entries[-1].decision
    assert [data["sources"][name][0] for name in ("policy", "projected")] == [
        int((oldest.source == Source.POLICY).sum()),
        int((oldest.source == Source.PROJECTED).sum()),
    ]
    assert all(
        cost >= least - 1e-6
        for cost, least in zip(data["cost"], data["least"], strict=True)
        if cost is not None and least is not None
    )


def test_predicted_costs_are_computed_once(slot):
    asked = []
    live = slot.runtime.live

    class Counting:
        def objective(self, observation, actions):
            asked.append(1)
            return live.objective(observation, actions)

    slot.runtime = replace(slot.runtime, live=Counting())
    curves = Curves(Summaries())
    for _ in range(50):
        curves.of(slot)
    assert len(asked) == 20


def test_figures_by_hand(slot):
    entries = slot.history(20)
    seconds = [sum(e.decision.seconds.values()) for e in entries]
    found = [one for _, one in Summaries().of(entries)]
    assert latency(found)[0] == pytest.approx(np.median(seconds))
    assert rate(entries) == pytest.approx(10.0, rel=0.2)
    assert own_share(found) == 1.0
    assert np.isnan(rate(entries[:1])) and np.isnan(own_share([]))
    pieces = bar(found[0])
    assert sum(length for _, _, length in pieces) == pytest.approx(100.0)


def test_the_rollout_shows_roles_figures_refusals_and_aborts():
    view = {
        "rollout": {
            "champion": {"digest": "a" * 64, "name": "new", "since": 1.7e9, "latency_ms": 0.25},
            "shadow": {"digest": "b" * 64, "disagreement": 0.1, "warnings": ["not signed"]},
            "refused": {"bundle": "c" * 64, "reason": "digest of policy", "at": 1.7e9},
        }
    }
    found = {role.role: role for role in roles(view, 1.7e9 + 60)}
    assert found["champion"].digest == "a" * 12
    assert dict(found["champion"].figures) == {"since": "1 min 0 s ago", "latency ms": "0.25"}
    assert found["shadow"].warnings == ("not signed",)
    assert found["canary"].digest == found["previous"].digest == ""
    assert told(view, 1.7e9 + 60) == ("Refused: cccccccccccc (digest of policy, 1 min 0 s ago)",)
    assert told({}, 0.0) == ()


def test_a_summary_by_hand(slot):
    entry = slot.entries[0]
    seen, decision = entry.request.observation, entry.decision
    cause = np.zeros(10, np.int8)
    cause[[2, 5]], cause[7] = Cause.COUPLING, Cause.INVALID
    distance = np.zeros(10, np.float32)
    distance[2], distance[5] = 0.25, 1.0
    deviation = np.linspace(0, 0.9, 10).astype(np.float32)
    deviation[9] = np.nan
    source = np.zeros(10, np.int8)
    source[[2, 5]], source[7] = Source.PROJECTED, Source.BASELINE
    one = summary(
        replace(
            entry,
            request=replace(entry.request, observation=replace(seen, active=np.arange(10) != 1)),
            decision=replace(
                decision, cause=cause, distance=distance, deviation=deviation, source=source
            ),
        )
    )
    assert one.sources == (7, 2, 1, 0, 0, 0) and one.agents == 10 and one.active == 9
    assert one.causes == ((Cause.COUPLING, 2), (Cause.INVALID, 1))
    assert one.moved == ((0, 0.0), (0, 0.0), (2, 1.25), (0, 0.0))
    # active and known: 0, 0.2, 0.3 ... 0.8
    assert one.deviation == pytest.approx((3.5 / 8, 0.7, 1 / 8))
    (coupling,) = [c for c in constraints([one]) if c.moved]
    assert (coupling.name, coupling.share, coupling.distance) == ("coupling", 0.2, 0.625)


def test_summaries_stop_when_their_time_is_up_and_go_on_later(slot, monkeypatch):
    monkeypatch.setattr("fairlead.platform.page.summary.BUDGET", 0.0)
    summaries = Summaries()
    lengths = [len(summaries.of(slot.history(20))) for _ in range(25)]
    assert lengths[0] == 1 and lengths == sorted(lengths) and lengths[-1] == 20


# Audit check.


def test_deciding_again_gives_the_same(client, slot):
    html = client.get(f"/page/cloud/audit/{slot.entries[5].id}").text
    assert "identical" in html and "bit for bit" in html


def test_a_changed_record_is_found_out(client, slot):
    entry = slot.entries[5]
    actions = entry.decision.actions.copy()
    actions[np.flatnonzero(entry.request.observation.active)[0]] += 1
    slot.entries[5] = replace(entry, decision=replace(entry.decision, actions=actions))
    html = client.get(f"/page/cloud/audit/{entry.id}").text
    assert "different" in html and "actions" in html


def test_a_bundle_that_is_gone_is_not_called_identical(client, slot):
    slot.runtime = replace(slot.runtime, policy=replace(slot.runtime.policy, digest="f" * 64))
    html = client.get(f"/page/cloud/audit/{slot.entries[0].id}").text
    assert "not checked" in html and "identical" not in html


def test_a_forgotten_decision_is_not_found(client):
    answer = client.get("/page/cloud/audit/cloud-00000000-1")
    assert answer.status_code == 404 and "fairlead replay" in answer.text


# Nothing from outside, nothing inline, nothing that changes anything.

PATHS = (
    "/",
    "/page/cloud/live",
    "/page/cloud/agent/1",
    "/page/cloud/agents.json",
    "/page/cloud/series.json",
    "/dashboards/fairlead-fleet",
    "/dashboards/fairlead-fleet/plan.json",
    "/static/page.css",
    "/static/nothing.css",
    "/page/nowhere/live",
)


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_forbids_what_comes_from_elsewhere(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [p for p in PATHS if "json" not in p and "static" not in p])
def test_no_page_holds_inline_script_or_style(client, path):
    html = client.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", html)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", html)


def test_every_route_only_reads(daemon):
    for route in routes(daemon):
        assert route.methods == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "name", ["../site.py", "..%2Fsite.py", "vendor/../../site.py", "%2e%2e/site.py", "/etc/passwd"]
)
def test_static_files_are_only_those_in_the_folder(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_static_files_are_sent_once(client):
    first = client.get("/static/page.css")
    assert first.status_code == 200 and first.headers["content-type"].startswith("text/css")
    again = client.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and again.content == b""


def test_without_npm_the_page_works_without_charts_and_says_so(daemon, monkeypatch):
    files = {name: f for name, f in site._static().items() if not name.startswith("vendor/")}
    monkeypatch.setattr(site, "_static", lambda: files)
    client = Browser(daemon)
    html = client.get("/").text
    assert "make assets" in html and "vendor" not in html and "hx-get" not in html
    assert "The policy decides." in html and 'id="grid"' in html
    assert "Charts are missing" in client.get("/dashboards/fairlead-fleet").text or (
        "No Prometheus is named" in client.get("/dashboards/fairlead-fleet").text
    )


def test_what_the_page_takes_from_npm_is_pinned_without_registry_addresses():
    package = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    text = (ROOT / "package-lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)["packages"]
    assert "resolved" not in text and "registry" not in text
    for name, version in package["dependencies"].items():
        assert lock[f"node_modules/{name}"]["version"] == version
        assert lock[f"node_modules/{name}"]["integrity"].startswith("sha512-")


def test_scripts_have_no_syntax_that_the_policy_forbids():
    for path in sorted((ROOT / "platform/page/static").glob("*.js")):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"\beval\(|new Function|https?://(?!www\.w3\.org)", source), path.name


# Words.


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_number_has_words(value):
    for write in (words.age, words.duration, words.number, words.share):
        assert write(value)


def test_words_by_hand():
    assert words.age(3.21) == "3.2 s" and words.age(75) == "1 min 15 s"
    assert words.age(3600) == "1 h 0 min" and words.age(90000) == "1 d 1 h"
    assert words.age(59.7) == "1 min 0 s" and words.age(float("inf")) == "never"
    assert words.duration(85e-6) == "85 µs" and words.duration(0.00124) == "1.24 ms"
    assert words.share(1.0) == "100 %" and words.share(0.9951) == "99.5 %"
    assert words.number(1234.0) == "1\u202f234" and words.number(float("nan")) == words.NOTHING


def test_every_source_and_cause_has_words():
    assert set(words.SOURCES) == set(Source) and set(words.CAUSES) == set(Cause)
