"""The HPML stage: silent where it should be, right where it is not, exact to resume."""

import dataclasses

import numpy as np
import pytest
import torch
from crowd_game import Crowds

from fairlead.policies.actor import Actor
from fairlead.policies.experience import Decisions
from fairlead.policies.guidance import Blend
from fairlead.policies.projection.stage import ProjectionStage
from fairlead.policies.settings import LearnerConfig


class Untouchable:
    """A generator that must not be drawn from."""

    def __getattr__(self, name):
        raise AssertionError(f"drew {name}")


def seen_once(game, advantages=None):
    """The stage has seen policies; they have moved since."""
    rollout = game.play()
    zero = np.zeros(rollout.reward.shape) if advantages is None else advantages(rollout)
    game.correct(rollout, zero, 0)
    game.shift(0.05)
    return game.play()


def pennies(game):
    """Payoffs of a zero-sum game of two crowds without pull: pure rotation."""
    return lambda rollout: game.payoffs(rollout, pull=0.0, turn=2.0)


# -- silent ----------------------------------------------------------------------------------------


def test_method_none_computes_draws_and_keeps_nothing():
    game = Crowds(method="none", epochs=(1, 30))
    rollout = game.play()
    decisions = Decisions(rollout, game.actor.member, game.actor.groups)
    ppo = game.ppo(rollout, np.zeros(rollout.reward.shape))
    found = game.stage.correction(rollout, ppo, decisions, update=0, rng=Untouchable())
    assert found == (None, {}) and game.stage.state() == {}
    game.stage.load_state({})


@pytest.mark.parametrize("form", ["galerkin", "network"])
def test_a_team_game_is_never_projected(form):
    """Rewards that are far from quadratic, policies that move, a wide measure."""
    residual = []
    for seed in range(4):
        game = Crowds(
            sizes=(2, 2), choices=3, varied=True, epochs=(4, 125), sharing="none",
            seed=seed, form=form, kl=0.3,
        )  # fmt: skip
        for update in range(4):
            rollout = game.play()
            reward = rollout.actions.sum(-1) % 3 - 1.0 + 5.0 * (rollout.actions == 0).all(-1)
            reward = (reward - reward.mean()) / reward.std()
            correction, statistics = game.correct(rollout, reward, update)
            assert correction is None and statistics["projection/projected"] == 0.0
            assert statistics["projection/kappa"] < 0.01
            residual.append(statistics["projection/residual"])
            game.shift(0.05)
    # A quadratic leaves more than that unexplained: taken for rotation it would be projected.
    assert max(residual) > 0.05


def test_pure_noise_is_projected_in_a_few_draws_of_a_hundred_at_most():
    projected, kappas, floors = 0, [], []
    for seed in range(16):
        game = Crowds(
            sizes=(2, 2), choices=3, varied=True, epochs=(4, 150), sharing="none", seed=seed,
            directions=1 + seed % 2, samples=64,
        )  # fmt: skip
        for update in range(6):
            rollout = game.play()
            noise = game.rng.standard_normal(rollout.actions.shape)
            correction, statistics = game.correct(rollout, noise, update)
            projected += correction is not None
            kappas.append(statistics["projection/kappa"])
            floors.append(statistics["projection/noise_floor"])
            game.shift(0.05)
    assert projected <= 7  # of 96; 3 expected
    assert np.mean(kappas) == pytest.approx(np.mean(floors), rel=0.3) and np.mean(kappas) > 0.05


def test_no_rotation_no_trace_in_the_training():
    options = {"pull": 1.0, "turn": 0.0}
    runs = []
    for project in (False, True):
        game = Crowds(epochs=(2, 100))
        game.ascend(updates=6, rate=0.3, project=project, **options)
        runs.append({name: value.clone() for name, value in game.actor.parameters.items()})
    assert all((runs[0][name] == runs[1][name]).all() for name in runs[0])


# -- right -----------------------------------------------------------------------------------------


def test_pure_rotation_is_recognised_and_its_whole_gradient_removed():
    """Crowds of different size: the correction is in units of each group's mean gradient."""
    game = Crowds(sizes=(2, 6), epochs=(8, 500), max_samples=10**6)
    rollout = seen_once(game)
    advantages = pennies(game)(rollout)
    correction, statistics = game.correct(rollout, advantages, 1)
    assert statistics["projection/kappa"] > 0.8 and statistics["projection/projected"] == 1.0
    gradient = game.gradient(rollout, advantages)
    # Judged by what moves the policy: weights have directions that do not.
    left, all_of_it = (game.moves(rollout, vector) for vector in (gradient - correction, gradient))
    assert (np.abs(left) < 0.25 * np.abs(all_of_it)).all()


def test_the_correction_is_the_analytic_rotation():
    """Mean field of the shares: ``d J_1 / d m_1 = -2 pull m_1 + turn m_2``, and so on."""
    game = Crowds(sizes=(4, 8), epochs=(8, 2000), max_samples=10**6)
    rollout = seen_once(game)
    correction, statistics = game.correct(rollout, game.payoffs(rollout, pull=0.3, turn=2.0), 1)
    assert statistics["projection/projected"] == 1.0
    taken = game.moves(rollout, correction)
    p = game.probabilities(rollout)[0, 0, :, 0]
    m = p[[0, -1]] - 0.5
    # d m_i / d logit = p (1 - p); payoffs count tenfold, a decision has one share of its crowd's.
    slope = p[[0, -1]] * (1.0 - p[[0, -1]])
    turning = 10.0 * 2.0 * np.array([m[1], -m[0]]) * slope / np.array([4, 8])
    assert np.abs(turning).min() > 0.01
    np.testing.assert_allclose(taken, turning, rtol=0.3)


def test_kappa_follows_the_share_of_rotation_in_the_payoffs():
    kappas = []
    for turn in (0.0, 0.5, 2.0, 8.0):
        game = Crowds(epochs=(8, 500), seed=1)
        rollout = seen_once(game)
        advantages = game.payoffs(rollout, pull=0.5, turn=turn)
        kappas.append(game.correct(rollout, advantages, 1)[1]["projection/kappa"])
    assert kappas[0] < 0.01 and (np.diff(kappas) > 0.0).all() and kappas[3] > 0.9


@pytest.mark.parametrize("form", ["galerkin", "network", "graph"])
def test_play_settles_where_plain_ascent_circles(form):
    options = {"pull": 0.3, "turn": 2.0}
    samples = {"samples": 500} if form == "graph" else {}
    far = {}
    for project in (False, True):
        game = Crowds(sizes=(8, 8), epochs=(2, 150), form=form, **samples)
        far[project] = game.ascend(updates=16, rate=0.5, project=project, **options)
    assert far[True][-4:].mean() < 0.5 * far[False][-4:].mean()


def test_the_last_potential_tells_whether_the_step_rose_in_it():
    game = Crowds(epochs=(4, 250))
    rollout = seen_once(game)
    advantages = game.payoffs(rollout, pull=1.0, turn=0.0)
    game.correct(rollout, advantages, 1)
    gradient = game.gradient(rollout, advantages)

    def step(sign):
        start = 0
        for value in game.actor.parameters.values():
            width = value[0].numel()
            value.add_(gradient[:, start : start + width].reshape(value.shape), alpha=0.1 * sign)
            start += width

    step(1.0)
    up = game.correct(rollout, advantages, 2)[1]
    assert up["projection/potential_gain"] > 0.0 and up["projection/violations"] == 0.0
    step(-2.0)
    down = game.correct(rollout, advantages, 3)[1]
    assert down["projection/potential_gain"] < 0.0 and down["projection/violations"] == 1.0
    # Not the very next update: nothing to compare with.
    step(-1.0)
    assert game.correct(rollout, advantages, 5)[1]["projection/potential_gain"] == 0.0


def test_only_the_returns_share_of_a_blend_counts():
    game = Crowds(epochs=(4, 250))
    rollout = seen_once(game)
    ppo = game.ppo(rollout, pennies(game)(rollout))
    one = torch.ones(2)
    blend = Blend(
        of_return=0.25 * one, of_guidance=3.0 * one, estimator="expected", clip=False,
        pace=one, target_kl=one,
    )  # fmt: skip
    decisions = Decisions(rollout, game.actor.member, game.actor.groups)
    state = game.stage.state()
    found = []
    for given in (None, blend):
        game.stage.load_state(state)
        found.append(
            game.stage.correction(
                rollout, dataclasses.replace(ppo, blend=given), decisions, update=1,
                rng=np.random.default_rng(0),
            )
        )  # fmt: skip
    (plain, plain_statistics), (blended, statistics) = found
    torch.testing.assert_close(blended, 0.25 * plain, rtol=1e-3, atol=1e-6)
    assert statistics["projection/kappa"] == pytest.approx(
        plain_statistics["projection/kappa"], rel=1e-4
    )


# -- exact and defined -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["galerkin", "network"])
def test_resume_from_a_saved_state_is_exact(form):
    settings = {"epochs": (4, 150), "form": form, "directions": 3}
    whole, half = Crowds(**settings), Crowds(**settings)
    for update in range(2):
        for game in (whole, half):
            rollout = game.play()
            game.correct(rollout, pennies(game)(rollout), update)
            game.shift(0.05)
    fresh = Crowds(**settings)
    saved = half.stage.state()
    assert {name: (a.shape, a.dtype) for name, a in fresh.stage.state().items()} == {
        name: (a.shape, a.dtype) for name, a in saved.items()
    }
    fresh.stage.load_state(saved)
    fresh.actor.load_state(half.actor.state())
    results = []
    rollout = whole.play()
    for game in (whole, fresh):
        correction, statistics = game.correct(rollout, pennies(game)(rollout), 2)
        after = game.stage.state()
        results.append((correction, statistics, after))
    assert (results[0][0] == results[1][0]).all() and results[0][1] == results[1][1]
    assert results[0][1]["projection/potential_gain"] != 0.0
    assert all((results[0][2][name] == value).all() for name, value in results[1][2].items())


def test_the_same_update_twice_gives_the_same_numbers():
    found = []
    for _ in range(2):
        game = Crowds(epochs=(4, 150))
        rollout = seen_once(game)
        found.append(game.correct(rollout, pennies(game)(rollout), 1))
    assert (found[0][0] == found[1][0]).all() and found[0][1] == found[1][1]
    assert game.stage.last_seconds > 0.0


@pytest.mark.parametrize("where", ["advantages", "weights"])
def test_what_is_not_finite_projects_nothing_and_is_counted(where):
    game = Crowds(epochs=(4, 150))
    rollout = seen_once(game)
    advantages = pennies(game)(rollout)
    weight = next(iter(game.actor.parameters.values()))
    before = weight.clone()
    if where == "advantages":
        advantages[0, 3, 1] = np.inf
    else:
        weight[0, 0] = np.nan
    correction, statistics = game.correct(rollout, advantages, 1)
    assert correction is None and statistics["projection/skipped"] == 1.0
    assert all(np.isfinite(list(statistics.values())))
    weight.copy_(before)
    correction, statistics = game.correct(rollout, pennies(game)(rollout), 2)
    assert correction is not None and statistics["projection/skipped"] == 1.0


def test_groups_without_decisions_and_roll_outs_without_any():
    def idle(rollout):
        active = rollout.active.copy()
        active[:, :, 4:] = False
        return dataclasses.replace(rollout, active=active)

    game = Crowds(sizes=(4, 4), epochs=(4, 150), sharing="none", players=4)
    for update in range(3):
        rollout = game.play(idle)
        m = rollout.actions[..., :4] == 0
        turn = (m[..., 0] * 1.0 - 0.5) * (m[..., 3] * 1.0 - 0.5)
        advantages = np.zeros(rollout.actions.shape)
        advantages[..., 0], advantages[..., 3] = 8.0 * turn, -8.0 * turn
        correction, statistics = game.correct(rollout, advantages, update)
        game.shift(0.05)
    assert correction is not None and statistics["projection/rank"] <= 4.0
    assert (correction[4:] == 0.0).all() and bool(torch.isfinite(correction).all())
    assert (correction[[0, 3]].abs().sum(dim=1) > 0.0).all()
    nobody = dataclasses.replace(rollout, active=np.zeros_like(rollout.active))
    correction, statistics = game.correct(nobody, np.zeros(rollout.reward.shape), 3)
    assert correction is None and statistics["projection/skipped"] == 0.0


def test_short_roll_outs_cannot_tell_rotation_from_noise():
    game = Crowds(epochs=(1, 60))
    rollout = seen_once(game)
    correction, statistics = game.correct(rollout, pennies(game)(rollout), 1)
    assert correction is None and statistics["projection/noise_floor"] == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 128}, r"at least 500 projection.samples \(here 128\)"),
        ({"samples": 500, "directions": 3}, r"at most 4 dimensions .* here 6\)"),
    ],
)
def test_a_graph_beyond_its_limits_is_refused_before_training(options, message):
    spec = Crowds(epochs=(1, 30)).spec
    config = LearnerConfig.model_validate(
        {"projection": {"method": "hpml", "form": "graph", **options}}
    )
    actor = Actor(spec, config, np.random.default_rng(0), torch.device("cpu"))
    with pytest.raises(ValueError, match=message):
        ProjectionStage(actor, config)
