"""The games bench: exact answers of its games, its policies, its walk, and a whole quick run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import typer
from torch.distributions import Categorical, Normal, kl_divergence
from typer.testing import CliRunner

from fairlead.platform.benchmarks import games
from fairlead.platform.benchmarks.games_differential import (
    STARTS,
    compete,
    differential_rows,
    payoff,
    wilson,
)
from fairlead.platform.benchmarks.games_dynamics import (
    Climb,
    Measure,
    climb_hpml,
    climb_plain,
)
from fairlead.platform.benchmarks.games_fields import (
    bimatrix,
    cournot,
    pennies_mixed_with_coordination,
    quadratic,
    stag_hunt,
)
from fairlead.platform.benchmarks.games_matrix import (
    Size,
    exact_changes,
    exact_plays,
    exact_settings,
    joint_probability,
    relative_gap,
)
from fairlead.platform.benchmarks.games_policies import GaussianPlays, SoftmaxPlays
from fairlead.platform.benchmarks.games_walk import METHODS, Rule, Walk, gain, random_orders
from fairlead.platform.cli import bench as bench_cli
from fairlead.platform.progress import silent
from fairlead.policies.trust.fisher import FisherProduct
from fairlead.policies.trust_settings import TrustRegionSettings

SETTINGS = TrustRegionSettings(kl=0.02, damping=1e-3)


def gaussians(rng, groups, plays):
    policies = {
        "mean": torch.from_numpy(rng.standard_normal((groups, 1))),
        "log_std": torch.from_numpy(0.3 * rng.standard_normal((groups, 1))),
    }
    actions = policies["mean"] + policies["log_std"].exp() * torch.from_numpy(
        rng.standard_normal((groups, plays))
    )
    return policies, plays_of(GaussianPlays, rng, actions)


def plays_of(kind, rng, actions):
    half = torch.arange(actions.shape[1]).remainder(2).bool().expand(actions.shape)
    value = torch.from_numpy(rng.standard_normal(actions.shape))
    return kind(actions, value, torch.ones(actions.shape, dtype=torch.float64), half)


# -- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("twist", [0.0, 1.0, 3.0])
def test_kappa_of_a_quadratic_game_is_the_formula_and_the_estimate_is_near(twist):
    game = quadratic(np.random.default_rng(0), 2, twist)
    assert game.kappa() == pytest.approx(twist**2 / (1.0 + twist**2))
    measure = Measure(np.random.default_rng(1), 2, Climb(samples=1024))
    assert measure.energies(game).kappa == pytest.approx(game.kappa(), abs=0.05)


def test_cournot_equilibrium_answers_itself_and_no_deviation_pays():
    game = cournot(np.random.default_rng(3), 4, 1.5)
    assert np.abs(game.field(game.rest)).max() < 1e-12
    assert game.gap(game.rest) == pytest.approx(0.0, abs=1e-12)
    away = game.rest + 0.1
    own = np.diag(game.jacobian)
    best = [slope**2 / (-2.0 * bend) for slope, bend in zip(game.field(away), own, strict=True)]
    assert game.gap(away) == pytest.approx(max(best))


def test_symmetric_cournot_duopoly_has_the_textbook_quantity():
    # Profit q_i (a - b (q_1 + q_2)): both sell a / (3 b). The same market in this bench's form.
    game = cournot(np.random.default_rng(0), 2, 0.0)
    own, cross = -np.diag(game.jacobian) / 2.0, -game.jacobian[0, 1]
    a = game.constant
    first = (2.0 * own[1] * a[0] - cross * a[1]) / (4.0 * own[0] * own[1] - cross**2)
    assert game.rest[0] == pytest.approx(first)


def test_bimatrix_field_is_the_slope_of_expected_payoffs():
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((2, 2, 2))
    game = bimatrix(first, second)

    def expected(payoffs, y):
        return np.array([y[0], 1.0 - y[0]]) @ payoffs @ np.array([y[1], 1.0 - y[1]])

    y, h = np.array([0.3, 0.8]), 1e-6
    slopes = [
        (expected(payoffs, y + h * unit) - expected(payoffs, y - h * unit)) / (2.0 * h)
        for payoffs, unit in zip((first, second), np.eye(2), strict=True)
    ]
    assert game.field(y) == pytest.approx(slopes, abs=1e-8)


def test_pennies_rest_in_the_middle_and_hunters_in_two_corners():
    pennies = pennies_mixed_with_coordination(0.0)
    assert pennies.rest == pytest.approx([0.5, 0.5]) and pennies.kappa() == pytest.approx(1.0)
    assert pennies.gap(np.array([1.0, 1.0])) == pytest.approx(2.0)
    hunt = stag_hunt()
    assert hunt.kappa() == pytest.approx(0.0)
    assert hunt.gap(np.array([[1.0, 1.0], [0.0, 0.0]])) == pytest.approx([0.0, 0.0])
    assert hunt.gap(np.array([1.0, 0.0])) > 0.1


# -- dynamics -------------------------------------------------------------------------------------


def test_projected_steps_converge_where_plain_ones_diverge():
    game = quadratic(np.random.default_rng(2), 2, 5.0)
    climb = Climb(samples=2048)
    start = game.rest + 1.0
    measure = Measure(np.random.default_rng(3), 2, climb)
    assert np.linalg.norm(climb_plain(game, start, climb).y - game.rest) > 100.0
    guided = climb_hpml(game, start, climb, measure, "rest")
    assert np.linalg.norm(guided.y - game.rest) < 0.01


def test_a_measure_off_the_centre_moves_the_end_by_the_known_amount():
    # The rotation's value at the centre is a constant field: A (y - y*) = -S (c - y*) at the end.
    game = quadratic(np.random.default_rng(4), 2, 0.5)
    climb = Climb(samples=50_000)
    start = game.rest + np.array([0.7, -0.4])
    measure = Measure(np.random.default_rng(5), 2, climb)
    end = climb_hpml(game, start, climb, measure, "start")
    symmetric = 0.5 * (game.jacobian + game.jacobian.T)
    skew = game.jacobian - symmetric
    expected = -np.linalg.solve(symmetric, skew @ (start - game.rest))
    assert end.y - game.rest == pytest.approx(expected, abs=0.03)
    assert np.linalg.norm(expected) > 0.1


def test_the_running_mean_finds_the_equilibrium_of_a_mild_game():
    game = quadratic(np.random.default_rng(6), 2, 0.5)
    climb = Climb(memory=0.9, iterations=600)
    measure = Measure(np.random.default_rng(7), 2, climb)
    end = climb_hpml(game, game.rest + 1.0, climb, measure, "mean")
    assert end.y == pytest.approx(game.rest, abs=0.01)


# -- policies -------------------------------------------------------------------------------------


def test_gaussian_density_and_kl_are_those_of_torch():
    rng = np.random.default_rng(0)
    old, batch = gaussians(rng, 3, 5)
    new, _ = gaussians(rng, 3, 5)
    before, after = batch.outputs(old), batch.outputs(new)
    first, second = (Normal(one[..., 0], one[..., 1].exp()) for one in (before, after))
    torch.testing.assert_close(batch.kl(before, after), kl_divergence(first, second))
    constant = 0.5 * math.log(2.0 * math.pi)
    density = batch.log_probability(before) - constant
    torch.testing.assert_close(density, first.log_prob(batch.actions))


def test_softmax_probability_and_kl_are_those_of_torch():
    rng = np.random.default_rng(1)
    actions = torch.from_numpy(rng.integers(0, 4, (2, 6)))
    batch = plays_of(SoftmaxPlays, rng, actions)
    old, new = ({"logits": torch.from_numpy(rng.standard_normal((2, 4)))} for _ in range(2))
    before, after = batch.outputs(old), batch.outputs(new)
    first, second = Categorical(logits=before), Categorical(logits=after)
    torch.testing.assert_close(batch.kl(before, after), kl_divergence(first, second))
    torch.testing.assert_close(batch.log_probability(before), first.log_prob(actions))


@pytest.mark.parametrize("kind", ["gaussian", "softmax"])
def test_fisher_product_is_the_hessian_of_the_mean_kl(kind):
    rng = np.random.default_rng(2)
    if kind == "gaussian":
        policies, batch = gaussians(rng, 1, 4)
    else:
        policies = {"logits": torch.from_numpy(rng.standard_normal((1, 3)))}
        batch = plays_of(SoftmaxPlays, rng, torch.from_numpy(rng.integers(0, 3, (1, 4))))
    names = list(policies)
    flat = torch.cat([policies[name] for name in names], dim=1)
    old = batch.outputs(policies)

    def mean_kl(values):
        parts = values.split([policies[name].shape[1] for name in names], dim=1)
        return batch.mean(batch.kl(old, batch.outputs(dict(zip(names, parts, strict=True))))).sum()

    hessian = torch.autograd.functional.hessian(mean_kl, flat)
    size = flat.shape[1]
    product = FisherProduct(policies, batch.one_each())
    columns = [product(unit.unsqueeze(0)) for unit in torch.eye(size, dtype=torch.float64)]
    dense = torch.cat(columns)
    torch.testing.assert_close(dense, hessian.reshape(size, size), atol=1e-10, rtol=1e-8)


# -- walk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_games_side_by_side_equal_games_one_by_one(method, clamp):
    rng = np.random.default_rng(8)
    count, agents = 3, 2
    policies, batch = gaussians(rng, count * agents, 20)
    # One payoff for both agents of a game.
    batch = batch.valued(batch.value[::agents].repeat_interleave(agents, dim=0))
    orders = random_orders(rng, count, agents)
    rule = Rule(method, clamp, SETTINGS)
    together = Walk(count, agents, rule).update(policies, batch, orders)
    spent: list[float] = []
    for game in range(count):
        index = torch.arange(game * agents, (game + 1) * agents)
        alone = {name: value[index] for name, value in policies.items()}
        walk = Walk(1, agents, rule)
        moved = walk.update(alone, batch.rows(index), orders[game : game + 1])
        for name in policies:
            torch.testing.assert_close(moved[name], together[name][index])
        # HATRPO-G may stand still where no agent promises anything.
        spent.append(float(walk.spent.kl.sum()) / walk.total)
    assert 0.0 < max(spent) <= 1.0 + 1e-9


def test_one_agent_after_another_sees_the_product_of_the_ratios_before_it():
    rng = np.random.default_rng(9)
    policies, batch = gaussians(rng, 2, 40)
    batch = batch.valued(batch.value[:1].expand(2, -1).clone())
    order = np.array([[1, 0]])
    new = Walk(1, 2, Rule("hatrpo", False, SETTINGS)).update(policies, batch, order)
    with torch.no_grad():
        outputs = batch.outputs(policies), batch.outputs(new)
        ratio = (batch.log_probability(outputs[1]) - batch.log_probability(outputs[0])).exp()
    # Agent 0 came second: alone, on advantages weighted with agent 1's ratio, it moves the same.
    alone = batch.rows(torch.tensor([0])).valued(batch.value[:1] * ratio[1:])
    only = {name: value[:1] for name, value in policies.items()}
    second = Walk(1, 1, Rule("hatrpo", False, SETTINGS)).update(only, alone, np.array([[0]]))
    torch.testing.assert_close(second["mean"], new["mean"][:1])
    assert (second["mean"] != policies["mean"][:1]).all()


def test_equal_merits_give_hatrpo_w_the_parameters_of_hatrpo():
    rng = np.random.default_rng(10)
    policies, batch = gaussians(rng, 2, 30)
    settings = SETTINGS.model_copy(
        update={"budget": SETTINGS.budget.model_copy(update={"weight": 0.0, "redistribute": False})}
    )
    order = np.array([[0, 1]])
    one = Walk(1, 2, Rule("hatrpo", False, settings)).update(policies, batch, order)
    other = Walk(1, 2, Rule("hatrpo-w", False, settings)).update(policies, batch, order)
    for name in policies:
        assert torch.equal(one[name], other[name])


# -- differential game ----------------------------------------------------------------------------


def test_peaks_of_the_differential_game_are_worth_what_they_should():
    assert payoff(np.array([5.0, 5.0])) == pytest.approx(1.03, abs=0.005)
    assert payoff(np.array([1.0, 1.0])) == pytest.approx(0.94, abs=0.005)
    by_torch = (
        10.0 * (Normal(5.0, 1.0).log_prob(torch.tensor(2.0)).exp())
        * Normal(5.0, 3.0).log_prob(torch.tensor(3.0)).exp()
        + 0.2
        + 5.3 * Normal(1.0, 1.0).log_prob(torch.tensor([2.0, 3.0])).exp().prod()
    )  # fmt: skip
    assert payoff(np.array([2.0, 3.0])) == pytest.approx(float(by_torch), rel=1e-5)
    assert payoff(np.array([-1.0, 9.0])) == payoff(np.array([0.0, 7.0]))


def test_wilson_interval_of_a_known_case():
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 50)[0] == pytest.approx(0.0, abs=1e-12)


def test_learners_climb_the_peak_they_see_and_never_overspend():
    outcomes = compete(runs=4, updates=8, plays=30, kl=0.05, seed=3)
    narrow = [one for one in outcomes if one.start is STARTS[0]]
    assert len(outcomes) == len(STARTS) * len(METHODS)
    for one in narrow:
        assert not one.reached.any() and one.final.mean() > payoff(np.array([1.5, 1.5]))
    again = compete(runs=4, updates=8, plays=30, kl=0.05, seed=3)
    assert all(np.array_equal(a.paths, b.paths) for a, b in zip(outcomes, again, strict=True))
    rows = differential_rows(outcomes)
    assert all(row.passed for row in rows if row.passed is not None)


# -- matrix games ---------------------------------------------------------------------------------


def test_exact_plays_make_the_surrogate_the_payoff_of_the_joint_policy():
    size, rng = Size(5, 3, 2), np.random.default_rng(11)
    payoffs = size.payoffs(rng)
    policies = {"logits": torch.from_numpy(rng.standard_normal((15, 2)))}
    batch = exact_plays(policies, payoffs, size)
    new = {"logits": policies["logits"].clone()}
    new["logits"][1::3] += torch.tensor([0.5, -0.5])  # agent 1 of every game moves
    change = gain(batch, batch.outputs(policies), batch.outputs(new))[1::3]
    apart = joint_probability(new, size) - joint_probability(policies, size)
    assert change.numpy() == pytest.approx((apart * payoffs).sum(axis=1), abs=1e-12)


def test_relative_gap_is_one_for_random_play_and_zero_for_the_best():
    size = Size(1, 2, 2)
    payoffs = np.array([[0.0, 1.0, 2.0, 5.0]])
    assert relative_gap({"logits": torch.zeros(2, 2).double()}, payoffs, size) == pytest.approx(1.0)
    sure = {"logits": torch.tensor([[-50.0, 50.0], [-50.0, 50.0]]).double()}
    assert relative_gap(sure, payoffs, size) == pytest.approx(0.0, abs=1e-9)


def test_exact_steps_in_sequence_never_lose_and_steps_at_once_can():
    size = Size(300, 4, 3)
    large, small = exact_settings(0.5), exact_settings(1e-4)
    assert (exact_changes(Rule("hatrpo", False, large), size, seed=0) >= -1e-12).all()
    assert (exact_changes(Rule("hatrpo", True, small), size, seed=0) >= -1e-12).all()
    at_once = exact_changes(Rule("hatrpo", False, large, at_once=True), size, seed=0)
    assert (at_once < -1e-12).any()


def test_budgets_by_merit_gain_what_the_quadratic_model_says():
    # Small exact steps: equal shares gain sqrt(2 d) sum sqrt(k), KKT budgets sqrt(2 n d sum k).
    size, rng = Size(200, 3, 3), np.random.default_rng(4)
    payoffs = size.payoffs(rng)
    policies = {"logits": torch.from_numpy(rng.standard_normal((600, 3)))}
    p = torch.softmax(policies["logits"], dim=1).numpy().reshape(200, 3, 3)
    joint = joint_probability(policies, size) * payoffs
    k = np.empty((200, 3))
    for agent in range(3):
        # Of a choice: expected payoff given it; its variance is g' H^-1 g (undamped).
        chosen = size.joint_actions()[:, agent]
        given = np.stack([joint[:, chosen == a].sum(axis=1) for a in range(3)], axis=1)
        given /= p[:, agent]
        mean = (p[:, agent] * given).sum(axis=1, keepdims=True)
        k[:, agent] = (p[:, agent] * (given - mean) ** 2).sum(axis=1)
    kl = 1e-8
    settings = exact_settings(kl).model_copy(update={"damping": 1e-9})
    orders = random_orders(rng, 200, 3)
    for method, expected in (
        ("hatrpo", np.sqrt(2.0 * kl) * np.sqrt(k).sum(axis=1)),
        ("hatrpo-w", np.sqrt(2.0 * 3 * kl * k.sum(axis=1))),
    ):
        rule = Rule(method, clamp=False, settings=settings)
        new = Walk(200, 3, rule).update(policies, exact_plays(policies, payoffs, size), orders)
        gained = (joint_probability(new, size) * payoffs).sum(axis=1) - joint.sum(axis=1)
        assert gained.sum() == pytest.approx(expected.sum(), rel=0.03)


# -- the whole bench ------------------------------------------------------------------------------


@pytest.mark.slow
def test_quick_run_meets_its_marks_and_draws(tmp_path):
    picture = tmp_path / "games.png"
    rows = games.run(games.Options(quick=True, plot=picture), silent)
    assert [row.name for row in rows if row.passed is False] == []
    assert sum(row.passed is True for row in rows) > 30
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_command_line_prints_one_document_with_figures(monkeypatch):
    entry = bench_cli.Bench("fairlead.platform.benchmarks.games", "games with known answers")
    monkeypatch.setattr(bench_cli, "BENCHES", {"games": entry})
    app = typer.Typer()
    bench_cli.register(app)
    app.command("other")(lambda: None)
    arguments = ["bench", "games", "--quick", "--json", "--seeds", "4"]
    result = CliRunner().invoke(app, [*arguments, "updates=3", "exact_games=20", "games=4"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["options"]["seeds"] == 4
    names = {row["name"] for row in document["rows"]}
    assert "differential, start 1.5, deviation 0.5: hatrpo-w, at the far peak" in names
