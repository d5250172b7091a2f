"""`fairlead scenario import` on files of streets: what it shows, and how it refuses."""

import pytest
from traffic_data import needed
from traffic_sumo_small import NET

from fairlead.platform.files import UserError
from fairlead.platform.traces import summary
from fairlead.simulators.errors import DataError


def figures(kind, path):
    return {row.name: row.measured for row in summary(kind, path)}


def test_a_sumo_network_shows_its_signals(tmp_path):
    path = tmp_path / "small.net.xml"
    path.write_text(NET, encoding="utf-8")
    shown = figures("sumo", path)
    assert shown["signals"] == 1 and shown["links"] > 0
    assert shown["green phases of a signal, least"] >= 2


def test_a_truncated_network_is_refused_with_its_name(tmp_path):
    path = tmp_path / "cut.net.xml"
    path.write_text(NET[: len(NET) // 2], encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.net\.xml"):
        summary("sumo", path)


def test_cologne8_is_what_its_source_says():
    shown = figures("sumo", needed("resco", "cologne8", "cologne8.sumocfg"))
    assert (shown["signals"], shown["vehicles"]) == (8, 2046)


def test_jinan_and_sioux_falls():
    assert figures("cityflow", needed("cityflow", "roadnet_3_4.json.gz"))["signals"] == 12
    shown = figures("tntp", needed("tntp", "SiouxFalls"))
    assert (shown["links"], shown["zones"]) == (76, 24)
    assert shown["best-known flows"] == "yes"


def test_an_unknown_kind_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="sumo, cityflow, tntp"):
        summary("matsim", tmp_path)
