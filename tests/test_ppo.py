"""The PPO family: solves the trivial, repeats and resumes exactly, respects masks and order."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from ring_game import GUIDED, PLAIN, QUICK, PricedModel, PricedRing, learner_on, play, same, train
from ring_game import weights as policy_weights

from fairlead.policies.acting import PolicyActor
from fairlead.policies.experience import Decisions
from fairlead.policies.interface import PolicyArrays
from fairlead.policies.learners import make_learner
from fairlead.policies.optimiser import StackedAdam
from fairlead.policies.ppo import Ppo
from fairlead.simulators.interface import Box, Choice, Feature, Observation, Spec, Step

ALGORITHMS = ["ippo", "mappo", "happo"]


class Flag:
    """The identity test of choice policies: one of three candidates carries a flag; take it."""

    def __init__(self, agents=4, horizon=25):
        self.spec = Spec(
            domain="toy",
            scenario="flag",
            agents=agents,
            groups=("a", "b"),
            group_of=np.arange(agents) % 2,
            agent_features=(Feature("one", "1", 0, 1),),
            candidate_features=(Feature("flag", "1", 0, 1),),
            critic_features=(Feature("one", "1", 0, 1),),
            state_size=1,
            action=Choice(4),
            horizon=horizon,
            dt=1.0,
        )

    def reset(self, seed):
        self.rng, self.epoch = np.random.default_rng(seed), 0
        return self._observe()

    def _observe(self):
        n = self.spec.agents
        self.flag = self.rng.integers(1, 4, n)
        candidates = np.zeros((n, 4, 1), np.float32)
        candidates[np.arange(n), self.flag, 0] = 1.0
        nothing = np.zeros((n, 0), np.float32)
        return Observation(
            agent=np.ones((n, 1), np.float32),
            candidates=candidates,
            target=np.tile(np.arange(4) - 1, (n, 1)),
            mask=np.ones((n, 4), bool),
            low=nothing,
            high=nothing,
            active=np.ones(n, bool),
            critic=np.ones(1, np.float32),
            state=np.zeros(1),
            exogenous=np.zeros(1),
            time=float(self.epoch),
        )

    def step(self, actions):
        local = (np.asarray(actions) == self.flag).astype(np.float64)
        self.epoch += 1
        done = self.epoch >= self.spec.horizon
        return Step(self._observe(), float(local.mean()), local, {}, False, done)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trivial_game_is_solved(algorithm):
    game = Flag()
    learner = learner_on(game, algorithm=algorithm, gamma=0.0, **PLAIN)
    curve, _ = train(game, learner, updates=12, episodes=6)
    assert curve[0] < 0.4 and curve[-1] > 0.95


@pytest.mark.parametrize("mix", [0.5, 1.0])
def test_local_rewards_solve_it_as_well(mix):
    game = Flag()
    learner = learner_on(game, gamma=0.0, local_mix=mix, **PLAIN)
    curve, _ = train(game, learner, updates=8, episodes=4)
    assert curve[-1] > 0.95


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("guidance", [PLAIN, GUIDED])
def test_first_ratio_is_exactly_one_and_training_twice_is_equal(algorithm, guidance):
    def run():
        simulator = PricedRing(agents=6, horizon=15)
        learner = learner_on(simulator, seed=5, algorithm=algorithm, **QUICK, **guidance)
        model = PricedModel(simulator)
        curve, statistics = train(simulator, learner, updates=3, episodes=2, model=model)
        assert statistics["policy/first_ratio_error"] == 0.0
        assert statistics["policy/ratio_max"] > 1.0
        return curve, statistics, policy_weights(learner)

    one, two = run(), run()
    assert (one[0] == two[0]).all() and same(one[2], two[2])
    assert repr(one[1]) == repr(two[1])  # by their digits: NaN equals NaN


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_resume_from_a_saved_state_is_exact(algorithm):
    simulator = PricedRing(agents=6, horizon=30)
    model = PricedModel(simulator)
    settings = {"algorithm": algorithm, **QUICK}
    learner = learner_on(simulator, seed=1, **settings)
    train(simulator, learner, updates=2, episodes=2, model=model)
    tensors, counters = learner.state()
    counters = json.loads(json.dumps(counters))
    resumed = learner_on(simulator, seed=99, **settings)
    resumed.load_state({k: v.copy() for k, v in tensors.items()}, counters)
    both = [
        train(simulator, each, updates=2, episodes=2, model=model) for each in (learner, resumed)
    ]
    assert (both[0][0] == both[1][0]).all() and repr(both[0][1]) == repr(both[1][1])
    ends = [each.state() for each in (learner, resumed)]
    assert same(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]
    assert not same(tensors, ends[0][0])


def test_a_state_that_does_not_fit_is_refused():
    simulator = PricedRing(agents=6)
    tensors, counters = learner_on(simulator, **QUICK).state()
    with pytest.raises(ValueError, match="algorithm 'mappo'"):
        learner_on(simulator, algorithm="happo", **QUICK).load_state(tensors, counters)
    wide = {**QUICK, "network": {"hidden": (17,)}}
    with pytest.raises(ValueError, match=r"tensor .*: expected shape"):
        learner_on(simulator, **wide).load_state(tensors, counters)
    deep = {**QUICK, "network": {"hidden": (16, 16)}}
    with pytest.raises(ValueError, match="tensors differ"):
        learner_on(simulator, **deep).load_state(tensors, counters)
    with pytest.raises(ValueError, match="lacks the counter"):
        learner_on(simulator, **QUICK).load_state(tensors, {"algorithm": "mappo"})


def test_the_policy_is_a_copy():
    simulator = PricedRing(agents=6, horizon=10)
    learner = learner_on(simulator, **QUICK, **PLAIN)
    before = learner.policy()
    kept = {name: value.copy() for name, value in before.tensors.items()}
    learner.update(play(simulator, learner, [0]))
    assert same(before.tensors, kept) and not same(kept, policy_weights(learner))


# -- masks and idle agents -------------------------------------------------------------------------


def test_what_masked_candidates_look_like_changes_nothing():
    simulator = PricedRing(agents=6, horizon=15)
    learners = [learner_on(simulator, **QUICK, **GUIDED) for _ in range(2)]
    rollout = play(simulator, learners[0], [0, 1], model=PricedModel(simulator))
    candidates, guidance = rollout.candidates.copy(), rollout.guidance.copy()
    assert (~rollout.mask).any()
    candidates[~rollout.mask] = 1e3
    guidance[~rollout.mask] = -1e3
    learners[0].update(rollout)
    learners[1].update(dataclasses.replace(rollout, candidates=candidates, guidance=guidance))
    assert same(policy_weights(learners[0]), policy_weights(learners[1]))


def test_epochs_and_roll_outs_in_which_nobody_is_active():
    simulator = PricedRing(agents=6, horizon=15)
    rollout = play(simulator, learner_on(simulator, **QUICK), [0], model=PricedModel(simulator))
    active, actions, mask = rollout.active.copy(), rollout.actions.copy(), rollout.mask.copy()
    active[:, 4:9], actions[:, 4:9], mask[:, 4:9, :, 1:] = False, 0, False
    partly = dataclasses.replace(rollout, active=active, actions=actions, mask=mask)
    learner = learner_on(simulator, **QUICK, **PLAIN)
    start = policy_weights(learner)
    learner.update(partly)
    moved = policy_weights(learner)
    assert all(np.isfinite(value).all() for value in moved.values()) and not same(start, moved)
    nobody = dataclasses.replace(
        rollout,
        active=np.zeros_like(active),
        actions=np.zeros_like(actions),
        mask=np.arange(4) == np.zeros((*mask.shape[:3], 1)),
    )
    statistics = learner.update(nobody)
    assert same(moved, policy_weights(learner))
    assert all(np.isfinite(value) for value in statistics.values())


def test_bad_roll_outs_are_named():
    simulator = PricedRing(agents=6, horizon=5)
    learner = learner_on(simulator, **QUICK, **PLAIN)
    rollout = play(simulator, learner, [0])
    with pytest.raises(ValueError, match=r"actions: expected shape \(1, 5, 6\)"):
        learner.update(dataclasses.replace(rollout, actions=rollout.actions[:, :, :5]))
    mask = rollout.mask.copy()
    mask[0, 3, 2, rollout.actions[0, 3, 2]] = False
    active = np.ones_like(rollout.active)
    with pytest.raises(ValueError, match="agent 2 took the masked candidate"):
        learner.update(dataclasses.replace(rollout, mask=mask, active=active))
    reward = rollout.reward.copy()
    reward[0, 1] = np.nan
    with pytest.raises(ValueError, match="not finite in episode 0, epoch 1"):
        learner.update(dataclasses.replace(rollout, reward=reward))
    boxes = dataclasses.replace(simulator.spec, action=Box(1))
    learner = make_learner(boxes, learner.config, seed=0)
    with pytest.raises(ValueError, match=r"candidates: expected shape \(1, 5, 6, 0, 0\)"):
        learner.update(rollout)


# -- sharing and permutation -----------------------------------------------------------------------


def test_agents_with_equal_weights_of_their_own_score_as_shared_weights_do():
    simulator = PricedRing(agents=6, horizon=10)
    shared = learner_on(simulator, sharing="all").policy()
    own = PolicyArrays(
        {name: np.repeat(value, 6, axis=0) for name, value in shared.tensors.items()}, np.arange(6)
    )
    seen = simulator.reset(0)
    scores = [PolicyActor(simulator.spec, p, name="p").scores(seen) for p in (shared, own)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def gradients_of(learner, rollout):
    """The full-batch policy gradient ``{name: [G, ...]}``, not yet averaged over groups."""
    captured = {}

    def spy(self, parameters, gradients, *, live, max_norm, pace):
        captured.update(zip(parameters, gradients, strict=True))
        return torch.ones_like(live, dtype=torch.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StackedAdam, "step", spy)
        patch.setattr(learner.critic, "fit", lambda *_, **__: {})
        learner.update(rollout)
    return {name: value.numpy() for name, value in captured.items()}


def test_shared_gradient_is_the_mean_of_unshared_gradients_and_agents_may_be_renumbered():
    simulator = PricedRing(agents=6, horizon=30)
    once = {"passes": 1, "minibatches": 1, **PLAIN, "network": {"hidden": (16,)}}
    shared, own = (learner_on(simulator, sharing=s, **once) for s in ("all", "none"))
    rollout = play(simulator, shared, [0, 1])
    for name, value in own.actor.parameters.items():
        value.copy_(shared.actor.parameters[name].expand_as(value))
    together, apart = gradients_of(shared, rollout), gradients_of(own, rollout)
    share = (
        Decisions(rollout, np.arange(6), 6).count / Decisions(rollout, np.zeros(6, int), 1).count
    )
    for name, value in together.items():
        mean = np.tensordot(share, apart[name], axes=1)
        np.testing.assert_allclose(value[0], mean, atol=2e-6)
    assert max(np.abs(value).max() for value in together.values()) > 1e-3
    turn = np.array([3, 5, 0, 1, 4, 2])
    axes = {"agent": 2, "candidates": 2, "mask": 2, "active": 2, "actions": 2, "guidance": 2}
    turned = dataclasses.replace(
        rollout,
        **{name: np.take(getattr(rollout, name), turn, axis) for name, axis in axes.items()},
        local_reward=rollout.local_reward[:, :, turn],
    )
    fresh = learner_on(simulator, sharing="all", **once)
    for name, value in gradients_of(fresh, turned).items():
        np.testing.assert_allclose(value, together[name], atol=2e-6)


# -- limits of a step ------------------------------------------------------------------------------


def test_a_small_kl_limit_stops_each_group_by_itself_early():
    simulator = PricedRing(agents=6, horizon=30)
    loose, tight = (
        learner_on(simulator, target_kl=limit, passes=10, **PLAIN) for limit in (10.0, 1e-4)
    )
    rollout = play(simulator, loose, [0, 1])
    far, near = loose.update(rollout), tight.update(rollout)
    assert far["policy/steps"] == 80.0 and near["policy/steps"] < 30.0
    # The limit stops the step after the one that crossed it.
    assert 1e-4 < near["policy/kl"] < 0.5 * far["policy/kl"]
    assert near["kl/even"] != near["kl/odd"]


def test_the_gradient_norm_limit_holds_per_group():
    parameters = {"w": torch.zeros(2, 3)}
    adam = StackedAdam(parameters, learning_rate=0.1)
    gradient = torch.tensor([[30.0, 0.0, 40.0], [0.03, 0.0, 0.04]])
    norm = adam.step(parameters, (gradient,), live=torch.tensor([True, False]), max_norm=1.0)
    torch.testing.assert_close(norm, torch.tensor([50.0, 0.05]))
    torch.testing.assert_close(adam.first["w"][0], 0.1 * gradient[0] / 50.0)
    assert (parameters["w"][1] == 0).all() and (adam.first["w"][1] == 0).all()
    assert adam.steps.tolist() == [1.0, 0.0]


def test_stacked_adam_equals_torch_adam():
    generator = torch.Generator().manual_seed(0)
    ours = {"w": torch.randn(1, 4, 3, generator=generator)}
    theirs = ours["w"].clone().requires_grad_()
    adam = StackedAdam(ours, learning_rate=0.01)
    reference = torch.optim.Adam([theirs], lr=0.01)
    for _ in range(20):
        gradient = torch.randn(1, 4, 3, generator=generator)
        adam.step(ours, (gradient,), live=torch.tensor([True]), max_norm=1e9)
        theirs.grad = gradient
        reference.step()
    torch.testing.assert_close(ours["w"], theirs.detach(), atol=1e-6, rtol=1e-5)


# -- HAPPO -----------------------------------------------------------------------------------------


def test_happo_with_one_block_is_mappo():
    simulator = PricedRing(agents=6, horizon=15)
    results = []
    for settings in ({"algorithm": "mappo"}, {"algorithm": "happo", "blocks": 1, "order": "fixed"}):
        learner = learner_on(simulator, **settings, **QUICK, **PLAIN)
        train(simulator, learner, updates=2, episodes=2)
        results.append(policy_weights(learner))
    assert same(*results)


def test_happo_first_block_is_plain_and_the_factor_is_the_product_of_earlier_ratios(monkeypatch):
    simulator = PricedRing(agents=6, horizon=20)
    settings = {"sharing": "none", "blocks": 3, "order": "fixed", **QUICK, **PLAIN}
    mappo, happo = (learner_on(simulator, algorithm=a, **settings) for a in ("mappo", "happo"))
    rollout = play(simulator, mappo, [0, 1])
    seen = []
    improve = Ppo.improve

    def spy(self, block, passes):
        seen.append(block.factor)
        return improve(self, block, passes)

    monkeypatch.setattr(Ppo, "improve", spy)
    before = happo.policy()
    statistics = happo.update(rollout)
    after = happo.policy()
    assert seen[0] is None and len(seen) == 3
    # The same product from the numpy actor: agents 0..3 moved before the last block.
    scales = {k: v for k, v in after.tensors.items() if k.startswith("normaliser")}
    old = PolicyArrays({**before.tensors, **scales}, before.member)
    actors = [PolicyActor(simulator.spec, p, name="p") for p in (after, old)]
    product = np.ones((2, 20))
    for episode in range(2):
        for epoch in range(20):
            observation = dataclasses.replace(
                simulator.last,
                agent=rollout.agent[episode, epoch],
                candidates=rollout.candidates[episode, epoch],
                mask=rollout.mask[episode, epoch],
                active=rollout.active[episode, epoch],
            )
            new, first = (
                a.probabilities(observation)[np.arange(6), rollout.actions[episode, epoch]]
                for a in actors
            )
            product[episode, epoch] = (new / first)[:4].prod()
    np.testing.assert_allclose(seen[2].numpy(), product, rtol=1e-4)
    assert np.abs(product - 1.0).max() > 0.05
    assert statistics["factor_log_max/2"] == pytest.approx(np.log(product).max(), abs=1e-4)
    ess = product.sum() ** 2 / (product**2).sum() / product.size
    assert statistics["factor_ess/2"] == pytest.approx(ess, rel=1e-4)


def test_happo_order_is_drawn_anew_and_matters(monkeypatch):
    simulator = PricedRing(agents=6, horizon=20)
    fixed, drawn = (
        learner_on(simulator, algorithm="happo", sharing="none", order=order, **QUICK, **PLAIN)
        for order in ("fixed", "random")
    )
    rollout = play(simulator, fixed, [0])
    moved = []
    improve = Ppo.improve

    def spy(self, block, passes):
        moved.append(int(block.groups[0]))
        return improve(self, block, passes)

    monkeypatch.setattr(Ppo, "improve", spy)
    orders = {}
    for name, learner in (("fixed", fixed), ("drawn", drawn)):
        orders[name] = []
        for _ in range(3):
            moved.clear()
            learner.update(rollout)
            orders[name].append(tuple(moved))
    assert orders["fixed"] == [(0, 1, 2, 3, 4, 5)] * 3
    assert len(set(orders["drawn"])) > 1
    assert all(sorted(order) == [0, 1, 2, 3, 4, 5] for order in orders["drawn"])
    assert not same(policy_weights(fixed), policy_weights(drawn))


def test_happo_with_joint_guidance_sees_the_blocks_that_moved_before():
    simulator = PricedRing(agents=6, horizon=20)
    guidance = {"guidance": {**GUIDED["guidance"], "estimator": "joint"}}
    settings = {**QUICK, **guidance, "order": "fixed", "sharing": "none"}
    one, six = (learner_on(simulator, algorithm="happo", blocks=b, **settings) for b in (1, 6))
    rollout = play(simulator, one, [0, 1], model=PricedModel(simulator))
    one.update(rollout)
    six.update(rollout)
    after_one, after_six = policy_weights(one), policy_weights(six)
    assert all(np.isfinite(value).all() for value in after_six.values())
    assert not same(after_one, after_six)


# -- minibatches -----------------------------------------------------------------------------------


def test_minibatches_hold_every_decision_once_and_only_real_decisions():
    simulator = PricedRing(agents=6, horizon=20)
    rollout = play(simulator, learner_on(simulator), [0, 1])
    member = simulator.spec.group_of
    decisions = Decisions(rollout, member, 2)
    expected = np.flatnonzero(rollout.active & (rollout.mask.sum(-1) > 1))
    rng, groups = np.random.default_rng(0), np.arange(2)
    for tables in (
        decisions.scattered(rng, groups, per_group=10_000, pieces=5),
        decisions.whole_epochs(rng, groups, most=10_000, pieces=5),
        decisions.everything(groups, width=7),
    ):
        flat = np.concatenate([index[real] for index, real in tables])
        assert sorted(flat) == list(expected)
        for index, real in tables:
            assert (member[index % 6] == groups[:, None])[real].all()
    few = decisions.scattered(rng, groups, per_group=11, pieces=2)
    flat = np.concatenate([index[real] for index, real in few])
    assert len(set(flat)) == 22
    whole = decisions.whole_epochs(rng, groups, most=60, pieces=3)
    for index, real in whole:
        epochs = set(index[real] // 6)
        assert sorted(index[real]) == [d for d in expected if d // 6 in epochs]
