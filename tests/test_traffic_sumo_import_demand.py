"""SUMO demand and scenarios: kinds, vehicles, trips, flows, what is refused, and Cologne."""

import gzip
import itertools

import numpy as np
import pytest
from traffic_data import needed
from traffic_sumo_small import NET, write_net

from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.files.sumo_config import read_sumo_scenario
from fairlead.simulators.traffic.files.sumo_net import read_sumo_net
from fairlead.simulators.traffic.files.sumo_routes import read_sumo_routes


@pytest.fixture
def network(tmp_path):
    return read_sumo_net(write_net(tmp_path))


@pytest.fixture
def read(tmp_path, network):
    """Reads the demand of a ``<routes>`` document with the elements given."""
    numbers = itertools.count()

    def demand(*elements, **options):
        path = tmp_path / f"{next(numbers)}.rou.xml"
        path.write_text("<routes>\n" + "\n".join(elements) + "\n</routes>\n")
        return read_sumo_routes(path, network, **options)

    return demand


def names(network, demand):
    """Names of links on each vehicle's route."""
    return [
        " ".join(network.links[link] for link in demand.routes[route])
        for route in demand.route.tolist()
    ]


def test_vehicles_take_their_route_and_trips_the_quickest_one(network, read):
    demand = read(
        '<route id="turn" edges="west north last"/>',
        '<vehicle id="late" depart="30" route="turn"/>',
        '<trip id="back" depart="0:00:10" from="west" to="back"/>',
        '<vehicle id="own" depart="20.5"><route edges="east_in west_out"/></vehicle>',
        '<trip id="over" depart="10" from="west" via="north last" to="back"/>',
        '<trip id="stay" depart="40" from="side" to="side"/>',
    )
    assert demand.names == ("back", "over", "own", "late", "stay")
    assert demand.depart.tolist() == [10.0, 10.0, 20.5, 30.0, 40.0]
    assert names(network, demand) == [
        "west north last back", "west north last back", "east_in west_out", "west north last",
        "side",
    ]  # fmt: skip
    assert len(demand.routes) == 4
    assert demand.charged.tolist() == [False, False, True, True, False]
    assert [kind.name for kind in demand.kinds] == ["DEFAULT_VEHTYPE"]
    assert (demand.kinds[0].space, demand.kinds[0].factor, demand.kinds[0].spread) == (7.5, 1, 0.1)


def test_a_trip_with_the_links_of_a_route_is_still_routed(network, read):
    demand = read(
        '<trip id="a" depart="1" from="west" to="last"/>',
        '<vehicle id="b" depart="2"><route edges="north last"/></vehicle>',
        '<trip id="c" depart="3" from="north" to="last"/>',
    )
    assert names(network, demand) == ["west north last", "north last", "north last"]
    assert demand.route.tolist() == [0, 1, 1]


def test_departures_outside_the_episode_are_dropped_and_counted(read):
    trips = [
        f'<trip id="t{time}" depart="{time}" from="west" to="last"/>'
        for time in (99, 100, 150, 199)
    ] + ['<vehicle id="end" depart="200"><route edges="west north"/></vehicle>']
    demand = read(*trips, begin=100.0, end=200.0)
    assert demand.names == ("t100", "t150", "t199") and demand.depart.tolist() == [0.0, 50.0, 99.0]
    assert (demand.dropped, demand.begin, demand.end) == (2, 100.0, 100.0)
    assert read(*trips).dropped == 0 and read(*trips).end == 0.0
    with pytest.raises(ValueError, match="must be after begin"):
        read(*trips, begin=100.0, end=100.0)


def test_several_files_are_one_demand(tmp_path, network):
    kinds, trips = tmp_path / "a.xml", tmp_path / "b.rou.xml.gz"
    kinds.write_text('<additional><vType id="v" length="9"/><poly id="p"/></additional>')
    trips.write_bytes(
        gzip.compress(b'<routes><trip id="t" type="v" depart="3" from="side" to="last"/></routes>')
    )
    demand = read_sumo_routes([kinds, trips], network)
    assert demand.kinds[demand.kind[0]].length == 9.0
    with pytest.raises(DataError, match="an earlier vType"):
        read_sumo_routes([trips, kinds], network)


def test_a_kind_is_what_its_attributes_and_its_class_say(read):
    demand = read(
        '<vType id="pkw" vClass="passenger" speedDev="0.2" length="4.3" minGap="1.5" tau="1.2" '
        'accel="2" decel="4" maxSpeed="30" sigma="0.3" speedFactor="1.1"/>',
        '<vType id="lorry" vClass="truck"/>',
        '<vType id="bus" vClass="bus" length="18" speedFactor="0.9"/>',
        '<vType id="n" speedFactor="normc(1.05,0.07,0.2,2)"/>',
        '<vType id="m" speedFactor="norm(1.2, 0.3)" speedDev="0"/>',
        '<vType id="one" speedFactor="normc(1.2)"/>',
        '<trip id="t" type="bus" depart="0" from="side" to="last"/>',
    )
    car, lorry, bus, *factors = demand.kinds
    assert (car.length, car.gap, car.tau, car.accel, car.decel) == (4.3, 1.5, 1.2, 2.0, 4.0)
    assert (car.top, car.sigma, car.factor, car.spread) == (30.0, 0.3, 1.1, 0.2)
    assert (lorry.length, lorry.accel, lorry.decel, lorry.top) == (7.1, 1.3, 4.0, 36.11)
    assert (bus.length, bus.accel, bus.factor, bus.spread) == (18.0, 1.2, 0.9, 0.0)
    pairs = [(kind.factor, kind.spread) for kind in factors]
    assert pairs == [(1.05, 0.07), (1.2, 0.0), (1.2, 0.0)]
    assert demand.kind.tolist() == [2]


FLOW = '<flow id="f" from="west" to="last" {}/>'


@pytest.mark.parametrize(
    ("flow", "times"),
    [
        ('begin="0" end="10" period="2.5"', [0, 2.5, 5, 7.5]),
        ('begin="0" end="10" number="4"', [0, 2.5, 5, 7.5]),
        ('begin="0" end="10" vehsPerHour="1440"', [0, 2.5, 5, 7.5]),
        ('begin="12" number="3" period="1.5"', [12, 13.5, 15]),
        ('begin="13" number="3" end="20"', [13, 13 + 7 / 3, 13 + 14 / 3]),
        ('begin="13" number="3"', [13, 13 + 47 / 3, 13 + 94 / 3]),
        ('begin="12" end="22" perHour="720"', [12, 17]),
        ('period="25"', [0, 25, 50]),
        ('begin="50" end="90" period="5"', [50, 55]),
        ('begin="5" end="9" probability="1"', [5, 6, 7, 8]),
        ('begin="5" end="5" period="1"', []),
        ('number="0" period="1"', []),
        ('begin="70" period="1"', []),
    ],
)
def test_a_flow_is_spaced_as_in_sumo(read, flow, times):
    # The first seven lines are what SUMO 1.28 gave on a run that ends at 60 s.
    demand = read(FLOW.format(flow), end=60.0)
    assert demand.depart.tolist() == pytest.approx(times)
    assert demand.names == tuple(f"f.{place}" for place in range(len(times)))
    assert not demand.charged.any()


def test_a_flow_that_begins_early_keeps_its_numbers(read):
    demand = read(FLOW.format('begin="90" end="130" period="4"'), begin=100.0)
    assert demand.names[0] == "f.3" and demand.depart.tolist() == [2, 6, 10, 14, 18, 22, 26]
    assert demand.dropped == 3


def test_a_flow_takes_a_route_and_a_kind(network, read):
    demand = read(
        '<vType id="v" length="9"/>',
        '<route id="r" edges="east_in west_out"/>',
        '<flow id="a" route="r" type="v" end="4" period="2"/>',
        '<flow id="b" type="v" end="4" period="2"><route edges="side last"/></flow>',
    )
    assert demand.names == ("a.0", "b.0", "a.1", "b.1") and demand.kind.tolist() == [0] * 4
    assert names(network, demand) == ["east_in west_out", "side last"] * 2


@pytest.mark.parametrize("rate", ['probability="0.25"', 'period="exp(0.25)"'])
def test_random_flows_have_their_rate_and_follow_from_their_id(read, rate):
    flow = FLOW.format(f'end="8000" {rate}')
    one, again = read(flow), read(flow)
    assert one.depart.tolist() == again.depart.tolist()
    # 2000 expected, standard deviation below 45.
    assert 1800 < one.vehicles < 2200
    assert read(flow.replace('id="f"', 'id="g"')).depart.tolist() != one.depart.tolist()
    gaps = np.diff(one.depart)
    whole = (gaps == np.round(gaps)).all()
    assert bool(whole) == rate.startswith("prob") and gaps.min() >= (1.0 if whole else 0.0)
    # Geometric and exponential gaps of mean 4 s; their deviations are 3.46 and 4 s.
    assert gaps.std() == pytest.approx(3.46 if whole else 4.0, rel=0.1)


ROUTE = '<route id="r" edges="west north"/>'


@pytest.mark.parametrize(
    ("elements", "field", "accepted"),
    [
        (['<trip id="t" depart="0" from="wset" to="last"/>'], "trip.from", "no 'wset'"),
        (['<trip id="t" depart="0" from="west" to="path"/>'], "trip.to", "edges for cars"),
        (['<trip id="t" depart="0" from="west" via="x" to="last"/>'], "trip.via", "no 'x'"),
        (['<trip id="t" depart="0" from="west"/>'], "trip.to", "missing"),
        (['<trip id="t" depart="0" from="east_in" to="last"/>'], "trip",
         "connected for cars are expected, from 'east_in', to 'last'"),
        (['<trip id="t" depart="triggered" from="west" to="last"/>'], "trip.depart", "a time"),
        (['<trip id="t" depart="-1" from="west" to="last"/>'], "trip.depart", "a time"),
        (['<trip id="t" from="west" to="last"/>'], "trip.depart", "missing"),
        (['<trip id="t" type="v" depart="0" from="west" to="last"/>'], "trip.type", "vType"),
        (['<trip depart="0" from="west" to="last"/>'], "trip.id", "missing"),
        (['<vehicle id="v" depart="0" route="q"/>'], "vehicle.route", "earlier route"),
        (['<vehicle id="v" depart="0" from="west" to="last"/>'], "vehicle", "a route"),
        (['<vehicle id="v" depart="0"><route edges="west last"/></vehicle>'], "route.edges",
         "no movement from link 'west' to 'last'"),
        (['<vehicle id="v" depart="0"><route edges=""/></vehicle>'], "route.edges", "one edge"),
        ([ROUTE, '<vehicle id="v" depart="0" route="r"><stop lane="west_1"/></vehicle>'], "stop",
         "take stops out"),
        (['<route id="r" edges="west north" repeat="2"/>'], "route.repeat", "driven once"),
        ([ROUTE, *['<vehicle id="v" depart="0" route="r"/>'] * 2], "vehicle.id", "another id"),
        (['<vType id="v"/>', '<vType id="v"/>'], "vType.id", "another id"),
        (['<vTypeDistribution id="d"/>'], "vTypeDistribution", "vType of its own"),
        (['<routeDistribution id="d"/>'], "routeDistribution", "route of its own"),
        (['<tlLogic id="TL"/>'], "tlLogic", "network file"),
        (['<vType id="v" vClass="tram"/>'], "vType.vClass", "passenger"),
        (['<vType id="v" length="0"/>'], "vType.length", "greater than 0"),
        (['<vType id="v" sigma="2"/>'], "vType.sigma", "0 to 1"),
        (['<vType id="v" speedFactor="uniform(1,2)"/>'], "vType.speedFactor", "norm"),
        (['<vType id="v" speedFactor="-1"/>'], "vType.speedFactor", "norm"),
        (['<vType id="v" speedDev="inf"/>'], "vType.speedDev", "number"),
        ([FLOW.format('end="9"')], "flow", "one of period"),
        ([FLOW.format('end="9" period="1" perHour="1"')], "flow", "one of period"),
        ([FLOW.format('period="1"')], "flow.end", "no end either"),
        ([FLOW.format('number="5"')], "flow.end", "no end either"),
        ([FLOW.format('end="9" period="0"')], "flow.period", "greater than 0"),
        ([FLOW.format('end="9" period="0.0001"')], "flow.period", "0.001 s"),
        ([FLOW.format('end="9" vehsPerHour="1e8"')], "flow.vehsPerHour", "0.001 s"),
        ([FLOW.format('end="9" period="exp(0)"')], "flow.period", "positive rate"),
        ([FLOW.format('end="9" probability="1.5"')], "flow.probability", "up to 1"),
        ([FLOW.format('end="9" number="-2"')], "flow.number", "whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_its_line(read, elements, field, accepted):
    with pytest.raises(DataError) as caught:
        read(*elements)
    error = caught.value
    assert (error.field, error.line) == (field, 1 + len(elements)) and accepted in error.accepted


def test_trips_without_a_way_can_be_dropped_instead(read):
    trips = [
        '<trip id="none" depart="0" from="east_in" to="last"/>',
        '<trip id="some" depart="1" from="west" to="last"/>',
        '<trip id="again" depart="2" from="east_in" to="last"/>',
    ]
    with pytest.raises(DataError, match="'none'"):
        read(*trips)
    demand = read(*trips, unroutable="drop")
    assert demand.names == ("some",) and demand.dropped == 2 and len(demand.routes) == 1


@pytest.mark.parametrize("text", ["", "<routes>", "<net/>", '<routes><trip id="t" depart="'])
def test_files_that_hold_no_demand_are_refused(tmp_path, network, text):
    (tmp_path / "bad.rou.xml").write_text(text)
    with pytest.raises(DataError, match=r"XML|<routes>"):
        read_sumo_routes(tmp_path / "bad.rou.xml", network)


def test_nobody_may_drive(network, read):
    demand = read("")
    demand.check(network)
    assert demand.vehicles == 0 and demand.routes == () and demand.depart.shape == (0,)


CONFIG = """<configuration>
    <input>
        <net-file value="nets/small.net.xml"/>
        <route-files value="a.rou.xml, b.rou.xml"/>
        <additional-files value="kinds.add.xml"/>
    </input>
    <time><begin value="10"/><end value="0:01:00"/></time>
</configuration>
"""


@pytest.fixture
def scenario(tmp_path):
    (tmp_path / "nets").mkdir()
    write_net(tmp_path / "nets")
    trip = '<routes><trip id="{}" type="v" depart="{}" from="west" to="last"/></routes>'
    (tmp_path / "a.rou.xml").write_text(trip.format("a", 30))
    (tmp_path / "b.rou.xml").write_text(trip.format("b", 20))
    (tmp_path / "kinds.add.xml").write_text('<additional><vType id="v"/></additional>')

    def config(*changes):
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "small.sumocfg").write_text(text)
        return tmp_path / "small.sumocfg"

    return config


def test_a_scenario_is_network_and_demand(scenario):
    network, demand = read_sumo_scenario(scenario())
    assert network.name == "small" and demand.names == ("b", "a")
    assert (demand.begin, demand.end, demand.depart.tolist()) == (10.0, 50.0, [10.0, 20.0])


def test_begin_and_end_are_optional_and_options_have_short_names(scenario):
    _, demand = read_sumo_scenario(
        scenario(('<begin value="10"/><end value="0:01:00"/>', '<e v="-1"/>'), ("net-file", "n"))
    )
    assert (demand.begin, demand.end, demand.depart.tolist()) == (0.0, 0.0, [20.0, 30.0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("net-file", "no-file"), "'net-file': missing"),
        (("route-files", "no-files"), "'route-files': missing"),
        (("nets/small.net.xml", "nets/absent.net.xml"), "absent.net.xml: cannot be read"),
        (("b.rou.xml", "c.rou.xml"), "c.rou.xml: cannot be read"),
        (("a.rou.xml, b.rou.xml", " , "), "name of a file"),
        (("a.rou.xml, b.rou.xml", ""), "route-files.value"),
        (('"0:01:00"', '"5"'), "after the begin at 10"),
        (('"0:01:00"', '"soon"'), "a time is expected"),
        (("</configuration>", ""), "not well-formed XML"),
        (("configuration>", "routes>"), "<configuration> or"),
    ],
)
def test_a_scenario_that_cannot_be_used_is_refused(scenario, change, match):
    with pytest.raises(DataError, match=match):
        read_sumo_scenario(scenario(change))


def test_an_error_of_the_network_is_that_of_its_file(scenario, tmp_path):
    (tmp_path / "nets" / "small.net.xml").write_text(NET[:-50])
    with pytest.raises(DataError, match=r"small\.net\.xml, line \d+: not well-formed"):
        read_sumo_scenario(scenario())


COLOGNE = [(1, 2015, 0, 0), (3, 2856, 1638, 2856), (8, 2046, 0, 0)]


@pytest.mark.parametrize(("number", "vehicles", "dropped", "charged"), COLOGNE)
def test_cologne_drives_within_its_hour(number, vehicles, dropped, charged):
    # The numbers of vehicles are those that SUMO 1.28 lets depart.
    name = f"cologne{number}"
    network, demand = read_sumo_scenario(needed("resco", name, f"{name}.sumocfg"))
    demand.check(network)
    found = demand.vehicles, demand.dropped, int(demand.charged.sum())
    assert found == (vehicles, dropped, charged)
    assert (demand.begin, demand.end) == (25200.0, 3600.0)
    assert demand.depart[0] >= 0.0 and demand.depart[-1] < 3600.0
    (kind,) = demand.kinds
    assert (kind.name, kind.length, kind.gap, kind.spread) == ("pkw", 4.3, 1.5, 0.1)
