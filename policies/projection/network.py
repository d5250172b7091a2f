"""Amortised potential: the quadratic one in closed form, a small smooth network for the rest.

After arXiv 2605.18809 (neural realisation; architecture and loss are ours). The network is
``phi_net(y)``, tanh throughout, so that its gradient exists and can be differentiated once more:
its parameters descend the mean of ``(r - grad phi_net)' G^-1 (r - grad phi_net)`` on the residual
``r`` of the Galerkin part. Earlier parameters are the starting point of the next fit; that is what
is amortised.

A network can fit sampling error. A share of the samples is held out, the parameters with the best
held-out loss are kept, and if that loss is not better than without a network, the network
contributes exactly nothing. What is kept enters as one more basis function of the closed form, so
the result stays an orthogonal projection (Pythagoras holds to rounding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...simulators.interface import Doubles
from .galerkin import Energies, Galerkin, Potential

Weights = dict[str, Doubles]
"""``first`` ``[r, h]``, ``second`` ``[h, h]``; ``bias``, ``inner`` and ``last`` ``[h]``."""

HIDDEN = 32
ROUNDING = 1e-14
"""A residual energy below this share of the field's is rounding error, nothing to fit."""


@dataclass(frozen=True, slots=True)
class NetworkFit:
    """How the network is fitted.

    ``steps`` of Adam with step size ``rate`` at most; every ``check`` steps the loss on the
    ``held_out`` share of the samples is read, and after ``patience`` readings without a new best
    the fit ends. A best below ``1 - margin`` times the loss without a network counts as better.
    """

    steps: int = 200
    rate: float = 0.01
    held_out: float = 0.25
    check: int = 10
    patience: int = 5
    margin: float = 0.02


@dataclass(frozen=True, slots=True)
class NetworkPotential:
    """``phi(y) = quadratic part + scale * phi_net((y - centre) @ whiten)``; ``scale`` may be 0."""

    base: Potential
    whiten: Doubles
    weights: Weights
    scale: float

    def value(self, y: Doubles) -> Doubles:
        """``[..., r]`` to ``[...]``."""
        value = self.base.value(y)
        if self.scale == 0.0:
            return value
        inputs = torch.from_numpy((y - self.base.centre) @ self.whiten)
        return value + self.scale * _value(_tensors(self.weights), inputs).numpy()

    def gradient(self, y: Doubles) -> Doubles:
        """Covectors, ``[..., r]`` to ``[..., r]``."""
        gradient = self.base.gradient(y)
        if self.scale == 0.0:
            return gradient
        return gradient + self.scale * self.network_gradient(y)

    def network_gradient(self, y: Doubles) -> Doubles:
        """Gradient of ``phi_net`` alone, ``[..., r]``."""
        inputs = torch.from_numpy((y - self.base.centre) @ self.whiten)
        return _gradient(_tensors(self.weights), inputs).numpy() @ self.whiten.T


@dataclass(frozen=True, slots=True)
class NetworkProjection:
    """Potential, energies, and the network's parameters to start from next time.

    ``held_out`` is the held-out loss of the network as a share of the loss without it (1: not
    used), ``steps`` how many steps were taken.
    """

    potential: NetworkPotential
    energies: Energies
    weights: Weights
    held_out: float
    steps: int


def initial_weights(rng: np.random.Generator, dimensions: int, hidden: int = HIDDEN) -> Weights:
    """Parameters whose last layer is 0: the network starts as the function 0."""
    return {
        "first": rng.standard_normal((dimensions, hidden)) / np.sqrt(dimensions),
        "bias": 0.5 * rng.standard_normal(hidden),
        "second": rng.standard_normal((hidden, hidden)) / np.sqrt(hidden),
        "inner": 0.5 * rng.standard_normal(hidden),
        "last": np.zeros(hidden),
    }


def project_amortised(
    galerkin: Galerkin,
    field: Doubles,
    *,
    rng: np.random.Generator,
    start: Weights | None = None,
    fit: NetworkFit | None = None,
    antithetic: bool = False,
) -> NetworkProjection:
    """Closest potential to ``field`` ``[K, r]``, quadratic part first.

    ``start`` are earlier parameters (None: fresh ones from ``rng``); ``rng`` also picks the
    held-out samples. ``antithetic``: sample ``k + K / 2`` mirrors sample ``k``, and pairs are held
    out as pairs, because one of them says too much about the other.
    """
    fit = fit or NetworkFit()
    plain = galerkin.project(field)
    count, dimensions = galerkin.y.shape
    whiten = _whitening(galerkin)
    weights = start if start is not None else initial_weights(rng, dimensions)
    draws = count // 2 if antithetic else count
    aside = np.zeros(draws, bool)
    aside[rng.permutation(draws)[: max(1, round(fit.held_out * draws))]] = True
    aside = np.tile(aside, 2) if antithetic else aside
    residual = field - plain.potential.gradient(galerkin.y)
    share, steps = 1.0, 0
    if plain.energies.residual > ROUNDING * plain.energies.field:
        weights, share, steps = _descend(galerkin, residual, whiten, weights, aside, fit)
    unused = NetworkPotential(plain.potential, whiten, weights, 0.0)
    if share >= 1.0 - fit.margin:
        return NetworkProjection(unused, plain.energies, weights, 1.0, steps)

    # One more basis function, orthogonalised against the quadratic ones.
    extra = unused.network_gradient(galerkin.y)
    shadow = galerkin.project(extra).potential
    fresh = extra - shadow.gradient(galerkin.y)
    length = galerkin.metric.energy(fresh)
    scale = galerkin.metric.inner(residual, fresh) / length if length > 0.0 else 0.0
    base = Potential(
        plain.potential.centre,
        plain.potential.linear - scale * shadow.linear,
        plain.potential.quadratic - scale * shadow.quadratic,
    )
    potential = NetworkPotential(base, whiten, weights, scale)
    energies = Energies.of(galerkin.metric, field, potential.gradient(galerkin.y))
    return NetworkProjection(potential, energies, weights, share, steps)


def _whitening(galerkin: Galerkin) -> Doubles:
    """``[r, r]`` that takes samples to unit spread, through the metric where it is constant.

    The metric's coordinates keep their meaning from fit to fit; principal axes would not.
    """
    if galerkin.metric.constant:
        z = galerkin.x @ galerkin.metric.factor
        radius = np.sqrt(np.mean(z * z))
        return galerkin.metric.factor / (radius if radius > 0.0 else 1.0)
    spread = np.sqrt(np.mean(galerkin.x * galerkin.x, axis=0))
    return np.diag(1.0 / np.where(spread > 0.0, spread, 1.0))


def _descend(
    galerkin: Galerkin,
    residual: Doubles,
    whiten: Doubles,
    weights: Weights,
    aside: np.ndarray,
    fit: NetworkFit,
) -> tuple[Weights, float, int]:
    """Adam on the residual; best parameters, their held-out loss as a share, steps taken.

    The residual is scaled to unit length, so that step size and stopping do not depend on units.
    """
    size = np.sqrt(galerkin.metric.energy(residual))
    inputs = torch.from_numpy(galerkin.x @ whiten)
    target = torch.from_numpy(galerkin.metric.whiten(residual) / size)
    # In whitened covectors the network's gradient is L^-1 W grad_z, a matrix per sample at most.
    turn = np.linalg.solve(galerkin.metric.factor, whiten)
    turn = torch.from_numpy(np.broadcast_to(turn, (target.shape[0], *turn.shape[-2:])) / 1.0)
    held = torch.from_numpy(aside)
    inner = float(np.sqrt(np.mean(np.square(turn.numpy()))) * np.sqrt(target.shape[1]))
    turn = turn / inner
    parameters = {name: tensor.clone() for name, tensor in _tensors(weights).items()}
    leaves = list(parameters.values())
    for leaf in leaves:
        leaf.requires_grad_()
    optimiser = torch.optim.Adam(leaves, lr=fit.rate)

    def losses() -> tuple[Tensor, Tensor]:
        gradient = _gradient(parameters, inputs, create=True)
        error = (target - (turn @ gradient.unsqueeze(2)).squeeze(2)).square().sum(dim=1)
        return error[~held].mean(), error[held].mean()

    without = float(target[held].square().sum(dim=1).mean())
    best, best_at, kept = np.inf, 0, weights
    taken = 0
    for step in range(fit.steps + 1):
        train, test = losses()
        if step % fit.check == 0:
            now = float(test.detach())
            if now < best:
                best, best_at = now, step
                kept = {name: p.detach().numpy().copy() for name, p in parameters.items()}
            elif step - best_at >= fit.check * fit.patience:
                break
        if step < fit.steps:
            optimiser.zero_grad()
            train.backward()
            optimiser.step()
            taken += 1
    return kept, best / without if without > 0.0 else 1.0, taken


def _tensors(weights: Weights) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in weights.items()}


def _value(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
    hidden = torch.tanh(inputs @ parameters["first"] + parameters["bias"])
    return torch.tanh(hidden @ parameters["second"] + parameters["inner"]) @ parameters["last"]


def _gradient(parameters: dict[str, Tensor], inputs: Tensor, *, create: bool = False) -> Tensor:
    """With respect to the inputs ``[..., r]``; ``create`` keeps it differentiable once more."""
    leaf = inputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(_value(parameters, leaf).sum(), leaf, create_graph=create)
    return gradient
