"""TNTP networks: what is read, quirks of the format, and how bad files are refused."""

import gzip

import numpy as np
import pytest
from traffic_data import needed

from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.files.tntp import read_tntp, read_tntp_folder

NET = """<NUMBER OF ZONES> 2\t\t
<number of  nodes> 4 ~ counted from 1
<FIRST THRU NODE> 3
<NUMBER OF LINKS> 5
<ORIGINAL HEADER>~ \tInit node \tTerm node ;
<END OF METADATA>\t


~\tinit_node\tterm_node\tcapacity\tlength\tfree_flow_time\tb\tpower\tspeed\ttoll\tlink_type\t;
\t1\t3\t100\t2.5\t6\t0.15\t4\t0\t7\t1\t;
\t3\t2\t1e2\t1\t5\t0\t0\t0\t0\t1;
\t1\t3\t50\t3\t4\t0.15\t4\t0\t0\t1
\t3\t4\t50\t3\t4\t0.15\t4\t;
\t4\t2\t50\t3\t4\t0.15\t4\t0\t;
"""
TRIPS = """<NUMBER OF ZONES> 2
<TOTAL OD FLOW> 120.0
<END OF METADATA>

Origin \t1
    1 :    20.0;    2 :   90.5
Origin 2
 1 : 9.5;
"""
FLOW = """From \tTo \tVolume \tCost
1 \t3 \t60.5 \t6.1
3 2 : 90.5 5 ;
1 3 30 4.2
3 4 0 4
4 2 0 4
"""
NODE = "Node\tX\tY\t;\n1\t-1.5\t2\t;\n2\t0\t0\t;\n3 1 1\n4 2 2;\n"


@pytest.fixture
def files(tmp_path):
    """Writes the four files, any of them changed, and returns their paths."""

    def write(**changes):
        texts = {"net": NET, "trips": TRIPS, "flow": FLOW, "node": NODE} | changes
        for kind, text in texts.items():
            (tmp_path / f"tiny_{kind}.tntp").write_text(text)
        return [tmp_path / f"tiny_{kind}.tntp" for kind in ("net", "trips", "flow", "node")]

    return write


def test_every_column_and_quirk_is_read(files):
    network = read_tntp(*files())
    assert (network.name, network.nodes, network.zones, network.first_thru) == ("tiny", 4, 2, 2)
    assert network.tail.tolist() == [0, 2, 0, 2, 3]
    assert network.head.tolist() == [2, 1, 2, 3, 1]
    assert network.capacity.tolist() == [100, 100, 50, 50, 50]
    assert network.length.tolist() == [2.5, 1, 3, 3, 3]
    assert network.free_flow_time.tolist() == [6, 5, 4, 4, 4]
    assert network.b.tolist() == [0.15, 0, 0.15, 0.15, 0.15]
    assert network.power.tolist() == [4, 0, 4, 4, 4]
    assert network.toll.tolist() == [7, 0, 0, 0, 0]
    assert network.demand.tolist() == [[20, 90.5], [9.5, 0]]
    # The rows of the two parallel links keep their order.
    assert network.best_volume.tolist() == [60.5, 90.5, 30, 0, 0]
    assert network.best_cost.tolist() == [6.1, 5, 4.2, 4, 4]
    assert network.xy.tolist() == [[-1.5, 2], [0, 0], [1, 1], [2, 2]]


def test_flow_and_nodes_are_optional_and_gzip_is_read(files, tmp_path):
    net, _, flow, node = files()
    flow.unlink(), node.unlink()
    (tmp_path / "tiny_net.tntp.gz").write_bytes(gzip.compress(net.read_bytes()))
    net.unlink()
    network = read_tntp_folder(tmp_path)
    assert (network.name, network.links) == ("tiny", 5)
    assert network.best_volume is None and network.best_cost is None and network.xy is None


@pytest.mark.parametrize(
    ("kind", "old", "new", "line", "field", "accepted"),
    [
        ("net", "<NUMBER OF LINKS> 5", "", None, "NUMBER OF LINKS", "expected before the rows"),
        ("net", "LINKS> 5", "LINKS> 6", 14, "NUMBER OF LINKS", "6 rows of links"),
        ("net", "LINKS> 5", "LINKS> five", 4, "NUMBER OF LINKS", "whole number of at least 1"),
        ("net", "THRU NODE> 3", "THRU NODE> 9", None, None, "first_thru is 8"),
        ("net", "\t1\t3\t100", "\t1\t5\t100", 10, "term_node", "from 1 to 4"),
        ("net", "\t1\t3\t100", "\t1\t3\t-100", 10, "capacity", "at least 0"),
        ("net", "\t1\t3\t100", "\t1\t3\t0", None, None, "capacity[0] is 0.0"),
        ("net", "\t1\t3\t100", "\t1\t3\tnan", 10, "capacity", "finite"),
        ("net", "2.5\t6\t", "2.5\tx\t", 10, "free_flow_time", "finite"),
        ("net", "\t3\t4\t50\t3\t4\t0.15\t4\t;", "\t3\t4\t50;", 13, None, "at least 7 fields"),
        ("trips", "ZONES> 2", "ZONES> 3", None, "NUMBER OF ZONES", "2 are expected"),
        ("trips", "Origin \t1", "", 6, None, "Origin ZONE"),
        ("trips", "Origin 2", "Origin 4", 7, "Origin", "from 1 to 2"),
        ("trips", "1 : 9.5", "3 : 9.5", 8, "destination", "from 1 to 2"),
        ("trips", "1 : 9.5", "1 9.5", 8, None, "ZONE : TRIPS"),
        ("trips", "1 : 9.5", "1 : -9.5", 8, "trips", "at least 0"),
        ("trips", "2 :   90.5", "1 : 90.5", 6, "destination", "one figure"),
        ("trips", " 1 : 9.5;", "", None, "TOTAL OD FLOW", "cut short"),
        ("flow", "3 4 0 4", "4 3 0 4", 5, "From, To", "each once"),
        ("flow", "3 4 0 4\n", "", None, "From, To", "no row"),
        ("flow", "3 4 0 4", "3 4 0", 5, None, "at least 4 fields"),
        ("flow", "3 4 0 4", "3 4 zero 4", 5, "Volume", "finite"),
        ("node", "3 1 1", "7 1 1", 4, "Node", "from 1 to 4"),
        ("node", "3 1 1\n", "", None, "Node", "no row"),
    ],
)
def test_bad_files_are_refused_where_they_are_bad(files, kind, old, new, line, field, accepted):
    text = {"net": NET, "trips": TRIPS, "flow": FLOW, "node": NODE}[kind]
    assert text.count(old) >= 1
    with pytest.raises(DataError) as caught:
        read_tntp(*files(**{kind: text.replace(old, new)}))
    assert caught.value.file.endswith(f"tiny_{kind}.tntp")
    assert (caught.value.line, caught.value.field) == (line, field)
    assert accepted in str(caught.value)


def test_a_folder_must_hold_one_network(tmp_path):
    with pytest.raises(DataError, match=r"\*_net\.tntp"):
        read_tntp_folder(tmp_path)
    for name in ("a_net.tntp", "b_net.tntp"):
        (tmp_path / name).write_text(NET)
    with pytest.raises(DataError, match=r"a_net\.tntp, b_net\.tntp"):
        read_tntp_folder(tmp_path)


@pytest.mark.parametrize(
    ("folder", "zones", "nodes", "links", "first_thru", "trips"),
    [
        ("SiouxFalls", 24, 24, 76, 0, 360600.0),
        ("Anaheim", 38, 416, 914, 38, 104694.4),
        ("Eastern-Massachusetts", 74, 74, 258, 0, 65576.375431),
        ("Braess-Example", 2, 4, 5, 0, 6.0),
    ],
)
def test_the_collection_is_read(folder, zones, nodes, links, first_thru, trips):
    network = read_tntp_folder(needed("tntp", folder))
    assert (network.zones, network.nodes, network.links) == (zones, nodes, links)
    assert network.first_thru == first_thru
    np.testing.assert_allclose(network.demand.sum(), trips, rtol=1e-9)


def test_the_published_costs_are_those_of_the_published_volumes():
    network = read_tntp_folder(needed("tntp", "SiouxFalls"))
    share = (network.best_volume / network.capacity) ** network.power
    cost = network.free_flow_time * (1.0 + network.b * share)
    np.testing.assert_allclose(cost, network.best_cost, rtol=1e-12)
    assert network.xy[0].tolist() == [-96.77041974, 43.61282792]
