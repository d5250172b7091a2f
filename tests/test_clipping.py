"""The compound ratio clamped at 1: what the clamp changes, and what it must not change."""

import itertools

import numpy as np
import pytest
import torch
from synthetic import (
    ascent_of,
    identical,
    improve,
    log_change,
    random_ascent,
    weights_of,
)

from fairlead.policies.compound import Compound
from fairlead.policies.distributions import log_probability
from fairlead.policies.interface import Rollout
from fairlead.policies.ppo import Ppo
from fairlead.policies.trust.walk import Walk

STEEP = np.tanh(1.0)
"""Logit that a weight of 1 gives in :func:`table_weights`."""

LEARNERS = ["happo", "hatrpo", "hatrpo-w", "hatrpo-g"]
FAR = {"passes": 3, "minibatches": 2, "trust_region": {"kl": 0.2, "accept": 0.2}}


def table_weights(probabilities):
    """Networks whose policies are these, ``[A, K]``, where candidates are unit vectors."""
    agents, choices = probabilities.shape
    weights = {
        "agent.weight": np.zeros((agents, 1, choices)),
        "candidate.weight": np.tile(np.eye(choices), (agents, 1, 1)),
        "agent.bias": np.zeros((agents, choices)),
        "score.weight": np.log(probabilities)[..., None] / STEEP,
    }
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()}


def table_rollout(actions, choices, active=None):
    """One episode ``[T, A]`` of agents without observations."""
    actions = np.asarray(actions)[None]
    shape = actions.shape
    return Rollout(
        agent=np.ones((1, shape[1] + 1, shape[2], 1), np.float32),
        candidates=np.tile(np.eye(choices, dtype=np.float32), (*shape, 1, 1)),
        mask=np.ones((*shape, choices), bool),
        active=np.ones(shape, bool) if active is None else active[None],
        actions=actions,
        critic=np.zeros((1, shape[1] + 1, 1), np.float32),
        reward=np.zeros(shape[:2]),
        local_reward=np.zeros(shape),
        guidance=np.zeros((*shape, choices), np.float32),
        terminated=np.zeros(1, bool),
        seeds=np.arange(1),
    )


def table_compound(old, new, actions, advantages, *, clip, active=None):
    """The compound ratio before and after each agent goes from ``old`` to ``new`` ``[A, K]``."""
    ascent = ascent_of(
        table_rollout(actions, old.shape[1], active),
        advantages,
        table_weights(old),
        member=np.arange(len(old)),
        algorithm="happo",
        clip_factor=clip,
        blocks=10**3,
    )
    compound, target = Compound(ascent), table_weights(new)
    yield compound
    for agent in range(len(old)):
        ascent.replace(torch.tensor([agent]), {n: v[[agent]] for n, v in target.items()})
        compound.advance(np.array([agent]), last=False)
        yield compound


# -- the clamp itself ------------------------------------------------------------------------------


def test_the_product_is_clamped_not_its_factors():
    """Ratios 2 and 0.4 make 0.8; clamped one by one they would make 0.4."""
    old = np.full((2, 4), 0.25)
    new = np.array([[0.5, 0.25, 0.15, 0.1], [0.1, 0.4, 0.4, 0.1]])
    actions = np.array([[0, 0], [0, 1], [1, 1], [3, 3], [1, 0]])
    product = np.array([0.8, 3.2, 1.6, 0.16, 0.4])
    for clip in (False, True):
        *_, compound = table_compound(old, new, actions, np.zeros((1, 5)), clip=clip)
        expected = np.minimum(product, 1.0) if clip else product
        np.testing.assert_allclose(compound.factor().numpy()[0], expected, rtol=1e-5)
        np.testing.assert_allclose(compound.raw().exp().numpy()[0], product, rtol=1e-5)


def test_a_block_that_moves_again_is_not_weighted_by_its_own_share():
    rng = np.random.default_rng(1)
    old, new = (rng.dirichlet(np.ones(3), 3) for _ in range(2))
    actions = rng.integers(3, size=(20, 3))
    ratio = np.take_along_axis((new / old).T, actions, axis=0)
    *_, compound = table_compound(old, new, actions, np.zeros((1, 20)), clip=False)
    np.testing.assert_allclose(compound.factor(np.array([0, 2])).numpy()[0], ratio[:, 1], rtol=1e-4)
    compound.advance(np.array([0, 2]), last=False)
    np.testing.assert_allclose(compound.factor().numpy()[0], ratio.prod(axis=1), rtol=1e-4)


def test_an_idle_agent_contributes_a_ratio_of_exactly_one():
    old, new = np.full((3, 4), 0.25), np.tile([0.7, 0.1, 0.1, 0.1], (3, 1))
    active = np.random.default_rng(0).random((40, 3)) < 0.4
    *_, compound = table_compound(
        old, new, np.zeros((40, 3), int), np.zeros((1, 40)), clip=False, active=active
    )
    factor = compound.factor().numpy()[0]
    assert (factor[~active.any(axis=1)] == 1.0).all() and (~active.any(axis=1)).sum() > 3
    np.testing.assert_allclose(factor, 2.8 ** active.sum(axis=1), rtol=1e-5)


def test_variance_is_bounded_with_the_clamp_and_grows_exponentially_without():
    agents, epochs = 30, 4000
    rng = np.random.default_rng(0)
    old = np.full((agents, 4), 0.25)
    new = old * np.exp(0.32 * rng.standard_normal(old.shape))
    new /= new.sum(axis=1, keepdims=True)
    advantages = rng.standard_normal((1, epochs))
    rows = []
    for compound in table_compound(
        old, new, rng.integers(4, size=(epochs, agents)), advantages, clip=True
    ):
        statistics = compound.statistics
        if statistics:
            columns = ("factor/mean", "factor/variance", "factor/variance_raw", "factor/ess")
            rows.append([statistics[name] for name in columns])
    mean, clamped, raw, ess = np.array(rows).T
    assert (clamped <= np.square(advantages).mean() + 1e-9).all()
    assert (mean <= 1.0).all() and mean[-1] < 0.75 * mean[0], "the clamp is a bias"
    # E[r^2] of each agent is known; that of the product is their product.
    growth = np.log((new**2 / old).sum(axis=1)).cumsum()
    assert growth[-1] > 1.5
    slope = np.polyfit(growth, np.log(raw), 1)[0]
    assert 0.75 < slope < 1.25
    np.testing.assert_allclose(np.log(ess), -growth, atol=0.35)
    assert clamped[-1] < 0.2 * raw[-1]


# -- the factor inside an update -------------------------------------------------------------------


def spy_on(monkeypatch, ascent):
    """One update; every factor used, who used it, and the statistics."""
    used, members_of = [], []
    factor, step, better = Compound.factor, Walk.step, Ppo.improve

    def listen(compound, groups=None):
        used.append(factor(compound, groups))
        return used[-1]

    def walk(self, members, budget, *, last=False):
        members_of.append(members.tolist())
        step(self, members, budget, last=last)

    def ppo(self, block, passes):
        members_of.append(block.groups.tolist())
        return better(self, block, passes)

    with monkeypatch.context() as patch:
        patch.setattr(Compound, "factor", listen)
        patch.setattr(Walk, "step", walk)
        patch.setattr(Ppo, "improve", ppo)
        statistics = improve(ascent)
    return used, members_of, statistics


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("algorithm", "blocks"), [("happo", 9), ("hatrpo", 9), ("hatrpo", 3)])
def test_a_block_sees_exactly_the_blocks_before_it_in_this_order(
    algorithm, blocks, clip, monkeypatch
):
    ascent = random_ascent(2, algorithm=algorithm, blocks=blocks, clip_factor=clip, **FAR)
    before = weights_of(ascent)
    used, members_of, statistics = spy_on(monkeypatch, ascent)
    assert len(used) == len(members_of) == min(blocks, 5) and used[0] is None
    assert members_of == [block.tolist() for block in ascent.blocks(ascent.order())]
    change = log_change(ascent, before, ascent.parameters)
    assert all(np.abs(change[:, agent]).max() > 1e-3 for agent in range(4))
    advantages = ascent.ppo.advantages.numpy().ravel()
    largest, earlier = 0.0, []
    for position, (factor, members) in enumerate(zip(used, members_of, strict=True)):
        if position:
            product = np.exp(change[:, earlier].sum(axis=1))
            expected = np.minimum(product, 1.0) if clip else product
            np.testing.assert_allclose(factor.numpy().ravel(), expected, rtol=1e-4)
            assert not factor.requires_grad
            largest = max(largest, product.max())
            ess = product.sum() ** 2 / (product**2).sum() / product.size
            direct = {
                f"factor_mean/{position}": expected.mean(),
                f"factor_variance/{position}": (expected * advantages).var(),
                f"factor_ess/{position}": ess,
                f"factor_log_max/{position}": np.log(product.max()),
            }
            assert {n: statistics[n] for n in direct} == pytest.approx(direct, rel=1e-3, abs=1e-4)
            final = {
                "factor/mean": expected.mean(),
                "factor/variance": (expected * advantages).var(),
                "factor/variance_raw": (product * advantages).var(),
                "factor/ess": ess,
            }
        earlier += members
    assert {n: statistics[n] for n in final} == pytest.approx(final, rel=1e-3, abs=1e-4)
    assert largest > 1.05, "nothing to clamp"
    wrong = np.exp(change[:, sorted(earlier[1:])].sum(axis=1))
    assert np.abs(wrong - product).max() > 0.01, "another order would give the same factor"


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_the_first_block_is_the_same_with_and_without_the_clamp(algorithm, monkeypatch):
    ends, firsts = [], []
    for clip in (False, True):
        ascent = random_ascent(4, algorithm=algorithm, blocks=9, clip_factor=clip, **FAR)
        used, members_of, _ = spy_on(monkeypatch, ascent)
        moves = [factor for factor in used if factor is not None]
        assert used[0] is None and moves
        assert (max(float(factor.max()) for factor in moves) <= 1.0) is clip
        ends.append(ascent.parameters)
        firsts.append(members_of[0])
    assert firsts[0] == firsts[1] and len(firsts[0]) == 1
    assert identical(*ends, firsts[0])
    rest = [group for group in range(5) if group not in firsts[0]]
    assert not any(identical(*ends, [group]) for group in rest[:2])


@pytest.mark.parametrize(
    ("algorithm", "other"),
    [
        ({"algorithm": "clip-happo", "clip_factor": False}, {"algorithm": "happo"}),
        ({"algorithm": "clip-hatrpo", "clip_factor": False}, {"algorithm": "hatrpo"}),
        ({"algorithm": "hatrpo", "clip_factor": True}, {"algorithm": "clip-hatrpo"}),
        ({"algorithm": "happo", "clip_factor": True}, {"algorithm": "clip-happo"}),
    ],
)
def test_the_clamp_is_the_only_difference(algorithm, other):
    first, second = (random_ascent(5, blocks=9, **FAR, **c) for c in (algorithm, other))
    start = weights_of(first)
    one, two = improve(first), improve(second)
    assert identical(first.parameters, second.parameters) and one == two
    assert not any(identical(start, first.parameters, [group]) for group in range(3))


def test_the_factor_multiplies_the_advantage_and_has_no_gradient_of_its_own():
    ascent = random_ascent(6, algorithm="clip-happo")
    rng = np.random.default_rng(0)
    table = ascent.decisions.table(rng, np.arange(5), per_group=10**6)
    batch = ascent.sample(table, np.arange(5))
    old = batch.outputs(ascent.parameters)
    new = (old + 0.4 * torch.sin(7.0 * old)).detach().requires_grad_()
    factor = torch.rand(2, 14).clamp(max=1.0)
    clip = 0.2
    value, _ = ascent.ppo.surrogate(batch, old, new, factor, clip=clip)
    (gradient,) = torch.autograd.grad(value.sum(), new)
    epoch = torch.div(batch.index, 5, rounding_mode="floor")
    m, a = factor.view(-1)[epoch], ascent.ppo.advantages.view(-1)[epoch]
    ratio = (log_probability(new, batch.actions) - log_probability(old, batch.actions)).exp()
    formula = m * torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    torch.testing.assert_close(value, batch.mean(formula))
    unclipped = (ratio * a) <= (ratio.clamp(1 - clip, 1 + clip) * a)
    share = batch.weight / batch.weight.sum(dim=1, keepdim=True)
    slope = log_probability(gradient, batch.actions)
    torch.testing.assert_close(slope, m * ratio * a * unclipped * share, atol=1e-6, rtol=1e-4)
    assert 0.2 < float(unclipped.float().mean()) < 1.0


# -- one-step matrix games, all joint actions enumerated -------------------------------------------


def play_games(seed, *, games, agents, choices, blocks=None, **config):
    """Improve random cooperative games from uniform policies; exact gains ``[games]``.

    Each epoch holds one joint action of one game and every joint action occurs once, so that means
    over the roll-out are exact expectations. Games do not see each other: agents of the others are
    idle.
    """
    rng = np.random.default_rng(seed)
    joint = np.array(list(itertools.product(range(choices), repeat=agents)))
    owner = np.repeat(np.arange(games), len(joint))
    # First agents of all games, then all second ones: a block for each.
    active = np.tile(np.arange(games), agents)[None, :] == owner[:, None]
    actions = np.tile(joint, (games, 1))[:, np.repeat(np.arange(agents), games)]
    reward = rng.standard_normal((games, len(joint)))
    reward -= reward.mean(axis=1, keepdims=True)
    everyone = games * agents
    ascent = ascent_of(
        table_rollout(np.where(active, actions, 0), choices, active),
        reward.reshape(1, -1),
        table_weights(np.full((everyone, choices), 1.0 / choices)),
        member=np.arange(everyone),
        blocks=blocks or agents,
        order="fixed",
        **config,
    )
    statistics = improve(ascent)
    mine = ascent.decisions.start
    batch = ascent.ppo.experience.minibatch(
        torch.from_numpy(ascent.decisions.flat[mine])[:, None],
        torch.ones(everyone, 1) > 0,
        torch.arange(everyone),
    )
    policy = batch.outputs(ascent.parameters)[:, 0].double().exp().numpy()
    policy = policy.reshape(agents, games, choices)
    chance = np.prod([policy[agent][:, joint[:, agent]] for agent in range(agents)], axis=0)
    return (chance * reward).sum(axis=1), statistics, everyone


EXACT = {"fisher_samples": None, "damping": 1e-4}


def test_surrogate_gains_telescope_to_the_joint_improvement():
    """``sum_i E[M_1:i-1 (r_i - 1) A] = E_new[A]``: what each agent gains adds up (no clamp)."""
    for algorithm in ("hatrpo", "hatrpo-w"):
        exact, statistics, everyone = play_games(
            0,
            games=6,
            agents=4,
            choices=3,
            algorithm=algorithm,
            trust_region={"kl": 0.1, **EXACT},
        )
        assert statistics["trust/gain"] * everyone == pytest.approx(exact.sum(), rel=1e-4)
        assert exact.sum() > 0.5
        clipped, statistics, _ = play_games(
            0,
            games=6,
            agents=4,
            choices=3,
            algorithm=algorithm,
            clip_factor=True,
            trust_region={"kl": 0.1, **EXACT},
        )
        assert abs(statistics["trust/gain"] * everyone - clipped.sum()) > 0.02


def violations(*, kl, **settings):
    """Of 1000 random games: how many got worse, and by how much at worst."""
    gains = np.concatenate(
        [
            play_games(
                seed,
                games=100,
                agents=3,
                choices=2,
                trust_region={"kl": kl, **EXACT},
                **settings,
            )[0]
            for seed in range(10)
        ]
    )
    return int((gains < -1e-6).sum()), float(gains.min()), float(gains.mean())


def test_small_steps_improve_a_thousand_random_games_and_large_ones_are_counted():
    counted = {}
    for name, settings in {
        "raw": {"algorithm": "hatrpo"},
        "clamped": {"algorithm": "clip-hatrpo"},
        "at once": {"algorithm": "hatrpo", "blocks": 1},
    }.items():
        for kl in (1e-3, 0.3)[name == "at once" :]:
            counted[name, kl] = violations(kl=kl, **settings)
    report = f"(games that got worse, worst, mean): {counted}"
    assert counted["clamped", 1e-3][0] == counted["raw", 1e-3][0] == 0, report
    # With exact expectations and no clamp each line search accepts true improvements only.
    assert counted["raw", 0.3][0] == 0, report
    assert 0 < counted["clamped", 0.3][0] < 20 < counted["at once", 0.3][0], report
    assert counted["clamped", 0.3][2] > 0.9 * counted["raw", 0.3][2], report
