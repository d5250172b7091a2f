"""The subspace, the sampling measure and the field that one roll-out yields."""

import dataclasses

import numpy as np
import pytest
import torch
from crowd_game import Crowds, logits_of

from fairlead.policies.experience import Decisions
from fairlead.policies.gradients import time_units
from fairlead.policies.networks import scores
from fairlead.policies.projection import field as field_module
from fairlead.policies.projection.field import Field, Sample, linearise, measure, own_gradient
from fairlead.policies.projection.galerkin import Galerkin
from fairlead.policies.projection.measure import REACH, Spread, distinct
from fairlead.policies.projection.rotation import Rotation
from fairlead.policies.projection.subspace import Subspace, players_of
from fairlead.policies.trust.fisher import flatten, unflatten


def holes(rollout):
    """Some candidates illegal, some agents idle, agent 1 without any choice at all."""
    rng = np.random.default_rng(0)
    mask = rng.random(rollout.mask.shape) < 0.7
    mask[..., 0] = True
    mask[:, :, 1, 1:] = False
    return dataclasses.replace(rollout, mask=mask, active=rng.random(rollout.active.shape) < 0.8)


def probe(game, rollout, advantages, *, slots=2, most=10**9):
    """Sample, subspace of random directions, tangent, and how decisions are credited."""
    decisions = Decisions(rollout, game.actor.member, game.actor.groups)
    everyone = np.arange(game.actor.groups)
    (table,) = decisions.whole_epochs(np.random.default_rng(0), everyone, most=most, pieces=1)
    sample = Sample.of(table, game.agents, time_units(*rollout.reward.shape, block=25, aim=64))
    like = flatten(game.actor.parameters)
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(like.shape, generator=generator) for _ in range(slots)]
    subspace = Subspace.spanned(players_of(game.actor.groups, 8), directions, slots)
    experience = game.actor.experience(rollout)
    values = torch.from_numpy(advantages.astype(np.float32))

    def worth(batch):
        return experience.spread(values, batch.index)

    tangent = linearise(game.actor.parameters, experience, sample, subspace, worth)
    return sample, subspace, tangent, experience, worth


def moved(game, subspace, y):
    """Exact parameters ``theta + U y``."""
    theta = flatten(game.actor.parameters)
    return unflatten(theta + subspace.lift(y), game.actor.parameters)


def everything(game, experience, sample):
    return experience.minibatch(
        *experience.placed(sample.index, sample.real, np.arange(game.actor.groups))
    )


def game_and_advantages(per_agent, **options):
    game = Crowds(choices=3, epochs=(2, 60), varied=True, sizes=(3, 2), **options)
    rollout = game.play(holes)
    rng = np.random.default_rng(3)
    shape = rollout.actions.shape if per_agent else rollout.reward.shape
    return game, rollout, rng.standard_normal(shape)


# -- subspace --------------------------------------------------------------------------------------


def test_directions_are_orthonormal_and_move_one_player_each():
    generator = torch.Generator().manual_seed(0)
    candidates = [torch.randn(5, 30, generator=generator) for _ in range(3)]
    player = players_of(5, 2)
    assert player.tolist() == [0, 0, 0, 1, 1] and players_of(3, 8).tolist() == [0, 1, 2]
    subspace = Subspace.spanned(player, candidates, 3)
    assert subspace.rank == 6
    lifted = torch.stack([subspace.lift(unit) for unit in np.eye(6)])
    gram = torch.einsum("igp,jgp->ij", lifted, lifted)
    torch.testing.assert_close(gram, torch.eye(6), atol=1e-5, rtol=0.0)
    assert (lifted[:3, 3:] == 0.0).all() and (lifted[3:, :3] == 0.0).all()
    y = np.arange(6.0)
    np.testing.assert_allclose(subspace.coordinates(subspace.lift(y)), y, atol=1e-5)
    # What a player is given is spanned.
    rest = candidates[2] - subspace.lift(subspace.coordinates(candidates[2]))
    assert rest.abs().max() < 1e-5


def test_zero_and_dependent_directions_leave_their_slot_empty():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 30, generator=generator)
    second = torch.randn(2, 30, generator=generator)
    second[0] = 2.0 * first[0]
    subspace = Subspace.spanned(np.arange(2), [torch.zeros(2, 30), first, second, first], 4)
    assert subspace.live.tolist() == [[False, True, False, False], [False, True, True, False]]
    assert subspace.rank == 3
    fewer = subspace.without(np.array([False, True, False]))
    assert fewer.live.tolist() == [[False, True, False, False], [False, False, True, False]]


# -- field against the network itself --------------------------------------------------------------


def test_linearised_logits_agree_with_the_network_to_second_order():
    game, rollout, advantages = game_and_advantages(per_agent=True)
    sample, subspace, tangent, experience, _ = probe(game, rollout, advantages)
    batch = everything(game, experience, sample)
    real, legal = batch.weight.bool(), batch.mask[batch.weight.bool()]

    def logits(y):
        exact = {k: v.double() for k, v in moved(game, subspace, y).items()}
        rows = scores(exact, batch.agent.double(), batch.candidates.double(), batch.mask)
        return rows[real]

    direction = np.random.default_rng(0).standard_normal(subspace.rank)
    p, errors = tangent.at.double().exp() * tangent.mask, []
    for scale in (0.2, 0.1):
        y = scale * direction
        points = torch.from_numpy(subspace.spread(y))
        linear = torch.einsum("nkd,nd->nk", tangent.slope.double(), points[tangent.player])
        change = logits(y) - logits(0.0 * y)
        change = change - (change * p).sum(1, keepdim=True)
        errors.append(float(((linear - change) * legal).abs().max()))
        assert errors[-1] < 0.1 * float((change * legal).abs().max())
    assert 3.0 < errors[0] / errors[1] < 5.0


def exact_field(game, experience, sample, subspace, worth):
    """``y -> f(y)`` by automatic differentiation of the network itself in double precision."""
    batch = _up(everything(game, experience, sample))
    credit, epoch = worth(batch).double(), torch.from_numpy(sample.epoch)

    def taken(parameters):
        return logits_of(parameters, batch).gather(2, batch.actions[..., None])[..., 0]

    theta = {k: v.double() for k, v in game.actor.parameters.items()}
    old = taken(theta)

    def at(y):
        flat = flatten(theta) + subspace.lift(y).double()
        leaves = {k: v.detach().requires_grad_() for k, v in unflatten(flat, theta).items()}
        new = taken(leaves)
        change = ((new - old) * batch.weight).detach()
        ratio = torch.zeros(sample.epochs, dtype=torch.float64)
        ratio = ratio.index_add_(0, epoch.ravel(), change.ravel()).exp()
        # d (M A) = M A d log pi: each decision under the joint ratio of its epoch.
        gain = (new * credit * ratio[epoch] * batch.weight).sum() / sample.epochs
        parts = torch.autograd.grad(gain, list(leaves.values()))
        return subspace.coordinates(torch.cat([p.flatten(1) for p in parts], dim=1))

    return at


@pytest.mark.parametrize("per_agent", [False, True])
def test_field_is_the_gradient_of_the_joint_ratio_times_each_players_advantage(per_agent):
    game, rollout, advantages = game_and_advantages(per_agent)
    sample, subspace, tangent, experience, worth = probe(game, rollout, advantages)
    exact = exact_field(game, experience, sample, subspace, worth)
    origin = np.zeros(subspace.rank)
    here = exact(origin)
    assert np.abs(here).max() > 0.01
    found = measure(tangent, subspace, sample, origin[None]).mean[0]
    np.testing.assert_allclose(found, here, atol=2e-6)
    own = own_gradient(game.actor.parameters, experience, sample, worth)
    np.testing.assert_allclose(subspace.coordinates(own), here, atol=2e-6)
    near = origin + 0.005
    found = measure(tangent, subspace, sample, near[None]).mean[0]
    np.testing.assert_allclose(found, exact(near), atol=0.01 * np.abs(here).max())


def test_the_networks_own_curvature_adds_nothing_to_the_rotation():
    """It is left out of the linearised field; in the Jacobian it is symmetric."""
    game, rollout, advantages = game_and_advantages(per_agent=True)
    sample, subspace, tangent, experience, worth = probe(game, rollout, advantages)
    exact = exact_field(game, experience, sample, subspace, worth)
    units, small = np.eye(subspace.rank), 1e-2
    network = np.stack([(exact(small * e) - exact(-small * e)) / (2 * small) for e in units], 1)
    values = measure(tangent, subspace, sample, small * np.concatenate([units, -units])).mean
    linear = (values[: len(units)] - values[len(units) :]).T / (2 * small)
    assert np.abs(network - linear).max() > 0.05 * np.abs(network).max()
    skew = network - network.T
    assert np.abs(skew).max() > 0.05 * np.abs(network).max()
    np.testing.assert_allclose(linear - linear.T, skew, atol=0.02 * np.abs(skew).max())


def test_with_one_advantage_the_field_is_a_gradient_and_with_several_it_is_not():
    sizes = {}
    for per_agent in (False, True):
        game, rollout, advantages = game_and_advantages(per_agent)
        sample, subspace, tangent, *_ = probe(game, rollout, advantages)
        r = subspace.rank
        steps = 0.2 * np.concatenate([np.eye(r), -np.eye(r)])
        values = measure(tangent, subspace, sample, steps).mean
        jacobian = (values[:r] - values[r:]).T
        sizes[per_agent] = np.abs(jacobian - jacobian.T).max() / np.abs(jacobian).max()
    assert sizes[False] < 1e-3 and sizes[True] > 0.1


def test_metric_gives_the_exact_joint_kl_of_an_epoch():
    game, rollout, advantages = game_and_advantages(per_agent=False)
    sample, subspace, tangent, experience, _ = probe(game, rollout, advantages)
    batch = everything(game, experience, sample)
    metric = tangent.metric(subspace, sample.epochs)
    rng = np.random.default_rng(1)
    for _ in range(3):
        y = 0.02 * rng.standard_normal(subspace.rank)
        with torch.no_grad():
            old = logits_of({k: v.double() for k, v in game.actor.parameters.items()}, _up(batch))
            new = logits_of(
                {k: v.double() for k, v in moved(game, subspace, y).items()}, _up(batch)
            )
            each = (old.exp() * batch.mask * (old - new)).sum(-1) * batch.weight
        assert 0.5 * y @ metric @ y == pytest.approx(float(each.sum()) / sample.epochs, rel=0.05)
    own = subspace.live.sum(axis=1)
    assert (metric[: own[0], own[0] :] == 0.0).all()


def _up(batch):
    return dataclasses.replace(
        batch, agent=batch.agent.double(), candidates=batch.candidates.double()
    )


def test_pieces_do_not_change_the_field(monkeypatch):
    game, rollout, advantages = game_and_advantages(per_agent=True)
    y = 0.1 * np.random.default_rng(2).standard_normal((9, 4))
    whole = measure(*_for_measure(probe(game, rollout, advantages)), y)
    monkeypatch.setattr(field_module, "CHUNK", 14)
    monkeypatch.setattr(field_module, "FLOATS", 500)
    pieces = measure(*_for_measure(probe(game, rollout, advantages)), y)
    np.testing.assert_allclose(pieces.sums, whole.sums, atol=1e-4)
    assert pieces.effective == pytest.approx(whole.effective, rel=1e-5)


def _for_measure(parts):
    sample, subspace, tangent, *_ = parts
    return tangent, subspace, sample


def test_samples_are_whole_epochs_in_time_units():
    game, rollout, advantages = game_and_advantages(per_agent=False)
    active = rollout.active.copy()
    active[0, :30] = False  # the first unit is empty
    rollout = dataclasses.replace(rollout, active=active)
    sample, *_ = probe(game, rollout, advantages, most=200)
    chosen = sample.index[sample.real] // game.agents
    decides = rollout.active & (rollout.mask.sum(-1) > 1)
    for epoch in np.unique(chosen):
        assert np.sum(chosen == epoch) == decides.reshape(-1, game.agents)[epoch].sum()
    assert 150 < sample.real.sum() < 260 and sample.epochs == np.unique(chosen).size
    assert sorted(np.unique(sample.unit)) == [0, 1, 2]
    np.testing.assert_allclose(sample.size * sample.epochs, sample.real.sum(axis=1))


# -- measure and rotation --------------------------------------------------------------------------


def spread_of(r=3, kl=0.1, samples=64, seed=0):
    half = np.random.default_rng(seed).standard_normal((r, r))
    return Spread(
        half @ half.T + np.eye(r), kl=kl, samples=samples, rng=np.random.default_rng(seed)
    )


def test_samples_have_exact_moments_and_the_wanted_joint_kl():
    spread = spread_of(kl=0.3)
    steps = spread.steps
    assert steps.shape == (64, 3) and spread_of(r=20, samples=8).steps.shape == (80, 20)
    np.testing.assert_allclose(steps.mean(axis=0), 0.0, atol=1e-12)
    covariance = steps.T @ steps / 64
    np.testing.assert_allclose(covariance, 2.0 * 0.3 / 3 * np.linalg.inv(spread.metric), atol=1e-12)
    kl = 0.5 * np.einsum("ki,ij,kj->k", steps, spread.metric, steps)
    assert kl.mean() == pytest.approx(0.3)
    assert spread.distance(steps[0]) == pytest.approx(np.sqrt(kl[0] / 0.3))


def test_coordinates_that_move_the_policy_alike_are_kept_once():
    rng = np.random.default_rng(0)
    effects = rng.standard_normal((40, 4))  # of four coordinates on forty outcomes
    effects[:, 2] = 3.0 * effects[:, 0] - effects[:, 1] + 0.01 * rng.standard_normal(40)
    effects[:, 3] = 0.0
    assert distinct(effects.T @ effects).tolist() == [True, True, False, False]
    assert distinct(np.diag([1.0, 1e-12, 1e-3])).tolist() == [True, False, True]
    assert not distinct(np.zeros((2, 2))).any()


def test_a_change_common_to_all_candidates_is_no_change():
    """Logits of hundreds that the softmax does not see must not overflow."""
    game, rollout, advantages = game_and_advantages(per_agent=True)
    sample, subspace, tangent, *_ = probe(game, rollout, advantages)
    mean = (tangent.at.exp() * tangent.mask).unsqueeze(2) * tangent.slope
    assert float(mean.sum(dim=1).abs().max()) < 1e-6
    y = 0.1 * np.ones((1, subspace.rank))
    plain = measure(tangent, subspace, sample, y).sums
    lifted = tangent.slope + 1e4 * tangent.mask.unsqueeze(2)
    shifted = measure(dataclasses.replace(tangent, slope=lifted), subspace, sample, y).sums
    assert np.isfinite(shifted).all()
    np.testing.assert_allclose(shifted, plain, atol=0.02 * np.abs(plain).max())


def test_the_calmest_point_is_the_rest_point_or_the_least_field_within_reach():
    spread = spread_of()
    slope = np.array([[-1.0, 2.0, 0.0], [-2.0, -0.5, 0.3], [0.1, 0.0, -1.0]])
    near = 0.3 * spread.steps[0]
    np.testing.assert_allclose(spread.calmest(-slope @ near, slope), near, atol=1e-10)
    far = 50.0 * spread.steps[0]
    found = spread.calmest(-slope @ far, slope)
    assert spread.distance(found) == pytest.approx(REACH, rel=1e-6)
    inverse = np.linalg.inv(spread.metric)

    def calm(c):
        value = slope @ (c - far)
        return value @ inverse @ value

    rng = np.random.default_rng(0)
    others = rng.standard_normal((2_000, 3))
    others *= (REACH / np.array([spread.distance(c) for c in others]))[:, None]
    assert calm(found) <= min(calm(c) for c in others) + 1e-9
    assert (spread.calmest(np.ones(3), np.zeros((3, 3))) == 0.0).all()
    flat = spread.calmest(np.array([1.0, 0.0, 0.0]), np.outer([0.0, 1.0, 0.0], [0.0, 1.0, 0.0]))
    assert np.isfinite(flat).all() and spread.distance(flat) <= REACH


def test_centred_at_rest_the_flow_settles_and_about_a_running_mean_it_spirals():
    """Linear game, weak pull and strong turn, plain Euler steps."""
    pull, turn = -0.02 * np.eye(2), 0.3 * np.array([[0.0, 1.0], [-1.0, 0.0]])
    spread = Spread(np.eye(2), kl=0.5, samples=64, rng=np.random.default_rng(0))
    ends = {}
    for centre in ("none", "mean", "calmest"):
        x = mean = np.array([1.0, 0.0])
        for _ in range(200):
            force = (pull + turn) @ x
            step = {
                "none": np.zeros(2),
                "mean": mean - x,
                "calmest": spread.calmest(force, pull + turn),
            }[centre]
            mean = 0.8 * mean + 0.2 * x
            x = x + force + turn @ step
        ends[centre] = np.linalg.norm(x)
    assert ends["calmest"] < 0.05 and 1.0 < ends["none"] < ends["mean"]


def test_noise_of_the_rotation_is_read_off_the_time_units():
    """Random fields: on average the rotation found is the noise floor, and few exceed the point."""
    spread = spread_of(r=4)
    galerkin = Galerkin(spread.steps, spread.metric)
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((400, 32, 4, 4))
    found = [
        Rotation.of(galerkin, Field(spread.steps @ slope + 1.0, np.ones(32), 1.0), rng)
        for slope in slopes
    ]
    kappa, floor = (np.array([getattr(r, n) for r in found]) for n in ("kappa", "noise_floor"))
    assert kappa.mean() == pytest.approx(floor.mean(), rel=0.1)
    above = np.mean([r.kappa > r.noise_point for r in found])
    assert 0.005 < above < 0.06
    assert np.mean([r.significant(least=0.0, confidence=2.0) for r in found]) <= 0.06


def test_without_time_units_all_is_noise_and_without_field_there_is_no_rotation():
    spread = spread_of(r=2)
    galerkin = Galerkin(spread.steps, spread.metric)
    skew = spread.steps @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    rng = np.random.default_rng(0)
    few = Rotation.of(galerkin, Field(np.stack([skew] * 3), np.ones(3), 1.0), rng)
    assert few.kappa > 0.5 and not few.significant(least=0.0, confidence=0.0)
    none = Rotation.of(galerkin, Field(np.stack([0.0 * skew] * 8), np.ones(8), 1.0), rng)
    assert none.kappa == 0.0 and not none.significant(least=0.0, confidence=2.0)
    sure = Rotation.of(galerkin, Field(np.stack([skew] * 8), np.ones(8), 1.0), rng)
    assert sure.significant(least=0.02, confidence=2.0) and sure.noise_floor < 1e-20
