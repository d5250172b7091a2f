"""The traffic domain's comparisons hold, and stop holding when the streets are broken."""

from __future__ import annotations

import gzip
import json

import pytest
from test_validate_cli import invoke
from traffic_data import DATA, needed
from traffic_sumo_small import write_net

from fairlead.platform.validation import traffic_closed, traffic_imports, traffic_published
from fairlead.simulators.traffic.files import netconvert
from fairlead.simulators.traffic.right_of_way import RightOfWay
from fairlead.simulators.traffic.storage import Storage
from fairlead.simulators.traffic.streets import Streets
from fairlead.simulators.traffic.timing import Timing

CLOSED = [check.name for check in traffic_closed.checks(data=None, quick=True)]


def failed(rows):
    return [row.name for row in rows if row.passed is False]


def run(name, checks):
    (check,) = [check for check in checks if check.name == name]
    return check.run()


def closed(name):
    return run(name, traffic_closed.checks(data=None, quick=True))


@pytest.mark.parametrize("name", [name for name in CLOSED if not name.startswith("assignment")])
def test_closed_forms_hold(name):
    rows = closed(name)
    assert failed(rows) == []
    assert sum(row.passed is True for row in rows) >= 2


def test_checks_have_names_of_their_own():
    assert len(set(CLOSED)) == len(CLOSED) > 10


def jumped(claim):
    def first(self, actor, vehicle, leg, now):
        waiters = self._waiters[self.links[vehicle][leg]]
        if actor not in waiters:
            waiters.appendleft(actor)
        return claim(self, actor, vehicle, leg, now)

    return first


@pytest.mark.parametrize(
    ("owner", "method", "broken", "check"),
    [
        # Freed space at once instead of with the wave.
        (Storage, "free", lambda old: lambda s, lane, m, now: old(s, lane, m, now - 2.0),
         "link: shock waves"),
        # Room for one more than there is.
        (Storage, "find", lambda old: lambda s, lanes, m, now: old(s, lanes, m - 7.5, now),
         "link: gridlock"),
        # Newcomers take the room of those who wait.
        (Streets, "_claim", jumped, "link: merge and diverge"),
        # Queues lose a second more.
        (Streets, "_go", lambda old: lambda s, lane, c, now: old(s, lane, c, now + 1.0),
         "signal: D/D/1"),
        # Yellow counts twice.
        (RightOfWay, "show", lambda old: lambda s, at, state, now: old(s, at, state, now + 2.0),
         "signal: capacity"),
    ],
    ids=["wave", "room", "order", "start", "yellow"],
)  # fmt: skip
def test_broken_streets_are_noticed(monkeypatch, owner, method, broken, check):
    monkeypatch.setattr(owner, method, broken(getattr(owner, method)))
    assert failed(closed(check))


def test_skipped_yellow_is_noticed(monkeypatch):
    change = Timing.change
    monkeypatch.setattr(Timing, "change", lambda *given: change(*given)[-1:])
    assert any("unsafe" in name for name in failed(closed("episode: arterial")))


def test_the_command_runs_without_data(monkeypatch):
    monkeypatch.delenv("FAIRLEAD_DATA", raising=False)
    result = invoke("traffic", "--quick", "--only", "link:*", "--json", "--workers", "1")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert any(row["name"] == "skipped: published" for row in rows)
    assert sum(row.get("passed", False) for row in rows) > 20


# --- imports --------------------------------------------------------------------------------------

CONFIG = """<configuration><input>
<net-file value="small.net.xml"/><route-files value="small.rou.xml"/>
</input><time><begin value="0"/><end value="600"/></time></configuration>"""


def write_scenario(folder):
    folder.mkdir(parents=True)
    write_net(folder)
    trips = "".join(
        f'<trip id="t{at}" depart="{3 * at}" from="west" to="east_out"/>' for at in range(100)
    )
    (folder / "small.rou.xml").write_text(f"<routes>{trips}</routes>")
    (folder / "small.sumocfg").write_text(CONFIG)


def test_any_sumo_scenario_of_the_folder_is_imported_and_adds_up(tmp_path):
    write_scenario(tmp_path / "traffic" / "mine")
    checks = traffic_published.checks(data=tmp_path, quick=True)
    assert [check.name for check in checks] == ["import: small"]
    rows = {row.name: row for row in checks[0].run()}
    assert failed(rows.values()) == []
    assert rows["small: signals"].measured == 1
    assert rows["small: vehicles of the file"].measured == 100
    assert rows["small: signals"].passed is None  # nobody says how many there should be
    entered = "small, fixed programmes: vehicles that entered"
    assert rows[entered].measured == 100
    assert rows["small, random actions: vehicles that entered"].measured > 50


def test_vehicles_that_get_lost_are_noticed(tmp_path, monkeypatch):
    write_scenario(tmp_path / "mine")
    arrive = Streets._arrive

    def lost(self, lane, vehicle, now):
        arrive(self, lane, vehicle, now)
        self.completed -= vehicle == 7

    monkeypatch.setattr(Streets, "_arrive", lost)
    (check,) = traffic_published.checks(data=tmp_path, quick=True)
    assert any("imbalance" in name for name in failed(check.run()))


def test_an_empty_folder_has_nothing_to_compare(tmp_path):
    assert traffic_published.checks(data=tmp_path, quick=True) == []


def test_plain_networks_are_skipped_with_the_reason_without_netconvert(tmp_path, monkeypatch):
    folder = tmp_path / "plain"
    folder.mkdir()
    for part in ("nod", "edg"):
        with gzip.open(folder / f"town.{part}.xml.gz", "wt") as file:
            file.write("<x/>")
    (folder / "town.sumocfg").write_text(CONFIG)

    def absent(name):
        raise ModuleNotFoundError(netconvert.EXTRA)

    monkeypatch.setattr(traffic_imports, "sumo_program", absent)
    (check,) = traffic_published.checks(data=tmp_path, quick=True)
    (row,) = check.run()
    assert row.name == "skipped: import: town"
    assert "fairlead[sumo]" in str(row.measured)
    assert row.passed is None


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("resco", "cologne1"), "cologne1"),
        (("resco", "cologne3"), "cologne3"),
        (("resco", "cologne8"), "cologne8"),
        (("cityflow",), "anon_3_4_jinan_real_2000"),
        (("cityflow",), "anon_4_4_hangzhou_real"),
    ],
)
def test_well_known_scenarios_have_the_known_counts(parts, name):
    needed(*parts)
    rows = run(f"import: {name}", traffic_published.checks(data=DATA, quick=True))
    assert failed(rows) == []
    assert sum(row.passed is True for row in rows) == 7


@pytest.mark.slow
def test_manhattan_is_built_and_runs():
    needed("manhattan_28x7")
    rows = run("import: manhattan_28x7", traffic_published.checks(data=DATA, quick=True))
    assert failed(rows) == []
    assert len(rows) == 1 or sum(row.passed is True for row in rows) == 7
