"""Networks as stacked parameters: one batched matrix product serves all parameter groups.

Every weight is ``[G, in, out]`` and every bias ``[G, out]``, float32. A policy on choices is a
*candidate scorer*: ``score(agent features, candidate features, context)`` gives one logit per
candidate. The first layer is split into an agent part and a candidate part, so that the agent part
is computed once per decision instead of once per candidate. A policy on boxes reads the agent's
features alone.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..simulators.interface import Bools, Floats, Ints
from .normaliser import LIMIT
from .thin import thin

Parameters = dict[str, Tensor]


def stacked_weights(
    rng: np.random.Generator, groups: int, fan_in: int, fan_out: int, gain: float
) -> Floats:
    """Orthogonal initial weights ``[groups, fan_in, fan_out]``, each group drawn by itself."""
    tall, wide = max(fan_in, fan_out), min(fan_in, fan_out)
    q, r = np.linalg.qr(rng.standard_normal((groups, tall, wide)))
    # Making the diagonal of R positive makes Q uniform over orthogonal matrices.
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    if fan_in < fan_out:
        q = q.transpose(0, 2, 1)
    return np.ascontiguousarray(gain * q, dtype=np.float32)


def scorer_weights(
    rng: np.random.Generator,
    *,
    groups: int,
    agent_features: int,
    candidate_features: int,
    hidden: tuple[int, ...],
    context: bool,
    output_scale: float,
) -> dict[str, Floats]:
    """Initial weights of a candidate scorer.

    With ``context`` the agent part also reads the mean normalised features of the legal
    candidates. The last layer has no bias: a constant cancels in the softmax.
    """
    agent_in = agent_features + (candidate_features if context else 0)
    first = stacked_weights(rng, groups, agent_in + candidate_features, hidden[0], 1.0)
    weights = {
        "agent.weight": np.ascontiguousarray(first[:, :agent_in]),
        "candidate.weight": np.ascontiguousarray(first[:, agent_in:]),
        "agent.bias": np.zeros((groups, hidden[0]), np.float32),
    }
    for layer in range(1, len(hidden)):
        weights[f"hidden.{layer}.weight"] = stacked_weights(
            rng, groups, hidden[layer - 1], hidden[layer], 1.0
        )
        weights[f"hidden.{layer}.bias"] = np.zeros((groups, hidden[layer]), np.float32)
    weights["score.weight"] = stacked_weights(rng, groups, hidden[-1], 1, output_scale)
    return weights


def scorer_features(
    parameters: Parameters, agent: Tensor, candidates: Tensor, mask: Tensor
) -> Tensor:
    """Last hidden layer of the candidate scorer.

    Args:
        parameters: as from :func:`scorer_weights`, on one device.
        agent: ``[G, B, F]`` normalised.
        candidates: ``[G, B, K, C]`` normalised.
        mask: ``[G, B, K]`` bool.

    Returns:
        ``[G, B * K, H]``.
    """
    groups, batch, choices, width = candidates.shape
    if parameters["agent.weight"].shape[1] > agent.shape[2]:
        agent = torch.cat([agent, pooled(candidates, mask)], dim=2)
    own = torch.baddbmm(parameters["agent.bias"].unsqueeze(1), agent, parameters["agent.weight"])
    flat = candidates.reshape(groups, batch * choices, width)
    each = torch.bmm(flat, parameters["candidate.weight"])
    hidden = tanh(each.view(groups, batch, choices, -1) + own.unsqueeze(2))
    return hidden_layers(parameters, hidden.view(groups, batch * choices, -1))


def scores(parameters: Parameters, agent: Tensor, candidates: Tensor, mask: Tensor) -> Tensor:
    """Logits ``[G, B, K]`` of the candidate scorer; arguments as :func:`scorer_features`."""
    hidden = scorer_features(parameters, agent, candidates, mask)
    return thin(hidden, parameters["score.weight"]).view(mask.shape)


def box_weights(
    rng: np.random.Generator,
    *,
    groups: int,
    agent_features: int,
    dimensions: int,
    hidden: tuple[int, ...],
    output_scale: float,
    concentration: float,
) -> dict[str, Floats]:
    """Initial weights of a policy on boxes: two outputs per dimension, all a first, then all b.

    The biases make every Beta distribution start near ``a = b = concentration`` (above 1).
    """
    weights = {
        "agent.weight": stacked_weights(rng, groups, agent_features, hidden[0], 1.0),
        "agent.bias": np.zeros((groups, hidden[0]), np.float32),
    }
    for layer in range(1, len(hidden)):
        weights[f"hidden.{layer}.weight"] = stacked_weights(
            rng, groups, hidden[layer - 1], hidden[layer], 1.0
        )
        weights[f"hidden.{layer}.bias"] = np.zeros((groups, hidden[layer]), np.float32)
    weights["box.weight"] = stacked_weights(rng, groups, hidden[-1], 2 * dimensions, output_scale)
    start = np.log(np.expm1(concentration - 1.0))  # inverse of 1 + softplus
    weights["box.bias"] = np.full((groups, 2 * dimensions), start, np.float32)
    return weights


def base_weights(
    columns: list[int], *, shift: Floats, scale: Floats, count: float, groups: int
) -> dict[str, Floats]:
    """What makes a policy on boxes start near given shares r: ``count r`` more of a, the rest of b.

    As if r had been observed ``count`` times. ``count (1 - r)`` goes to b, so that the mode is near
    r whatever the network adds.

    Args:
        columns: agent feature that holds the share of each dimension.
        shift: ``[F]`` of the features' normaliser.
        scale: ``[F]`` likewise.
        count: observations that the share counts for.
        groups: G.
    """
    dimensions = len(columns)
    weight = np.zeros((groups, shift.size, 2 * dimensions), np.float32)
    bias = np.zeros((groups, 2 * dimensions), np.float32)
    for place, column in enumerate(columns):
        weight[:, column, place] = count * scale[column]
        weight[:, column, dimensions + place] = -count * scale[column]
        bias[:, place] = count * shift[column]
        bias[:, dimensions + place] = count * (1.0 - shift[column])
    return {"base.weight": weight, "base.bias": bias}


def box_features(parameters: Parameters, agent: Tensor) -> Tensor:
    """Last hidden layer of a policy on boxes: normalised ``[G, B, F]`` to ``[G, B, H]``."""
    bias = parameters["agent.bias"].unsqueeze(1)
    first = tanh(torch.baddbmm(bias, agent, parameters["agent.weight"]))
    return hidden_layers(parameters, first)


def box_outputs(parameters: Parameters, agent: Tensor) -> Tensor:
    """Outputs ``[G, B, 2 D]`` of a policy on boxes, for ``BoxBeta.from_network``.

    With :func:`base_weights` they stand for ``softplus(network) + base``.
    """
    outputs = thin(box_features(parameters, agent), parameters["box.weight"])
    outputs = outputs + parameters["box.bias"].unsqueeze(1)
    if "base.weight" not in parameters:
        return outputs
    bias = parameters["base.bias"].unsqueeze(1)
    base = torch.baddbmm(bias, agent, parameters["base.weight"]).relu()
    shape = torch.nn.functional.softplus(outputs) + base
    return shape + torch.log(-torch.expm1(-shape))  # inverse of the softplus


class _Tanh(torch.autograd.Function):
    """``tanh x = 2 sigmoid(2 x) - 1`` in one buffer.

    On CPUs torch's sigmoid is over ten times faster than its tanh, which otherwise takes most of
    an update. The backward is one fused pass that can be differentiated again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (2.0 * x).sigmoid_().mul_(2.0).sub_(1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, y)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, elementwise."""
    return cast(Tensor, _Tanh.apply(x))


def pooled(candidates: Tensor, mask: Tensor) -> Tensor:
    """Mean of the legal candidates' features: ``[..., K, C]``, ``[..., K]`` to ``[..., C]``."""
    weight = mask.to(candidates.dtype)
    total = (candidates * weight.unsqueeze(-1)).sum(dim=-2)
    return total / weight.sum(dim=-1, keepdim=True)


def perceptron_weights(
    rng: np.random.Generator, *, inputs: int, hidden: tuple[int, ...], outputs: int
) -> dict[str, Floats]:
    """Initial weights of a plain tanh network (one group), last layer zero."""
    widths = (inputs, *hidden)
    weights: dict[str, Floats] = {}
    for layer in range(len(hidden)):
        weights[f"hidden.{layer}.weight"] = stacked_weights(
            rng, 1, widths[layer], widths[layer + 1], 1.0
        )
        weights[f"hidden.{layer}.bias"] = np.zeros((1, widths[layer + 1]), np.float32)
    weights["output.weight"] = np.zeros((1, hidden[-1], outputs), np.float32)
    weights["output.bias"] = np.zeros((1, outputs), np.float32)
    return weights


def perceptron(parameters: Parameters, inputs: Tensor) -> Tensor:
    """Plain tanh network: ``[B, in]`` to ``[B, out]``."""
    hidden = hidden_layers(parameters, inputs.unsqueeze(0))
    return torch.baddbmm(
        parameters["output.bias"].unsqueeze(1), hidden, parameters["output.weight"]
    ).squeeze(0)


def hidden_layers(parameters: Parameters, hidden: Tensor) -> Tensor:
    """The layers named ``hidden.<n>`` in order, ``[G, B, H]``."""
    layers = sorted(
        int(name.split(".")[1])
        for name in parameters
        if name.startswith("hidden.") and name.endswith(".weight")
    )
    for layer in layers:
        bias, weight = parameters[f"hidden.{layer}.bias"], parameters[f"hidden.{layer}.weight"]
        hidden = tanh(torch.baddbmm(bias.unsqueeze(1), hidden, weight))
    return hidden


def normalise(rows: Tensor, logarithmic: Tensor | None, shift: Tensor, scale: Tensor) -> Tensor:
    """Torch form of :func:`..normaliser.normalise`, ``[..., F]``; None: no column takes logs."""
    if logarithmic is not None:
        logs = torch.copysign(torch.log1p(rows.abs()), rows)
        rows = torch.where(logarithmic, logs, rows)
    return ((rows - shift) / scale).clamp(-LIMIT, LIMIT)


def to_tensor(array: Floats | Bools | Ints, device: torch.device) -> Tensor:
    """The array on ``device``; on the CPU a view of the same memory where it may be written to."""
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
