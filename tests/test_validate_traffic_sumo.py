"""Comparison of our streets with SUMO: what is measured, marked and left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from traffic_data import DATA, needed

from fairlead.platform.cli.main import main
from fairlead.platform.statistics import kendall
from fairlead.platform.validation import SUMO, traffic_sumo
from fairlead.platform.validation.suites import collect
from fairlead.platform.validation.traffic_sumo_links import delay_rows, discharge_rows, free_rows
from fairlead.platform.validation.traffic_sumo_maps import (
    geh,
    grid_rows,
    map_rows,
    map_town,
    maps_at,
    read_flows,
)
from fairlead.platform.validation.traffic_sumo_plants import apart
from fairlead.platform.validation.traffic_sumo_rules import (
    PROGRAM,
    Maxwave,
    parity_rows,
    rank_rows,
)
from fairlead.platform.validation.traffic_sumo_street import (
    ENTRY,
    EXIT,
    RED,
    YELLOW,
    poisson,
    street,
)
from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.sumo.install import available

sumo = pytest.mark.skipif(not available(), reason="needs the extra sumo")


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def marks(rows):
    """Rows with a mark, by name up to SUMO's version."""
    return {row.name: row.passed for row in rows if row.passed is not None}


# Figures by hand.


def test_geh_of_flows_by_hand():
    # sqrt(2 * 100^2 / 900) and sqrt(2 * 10^2 / 10).
    found = geh(np.array([500.0, 0.0, 0.0]), np.array([400.0, 10.0, 0.0]))
    assert found == pytest.approx([4.714, 4.472, 0.0], abs=1e-3)


def test_kendall_by_hand():
    assert kendall([1, 2, 3, 4, 5], [10, 20, 30, 40, 50]) == 1.0
    assert kendall([1, 2, 3], [3, 2, 1]) == -1.0
    # One pair of ten the wrong way round.
    assert kendall([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]) == pytest.approx(0.8)
    # A tie is no agreement.
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 3)
    assert np.isnan(kendall([1], [2]))
    with pytest.raises(ValueError, match="one length"):
        kendall([1, 2], [1, 2, 3])


def test_relative_difference():
    assert apart(90.0, 100.0) == pytest.approx(-10.0)


def test_the_street_is_as_long_as_asked_and_its_signal_serves_it():
    network = street(321.0, speed=15.0, green=20.0)
    at = network.link_index[ENTRY]
    assert network.length[at] == pytest.approx(321.0)
    assert network.speed[at] == 15.0
    (red, first), (green, second), (yellow, third) = network.signals[0].programme
    assert (first, second, third) == (RED, 20.0, YELLOW)
    move = network.move_index[at, network.link_index[EXIT]]
    place = int(network.connection_index[network.connection_move == move][0])
    assert red[place] == "r" and green[place] == "G" and yellow[place] == "y"


def test_poisson_arrivals_have_their_rate_and_come_at_whole_seconds():
    found = poisson(0.2, 20_000.0, seed=1)
    assert found.size == pytest.approx(4000, abs=4 * np.sqrt(4000))
    assert (np.diff(found) >= 0).all() and (found == np.floor(found)).all()
    counts = np.bincount((found // 100).astype(int), minlength=200)
    assert counts.var() == pytest.approx(counts.mean(), rel=0.35)
    assert not np.array_equal(found, poisson(0.2, 20_000.0, seed=2))


def test_flows_are_read_from_sumo_s_file(tmp_path):
    pytest.importorskip("scipy")
    town = map_town("cologne1", needed("resco", "cologne1", "cologne1.sumocfg").parents[2])
    one, two = town.network.links[:2]
    path = tmp_path / "flows.xml"
    path.write_text(
        f'<meandata><interval begin="0" end="9" id="flows"><edge id="{one}" left="7" arrived="2"/>'
        f'<edge id="elsewhere" left="5" arrived="0"/><edge id="{two}" left="1" arrived="0"/>'
        "</interval></meandata>"
    )
    flow = read_flows(path, town)
    assert flow[:2].tolist() == [9.0, 1.0] and flow.sum() == 10.0
    path.write_text('<meandata><interval><edge id="x" left="?"/></interval></meandata>'.replace(
        '"x"', f'"{one}"'
    ))  # fmt: skip
    with pytest.raises(DataError, match="left"):
        read_flows(path, town)


# The command.


def test_without_sumo_one_row_says_so(monkeypatch):
    monkeypatch.setattr(traffic_sumo, "available", lambda: False)
    checks, left_out = collect([SUMO["traffic"]], data=None, quick=True)
    assert not left_out
    (row,) = checks[0].run()
    assert row.name.startswith("skipped") and "fairlead[sumo]" in str(row.measured)
    assert row.passed is None


@sumo
def test_the_checks_depend_on_the_data(tmp_path):
    bare = [check.name for check in traffic_sumo.checks(data=None, quick=True)]
    assert bare == [
        "free flow",
        "queue discharge",
        "one signal",
        "grid, 2 phases",
        "grid, 4 phases",
    ]
    assert maps_at(tmp_path) == []
    (tmp_path / "traffic" / "resco" / "cologne3").mkdir(parents=True)
    (tmp_path / "traffic" / "resco" / "cologne3" / "cologne3.sumocfg").touch()
    more = [check.name for check in traffic_sumo.checks(data=tmp_path, quick=True)]
    assert more == [*bare, "map cologne3", "order of rules on cologne3"]


def test_mistakes_are_one_clear_line(capsys):
    for words, problem in (
        (["cloud", "--sumo"], "domain 'cloud' has nothing to compare with SUMO"),
        (["traffic", "--seeds", "3"], "add --sumo"),
        (["traffic", "--sumo-binary", "sumo"], "add --sumo"),
    ):
        status, out, err = run(capsys, "validate", *words)
        assert (status, out) == (2, "")
        assert problem in " ".join(err.split())


@sumo
def test_the_command_prints_rows_with_sumo_s_version(capsys):
    status, out, _ = run(
        capsys, "validate", "traffic", "--sumo", "--quick", "--seeds", "1", "--workers", "1",
        "--only", "against SUMO: free flow", "--json",
    )  # fmt: skip
    rows = json.loads(out)["rows"]
    measured = [row for row in rows if not row["name"].startswith("skipped")]
    assert status == 0
    assert len(measured) == 4 and all("SUMO 1." in row["name"] for row in measured)
    assert [row["passed"] for row in measured if "passed" in row] == [True, True]


def test_parity_needs_a_program_of_that_version():
    (row,) = parity_rows(None, None, 1)
    assert row.name == "skipped: RESCO parity" and PROGRAM in str(row.measured)
    with pytest.raises(DataError, match="runnable sumo program"):
        parity_rows(None, Path("/no/such/sumo"), 1)


@sumo
def test_parity_is_not_claimed_of_another_version():
    from fairlead.simulators.traffic.sumo.install import find_sumo

    binary = find_sumo("traci").binary
    (row,) = parity_rows(None, binary, 1)
    assert row.passed is None and "RESCO's is 1.9" in str(row.measured)


# Against SUMO.


@sumo
def test_free_driving_takes_as_long_as_in_sumo():
    rows = free_rows((13.89,), 1)
    assert list(marks(rows).values()) == [True]
    # 1000 m less a car's length at the mean speed of default drivers, and no faster.
    assert 1000.0 / 13.89 < rows[0].measured < 1.12 * 1000.0 / 13.89


@sumo
def test_a_queue_discharges_as_in_sumo():
    rows = {row.name.split(": ")[1]: row for row in discharge_rows((12, 27, 47))}
    # SUMO 1.28: 1.94 s; textbooks have 1.8 to 2.0.
    assert 1.8 <= rows["saturation headway in SUMO"].measured <= 2.1
    assert rows["our saturation headway"].passed
    assert rows["our lost time per green"].passed
    assert all(rows[f"our cars in {green} s of green"].passed for green in (12, 27, 47))


@sumo
@pytest.mark.slow
def test_delay_at_a_signal_is_as_in_sumo():
    theirs, ours, apart = delay_rows((0.8,), 2)
    assert ours.passed
    assert theirs.measured > 25.0  # more than the uniform part
    assert abs(apart.measured) < 10.0


class Seen:
    """An observation with three candidates of two agents."""

    def __init__(self, wave, order, mask):
        self.candidates = np.array(wave, dtype=np.float32)[:, :, None]
        self.private = {"order": np.array(order)}
        self.mask = np.array(mask, dtype=bool)


class Spec:
    def candidate_column(self, name):
        assert name == "wave"
        return 0


def test_resco_s_greedy_takes_the_first_phase_of_the_programme_at_ties():
    rule = Maxwave(Spec())
    seen = Seen(
        [[2, 2, 1], [0, 3, 3]], [[2, 0, 1], [1, 2, 0]], [[True, True, True], [True, True, True]]
    )
    # Phases 2, 0, 1 with waves 2, 2, 1: phase 0 is candidate 1; then 1, 2, 0 with 0, 3, 3.
    assert rule.act(seen, np.random.default_rng(0)).tolist() == [1, 2]
    held = Seen([[0, 9, 9], [1, 2, 5]], [[2, 0, 1], [0, 1, -1]], [[1, 0, 0], [1, 1, 0]])
    assert rule.act(held, np.random.default_rng(0)).tolist() == [0, 1]


@sumo
@pytest.mark.slow
@pytest.mark.parametrize("phases", ["2", "4"])
def test_grids_take_as_long_as_in_sumo(phases):
    rows = grid_rows(phases, (200.0, 600.0), 1)
    assert list(marks(rows).values()) == [True, True]


@sumo
@pytest.mark.slow
@pytest.mark.parametrize("name", ["cologne1", "cologne3", "cologne8"])
def test_cologne_is_closer_than_sumo_s_queue_model(name):
    needed("resco", name, f"{name}.sumocfg")
    rows = map_rows(name, DATA, 1)
    assert all(marks(rows).values()), [row for row in rows if row.passed is False]
    assert len(marks(rows)) == 3


@sumo
@pytest.mark.slow
def test_the_best_rule_is_the_best_in_both():
    needed("resco", "cologne1", "cologne1.sumocfg")
    rows = rank_rows("cologne1", DATA, 1)
    assert "greedy" in rows[0].name
    ours = {row.name.split("delay of ")[1].split(" in our")[0]: row.measured
            for row in rows if row.name.endswith("in our streets")}  # fmt: skip
    assert min(ours, key=ours.__getitem__) == "greedy"
    assert rows[-1].measured >= 0.6


@sumo
@pytest.mark.slow
def test_resco_s_published_figures():
    program = os.environ.get(PROGRAM)
    if not program:
        pytest.skip(f"needs a sumo program of 1.9.1; say where in {PROGRAM}")
    needed("resco", "cologne8", "cologne8.sumocfg")
    rows = parity_rows(DATA, Path(program), 3)
    assert list(marks(rows).values()) == [True, True]
