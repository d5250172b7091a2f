"""Projection on graphs of samples: exact in edge space, and where it stops being good."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import lsqr
from test_hodge import SKEW, SYMMETRIC, definite, gaussian, rough_field

from fairlead.policies.projection.graph import SampleGraph


def cycle(count):
    angle = 2.0 * np.pi * np.arange(count) / count
    y = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    edges = np.stack([np.arange(count), (np.arange(count) + 1) % count], axis=1)
    return SampleGraph(y, np.eye(2), edges, np.ones(count))


def test_circulation_on_a_cycle_projects_to_nothing():
    graph = cycle(12)
    found = graph.project(graph.y @ SKEW.T)
    assert np.abs(found.flow).min() > 0.1
    assert np.abs(found.gradient).max() < 1e-13 and found.energies.kappa == pytest.approx(1.0)


def test_differences_of_node_values_are_recovered_exactly():
    y = gaussian(0, 80, 3)
    graph = SampleGraph.nearest(y, np.eye(3), neighbours=6)
    phi = np.random.default_rng(0).standard_normal(80)
    flow = phi[graph.edges[:, 1]] - phi[graph.edges[:, 0]]
    found = graph.project_flow(flow)
    np.testing.assert_allclose(found.phi, phi - phi.mean(), atol=1e-11)
    assert found.energies.kappa < 1e-20


@pytest.mark.parametrize("varying", [False, True])
def test_edge_projection_is_orthogonal_idempotent_linear_and_agrees_with_least_squares(varying):
    y = gaussian(1, 90, 3)
    metric = definite(1, 3)
    if varying:
        metric = metric * (1.0 + y[:, 0] ** 2)[:, None, None]
    graph = SampleGraph.nearest(y, metric, neighbours=8)
    one, other = (graph.flow(rough_field(seed, y)) for seed in (0, 1))
    found = graph.project_flow(one)
    divergence = np.zeros(90)
    np.add.at(divergence, graph.edges[:, 0], -graph.weights * found.residual)
    np.add.at(divergence, graph.edges[:, 1], graph.weights * found.residual)
    assert np.abs(divergence).max() < 1e-10
    assert abs(found.energies.pythagoras) < 1e-10 and 0.02 < found.energies.kappa < 0.98
    again = graph.project_flow(found.gradient)
    np.testing.assert_allclose(again.gradient, found.gradient, atol=1e-10)
    mixed = graph.project_flow(2.0 * one - 0.7 * other).gradient
    apart = 2.0 * found.gradient - 0.7 * graph.project_flow(other).gradient
    np.testing.assert_allclose(mixed, apart, atol=1e-10)
    # The same by scipy's iterative least squares on the weighted incidence matrix.
    root, lines = np.sqrt(graph.weights), graph.edges.shape[0]
    sign = np.concatenate([-root, root])
    place = (np.tile(np.arange(lines), 2), graph.edges.T.ravel())
    incidence = sparse.csr_array((sign, place), shape=(lines, 90))
    phi = lsqr(incidence, root * one, atol=1e-14, btol=1e-14, iter_lim=10_000)[0]
    np.testing.assert_allclose(incidence @ found.phi, incidence @ phi, atol=1e-7)


def test_gradient_of_a_quadratic_is_recovered_at_nodes_and_between_them():
    y = gaussian(2, 600)
    hessian, slope = SYMMETRIC, np.array([0.5, -1.0])
    graph = SampleGraph.nearest(y, np.eye(2))
    found = graph.project(y @ hessian + slope)
    assert found.energies.kappa < 1e-20  # the trapezoidal flow of a linear field is exact
    for points in (y[np.abs(y).max(axis=1) < 1.5][:40], gaussian(3, 40) * 0.7):
        expected = points @ hessian + slope
        error = np.linalg.norm(graph.gradient(found.phi, points) - expected)
        assert error < 0.05 * np.linalg.norm(expected)


def test_the_index_is_raised_with_the_metric():
    y, metric = gaussian(4, 500), np.diag([4.0, 1.0])
    graph = SampleGraph.nearest(y, metric)
    hessian = np.array([[1.0, 2.0], [2.0, -1.0]])
    phi = graph.project(y @ hessian).phi
    inside = y[:30] * 0.5
    vectors = graph.metric.raise_index(graph.gradient(phi, inside))
    np.testing.assert_allclose(vectors, inside @ hessian / [4.0, 1.0], atol=1e-6)


def test_relabelling_nodes_changes_nothing():
    y = gaussian(5, 120)
    field, turn = rough_field(2, y), np.random.default_rng(1).permutation(120)
    one = SampleGraph.nearest(y, np.eye(2), neighbours=10).project(field)
    other = SampleGraph.nearest(y[turn], np.eye(2), neighbours=10).project(field[turn])
    np.testing.assert_allclose(one.phi[turn], other.phi, atol=1e-10)
    assert one.energies.kappa == pytest.approx(other.energies.kappa, abs=1e-10)


def test_two_islands_have_potentials_of_their_own_or_are_bridged():
    left, right = gaussian(6, 60), gaussian(7, 60) + 100.0
    y = np.concatenate([left, right])
    field = y @ SYMMETRIC
    apart = SampleGraph.nearest(y, np.eye(2), neighbours=20, connect=False)
    assert apart.components == 2
    found = apart.project(field)
    alone = SampleGraph.nearest(left, np.eye(2), neighbours=20).project(field[:60])
    np.testing.assert_allclose(found.phi[:60], alone.phi, atol=1e-9)
    assert abs(found.phi[:60].mean()) < 1e-9 and abs(found.phi[60:].mean()) < 1e-9
    # A point on an island reads its own island's potential only.
    slope = apart.gradient(found.phi, left[:5] * 0.5)
    np.testing.assert_allclose(slope, left[:5] * 0.5 @ SYMMETRIC, atol=1e-6)
    bridged = SampleGraph.nearest(y, np.eye(2), neighbours=10)
    assert bridged.components == 1
    assert np.isfinite(bridged.project(field).phi).all()


def test_coinciding_and_single_nodes_are_defined():
    y = np.concatenate([gaussian(8, 20), gaussian(8, 20)])
    found = SampleGraph.nearest(y, np.eye(2), neighbours=5).project(y @ SYMMETRIC)
    assert np.isfinite(found.phi).all()
    np.testing.assert_allclose(found.phi[:20], found.phi[20:], atol=1e-9)
    alone = SampleGraph.nearest(np.zeros((1, 2)), np.eye(2)).project(np.ones((1, 2)))
    assert alone.phi.tolist() == [0.0] and alone.energies.kappa == 0.0


def test_kappa_of_the_graph_rises_with_the_rotation():
    y = gaussian(9, 600)
    graph = SampleGraph.nearest(y, np.eye(2))
    kappas = [
        graph.project(y @ (SYMMETRIC + s * SKEW).T).energies.kappa
        for s in (0.0, 0.5, 1.0, 2.0, 5.0)
    ]
    assert (np.diff(kappas) > 0.0).all() and kappas[0] < 1e-20
    for strength, kappa in zip((0.5, 1.0, 2.0, 5.0), kappas[1:], strict=True):
        square = strength**2 * np.sum(SKEW**2)
        # Biased low: edges at the rim see a rotation that no boundary stops.
        assert kappa == pytest.approx(square / (np.sum(SYMMETRIC**2) + square), abs=0.1)


def test_the_documented_limit_rotation_survives_in_part_and_less_with_more_neighbours():
    y = gaussian(10, 800)
    field = y @ SKEW.T
    left = []
    for neighbours in (12, 50):
        graph = SampleGraph.nearest(y, np.eye(2), neighbours=neighbours)
        kept = graph.gradient(graph.project(field).phi, y)
        left.append(np.linalg.norm(kept) / np.linalg.norm(field))
    assert 0.05 < left[1] < 0.3 < left[0] < 0.9


def test_misfits_are_named():
    edges = np.array([[0, 1]])
    with pytest.raises(ValueError, match="do not fit"):
        SampleGraph(gaussian(0, 4), np.eye(2), edges, np.ones(2))
    with pytest.raises(ValueError, match="positive"):
        SampleGraph(gaussian(0, 4), np.eye(2), edges, np.zeros(1))
