"""What is switched off changes no bit; repeats, resumes, renumberings agree; all of them learn."""

import dataclasses
import json

import numpy as np
import pytest
from ring_game import (
    GUIDED,
    PLAIN,
    PricedModel,
    PricedRing,
    learner_on,
    play,
    same,
    train,
    weights,
)

from fairlead.policies.ascent import Ascent

TRUSTED = ["hatrpo", "clip-hatrpo", "hatrpo-w", "hatrpo-g"]
ALGORITHMS = ["ippo", "mappo", "happo", "clip-happo", *TRUSTED]
SMALL = {
    "network": {"hidden": (8,)},
    "critic": {"hidden": (8,), "passes": 2},
    "passes": 2,
    "minibatches": 2,
    "trust_region": {"cg_iterations": 3},
}
LEARNERS = [
    pytest.param(
        algorithm,
        guided,
        id=f"{algorithm}{', guided' * guided}",
        # Guided, these differ from another one in the clamp or the critic alone.
        marks=pytest.mark.slow
        if guided and algorithm in ("ippo", "clip-happo", "clip-hatrpo")
        else (),
    )
    for algorithm in ALGORITHMS
    for guided in (False, True)
]
EQUAL = {**SMALL["trust_region"], "budget": {"weight": 0.0, "redistribute": False}}
ALPHA = {"schedule": "linear", "start": 0.0, "end": 0.0}
"""Runs through the whole guidance stage and gives it no weight."""

SWITCHED_OFF = {
    "equal budgets": {"algorithm": "hatrpo-w", "trust_region": EQUAL, **PLAIN},
    "no clamp": {"algorithm": "clip-hatrpo", "clip_factor": False, **PLAIN},
    "nothing projected": {"projection": {"method": "hpml", "least": 1.0, "samples": 16}, **PLAIN},
    "alpha 0": {"guidance": {"alpha": ALPHA}},
    "no bound on the total": {"trust_region": {**SMALL["trust_region"], "total_kl": 1e9}, **PLAIN},
    "all of it": {
        "algorithm": "hatrpo-w",
        "trust_region": {**EQUAL, "total_kl": 1e9},
        "clip_factor": False,
        "projection": {"method": "hpml", "least": 1.0, "samples": 16},
        "guidance": {"alpha": ALPHA},
    },
}


def trained(*, updates=3, sharing="none", seed=3, **config):
    """Rewards before each update and the weights after; roll-outs carry guidance."""
    ring = PricedRing(agents=6, horizon=12)
    learner = learner_on(ring, seed=seed, **{"sharing": sharing, **SMALL, **config})
    curve, statistics = train(ring, learner, updates=updates, episodes=2, model=PricedModel(ring))
    return curve, weights(learner), statistics


@pytest.fixture(scope="module")
def plain():
    return {
        mix: trained(algorithm="hatrpo", blocks=4, local_mix=mix, **PLAIN) for mix in (0.0, 0.5)
    }


@pytest.mark.parametrize("mix", [0.0, 0.5])
@pytest.mark.parametrize("what", SWITCHED_OFF)
def test_what_is_switched_off_is_plain_hatrpo_bit_for_bit(what, mix, plain):
    settings = {"algorithm": "hatrpo", "blocks": 4, "local_mix": mix, **SWITCHED_OFF[what]}
    curve, after, statistics = trained(**settings)
    assert (curve == plain[mix][0]).all() and same(after, plain[mix][1])
    if "projection" in settings:
        assert statistics["projection/projected"] == 0.0


@pytest.mark.parametrize(
    "switch",
    [
        {"algorithm": "hatrpo-w"},
        {"algorithm": "hatrpo-g"},
        {"clip_factor": True},
        {"trust_region": {"total_kl": 0.02}},
        {"guidance": {"alpha": {"schedule": "fixed", "start": 0.1}}},
        {"blocks": 1},
    ],
)
def test_what_is_switched_on_does_change_something(switch, plain):
    _, after, _ = trained(**{"algorithm": "hatrpo", "blocks": 4, **PLAIN, **switch})
    assert not same(after, plain[0.0][1])


@pytest.mark.parametrize("algorithm", ["hatrpo", "hatrpo-w", "hatrpo-g"])
def test_alpha_zero_is_the_plain_learner_with_every_budget_rule(algorithm):
    off, through = (
        trained(updates=2, algorithm=algorithm, **guidance)
        for guidance in (PLAIN, {"guidance": {"alpha": ALPHA}})
    )
    assert same(off[1], through[1])


# -- repeats and resumes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "guided"), LEARNERS)
def test_training_twice_is_equal_and_a_resume_is_exact(algorithm, guided):
    guidance = {} if guided else PLAIN
    ring = PricedRing(agents=6, horizon=12)
    model = PricedModel(ring)
    settings = {"algorithm": algorithm, "sharing": "none", "blocks": 3, **SMALL, **guidance}
    first = learner_on(ring, seed=1, **settings)
    train(ring, first, updates=2, episodes=1, model=model)
    tensors, counters = first.state()
    counters = json.loads(json.dumps(counters))
    tensors = {name: value.copy() for name, value in tensors.items()}

    second, resumed = learner_on(ring, seed=1, **settings), learner_on(ring, seed=99, **settings)
    train(ring, second, updates=2, episodes=1, model=model)
    assert same(second.state()[0], tensors)
    resumed.load_state(tensors, counters)

    ends = []
    for learner in (first, second, resumed):
        # Other seeds than before: the roll-outs are new to all three.
        rollout = play(ring, learner, [77, 78], model=model)
        statistics = {
            name: value for name, value in learner.update(rollout).items() if "seconds" not in name
        }
        ends.append((rollout.reward, repr(statistics), *learner.state()))
    for reward, statistics, state, counter in ends[1:]:
        assert (reward == ends[0][0]).all() and statistics == ends[0][1]
        assert same(state, ends[0][2]) and counter == ends[0][3]
    assert not same(tensors, ends[0][2])


# -- renumbering -----------------------------------------------------------------------------------

TURN = np.array([3, 5, 0, 1, 4, 2])
"""Agent ``i`` of the turned problem is agent ``TURN[i]`` of the other."""


def turned(rollout):
    axes = {"agent": 2, "candidates": 2, "mask": 2, "active": 2, "actions": 2, "guidance": 2}
    effects = rollout.effects
    return dataclasses.replace(
        rollout,
        **{name: np.take(getattr(rollout, name), TURN, axis) for name, axis in axes.items()},
        local_reward=rollout.local_reward[:, :, TURN],
        effects=dataclasses.replace(
            effects, index=effects.index[:, :, TURN], value=effects.value[:, :, TURN]
        ),
    )


@pytest.mark.parametrize("guidance", [PLAIN, GUIDED], ids=["plain", "guided"])
@pytest.mark.parametrize("algorithm", ["mappo", "happo", *TRUSTED])
def test_renumbered_agents_make_the_same_moves(algorithm, guidance, monkeypatch):
    ring = PricedRing(agents=6, horizon=12)
    settings = {
        "sharing": "none",
        "blocks": 3,
        **SMALL,
        "minibatches": 1,
        "trust_region": {**SMALL["trust_region"], "budget": {"split_half": False}},
        **guidance,
    }
    one, two = (learner_on(ring, seed=4, algorithm=algorithm, **settings) for _ in range(2))
    for name, value in two.actor.parameters.items():
        value.copy_(one.actor.parameters[name][TURN])
    rollout = play(ring, one, [0, 1], model=PricedModel(ring))
    before = weights(one)
    first = one.update(rollout)
    # The same agents move first, under their new numbers.
    where = np.argsort(TURN)
    original = Ascent.order
    monkeypatch.setattr(Ascent, "order", lambda ascent: where[original(ascent)])
    second = two.update(turned(rollout))
    after, other = weights(one), weights(two)
    moved = max(np.abs(after[name] - before[name]).max() for name in one.actor.parameters)
    assert moved > 3e-3
    for name, value in after.items():
        np.testing.assert_allclose(other[name], value[TURN], atol=0.02 * moved, rtol=2e-3)
    assert second["policy/kl"] == pytest.approx(first["policy/kl"], rel=2e-3)


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "guided"), LEARNERS)
def test_every_learner_improves_on_the_priced_ring_in_a_few_updates(algorithm, guided):
    guidance = GUIDED if guided else PLAIN
    ring = PricedRing(agents=6, horizon=15)
    settings = {
        **SMALL,
        "passes": 6,
        "gamma": 0.8,
        "trust_region": {"kl": 0.1, "cg_iterations": 5},
        **guidance,
    }
    learner = learner_on(ring, seed=3, algorithm=algorithm, sharing="group", **settings)
    unseen = range(1000, 1008)
    start = play(ring, learner, unseen).reward.mean()
    train(ring, learner, updates=5, episodes=4, model=PricedModel(ring))
    end = play(ring, learner, unseen).reward.mean()
    assert end > 0.75 * start, f"mean reward {start:.2f} to {end:.2f}"
