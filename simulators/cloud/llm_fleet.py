"""The scenario `llm`: requests of the Azure trace on GPU inference nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Ints
from ..streams import Streams
from ..tables import locate
from .azure import LlmTrace, read_azure_llm
from .catalogue import NodeType, apportion, capacity
from .fleet import Fleet
from .scenario import LlmScenario
from .workload import Batch, Estimates

TRACE = "azure_llm_2023_conv.csv"
CLASSES = ("chat", "reading", "writing")
"""Short requests; long prompts; long answers to short prompts."""
LONG_PROMPT, LONG_ANSWER = 1024, 256
"""Tokens above which a prompt or an answer counts as long."""
PREFILL_COST = 0.1
"""Work of a prompt token relative to a generated one (prompts are processed in parallel)."""
FORECAST = 60.0
"""Seconds of the trace over which its rate is averaged for the forecast."""

_TYPES = (
    # Name, vCPU, GiB, GPUs, model, prompt tokens/s, generated tokens/s, idle W, peak W, price/h.
    ("a10-1", 8, 32, 1, "A10", 4_000.0, 350.0, 70.0, 320.0, 1.2),
    ("a100-1", 12, 120, 1, "A100", 14_000.0, 1_100.0, 120.0, 550.0, 3.4),
    ("a100-4", 48, 480, 4, "A100", 42_000.0, 3_300.0, 420.0, 2_100.0, 13.6),
    ("h100-1", 16, 160, 1, "H100", 32_000.0, 2_000.0, 150.0, 850.0, 5.5),
)
"""Inference nodes; aggregate throughputs of the order that serving systems report for models of
about 13 billion parameters (assumed, not measured)."""
_SHARES = (0.4, 0.3, 0.1, 0.2)


@dataclass(frozen=True, eq=False, kw_only=True)
class LlmFleet(Fleet):
    """A fleet whose jobs are the requests of a trace.

    Attributes:
        trace: requests in order of arrival.
        kind: ``[R]`` class of every request.
        service: ``[R, T]`` its full-speed service time on every node type, s.
        size: ``[R]`` its work, generated-token equivalents in thousands.
    """

    trace: LlmTrace
    kind: Ints
    service: Doubles
    size: Doubles


def llm_fleet(scenario: LlmScenario) -> LlmFleet:
    """Read the trace and build the fleet; every dispatcher is a gateway, every node a server.

    Raises:
        DataError: the file is missing or malformed.
    """
    trace = read_azure_llm(locate(TRACE, scenario.data))
    counts = apportion(_SHARES, scenario.agents)
    kept = np.flatnonzero(counts)
    prompt, answer = trace.context_tokens, trace.generated_tokens
    prefill = np.array([_TYPES[t][5] for t in kept])
    decode = np.array([_TYPES[t][6] for t in kept])
    # Every answer has at least one token.
    service = prompt[:, None] / prefill + np.maximum(answer, 1)[:, None] / decode
    size = (prompt * PREFILL_COST + np.maximum(answer, 1)).astype(np.float64) / 1000.0
    kind = np.select([answer > LONG_ANSWER, prompt > LONG_PROMPT], [2, 1], 0).astype(np.int64)
    mean = np.stack([service[kind == c].mean(axis=0) for c in range(len(CLASSES))], axis=1)
    mix = np.bincount(kind, minlength=len(CLASSES)) / kind.shape[0]
    speed = np.stack([size[kind == c].mean() / mean[:, c] for c in range(len(CLASSES))], axis=1)
    rate = scenario.load * capacity(counts[kept].astype(np.float64), 1.0 / mean, mix)
    types = tuple(
        NodeType(
            name=_TYPES[t][0],
            vcpu=_TYPES[t][1],
            memory=_TYPES[t][2],
            gpus=_TYPES[t][3],
            gpu_model=_TYPES[t][4],
            speed=tuple(speed[row].tolist()),
            idle=_TYPES[t][7],
            peak=_TYPES[t][8],
            price=_TYPES[t][9],
        )
        for row, t in enumerate(kept)
    )
    return LlmFleet(
        discipline="ps",
        types=types,
        type_of=np.repeat(np.arange(len(types)), counts[kept]),
        classes=CLASSES,
        groups=("gateway",),
        group_of=np.zeros(scenario.agents, dtype=np.int64),
        mix=mix[None, :],
        mean_service=mean,
        rate=rate,
        load=scenario.load,
        dt=scenario.arrivals_per_epoch * scenario.agents / rate,
        horizon=scenario.horizon,
        trace=trace,
        kind=kind,
        service=service,
        size=size,
    )


class TraceWorkload:
    """A slice of the trace, its clock scaled to the scenario's load; implements ``Workload``.

    The seed picks where the slice starts; the trace is closed to a ring, so every start is equally
    good and the mean rate is exact. Dispatchers receive requests at random.
    """

    def __init__(self, *, fleet: LlmFleet, estimates: Estimates, streams: Streams):
        self._fleet = fleet
        self._estimates = estimates
        self._rng = streams.generator("owners")
        arrival = fleet.trace.arrival
        requests = arrival.shape[0]
        # One mean gap closes the ring.
        self._length = float(arrival[-1]) * requests / max(requests - 1, 1)
        self._scale = fleet.rate * self._length / requests
        self._offset = float(streams.generator("slice").random()) * self._length
        bins = max(round(self._length / FORECAST), 1)
        count = np.bincount(
            np.minimum((arrival / self._length * bins).astype(np.int64), bins - 1), minlength=bins
        )
        self._forecast = count * (bins / requests)

    def draw(self, start: float, end: float) -> Batch:
        fleet, length = self._fleet, self._length
        first, last = self._offset + start * self._scale, self._offset + end * self._scale
        rows: list[Ints] = []
        times: list[Doubles] = []
        for lap in range(int(first // length), int(last // length) + 1):
            low, high = np.searchsorted(
                fleet.trace.arrival, (first - lap * length, last - lap * length), side="right"
            )
            rows.append(np.arange(low, high))
            times.append(fleet.trace.arrival[low:high] + lap * length - self._offset)
        row = np.concatenate(rows)
        time = np.clip(np.concatenate(times) / self._scale, start, end)
        services = fleet.service[row]
        return Batch(
            time=time,
            owner=(self._rng.random(row.shape[0]) * fleet.agents).astype(np.int64),
            kind=fleet.kind[row],
            size=fleet.size[row],
            services=services,
            best=services.min(axis=1),
            demand=np.zeros(row.shape[0], dtype=np.int64),
            estimate=self._estimates.draw(row.shape[0]),
        )

    def factors(self, time: float) -> Doubles:
        """Rate of the current minute of the trace over its mean ``[1]``."""
        position = self._position(time) * self._forecast.shape[0]
        return self._forecast[[min(int(position), self._forecast.shape[0] - 1)]]

    def day(self, time: float) -> tuple[float, float]:
        """``(sin, cos)`` of the position in the trace."""
        angle = 2.0 * math.pi * self._position(time)
        return math.sin(angle), math.cos(angle)

    def _position(self, time: float) -> float:
        return (self._offset + time * self._scale) / self._length % 1.0
