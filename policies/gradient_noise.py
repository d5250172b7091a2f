"""How noisy is one agent's policy gradient, and how noisy is its guidance?

**What is measured.** Every agent gets a copy of the scorer's last layer ``w_i`` of its own, so that
its policy is ``softmax_k(w_i . h_k)`` with the hidden features ``h`` of the current policy,
whatever weights are shared in training. From one episode, agent i's gradient estimates with respect
to ``w_i`` are sums over its decisions

    g^J_i = sum_t A^J_t      (h_{a_t} - sum_k pi_k h_k)         (sampled return)
    g^G_i = sum_t A^G_t(a_t) (h_{a_t} - sum_k pi_k h_k)         (guidance, sampled)
    g^G_i = sum_t sum_k pi_k A^G_t(k) h_k                       (guidance, expected)

with ``A^G(k) = q(k) - sum_l pi_l q(l)``. For set-points the last layer has two outputs per
dimension, and the score is the derivative of the Beta log-density by them. Episodes are
independent, so over E of them, for each agent, ``variance`` is the trace of the covariance of a
single episode's estimate, ``signal`` the squared length of the mean estimate without its noise part
(``|mean|^2 - variance / E``, may come out negative where the signal is lost in noise), and
``cosine`` is the mean over episodes of the cosine between that episode's estimate and the mean of
all *other* episodes. All are then averaged over agents; ``snr`` is mean signal over mean variance.
``A^J`` is the discounted return to go minus its mean over the other episodes at the same epoch (a
baseline that knows the time only).

A shared reward that is a *mean* over agents shrinks each agent's signal with N. ``scale`` (use N)
puts it back on the footing of one agent, so that variances at different N compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..simulators.interface import Doubles, Spec
from .advantages import gae
from .box_minibatch import BoxMinibatch
from .distributions import masked_log_softmax, masked_probabilities
from .experience import Decisions, Experience
from .interface import PolicyArrays, Rollout
from .minibatch import DecisionBatch, Minibatch
from .networks import Parameters, box_features, scorer_features
from .surrogates import guidance_advantage

CHUNK = 8192
"""Decisions evaluated at once."""


@dataclass(frozen=True, slots=True)
class Noise:
    """One estimator's noise, averaged over agents; see the module."""

    variance: float
    signal: float
    snr: float
    cosine: float


@dataclass(frozen=True, slots=True)
class GradientNoise:
    """Of the sampled return, of the guidance, and the cosine of their mean gradients."""

    of_return: Noise
    of_guidance: Noise
    alignment: float


def gradient_noise(
    spec: Spec,
    policy: PolicyArrays,
    rollout: Rollout,
    *,
    estimator: Literal["sampled", "expected"] = "expected",
    gamma: float = 1.0,
    scale: float = 1.0,
) -> GradientNoise:
    """Measure on independent episodes of one policy.

    Args:
        spec: of the simulator.
        policy: that collected the roll-out.
        rollout: at least 3 episodes, with guidance values.
        estimator: form of the guidance estimate.
        gamma: discount of the returns to go.
        scale: factor on both advantages (N for a reward that is a mean over agents).

    Raises:
        ValueError: fewer than 3 episodes.
    """
    if rollout.reward.shape[0] < 3:
        raise ValueError(f"needs at least 3 episodes, got {rollout.reward.shape[0]}")
    advantages = scale * returns_to_go(rollout.reward, gamma=gamma)
    by_return, by_guidance = agent_gradients(
        spec, policy, rollout, advantages=advantages, estimator=estimator
    )
    by_guidance *= scale
    mean_return, mean_guidance = by_return.mean(axis=0), by_guidance.mean(axis=0)
    return GradientNoise(
        _noise(by_return),
        _noise(by_guidance),
        float(np.nanmean(_cosine(mean_return, mean_guidance))),
    )


def returns_to_go(reward: Doubles, *, gamma: float) -> Doubles:
    """Discounted returns to go minus their mean over the other episodes, ``[E, T]``."""
    episodes = reward.shape[0]
    zeros = np.zeros((episodes, reward.shape[1] + 1))
    returns, _ = gae(reward, zeros, np.ones(episodes, bool), gamma=gamma, lam=1.0)
    others = (returns.sum(axis=0) - returns) / (episodes - 1)
    return returns - others


@torch.no_grad()
def agent_gradients(
    spec: Spec,
    policy: PolicyArrays,
    rollout: Rollout,
    *,
    advantages: Doubles,
    estimator: Literal["sampled", "expected"],
) -> tuple[Doubles, Doubles]:
    """Gradients for every episode and agent ``[E, A, P]``, of the return and of the guidance.

    P is the number of weights of one group's last layer.
    """
    tensors = {name: torch.from_numpy(value) for name, value in policy.tensors.items()}
    logs = [
        torch.tensor([f.transform == "log1p" for f in features], dtype=torch.bool)
        for features in (spec.agent_features, spec.candidate_features)
    ]
    experience = Experience(
        rollout,
        scales=tensors,
        agent_log=logs[0],
        candidate_log=logs[1],
        device=torch.device("cpu"),
        kind=BoxMinibatch if rollout.boxes else Minibatch,
    )
    groups = int(tensors["agent.weight"].shape[0])
    decisions = Decisions(rollout, policy.member, groups)
    last = tensors["box.weight" if rollout.boxes else "score.weight"]
    shape = (experience.episodes * spec.agents, last[0].numel())
    by_return, by_guidance = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    values = torch.from_numpy(advantages)
    everyone = np.arange(groups)
    for index, real in decisions.everything(everyone, width=max(1, CHUNK // groups)):
        batch = experience.minibatch(*experience.placed(index, real, everyone))
        if isinstance(batch, Minibatch):
            score = _choice_scores(tensors, batch, estimator)
        else:
            score = _box_scores(tensors, batch, estimator)
        episode = torch.div(batch.index, experience.epochs * spec.agents, rounding_mode="floor")
        row = (episode * spec.agents + batch.index % spec.agents)[batch.weight > 0]
        advantage = experience.spread(values, batch.index).unsqueeze(2)
        of_return, of_guidance = score.taken * advantage, score.guided
        for total, factor in ((by_return, of_return), (by_guidance, of_guidance)):
            gradient = torch.einsum(score.form, factor.double(), score.features.double())
            total.index_add_(0, row, gradient.flatten(2)[batch.weight > 0])
    full = (experience.episodes, spec.agents, shape[1])
    return by_return.view(full).numpy(), by_guidance.view(full).numpy()


@dataclass(frozen=True, slots=True)
class _Scores:
    """Derivatives by the raw outputs ``[g, b, O]``: of log pi, and of the guidance.

    ``form`` combines one of them with the last hidden ``features`` to a gradient of the weights.
    """

    taken: Tensor
    guided: Tensor
    features: Tensor
    form: str


def _choice_scores(tensors: Parameters, batch: Minibatch, estimator: str) -> _Scores:
    hidden = scorer_features(tensors, batch.agent, batch.candidates, batch.mask)
    logits = torch.bmm(hidden, tensors["score.weight"]).view(batch.mask.shape)
    log_p = masked_log_softmax(logits, batch.mask)
    probabilities = masked_probabilities(log_p, batch.mask)
    taken = torch.nn.functional.one_hot(batch.actions, batch.mask.shape[2]) - probabilities
    guided = guidance_advantage(log_p, batch.guidance, batch.mask)
    if estimator == "expected":
        weight = probabilities * guided
    else:
        weight = taken * guided.gather(2, batch.actions.unsqueeze(2))
    return _Scores(taken, weight, hidden.view(*batch.mask.shape, -1), "gbk,gbkh->gbh")


def _box_scores(tensors: Parameters, batch: DecisionBatch, estimator: str) -> _Scores:
    if "base.weight" in tensors:
        raise ValueError(
            "gradient noise is measured on policies that start from the middle of the box; set "
            "learner.network.base=0"
        )
    hidden = box_features(tensors, batch.agent)
    outputs = batch.outputs(tensors)
    with torch.enable_grad():
        leaf = outputs.requires_grad_()
        (taken,) = torch.autograd.grad(batch.log_probability(leaf).sum(), leaf)
        worth = batch.expected_guidance(outputs.detach(), leaf, batch.guidance, None)
        (guided,) = torch.autograd.grad(worth.sum(), leaf)
    if estimator == "sampled":
        guided = taken * batch.sampled_guidance(outputs.detach(), batch.guidance).unsqueeze(2)
    return _Scores(taken, guided, hidden, "gbo,gbh->gbho")


def _noise(gradients: Doubles) -> Noise:
    """``gradients`` ``[E, A, H]``."""
    episodes = gradients.shape[0]
    mean = gradients.mean(axis=0)
    variance = gradients.var(axis=0, ddof=1).sum(axis=1)
    signal = np.square(mean).sum(axis=1) - variance / episodes
    others = (mean * episodes - gradients) / (episodes - 1)
    snr = signal.mean() / variance.mean() if variance.mean() > 0.0 else np.inf
    return Noise(
        variance=float(variance.mean()),
        signal=float(signal.mean()),
        snr=float(snr),
        cosine=float(np.nanmean(_cosine(gradients, others))),
    )


def _cosine(first: Doubles, second: Doubles) -> Doubles:
    """Cosines along the last axis; NaN where one side is 0 (an agent that never decides)."""
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    inner = (first * second).sum(axis=-1)
    return np.where(norms > 0.0, inner / np.where(norms > 0.0, norms, 1.0), np.nan)
