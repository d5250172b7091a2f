"""Projection onto quadratic potentials: exact values, and what must not be called a projection."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import lsqr

from fairlead.policies.projection.galerkin import Energies, Galerkin, Potential
from fairlead.policies.projection.metric import Metric

SKEW = np.array([[0.0, 1.0], [-1.0, 0.0]])
SYMMETRIC = np.array([[-1.0, 0.3], [0.3, -2.0]])


def gaussian(seed, count, r=2):
    return np.random.default_rng(seed).standard_normal((count, r))


def definite(seed, r):
    half = np.random.default_rng(seed).standard_normal((r, r))
    return half @ half.T + 0.5 * np.eye(r)


def rough_field(seed, y):
    """Neither linear nor a gradient."""
    rng = np.random.default_rng(seed)
    r = y.shape[1]
    return np.sin(y @ rng.standard_normal((r, r))) + y @ rng.standard_normal((r, r)) + 0.3


def metric_of(kind, y):
    r = y.shape[1]
    if kind == "constant":
        return definite(3, r)
    return definite(3, r) * (1.0 + 0.5 * np.tanh(y[:, 0]) ** 2)[:, None, None] + np.einsum(
        "ki,kj->kij", 0.3 * y, y
    )


# -- 1, 2, 9: what is kept and what is removed -------------------------------------------------


@pytest.mark.parametrize("kind", ["constant", "varying"])
def test_gradient_of_a_quadratic_is_unchanged(kind):
    y = gaussian(0, 200, 4) * [1.0, 0.2, 3.0, 1.0] + [5.0, 0.0, -1.0, 2.0]
    potential = Potential(np.ones(4), np.arange(4.0), definite(1, 4) - 2.0 * np.eye(4))
    field = potential.gradient(y)
    found = Galerkin(y, metric_of(kind, y), ridge=0.0).project(field)
    np.testing.assert_allclose(found.potential.gradient(y), field, rtol=1e-9, atol=1e-8)
    rise = potential.value(y) - potential.value(y[:1])
    np.testing.assert_allclose(
        found.potential.value(y) - found.potential.value(y[:1]), rise, rtol=1e-8, atol=1e-7
    )
    assert found.energies.kappa < 1e-12


def test_rotation_vanishes_under_a_centred_isotropic_gaussian_and_the_better_the_more_samples():
    left = []
    for count in (200, 2_000, 20_000):
        y = gaussian(1, count)
        field = y @ SKEW.T
        found = Galerkin(y, np.eye(2), ridge=0.0).project(field)
        left.append(np.sqrt(found.energies.potential / found.energies.field))
    assert left[0] > left[1] > left[2]
    assert left[1] < 0.1 and left[2] < 0.02


def test_a_centred_disc_removes_rotation_and_a_shifted_one_keeps_most_of_it():
    rng = np.random.default_rng(2)
    angle, radius = rng.uniform(0.0, 2.0 * np.pi, 20_000), np.sqrt(rng.uniform(size=20_000))
    disc = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    assert Galerkin(disc, np.eye(2)).project(disc @ SKEW.T).energies.kappa > 0.99
    shifted = disc + np.array([3.0, 0.0])
    # About a point elsewhere the rotation is mostly drift: |3 e|^2 against mean |x|^2 = 1 / 2.
    kappa = Galerkin(shifted, np.eye(2)).project(shifted @ SKEW.T).energies.kappa
    assert kappa == pytest.approx(0.5 / 9.5, abs=0.01)


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0, 2.0, 5.0])
def test_kappa_of_linear_games_is_the_exact_one(strength):
    y = gaussian(4, 4_000)
    kappa = Galerkin(y, np.eye(2)).project(y @ (SYMMETRIC + strength * SKEW).T).energies.kappa
    square = strength**2 * np.sum(SKEW**2)
    assert kappa == pytest.approx(square / (np.sum(SYMMETRIC**2) + square), abs=0.02)


def test_kappa_rises_with_the_strength_of_the_rotation_and_stays_within_its_bounds():
    y = gaussian(5, 300)
    galerkin = Galerkin(y, np.eye(2))
    kappas = [
        galerkin.project(y @ (SYMMETRIC + s * SKEW).T).energies.kappa
        for s in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    ]
    assert (np.diff(kappas) > 0.0).all()
    assert kappas[0] >= 0.0 and kappas[-1] <= 1.0
    assert Energies(0.0, 0.0, 0.0).kappa == 0.0


# -- 3, 4, 5, 10: an orthogonal projection ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["constant", "varying"])
def test_projection_is_idempotent_orthogonal_linear_and_pythagorean(kind):
    y = gaussian(6, 400, 5)
    galerkin = Galerkin(y, metric_of(kind, y), ridge=0.0)
    one, other = rough_field(0, y), rough_field(1, y)
    found = galerkin.project(one)
    gradient = found.potential.gradient(y)
    size = np.abs(gradient).max()
    again = galerkin.project(gradient).potential.gradient(y)
    assert np.abs(again - gradient).max() < 1e-8 * size
    scale = galerkin.metric.energy(one)
    for seed in range(5):
        test = Potential(np.zeros(5), gaussian(seed, 1, 5)[0], definite(seed, 5)).gradient(y)
        inner = galerkin.metric.inner(one - gradient, test)
        assert abs(inner) < 1e-8 * np.sqrt(scale * galerkin.metric.energy(test))
    assert abs(found.energies.pythagoras) < 1e-8
    assert found.energies.potential > 0.05 * scale and found.energies.residual > 0.05 * scale
    mixed = galerkin.project(2.0 * one - 0.7 * other).potential.gradient(y)
    apart = 2.0 * gradient - 0.7 * galerkin.project(other).potential.gradient(y)
    assert np.abs(mixed - apart).max() < 1e-8 * size


@pytest.mark.parametrize("kind", ["constant", "varying"])
def test_projection_agrees_with_sparse_least_squares(kind):
    y = gaussian(7, 120, 3)
    metric, field = metric_of(kind, y), rough_field(2, y)
    # Unknowns: slope and upper triangle of the quadratic; a row per whitened component.
    factor = np.broadcast_to(np.linalg.cholesky(metric), (120, 3, 3))
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    rows, target = [], []
    for k in range(120):
        basis = np.zeros((3, 9))
        basis[:, :3] = np.eye(3)
        for column, (i, j) in enumerate(pairs):
            basis[i, 3 + column] += y[k, j]
            if i != j:
                basis[j, 3 + column] += y[k, i]
        rows.append(np.linalg.solve(factor[k], basis))
        target.append(np.linalg.solve(factor[k], field[k]))
    design = sparse.csr_array(np.concatenate(rows))
    solution = lsqr(design, np.concatenate(target), atol=1e-14, btol=1e-14, iter_lim=5_000)[0]
    quadratic = np.zeros((3, 3))
    for value, (i, j) in zip(solution[3:], pairs, strict=True):
        quadratic[i, j] = quadratic[j, i] = value
    expected = solution[:3] + y @ quadratic
    found = Galerkin(y, metric, ridge=0.0).project(field).potential.gradient(y)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_constant_metric_equals_the_same_matrix_at_every_sample():
    y, metric = gaussian(8, 150, 4), definite(8, 4)
    field = rough_field(3, y)
    one = Galerkin(y, metric, ridge=0.0).project(field)
    other = Galerkin(y, np.tile(metric, (150, 1, 1)), ridge=0.0).project(field)
    np.testing.assert_allclose(one.potential.quadratic, other.potential.quadratic, atol=1e-9)
    np.testing.assert_allclose(one.potential.linear, other.potential.linear, atol=1e-9)
    assert one.energies.kappa == pytest.approx(other.energies.kappa, abs=1e-10)


# -- 6: the metric matters -------------------------------------------------------------------------


def test_a_gradient_of_the_metric_has_no_symmetric_jacobian_and_is_unchanged():
    y, metric = gaussian(9, 2_000), np.diag([4.0, 1.0])
    hessian = np.array([[1.0, 2.0], [2.0, -1.0]])
    update = y @ hessian @ np.linalg.inv(metric)  # F = G^-1 grad phi
    jacobian = np.linalg.inv(metric) @ hessian
    assert abs(jacobian[0, 1] - jacobian[1, 0]) > 1.0
    kept = Galerkin(y, metric, ridge=0.0).project(update @ metric)
    np.testing.assert_allclose(
        Metric(metric).raise_index(kept.potential.gradient(y)), update, atol=1e-9
    )
    assert kept.energies.kappa < 1e-12
    changed = Galerkin(y, np.eye(2), ridge=0.0).project(update)
    assert changed.energies.kappa > 0.2


def test_which_rotation_is_removed_depends_on_the_metric():
    """Under N(0, G^-1) the rotation of the metric, G^-1 K x with skew K, is free of divergence."""
    metric = definite(10, 3)
    y = gaussian(10, 20_000, 3) @ np.linalg.inv(np.linalg.cholesky(metric))
    skew = np.array([[0.0, 1.0, -2.0], [-1.0, 0.0, 0.5], [2.0, -0.5, 0.0]])
    covectors = y @ (skew @ np.linalg.inv(metric) @ metric).T
    assert Galerkin(y, metric).project(covectors).energies.kappa > 0.99


# -- 7, 8, 12: the potential -----------------------------------------------------------------------


def test_relabelling_samples_changes_nothing():
    y = gaussian(11, 100, 3)
    field, turn = rough_field(4, y), np.random.default_rng(0).permutation(100)
    one = Galerkin(y, np.eye(3)).project(field)
    other = Galerkin(y[turn], np.eye(3)).project(field[turn])
    np.testing.assert_allclose(one.potential.quadratic, other.potential.quadratic, atol=1e-12)
    assert one.energies.kappa == pytest.approx(other.energies.kappa, abs=1e-12)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_the_potential_rises_along_the_projected_flow_below_the_step_limit(share):
    metric = np.diag([2.0, 0.5])
    y = gaussian(12, 2_000) / np.sqrt(np.diagonal(metric))
    field = y @ (SYMMETRIC + 3.0 * SKEW).T + [0.4, -0.2]
    potential = Galerkin(y, metric).project(field).potential
    steepness = np.abs(np.linalg.eigvals(np.linalg.solve(metric, potential.quadratic))).max()
    step = share * 2.0 / steepness
    point, values = np.array([2.0, -1.5]), []
    for _ in range(300):
        values.append(float(potential.value(point)))
        point = point + step * np.linalg.solve(metric, potential.gradient(point))
    rises = np.diff(values)
    assert (rises >= -1e-12).all() and rises[0] > 0.1
    assert np.abs(potential.gradient(point)).max() < 1e-3


def test_gradient_of_the_potential_equals_differences():
    y = gaussian(13, 60, 4)
    potential = Galerkin(y, definite(13, 4)).project(rough_field(5, y)).potential
    for point in y[:5]:
        for axis in np.eye(4):
            slope = (
                potential.value(point + 1e-5 * axis) - potential.value(point - 1e-5 * axis)
            ) / (2e-5)
            assert slope == pytest.approx(potential.gradient(point) @ axis, abs=1e-7)


# -- the rotation part, ridge, few samples, errors -------------------------------------------------


def test_the_rotation_is_the_skew_part_and_vanishes_for_cubic_potentials():
    metric = definite(14, 3)
    factor = np.linalg.cholesky(metric)
    half = gaussian(14, 4_000, 3)
    z = np.concatenate([half, -half])
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / z.shape[0])).T  # exactly isotropic
    y = z @ np.linalg.inv(factor)
    galerkin = Galerkin(y, metric, ridge=0.0)
    skew = np.array([[0.0, 1.0, -2.0], [-1.0, 0.0, 0.5], [2.0, -0.5, 0.0]])
    full = definite(15, 3) + factor @ skew @ factor.T
    np.testing.assert_allclose(galerkin.rotation(y @ full.T), factor @ skew @ factor.T, atol=1e-8)
    cubic = 0.5 * (y @ np.array([1.0, 2.0, -1.0]))[:, None] ** 2 * np.array([1.0, 2.0, -1.0])
    found = galerkin.project(cubic)
    assert found.energies.kappa > 0.1  # the misfit of a quadratic basis ...
    assert np.abs(galerkin.rotation(cubic)).max() < 1e-10  # ... is not rotation
    both = galerkin.rotation(np.stack([y @ full.T, cubic]))
    np.testing.assert_allclose(both[0], factor @ skew @ factor.T, atol=1e-8)


def test_ridge_pulls_the_quadratic_part_to_zero_and_leaves_the_slope():
    y = gaussian(16, 200, 3)
    field = y @ definite(16, 3) + 1.0
    sizes = [
        np.abs(Galerkin(y, np.eye(3), ridge=r).project(field).potential.quadratic).max()
        for r in (0.0, 0.1, 10.0)
    ]
    assert sizes[0] > sizes[1] > 2.0 * sizes[2]
    one = Galerkin(y, np.eye(3), ridge=10.0).project(field).potential
    np.testing.assert_allclose(one.linear, field.mean(axis=0))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_samples_than_dimensions_give_a_finite_interpolation(count):
    y = gaussian(17, count, 4)
    for kind in ("constant", "varying"):
        found = Galerkin(y, metric_of(kind, y), ridge=0.0).project(rough_field(6, y))
        assert np.isfinite(found.potential.quadratic).all()
        assert found.energies.kappa <= 1.0 and abs(found.energies.pythagoras) < 1e-6


def test_misfits_are_named():
    y = gaussian(18, 10, 2)
    with pytest.raises(ValueError, match="not positive definite"):
        Galerkin(y, np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="not symmetric"):
        Galerkin(y, np.array([[1.0, 0.2], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"samples of shape \(10, 2\) do not fit"):
        Galerkin(y, np.eye(3))
    with pytest.raises(ValueError, match=r"field: expected shape \(10, 2\)"):
        Galerkin(y, np.eye(2)).project(y[:5])
    with pytest.raises(ValueError, match="ridge"):
        Galerkin(y, np.eye(2), ridge=-1.0)
    with pytest.raises(TypeError, match="constant metric"):
        Galerkin(y, np.tile(np.eye(2), (10, 1, 1))).rotation(y)


def test_a_rectangle_keeps_part_of_the_rotation_even_for_quadratic_potentials():
    """``x y`` follows it along the longer sides: exactly ``((a^2 - b^2) / (a^2 + b^2))^2``.

    Taking the skew part of a Jacobian for the projection would remove everything here.
    """
    sides = np.array([2.0, 1.0])
    y = np.random.default_rng(0).uniform(-1.0, 1.0, (40_000, 2)) * sides
    kappa = Galerkin(y, np.eye(2)).project(y @ SKEW.T).energies.kappa
    assert kappa == pytest.approx(1.0 - (3.0 / 5.0) ** 2, abs=0.01)
