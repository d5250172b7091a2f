"""The decision core: who decides what for whom, and why; rungs, order, deadlines, the switch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from decision_toys import (
    NOW,
    BoxToy,
    ChoiceToy,
    Scripted,
    ask,
    first_legal,
    observe,
    runtime,
)

from fairlead.platform.decision import asking
from fairlead.platform.decision.asking import Injected, Inline
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.ladder import feasible
from fairlead.platform.decision.seeds import generator, seed_of
from fairlead.platform.decision.settings import (
    BreakerSettings,
    SimplexSettings,
    SlotSettings,
    ValidationSettings,
)
from fairlead.platform.decision.types import (
    Breaker,
    Cause,
    Clock,
    Inference,
    Outcome,
    Projected,
    Request,
    Source,
    State,
)

FULL = np.ones((4, 5), bool)


def settings(**changes):
    return SlotSettings(**changes)


def breaking(part, error=None):
    """A toy Live whose named part raises or returns what it is told."""

    class Broken(ChoiceToy):
        pass

    def act(*_):
        if isinstance(error, Exception):
            raise error
        return error

    live = Broken(room=4)
    if part == "baseline":
        live.baseline = type("Rule", (), {"name": "x", "information": "same", "act": act})()
    else:
        setattr(live, part, act)
    return live


class TestThePolicyDecides:
    def test_its_legal_actions_are_executed(self):
        seen = observe(mask=FULL)
        state, decision = ask(runtime(Scripted([1, 2, 3, 4])), seen=seen)
        assert decision.actions.tolist() == [1, 2, 3, 4]
        assert decision.source.tolist() == [Source.POLICY] * 4
        assert decision.cause.tolist() == [0] * 4
        assert (decision.outcome, decision.mode, decision.bundle) == ("ok", "policy", "d1gest")
        assert state.last.tolist() == [1, 2, 3, 4]
        assert (state.ticks, state.mode) == (1, "policy")
        assert set(decision.seconds) == {"validate", "policy", "project", "simplex"}
        assert decision.failures == {}

    def test_a_canary_says_so(self):
        _, decision = ask(runtime(mode="canary"))
        assert decision.mode == "canary"

    def test_illegal_and_colliding_actions_are_projected_and_say_why(self):
        mask = FULL.copy()
        mask[0, 3] = False
        live = ChoiceToy(room=2)
        _, decision = ask(runtime(Scripted([3, 2, 2, 2]), live=live), seen=observe(mask=mask))
        assert decision.actions.tolist() == [0, 2, 2, 0]
        assert decision.cause.tolist() == [Cause.LEGALITY, 0, 0, Cause.COUPLING]
        assert decision.source.tolist() == [
            Source.PROJECTED,
            Source.POLICY,
            Source.POLICY,
            Source.PROJECTED,
        ]
        assert decision.distance.tolist() == [1, 0, 0, 1]
        assert decision.wanted.tolist() == [3, 2, 2, 2]
        assert decision.outcome == "ok"

    def test_set_points_are_boxed_and_ramped(self):
        seen = observe(box=True)
        run = runtime(Scripted(seen.high + 1), box=True)
        _, decision = ask(run, seen=seen)
        assert (decision.actions == seen.high).all()
        assert set(decision.cause.tolist()) == {Cause.BOX}
        before = State(last=seen.low.copy())
        _, decision = ask(run, seen=seen, state=before)
        assert np.allclose(decision.actions, np.minimum(seen.high, seen.low + 0.5))
        assert Cause.RAMP in decision.cause.tolist()

    def test_inactive_agents_hold_whatever_the_policy_says(self):
        seen = observe(mask=FULL, active=[1, 0, 1, 0])
        _, decision = ask(runtime(Scripted([1, 2, 3, 4])), seen=seen)
        assert decision.actions.tolist() == [1, 0, 3, 0]

    def test_a_subset_of_agents_updates_only_its_own_last_actions(self):
        run = runtime(Scripted([2, 3]))
        state = State(last=np.array([1, 1, 1, 1]))
        seen = observe(2, mask=FULL[:2])
        after, decision = ask(run, state=state, seen=seen, agents=np.array([3, 1]))
        assert decision.actions.tolist() == [2, 3]
        assert after.last.tolist() == [1, 3, 1, 2]
        assert state.last.tolist() == [1, 1, 1, 1]

    def test_agents_never_asked_about_have_no_last_set_points(self):
        run = runtime(box=True)
        after, _ = ask(run, seen=observe(1, box=True), agents=np.array([2]))
        assert np.isnan(after.last).all(axis=1).tolist() == [True, True, False, True]
        _, decision = ask(run, state=after)
        assert np.isfinite(decision.actions).all()

    def test_last_actions_of_another_number_of_agents_are_forgotten(self):
        live = breaking("baseline", ValueError("no"))
        _, decision = ask(
            replace(runtime(live=live), policy=None), state=State(last=np.array([1, 1]))
        )
        assert decision.failures["hold"] == "ValueError: nothing that could be held is feasible"

    def test_the_policy_gets_its_share_of_the_time_that_is_left(self):
        policy = Scripted()
        ask(runtime(policy), settings=settings(deadline=0.1, policy_share=0.5))
        assert policy.asked[0][4] == pytest.approx(0.05)
        ask(
            runtime(policy),
            settings=settings(deadline=0.1, policy_share=0.5),
            received=NOW.mono - 0.02,
            deadline=0.04,
        )
        assert policy.asked[1][4] == pytest.approx(0.01)

    def test_greedy_is_the_request_s_else_the_slot_s_else_the_bundle_s(self):
        policy = Scripted()
        for own, sample, expected in (
            (None, "bundle", None),
            (None, "yes", False),
            (None, "no", True),
            (True, "yes", True),
            (False, "no", False),
        ):
            ask(runtime(policy), settings=settings(sample=sample), greedy=own)
            assert policy.asked[-1][3] is expected


class TestSeeds:
    def test_named_by_the_request_or_derived_from_its_identity(self):
        seen = observe()
        assert seed_of(Request(seen, seed=7)) == 7
        one, two = Request(seen, client="a", seq=1), Request(seen, client="a", seq=2)
        assert seed_of(one) == seed_of(replace(one)) != seed_of(two)
        assert 0 <= seed_of(one) < 2**63

    def test_neighbouring_identities_do_not_collide(self):
        seen = observe()
        names = [("ab", "c", 1), ("a", "bc", 1), ("a", "b", 11), ("a", "b1", 1)]
        seeds = {seed_of(Request(seen, client=c, episode=e, seq=s)) for c, e, s in names}
        assert len(seeds) == 4

    def test_unordered_requests_do_not_share_their_noise(self):
        policy = Scripted()
        state, first = ask(runtime(policy))
        _, second = ask(runtime(policy), state=state)
        assert first.seed != second.seed == policy.asked[1][2]

    def test_the_generator_is_the_documented_one(self):
        expected = np.random.default_rng(np.random.SeedSequence([5, 0xF1EE])).random(3)
        assert (generator(5).random(3) == expected).all()

    def test_a_sampling_baseline_is_seeded_by_the_decision(self):
        class Dice:
            name, information = "dice", "same"

            def act(self, observation, rng):
                return rng.integers(0, 5, 4)

        live = ChoiceToy(room=4)
        live.baseline = Dice()
        run = replace(runtime(live=live), policy=None)
        seen = observe(mask=FULL)
        drawn = [ask(run, seen=seen, seed=s)[1].actions.tolist() for s in (1, 1, 2, 3)]
        assert drawn[0] == drawn[1]
        assert len({tuple(x) for x in drawn}) > 1


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("timeout", Cause.DEADLINE),
        ("error", Cause.ERROR),
        ("non-finite", Cause.NON_FINITE),
        (RuntimeError("policies do not raise"), Cause.ERROR),
        (Outcome("ok", None, 0.0), Cause.ERROR),
        (Outcome("ok", Inference(np.zeros(3, np.int64), None), 0.0), Cause.ERROR),
        (Outcome("ok", Inference(np.zeros(4), None), 0.0), Cause.ERROR),
        (Outcome("ok", Inference(np.full(4, 5), None), 0.0), Cause.ERROR),
        (Outcome("ok", Inference(np.full(4, -1), None), 0.0), Cause.ERROR),
        (Outcome("ok", Inference("nonsense", None), 0.0), Cause.ERROR),
        (Outcome("ok", Inference(np.zeros(4, int), np.zeros((4, 4))), 0.0), Cause.ERROR),
        (
            Outcome("ok", Inference(np.zeros(4, int), np.full((4, 5), np.nan)), 0.0),
            Cause.NON_FINITE,
        ),
    ],
    ids=str,
)
def test_a_policy_that_fails_is_replaced_by_the_baseline(answer, cause):
    seen = observe(mask=FULL)
    live = ChoiceToy(room=4)
    state, decision = ask(runtime(Scripted(answer), live=live), seen=seen)
    assert decision.actions.tolist() == live.baseline.act(seen, None).tolist()
    assert decision.source.tolist() == [Source.BASELINE] * 4
    assert decision.cause.tolist() == [cause] * 4
    assert (decision.outcome, decision.mode) == ("fallback", "fallback")
    assert decision.asked[0].status != "ok" and decision.asked[1] is None
    assert decision.preference is None
    assert state.breaker.window == (True,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_set_points_that_are_not_finite_never_leave(bad):
    answer = Outcome("ok", Inference(np.full((4, 2), bad, np.float32), None), 0.0)
    _, decision = ask(runtime(Scripted(answer), box=True))
    assert np.isfinite(decision.actions).all()
    assert decision.cause.tolist() == [Cause.NON_FINITE] * 4


class TestLadder:
    def test_the_previous_champion_answers_for_one_that_fails(self):
        previous = Scripted([1, 2, 3, 4], digest="older")
        run = runtime(Scripted("error"), previous=previous)
        _, decision = ask(run, seen=observe(mask=FULL), settings=settings(deadline=0.05))
        assert decision.actions.tolist() == [1, 2, 3, 4]
        assert decision.source.tolist() == [Source.PREVIOUS] * 4
        assert decision.cause.tolist() == [Cause.ERROR] * 4
        assert (decision.outcome, decision.mode) == ("fallback", "fallback")
        # Half of what the champion's millisecond left.
        assert previous.asked[0][4] == pytest.approx(0.0245)

    def test_it_is_not_asked_without_time(self):
        previous = Scripted(digest="older")
        run = runtime(Scripted(Outcome("timeout", None, 0.06)), previous=previous)
        _, decision = ask(run, settings=settings(deadline=0.05))
        assert previous.asked == []
        assert decision.source.tolist() == [Source.BASELINE] * 4
        assert decision.failures["previous"].startswith("timeout")

    def test_it_does_not_act_for_agents_that_are_withheld(self):
        seen = observe(mask=FULL)
        agent = seen.agent.copy()
        agent[1] = np.nan
        previous = Scripted([1, 1, 1, 1], digest="older")
        run = runtime(Scripted("error"), previous=previous)
        knobs = settings(validation=ValidationSettings(imputed_share=1.0))
        _, decision = ask(run, seen=replace(seen, agent=agent), settings=knobs)
        assert decision.source.tolist() == [Source.PREVIOUS, Source.BASELINE, 5, 5]
        assert decision.cause.tolist() == [Cause.ERROR, Cause.INVALID] + [Cause.ERROR] * 2
        assert not previous.asked[0][0].active[1]
        # Everybody fell back, each for a reason of their own.
        _, decision = ask(
            run, seen=replace(seen, agent=agent), settings=knobs, observed=NOW.wall - 60
        )
        assert decision.cause.tolist() == [Cause.STALE, Cause.INVALID] + [Cause.STALE] * 2
        assert decision.invalid == {"missing": 1, "stale": 1}

    def test_below_a_broken_previous_one_is_the_baseline(self):
        run = runtime(Scripted("error"), previous=Scripted("non-finite"))
        _, decision = ask(run)
        assert decision.source.tolist() == [Source.BASELINE] * 4
        assert decision.failures["previous"] == "non-finite: as told"

    @pytest.mark.parametrize(
        "answer",
        [ValueError("rule"), np.zeros(3, np.int64), np.zeros(4), None, np.full(4, 99)],
        ids=str,
    )
    def test_below_a_broken_baseline_is_hold(self, answer):
        last = np.array([1, 2, 3, 4])
        run = runtime(policy=Scripted("error"), live=breaking("baseline", answer))
        _, decision = ask(run, seen=observe(mask=FULL), state=State(last=last))
        assert decision.actions.tolist() == last.tolist()
        assert decision.source.tolist() == [Source.HOLD] * 4
        assert decision.mode == "hold"
        assert {"baseline", "project"} & set(decision.failures)

    def test_below_hold_is_the_safe_constant(self):
        live = breaking("baseline", ValueError("rule"))
        live.safe = lambda seen: np.full(4, 2)
        _, decision = ask(runtime(Scripted("error"), live=live), seen=observe(mask=FULL))
        assert decision.actions.tolist() == [2] * 4
        assert decision.source.tolist() == [Source.SAFE] * 4
        assert decision.mode == "hold"

    @pytest.mark.parametrize("box", [False, True])
    @pytest.mark.parametrize("error", [ValueError("broken"), None, "?"], ids=str)
    def test_with_nothing_of_the_domain_working_there_is_still_an_answer(self, box, error):
        class Ruin:
            def __getattr__(self, name):
                def part(*_):
                    if isinstance(error, Exception):
                        raise error
                    return error

                if name == "baseline":
                    raise AttributeError(name)
                return part

        seen = observe(box=box, active=[1, 0, 1, 1])
        _, decision = ask(runtime(box=box, live=Ruin()), seen=seen)
        assert feasible(seen, decision.actions)
        assert decision.source.tolist() == [Source.SAFE] * 4
        assert {"project", "baseline", "hold", "safe", "deviation"} <= set(decision.failures)

    def test_infeasible_projections_are_not_believed(self):
        seen = observe(mask=FULL & (np.arange(5) != 3))
        live = breaking("project")
        live.project = lambda seen, wanted, last, agents: ChoiceToy.project(
            live, replace(seen, mask=FULL), wanted, last, agents
        )
        _, decision = ask(runtime(Scripted([3, 3, 3, 3]), live=live), seen=seen)
        assert decision.source.tolist() == [Source.BASELINE] * 4
        assert decision.cause.tolist() == [Cause.ERROR] * 4
        assert decision.failures["project"] == "ValueError: infeasible actions"

    def test_nor_those_that_move_an_agent_with_nothing_to_decide(self):
        live = breaking("project")
        live.project = lambda seen, wanted, last, agents: Projected(
            np.ones(4, np.int64), np.zeros(4, np.int8), np.zeros(4, np.float32)
        )
        seen = observe(mask=FULL, active=[1, 1, 1, 0])
        _, decision = ask(runtime(live=live), seen=seen)
        assert decision.actions.tolist() == [0] * 4
        assert decision.failures["project"] == "ValueError: infeasible actions"

    def test_a_deviation_that_fails_costs_only_the_figure(self):
        _, decision = ask(runtime(live=breaking("deviation", KeyError("x"))))
        assert decision.outcome == "ok"
        assert np.isnan(decision.deviation).all()
        assert decision.failures == {"deviation": "KeyError: 'x'"}

    @pytest.mark.parametrize(
        ("changes", "state", "cause"),
        [
            ({"policy": None}, State(), Cause.NOT_READY),
            ({}, State(forced=True), Cause.OPERATOR),
            ({"policy": None}, State(forced=True), Cause.OPERATOR),
        ],
    )
    def test_without_a_policy_or_by_order_the_baseline_decides(self, changes, state, cause):
        policy = Scripted()
        after, decision = ask(replace(runtime(policy), **changes), state=state)
        assert policy.asked == []
        assert decision.source.tolist() == [Source.BASELINE] * 4
        assert decision.cause.tolist() == [cause] * 4
        assert after.forced == state.forced


class TestTime:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"observed": NOW.wall - 6}, "stale"),
            ({"observed": NOW.wall + 3}, "future"),
            ({"observed": float("nan")}, "stale"),
            ({"received": NOW.mono - 6}, "stale"),
        ],
    )
    def test_old_and_future_observations_are_the_baseline_s(self, fields, reason):
        policy = Scripted()
        _, decision = ask(runtime(policy), settings=settings(deadline=10), **fields)
        assert policy.asked == []
        assert decision.cause.tolist() == [Cause.STALE] * 4
        assert decision.invalid == {reason: 1}

    @pytest.mark.parametrize("observed", [NOW.wall - 5, NOW.wall + 2, None])
    def test_recent_ones_are_not(self, observed):
        assert ask(runtime(), observed=observed)[1].outcome == "ok"

    def test_a_wall_clock_that_jumps_moves_no_deadline(self):
        policy = Scripted()
        for jump in (-3600, 3600):
            now = Clock(NOW.mono, NOW.wall + jump)
            _, decision = ask(runtime(policy), now=now, received=NOW.mono - 0.01)
            assert decision.outcome == "ok"
            assert policy.asked[-1][4] == pytest.approx(0.04 * 0.6)

    def test_a_request_that_waited_too_long_is_answered_without_the_policy(self):
        policy = Scripted()
        state, decision = ask(runtime(policy), received=NOW.mono - 0.06)
        assert policy.asked == []
        assert decision.cause.tolist() == [Cause.DEADLINE] * 4
        assert state.breaker.window == ()


class TestOrder:
    def test_a_seq_that_is_not_newer_is_refused(self):
        from fairlead.platform.decision.types import Rejected

        state, _ = ask(runtime(), client="c", episode="e", seq=5)
        for seq in (5, 4, 0):
            with pytest.raises(Rejected, match="not above 5") as caught:
                ask(runtime(), state=state, client="c", episode="e", seq=seq)
            assert (caught.value.code, caught.value.status) == ("order", 409)
        for fields in ({"seq": 6}, {"seq": -1}, {"episode": "f"}, {"client": "d"}):
            ask(runtime(), state=state, **{"client": "c", "episode": "e", "seq": 5, **fields})

    def test_identities_are_kept_newest_last_and_bounded(self):
        state = State()
        for client in range(100):
            state, _ = ask(runtime(), state=state, client=f"c{client}", seq=1)
        assert len(state.sequence) == 64
        assert state.sequence[-1] == ("c99/", 1) and state.sequence[0] == ("c36/", 1)
        state, _ = ask(runtime(), state=state, client="c36", seq=2)
        assert state.sequence[-1] == ("c36/", 2) and state.sequence[0] == ("c37/", 1)


class TestSimplex:
    """Limit 0 on the toy's cost: positive costs leave no way back."""

    def seen(self, cost):
        seen = observe(mask=FULL)
        candidates = np.full_like(seen.candidates, -1.0)
        candidates[:, 2] = cost
        return replace(seen, candidates=candidates)

    def run(self, answer=(2, 2, 2, 2)):
        return runtime(Scripted(np.array(answer)), live=ChoiceToy(room=4, limit=0.0))

    def test_an_action_without_a_way_back_goes_to_the_baseline(self):
        state, decision = ask(self.run(), seen=self.seen(1.0))
        assert decision.cause.tolist() == [Cause.SIMPLEX] * 4
        assert decision.source.tolist() == [Source.BASELINE] * 4
        assert decision.margin == -4.0
        assert (state.latched, state.clean) == (True, 0)
        assert decision.wanted.tolist() == [2] * 4

    def test_control_returns_after_the_clean_ticks_and_not_before(self):
        knobs = settings(simplex=SimplexSettings(clean_ticks=3))
        state, _ = ask(self.run(), seen=self.seen(1.0), settings=knobs)
        causes = []
        for _ in range(5):
            state, decision = ask(self.run(), seen=self.seen(-1.0), settings=knobs, state=state)
            causes.append(Cause(decision.cause[0]).name)
        assert causes == ["SIMPLEX"] * 3 + ["NONE"] * 2
        assert (state.latched, state.clean) == (False, 0)

    def test_an_intervention_in_between_begins_anew(self):
        knobs = settings(simplex=SimplexSettings(clean_ticks=2))
        state = State(latched=True, clean=1)
        for cost, answer, expected in (
            (1.0, (2,) * 4, (True, 0)),
            (-1.0, (2,) * 4, (True, 1)),
            (-1.0, "error", (True, 0)),
            (-1.0, (2,) * 4, (True, 1)),
            (-1.0, (2,) * 4, (True, 2)),
            (-1.0, (2,) * 4, (False, 0)),
        ):
            run = self.run() if answer != "error" else runtime(Scripted("error"))
            state, _ = ask(run, seen=self.seen(cost), settings=knobs, state=state)
            assert (state.latched, state.clean) == expected

    def test_the_previous_champion_does_not_earn_control_back(self):
        run = replace(self.run(), policy=Scripted("error"), previous=Scripted(np.full(4, 2)))
        state, decision = ask(run, seen=self.seen(-1.0), state=State(latched=True, clean=5))
        assert decision.cause.tolist() == [Cause.SIMPLEX] * 4
        assert (state.latched, state.clean) == (True, 0)

    def test_what_cannot_be_judged_is_refused(self):
        live = breaking("recoverable", ZeroDivisionError("x"))
        state, decision = ask(runtime(live=live))
        assert decision.cause.tolist() == [Cause.SIMPLEX] * 4
        assert state.latched
        assert decision.failures == {"simplex": "ZeroDivisionError: x"}

    @pytest.mark.parametrize("part", ["recoverable", "surely_recoverable"])
    def test_either_look_that_fails_is_a_refusal(self, part):
        _, decision = ask(runtime(live=breaking(part, OSError("x"))))
        assert decision.cause.tolist() == [Cause.SIMPLEX] * 4
        assert decision.failures == {"simplex": "OSError: x"}

    @pytest.mark.parametrize(
        ("sure", "asked"), [(0.25, False), (0.0, False), (-0.1, True), (float("nan"), True)]
    )
    def test_the_baseline_is_asked_only_if_it_is_not_sure_without(self, sure, asked):
        live = breaking("baseline", ValueError("asked"))
        live.sure = sure
        _, decision = ask(runtime(live=live))
        assert ("baseline" in decision.failures) == asked
        assert (decision.outcome == "ok") != asked
        assert asked or decision.margin == sure

    def test_without_a_baseline_there_is_no_way_back(self):
        _, decision = ask(runtime(live=breaking("baseline", ValueError("x"))))
        assert decision.cause.tolist() == [Cause.SIMPLEX] * 4
        assert decision.source.tolist() == [Source.SAFE] * 4

    def test_switched_off_it_lets_everything_pass_and_forgets(self):
        knobs = settings(simplex=SimplexSettings(enabled=False))
        state, decision = ask(
            self.run(), seen=self.seen(1.0), settings=knobs, state=State(latched=True, clean=1)
        )
        assert decision.outcome == "ok" and np.isnan(decision.margin)
        assert (state.latched, state.clean) == (False, 0)


class TestBreaker:
    KNOBS = SlotSettings(breaker=BreakerSettings(window=4, share=0.5, minimum=2, probes=2))

    def test_it_opens_probes_and_closes(self):
        policy, state, now = Scripted("error"), State(), NOW
        for _ in range(2):
            state, _ = ask(runtime(policy), settings=self.KNOBS, state=state, now=now)
        assert state.breaker == Breaker("open", (), NOW.mono, 0, 1)
        asked = len(policy.asked)
        state, decision = ask(runtime(policy), settings=self.KNOBS, state=state, now=now)
        assert decision.cause.tolist() == [Cause.BREAKER] * 4
        assert len(policy.asked) == asked and decision.asked == (None, None)
        policy.answer = "first"
        now = Clock(NOW.mono + 10, NOW.wall)
        for phase, probes in (("half-open", 1), ("closed", 0)):
            state, decision = ask(runtime(policy), settings=self.KNOBS, state=state, now=now)
            # Probes ask the policy and execute the baseline.
            assert decision.source.tolist() == [Source.BASELINE] * 4
            assert decision.cause.tolist() == [Cause.BREAKER] * 4
            assert decision.wanted is not None
            assert (state.breaker.phase, state.breaker.probes) == (phase, probes)
        _, decision = ask(runtime(policy), settings=self.KNOBS, state=state, now=now)
        assert decision.outcome == "ok"

    def test_a_bad_probe_opens_it_again_and_asks_no_previous_one(self):
        previous = Scripted()
        state = State(breaker=Breaker("half-open", (), NOW.mono, 1, 1))
        run = runtime(Scripted("timeout"), previous=previous)
        after, _ = ask(run, settings=self.KNOBS, state=state)
        assert after.breaker == Breaker("open", (), NOW.mono, 0, 2)
        assert previous.asked == []


class TestPurity:
    @pytest.mark.parametrize("box", [False, True])
    def test_the_same_arguments_give_the_same_decision_and_change_nothing(self, box):
        seen = observe(8, box=box, seed=3)
        kept = [array.copy() for array in (seen.agent, seen.candidates, seen.mask, seen.low)]
        run = runtime(agents=8, box=box, live=BoxToy() if box else ChoiceToy(room=1))
        state = State(last=first_legal(seen))
        request = Request(seen, client="c", seq=4)
        results = [decide(run, SlotSettings(), state, request, NOW) for _ in range(2)]
        for one, two in zip(*results, strict=True):
            for name in one.__slots__:
                a, b = getattr(one, name), getattr(two, name)
                if name not in ("seconds", "asked"):
                    assert np.array_equal(a, b, equal_nan=name in ("deviation", "margin")), name
        for before, after in zip(
            kept, (seen.agent, seen.candidates, seen.mask, seen.low), strict=True
        ):
            assert np.array_equal(before, after)
        with pytest.raises(ValueError, match="read-only"):
            results[0][1].actions[0] = 0

    def test_injected_outcomes_recompute_a_decision_without_its_policies(self):
        seen = observe(mask=FULL)
        slow = Scripted(Outcome("timeout", None, 0.03, "no answer"))
        run = runtime(slow, previous=Scripted([1, 2, 3, 4], digest="old"))
        state, decision = ask(run, seen=seen)
        told = replace(
            run,
            policy=Injected("d1gest", decision.asked[0]),
            previous=Injected("old", decision.asked[1]),
        )
        again, same = ask(told, seen=seen)
        assert same.actions.tolist() == decision.actions.tolist() == [1, 2, 3, 4]
        assert same.source.tolist() == decision.source.tolist()
        assert again.breaker == state.breaker

    @pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
    def test_without_time_no_policy_is_asked(self, limit):
        policy = Scripted()
        outcome = asking.ask(policy, observe(), None, seed=1, greedy=None, limit=limit)
        assert (outcome.status, policy.asked) == ("timeout", [])

    def test_inline_policies_report_what_their_backend_does(self):
        def backend(seen, agents, seed, greedy):
            if greedy:
                raise ValueError("no")
            return Inference(first_legal(seen), None)

        seen = observe()
        fields = {"seed": 1, "limit": 1.0}
        assert Inline("x", backend).ask(seen, None, greedy=None, **fields).status == "ok"
        failed = Inline("x", backend).ask(seen, None, greedy=True, **fields)
        assert (failed.status, failed.detail) == ("error", "ValueError('no')")
