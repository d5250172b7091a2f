"""The amortised potential: helps where a quadratic does not do, and stays out otherwise."""

import numpy as np
import pytest
from test_hodge import SKEW, SYMMETRIC, definite, gaussian, rough_field

from fairlead.policies.projection.galerkin import Galerkin
from fairlead.policies.projection.network import NetworkFit, initial_weights, project_amortised


def wave(y, seed=0):
    """Gradient of ``sin(w'y)``: a potential that is no quadratic."""
    r = y.shape[1]
    w = 1.5 * np.random.default_rng(seed).standard_normal(r) / np.sqrt(r)
    return np.cos(y @ w)[:, None] * w


def run(y, field, metric=None, seed=0, **options):
    galerkin = Galerkin(y, np.eye(y.shape[1]) if metric is None else metric, ridge=0.0)
    return galerkin, project_amortised(galerkin, field, rng=np.random.default_rng(seed), **options)


@pytest.mark.parametrize("r", [2, 8])
def test_a_potential_beyond_the_quadratic_is_found_on_samples_it_has_not_seen(r):
    y = gaussian(0, 256, r)
    galerkin, found = run(y, wave(y))
    assert galerkin.project(wave(y)).energies.kappa > 3.0 * found.energies.kappa
    assert found.held_out < 0.5
    fresh = gaussian(1, 256, r)
    plain = galerkin.project(wave(y)).potential.gradient(fresh) - wave(fresh)
    rich = found.potential.gradient(fresh) - wave(fresh)
    assert np.sum(rich**2) < 0.5 * np.sum(plain**2)


@pytest.mark.parametrize("name", ["quadratic", "rotation", "noise", "nothing"])
def test_without_a_better_held_out_loss_the_network_contributes_exactly_nothing(name):
    y = gaussian(2, 200)
    field = {
        "quadratic": y @ SYMMETRIC + 1.0,
        "rotation": y @ SKEW.T,
        "noise": gaussian(3, 200),
        "nothing": np.zeros((200, 2)),
    }[name]
    galerkin, found = run(y, field)
    plain = galerkin.project(field)
    points = gaussian(4, 20)
    assert found.potential.scale == 0.0 and found.held_out == 1.0
    assert (found.potential.gradient(points) == plain.potential.gradient(points)).all()
    assert (found.potential.value(points) == plain.potential.value(points)).all()
    assert found.energies == plain.energies


@pytest.mark.parametrize("varying", [False, True])
def test_the_result_is_an_orthogonal_projection(varying):
    y = gaussian(5, 300, 3)
    metric = definite(5, 3)
    if varying:
        metric = metric * (1.0 + 0.3 * np.tanh(y[:, 0]))[:, None, None]
    field = wave(y) + 0.3 * y @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]]).T
    galerkin, found = run(y, field, metric)
    assert found.potential.scale != 0.0
    assert abs(found.energies.pythagoras) < 1e-9
    residual = field - found.potential.gradient(y)
    extra = found.potential.network_gradient(y)
    size = np.sqrt(galerkin.metric.energy(field) * galerkin.metric.energy(extra))
    assert abs(galerkin.metric.inner(residual, extra)) < 1e-9 * size
    assert found.energies.kappa < galerkin.project(field).energies.kappa


def test_gradient_equals_differences_of_the_value():
    y = gaussian(6, 200, 3)
    _, found = run(y, wave(y), definite(6, 3))
    assert found.potential.scale != 0.0
    for point in y[:5]:
        for axis in np.eye(3):
            ends = [found.potential.value(point + s * 1e-5 * axis) for s in (1.0, -1.0)]
            slope = (ends[0] - ends[1]) / 2e-5
            assert slope == pytest.approx(found.potential.gradient(point) @ axis, abs=1e-7)


def test_a_warm_start_needs_fewer_steps_for_a_field_that_has_moved_a_little():
    y = gaussian(7, 256, 4)
    _, first = run(y, wave(y))
    near = wave(y) + 0.1 * wave(y, seed=1)
    few = NetworkFit(steps=30)
    _, cold = run(y, near, fit=few)
    _, warm = run(y, near, start=first.weights, fit=few)
    assert warm.energies.kappa < 0.5 * cold.energies.kappa


def test_fits_repeat_bit_for_bit_and_follow_their_seed():
    y = gaussian(8, 200, 3)
    one, two, other = (run(y, wave(y), seed=s)[1] for s in (1, 1, 2))
    points = gaussian(9, 10, 3)
    assert (one.potential.gradient(points) == two.potential.gradient(points)).all()
    assert (one.potential.gradient(points) != other.potential.gradient(points)).any()
    start = initial_weights(np.random.default_rng(0), 3)
    kept = {name: value.copy() for name, value in start.items()}
    run(y, rough_field(0, y), start=start)
    assert all((start[name] == kept[name]).all() for name in kept)


def test_a_square_does_not_annihilate_rotation():
    """The residual is the stress of a twisted square bar: torsion constant over polar moment.

    0.14058 / (1 / 6) of the energy is left; a projection that drops the skew part of a Jacobian
    would leave all of it. Under a Gaussian all of it is left.
    """
    y = np.random.default_rng(0).uniform(-1.0, 1.0, (2_000, 2))
    _, found = run(y, y @ SKEW.T, fit=NetworkFit(steps=400, patience=20))
    assert found.energies.kappa == pytest.approx(0.14058 * 6.0, abs=0.015)
    y = gaussian(10, 2_000)
    _, found = run(y, y @ SKEW.T)
    assert found.energies.kappa > 0.99


def test_mirrored_samples_are_held_out_in_pairs():
    """The field at ``-y`` gives away the one at ``y``; held out alone it praises any odd fit."""
    half = gaussian(11, 64)
    y = np.concatenate([half, -half])
    kappas = {
        pairs: np.mean(
            [run(y, y @ SKEW.T, seed=s, antithetic=pairs)[1].energies.kappa for s in range(6)]
        )
        for pairs in (True, False)
    }
    plain = Galerkin(y, np.eye(2)).project(y @ SKEW.T).energies.kappa
    assert kappas[True] > 0.97 * plain and kappas[True] >= kappas[False]
