"""All learners on set-points: they learn, repeat, resume, and survive what is degenerate."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from box_toys import Trackers, TrackersModel, learner_on, play, train
from ring_game import PLAIN, same, weights

from fairlead.policies.acting import actor
from fairlead.policies.actor_critic import ActorCritic
from fairlead.policies.fragility import FragilityGauge

TRUSTED = ["hatrpo", "hatrpo-w", "hatrpo-g"]
# These differ from another one in the clamp alone.
CLAMPED = [pytest.param(f"clip-{name}", marks=pytest.mark.slow) for name in ("happo", "hatrpo")]
ALGORITHMS = ["ippo", "mappo", "happo", *TRUSTED, *CLAMPED]
GUIDED = {"guidance": {"alpha": {"schedule": "fixed", "start": 1.0}}}
SMALL = {
    "network": {"hidden": (8,)},
    "critic": {"hidden": (8,), "passes": 2},
    "passes": 2,
    "minibatches": 2,
    "trust_region": {"cg_iterations": 3},
}
HPML = {"method": "hpml", "least": 0.0, "confidence": 0.01, "samples": 32, "directions": 2}


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_learner_improves_on_tracking_in_a_few_updates(algorithm, guided):
    simulator = Trackers(agents=6, horizon=25)
    settings = {
        **SMALL,
        "network": {"hidden": (16,)},
        "passes": 8,
        "gamma": 0.0,
        "learning_rate": 5e-3,
        "trust_region": {"kl": 0.05, "cg_iterations": 5},
        **(GUIDED if guided else PLAIN),
    }
    learner = learner_on(simulator, seed=3, algorithm=algorithm, sharing="all", **settings)
    unseen = range(1000, 1010)
    start = play(simulator, learner, unseen).reward.mean()
    updates, episodes = (3, 3) if guided else (6, 8)
    curve, statistics = train(
        simulator, learner, updates=updates, episodes=episodes, model=TrackersModel(simulator)
    )
    end = play(simulator, learner, unseen).reward.mean()
    # Guidance has no noise; six updates of the plain learners are dominated by theirs.
    assert end > (0.7 if guided else 0.93) * start, f"mean reward {start:.3f} to {end:.3f}"
    assert curve[-1] > curve[0] and statistics["rollout/decisions"] > 300
    best = play(simulator, learner, unseen, stochastic=False).reward.mean()
    assert best > end


@pytest.mark.parametrize("estimator", ["sampled", "expected", "joint"])
def test_guidance_leads_where_it_points_even_against_the_return(estimator):
    simulator = Trackers(agents=6, horizon=25)
    ends = {}
    for sign in (1.0, -1.0):
        settings = {**GUIDED["guidance"], "estimator": estimator}
        learner = learner_on(simulator, sharing="all", gamma=0.0, guidance=settings)
        model = TrackersModel(simulator)
        train(simulator, learner, updates=2, model=model, sign=sign)
        ends[sign] = play(simulator, learner, range(100, 106)).reward.mean()
    start = play(simulator, learner_on(simulator, sharing="all"), range(100, 106)).reward.mean()
    assert ends[1.0] > 0.85 * start
    # The joint estimator adds the others' true change to slopes of the wrong sign.
    assert ends[-1.0] < (1.15 if estimator != "joint" else 1.0) * start


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_alpha_zero_is_the_plain_learner_bit_for_bit(algorithm):
    simulator = Trackers(agents=6, dimensions=2)
    model, ends = TrackersModel(simulator), []
    zero = {"guidance": {"alpha": {"schedule": "linear", "start": 0.0, "end": 0.0}}}
    for guidance in (PLAIN, zero, GUIDED):
        learner = learner_on(simulator, algorithm=algorithm, sharing="none", **SMALL, **guidance)
        curve, _ = train(simulator, learner, updates=2, episodes=2, model=model)
        ends.append((weights(learner), learner.critic.state(), curve))
    (plain, critic, curve), (staged, staged_critic, again), (guided, _, _) = ends
    assert same(plain, staged) and same(critic, staged_critic) and (curve == again).all()
    assert not same(plain, guided)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_training_twice_is_equal_and_a_resume_is_exact(algorithm, guided):
    simulator = Trackers(agents=6, dimensions=2, pinned=(1,))
    model = TrackersModel(simulator)
    settings = {"algorithm": algorithm, "sharing": "none", "blocks": 3, **SMALL}
    settings |= {} if guided else PLAIN
    if algorithm in ("mappo", "hatrpo"):
        settings |= {"projection": HPML, "local_mix": 0.4}
    first = learner_on(simulator, seed=1, **settings)
    train(simulator, first, updates=2, episodes=1, model=model)
    tensors, counters = first.state()
    counters = json.loads(json.dumps(counters))
    tensors = {name: value.copy() for name, value in tensors.items()}
    second, resumed = (learner_on(simulator, seed=s, **settings) for s in (1, 99))
    train(simulator, second, updates=2, episodes=1, model=model)
    assert same(second.state()[0], tensors)
    resumed.load_state(tensors, counters)
    ends = []
    for learner in (first, second, resumed):
        learner.update(play(simulator, learner, [77, 78], model=model))
        ends.append(learner.state())
    for state, counter in ends[1:]:
        assert same(state, ends[0][0]) and counter == ends[0][1]
    assert not same(tensors, ends[0][0])


# -- what is degenerate ----------------------------------------------------------------------------


def moved(before, after):
    names = [name for name in before if not name.startswith("normaliser")]
    groups = range(before[names[0]].shape[0])
    return [any((before[n][g] != after[n][g]).any() for n in names) for g in groups]


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("algorithm", ["ippo", "happo", *TRUSTED])
def test_a_group_without_free_boxes_stays_as_it_is(algorithm, guided):
    simulator = Trackers(agents=5, pinned=(1,))
    settings = {"algorithm": algorithm, "sharing": "none", **SMALL, **(GUIDED if guided else PLAIN)}
    settings["trust_region"] = {"cg_iterations": 3, "budget": {"split_half": False}}
    learner = learner_on(simulator, **settings)
    before = weights(learner)
    rollout = play(simulator, learner, [0, 1], model=TrackersModel(simulator))
    statistics = learner.update(rollout)
    went = moved(before, weights(learner))
    # The greedy one moves the best only.
    assert not went[1] and sum(went) >= (1 if algorithm == "hatrpo-g" else 4)
    finite = {n: v for n, v in statistics.items() if not n.startswith("guidance/cosine")}
    assert np.isfinite(list(finite.values())).all()


@pytest.mark.parametrize("algorithm", ["mappo", "happo", "hatrpo-w", "hatrpo-g"])
def test_roll_outs_without_any_decision_move_nothing(algorithm):
    simulator = Trackers(agents=4, work=0.0)
    learner = learner_on(simulator, algorithm=algorithm, projection=HPML, **SMALL)
    before = weights(learner)
    statistics = learner.update(play(simulator, learner, [0], model=TrackersModel(simulator)))
    assert statistics["rollout/decisions"] == 0.0
    after = weights(learner)
    assert not any(moved(before, after)) and all(np.isfinite(v).all() for v in after.values())


@pytest.mark.parametrize("algorithm", ["mappo", "happo", "hatrpo", "hatrpo-g"])
def test_advantages_that_are_not_finite_stop_their_own_group_alone(algorithm, monkeypatch):
    simulator = Trackers(agents=5)
    original = ActorCritic._normalise

    def spoilt(self, *rest):
        each = original(self, *rest).unsqueeze(-1).repeat(1, 1, 5)
        each[..., 2] = torch.nan
        return each

    monkeypatch.setattr(ActorCritic, "_normalise", spoilt)
    learner = learner_on(
        simulator, algorithm=algorithm, sharing="none", clip_factor=True, **SMALL, **PLAIN
    )
    before = weights(learner)
    statistics = learner.update(play(simulator, learner, [0, 1]))
    after = weights(learner)
    assert all(np.isfinite(value).all() for value in after.values())
    assert not moved(before, after)[2] and any(moved(before, after))
    assert statistics.get("trust/nonfinite", statistics.get("policy/nonfinite")) > 0.0


def test_shares_at_the_very_ends_and_policies_that_are_sure_of_themselves_keep_learning():
    simulator = Trackers(agents=4)
    learner = learner_on(simulator, sharing="all", **SMALL)
    learner.actor.parameters["box.bias"].copy_(torch.tensor([[5e3, 1e4]]))
    rollout = play(simulator, learner, [0, 1], model=TrackersModel(simulator))
    actions = rollout.actions.copy()
    actions[:, ::3], actions[:, 1::3] = 0.0, 1.0
    before = weights(learner)
    for algorithm in ("mappo", "hatrpo"):
        learner.config = learner.config.model_copy(update={"algorithm": algorithm})
        learner.update(dataclasses.replace(rollout, actions=actions))
        assert all(np.isfinite(value).all() for value in weights(learner).values())
    assert any(moved(before, weights(learner)))


def test_bad_roll_outs_are_named():
    simulator = Trackers(agents=3, dimensions=2, horizon=4)
    learner = learner_on(simulator, **PLAIN)
    rollout = play(simulator, learner, [0])

    def refused(message, **changed):
        with pytest.raises(ValueError, match=message):
            learner.update(dataclasses.replace(rollout, **changed))

    refused(r"actions: expected shape \(1, 4, 3, 2\)", actions=rollout.actions[..., :1])
    refused(r"guidance: expected shape \(1, 4, 3, 4\)", guidance=rollout.guidance[..., :2])
    shares = rollout.actions.copy()
    shares[0, 2, 1, 1] = np.nan
    refused(
        "dimension 1 of agent 1 has the share nan of its box in episode 0, epoch 2", actions=shares
    )
    refused("agent is not active", active=np.zeros_like(rollout.active))
    learner = learner_on(simulator)
    refused("carries no guidance")
    rollout = play(simulator, learner, [0], model=TrackersModel(simulator))
    refused("needs a roll-out with recorded effects", effects=None)
    with pytest.raises(TypeError, match="commitment costs are of choices"):
        FragilityGauge(simulator.spec, learner.policy())


# -- the policy that leaves the learner ------------------------------------------------------------


def test_the_critic_of_ippo_reads_own_features_and_the_group():
    simulator = Trackers(agents=6, dimensions=2)
    learner = learner_on(simulator, algorithm="ippo", **SMALL, **PLAIN)
    inputs = learner._critic_inputs(play(simulator, learner, [0, 1]))
    assert inputs.shape == (2 * 13 * 6, 3 + 2)
    assert (inputs.view(2, 13, 6, 5)[..., 3:] == torch.eye(2)[[0, 1, 0, 1, 0, 1]]).all()


def test_a_new_policy_is_the_moderate_beta_that_was_asked_for_and_features_are_calibrated_once():
    simulator = Trackers(agents=6)
    learner = learner_on(simulator, network={"concentration": 4.0})
    seen = simulator.reset(0)
    for shape in actor(simulator.spec, learner.policy(), name="p").shapes(seen):
        np.testing.assert_allclose(shape, 4.0, atol=0.1)
    assert sorted(n for n in learner.policy().tensors if "normaliser" in n) == [
        "normaliser.agent.scale",
        "normaliser.agent.shift",
    ]
    rollout = play(simulator, learner, [0, 1], model=TrackersModel(simulator))
    learner.update(rollout)
    scale = learner.policy().tensors["normaliser.agent.scale"]
    sizes = np.log1p(rollout.agent[:, :-1][rollout.active][:, 1])
    np.testing.assert_allclose(scale[:, 1], sizes.std(), rtol=1e-3)
    learner.update(play(simulator, learner, [5], model=TrackersModel(simulator)))
    assert (learner.policy().tensors["normaliser.agent.scale"] == scale).all()
