"""Set-points in boxes: decisions with a Beta distribution on every free dimension.

The learner knows an action as its share ``v`` of the box. The density of the set-point itself
differs by the box's width, a constant, so that ratios, KL and gradients are the same; the entropy
is that of the shares.

Guidance is quadratic, ``q(v) = -(s v + h v^2 / 2)`` for every dimension, so that its expectation
under a Beta distribution is a closed form, and with it the surrogate ``E_new q - E_old q``. It is
exact for whatever new policy, not an extrapolation from ratios: the PPO clip has no meaning here,
and the KL limit bounds the step.

Shapes grow as a policy settles, and what is wanted are small differences of large logarithms of
the gamma function: the distribution is evaluated in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .distributions import BoxBeta
from .minibatch import DecisionBatch
from .networks import Parameters, box_outputs


@dataclass(frozen=True, slots=True)
class BoxMinibatch(DecisionBatch):
    """Set-points; outputs are those of :func:`..networks.box_outputs`, ``[g, b, 2 D]``.

    ``mask`` (which dimensions are free) and ``actions`` (shares) are ``[g, b, D]``, ``guidance``
    ``[g, b, 2 D]`` holds s and h. What is not free contributes nothing and has no gradient.
    """

    def policy(self, outputs: Tensor) -> BoxBeta:
        """The distribution of the shares."""
        return BoxBeta.of_shares(outputs, self.mask)

    def raw(self, parameters: Parameters) -> Tensor:
        """The same as ``outputs``."""
        return self.outputs(parameters)

    def outputs(self, parameters: Parameters) -> Tensor:
        """Network outputs ``[g, b, 2 D]``: a first, then b, before ``1 + softplus``."""
        return box_outputs(parameters, self.agent)

    def log_probability(self, outputs: Tensor) -> Tensor:
        """Log-density of the shares."""
        log_p = self.policy(outputs).log_probability(self.actions.double())
        return log_p.to(outputs.dtype)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Differential entropy of the shares: 0 for the uniform policy, negative otherwise."""
        return self.policy(outputs).entropy().to(outputs.dtype)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        return self.policy(old).kl(self.policy(new)).to(old.dtype)

    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """Fisher information of the two shapes, carried through the softplus."""
        return fisher(outputs, self.mask, direction)

    def mean_action(self, outputs: Tensor) -> Tensor:
        policy = self.policy(outputs)
        return (policy.a / (policy.a + policy.b)).to(outputs.dtype)

    def sampled_guidance(self, outputs: Tensor, guidance: Tensor) -> Tensor:
        first, second = self._moments(outputs, 2)
        v = self.actions.double()
        return self._worth(guidance, v - first, v * v - second).to(outputs.dtype)

    def expected_guidance(
        self,
        old: Tensor,
        new: Tensor,
        guidance: Tensor,
        clip: float | None,  # noqa: ARG002
    ) -> Tensor:
        """``E_new q - E_old q``; ``clip`` has no meaning, see the module."""
        before, after = self._moments(old, 2), self._moments(new, 2)
        worth = self._worth(guidance, after[0] - before[0], after[1] - before[1])
        return worth.to(new.dtype)

    def squared_guidance(self, outputs: Tensor, guidance: Tensor) -> Tensor:
        """Variance of q: dimensions are independent, so theirs add up."""
        one, two, three, four = self._moments(outputs, 4)
        s, h = guidance.double().chunk(2, dim=-1)
        spread = s * s * (two - one * one) + s * h * (three - one * two)
        spread = spread + 0.25 * h * h * (four - two * two)
        return torch.where(self.mask, spread, 0.0).sum(dim=-1).to(outputs.dtype)

    def _moments(self, outputs: Tensor, count: int) -> list[Tensor]:
        """``E v``, ``E v^2``, ... of every dimension, each ``[g, b, D]`` float64."""
        policy = self.policy(outputs)
        total, moment = policy.a + policy.b, torch.ones_like(policy.a)
        found: list[Tensor] = []
        for power in range(count):
            moment = moment * (policy.a + power) / (total + power)
            found.append(moment)
        return found

    def _worth(self, guidance: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """``-(s v + h v^2 / 2)`` over the free dimensions, given v and v^2 or changes of them."""
        s, h = guidance.double().chunk(2, dim=-1)
        return -torch.where(self.mask, s * first + 0.5 * h * second, 0.0).sum(dim=-1)


def fisher(outputs: Tensor, mask: Tensor, direction: Tensor) -> Tensor:
    """Fisher information with respect to network outputs ``[..., 2 D]`` times a direction.

    ``mask`` ``[..., D]``; everything broadcasts. The softplus has the logistic function as slope.
    """
    policy = BoxBeta.of_shares(outputs, mask)
    rise = torch.sigmoid(outputs.double())
    curved = policy.information(*(rise * direction.double()).chunk(2, dim=-1))
    return (rise * torch.cat(curved, dim=-1)).to(direction.dtype)
