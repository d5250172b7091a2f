"""What is refused, what is imputed, what is out of distribution, and the index of drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import serving
from decision_toys import NOW, Scripted, ask, observe, runtime, spec_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as arrays_of

from fairlead.platform.decision.bounds import bounds_of
from fairlead.platform.decision.drift import Drift
from fairlead.platform.decision.settings import (
    DriftSettings,
    SlotSettings,
    ValidationSettings,
)
from fairlead.platform.decision.types import Cause, Rejected, Source, State
from fairlead.platform.golden import observation_of
from fairlead.platform.observed import observed_of

FULL = np.ones((4, 5), bool)
OBSERVED = {
    "agent": {
        "low": [0.0, 0.0],
        "high": [10.0, 10.0],
        "edges": [[10 * j / 12 for j in range(1, 12)]] * 2,
    },
    "candidate": {
        "low": [-5.0],
        "high": [5.0],
        "edges": [[-5 + 10 * j / 12 for j in range(1, 12)]],
    },
}


def wrong(code, status=400, *, box=False, run=None, **changes):
    fields = {key: changes.pop(key) for key in ("agents",) if key in changes}
    seen = replace(observe(box=box), **changes)
    policy = Scripted()
    with pytest.raises(Rejected) as caught:
        ask(run or runtime(policy, box=box), seen=seen, **fields)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert policy.asked == []
    return str(caught.value)


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("agent", (4, 3)),
            ("agent", (3, 2)),
            ("agent", (4,)),
            ("active", (5,)),
            ("mask", (4, 6)),
            ("mask", (4,)),
            ("mask", (4, 0)),
            ("candidates", (4, 5, 2)),
            ("candidates", (4, 4, 1)),
            ("target", (4, 4)),
        ],
    )
    def test_shapes(self, name, shape):
        dtype = getattr(observe(), name).dtype
        assert "shape" in wrong("shape", **{name: np.ones(shape, dtype)}) or name == "mask"

    @pytest.mark.parametrize("name", ["agent", "active", "mask", "candidates", "target"])
    def test_types(self, name):
        message = wrong("dtype", **{name: getattr(observe(), name).astype(np.float64)})
        assert message.startswith(f"{name} is float64, not ")

    def test_other_byte_order_is_another_type(self):
        assert ">f4" in wrong("dtype", agent=observe().agent.astype(">f4"))

    @pytest.mark.parametrize(
        ("agents", "code"),
        [
            (np.array([0, 1, 2, 2]), "agents"),
            (np.array([0, 1, 2, 4]), "agents"),
            (np.array([0, 1, 2, -1]), "agents"),
            (np.arange(5), "agents"),
            (np.zeros(0, np.int64), "agents"),
            (np.arange(4.0), "dtype"),
            (np.arange(4).reshape(2, 2), "dtype"),
            (np.arange(3), "shape"),
        ],
    )
    def test_agents(self, agents, code):
        seen, policy = observe(), Scripted()
        with pytest.raises(Rejected) as caught:
            ask(runtime(policy), seen=seen, agents=agents)
        assert caught.value.code == code
        assert policy.asked == []

    def test_an_agent_that_may_not_hold(self):
        mask = FULL.copy()
        mask[2, 0] = False
        assert "row 2" in wrong("mask", 422, mask=mask)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("side", ["low", "high"])
    def test_boxes_that_are_none(self, bad, side):
        bounds = getattr(observe(box=True), side).copy()
        bounds[1, 1] = bad
        wrong("box", 422, box=True, **{side: bounds})

    def test_boxes_turned_round(self):
        seen = observe(box=True)
        wrong("box", 422, box=True, low=seen.high + 1)
        wrong("shape", box=True, low=seen.low[:, :1])

    def test_more_candidates_than_allowed(self):
        seen = observe(choices=9)
        knobs = SlotSettings(validation=ValidationSettings(max_candidates=8))
        with pytest.raises(Rejected, match="9 candidates; 1 to 8"):
            ask(runtime(), seen=seen, settings=knobs)
        # Other numbers than the spec's are fine: scorers take any.
        assert ask(runtime(), seen=observe(choices=8), settings=knobs)[1].outcome == "ok"

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_wrong_array_is_refused_and_nothing_else_happens(self, data):
        seen = observe()
        name = data.draw(st.sampled_from(["agent", "active", "mask", "candidates", "target"]))
        old = getattr(seen, name)
        shape = data.draw(st.lists(st.integers(0, 6), min_size=0, max_size=4).map(tuple))
        dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.int8]))
        if shape == old.shape and dtype == old.dtype:
            return
        with pytest.raises(Rejected) as caught:
            ask(runtime(), seen=replace(seen, **{name: np.ones(shape, dtype)}))
        assert caught.value.code in ("shape", "dtype")
        assert 400 <= caught.value.status < 500


def lenient(share=1.0, **drift):
    return SlotSettings(
        validation=ValidationSettings(imputed_share=share), drift=DriftSettings(**drift)
    )


def damaged(*cells, part="agent", **fields):
    seen = observe(mask=FULL, **fields)
    values = getattr(seen, part).copy()
    for *cell, value in cells:
        values[tuple(cell)] = value
    return replace(seen, **{part: values})


class TestImputed:
    @pytest.mark.parametrize(
        ("part", "cells", "reasons"),
        [
            ("agent", [(1, 0, np.nan)], {"nan": 1}),
            ("agent", [(1, 0, np.inf)], {"nan": 1}),
            ("agent", [(1, 0, 101.0)], {"range": 1}),
            ("agent", [(1, 1, -0.1)], {"range": 1}),
            ("agent", [(1, 0, np.nan), (1, 1, np.nan)], {"missing": 1}),
            ("agent", [(1, 0, np.nan), (1, 1, -5.0)], {"nan": 1}),
            ("candidates", [(1, 3, 0, np.nan)], {"nan": 1}),
            ("candidates", [(1, 3, 0, -11.0)], {"range": 1}),
            ("candidates", [(1, 0, 0, np.nan)], {"nan": 1}),
        ],
    )
    def test_one_bad_agent_falls_back_and_the_others_go_on(self, part, cells, reasons):
        policy = Scripted(np.array([1, 1, 1, 1]))
        _, decision = ask(
            runtime(policy), seen=damaged(*cells, part=part), settings=lenient(), seed=1
        )
        assert decision.invalid == reasons
        assert decision.source.tolist() == [0, Source.BASELINE, 0, 0]
        assert decision.cause.tolist() == [0, Cause.INVALID, 0, 0]
        assert (decision.outcome, decision.mode) == ("degraded", "degraded")
        asked = policy.asked[0][0]
        assert asked.active.tolist() == [True, False, True, True]
        assert np.isfinite(asked.agent).all() and np.isfinite(asked.candidates).all()

    def test_bad_numbers_become_the_training_median_within_bounds(self):
        policy = Scripted()
        seen = damaged((1, 0, np.nan), (2, 1, -3.0))
        run = runtime(policy, observed=OBSERVED)
        ask(run, seen=seen, settings=lenient())
        asked = policy.asked[0][0]
        assert asked.agent[1, 0] == asked.agent[2, 1] == 5.0
        untouched = [(0, 0), (1, 1), (2, 0), (3, 1)]
        assert all(asked.agent[cell] == seen.agent[cell] for cell in untouched)

    def test_numbers_that_nobody_reads_cost_nothing(self):
        mask = FULL.copy()
        mask[1, 3] = False
        seen = damaged((1, 3, 0, np.nan), (2, 2, 0, 99.0), part="candidates", active=[1, 1, 0, 1])
        _, decision = ask(runtime(), seen=replace(seen, mask=mask), settings=lenient(0.0))
        assert (decision.invalid, decision.outcome) == ({}, "ok")
        for cells in ([(2, 0, np.nan)], [(2, 1, -9.0)], [(2, 0, np.nan), (2, 1, np.inf)]):
            seen = damaged(*cells, active=[1, 1, 0, 1])
            _, decision = ask(runtime(), seen=seen, settings=lenient(0.0))
            assert (decision.invalid, decision.outcome) == ({}, "ok")

    @pytest.mark.parametrize(
        ("bad", "outcome"), [(1, "degraded"), (2, "fallback"), (4, "fallback")]
    )
    def test_beyond_the_budget_everybody_falls_back(self, bad, outcome):
        policy = Scripted()
        seen = damaged(*((row, 0, np.nan) for row in range(bad)))
        state, decision = ask(runtime(policy), seen=seen, settings=lenient(0.25))
        assert decision.outcome == outcome
        assert len(policy.asked) == (outcome == "degraded")
        assert decision.invalid == {"nan": bad}
        if outcome == "fallback":
            assert decision.cause.tolist() == [Cause.INVALID] * 4
        assert state.breaker.window == (False,) * len(policy.asked)

    def test_bounds_have_the_slack_of_single_precision(self):
        seen = damaged((0, 0, np.float32(100.0) * np.float32(1 + 1e-6)))
        assert ask(runtime(), seen=seen)[1].outcome == "ok"

    @settings(max_examples=80, deadline=None)
    @given(
        agent=arrays_of(np.float32, (4, 2), elements=st.floats(width=32)),
        candidates=arrays_of(np.float32, (4, 5, 1), elements=st.floats(width=32)),
        active=arrays_of(np.bool_, 4),
        mask=arrays_of(np.bool_, (4, 5)),
        gated=st.booleans(),
        share=st.sampled_from([0.0, 0.3, 1.0]),
    )
    def test_whatever_the_numbers_are_the_answer_is_legal(
        self, agent, candidates, active, mask, gated, share
    ):
        mask = mask.copy()
        mask[:, 0] = True
        seen = replace(observe(), agent=agent, candidates=candidates, active=active, mask=mask)
        run = runtime(observed=OBSERVED if gated else {})
        _, decision = ask(run, seen=seen, settings=lenient(share))
        assert mask[np.arange(4), decision.actions].all()
        assert not decision.actions[~active].any()
        usable = (np.abs(candidates[:, :, 0]) <= 10.001) | ~mask
        plain = decision.source <= Source.PROJECTED
        good = (agent >= -1e-4).all(1) & (agent[:, 0] <= 100.01) & np.isfinite(agent).all(1)
        # The policy acts for nobody whose own numbers are unusable.
        assert (good & usable.all(axis=1))[plain & active].all()


class TestGate:
    def test_features_far_from_training_withhold_the_policy(self):
        policy = Scripted(np.array([1, 1, 1, 1]))
        run = runtime(policy, observed=OBSERVED)
        # The range is 10 and the tolerance once that: 20 is the last usual value.
        seen = damaged((1, 0, 21.0), (1, 1, 21.0), (2, 0, 21.0), (3, 0, 20.0), (3, 1, 20.0))
        _, decision = ask(run, seen=seen)
        assert decision.cause.tolist() == [0, Cause.DRIFT, 0, 0]
        assert decision.source.tolist() == [0, Source.BASELINE, 0, 0]
        assert decision.outcome == "degraded" and decision.invalid == {}

    def test_candidates_count_where_they_are_offered_and_not_for_hold(self):
        observed = {**OBSERVED, "candidate": {**OBSERVED["candidate"], "low": [0.0], "high": [1.0]}}
        mask = FULL.copy()
        mask[3, 2] = False
        seen = damaged(*((r, k, 0, 1.0) for r in range(4) for k in range(5)), part="candidates")
        values = seen.candidates.copy()
        values[0, 0], values[1, 2], values[3, 2] = 9, 9, 9
        seen = replace(seen, candidates=values, mask=mask)
        _, decision = ask(
            runtime(observed=observed), seen=seen, settings=lenient(features=1, tolerance=0.5)
        )
        assert decision.cause.tolist() == [0, Cause.DRIFT, 0, 0]

    def test_all_agents_out_of_distribution_is_a_fallback_without_asking(self):
        policy = Scripted()
        seen = damaged(*((r, c, 90.0) for r in range(4) for c in range(2)), active=[1, 1, 1, 0])
        _, decision = ask(runtime(policy, observed=OBSERVED), seen=seen)
        assert policy.asked == []
        assert decision.cause.tolist() == [Cause.DRIFT] * 4
        assert decision.outcome == "fallback"

    def test_switched_off_it_passes_everything(self):
        seen = damaged(*((r, c, 90.0) for r in range(4) for c in range(2)))
        run = runtime(observed=OBSERVED)
        assert ask(run, seen=seen, settings=lenient(enabled=False))[1].outcome == "ok"
        assert ask(runtime(), seen=seen)[1].outcome == "ok"

    def test_parts_without_quantiles_are_not_gated(self):
        empty = {"low": [], "high": [], "edges": []}
        seen = damaged((1, 2, 0, 9.9), part="candidates")
        run = runtime(observed={"agent": empty, "candidate": empty})
        assert ask(run, seen=seen, settings=lenient(features=1))[1].outcome == "ok"

    def test_training_observations_of_the_real_scenario_pass(self):
        spec, _, result = serving.recorded()
        run = replace(runtime(), spec=spec, observed=observed_of([(result.episode, 40)]))
        for index in range(12):
            request = serving.request(index)
            _, decision = ask(run, seen=request.observation)
            assert decision.outcome == "ok", decision.cause

    def test_ranges_of_another_spec_are_an_error(self):
        spec = spec_of()
        spec = replace(spec, agent_features=(*spec.agent_features, spec.agent_features[0]))
        with pytest.raises(ValueError, match="about 2 features, the spec has 3"):
            bounds_of(spec, OBSERVED, DriftSettings())

    def test_bounds_are_prepared_once_and_bounded_in_memory(self):
        spec, knobs = spec_of(), DriftSettings()
        bounds = bounds_of(spec, OBSERVED, knobs)
        assert bounds_of(spec, OBSERVED, knobs) is bounds
        assert bounds_of(spec_of(), OBSERVED, knobs) is not bounds
        for choices in range(1, 100):
            bounds.usual(4, choices)
        assert len(bounds._tiles) <= 16
        assert bounds.usual(1000, 4096)[0].size == 4096


class TestDrift:
    def drift(self, **changes):
        observed = {"agent": {**OBSERVED["agent"], **changes}}
        return Drift(spec=spec_of(), observed=observed, settings=DriftSettings(window=8))

    def test_equal_shares_are_no_drift(self):
        drift = self.drift()
        values = np.repeat((np.arange(12) + 0.5) * 10 / 12, 10).astype(np.float32)
        drift.update(observe_agents(np.stack([values, values], axis=1)))
        figures = drift.figures()
        assert figures.highest == pytest.approx(0.0, abs=1e-12)
        assert figures.decisions == 1

    def test_by_hand(self):
        # Half of the values in the first of 12 bins, half in the second.
        drift = self.drift()
        values = np.repeat([0.1, 0.9], 60).astype(np.float32)
        other = np.repeat((np.arange(12) + 0.5) * 10 / 12, 10).astype(np.float32)
        drift.update(observe_agents(np.stack([values, other], axis=1)))
        full = (0.5 - 1 / 12) * np.log(0.5 * 12)
        empty = (1e-4 - 1 / 12) * np.log(1e-4 * 12)
        figures = drift.figures()
        assert figures.features["load"] == pytest.approx(2 * full + 10 * empty)
        assert figures.worst == "load"
        assert figures.mean == pytest.approx(figures.highest / 2)

    def test_little_data_says_nothing(self):
        drift = self.drift()
        assert np.isnan(drift.figures().highest)
        drift.update(observe_agents(np.full((119, 2), 3, np.float32)))
        figures = drift.figures()
        assert np.isnan(figures.highest) and figures.worst == ""
        drift.update(observe_agents(np.full((1, 2), 3, np.float32)))
        assert drift.figures().highest > 1

    def test_the_window_forgets(self):
        drift = self.drift()
        drift.update(observe_agents(np.full((200, 2), 3, np.float32)))
        rng = np.random.default_rng(0)
        for _ in range(8):
            drift.update(observe_agents(rng.uniform(0, 10, (400, 2)).astype(np.float32)))
        assert drift.figures().highest < 0.02

    def test_values_that_are_not_finite_are_left_out(self):
        drift = self.drift()
        values = np.full((240, 2), np.nan, np.float32)
        values[:120] = np.repeat((np.arange(12) + 0.5) * 10 / 12, 10)[:, None]
        drift.update(observe_agents(values))
        assert drift.figures().highest == pytest.approx(0.0, abs=1e-12)

    def test_frequent_values_are_no_drift_of_themselves(self):
        # Nine tenths zeros: nearly all quantiles coincide.
        rng = np.random.default_rng(1)
        values = np.where(rng.random(5000) < 0.9, 0.0, rng.uniform(0, 10, 5000))
        edges = np.quantile(values, np.arange(1, 12) / 12).tolist()
        drift = self.drift(low=[0, 0], high=[10, 10], edges=[edges, edges])
        drift.update(observe_agents(np.stack([values, values], axis=1).astype(np.float32)))
        assert drift.figures().highest < 0.01
        drift = self.drift(low=[0, 0], high=[10, 10], edges=[edges, edges])
        drift.update(observe_agents(rng.uniform(0, 10, (500, 2)).astype(np.float32)))
        assert drift.figures().highest > 1

    @settings(max_examples=60, deadline=None)
    @given(
        values=st.lists(st.integers(-3, 8), min_size=150, max_size=400),
        scale=st.sampled_from([1.0, 0.37]),
    )
    def test_what_it_was_trained_on_is_never_drift_of_discrete_features(self, values, scale):
        # Quantiles that were observed, not interpolated: those of a discrete distribution.
        values = (np.array(values) * scale).astype(np.float32)
        shares = np.arange(1, 12) / 12
        edges = np.quantile(values.astype(float), shares, method="inverted_cdf").tolist()
        low, high = float(values.min()), float(values.max())
        drift = self.drift(low=[low] * 2, high=[high] * 2, edges=[edges] * 2)
        drift.update(observe_agents(np.stack([values, values], axis=1)))
        assert drift.figures().highest < 0.15

    def test_the_recorded_episode_is_no_drift_of_itself_and_a_scaled_one_is(self):
        spec, _, result = serving.recorded()
        episode, epochs = result.episode, result.epochs
        observed = observed_of([(episode, epochs)])
        figures = []
        for factor in (1, 3):
            drift = Drift(spec=spec, observed=observed, settings=DriftSettings())
            for t in range(epochs):
                parts = (episode.candidates[t], episode.mask[t], episode.active[t])
                drift.update(observation_of(episode.agent[t] * factor, *parts))
            figures.append(drift.figures())
        assert figures[0].highest < 0.1
        assert figures[1].highest > 0.25
        # The clock moves all day; it is no drift.
        assert set(figures[0].features) == {
            *(feature.name for feature in spec.agent_features),
            *(f"candidate:{feature.name}" for feature in spec.candidate_features),
        } - {"day_sin", "day_cos"}


def observe_agents(values):
    rows = len(values)
    mask = np.ones((rows, 1), bool)
    candidates = np.zeros((rows, 1, 1), np.float32)
    return observation_of(values.astype(np.float32), candidates, mask, np.ones(rows, bool))


def test_a_refused_request_leaves_the_state_to_its_owner():
    state = State(ticks=3)
    with pytest.raises(Rejected):
        ask(runtime(), state=state, now=NOW, seen=observe(3))
    assert state == State(ticks=3)
