"""What learners do with NaN, idle agents, empty roll-outs, flat policies and budgets of zero."""

import dataclasses

import numpy as np
import pytest
import torch
from ring_game import GUIDED, PLAIN, PricedModel, PricedRing, learner_on, play, same, weights

from fairlead.policies.actor_critic import ActorCritic
from fairlead.policies.trust import walk as walk_module

TRUSTED = ["hatrpo", "clip-hatrpo", "hatrpo-w", "hatrpo-g"]
ALGORITHMS = ["ippo", "mappo", "happo", "clip-happo", *TRUSTED]
SHARING = ["none", "group"]
SMALL = {
    "network": {"hidden": (8,)},
    "critic": {"hidden": (8,), "passes": 2},
    "passes": 2,
    "minibatches": 2,
    "trust_region": {"cg_iterations": 3},
}
PLAIN_K = {**SMALL["trust_region"], "budget": {"split_half": False, "memory": 0.0}}
UNKNOWN = ("guidance/cosine", "guidance/cosine_error")
"""NaN there means too little data, which is so with roll-outs as short as these."""


@pytest.fixture(scope="module")
def game():
    """The ring, guided experience on it, and none of it spoilt."""
    ring = PricedRing(agents=6, horizon=12)
    rollout = play(ring, learner_on(ring, **SMALL), [0, 1], model=PricedModel(ring))
    decisive = rollout.active & (rollout.mask.sum(-1) > 1)
    assert len(set(decisive.sum(axis=(0, 1)))) > 1, "tables of equal length need no padding"
    return ring, rollout


def groups_that_moved(before, after):
    names = [name for name in before if not name.startswith("normaliser")]
    groups = range(before[names[0]].shape[0])
    return [any((before[n][g] != after[n][g]).any() for n in names) for g in groups]


def updated(learner, rollout):
    """Which groups moved, and the statistics; everything has to be finite."""
    before = weights(learner)
    statistics = learner.update(rollout)
    after = weights(learner)
    assert all(np.isfinite(value).all() for value in after.values())
    return groups_that_moved(before, after), statistics


def not_finite(statistics):
    return sorted(n for n, v in statistics.items() if not np.isfinite(v) and n not in UNKNOWN)


def counted(statistics):
    return statistics.get("trust/nonfinite", statistics.get("policy/nonfinite"))


# -- gradients that are not finite -----------------------------------------------------------------


def spoil(monkeypatch, agents, value):
    """Advantages of these agents are multiplied by ``value``, after they were normalised."""
    original = ActorCritic._normalise

    def spoilt(self, advantages, decisions, statistics):
        whole = original(self, advantages, decisions, statistics)
        each = whole if whole.ndim == 3 else whole.unsqueeze(-1).repeat(1, 1, 6)
        each = each.clone()
        each[..., agents] *= value
        return each

    monkeypatch.setattr(ActorCritic, "_normalise", spoilt)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize(
    ("algorithm", "blocks"),
    [
        ("ippo", 1),
        ("mappo", 1),
        ("happo", 6),
        ("clip-happo", 6),
        ("hatrpo", 6),
        ("hatrpo", 1),
        ("hatrpo-w", 6),
        ("hatrpo-g", 6),
    ],
)
def test_a_group_without_finite_gradient_stays_and_the_others_move(
    algorithm, blocks, sharing, value, game, monkeypatch
):
    ring, rollout = game
    settings = {"algorithm": algorithm, "blocks": blocks, "trust_region": PLAIN_K}
    learner = learner_on(ring, sharing=sharing, **(SMALL | settings), **PLAIN)
    spoil(monkeypatch, [0] if sharing == "none" else [0, 2, 4], value)
    moved, statistics = updated(learner, rollout)
    assert not moved[0]
    # Minibatches are counted in the PPO family, groups in that of HATRPO.
    assert counted(statistics) == (1.0 if learner.config.trusted else 4.0)
    assert sum(moved) == len(moved) - 1
    assert np.isfinite([v for n, v in statistics.items() if "variance" not in n]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("algorithm", ["happo", "hatrpo", "hatrpo-w"])
def test_statistics_are_finite_even_if_a_gradient_is_not(algorithm, value, game, monkeypatch):
    ring, rollout = game
    learner = learner_on(ring, algorithm=algorithm, sharing="none", **SMALL, **PLAIN)
    spoil(monkeypatch, [0], value)
    _, statistics = updated(learner, rollout)
    assert not_finite(statistics) == []


@pytest.mark.parametrize("algorithm", ["happo", *TRUSTED])
def test_a_gradient_too_long_for_its_own_norm_is_counted_as_well(algorithm, game, monkeypatch):
    ring, rollout = game
    settings = {"algorithm": algorithm, "trust_region": PLAIN_K}
    learner = learner_on(ring, sharing="none", **(SMALL | settings), **PLAIN)
    spoil(monkeypatch, [0], 1e30)
    moved, statistics = updated(learner, rollout)
    assert not moved[0] and sum(moved) >= 3
    assert not_finite(statistics) == []
    assert counted(statistics) >= 1.0


@pytest.mark.parametrize("algorithm", ["mappo", "happo", "hatrpo", "hatrpo-w", "hatrpo-g"])
def test_nobody_moves_on_advantages_that_are_all_nan(algorithm, game, monkeypatch):
    ring, rollout = game
    learner = learner_on(ring, algorithm=algorithm, sharing="none", **SMALL, **PLAIN)
    spoil(monkeypatch, list(range(6)), np.nan)
    moved, statistics = updated(learner, rollout)
    assert not any(moved)
    # HATRPO-G does not even try to move what promises nothing.
    assert counted(statistics) >= 6.0 or algorithm == "hatrpo-g"
    monkeypatch.undo()
    moved, _ = updated(learner, rollout)
    assert any(moved) or algorithm == "hatrpo-g", "one bad roll-out leaves nothing behind"


@pytest.mark.parametrize("algorithm", TRUSTED)
def test_a_solution_that_is_not_finite_is_no_step(algorithm, game, monkeypatch):
    ring, rollout = game
    settings = {"algorithm": algorithm, "trust_region": PLAIN_K}
    learner = learner_on(ring, sharing="none", **(SMALL | settings), **PLAIN)
    original, blocks = walk_module.natural, []

    def first_is_poisoned(product, gradient, config):
        blocks.append(gradient.shape[0])
        fault = torch.nan if len(blocks) == 1 else 1.0
        return original(lambda v: fault * product(v), gradient, config)

    monkeypatch.setattr(walk_module, "natural", first_is_poisoned)
    moved, statistics = updated(learner, rollout)
    assert moved.count(False) >= blocks[0] == 1 and sum(moved) >= 3
    assert not_finite(statistics) == []


# -- agents and groups that decide nothing ---------------------------------------------------------


def without_choice(rollout, agents, *, active):
    """These agents only ever have the first candidate."""
    mask, actions, on = rollout.mask.copy(), rollout.actions.copy(), rollout.active.copy()
    mask[:, :, agents] = np.arange(mask.shape[3]) == 0
    actions[:, :, agents], on[:, :, agents] = 0, active
    return dataclasses.replace(rollout, mask=mask, actions=actions, active=on)


@pytest.mark.parametrize(("guidance", "active"), [(PLAIN, True), (GUIDED, False)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_agent_without_choice_stays_and_disturbs_nobody(algorithm, guidance, active, game):
    ring, rollout = game
    settings = {"algorithm": algorithm, "trust_region": PLAIN_K}
    learner = learner_on(ring, sharing="none", **(SMALL | settings), **guidance)
    moved, statistics = updated(learner, without_choice(rollout, [2], active=active))
    assert not moved[2] and sum(moved) >= 4
    assert not_finite(statistics) == [] and counted(statistics) == 0.0
    # It may move later on; without choice again it stays, whatever momentum it has.
    moved, statistics = updated(learner, rollout)
    assert not_finite(statistics) == []
    assert moved[2] or algorithm == "hatrpo-g"
    moved, _ = updated(learner, without_choice(rollout, [2], active=active))
    assert not moved[2] and any(moved)


@pytest.mark.parametrize("guidance", [PLAIN, GUIDED])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_group_without_active_agents_stays(algorithm, guidance, game):
    ring, rollout = game
    settings = {"algorithm": algorithm, "trust_region": PLAIN_K}
    learner = learner_on(ring, sharing="group", **(SMALL | settings), **guidance)
    moved, statistics = updated(learner, without_choice(rollout, [0, 2, 4], active=False))
    assert moved == [False, True]
    assert not_finite(statistics) == [] and counted(statistics) == 0.0
    if learner.config.trusted:
        assert statistics["budget/even"] == 0.0 < statistics["budget/odd"]


@pytest.mark.parametrize(("sharing", "guidance"), [("none", PLAIN), ("group", GUIDED)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_roll_out_in_which_nobody_decides_changes_no_weight(algorithm, guidance, sharing, game):
    ring, rollout = game
    learner = learner_on(ring, algorithm=algorithm, sharing=sharing, **SMALL, **guidance)
    nothing = without_choice(rollout, list(range(6)), active=False)
    for _ in range(2):
        moved, statistics = updated(learner, nothing)
        assert not any(moved)
        assert not_finite(statistics) == [] and counted(statistics) == 0.0
    moved, statistics = updated(learner, rollout)
    assert any(moved) or algorithm == "hatrpo-g"


# -- policies that cannot respond, budgets that allow nothing --------------------------------------


@pytest.mark.parametrize(("guidance", "damping"), [(PLAIN, 0.0), (GUIDED, 0.0), (PLAIN, 0.1)])
@pytest.mark.parametrize("algorithm", TRUSTED)
def test_candidates_that_look_alike_have_a_fisher_matrix_of_zero(
    algorithm, damping, guidance, game
):
    ring, rollout = game
    alike = np.broadcast_to(rollout.candidates[:, :, :, :1], rollout.candidates.shape).copy()
    settings = {"algorithm": algorithm, "trust_region": {**PLAIN_K, "damping": damping}}
    learner = learner_on(ring, sharing="none", **(SMALL | settings), **guidance)
    moved, statistics = updated(learner, dataclasses.replace(rollout, candidates=alike))
    assert not any(moved)
    assert not_finite(statistics) == [] and counted(statistics) == 0.0
    assert statistics["trust/joint_kl"] == 0.0


@pytest.mark.parametrize("algorithm", TRUSTED)
def test_a_singular_fisher_matrix_without_damping_gives_finite_steps_within_the_kl(algorithm, game):
    """Eight decisions cannot span all weights; the gradient uses more."""
    ring, rollout = game
    region = {"damping": 0.0, "cg_iterations": 20, "cg_tolerance": 0.0, "fisher_samples": 8}
    settings = {"algorithm": algorithm, "trust_region": {**PLAIN_K, **region}}
    learner = learner_on(ring, sharing="none", **(SMALL | settings), **PLAIN)
    moves = []
    for _ in range(2):
        moved, statistics = updated(learner, rollout)
        moves.append(any(moved))
        assert not_finite(statistics) == [] and counted(statistics) == 0.0
        assert statistics["trust/joint_kl"] <= statistics["trust/total"] * (1.0 + 1e-5)
    assert any(moves)


NO_BUDGET = {
    "kl": ({"kl": 0.0}, PLAIN),
    "total": ({"total_kl": 0.0}, PLAIN),
    "kl, half guided": ({"kl": 0.0}, {"guidance": {"alpha": {"schedule": "fixed", "start": 0.5}}}),
    "total, half guided": (
        {"total_kl": 0.0},
        {"guidance": {"alpha": {"schedule": "fixed", "start": 0.5}}},
    ),
}


@pytest.mark.parametrize(("why", "sharing"), list(zip(NO_BUDGET, SHARING * 2, strict=True)))
@pytest.mark.parametrize("algorithm", TRUSTED)
def test_without_budget_nothing_moves_bit_for_bit(algorithm, why, sharing, game):
    ring, rollout = game
    region, guidance = NO_BUDGET[why]
    settings = {
        "algorithm": algorithm,
        "trust_region": {**SMALL["trust_region"], **region, "sweeps": 2},
    }
    learner = learner_on(ring, sharing=sharing, **(SMALL | settings), **guidance)
    before = {n: v for n, v in weights(learner).items() if not n.startswith("normaliser")}
    moved, statistics = updated(learner, rollout)
    after = {n: v for n, v in weights(learner).items() if not n.startswith("normaliser")}
    assert not any(moved) and same(before, after)
    assert not_finite(statistics) == [] and counted(statistics) == 0.0
    assert statistics["trust/total"] == statistics["trust/joint_kl"] == 0.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_advantage_is_no_update(algorithm, game):
    """Reward that never varies says nothing; only the critic has something to learn."""
    ring, rollout = game
    learner = learner_on(ring, algorithm=algorithm, gamma=0.0, **SMALL, **PLAIN)
    still = dataclasses.replace(rollout, reward=np.ones_like(rollout.reward))
    moved, statistics = updated(learner, still)
    assert not any(moved) and not_finite(statistics) == [] and counted(statistics) == 0.0
