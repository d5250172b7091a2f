"""DC power flow: known flows, PTDF against B-theta, outages against rebuilt networks, islands."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from power_grids import random_grid, small_grid

from fairlead.simulators.power.costs import CostTable
from fairlead.simulators.power.grid import Curves, GridError
from fairlead.simulators.power.lodf import Topology, drop_branches, lodf, without
from fairlead.simulators.power.network import IslandError, Network, bridges, islands

RNG = np.random.default_rng(7)


def balanced(buses: int) -> np.ndarray:
    injection = RNG.normal(0.0, 100.0, buses)
    return injection - injection.mean()


def test_three_equal_lines_share_two_to_one():
    network = Network(small_grid(3, [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.1)]), convention="x")
    flow = network.flows(np.array([90.0, 0.0, -90.0]))
    assert flow == pytest.approx([30.0, 30.0, 60.0], abs=1e-12)
    assert network.ptdf[:, 0] == pytest.approx(0.0, abs=1e-15)


def test_conventions_give_the_susceptances_they_name():
    grid = small_grid(2, [(0, 1, 0.5)])
    tapped = replace(
        grid, branches=replace(grid.branches, tap=np.array([0.8]), shift=np.array([0.2]))
    )
    values = {c: Network(tapped, convention=c) for c in ("x", "x-tap", "r-x")}
    assert values["x"].susceptance[0] == pytest.approx(2.0)
    assert values["x-tap"].susceptance[0] == pytest.approx(2.5)
    assert values["r-x"].susceptance[0] == pytest.approx(0.5 / (0.05**2 + 0.5**2))
    assert [v.shift[0] for v in values.values()] == [0.0, 0.2, 0.0]
    with pytest.raises(GridError, match="no susceptance convention 'ac'; known: x, x-tap, r-x"):
        Network(grid, convention="ac")  # type: ignore[arg-type]


def test_a_phase_shift_drives_a_loop_flow_and_only_where_it_counts():
    grid = small_grid(3, [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.1)])
    shifted = replace(grid, branches=replace(grid.branches, shift=np.array([0.03, 0.0, 0.0])))
    # The loop's reactance is 0.3, so 0.03 rad drive 0.1 per unit around it.
    flow = Network(shifted, convention="x-tap").flows(np.zeros(3))
    assert flow == pytest.approx([-10.0, -10.0, 10.0], abs=1e-12)
    assert Network(shifted, convention="x").flows(np.zeros(3)) == pytest.approx([0.0] * 3)


@pytest.mark.parametrize("buses", [60, 450])
@pytest.mark.parametrize("convention", ["x", "x-tap", "r-x"])
def test_flows_are_those_of_the_angles(buses, convention):
    grid = random_grid(buses, buses // 2)
    network = Network(grid, convention=convention)
    injection = balanced(buses)
    weight = network.base * network.susceptance
    incidence = np.zeros((network.branches, buses))
    rows = np.arange(network.branches)
    incidence[rows, network.start] += 1.0
    incidence[rows, network.end] -= 1.0
    pushed = injection + incidence.T @ (weight * network.shift)
    angle = np.zeros(buses)
    angle[1:] = np.linalg.solve(network.laplacian()[1:, 1:], pushed[1:])
    flow = weight * (incidence @ angle - network.shift)
    assert network.dense == (buses == 60)
    assert network.flows(injection) == pytest.approx(flow, abs=1e-8)
    assert network.ptdf @ injection + network.offset == pytest.approx(flow, abs=1e-8)
    assert network.angles(injection) == pytest.approx(angle, abs=1e-10)
    some = np.array([3, 0, buses - 1])
    assert network.rows(some) == pytest.approx(network.ptdf[some], abs=1e-12)
    assert network.transfer(some)[:, 0] == pytest.approx(
        network.ptdf[:, network.start[3]] - network.ptdf[:, network.end[3]], abs=1e-12
    )


@pytest.mark.parametrize("buses", [60, 450])
def test_the_slack_does_not_matter_for_balanced_injections(buses):
    grid = random_grid(buses, buses // 2)
    injection = balanced(buses)
    flow = Network(grid, convention="x-tap").flows(injection)
    share = RNG.dirichlet(np.ones(buses))
    for slack in (buses // 3, share):
        network = Network(grid, convention="x-tap", slack=slack)
        assert network.flows(injection) == pytest.approx(flow, abs=1e-8)
        left = network.ptdf @ (share if slack is share else np.eye(buses)[buses // 3])
        assert left == pytest.approx(0.0, abs=1e-12)
    uneven = injection + share * 50.0
    assert Network(grid, convention="x-tap", slack=share).flows(uneven) == pytest.approx(
        flow, abs=1e-8
    )


@pytest.mark.parametrize("buses", [60, 450])
def test_outages_and_repairs_in_any_order_equal_the_rebuilt_network(buses):
    grid = random_grid(buses, buses)
    network = Network(grid, convention="x-tap")
    topology = Topology(network)
    injection = balanced(buses)
    safe = np.flatnonzero(~bridges(network))
    out: set[int] = set()
    for branch in RNG.permutation(np.concatenate([safe[:8], safe[:8], safe[8:12]])).tolist():
        if branch in out:
            topology.close(branch)
            out.remove(branch)
        elif not topology.splits(branch):
            topology.open(branch)
            out.add(branch)
        missing = np.isin(np.arange(network.branches), list(out))
        rebuilt = Network(drop_branches(grid, missing), convention="x-tap")
        flow = topology.flows(injection)
        assert np.abs(flow[~missing] - rebuilt.flows(injection)).max() < 1e-8
        assert (flow[missing] == 0.0).all() and (topology.closed == ~missing).all()
        assert np.abs(topology.ptdf[~missing] - rebuilt.ptdf).max() < 1e-8
        assert np.abs(topology.offset[~missing] - rebuilt.offset).max() < 1e-8
        some = np.array([5, 1, *sorted(out)[:2]])
        assert np.abs(topology.rows(some) - topology.ptdf[some]).max() < 1e-10
    assert topology.version >= 16


def test_the_topology_depends_on_what_is_out_and_not_on_how_it_came_so():
    network = Network(random_grid(40, 40), convention="x")
    one, other = np.flatnonzero(~bridges(network))[[2, 9]].tolist()
    direct, roundabout = Topology(network), Topology(network)
    direct.open(one)
    for _ in range(100):
        roundabout.open(one)
        roundabout.open(other)
        roundabout.close(one)
        roundabout.close(other)
    roundabout.open(one)
    assert (direct.ptdf == roundabout.ptdf).all()
    roundabout.close(one)
    assert (roundabout.ptdf == network.ptdf).all()


def test_lodf_columns_are_the_change_of_flows_and_bridges_have_none():
    grid = random_grid(30, 15)
    network = Network(grid, convention="x")
    factors, injection = lodf(network), balanced(30)
    flow = network.flows(injection)
    cut = bridges(network)
    assert 0 < cut.sum() < network.branches
    assert np.isnan(factors[:, cut]).all() and not np.isnan(factors[:, ~cut]).any()
    for branch in np.flatnonzero(~cut).tolist():
        after = flow + factors[:, branch] * flow[branch]
        out = np.arange(network.branches) == branch
        rebuilt = Network(drop_branches(grid, out), convention="x")
        assert after[~out] == pytest.approx(rebuilt.flows(injection), abs=1e-8)
        assert after[branch] == pytest.approx(0.0, abs=1e-10)
        assert without(network, branch)[~out] == pytest.approx(rebuilt.ptdf, abs=1e-8)


def test_an_outage_that_splits_the_network_is_refused_and_names_the_islands():
    network = Network(
        small_grid(4, [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.1), (2, 3, 0.1)]), convention="x"
    )
    topology = Topology(network)
    assert topology.splits(3) and not topology.splits(0)
    with pytest.raises(
        IslandError, match=r"outage of branch 'line3' leaves 2 islands.*bus3"
    ) as error:
        topology.open(3)
    assert [part.tolist() for part in error.value.islands] == [[0, 1, 2], [3]]
    assert topology.closed.all() and topology.version == 0
    topology.open(0)
    assert topology.splits(1)
    with pytest.raises(IslandError, match="'line1'"):
        topology.open(1)
    with pytest.raises(GridError, match="'line0' is out of service already"):
        topology.open(0)
    with pytest.raises(GridError, match="'line1' is in service already"):
        topology.close(1)
    with pytest.raises(GridError, match="branch 4 is none of 4"):
        topology.open(4)


def test_islands_are_named_or_balanced_each_at_its_own_reference():
    grid = small_grid(5, [(0, 1, 0.1), (3, 4, 0.1), (4, 2, 0.1)])
    assert islands(5, grid.branches.start, grid.branches.end).tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(IslandError, match="2 islands; apart from the largest: buses bus0, bus1"):
        Network(grid, convention="x")
    network = Network(grid, convention="x", split=True)
    assert network.references.tolist() == [0, 2]
    assert network.flows(np.array([-5.0, 5.0, -9.0, 9.0, 0.0])) == pytest.approx([-5.0, 9.0, 9.0])
    with pytest.raises(GridError, match="one slack cannot balance several islands"):
        Network(grid, convention="x", split=True, slack=1)


def test_a_dc_line_moves_power_between_its_ends():
    grid = small_grid(
        3, [(0, 1, 0.1), (1, 2, 0.1)], dc=[(0, 2, 50.0)], units=[(0, 100.0, 1.0)], load=[0, 0, 80.0]
    )
    network = Network(grid, convention="x")
    net = network.injection(np.array([80.0]), dc=np.array([30.0]))
    assert net.tolist() == [50.0, 0.0, -50.0]
    ac = network.injection(np.array([80.0]))
    assert network.flows(ac) + network.dc_effect @ np.array([30.0]) == pytest.approx([50.0, 50.0])


def test_angle_limits_tighten_ratings():
    grid = small_grid(2, [(0, 1, 0.1)], rate=500.0)
    narrow = replace(
        grid,
        branches=replace(grid.branches, angle_low=np.array([-0.1]), angle_high=np.array([0.9])),
    )
    network = Network(narrow, convention="x")
    assert (network.low[0], network.high[0]) == (pytest.approx(-100.0), 500.0)


def test_costs_of_all_units_are_those_of_their_curves():
    power = np.array([[10.0, 20.0, 40.0], [0.0, 50.0, 50.0], [7.0, 7.0, 7.0]])
    cost = np.array([[100.0, 250.0, 650.0], [5.0, 105.0, 105.0], [42.0, 42.0, 42.0]])
    table = CostTable(Curves(power, cost))
    for at in (power[:, 0], np.array([15.0, 20.0, 7.0]), np.array([30.0, 50.0, 7.0])):
        expected = [np.interp(p, power[u], cost[u]) for u, p in enumerate(at)]
        assert table.cost(at) == pytest.approx(expected, abs=1e-12)
    assert table.cost(power[:, 0], np.array([True, False, True])).tolist() == [100.0, 0.0, 42.0]
    assert table.marginal(np.array([10.0, 0.0, 7.0])).tolist() == [15.0, 2.0, 0.0]
    assert table.marginal(np.array([20.0, 50.0, 7.0])).tolist() == [20.0, 2.0, 0.0]
    # A unit on its way up from 0 pays its first segment's price for less.
    assert table.cost(np.array([4.0, 0.0, 7.0]))[0] == pytest.approx(10.0)


def test_an_outage_and_its_flows_fit_into_a_simulated_interval():
    network = Network(random_grid(73, 48), convention="x")
    topology, injection = Topology(network), balanced(73)
    branch = int(np.flatnonzero(~bridges(network))[0])
    best = np.inf
    for _ in range(20):
        start = time.perf_counter()
        topology.open(branch)
        topology.flows(injection)
        best = min(best, time.perf_counter() - start)
        topology.close(branch)
    assert best < 1e-3  # 0.03 ms on an idle core; the bound allows for a busy one
