"""The page's way to Prometheus: committed queries only, checked variables, errors in words."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_daemon import Browser, Daemon, Slot

from fairlead.platform.files import UserError
from fairlead.platform.page.dashboards import all_dashboards, chosen
from fairlead.platform.page.prometheus import Prometheus, PrometheusError, one_of, substituted

FLEET = all_dashboards()["fairlead-fleet"]
CURVE = next(p["id"] for p in FLEET.content["panels"] if p["type"] == "timeseries")
TABLE = next(p["id"] for p in FLEET.content["panels"] if p["type"] == "table")


@contextmanager
def double(answer):
    """A server that answers every query by ``answer(path, arguments) -> (status, content)``."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length).decode()
            parts = urlsplit(self.path)
            arguments = {k: v[0] for k, v in parse_qs(body or parts.query).items()}
            asked.append((parts.path, arguments))
            status, content = answer(parts.path, arguments)
            payload = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            # Some questions are given up on purpose while the answer is on its way.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(payload)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def series(path, arguments):
    if path.endswith("/values"):
        return 200, {"status": "success", "data": ["b", "a"]}
    metric = {"source": "policy", "instance": "x:1"}
    if path.endswith("query_range"):
        start, step = float(arguments["start"]), float(arguments["step"])
        values = [[start, "1.5"], [start + step, "NaN"], [start + 2 * step, "+Inf"]]
        return 200, {
            "status": "success",
            "data": {"result": [{"metric": metric, "values": values}]},
        }
    result = [{"metric": metric, "value": [float(arguments["time"]), "3"]}]
    return 200, {"status": "success", "data": {"result": result}}


def browser(url):
    return Browser(Daemon(Slot(), prometheus=url))


def ask(page, panel=CURVE, **params):
    return page.get(f"/dashboards/fairlead-fleet/panels/{panel}.json", params=params)


def test_a_panel_is_filled_from_its_committed_query():
    with double(series) as (url, asked):
        answer = ask(browser(url), span="300", domain="cloud")
    assert answer.status_code == 200
    data = answer.json()
    (one,) = data["targets"][0]["series"]
    assert one["name"] == "policy" and one["values"] == [1.5, None, None]
    path, arguments = asked[0]
    expected = FLEET.panel(CURVE)["targets"][0]["expr"]
    assert path == "/api/v1/query_range"
    assert arguments["query"] == (
        expected.replace("$job", ".+")
        .replace("$instance", ".+")
        .replace("$domain", "cloud")
        .replace("$__rate_interval", "60s")
    )
    assert float(arguments["end"]) - float(arguments["start"]) == 300
    assert data["step"] == 1.25 and data["end"] % 1.25 == 0


def test_a_table_asks_for_one_moment():
    with double(series) as (url, asked):
        answer = ask(browser(url), TABLE)
    assert answer.json()["targets"][0]["table"] is True
    assert [path for path, _ in asked] == ["/api/v1/query"]


def test_every_query_of_every_dashboard_is_filled_in_whole():
    for dashboard in all_dashboards().values():
        variables = chosen(dashboard, {})
        for panel in dashboard.panels():
            for target in panel.get("targets", ()):
                assert "$" not in substituted(target["expr"], variables, span=300, step=15)


def test_the_choices_come_from_prometheus():
    with double(series) as (url, asked):
        answer = browser(url).get("/dashboards/fairlead-fleet/values.json?job=a")
    assert answer.json() == {"job": ["a", "b"], "instance": ["a", "b"], "domain": ["a", "b"]}
    assert [path for path, _ in asked] == [
        "/api/v1/label/job/values",
        "/api/v1/label/instance/values",
        "/api/v1/label/domain/values",
    ]
    assert asked[1][1]["match[]"] == 'fairlead_build_info{job=~"a"}'


@pytest.mark.parametrize("value", ['x"} or up{a="', "a|b", "(.*", "a\nb", "x" * 201, "$job"])
def test_a_value_that_is_none_never_reaches_prometheus(value):
    with double(series) as (url, asked):
        answer = ask(browser(url), domain=value)
    assert answer.status_code == 400 and asked == []


@pytest.mark.parametrize("span", ["1", "604801", "x", "-300", "1e3"])
def test_only_offered_spans_are_asked_for(span):
    with double(series) as (url, asked):
        assert ask(browser(url), span=span).status_code == 400
    assert asked == []


def test_what_is_not_there_is_not_found():
    with double(series) as (url, asked):
        page = browser(url)
        assert ask(page, 999).status_code == 404
        assert page.get("/dashboards/other/panels/1.json").status_code == 404
        assert page.get("/dashboards/other").status_code == 404
    assert asked == []


def test_without_a_prometheus_the_page_says_which_knob_names_one():
    page = Browser(Daemon(Slot()))
    assert "page.prometheus" in page.get("/dashboards/fairlead-fleet").text
    assert ask(page).status_code == 502 and "page.prometheus" in ask(page).json()["error"]


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (400, {"status": "error", "error": "parse error at 3"}, "parse error at 3"),
        (503, b"busy", "answered 503: busy"),
        (200, b"<html>", "no JSON"),
        (200, {"status": "error"}, "answered"),
    ],
)
def test_what_prometheus_refuses_is_told(status, content, words):
    with double(lambda *_: (status, content)) as (url, _):
        answer = ask(browser(url))
    assert answer.status_code == 502 and words in answer.json()["error"]


def test_a_prometheus_that_is_gone_is_told():
    with double(series) as (url, _):
        pass
    answer = ask(browser(url))
    assert answer.status_code == 502 and "does not answer" in answer.json()["error"]


def test_a_slow_prometheus_is_given_up():
    with double(lambda *_: (time.sleep(1.0), (200, {}))[1]) as (url, _):
        begin = time.monotonic()
        with pytest.raises(PrometheusError, match="does not answer"):
            Prometheus(url, timeout=0.1).at("up", time=0.0)
        assert time.monotonic() - begin < 0.9


@pytest.mark.parametrize("url", ["localhost:9090", "file:///etc/passwd", "ftp://a", "http://"])
def test_an_address_that_is_none_is_a_mistake_at_start(url):
    with pytest.raises(UserError, match=re.escape("page.prometheus")):
        Prometheus(url)


@given(st.lists(st.from_regex(r"[\w.:/@\-\[\] ]{1,30}", fullmatch=True), min_size=1, max_size=4))
def test_chosen_values_match_themselves_and_nothing_else(values):
    pattern = one_of(values).replace("\\\\", "\\")  # what PromQL's string literal leaves
    for value in values:
        assert re.fullmatch(pattern, value)
        assert bool(re.fullmatch(pattern, value + "x")) == (value + "x" in values)
        other = value.replace(".", "_")
        assert bool(re.fullmatch(pattern, other)) == (other in values)
