"""HATRPO-W in one file: plain, slow, and written for reading. The fast path must equal it.

Agents act in the same epochs; each has a policy of its own over a few candidates, a team advantage
A, and a trust region. One update, in the terms of arXiv 2109.11251 (HATRPO) and 2508.10340
(HATRPO-W, whose budgets are derived from its abstract):

1. For every agent i: gradient ``g_i`` of ``E[r_i A]``, natural gradient ``v_i = H_i^-1 g_i``,
   ``k_i = g_i' v_i``.
2. Budgets ``delta_i`` in proportion to ``k_i`` between a floor and a cap, ``sum m_i delta_i = D``.
3. Agents in order. With M the product of the ratios of all agents that moved before: gradient of
   ``E[M r_i A]``, natural gradient, the longest step whose exact KL is within ``delta_i`` and which
   gains enough, or none. What is left of ``delta_i`` is handed to the agents that follow.

Nothing here is batched, and nothing is shared with the package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

FILLER = -1e30  # logit of an illegal candidate: its probability is exactly 0, its logarithm finite


@dataclass
class Config:
    kl: float = 0.01  # delta, the equal share
    total_kl: float = math.inf  # upper bound on D
    equal: bool = False  # plain HATRPO: everybody has the equal share
    floor: float = 0.0  # bounds on budgets as multiples of the equal share
    cap: float = 5.0
    weight: float = 1.0  # 0: equal budgets, 1: KKT budgets
    redistribute: bool = True
    clip_factor: bool = False  # min(M, 1) instead of M (arXiv 2606.25526)
    damping: float = 0.1
    cg_iterations: int = 10
    cg_tolerance: float = 1e-3
    backtrack: float = 0.8
    fractions: int = 10
    accept: float = 0.5


@dataclass
class Agent:
    """One policy and the b decisions that it took."""

    weights: dict[str, torch.Tensor]
    own: torch.Tensor  # [b, F] features of the agent
    candidates: torch.Tensor  # [b, K, C] features of its alternatives
    mask: torch.Tensor  # [b, K] which of them are legal
    action: torch.Tensor  # [b] which one it took
    epoch: torch.Tensor  # [b] when
    advantage: torch.Tensor  # [b]


@dataclass
class Report:
    """What happened to one agent."""

    k: float
    planned: float  # budget by KKT
    budget: float  # with what earlier agents left over
    predicted: float  # gain of the full step
    slope: float = 0.0  # k under the compound ratio
    kl: float = 0.0
    gain: float = 0.0
    fraction: float = 0.0  # of the full step; 0: rejected
    backtracks: int = 0


# -- the policy -----------------------------------------------------------------------------------


def log_policy(weights, agent):
    """Log-probabilities [b, K]; one small network scores every candidate."""
    legal = agent.mask.to(agent.candidates.dtype).unsqueeze(2)
    mean_candidate = (agent.candidates * legal).sum(1) / legal.sum(1)
    scores = []
    for k in range(agent.mask.shape[1]):
        seen = agent.own
        if weights["agent.weight"].shape[0] > agent.own.shape[1]:
            seen = torch.cat([agent.own, mean_candidate], dim=1)
        hidden = seen @ weights["agent.weight"] + weights["agent.bias"]
        hidden = torch.tanh(hidden + agent.candidates[:, k] @ weights["candidate.weight"])
        layer = 1
        while f"hidden.{layer}.weight" in weights:
            hidden = hidden @ weights[f"hidden.{layer}.weight"] + weights[f"hidden.{layer}.bias"]
            hidden = torch.tanh(hidden)
            layer += 1
        scores.append((hidden @ weights["score.weight"]).squeeze(1))
    logits = torch.stack(scores, dim=1).masked_fill(~agent.mask, FILLER)
    return torch.log_softmax(logits, dim=1)


def mean_kl(old, new):
    """Exact categorical KL(old || new), mean over decisions (the theory: maximum over states)."""
    return (old.exp() * (old - new)).sum(1).mean()


def taken(log_p, agent):
    """Log-probability of the actions taken, [b]."""
    return log_p[torch.arange(len(agent.action)), agent.action]


def surrogate(old, new, agent, factor):
    """E[M r A] over the agent's decisions."""
    ratio = (taken(new, agent) - taken(old, agent)).exp()
    return (factor[agent.epoch] * ratio * agent.advantage).mean()


# -- vectors of weights ---------------------------------------------------------------------------


def to_vector(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def from_vector(vector, like):
    parts = vector.split([value.numel() for value in like.values()])
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(like.items(), parts, strict=True)
    }


def with_gradient(weights):
    return {name: value.detach().clone().requires_grad_() for name, value in weights.items()}


# -- natural gradient -----------------------------------------------------------------------------


def policy_gradient(agent, factor):
    weights = with_gradient(agent.weights)
    log_p = log_policy(weights, agent)
    value = surrogate(log_p.detach(), log_p, agent, factor)
    return to_vector(torch.autograd.grad(value, list(weights.values()))).detach()


def hessian_vector_product(agent, vector):
    """Hessian of the mean KL at the present weights, times a vector; by differentiating twice."""
    weights = with_gradient(agent.weights)
    log_p = log_policy(weights, agent)
    divergence = mean_kl(log_p.detach(), log_p)
    first = torch.autograd.grad(divergence, list(weights.values()), create_graph=True)
    second = torch.autograd.grad(to_vector(first) @ vector, list(weights.values()))
    return to_vector(second).detach()


def conjugate_gradient(multiply, b, iterations, tolerance):
    """Textbook conjugate gradients for multiply(x) = b, from x = 0."""
    x = torch.zeros_like(b)
    r, p = b.clone(), b.clone()
    for _ in range(iterations):
        if r @ r <= tolerance**2 * (b @ b):
            break
        q = multiply(p)
        if p @ q <= 0.0:
            break
        alpha = (r @ r) / (p @ q)
        x = x + alpha * p
        r_next = r - alpha * q
        p = r_next + (r_next @ r_next) / (r @ r) * p
        r = r_next
    return x


def natural_gradient(agent, gradient, config):
    def damped(vector):
        return hessian_vector_product(agent, vector) + config.damping * vector

    return conjugate_gradient(damped, gradient, config.cg_iterations, config.cg_tolerance)


# -- budgets --------------------------------------------------------------------------------------


def kkt_budgets(k, size, total, config):
    """``delta_i = clip(k_i m, low, high)``; the level m by bisection, until the total is used."""
    share = total / sum(size)
    low, high = config.floor * share, config.cap * share
    if config.equal or config.weight == 0.0 or max(k) == 0.0 or min(k) == max(k):
        return [share] * len(k)

    def budgets(level):
        return [min(max(k_i * level, low), high) for k_i in k]

    def spent(level):
        return sum(m_i * delta_i for m_i, delta_i in zip(size, budgets(level), strict=True))

    below, above = 0.0, high / min(k_i for k_i in k if k_i > 0.0)
    for _ in range(200):
        middle = (below + above) / 2.0
        below, above = (middle, above) if spent(middle) <= total else (below, middle)
    return [share + config.weight * (delta_i - share) for delta_i in budgets(below)]


def hand_on(budgets, leftover, size, rest, cap):
    """Give unused KL to the agents in ``rest``, in proportion to their budgets, up to the cap."""
    budgets = list(budgets)
    while leftover > 1e-15:
        below_cap = [i for i in rest if 0.0 < budgets[i] < cap * (1.0 - 1e-12)]
        if not below_cap:
            break
        planned = {i: budgets[i] for i in below_cap}
        growth = leftover / sum(size[i] * planned[i] for i in below_cap)
        for i in below_cap:
            extra = min(growth * planned[i], cap - planned[i])
            budgets[i] += extra
            leftover -= size[i] * extra
    return budgets


# -- one step and the whole update ----------------------------------------------------------------


def step(agent, factor, budget, config, report):
    """Natural-gradient step with backtracking; returns the new weights (the old ones: rejected)."""
    gradient = policy_gradient(agent, factor)
    direction = natural_gradient(agent, gradient, config)
    slope = float(gradient @ direction)
    # The step that would use the budget if the KL were its quadratic model. Damping is part of the
    # solver, not of the policy's geometry, so the curvature is that of H alone; the second term
    # bounds steps along directions to which the policy hardly responds.
    curvature = float(direction @ hessian_vector_product(agent, direction))
    curvature = max(curvature, 0.1 * slope)
    scale = math.sqrt(2.0 * budget / curvature) if curvature > 0.0 and budget > 0.0 else 0.0
    report.budget, report.slope, report.predicted = budget, slope, scale * slope
    if report.predicted <= 0.0:
        return agent.weights

    start = to_vector(agent.weights.values())
    with torch.no_grad():
        old = log_policy(agent.weights, agent)
        before = surrogate(old, old, agent, factor)
        first_kl, top = 0.0, config.backtrack
        for j in range(config.fractions):
            if j == 1 and first_kl > budget:
                top = 0.98 * math.sqrt(budget / first_kl)  # the KL is about quadratic
            fraction = 1.0 if j == 0 else top * config.backtrack ** (j - 1)
            weights = from_vector(start + fraction * scale * direction, agent.weights)
            new = log_policy(weights, agent)
            kl = float(mean_kl(old, new))
            gain = float(surrogate(old, new, agent, factor) - before)
            first_kl = kl if j == 0 else first_kl
            enough = gain > 0.0 and gain >= config.accept * fraction * report.predicted
            if enough and kl <= budget:
                report.kl, report.gain, report.fraction = kl, gain, fraction
                return weights
            report.backtracks += 1
    return agent.weights


def hatrpo_w(agents: list[Agent], epochs: int, config: Config, order: list[int] | None = None):
    """One update of all agents.

    ``epochs`` is the number of epochs of the roll-out; ``order`` who moves when (by default the
    largest k first). Returns the new weights and a report of every agent, and the order.
    """
    everyone = range(len(agents))
    size = [len(agent.action) / epochs for agent in agents]  # m_i, deciding members per epoch
    total = min(config.kl * sum(size), config.total_kl)
    share = total / sum(size)

    nobody_moved = torch.ones(epochs, dtype=agents[0].advantage.dtype)
    k = []
    for agent in agents:
        gradient = policy_gradient(agent, nobody_moved)
        k.append(max(0.0, float(gradient @ natural_gradient(agent, gradient, config))))
    planned = kkt_budgets(k, size, total, config)
    order = sorted(everyone, key=lambda i: -k[i]) if order is None else list(order)

    log_m = torch.zeros(epochs, dtype=torch.float64)
    budgets = list(planned)
    results = [agent.weights for agent in agents]
    reports = [Report(k[i], planned[i], planned[i], 0.0) for i in everyone]
    for position, i in enumerate(order):
        agent, report = agents[i], reports[i]
        factor = log_m.exp().to(agent.advantage.dtype)
        factor = factor.clamp(max=1.0) if config.clip_factor else factor  # at use: M stays whole
        results[i] = step(agent, factor, budgets[i], config, report)

        if config.redistribute:
            leftover = size[i] * (budgets[i] - report.kl)
            rest = order[position + 1 :]
            budgets = hand_on(budgets, leftover, size, rest, config.cap * share)

        with torch.no_grad():
            old = taken(log_policy(agent.weights, agent), agent)
            new = taken(log_policy(results[i], agent), agent)
            log_m.index_add_(0, agent.epoch, (new - old).double())
    return results, reports, order
