"""Fixed plans after Webster (1958): cycle length, green times, and the retiming of any network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..interface import Doubles, Ints
from .network import Network
from .programme import Signal, yellow_state

SATURATION = 1949.0
"""veh/h that a lane of SUMO's passenger cars discharges (measured in SUMO 1.28)."""

_TRICKLE = 1e-3
_FULL = 0.95  # share of capacity that a plan may count on


def webster_cycle(lost: float, ratio: float) -> float:
    """Length of the cycle of least delay, ``(1.5 L + 5) / (1 - Y)`` s.

    Args:
        lost: L, s per cycle in which nobody discharges.
        ratio: Y, sum over the phases of the critical flow over saturation flow.

    Raises:
        ValueError: Y is not in [0, 1) or L is negative.
    """
    if not 0.0 <= ratio < 1.0 or not lost >= 0.0:
        raise ValueError(
            "Webster's cycle needs a flow ratio from 0 to below 1 and a lost time of at least 0 s, "
            f"got {ratio} and {lost} s"
        )
    return (1.5 * lost + 5.0) / (1.0 - ratio)


def fixed_plan(
    greens: tuple[str, ...], seconds: tuple[float, ...], *, yellow: float = 3.0
) -> tuple[tuple[str, float], ...]:
    """The programme that shows ``greens`` in order for ``seconds`` each, with yellow between."""
    steps: list[tuple[str, float]] = []
    for at, (green, duration) in enumerate(zip(greens, seconds, strict=True)):
        steps.append((green, duration))
        between = yellow_state(green, greens[(at + 1) % len(greens)])
        if "y" in between:
            steps.append((between, yellow))
    return tuple(steps)


def webster(
    network: Network,
    flows: Doubles,
    *,
    saturation: float = SATURATION,
    permissive: float = 0.4,
    yellow: float = 3.0,
    lost: float = 4.0,
    shortest: float = 5.0,
    longest: float = 120.0,
) -> tuple[Signal, ...]:
    """The network's signals with programmes timed for ``flows``; names and greens stay.

    The flow of a movement spreads evenly over its lanes. The needed share of each green is the
    least one under which every lane is served (a linear program, equal to the critical flow ratio
    where a lane has one green). Greens share Webster's cycle in that proportion, none below
    ``shortest``; where that takes time from the others the cycle grows until they are served.
    Connections that never get green (a red arrow only) put no load on the plan. A signal with one
    green keeps its programme.

    Args:
        network: what is controlled.
        flows: ``[M]`` veh/h of each movement.
        saturation: veh/h of one lane at an unhindered green.
        permissive: share of it that a green which gives way discharges.
        yellow: s after each green that somebody loses.
        lost: s per change in which nobody discharges: start-up and the unused end of yellow.
        shortest: s of any green, a whole number.
        longest: s of the cycle, unless the shortest greens already take more; also the cycle where
            demand exceeds 95 % of capacity.

    Returns:
        One signal per signal of the network, in its order; greens last whole seconds.

    Raises:
        ValueError: flows of another shape, negative or not finite.
    """
    if flows.shape != network.move_from.shape or not (np.isfinite(flows) & (flows >= 0)).all():
        raise ValueError(
            f"flows must be {network.move_from.size} finite numbers of at least 0 veh/h, one per "
            "movement"
        )
    shares = _phase_ratios(network, flows / saturation, permissive)
    found: list[Signal] = []
    for signal, share in zip(network.signals, shares, strict=True):
        phases = len(signal.greens)
        if phases < 2:
            found.append(signal)
            continue
        # A change loses `lost` s but shows only `yellow` s of them; the rest is shown as green.
        extra = lost - yellow
        shown = _effective_greens(share, lost * phases, shortest - extra, longest) + extra
        # Rounding the ends instead of the greens keeps the cycle.
        seconds = tuple(np.diff(np.round(np.cumsum(shown)), prepend=0.0).tolist())
        plan = fixed_plan(signal.greens, seconds, yellow=yellow)
        found.append(replace(signal, programme=plan))
    return tuple(found)


def _effective_greens(share: Doubles, lost: float, least: float, longest: float) -> Doubles:
    """How many s each phase discharges: Webster's cycle in proportion to ``share``.

    Phases that need less than ``least`` get that much. It is lost to the others, so the cycle grows
    until these are served again.
    """
    weight = np.maximum(share, _TRICKLE)
    total = float(weight.sum())
    best = webster_cycle(lost, total) if total < _FULL else longest
    short = np.zeros(weight.size, dtype=np.bool_)
    while not short.all():
        idle = lost + least * float(short.sum())
        busy = float(weight[~short].sum())
        cycle = min(longest, max(best, idle / (1.0 - busy / _FULL))) if busy < _FULL else longest
        green = np.where(short, least, weight * (cycle - idle) / busy)
        below = green < least
        if not below.any():
            return green
        short |= below
    return np.full(weight.size, least)


def _phase_ratios(network: Network, load: Doubles, permissive: float) -> list[Doubles]:
    """Per signal, the least sum of shares of its greens that serves every lane.

    One linear program over all signals: minimise ``sum z`` with, for every movement of a lane,
    ``sum over its greens of rate * z >= load of the lane``.
    """
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    first = np.cumsum([0] + [len(signal.greens) for signal in network.signals])
    columns = int(first[-1])
    if not columns:
        return []
    rows: list[Ints] = []
    at: list[Ints] = []
    value: list[Doubles] = []
    needed: list[float] = []
    for signal, rate, ratio in _lane_rates(network, load, permissive):
        served = np.flatnonzero(rate)
        rows.append(np.full(served.size, len(needed), dtype=np.int64))
        at.append(first[signal] + served)
        value.append(rate[served])
        needed.append(ratio)
    if not needed:
        return [np.zeros(len(signal.greens)) for signal in network.signals]
    matrix = coo_array(
        (-np.concatenate(value), (np.concatenate(rows), np.concatenate(at))),
        shape=(len(needed), columns),
    )
    solved = linprog(
        np.ones(columns), A_ub=matrix.tocsr(), b_ub=-np.array(needed), method="highs-ds"
    )
    if not solved.success:
        raise ValueError(f"flow ratios of the greens not found: {solved.message}")
    return np.split(np.asarray(solved.x, dtype=np.float64), first[1:-1])


def _lane_rates(
    network: Network, load: Doubles, permissive: float
) -> Iterator[tuple[int, Doubles, float]]:
    """Signal, what each of its greens discharges as a share of saturation, load of the lane.

    One entry per movement of a loaded lane. Movements that share a lane and go at the same time
    slow each other: their common rate is the harmonic mean, weighted by load.
    """
    pairs = np.unique(np.stack([network.connection_lane, network.connection_move], axis=1), axis=0)
    spread = load / np.maximum(np.bincount(pairs[:, 1], minlength=load.size), 1)
    rate_of = {"G": 1.0, "g": permissive}
    lanes: dict[int, dict[int, int]] = {}
    for at in np.flatnonzero(network.connection_signal >= 0).tolist():
        moves = lanes.setdefault(int(network.connection_lane[at]), {})
        moves.setdefault(int(network.connection_move[at]), at)
    for moves in lanes.values():
        own = spread[list(moves)]
        if not own.sum():
            continue
        places = list(moves.values())
        signal = int(network.connection_signal[places[0]])
        index = network.connection_index[places].tolist()
        greens = network.signals[signal].greens
        rate = np.array([[rate_of.get(green[i], 0.0) for green in greens] for i in index])
        going = own[:, None] * (rate > 0.0)
        slowed = np.divide(going, rate, out=np.zeros_like(rate), where=rate > 0.0)
        common = going.sum(axis=0) / np.maximum(slowed.sum(axis=0), 1e-300)
        for move, flow in zip(rate, own, strict=True):
            if flow and move.any():
                yield signal, common * (move > 0.0), float(own.sum())
