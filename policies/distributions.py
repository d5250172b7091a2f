"""Distributions over one decision, with exact log-probability, entropy and KL.

Masked categorical for choices: illegal candidates have probability exactly 0 and receive no
gradient. Beta on a box for set-points: no mass lies outside the feasible interval, and KL and
entropy are closed forms. (Some public trust-region codes sum a sample estimator of the KL over the
actions without the old probabilities; that is not a KL. Here it is sum p (log p - log q).)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NEAREST = 1e-7
"""Share of a box by which densities keep off its ends: sampled in floating point, an end can be hit
exactly, where the density is a limit of 0."""


def masked_log_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities ``[..., K]``; 0 (not -inf) where the mask is false.

    Every row needs one legal candidate. The finite filler keeps products with probabilities
    (:func:`masked_probabilities`), which are exactly 0 there, free of NaN.
    """
    log_p = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), dim=-1)
    return log_p.masked_fill(~mask, 0.0)


def masked_probabilities(log_p: Tensor, mask: Tensor) -> Tensor:
    """Probabilities of :func:`masked_log_softmax`, exactly 0 where illegal."""
    return log_p.exp() * mask


def log_probability(log_p: Tensor, actions: Tensor) -> Tensor:
    """``log pi(a)``: ``[..., K]`` and ``[...]`` int64 to ``[...]``."""
    return log_p.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def entropy(log_p: Tensor, mask: Tensor) -> Tensor:
    """Exact entropy in nats, ``[...]``."""
    return -(masked_probabilities(log_p, mask) * log_p).sum(dim=-1)


def kl(old: Tensor, new: Tensor, mask: Tensor) -> Tensor:
    """Exact ``KL(old || new)`` in nats of two masked log-softmax arrays, ``[...]``."""
    return (masked_probabilities(old, mask) * (old - new)).sum(dim=-1)


def sample(log_p: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """One action per row by the Gumbel trick, ``[...]`` int64."""
    uniform = torch.rand(log_p.shape, generator=generator, device=log_p.device, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(uniform.clamp_min(1e-300)))
    return (log_p + gumbel).masked_fill(~mask, -torch.inf).argmax(dim=-1)


@dataclass(frozen=True, slots=True)
class BoxBeta:
    """Independent Beta distributions, stretched to a feasible box.

    ``x = low + (high - low) u`` with ``u ~ Beta(a, b)``, ``a, b > 1``: unimodal, density 0 at the
    ends. A dimension whose box has no width is no decision: its log-probability, entropy and KL are
    0. Arrays are ``[..., D]``; results are summed over D.
    """

    a: Tensor
    b: Tensor
    low: Tensor
    high: Tensor

    @staticmethod
    def from_network(outputs: Tensor, low: Tensor, high: Tensor) -> BoxBeta:
        """``outputs`` ``[..., 2 D]``, any real numbers: ``a = 1 + softplus``, ``b`` likewise."""
        first, second = outputs.chunk(2, dim=-1)
        plus = torch.nn.functional.softplus
        return BoxBeta(1.0 + plus(first), 1.0 + plus(second), low, high)

    @staticmethod
    def of_shares(outputs: Tensor, free: Tensor) -> BoxBeta:
        """Of the shares in [0, 1] of boxes, of which only the ``free`` ones have a width; float64.

        The softplus is taken in the precision of ``outputs``, which is faster and costs nothing:
        whatever it returns are the shapes.
        """
        a, b = (1.0 + torch.nn.functional.softplus(outputs).double()).chunk(2, dim=-1)
        return BoxBeta(a, b, a.new_zeros(free.shape), free.to(a.dtype))

    @property
    def mean(self) -> Tensor:
        """Expected set-point ``[..., D]``."""
        return self.low + (self.high - self.low) * self.a / (self.a + self.b)

    def _free(self) -> tuple[Tensor, Tensor]:
        width = self.high - self.low
        free = width > 0.0
        return free, torch.where(free, width, torch.ones_like(width))

    def log_probability(self, x: Tensor) -> Tensor:
        """Log-density at ``x``; ``-inf`` outside the box."""
        free, width = self._free()
        u = (x - self.low) / width
        inside = (u >= 0.0) & (u <= 1.0)
        u = u.clamp(NEAREST, 1.0 - NEAREST)
        log = (self.a - 1.0) * u.log() + (self.b - 1.0) * torch.log1p(-u)
        log = log - _log_beta(self.a, self.b) - width.log()
        log = torch.where(inside, log, torch.full_like(log, -torch.inf))
        return torch.where(free, log, torch.zeros_like(log)).sum(dim=-1)

    def score(self, x: Tensor) -> Tensor:
        """Derivatives of the log-density at ``x`` by all a, then all b, ``[..., 2 D]``."""
        free, width = self._free()
        u = ((x - self.low) / width).clamp(NEAREST, 1.0 - NEAREST)
        both = torch.digamma(self.a + self.b)
        by_a = u.log() - torch.digamma(self.a) + both
        by_b = torch.log1p(-u) - torch.digamma(self.b) + both
        return torch.cat([torch.where(free, by, torch.zeros_like(by)) for by in (by_a, by_b)], -1)

    def information(self, along_a: Tensor, along_b: Tensor) -> tuple[Tensor, Tensor]:
        """Fisher information of the shapes times a direction ``[..., D]`` twice.

        ``[[t(a) - t(a+b), -t(a+b)], [-t(a+b), t(b) - t(a+b)]]`` with the trigamma function t.
        """
        free, _ = self._free()
        both = torch.polygamma(1, self.a + self.b) * (along_a + along_b)
        first = torch.polygamma(1, self.a) * along_a - both
        second = torch.polygamma(1, self.b) * along_b - both
        zero = torch.zeros_like(both)
        return torch.where(free, first, zero), torch.where(free, second, zero)

    def entropy(self) -> Tensor:
        """Differential entropy in nats."""
        free, width = self._free()
        a, b, total = self.a, self.b, self.a + self.b
        value = _log_beta(a, b) - (a - 1.0) * torch.digamma(a) - (b - 1.0) * torch.digamma(b)
        value = value + (total - 2.0) * torch.digamma(total) + width.log()
        return torch.where(free, value, torch.zeros_like(value)).sum(dim=-1)

    def kl(self, new: BoxBeta) -> Tensor:
        """Exact ``KL(self || new)`` on the same box, in nats."""
        free, _ = self._free()
        a, b, total = self.a, self.b, self.a + self.b
        value = _log_beta(new.a, new.b) - _log_beta(a, b)
        value = value + (a - new.a) * torch.digamma(a) + (b - new.b) * torch.digamma(b)
        value = value + (new.a + new.b - total) * torch.digamma(total)
        return torch.where(free, value, torch.zeros_like(value)).sum(dim=-1)

    @torch.no_grad()
    def sample(self, rng: np.random.Generator) -> Tensor:
        """One set-point per row, ``[..., D]``, without gradient."""
        u = rng.beta(self.a.double().cpu().numpy(), self.b.double().cpu().numpy())
        share = torch.from_numpy(np.asarray(u)).to(self.a)
        return self.low + (self.high - self.low) * share


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
