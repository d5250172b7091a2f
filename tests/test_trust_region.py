"""Trust regions: Fisher products, solver, line search, and what a whole update may spend."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import (
    ascent_of,
    bits,
    exact_kl,
    identical,
    improve,
    moved,
    names_of,
    random_ascent,
    random_rollout,
    random_weights,
    weights_of,
)
from torch.distributions import Beta, Categorical, kl_divergence

from fairlead.policies.box_minibatch import BoxMinibatch
from fairlead.policies.compound import Compound
from fairlead.policies.minibatch import Minibatch
from fairlead.policies.trust import walk as walk_module
from fairlead.policies.trust.budgets import allocate
from fairlead.policies.trust.dense import DenseMinibatch
from fairlead.policies.trust.fisher import (
    FisherProduct,
    conjugate_gradient,
    flatten,
    unflatten,
)
from fairlead.policies.trust.region import natural, search, slope
from fairlead.policies.trust.walk import Walk
from fairlead.policies.trust_settings import TrustRegionSettings

GROUPS, ROWS, CHOICES = 3, 12, 4
KINDS = ("scorer", "dense", "box")
EXACT = TrustRegionSettings(
    damping=1e-3, cg_iterations=200, cg_tolerance=1e-10, fisher_samples=None
)


def dense_weights(rng, outputs, hidden=4):
    shapes = {
        "hidden.0.weight": (3, hidden),
        "hidden.0.bias": (hidden,),
        "output.weight": (hidden, outputs),
        "output.bias": (outputs,),
    }
    return {n: torch.from_numpy(rng.normal(0, 0.7, (GROUPS, *s))) for n, s in shapes.items()}


def box_policy(rng, hidden=4):
    shapes = {
        "agent.weight": (3, hidden),
        "agent.bias": (hidden,),
        "box.weight": (hidden, 4),
        "box.bias": (4,),
    }
    return {n: torch.from_numpy(rng.normal(0, 0.7, (GROUPS, *s))) for n, s in shapes.items()}


def problem(kind, seed=0):
    """Weights and decisions of three groups in float64; some rows are padding."""
    rng = np.random.default_rng(seed)
    weight = torch.ones(GROUPS, ROWS, dtype=torch.float64)
    weight[1, 7:], weight[2, 10:] = 0.0, 0.0
    agent = torch.from_numpy(rng.standard_normal((GROUPS, ROWS, 3)))
    half = torch.from_numpy(rng.random((GROUPS, ROWS)) < 0.5)
    common = {
        "index": torch.zeros(GROUPS, ROWS, dtype=torch.int64),
        "weight": weight,
        "groups": torch.arange(GROUPS),
        "agent": agent,
        "half": half,
    }
    if kind == "box":
        mask = torch.ones(GROUPS, ROWS, 2, dtype=torch.bool)
        mask[:, ::3, 1] = False  # a dimension without width is no decision
        guidance = torch.from_numpy(rng.standard_normal((GROUPS, ROWS, 4)))
        shares = torch.from_numpy(rng.beta(2, 2, mask.shape))
        batch = BoxMinibatch(mask=mask, actions=shares, guidance=guidance, **common)
        return box_policy(rng), batch
    mask = torch.from_numpy(rng.random((GROUPS, ROWS, CHOICES)) < 0.6)
    mask[..., 0] = True
    batch = (Minibatch if kind == "scorer" else DenseMinibatch)(
        candidates=torch.from_numpy(rng.standard_normal((GROUPS, ROWS, CHOICES, 2))),
        mask=mask,
        actions=torch.zeros(GROUPS, ROWS, dtype=torch.int64),
        guidance=torch.zeros(GROUPS, ROWS, CHOICES, dtype=torch.float64),
        **common,
    )
    if kind == "dense":
        return dense_weights(rng, CHOICES), batch
    weights = random_weights(rng, GROUPS, hidden=(4, 3))
    return {name: value.double() for name, value in weights.items()}, batch


def hessian_of_kl(weights, batch):
    """Dense Hessian ``[g, P, P]`` of each group's mean KL at the old weights, by autograd."""
    old = batch.outputs(weights)
    flat = flatten(weights).requires_grad_()
    mean = batch.mean(batch.kl(old, batch.outputs(unflatten(flat, weights))))
    (first,) = torch.autograd.grad(mean.sum(), flat, create_graph=True)
    rows = [
        torch.autograd.grad(first[:, column].sum(), flat, retain_graph=True)[0]
        for column in range(flat.shape[1])
    ]
    assert first.detach().abs().max() < 1e-12, "the KL is smallest at the old policy"
    return torch.stack(rows, dim=1)


def units(weights):
    count = flatten(weights).shape[1]
    return torch.eye(count, dtype=torch.float64).unsqueeze(1).expand(count, GROUPS, count)


# -- Fisher products and the solver ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_fisher_product_is_the_hessian_of_the_mean_kl(kind):
    weights, batch = problem(kind)
    product = FisherProduct(weights, batch)
    ours = torch.stack([product(unit) for unit in units(weights)], dim=1)
    exact = hessian_of_kl(weights, batch)
    torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-12)
    assert (exact.abs().amax(dim=(1, 2)) > 0.01).all()
    assert float(torch.linalg.eigvalsh(exact).min()) > -1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_kl_of_a_batch_is_that_of_torch(kind):
    weights, batch = problem(kind, seed=1)
    others = {name: value + 0.3 * value.cos() for name, value in weights.items()}
    old, new = batch.outputs(weights), batch.outputs(others)
    if kind == "box":
        policies = [batch.policy(outputs) for outputs in (old, new)]
        first, second = (Beta(policy.a, policy.b) for policy in policies)
        expected = (kl_divergence(first, second) * batch.mask).sum(-1)
    else:
        # torch has no masks: the probability of a very negative logit underflows to 0.
        first, second = (Categorical(logits=o.masked_fill(~batch.mask, -1e9)) for o in (old, new))
        expected = kl_divergence(first, second)
    torch.testing.assert_close(batch.kl(old, new), expected)
    count = batch.weight.sum(dim=1)
    torch.testing.assert_close(
        batch.mean(expected),
        torch.stack([e[: int(n)].mean() for e, n in zip(expected, count, strict=True)]),
    )
    assert float(batch.mean(expected).min()) > 1e-3


def test_rare_actions_do_not_count_as_much_as_likely_ones():
    # A known library sums exp(dq) - 1 - dq over actions without the old probabilities: 0.500.
    _, batch = problem("dense")
    three = dataclasses.replace(batch, mask=torch.ones(GROUPS, ROWS, 3, dtype=torch.bool))
    old, new = (
        torch.tensor(p, dtype=torch.float64).log().expand(GROUPS, ROWS, 3)
        for p in ([0.96, 0.02, 0.02], [0.95, 0.04, 0.01])
    )
    torch.testing.assert_close(
        three.mean(three.kl(old, new)),
        torch.full((GROUPS,), 0.0101, dtype=torch.float64),
        atol=5e-5,
        rtol=0,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_conjugate_gradients_agree_with_a_dense_solve(kind):
    weights, batch = problem(kind, seed=2)
    matrix = hessian_of_kl(weights, batch)
    b = torch.from_numpy(np.random.default_rng(3).standard_normal(matrix.shape[:2]))
    found = conjugate_gradient(
        FisherProduct(weights, batch), b, damping=0.05, iterations=200, tolerance=1e-12
    )
    dense = torch.linalg.solve(matrix + 0.05 * torch.eye(b.shape[1]).double(), b)
    torch.testing.assert_close(found.x, dense, rtol=1e-8, atol=1e-9)
    left = b - torch.einsum("gij,gj->gi", matrix, found.x) - 0.05 * found.x
    torch.testing.assert_close(found.remainder, left, rtol=0, atol=1e-9)


def stiff(seed, size=12):
    """Three matrices: a multiple of the identity, a well and a badly conditioned one."""
    rng = np.random.default_rng(seed)
    matrices = []
    for spread in (0.0, 1.0, 5.0):
        q, _ = np.linalg.qr(rng.standard_normal((size, size)))
        matrices.append(q @ np.diag(10.0 ** np.linspace(0.0, -spread, size)) @ q.T)
    return torch.from_numpy(np.stack(matrices)), torch.from_numpy(rng.standard_normal((3, size)))


def test_a_solved_group_does_not_change_while_others_go_on():
    matrix, b = stiff(0)

    def solve(iterations):
        return conjugate_gradient(
            lambda v: torch.einsum("gij,gj->gi", matrix, v),
            b,
            damping=0.0,
            iterations=iterations,
            tolerance=1e-6,
        )

    runs = [solve(iterations) for iterations in (1, 2, 7, 30)]
    for run in runs[1:]:
        assert torch.equal(bits(run.x[0]), bits(runs[0].x[0]))
        assert float(run.iterations[0]) == 1.0
    last = runs[-1]
    assert 1.0 < float(last.iterations[1]) < float(last.iterations[2])
    assert (last.residual <= 1e-6 * b.norm(dim=1)).all()
    assert not torch.equal(runs[1].x[2], runs[2].x[2])


def test_a_direction_without_curvature_ends_the_solver_with_finite_numbers():
    matrix = torch.diag_embed(torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]).double())
    b = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 3.0]]).double()
    found = conjugate_gradient(
        lambda v: torch.einsum("gij,gj->gi", matrix, v),
        b,
        damping=0.0,
        iterations=50,
        tolerance=1e-9,
    )
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]).double()
    torch.testing.assert_close(found.x, expected)


# -- one step and its line search ------------------------------------------------------------------


def uphill(kind, seed=0):
    """A surrogate with a slope of its own in every group: ``mean pi_new / pi_old * A``."""
    weights, batch = problem(kind, seed)
    rng = np.random.default_rng(seed + 100)
    advantage = torch.from_numpy(rng.standard_normal((GROUPS, ROWS)))

    def gain(some, old, new):
        # Rows may repeat groups: the advantage travels in a column that the network does not read.
        if kind == "box":
            return some.mean(_ratio(some, old, new) * some.agent[..., 3])
        ratio = (new - old).gather(-1, some.actions.unsqueeze(-1)).squeeze(-1).exp()
        return some.mean(ratio * some.guidance[..., 0])

    if kind == "box":
        batch = Carrying(
            **{f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
            | {"agent": torch.cat([batch.agent, advantage.unsqueeze(-1)], dim=-1)}
        )
    else:
        batch = dataclasses.replace(
            batch, guidance=advantage.unsqueeze(-1).expand(GROUPS, ROWS, CHOICES)
        )
    return weights, batch, gain


def _ratio(batch, old, new):
    return (batch.log_probability(new) - batch.log_probability(old)).exp()


class Carrying(BoxMinibatch):
    """A box batch with one more column, which the network does not see."""

    def outputs(self, parameters):
        plain = dataclasses.replace(self, agent=self.agent[..., :3])
        return BoxMinibatch.outputs(plain, parameters)


def step_of(weights, batch, gain, budget, config=EXACT):
    start = slope(weights, batch, gain)
    step = natural(FisherProduct(weights, batch), start.gradient, config)
    return start, step, search(weights, batch, gain, start, step, budget, config)


BUDGET = torch.tensor([0.01, 0.002, 0.05], dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_improves_its_surrogate_within_its_kl(kind):
    weights, batch, gain = uphill(kind)
    start, step, move = step_of(weights, batch, gain, BUDGET)
    old, new = batch.outputs(weights), batch.outputs(move.parameters)
    kl, won = batch.mean(batch.kl(old, new)), gain(batch, old, new) - gain(batch, old, old)
    assert (kl <= BUDGET).all() and (kl > 0).all() and (kl > 0.4 * BUDGET).sum() >= 2
    assert (won >= 0.5 * move.fraction * move.predicted).all() and (won > 0).all()
    torch.testing.assert_close(move.kl, kl)
    torch.testing.assert_close(move.gain, won)
    torch.testing.assert_close(move.outputs, new)
    # k and the predicted gain from dense linear algebra.
    matrix = hessian_of_kl(weights, batch)
    damped = matrix + EXACT.damping * torch.eye(matrix.shape[1]).double()
    direction = torch.linalg.solve(damped, start.gradient)
    torch.testing.assert_close(step.direction, direction, rtol=1e-5, atol=1e-7)
    k = (start.gradient * direction).sum(1)
    bend = torch.einsum("gi,gij,gj->g", direction, matrix, direction)
    torch.testing.assert_close(step.k, k, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(move.predicted, (2 * BUDGET / bend).sqrt() * k, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_steps_the_same_whoever_else_is_in_the_batch(kind):
    weights, batch, gain = uphill(kind)
    config = EXACT.model_copy(update={"accept": 0.9})  # so that groups backtrack differently
    budget = torch.tensor([0.5, 0.002, 0.2], dtype=torch.float64)
    together = step_of(weights, batch, gain, budget, config)[2]
    assert len(set(together.fraction.tolist())) > 1
    for group in range(GROUPS):
        row = torch.tensor([group])
        own = {name: value[row] for name, value in weights.items()}
        alone = step_of(own, batch.rows(row), gain, budget[row], config)[2]
        for name in ("kl", "gain", "fraction", "backtracks"):
            torch.testing.assert_close(
                getattr(alone, name)[0], getattr(together, name)[group], rtol=1e-9, atol=1e-13
            )
        torch.testing.assert_close(
            flatten(alone.parameters)[0], flatten(together.parameters)[group], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_rejected_step_restores_bit_for_bit(kind):
    weights, batch, gain = uphill(kind)
    next(iter(weights.values()))[0].view(-1)[0] = -0.0
    kept = {name: value.clone() for name, value in weights.items()}
    worse = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)

    def gain_that_is_not_there(some, old, new):
        # Its slope at the old policy is that of the surrogate; groups 0 and 2 fall off a cliff.
        cliff = 1e9 * some.mean(some.kl(old, new)) * worse[cliffs(some)]
        return gain(some, old, new) - cliff

    def cliffs(some):
        distance = (some.agent[:, None, 0, 0] - batch.agent[None, :, 0, 0]).abs()
        return distance.argmin(dim=1)

    _, step, move = step_of(weights, batch, gain_that_is_not_there, BUDGET)
    assert (step.k > 0).all() and (move.predicted > 0).all()
    assert move.fraction[0] == move.fraction[2] == 0.0 < move.fraction[1]
    assert identical(move.parameters, kept, [0, 2]) and not identical(move.parameters, kept, [1])
    assert identical(weights, kept), "arguments are not written to"
    assert move.kl[[0, 2]].tolist() == [0.0, 0.0] == move.gain[[0, 2]].tolist()
    torch.testing.assert_close(move.backtracks[[0, 2]], torch.full((2,), 10.0).double())


# -- what an update may spend ----------------------------------------------------------------------


def spending(seed, algorithm, blocks, sweeps):
    """A problem whose line searches accept, shorten and reject."""
    rng = np.random.default_rng(seed)
    kl = float(rng.choice([0.002, 0.02, 0.3]))
    region = {
        "kl": kl,
        "total_kl": None if rng.random() < 0.7 else 1.5 * kl,
        "accept": float(rng.choice([0.3, 0.9])),
        "cg_iterations": 3,
        "sweeps": sweeps,
        "budget": {"split_half": bool(rng.random() < 0.5), "floor": 0.3 * (rng.random() < 0.3)},
    }
    return random_ascent(
        seed,
        agents=4,
        epochs=8,
        member=[0, 1, 1, 2] if rng.random() < 0.3 else None,
        output_scale=float(rng.choice([0.01, 1.0, 3.0])),
        algorithm=algorithm,
        clip_factor=bool(rng.random() < 0.5),
        order="greedy" if algorithm == "hatrpo-w" and rng.random() < 0.5 else "random",
        blocks=blocks,
        trust_region=region,
    )


CASES = [
    (algorithm, blocks, sweeps)
    for algorithm in ("hatrpo", "hatrpo-w", "hatrpo-g")
    for blocks in (1, 9)
    for sweeps in (1, 3)
]


@pytest.mark.parametrize(("algorithm", "blocks", "sweeps"), CASES)
def test_whatever_groups_use_of_their_budgets_the_total_is_kept(
    algorithm, blocks, sweeps, monkeypatch
):
    """Rejections and shortened steps by chance; nothing is computed."""
    luck = np.random.default_rng(0)

    def step(walk, members, budget, *, last=False):
        assert (budget >= 0.0).all()
        use = luck.choice([0.0, 0.5, 1.0], members.size, p=[0.5, 0.2, 0.3])
        walk.used[members] += use * np.maximum(budget - walk.used[members], 0.0)
        spent.append(float(walk.sizes @ walk.used) / walk.total)

    monkeypatch.setattr(Walk, "step", step)
    monkeypatch.setattr(Walk, "improvements", lambda walk: luck.gamma(0.5, 1.0, 5))
    monkeypatch.setattr(Walk, "improvement", lambda walk, members: luck.random(members.size))
    largest = 0.0
    for seed in range(40):
        spent = [0.0]
        improve(
            random_ascent(
                seed,
                epochs=4,
                algorithm=algorithm,
                blocks=blocks,
                order="greedy" if seed % 2 else "random",
                trust_region={"sweeps": sweeps},
            )
        )
        assert max(spent) <= 1.0 + 1e-9
        largest = max(largest, *spent)
    assert largest > 0.8


@pytest.mark.parametrize(("algorithm", "blocks", "sweeps"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_realised_joint_kl_stays_within_the_total(algorithm, blocks, sweeps, seed):
    ascent = spending(seed, algorithm, blocks, sweeps)
    before = weights_of(ascent)
    statistics = improve(ascent)
    region = ascent.config.trust_region
    total = region.kl * float(ascent.sizes.sum())
    total = total if region.total_kl is None else min(total, region.total_kl)
    # Sums of float32 probabilities: the KL is known to about 1e-7 nats per decision.
    tolerance = 1e-6 * float(ascent.sizes.sum()) + 1e-4 * total
    each = exact_kl(ascent, before, ascent.parameters)
    assert float(each @ ascent.sizes) <= total + tolerance
    assert statistics["trust/total"] == pytest.approx(total)
    assert statistics["trust/joint_kl"] == pytest.approx(float(each @ ascent.sizes), abs=tolerance)
    for group, name in enumerate(names_of(ascent)):
        assert each[group] <= statistics[f"budget/{name}"] * (1.0 + 1e-4) + 1e-6


def refuse(monkeypatch, groups):
    """Line searches of these parameter groups accept nothing."""
    original = walk_module.search

    def stubborn(weights, batch, gain, start, step, budget, config, **rest):
        never = torch.isin(batch.groups, torch.as_tensor(groups))
        step = dataclasses.replace(step, k=torch.where(never, 0.0, step.k))
        return original(weights, batch, gain, start, step, budget, config, **rest)

    monkeypatch.setattr(walk_module, "search", stubborn)


def budgets_of(ascent, statistics):
    return np.array([statistics[f"budget/{name}"] for name in names_of(ascent)])


@pytest.mark.parametrize("redistribute", [True, False])
def test_hatrpo_w_hands_on_what_a_rejected_group_leaves(redistribute, monkeypatch):
    region = {"kl": 0.02, "budget": {"redistribute": redistribute, "split_half": False, "cap": 9.0}}
    ascent = random_ascent(3, algorithm="hatrpo-w", blocks=9, order="fixed", trust_region=region)
    plan = allocate(
        np.maximum(Walk(ascent, names_of(ascent)).improvements(), 0.0),
        size=ascent.sizes,
        total=0.02 * float(ascent.sizes.sum()),
    )
    before = weights_of(ascent)
    refuse(monkeypatch, [0])
    statistics = improve(ascent)
    budgets = budgets_of(ascent, statistics)
    assert moved(before, ascent.parameters).tolist()[:2] == [False, True]
    assert budgets[0] == pytest.approx(plan[0], rel=1e-5)
    if redistribute:
        gift = ascent.sizes[0] * plan[0]
        rest = float((ascent.sizes * (budgets - plan))[1])
        share = (ascent.sizes * plan)[1] / (ascent.sizes * plan)[1:].sum()
        assert rest == pytest.approx(share * gift, rel=1e-4)
        assert gift > 0.05 * statistics["trust/total"]
    else:
        np.testing.assert_allclose(budgets, plan, rtol=1e-5)
    assert statistics["trust/joint_kl"] <= statistics["trust/total"] * (1.0 + 1e-5)


GREEDY = {"algorithm": "hatrpo-g", "blocks": 9, "clip_factor": True}


def test_hatrpo_g_hands_on_what_a_rejected_group_leaves(monkeypatch):
    def run(rejected):
        region = {"kl": 0.02, "budget": {"trial": 2.5, "split_half": False}}
        ascent = random_ascent(0, **GREEDY, trust_region=region)
        with monkeypatch.context() as patch:
            refuse(patch, rejected)
            statistics = improve(ascent)
        assert statistics["trust/joint_kl"] <= statistics["trust/total"] * (1.0 + 1e-5)
        kl = np.array([statistics[f"kl/{name}"] for name in names_of(ascent)])
        return kl * ascent.sizes / statistics["trust/total"]

    undisturbed = run([])
    best = int(undisturbed.argmax())
    assert undisturbed[best] > 0.3
    disturbed = run([best])
    others = np.arange(5) != best
    assert disturbed[best] == 0.0
    assert (disturbed - undisturbed)[others].sum() > 0.6 * undisturbed[best]


def test_hatrpo_g_stops_where_nothing_is_promised():
    ascent = random_ascent(0, **GREEDY)
    flat = dataclasses.replace(
        ascent, ppo=dataclasses.replace(ascent.ppo, advantages=torch.zeros(2, 14))
    )
    before = weights_of(flat)
    statistics = improve(flat)
    assert identical(before, flat.parameters)
    assert statistics["trust/joint_kl"] == 0.0 < statistics["trust/total"]
    assert statistics["trust/evaluations"] == 0.0, "one look at the queue is enough"


def test_hatrpo_g_moves_the_group_with_the_largest_fresh_k_next(monkeypatch):
    """At a common trial budget improvement per KL is ``sqrt(2 k / delta)``."""
    region = {
        "kl": 0.05,
        "cg_iterations": 5,
        "budget": {"trial": 1.0, "split_half": False, "memory": 0.0},
    }
    original, orders, first_orders, compared = Walk.step, [], [], 0
    for seed in range(6):
        ascent = random_ascent(seed, **GREEDY, trust_region=region)
        log = []

        def step(walk, members, budget, *, last=False, log=log):
            rest = np.setdiff1d(np.arange(5), [group for group, _ in log])
            log.append((int(members[0]), dict(zip(rest, walk.improvement(rest), strict=True))))
            assert members.size == 1
            original(walk, members, budget, last=last)

        monkeypatch.setattr(Walk, "step", step)
        statistics = improve(ascent)
        if statistics["trust/grown"] > 0.0:
            continue  # lazy evaluation promises the full greedy order only while k does not grow
        for group, fresh in log:
            assert fresh[group] >= max(fresh.values()) * (1.0 - 1e-5)
            compared += len(fresh) > 1
        orders.append([group for group, _ in log])
        first_orders.append(sorted(log[0][1], key=lambda g, k=log[0][1]: -k[g]))
    assert compared >= 8
    assert any(a != b[: len(a)] for a, b in zip(orders, first_orders, strict=True)), (
        "k measured once, before anybody moved, would have given the same orders"
    )


# -- noise does not buy budget ---------------------------------------------------------------------


def share_of_a_noisy_agent(seed, *, split_half, agents=5):
    """Share of D of an agent whose large advantages have nothing to do with its actions."""
    rng = np.random.default_rng(seed)
    rollout = random_rollout(rng, episodes=2, epochs=100, agents=agents, choices=4, activity=1.0)
    picked = np.take_along_axis(rollout.candidates[..., 0], rollout.actions[..., None], -1)[..., 0]
    advantages = 0.3 * picked + rng.standard_normal(picked.shape)
    advantages[..., -1] = 4.0 * rng.standard_normal(picked.shape[:2])
    ascent = ascent_of(
        rollout,
        advantages,
        random_weights(rng, agents, output_scale=0.01),
        member=np.arange(agents),
        algorithm="hatrpo-w",
        blocks=1,
        trust_region={"budget": {"split_half": split_half, "memory": 0.0, "cap": 20.0}},
    )
    statistics = improve(ascent)
    return float(budgets_of(ascent, statistics)[-1] * ascent.sizes[-1] / statistics["trust/total"])


def test_a_pure_noise_agent_does_not_buy_budget_with_halves_and_does_without():
    halves, naive = (
        np.mean([share_of_a_noisy_agent(seed, split_half=split) for seed in range(16)])
        for split in (True, False)
    )
    assert halves < 1.5 / 5, f"noise absorbs {halves:.2f} of the budget"
    assert naive > 1.5 / 5, f"the naive estimate is not fooled by this case: {naive:.2f}"
    assert halves < 0.6 * naive


# -- blocks ----------------------------------------------------------------------------------------


def test_one_block_moves_everybody_at_once_and_many_one_after_another(monkeypatch):
    original, members_of = Walk.step, []

    def step(walk, members, budget, *, last=False):
        members_of.append(members.tolist())
        original(walk, members, budget, last=last)

    monkeypatch.setattr(Walk, "step", step)
    results = {}
    for name, blocks in (("one", 1), ("many", 9), ("deaf", 9)):
        ascent = random_ascent(1, algorithm="hatrpo", blocks=blocks, trust_region={"kl": 0.1})
        members_of.clear()
        with monkeypatch.context() as patch:
            if name == "deaf":  # nobody hears of the others' moves
                patch.setattr(Compound, "factor", lambda *_: None)
            statistics = improve(ascent)
        results[name] = flatten(ascent.parameters)
        order = [int(group) for group in ascent.order()]
        assert members_of == ([order] if blocks == 1 else [[group] for group in order])
        assert ("factor/ess" in statistics) is (blocks > 1)
    torch.testing.assert_close(results["one"], results["deaf"], rtol=1e-4, atol=1e-5)
    first = order[0]
    torch.testing.assert_close(results["many"][first], results["one"][first], rtol=1e-4, atol=1e-5)
    off = (results["many"] - results["one"]).abs().amax(dim=1)
    assert (off[order[1:]] > 1e-3).sum() >= 3
