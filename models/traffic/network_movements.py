"""From a road network to the control problem: capacities of movements, and what phases serve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array

from ...simulators.interface import Doubles, Ints
from ...simulators.traffic.network import Network
from ...simulators.traffic.programme import Signal
from .movement_graph import MovementGraph

LEAST_SHARE = 0.02
"""Of a shared lane that a movement keeps however few use it; else its queue could never leave."""
FREE, GIVES_WAY = "GO", "gso"
"""Letters of a state string that let go: with right of way, or giving way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """How movements are served, where the network does not say.

    Attributes:
        permissive: share of its capacity that a movement which gives way can use, 0..1 (opposing
            traffic leaves 0.3 to 0.5 of it).
        headway: s between vehicles of a lane that discharges.
        spacing: m of lane that a standing vehicle takes.
        lost: s of a cycle that each change of phase costs (start-up and the unused yellow).
        least: s that every phase of a signal is green in a cycle.
        cycle: s, of signals without a fixed plan.
    """

    permissive: float = 0.4
    headway: float = 1.85
    spacing: float = 7.5
    lost: float = 3.0
    least: float = 5.0
    cycle: float = 60.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.permissive <= 1.0:
            raise ValueError(f"permissive must lie in 0..1, got {self.permissive}")
        for name in ("headway", "spacing", "cycle"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("lost", "least"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def movement_graph(
    network: Network, flow: Doubles, ratio: csr_array, *, service: Service | None = None
) -> MovementGraph:
    """The control problem of a network under known turning.

    A lane that several movements share splits its capacity in proportion to their flow (each
    movement's spread evenly over its lanes). One movement's queue never blocks another's, which is
    optimistic where they share a lane.

    Args:
        network: checked.
        flow: ``[M]`` veh/h; only proportions matter.
        ratio: ``[M, M]``, as ``turning.Turning`` has it.
        service: capacities and times; default :class:`Service`.

    Raises:
        ValueError: flows out of range; a movement without a connection; a signal whose cycle is too
            short for its lost time and least greens. All named.
    """
    service = Service() if service is None else service
    if flow.shape != network.move_from.shape or not ((flow >= 0.0) & (flow < np.inf)).all():
        raise ValueError(f"flow must be {network.move_from.size} finite numbers, none negative")
    lanes = _Lanes.of(network, flow, service.headway)
    saturation = np.asarray(
        np.bincount(lanes.move, lanes.capacity, minlength=flow.size), np.float64
    )
    if not saturation.all():
        at = int(np.argmin(saturation))
        one, two = network.move_from[at], network.move_to[at]
        raise ValueError(
            f"the movement from link {network.links[one]!r} to {network.links[two]!r} has no "
            "connection, expected one at least"
        )
    held = _unsignalled(network, lanes, service.permissive)
    always = np.bincount(lanes.move, lanes.capacity * held, minlength=flow.size)
    served = _served(network, lanes, held, service.permissive)
    counts = np.array([len(signal.greens) for signal in network.signals], dtype=np.int64)
    lost, low = _times(network.signals, service)
    owner = np.repeat(np.arange(counts.size), counts)
    return MovementGraph(
        # The shortest lane still has room for one.
        storage=np.asarray(
            network.lanes * np.maximum(network.length / service.spacing, 1.0), np.float64
        ),
        travel=network.length / network.speed,
        inflow=network.lanes / service.headway,
        source=network.move_from,
        target=network.move_to,
        saturation=saturation,
        ratio=ratio,
        always=always / saturation,
        signals=tuple(signal.name for signal in network.signals),
        phase_signal=owner,
        serve=csr_array(served @ diags_array(1.0 / saturation)),
        lost=lost,
        low=low[owner],
        high=(1.0 - lost - low * (counts - 1))[owner],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lanes:
    """Lanes of movements: ``move``, ``capacity`` (veh/s) of each, and that of each connection."""

    move: Ints
    capacity: Doubles
    of_connection: Ints

    @classmethod
    def of(cls, network: Network, flow: Doubles, headway: float) -> _Lanes:
        places = np.stack([network.connection_lane, network.connection_move], axis=1)
        # Two connections of a movement from one lane only offer a choice of lane beyond.
        pair, place = np.unique(places, axis=0, return_inverse=True)
        lane, move = pair[:, 0], pair[:, 1]
        weight = flow[move] / np.bincount(move, minlength=flow.size)[move]
        total = np.bincount(lane, weight, minlength=network.lane_link.size)[lane]
        sharing = np.bincount(lane, minlength=network.lane_link.size)[lane]
        used = np.where(total > 0.0, weight / np.where(total > 0.0, total, 1.0), 1.0 / sharing)
        least = np.minimum(LEAST_SHARE, 1.0 / sharing)
        share = np.asarray(least + (1.0 - sharing * least) * used, np.float64)
        return cls(move=move, capacity=share / headway, of_connection=place.reshape(-1))


def _unsignalled(network: Network, lanes: _Lanes, permissive: float) -> Doubles:
    """Share of each lane of a movement that is served without any signal."""
    gives_way = (np.diff(network.yield_start) > 0) | network.stops.astype(np.bool_)
    share = np.where(gives_way, permissive, 1.0)
    best = np.zeros(lanes.move.size)
    free = network.connection_signal < 0
    np.maximum.at(best, lanes.of_connection[free], share[free])
    return best


def _served(network: Network, lanes: _Lanes, held: Doubles, permissive: float) -> coo_array:
    """veh/s ``[P, M]`` that phases add to what is served anyway."""
    factor = np.zeros(128)
    factor[[ord(letter) for letter in FREE]] = 1.0
    factor[[ord(letter) for letter in GIVES_WAY]] = permissive
    order = np.argsort(network.connection_signal, kind="stable")
    ends = np.searchsorted(network.connection_signal[order], np.arange(len(network.signals) + 1))
    phases: list[Ints] = [np.zeros(0, np.int64)]
    moves, rates = [phases[0]], [np.zeros(0)]
    first = 0
    for at, signal in enumerate(network.signals):
        own = order[ends[at] : ends[at + 1]]
        letters = np.array([list(state.encode("ascii")) for state in signal.greens])
        shares = factor[letters[:, network.connection_index[own]]]
        pair, place = np.unique(lanes.of_connection[own], return_inverse=True)
        best = np.zeros((len(signal.greens), pair.size))
        np.maximum.at(best.T, place, shares.T)
        extra = np.maximum(best - held[pair], 0.0) * lanes.capacity[pair]
        phase, column = np.nonzero(extra)
        phases.append(phase + first)
        moves.append(lanes.move[pair[column]])
        rates.append(extra[phase, column])
        first += len(signal.greens)
    place = (np.concatenate(phases), np.concatenate(moves))
    return coo_array((np.concatenate(rates), place), shape=(first, network.move_from.size))


def _times(signals: tuple[Signal, ...], service: Service) -> tuple[Doubles, Doubles]:
    """Lost share of time and least share of a green, ``[I]`` each.

    A signal with one green phase does what its plan says: what is not green there is lost.
    """
    lost, low = np.zeros(len(signals)), np.zeros(len(signals))
    for at, signal in enumerate(signals):
        cycle = signal.cycle or service.cycle
        phases = len(signal.greens)
        if phases == 1:
            green = sum(seconds for state, seconds in signal.programme if state in signal.greens)
            lost[at] = 1.0 - green / cycle if signal.programme else service.lost / cycle
            continue
        lost[at], low[at] = service.lost * phases / cycle, service.least / cycle
        if lost[at] + low[at] * phases > 1.0:
            raise ValueError(
                f"signal {signal.name!r}: its cycle of {cycle:g} s is too short for {phases} "
                f"phases that lose {service.lost:g} s and are green {service.least:g} s each"
            )
    return lost, low
