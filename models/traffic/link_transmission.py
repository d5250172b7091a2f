"""Traffic on links of cells, in torch: batched, differentiable in the greens, on any device.

A cell transmission model (Daganzo, The cell transmission model part II: network traffic,
Transportation Research B 29, 1995) with a triangular diagram. Vehicles carry the movement that they
want at the end of their link; in the last cell they queue by movement, before that they mix. With
N vehicles in a cell and a step of dt,

    sending S = min(v dt / len N, Q dt),  at the stop line  min(v dt / len n_m, s_m green_m dt)
    receiving R = min(Q dt, w dt / len (N_jam - N))
    flow = min(S, R), shared by those who merge in proportion to what they want to send

``tau`` smooths every minimum: ``(a^(-1/tau) + b^(-1/tau))^(-tau)``, which lies between 0 and the
true minimum (so densities keep their bounds), is exact at tau = 0 and has no scale of its own. A
flow is taken off one cell and put into the next, so nobody is lost at any tau.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...simulators.interface import Ints
from .movement_graph import MovementGraph


def soft_minimum(one: Tensor, two: Tensor, tau: float) -> Tensor:
    """Smooth minimum of non-negative tensors; the exact one at ``tau`` 0."""
    least = torch.minimum(one, two)
    if tau == 0.0:
        return least
    tiny = torch.finfo(least.dtype).tiny
    ratio = least / torch.maximum(one, two).clamp_min(tiny)
    return least * (1.0 + ratio ** (1.0 / tau)) ** -tau


@dataclass(frozen=True, slots=True)
class Traffic:
    """A state of B networks.

    Attributes:
        cells: ``[B, S]`` vehicles, by movement and cell (slot).
        waiting: ``[B, M]`` vehicles that wait outside for room on their first link.
        finished: ``[B]`` vehicles that ended their trip so far.
    """

    cells: Tensor
    waiting: Tensor
    finished: Tensor


class LinkTransmission:
    """The map of one network.

    Slots are the pairs of a movement and a cell of its link, movement after movement, upstream cell
    first: ``slot_move``, ``slot_cell`` ``[S]``.

    Args:
        graph: the control problem.
        step: dt in s. A link has as many cells as whole steps that it takes to drive it, one at
            least: the travel time of shorter links is rounded up to dt.
        tau: temperature of the minima, 0 or more; 0.05 changes flows by 3 % at worst.
        spillback: links have a capacity at their entrance and freed room travels upstream at the
            backward wave's speed; without, all free room can be used at once.
        dtype: float64, or float32.
        device: of all tensors.

    Raises:
        ValueError: a step or temperature out of range.
    """

    def __init__(
        self,
        graph: MovementGraph,
        *,
        step: float,
        tau: float = 0.0,
        spillback: bool = True,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0.0 < step < np.inf or not 0.0 <= tau <= 1.0:
            raise ValueError(f"step {step} must be positive and tau {tau} in 0..1")
        self.graph, self.step, self.tau = graph, step, tau
        self._to: dict[str, Any] = {"dtype": dtype, "device": device}
        count = np.maximum(np.floor(graph.travel / step + 1e-9), 1.0).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        of_move = count[graph.source]
        ends = np.cumsum(of_move)
        inside = np.arange(ends[-1]) - np.repeat(ends - of_move, of_move)
        move = np.repeat(np.arange(graph.movements), of_move)
        cell = first[graph.source][move] + inside
        self.slot_move, self.slot_cell = self._places(move), self._places(cell)
        self.cells = int(first[-1])
        self._entry, self._stop = self._places(ends - of_move), self._places(ends - 1)
        self._before = self._places(np.flatnonzero(inside < of_move[move] - 1))
        self._first = self._places(first[:-1])
        self._source, self._target = self._places(graph.source), self._places(graph.target)
        self._constants(count, spillback=spillback)
        self._tables()

    def _constants(self, count: Ints, *, spillback: bool) -> None:
        graph, link = self.graph, np.repeat(np.arange(self.graph.links), count)
        forward = np.minimum(self.step * count / graph.travel, 1.0)
        # From Q = w (k_jam - Q / v), the tip of the triangle.
        room = np.maximum(graph.storage - graph.inflow * graph.travel, 1e-9)
        backward = np.minimum(self.step * graph.inflow * count / room, 1.0)
        self._forward = self._tensor(forward[link])
        self._backward = self._tensor(backward[link] if spillback else np.ones(link.size))
        most = graph.inflow * self.step if spillback else np.full(graph.links, np.inf)
        self._most = self._tensor(most[link])
        self.jam = self._tensor((graph.storage / count)[link])

    def _tables(self) -> None:
        graph = self.graph
        ratio, serve = graph.ratio.tocoo(), graph.serve.tocoo()
        self._turn_from, self._turn_to = (self._places(at) for at in ratio.coords)
        self._turn_share = self._tensor(ratio.data)
        self._serve_phase, self._serve_move = (self._places(at) for at in serve.coords)
        self._serve_rate = self._tensor(serve.data * graph.saturation[serve.coords[1]])
        self._always_rate = self._tensor(graph.always * graph.saturation)
        self._continuing = self._tensor(graph.continuing)
        self._phase_signal = self._places(graph.phase_signal)
        self._low = self._tensor(graph.low)
        self._spare = self._tensor(1.0 - graph.lost - graph.per_signal(graph.low))

    def greens(self, logits: Tensor) -> Tensor:
        """Shares ``[..., P]``: least greens, and the rest by the softmax over a signal's logits."""
        phase, shape = self._phase_signal, (*logits.shape[:-1], self._spare.shape[0])
        top = torch.full(shape, -torch.inf, **self._to)
        top = top.scatter_reduce(-1, phase.expand_as(logits), logits.detach(), "amax")
        weight = torch.exp(logits - top[..., phase])
        total = torch.zeros(shape, **self._to).index_add(-1, phase, weight)
        return self._low + self._spare[phase] * weight / total[..., phase]

    def start(self, queues: Tensor) -> Traffic:
        """Queues ``[B, M]`` at stop lines; what the last cell cannot hold stands further back.

        What the whole link cannot hold waits outside.
        """
        left = queues
        cells = torch.zeros(queues.shape[0], self.slot_move.shape[0], **self._to)
        slot = self._stop.clone()
        while bool((slot >= self._entry).any()):
            there = slot >= self._entry
            at = torch.maximum(slot, self._entry)
            wants = self._by_link(torch.where(there, left, 0.0))
            jam = self.jam[self.slot_cell[at]]
            fits = jam / torch.maximum(wants[:, self._source], jam)
            put = torch.where(there, left * fits, 0.0)
            cells = cells.index_add(1, at, put)
            left = left - put
            slot = slot - 1
        return Traffic(cells, left, torch.zeros(queues.shape[0], **self._to))

    def advance(self, traffic: Traffic, arrivals: Tensor, greens: Tensor) -> tuple[Traffic, Tensor]:
        """One step.

        Args:
            traffic: the state.
            arrivals: ``[B, M]`` vehicles from outside, on their first movement. They go first where
                room is short.
            greens: ``[B, P]`` shares.

        Returns:
            The next state, and the vehicles ``[B, M]`` that crossed each stop line.
        """
        cells, waiting = self._let_in(traffic.cells, traffic.waiting + arrivals)
        total = self._by_cell(cells)
        receiving = soft_minimum(
            self._most.expand_as(total),
            self._backward * (self.jam - total).clamp_min(0.0),
            self.tau,
        )
        # At stop lines, by movement.
        rate = self._rate(greens)
        last = self._stop
        ready = self._forward[self.slot_cell[last]] * cells[:, last]
        wants = soft_minimum(ready, self.step * rate, self.tau)
        asked = torch.zeros_like(receiving[:, self._first])
        asked = asked.index_add(1, self._target, self._continuing * wants)
        crossed = wants * self._share(asked, receiving[:, self._first])[:, self._target]
        joined = torch.zeros_like(crossed).index_add(
            1, self._turn_to, self._turn_share * crossed[:, self._turn_from]
        )
        # Along links, all movements of a cell mixed.
        before = self._before
        sending = soft_minimum(self._forward * total, self._most.expand_as(total), self.tau)
        ahead = torch.cat([receiving[:, 1:], receiving[:, :1]], dim=1)
        along = soft_minimum(sending, ahead, self.tau)
        part = _part(along, total, self._forward * (ahead > 0.0))
        moving = cells[:, before] * part[:, self.slot_cell[before]]
        cells = cells.index_add(1, last, -crossed).index_add(1, self._entry, joined)
        cells = cells.index_add(1, before, -moving).index_add(1, before + 1, moving)
        finished = traffic.finished + (crossed * (1.0 - self._continuing)).sum(dim=1)
        return Traffic(cells, waiting, finished), crossed

    def roll_out(
        self, traffic: Traffic, arrivals: Tensor, greens: Tensor
    ) -> tuple[Traffic, Tensor]:
        """N steps under ``arrivals`` ``[B, N, M]`` and ``greens`` ``[B, N, P]``.

        Returns:
            The last state, and :meth:`queues` after each step, ``[B, N, M]``.
        """
        queues: list[Tensor] = []
        for at in range(arrivals.shape[1]):
            traffic, _ = self.advance(traffic, arrivals[:, at], greens[:, at])
            queues.append(self.queues(traffic))
        return traffic, torch.stack(queues, dim=1)

    def queues(self, traffic: Traffic) -> Tensor:
        """Vehicles ``[B, M]`` of each movement: all on its link, and those outside."""
        return traffic.waiting.index_add(1, self.slot_move, traffic.cells)

    def _let_in(self, cells: Tensor, waiting: Tensor) -> tuple[Tensor, Tensor]:
        room = (self.jam - self._by_cell(cells)).clamp_min(0.0)[:, self._first]
        wants = self._by_link(waiting)
        entering = waiting * self._share(wants, room)[:, self._source]
        return cells.index_add(1, self._entry, entering), waiting - entering

    def _share(self, wants: Tensor, room: Tensor) -> Tensor:
        """Of what wants to enter, the part that can."""
        return _part(soft_minimum(wants, room, self.tau), wants, (room > 0.0).to(wants.dtype))

    def _rate(self, greens: Tensor) -> Tensor:
        shape = (greens.shape[0], self._always_rate.shape[0])
        served = self._serve_rate * greens[:, self._serve_phase]
        return self._always_rate.expand(shape).index_add(1, self._serve_move, served)

    def _by_cell(self, cells: Tensor) -> Tensor:
        total = torch.zeros(cells.shape[0], self.cells, **self._to)
        return total.index_add(1, self.slot_cell, cells)

    def _by_link(self, moves: Tensor) -> Tensor:
        total = torch.zeros(moves.shape[0], self._first.shape[0], **self._to)
        return total.index_add(1, self._source, moves)

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(np.asarray(values, np.float64), **self._to)

    def _places(self, values: Any) -> Tensor:
        return torch.tensor(np.asarray(values, np.int64), device=self._to["device"])


def _part(flow: Tensor, whole: Tensor, limit: Tensor) -> Tensor:
    """Flow over what it comes from; where there is nothing, what it tends to, for derivatives."""
    some = whole > 0.0
    return torch.where(some, flow / torch.where(some, whole, 1.0), limit)
