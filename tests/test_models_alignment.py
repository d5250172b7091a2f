"""Measured alignment: right, useless and wrong references are told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import RingModel, RingSimulator

from fairlead.models.alignment import collect_pairs, measure_alignment, summarise


class Aimed(RingModel):
    """The ring model with a reference far above or below what can be reached."""

    def __init__(self, simulator, target):
        super().__init__(simulator)
        self.target = target

    def reference(self, exogenous):
        found = super().reference(exogenous)
        return replace(found, x_ref=np.full(self.state_size, self.target))


def stay(seen, rng):
    """Everybody serves at home; the draw is used so that streams matter."""
    rng.random()
    return np.where(seen.active, 2, 0)


def test_empty_queues_point_downhill_and_full_ones_uphill():
    simulator = RingSimulator(agents=6, horizon=20)
    models = {"empty": RingModel(simulator), "full": Aimed(simulator, 50.0)}
    found = measure_alignment(simulator, models, stay, seeds=range(8), probes=8, continuation=6)
    empty, full = found
    assert [entry.reference for entry in found] == ["empty", "full"]
    assert empty.pairs == full.pairs > 40
    assert empty.correlation.low > 0.5
    assert empty.agreement.value > 0.8
    assert empty.cosine.low <= empty.cosine.value <= empty.cosine.high
    assert full.correlation.high < 0.0


def test_the_immediate_cost_of_the_ring_is_predicted_exactly():
    # With drain 0 and no continuation, the ring's own cost is 2 / 2 d; saving = gain.
    simulator = RingSimulator(agents=6, horizon=20, drain=0.0)
    pairs = collect_pairs(
        simulator, {"empty": RingModel(simulator)}, stay, seeds=range(4), continuation=0
    )
    assert pairs.saving == pytest.approx(pairs.gain["empty"], abs=1e-12)
    assert np.abs(pairs.saving).max() > 0.1


def test_pairs_are_reproducible():
    simulator = RingSimulator(agents=6, horizon=20)
    with pytest.raises(ValueError, match="leaves no epoch to probe"):
        collect_pairs(simulator, {}, stay, seeds=(1,), continuation=20)
    one, two = (
        collect_pairs(
            RingSimulator(agents=6, horizon=30),
            {"empty": RingModel(RingSimulator(agents=6))},
            stay,
            seeds=(3, 4),
            hold=True,
        )
        for _ in range(2)
    )
    assert np.array_equal(one.saving, two.saving)
    assert np.array_equal(one.gain["empty"], two.gain["empty"])


def test_intervals_shrink_and_cover():
    rng = np.random.default_rng(0)
    gain = rng.normal(size=2000)
    saving = gain + rng.normal(size=2000)
    wide, narrow = (summarise("r", gain[:n], saving[:n]) for n in (50, 2000))
    truth = 1 / np.sqrt(2)
    for entry in (wide, narrow):
        assert entry.correlation.low < truth < entry.correlation.high
    assert narrow.correlation.high - narrow.correlation.low < 0.06
    assert wide.correlation.high - wide.correlation.low > 0.15
    with pytest.raises(ValueError, match="at least 3 pairs"):
        summarise("r", gain[:2], saving[:2])
