"""A trained policy on set-points as a controller, in plain numpy.

Every dimension of an agent's feasible box has a Beta distribution of its own, so that no mass lies
outside the box. One tanh network per parameter group gives its two shapes, ``a`` and ``b = 1 +
softplus``: unimodal, density 0 at the ends. They equal the torch network's to about 1e-6.

Draws: a Beta variate is ``g / (g + g')`` of two gamma variates, each by the method of Marsaglia and
Tsang (2000, ACM TOMS 26, 363-372), which accepts 95 of 100 trials or more where the shape is at
least 1. Two trials are drawn for every dimension of every row, and a seed; where both trials of a
gamma variate fail (about one in a thousand), a generator with that seed draws the Beta variate. So
the distribution is exact and the caller's generator advances alike whoever is active.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Bools, Box, Doubles, Floats, Ints, Observation, Spec
from .interface import Information, PolicyArrays
from .layout import check, hidden_shapes, require
from .normaliser import normalise

BOX_NORMALISER = ("normaliser.agent.shift", "normaliser.agent.scale")
"""Names of the feature scales among the tensors of a set-point policy, each ``[G, F]``."""

TRIALS = 2
"""Trials of a gamma variate before a generator of its own takes over."""


def free(observation: Observation) -> Bools:
    """Which set-points are decisions: agent active, box with a width; ``[A, D]``."""
    return observation.active[:, None] & (observation.high > observation.low)


def shares(observation: Observation, actions: NDArray[np.floating]) -> Floats:
    """Set-points ``[A, D]`` as shares of their boxes in [0, 1] float32; 0.5 where not free."""
    low, open_ = observation.low.astype(np.float64), free(observation)
    width = np.where(open_, observation.high - low, 1.0)
    share = np.clip((actions - low) / width, 0.0, 1.0)
    return np.where(open_, share, 0.5).astype(np.float32)


def set_points(observation: Observation, share: NDArray[np.floating]) -> Floats:
    """Shares ``[A, D]`` as set-points float32, exactly inside the box; low where not free."""
    low, high = observation.low, observation.high
    wanted = (low + (high.astype(np.float64) - low) * share).astype(np.float32)
    # Inside whatever the rounding of a share or of the sum did.
    inside = np.minimum(np.maximum(wanted, low), high)
    return np.where(free(observation), inside, low)


class SetPointActor:
    """Implements ``Controller`` for a Beta policy on boxes.

    Args:
        spec: of the simulator that the policy was trained for (column order, transforms).
        arrays: weights and feature scales; the layout of ``networks.box_weights``.
        name: what tables call this policy.
        stochastic: sample from the policy (as trained), or take its mode.

    Raises:
        TypeError: a scenario whose agents choose among candidates.
        ValueError: weights that do not fit the spec, naming the tensor and both shapes.
    """

    information: Information = "same"

    def __init__(
        self, spec: Spec, arrays: PolicyArrays, *, name: str, stochastic: bool = True
    ) -> None:
        if not isinstance(spec.action, Box):
            raise TypeError(f"SetPointActor sets boxes; {spec.scenario!r} has candidates")
        self.name = name
        self.stochastic = stochastic
        layers = _check(spec, arrays, spec.action.dimensions)
        self._tensors = {key: np.asarray(value) for key, value in arrays.tensors.items()}
        names = ("agent", *(f"hidden.{layer}" for layer in range(1, layers)), "box")
        # One product with [input, 1] adds the bias, too.
        self._weights = tuple(
            np.concatenate(
                [self._tensors[f"{n}.weight"], self._tensors[f"{n}.bias"][:, None]], axis=1
            )
            for n in names
        )
        self._chain = _chained(self._tensors, self._weights)
        self._based = "base.weight" in self._tensors
        self._logarithmic = np.array([f.transform == "log1p" for f in spec.agent_features], bool)
        # Hardly anybody shares: one batched product with each agent's own weights is quicker.
        groups = self._weights[0].shape[0]
        self._alone = groups > 1 and groups * 8 > arrays.member.size
        self._settle(np.asarray(arrays.member))

    def _settle(self, member: Ints) -> None:
        """What depends on who the rows are."""
        self._member = member
        groups, place = np.unique(member, return_inverse=True)
        counts = np.bincount(place)
        width = int(counts.max(initial=1))
        order = np.argsort(member, kind="stable")
        column = np.arange(member.size) - np.repeat(np.cumsum(counts) - counts, counts)
        # Row of each agent in a table of groups; short groups are padded with the first agent.
        self._row = np.empty(member.size, np.int64)
        self._row[order] = member_rows = place[order] * width + column
        self._padded = np.zeros(groups.size * width, np.int64)
        self._padded[member_rows] = order
        self._table = (groups.size, width)
        self._own_chain = tuple(weight[groups] for weight in self._chain)
        self._shift, self._scale = (self._tensors[name][member] for name in BOX_NORMALISER)
        self._own = tuple(w[member] for w in self._weights) if self._alone else ()

    def of(self, agents: Ints | None) -> SetPointActor:
        """The same policy for observations whose rows are these agents ``[n]``; a cheap view.

        ``None``: all agents, in order.

        Raises:
            IndexError: an agent that the policy does not know.
        """
        if agents is None:
            return self
        view = copy(self)
        view._settle(self._member[agents])
        return view

    def act(self, observation: Observation, rng: np.random.Generator) -> Floats:
        """Set-points ``[A, D]`` float32 within the box; the lower end where nothing is free."""
        a, b = self.shapes(observation)
        share = sample(a, b, rng) if self.stochastic else mode(a, b)
        return set_points(observation, share)

    def shapes(self, observation: Observation) -> tuple[Floats, Floats]:
        """Shapes a and b ``[A, D]`` float32 of all rows, active or not."""
        values = normalise(observation.agent, self._logarithmic, self._shift, self._scale)
        if self._alone:
            outputs, base = self._batched(values), self._base_of(values)
        else:
            outputs, base = self._grouped(values)
        both = np.logaddexp(outputs, np.float32(0.0))
        if self._based:
            both += np.maximum(base, np.float32(0.0))
        both += np.float32(1.0)
        dimensions = both.shape[1] // 2
        return both[:, :dimensions], both[:, dimensions:]

    def _base_of(self, values: Floats) -> Floats:
        """What :func:`..networks.base_weights` add to the shapes of all rows ``[n, 2 D]``."""
        if not self._based:
            return values[:, :0]
        weight, bias = self._tensors["base.weight"], self._tensors["base.bias"]
        added = np.matmul(values[:, None], weight[self._member])[:, 0]
        added += bias[self._member]
        return added

    def _grouped(self, values: Floats) -> tuple[Floats, Floats]:
        """Outputs and base ``[n, 2 D]``: one batched product a layer, for all groups at once."""
        rows = np.empty((*self._table, values.shape[1] + 1), np.float32)
        rows[..., :-1] = values.take(self._padded, axis=0).reshape(*self._table, -1)
        rows[..., -1] = 1.0
        base = values[:, :0]
        for number, weight in enumerate(self._own_chain):
            if number:
                if number == 1 and self._based:
                    dimensions = self._weights[-1].shape[2]
                    base = self._back(rows[..., -1 - dimensions : -1])
                np.tanh(rows, out=rows)
                rows[..., -1] = 1.0
            rows = np.matmul(rows, weight)
        return self._back(rows), base

    def _back(self, table: Floats) -> Floats:
        """Rows of the agents, in their order, from the padded table of groups."""
        return table.reshape(-1, table.shape[2]).take(self._row, axis=0)

    def _batched(self, values: Floats) -> Floats:
        """Outputs ``[n, 2 D]`` where (nearly) every agent has weights of its own."""
        for number, weight in enumerate(self._own):
            if number:
                np.tanh(values, out=values)
            values = np.matmul(values[:, None], weight[:, :-1])[:, 0]
            values += weight[:, -1]
        return values


def _chained(tensors: dict[str, Floats], weights: tuple[Floats, ...]) -> tuple[Floats, ...]:
    """Weights of every layer ``[G, in + 1, out + 1]`` so that one product is a whole layer.

    The last input is 1 and multiplies the bias; the last output is there to be set to 1 for the
    layer above. Where there is a base, it is computed beside the first layer, and what the layer
    above would read of it is multiplied with 0.
    """
    first, *rest = weights
    aside = 0
    if "base.weight" in tensors:
        base = np.concatenate([tensors["base.weight"], tensors["base.bias"][:, None]], axis=1)
        first, aside = np.concatenate([first, base], axis=2), base.shape[2]
    chain: list[Floats] = []
    for number, weight in enumerate((first, *rest)):
        spare = aside if number == 1 else 0
        one = 0 if number == len(rest) else 1
        groups, rows, columns = weight.shape
        whole = np.zeros((groups, rows + spare, columns + one), np.float32)
        whole[:, : rows - 1, :columns] = weight[:, :-1]
        whole[:, -1, :columns] = weight[:, -1]
        chain.append(whole)
    return tuple(chain)


def mode(a: Floats, b: Floats) -> Doubles:
    """Most likely shares ``(a - 1) / (a + b - 2)``; 0.5 where the distribution is uniform."""
    over, total = a.astype(np.float64) - 1.0, a.astype(np.float64) + b - 2.0
    return np.where(total > 0.0, over / np.where(total > 0.0, total, 1.0), 0.5)


def sample(a: Floats, b: Floats, rng: np.random.Generator) -> Doubles:
    """One share per dimension ``[A, D]``; the module says how. Shapes of at least 1."""
    both = np.stack([a, b]).astype(np.float64)
    normal = rng.standard_normal((TRIALS, *both.shape))
    uniform = rng.random((TRIALS, *both.shape))
    seeds = rng.integers(2**63, size=a.shape)
    shape = both - 1.0 / 3.0
    root = 1.0 + normal / np.sqrt(9.0 * shape)
    cube = root * root * root
    with np.errstate(invalid="ignore", divide="ignore"):
        bound = 0.5 * normal * normal + shape * (1.0 - cube + np.log(cube))
        good = (root > 0.0) & (np.log(uniform) < bound)
    gamma = np.where(good[0], cube[0], cube[1]) * shape
    share = gamma[0] / (gamma[0] + gamma[1])
    for place in zip(*np.nonzero(~good.any(axis=0).all(axis=0)), strict=True):
        share[place] = np.random.default_rng(int(seeds[place])).beta(a[place], b[place])
    return share


def _check(spec: Spec, arrays: PolicyArrays, dimensions: int) -> int:
    """Number of hidden layers, after comparing every tensor's shape with the spec."""
    require(arrays, ("agent.weight", "box.weight", *BOX_NORMALISER))
    groups, own, width = arrays.tensors["agent.weight"].shape
    features = len(spec.agent_features)
    hidden, last, layers = hidden_shapes(arrays, groups, width)
    if own != features:
        raise ValueError(
            f"agent.weight reads {own} features; scenario {spec.scenario!r} has {features} agent "
            "features"
        )
    expected = {
        "agent.bias": (groups, width),
        "normaliser.agent.shift": (groups, features),
        "normaliser.agent.scale": (groups, features),
        **hidden,
        "box.weight": (groups, last, 2 * dimensions),
        "box.bias": (groups, 2 * dimensions),
    }
    if "base.weight" in arrays.tensors:
        expected["base.weight"] = (groups, features, 2 * dimensions)
        expected["base.bias"] = (groups, 2 * dimensions)
    check(spec, arrays, expected, groups)
    return layers
