"""Assignment of the TNTP networks against the best solutions that are published."""

import numpy as np
import pytest
from traffic_data import DATA, needed

from fairlead.models.traffic.assignment import marginal_tolls, system_optimum, user_equilibrium
from fairlead.models.traffic.assignment_bound import objective_bounds
from fairlead.models.traffic.bpr import bpr
from fairlead.platform.validation.traffic_assignment import published_checks, rows
from fairlead.simulators.traffic.files.tntp import read_tntp_folder


def test_sioux_falls():
    network = read_tntp_folder(needed("tntp", "SiouxFalls"))
    equilibrium = user_equilibrium(network)
    assert equilibrium.status == "converged"
    assert equilibrium.objective == pytest.approx(4231335.287107440, rel=1e-9)
    assert equilibrium.total_time == pytest.approx(7480225.345, rel=1e-6)
    np.testing.assert_allclose(equilibrium.volume, network.best_volume, rtol=1e-4)
    optimum = system_optimum(network)
    assert 7194000.0 <= optimum.bound <= optimum.total_time <= 7194402.0
    assert equilibrium.total_time / optimum.total_time == pytest.approx(1.0397, abs=1e-4)
    tolled = user_equilibrium(network, fixed=marginal_tolls(network, optimum))
    np.testing.assert_allclose(tolled.volume, optimum.volume, rtol=1e-4)


def test_sioux_falls_by_linear_programs():
    network = read_tntp_folder(needed("tntp", "SiouxFalls"))
    bounds = objective_bounds(network, bpr(network), gap=1e-5)
    assert bounds.lower <= 4231335.287107440 <= bounds.upper
    assert bounds.upper - bounds.lower <= 1e-5 * bounds.upper


def test_anaheim():
    network = read_tntp_folder(needed("tntp", "Anaheim"))
    equilibrium = user_equilibrium(network)
    assert equilibrium.objective == pytest.approx(1286032.171096, rel=1e-9)
    assert equilibrium.total_time == pytest.approx(1419913.851, rel=1e-6)
    # Zones are ends of trips only: no more leaves or enters one than its own trips.
    out = np.bincount(network.tail, weights=equilibrium.volume, minlength=network.nodes)
    between = network.demand * (1.0 - np.eye(network.zones))
    np.testing.assert_allclose(out[: network.zones], between.sum(axis=1), rtol=1e-9)
    assert system_optimum(network).total_time == pytest.approx(1395015.087, rel=1e-6)


def test_eastern_massachusetts_converges():
    network = read_tntp_folder(needed("tntp", "Eastern-Massachusetts"))
    equilibrium, optimum = user_equilibrium(network, gap=1e-6), system_optimum(network, gap=1e-6)
    assert equilibrium.gap <= 1e-6 and optimum.gap <= 1e-6
    assert optimum.total_time < equilibrium.total_time


def test_braess_as_a_file():
    network = read_tntp_folder(needed("tntp", "Braess-Example"))
    equilibrium, optimum = user_equilibrium(network), system_optimum(network)
    np.testing.assert_allclose(equilibrium.volume, [4, 2, 2, 2, 4], atol=1e-6)
    assert equilibrium.total_time == pytest.approx(552.0, abs=1e-6)
    assert optimum.total_time == pytest.approx(498.0, abs=1e-6)


def test_validation_finds_the_networks_and_passes():
    folder = needed("tntp")
    names = [check.name for check in published_checks([DATA, folder.parent])]
    assert "assignment: SiouxFalls" in names and len(names) == len(set(names))
    found = rows(folder)
    assert all(row.passed is not False for row in found)
    known = [row for row in found if "objective, best known" in row.name]
    assert {row.name.partition(":")[0] for row in known} == {"SiouxFalls", "Anaheim"}
    assert all(row.tolerance == pytest.approx(1e-5 * row.expected) for row in known)
