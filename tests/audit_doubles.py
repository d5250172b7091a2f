"""What the audit's tests share: entries with everything in them, a meter that remembers."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np

from fairlead.platform.audit.writer import AuditWriter, Context
from fairlead.platform.daemon.interface import Entry
from fairlead.platform.daemon.settings import AuditSettings
from fairlead.platform.decision.types import (
    Breaker,
    Clock,
    Decision,
    Inference,
    Outcome,
    Request,
    State,
)
from fairlead.simulators.interface import Observation

BOOT = "0123abcd"


class CountingMeter:
    """Remembers counters and gauges without labels."""

    def __init__(self):
        self.counts, self.gauges = Counter(), {}

    def count(self, metric, value=1.0, /, **labels):
        self.counts[metric] += value

    def set(self, metric, value, /, **labels):
        self.gauges[metric] = value


def make_writer(folder, meter=None, *, domains=("toy",), **settings):
    settings = AuditSettings(**{"fsync": 0.2, **settings})
    writer = AuditWriter(folder, settings=settings, boot=BOOT, meter=meter or CountingMeter())
    for domain in domains:
        writer.describe(domain, Context(config="c0ffee"))
    return writer


def make_entry(index=0, *, rows=5, choices=4, outcome="ok", domain="toy", extra=0, boot=BOOT):
    """An entry with arrays that differ from index to index; ``extra`` candidates' features."""
    rng = np.random.default_rng(index)
    features = 3 + extra
    observation = Observation(
        agent=rng.normal(size=(rows, 2)).astype(np.float32),
        candidates=rng.normal(size=(rows, choices, features)).astype(np.float32),
        target=rng.integers(-1, 70_000, size=(rows, choices)),
        mask=rng.random((rows, choices)) < 0.5,
        low=np.zeros((rows, 0), np.float32),
        high=np.zeros((rows, 0), np.float32),
        active=rng.random(rows) < 0.8,
        critic=np.zeros(0, np.float32),
        state=np.zeros(0),
        exogenous=np.zeros(0),
        time=float(index),
    )
    actions = rng.integers(0, choices, size=rows)
    preference = rng.normal(size=(rows, choices)).astype(np.float32)
    wanted = rng.integers(0, choices, size=rows)
    decision = Decision(
        actions=actions,
        source=rng.integers(0, 6, size=rows).astype(np.int8),
        cause=np.zeros(rows, np.int8),
        outcome=outcome,
        mode="policy",
        bundle="ab" * 32,
        seed=2**62 + index,
        asked=(Outcome("ok", Inference(wanted, preference), 1e-4), None),
        distance=np.zeros(rows, np.float32),
        margin=float("nan"),
        deviation=rng.random(rows).astype(np.float32),
        wanted=wanted,
        preference=preference,
        invalid={"nan": 2},
        seconds={"policy": 0.001},
        failures={},
    )
    request = Request(observation, client="c", episode="e", seq=index, observed=1.7e9 + index)
    before = State(
        mode="policy",
        breaker=Breaker(window=(True, False), since=3.5, trips=1),
        last=rng.integers(0, choices, size=rows),
        sequence=(("c/e", index - 1),),
        ticks=index,
    )
    return Entry(
        id=f"{domain}-{boot}-{index}",
        domain=domain,
        clock=Clock(1000.0 + index, 1.7e9 + index),
        request=request,
        decision=decision,
        before=before,
    )


def same(one, other):
    """Equal bit for bit: dataclasses, arrays with their types, NaN equal to NaN."""
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in names
        )
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other
