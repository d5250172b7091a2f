"""How a joint KL budget is shared among parameter groups (after arXiv 2508.10340).

Group g has ``m_g`` deciding members per epoch (its *size*), a budget ``delta_g`` of mean KL per
decision, and ``k_g = g_g' H_g^-1 g_g``. A natural-gradient step that uses the whole budget gains
``sqrt(2 delta_g k_g)`` per decision, so the groups together solve

    max sum_g m_g sqrt(2 delta_g k_g)  with  sum_g m_g delta_g <= D,  low_g <= delta_g <= high_g.

One multiplier lambda belongs to the shared constraint, and the KKT conditions give
``delta_g = clip(k_g m, low_g, high_g)`` with the level ``m = 1 / (2 lambda^2)`` at which the total
is used. Without bounds this is proportional to k, and the gain is between 1 and sqrt(n) times that
of equal budgets; a water level appears only with floors and caps. That budgets follow from KKT
conditions is published; the expressions here are our derivation, since only the abstract was at
hand. The quadratic model of the KL is exact only for small steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...simulators.interface import Bools, Doubles

NEGLIGIBLE = 1e-100
"""Merits below this share of the largest one count as 0; it keeps quotients finite."""

ROUNDING = 1e-9
"""Relative excess of floors over the total that is taken for rounding."""


def allocate(
    k: ArrayLike,
    *,
    size: ArrayLike,
    total: ArrayLike,
    low: ArrayLike = 0.0,
    high: ArrayLike = np.inf,
    weight: float = 1.0,
) -> Doubles:
    """Budgets that maximise the predicted joint gain.

    Args:
        k: ``[..., n]``, at least 0, in squared units of the advantage; only ratios matter.
        size: m, deciding members per epoch, ``[n]`` or ``[..., n]``. A group with size 0 gets 0
            and does not matter; its k may be anything.
        total: D, joint KL of one epoch in nats, a number or ``[...]``.
        low: smallest budgets in nats per decision, broadcast to ``[..., n]``.
        high: largest budgets, likewise; may be infinite.
        weight: share of the way from equal budgets (0, exactly) to the optimum (1).

    Returns:
        delta ``[..., n]`` in nats per decision. ``sum size * delta`` is the total, except where
        caps forbid it. Groups with k = 0 get ``low`` and leave the rest unused if all others are at
        their caps. If all k are 0, nobody is known to be better and all are treated alike.
        Equal k give exactly the equal share ``total / sum(size)`` where the bounds allow it.

    Raises:
        ValueError: k negative or not finite, bounds that cross, floors above the total, a weight
            outside [0, 1].
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight = {weight}: choose a value in [0, 1]")
    merit = np.asarray(k, dtype=np.float64)
    shape = np.broadcast_shapes(merit.shape, np.shape(size))
    sizes = _bounded("size", size, shape, "members per epoch are counted; 0 leaves a group out")
    there = sizes > 0.0
    merit = _bounded(
        "k", np.where(there, merit, 0.0), shape, "leave the group out (size 0) or use its old value"
    )
    totals = _totals("total", total, shape, "set trust_region.kl to 0 or more")
    floor, cap = _bounds(low, high, shape, there)
    need = (sizes * floor).sum(axis=-1, keepdims=True)
    if (bad := need > totals * (1.0 + ROUNDING)).any():
        raise ValueError(
            f"floors need {need[bad][0]:.6g} nats and the total is {totals[bad][0]:.6g}: lower "
            "trust_region.budget.floor or raise the total"
        )
    even = _fill(np.where(there, 1.0, 0.0), sizes, totals, floor, cap)
    if weight == 0.0:
        return even
    known = (merit > 0.0).any(axis=-1, keepdims=True)
    best = np.where(known, _fill(merit, sizes, totals, floor, cap), even)
    if weight == 1.0:
        return best
    # In this form equal k stay exactly at the equal share, whatever the weight.
    return np.clip(even + weight * (best - even), floor, cap)


def redistribute(
    planned: ArrayLike, leftover: ArrayLike, *, size: ArrayLike, high: ArrayLike = np.inf
) -> Doubles:
    """Hand KL that earlier groups left unused to the remaining ones, in proportion to their plans.

    Whatever a cap refuses goes to the others in the same proportion, until the leftover is used or
    all are capped. The sum of ``size * (new - planned)`` never exceeds the leftover (but for
    rounding), no budget shrinks, and a planned budget of 0 stays 0.

    Args:
        planned: budgets of the remaining groups in nats per decision, ``[..., n]``.
        leftover: joint KL in nats, a number or ``[...]``.
        size: members per epoch, as in :func:`allocate`.
        high: largest budgets; a plan above stays as it is.

    Raises:
        ValueError: a negative or non-finite value.
    """
    shape = np.broadcast_shapes(np.shape(planned), np.shape(size))
    sizes = _bounded("size", size, shape, "members per epoch are counted; 0 leaves a group out")
    plan = _bounded("planned", planned, shape, "budgets are finite and not negative")
    extra = _totals("leftover", leftover, shape, "hand on only what was not spent")
    there = sizes > 0.0
    _, cap = _bounds(0.0, high, shape, there)
    floor = np.where(there, plan, 0.0)
    whole = (sizes * floor).sum(axis=-1, keepdims=True) + extra
    filled = _fill(floor, sizes, whole, floor, cap)
    return np.where(there & (extra > 0.0), filled, plan)


def joint_gain(k: ArrayLike, budgets: ArrayLike, *, size: ArrayLike) -> Doubles:
    """Predicted gain ``sum_g m_g sqrt(2 delta_g k_g)`` of steps that use their budgets."""
    rates = np.sqrt(2.0 * np.asarray(budgets, np.float64) * np.asarray(k, np.float64))
    return np.asarray((np.asarray(size, np.float64) * rates).sum(axis=-1))


class RunningK:
    """Running estimate of k for ``groups`` groups, so that one noisy roll-out buys little.

    The mean is over signed measurements: a split-half k may be negative, and clipping each one at 0
    would bring back the bias that the halves remove. Only ``value`` is clipped.

    Differences between groups count as far as they are reliable. How noisy a measurement is shows
    in what lies below 0 (noise of a split-half k is about symmetric: ``2 mean min(k, 0)^2``) and in
    how the differences between groups change from update to update; the larger one counts. With
    r = 1 less that variance (of the running mean) over the variance between the groups, estimates
    are drawn to their mean by 1 - r. Where k is nothing but noise, r = 0 and all groups are equal:
    random budgets would do worse than equal ones, because gain grows with the square root.
    """

    def __init__(self, groups: int, memory: float, *, shrink: bool = True) -> None:
        """``memory`` in [0, 1) is the weight of the past; 0 keeps only the newest measurement.

        Without ``shrink`` differences count in full, reliable or not.
        """
        if not 0.0 <= memory < 1.0:
            raise ValueError(f"memory = {memory}: choose a value in [0, 1)")
        self.memory, self.shrink = memory, shrink
        self.moment: Doubles = np.zeros(groups)
        self.weight: Doubles = np.zeros(groups)
        self.noise = 0.0
        self.seen = 0.0
        self.square = 0.0
        self.ignored: NDArray[np.int64] = np.zeros(groups, np.int64)

    def observe(self, k: Doubles) -> None:
        """Add an update's measurements ``[n]``; non-finite ones are counted and change nothing."""
        if k.shape != self.moment.shape:
            raise ValueError(f"k has shape {k.shape}, the estimate {self.moment.shape}")
        known = np.isfinite(k)
        if known.any():
            self._observe_noise(k, known)
        keep = np.where(known, self.memory, 1.0)
        new = np.where(known, 1.0 - self.memory, 0.0)
        self.moment = keep * self.moment + new * np.where(known, k, 0.0)
        self.weight = keep * self.weight + new
        self.ignored = self.ignored + ~known

    def _observe_noise(self, k: Doubles, known: Bools) -> None:
        variance = 2.0 * float(np.mean(np.minimum(k[known], 0.0) ** 2))
        before = known & (self.weight > 0.0)
        if before.sum() > 1:
            change = k[before] - self.mean[before]
            # The mean that it is compared with has noise of its own.
            own = 1.0 + self.square / self.seen**2
            variance = max(variance, float(np.var(change)) / own)
        self.noise = self.memory * self.noise + (1.0 - self.memory) * variance
        self.seen = self.memory * self.seen + (1.0 - self.memory)
        self.square = self.memory**2 * self.square + (1.0 - self.memory) ** 2

    @property
    def reliability(self) -> float:
        """Share r of the variance between groups that is not noise, in [0, 1]."""
        if not self.shrink or self.seen <= 0.0 or self.noise <= 0.0:
            return 1.0
        between = float(np.var(self.mean))
        # Variance of one measurement, and of a mean with these weights.
        variance = self.noise / self.seen * self.square / self.seen**2
        return min(1.0, max(0.0, 1.0 - variance / between)) if between > 0.0 else 0.0

    @property
    def mean(self) -> Doubles:
        """Signed running means ``[n]``, before noise is taken into account."""
        seen = self.weight > 0.0
        mean = self.moment / np.where(seen, self.weight, 1.0)
        return np.where(seen, mean, mean[seen].mean() if seen.any() else 0.0)

    @property
    def value(self) -> Doubles:
        """Estimates ``[n]``, at least 0; a group never measured counts as an average one."""
        mean, share = self.mean, self.reliability
        centre = mean.mean() if mean.size else 0.0
        return np.maximum(mean if share == 1.0 else centre + share * (mean - centre), 0.0)

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "moment": self.moment.copy(),
            "weight": self.weight.copy(),
            "ignored": self.ignored.copy(),
            "noise": np.array([self.noise, self.seen, self.square]),
        }

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.moment = arrays["moment"].astype(np.float64)
        self.weight = arrays["weight"].astype(np.float64)
        self.ignored = arrays["ignored"].astype(np.int64)
        self.noise, self.seen, self.square = (float(x) for x in arrays["noise"])


def _fill(merit: Doubles, size: Doubles, total: Doubles, low: Doubles, high: Doubles) -> Doubles:
    """``clip(merit m, low, high)`` at the level m where ``sum size * (...)`` is the total.

    All arguments are checked and broadcast; total ``[..., 1]``, everything 0 where size is 0. A cap
    below its floor counts as the floor.
    Between neighbouring knots, the levels at which a group leaves its floor or reaches its cap, the
    sum is linear in m. So bisection over the sorted knots ends in a linear equation and is exact.
    """
    there = size > 0.0
    if not there.any():
        return np.zeros(there.shape)
    largest = merit.max(axis=-1, keepdims=True)
    slope = merit / np.where(largest > 0.0, largest, 1.0)
    slope = np.where(slope < NEGLIGIBLE, 0.0, slope)
    moves = slope > 0.0
    # No budget can exceed what the total would buy the group alone; without merit there is none.
    alone = total / np.where(there, size, 1.0)
    high = np.where(moves, np.maximum(np.minimum(high, alone), low), low)
    divisor = np.where(moves, slope, 1.0)
    leaves_floor = np.where(moves, low / divisor, 0.0)
    reaches_cap = np.where(moves, high / divisor, 0.0)
    knots = np.sort(np.concatenate([leaves_floor, reaches_cap], axis=-1), axis=-1)

    left = np.zeros((*knots.shape[:-1], 1), dtype=np.int64)
    right = np.full_like(left, knots.shape[-1] - 1)
    while (right - left > 1).any():
        middle = (left + right) // 2
        level = np.take_along_axis(knots, middle, axis=-1)
        spent = (size * np.clip(slope * level, low, high)).sum(axis=-1, keepdims=True)
        left = np.where(spent > total, left, middle)
        right = np.where(spent > total, middle, right)

    start, end = (np.take_along_axis(knots, index, axis=-1) for index in (left, right))
    free = moves & (leaves_floor <= start) & (reaches_cap >= end)
    at_bound = np.where(reaches_cap <= start, high, low)
    fixed = (size * np.where(free, 0.0, at_bound)).sum(axis=-1, keepdims=True)
    rise = (size * np.where(free, slope, 0.0)).sum(axis=-1, keepdims=True)
    level = np.where(rise > 0.0, (total - fixed) / np.where(rise > 0.0, rise, 1.0), start)
    level = np.clip(level, start, end)
    budgets = np.where(level >= reaches_cap, high, np.clip(slope * level, low, high))

    # Groups that are all alike get the same bits as a division gives, not only the same value.
    members = size.sum(axis=-1, keepdims=True)
    share = total / np.where(members > 0.0, members, 1.0)
    alike = ~there | ((slope == 1.0) & (low <= share) & (share <= high))
    budgets = np.where(alike.all(axis=-1, keepdims=True), share, budgets)
    return np.where(there, budgets, 0.0)


def _bounds(
    low: ArrayLike, high: ArrayLike, shape: tuple[int, ...], there: Bools
) -> tuple[Doubles, Doubles]:
    """Floors and caps ``[..., n]``, 0 where nobody decides."""
    floor = np.broadcast_to(np.asarray(low, np.float64), shape)
    cap = np.broadcast_to(np.asarray(high, np.float64), shape)
    floor = _bounded("low", np.where(there, floor, 0.0), shape, "floors are finite, 0 or more")
    cap = np.where(there, cap, 0.0)
    if (bad := ~(floor <= cap)).any():
        at = _place(bad)
        raise ValueError(
            f"low{list(at)} = {floor[at]} and high{list(at)} = {cap[at]}: a cap is a number not "
            "below its floor"
        )
    return floor, cap


def _totals(name: str, value: ArrayLike, shape: tuple[int, ...], remedy: str) -> Doubles:
    """A number, or one per leading index, as ``[..., 1]``."""
    return _bounded(name, value, shape[:-1], remedy)[..., None]


def _bounded(name: str, value: ArrayLike, shape: tuple[int, ...], remedy: str) -> Doubles:
    array = np.broadcast_to(np.asarray(value, np.float64), shape)
    if (bad := ~(np.isfinite(array) & (array >= 0.0))).any():
        at = _place(bad)
        place = str(list(at)) if at else ""
        raise ValueError(f"{name}{place} = {array[at]}, not finite and at least 0: {remedy}")
    return array


def _place(bad: Bools) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
