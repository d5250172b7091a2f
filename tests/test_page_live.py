"""The page of a real daemon: served, guarded by its scopes, and about its decisions."""

from __future__ import annotations

import serving
from daemon_process import running

from fairlead.platform import client


def test_the_daemons_page_shows_its_decisions(tmp_path):
    bundle = tmp_path / "bundle"
    serving.make_bundle(bundle)
    with running(bundle, tmp_path) as daemon:
        with client.Client(daemon.url, "cloud", timeout=10.0) as bridge:
            for index, observation in enumerate(serving.observations(10, 12)[:3]):
                bridge.decide(observation, seq=index)
        status, headers, body = daemon.call("GET", "/")
        assert status == 200 and b'data-domain="cloud"' in body
        assert headers["content-security-policy"].startswith("default-src 'self'")
        shown = daemon.get("/page/cloud/agents.json")
        assert len(shown["sources"]) == 10 and shown["ticks"] == 3
        curves = daemon.get("/page/cloud/series.json")
        assert len(curves["at"]) == 3
        assert sum(sum(counts) for counts in curves["sources"].values()) == 30
        _, _, checked = daemon.call("GET", f"/page/cloud/audit/{shown['newest']}")
        assert b">identical<" in checked
        for path in ("/", "/page/cloud/live", "/static/page.css", "/dashboards/fairlead-fleet"):
            assert daemon.call("POST", path, b"")[0] in {403, 404, 405}
        assert daemon.call("GET", "/static/../site.py")[0] == 404
