"""Runs of decisions against a small model: modes, switch, breaker, order, and what always holds."""

from __future__ import annotations

import numpy as np
import pytest
from decision_toys import BoxToy, ChoiceToy, Scripted, observe, runtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fairlead.platform.decision.core import decide
from fairlead.platform.decision.ladder import feasible
from fairlead.platform.decision.settings import (
    BreakerSettings,
    SimplexSettings,
    SlotSettings,
)
from fairlead.platform.decision.types import (
    Cause,
    Clock,
    Outcome,
    Rejected,
    Request,
    Source,
    State,
)

KNOBS = SlotSettings(
    simplex=SimplexSettings(clean_ticks=2),
    breaker=BreakerSettings(window=4, share=0.5, minimum=2, open_time=10.0, probes=2),
)
FAILURES = {"timeout": "DEADLINE", "error": "ERROR", "non-finite": "NON_FINITE"}


class Model:
    """What the contract says happens to the modes, in fifty lines and without any arrays."""

    def __init__(self):
        self.forced, self.latched, self.clean = False, False, 0
        self.phase, self.window, self.since, self.probes = "closed", [], 0.0, 0
        self.newest, self.mode = -1, "hold"

    def tick(self, now, *, answer, previous, late, recoverable):
        """Cause of every agent's action, and who made it."""
        cause, maker = self.ask(now, answer, late)
        if cause in FAILURES.values() and previous == "first":
            maker = "PREVIOUS"
        if maker and not recoverable:
            self.latched, self.clean, cause, maker = True, 0, "SIMPLEX", None
        elif maker and self.latched:
            if maker == "PREVIOUS":
                self.clean, cause, maker = 0, "SIMPLEX", None
            elif self.clean >= 2:
                self.latched, self.clean = False, 0
            else:
                self.clean, cause, maker = self.clean + 1, "SIMPLEX", None
        elif not maker:
            self.clean = 0
        self.mode = "policy" if maker == "POLICY" else "fallback"
        return cause, maker or "BASELINE"

    def ask(self, now, answer, late):
        if self.forced:
            return "OPERATOR", None
        if late:
            return "STALE", None
        if self.phase == "open":
            if now - self.since < 10.0:
                return "BREAKER", None
            self.phase, self.probes = "half-open", 0
        failed = answer in FAILURES
        if self.phase == "half-open":
            self.probes += 1
            if failed:
                self.open(now)
            elif self.probes == 2:
                self.phase, self.window = "closed", []
            return "BREAKER", None
        self.window = [*self.window, failed][-4:]
        if failed and len(self.window) >= 2 and sum(self.window) * 2 >= len(self.window):
            self.open(now)
        return (FAILURES[answer], None) if failed else ("NONE", "POLICY")

    def open(self, now):
        self.phase, self.since, self.window = "open", now, []


class Looking(ChoiceToy):
    """A toy whose look-ahead says what the test wants."""

    verdict = True

    def recoverable(self, observation, actions, baseline):
        return self.verdict, 1.0 if self.verdict else -1.0

    def surely_recoverable(self, observation, actions):
        # Sure of half of what is recoverable.
        return 0.5 if self.verdict and actions.sum() > 2 else -1.0


class LookingBox(BoxToy):
    verdict = True
    recoverable = Looking.recoverable
    surely_recoverable = Looking.surely_recoverable


class Decisions(RuleBasedStateMachine):
    """Requests, failures, operators and time in any order."""

    @initialize(box=st.booleans())
    def begin(self, box):
        self.box, self.live = box, (LookingBox() if box else Looking(room=3))
        self.policy, self.previous = Scripted(), Scripted(digest="older")
        self.run = runtime(self.policy, agents=3, box=box, live=self.live, previous=self.previous)
        self.state, self.model, self.now, self.seq = State(), Model(), 500.0, 0

    def observe(self, seed):
        return observe(3, box=self.box, seed=seed)

    @rule(
        seed=st.integers(0, 50),
        answer=st.sampled_from(["first"] * 4 + list(FAILURES)),
        previous=st.sampled_from(["first", "error"]),
        late=st.sampled_from([False, False, False, True]),
        recoverable=st.sampled_from([True, True, True, False]),
        step=st.sampled_from([0.0, 1.0, 6.0]),
    )
    def tick(self, seed, answer, previous, late, recoverable, step):
        self.now += step
        self.seq += 1
        self.policy.answer, self.previous.answer = answer, previous
        self.live.verdict = recoverable
        asked, spared = len(self.policy.asked), len(self.previous.asked)
        seen = self.observe(seed)
        clock = Clock(self.now, 1e9)
        request = Request(seen, client="c", seq=self.seq, observed=1e9 - (60 if late else 0))
        before = self.state
        self.state, decision = decide(self.run, KNOBS, before, request, clock)
        cause, maker = self.model.tick(
            self.now, answer=answer, previous=previous, late=late, recoverable=recoverable
        )
        assert {Cause(c).name for c in decision.cause if c < Cause.BOX} <= {cause}
        made = {Source(s).name for s in decision.source}
        assert made <= ({"POLICY", "PROJECTED"} if maker == "POLICY" else {maker})
        assert decision.outcome == ("ok" if maker == "POLICY" else "fallback")
        assert feasible(seen, decision.actions)
        again = self.live.project(seen, decision.actions, before.last, None)
        assert (again.actions == decision.actions).all() and not again.distance.any()
        assert np.array_equal(self.state.last, decision.actions)
        # Nobody is asked in vain, and the policy never while the breaker is open or by order.
        silent = cause in ("OPERATOR", "STALE") or (cause == "BREAKER" and not decision.asked[0])
        assert len(self.policy.asked) - asked == (not silent)
        failed = answer in FAILURES and not silent and cause != "BREAKER"
        assert len(self.previous.asked) - spared == failed
        assert decision.failures.keys() <= {"previous"}

    @rule()
    def operator(self):
        self.model.forced = not self.model.forced
        self.state = State(
            **{n: getattr(self.state, n) for n in State.__slots__ if n != "forced"},
            forced=self.model.forced,
        )

    @rule(back=st.integers(0, 3))
    def repeat(self, back):
        request = Request(self.observe(1), client="c", seq=max(self.seq - back, 0))
        if self.seq == 0:
            return
        with pytest.raises(Rejected):
            decide(self.run, KNOBS, self.state, request, Clock(self.now, 1e9))

    @invariant()
    def state_is_the_model_s(self):
        if not hasattr(self, "model") or self.state.ticks == 0:
            return
        state, model = self.state, self.model
        assert (state.mode, state.forced) == (model.mode, model.forced)
        assert (state.latched, state.clean) == (model.latched, model.clean)
        assert state.breaker.phase == model.phase
        assert list(state.breaker.window) == model.window
        assert state.ticks == self.seq


TestDecisions = Decisions.TestCase
TestDecisions.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), box=st.booleans(), seed=st.integers(0, 10**6))
def test_actions_are_feasible_and_projected_once_whatever_fails(data, box, seed):
    """Any answer of the policy, any part broken, any subset of agents, any rows inactive."""
    live = BoxToy() if box else ChoiceToy(room=data.draw(st.integers(1, 3)))
    for part in data.draw(
        st.sets(st.sampled_from(["hold", "safe", "recoverable", "surely_recoverable", "deviation"]))
    ):
        setattr(live, part, lambda *_: 1 / 0)
    agents = np.array(data.draw(st.permutations(range(6))))[: data.draw(st.integers(1, 6))]
    active = data.draw(st.lists(st.booleans(), min_size=len(agents), max_size=len(agents)))
    seen = observe(len(agents), box=box, seed=seed, active=active)
    rng = np.random.default_rng(seed)
    anything = (
        rng.normal(0, 3, (len(agents), 2)).astype(np.float32)
        if box
        else rng.integers(0, 5, len(agents))
    )
    bad = Outcome("error", None, 0.0)
    policy = Scripted(data.draw(st.sampled_from([anything, anything, bad, "timeout"])))
    last = None
    if data.draw(st.booleans()):
        last = rng.normal(0, 1, (6, 2)).astype(np.float32) if box else rng.integers(0, 5, 6)
    run = runtime(policy, agents=6, box=box, live=live)
    request = Request(seen, agents=agents)
    state, decision = decide(run, KNOBS, State(last=last), request, Clock(1.0, 1.0))
    assert feasible(seen, decision.actions)
    assert np.isfinite(state.last[agents]).all()
    if not {Source.HOLD, Source.SAFE} & set(decision.source.tolist()):
        again = live.project(seen, decision.actions, last, agents)
        assert (again.actions == decision.actions).all() and not again.distance.any()
    assert np.isfinite(decision.distance).all()
    # An untouched policy's action is exactly what it asked for; the inactive do not ask.
    plain = (decision.source == Source.POLICY) & seen.active
    if decision.wanted is not None:
        assert (decision.actions[plain] == decision.wanted[plain]).all()
    assert ((decision.cause == 0) == (decision.source == Source.POLICY)).all()
