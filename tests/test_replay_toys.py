"""Any decision of two small domains, whatever fails in it, is recomputed from its bytes alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_doubles import same
from decision_toys import NOW, BoxToy, ChoiceToy, Scripted, observe, runtime
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.platform.audit.codec import decode, encode_entry
from fairlead.platform.audit.recompute import recompute
from fairlead.platform.daemon.interface import Entry
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Clock, Rejected, Request, State

METHODS = ("act", "project", "recoverable", "surely_recoverable", "hold", "safe", "deviation")


class Moody:
    """A toy domain, some methods of which raise."""

    name, information = "moody", "same"

    def __init__(self, live, broken):
        self._live, self._broken = live, broken

    @property
    def baseline(self):
        return self if "act" in self._broken else self._live.baseline

    def __getattr__(self, name):
        if name in self._broken:
            raise RuntimeError(f"{name} is broken today")
        return getattr(self._live, name)


def recorded(run, slot, state, request, now):
    """State after, and the entry as it comes back from its bytes."""
    after, decision = decide(run, slot, state, request, now)
    previous = "" if run.previous is None else run.previous.digest
    entry = Entry("toy-00000000-0", "toy", now, request, decision, state, previous=previous)
    found = decode(encode_entry(entry, full=True)).entry
    assert same(found.decision, decision)
    return after, found


@given(data=st.data(), box=st.booleans())
@settings(max_examples=30, deadline=None)
def test_whatever_happened_is_recomputed_identically(data, box):
    slot = SlotSettings(
        breaker={"minimum": 2, "window": 3, "open_time": 1.5, "probes": 2},
        validation={"imputed_share": 0.6},
    )
    sound = BoxToy(limit=3.0) if box else ChoiceToy(room=2, limit=8.0)
    state, mono = State(), NOW.mono
    for tick in range(data.draw(st.integers(1, 8))):
        mono += data.draw(st.sampled_from([0.1, 1.0, 7.0]))
        now = Clock(mono, NOW.wall + mono)
        agents = data.draw(st.sampled_from([None, np.array([2, 0]), np.array([1, 3, 0])]))
        rows = 4 if agents is None else len(agents)
        seen = observe(rows, box=box, seed=data.draw(st.integers(0, 50)))
        if data.draw(st.booleans()):
            agent = seen.agent.copy()
            agent[0, 0] = data.draw(st.sampled_from([np.nan, np.inf, 1e9, -1.0]))
            seen = replace(seen, agent=agent)
        answers = st.sampled_from(["first", "first", "timeout", "error", "non-finite"])
        broken = data.draw(st.sets(st.sampled_from(METHODS), max_size=2))
        run = runtime(Scripted(data.draw(answers)), box=box, live=Moody(sound, broken))
        if data.draw(st.booleans()):
            run = replace(run, previous=Scripted(data.draw(answers), digest="before"))
        state = replace(state, forced=data.draw(st.integers(0, 9)) == 0)
        request = Request(
            seen,
            agents=agents,
            seq=tick,
            observed=now.wall - data.draw(st.sampled_from([0.0, 100.0])),
            received=mono - data.draw(st.sampled_from([0.0, 0.01, 9.0])),
        )
        state, entry = recorded(run, slot, state, request, now)
        # Policies that answered are asked again; the domain's part is sound by now.
        again = runtime(Scripted("first"), box=box, live=sound)
        if run.previous is not None:
            again = replace(again, previous=Scripted("first", digest="before"))
        verdict = recompute(entry, again, slot)
        assert verdict.identical, verdict.differences
        kept = replace(verdict.after, sequence=state.sequence)
        assert same(replace(kept, last=None), replace(state, last=None))
        assert np.array_equal(kept.last, state.last, equal_nan=box)


@pytest.mark.parametrize("broken", METHODS)
def test_a_part_that_raised_then_raises_again(broken):
    slot = SlotSettings()
    sound = ChoiceToy(room=2)
    policy = Scripted("error" if broken in ("act", "hold", "safe") else "first")
    parts = {broken} | ({"act"} if broken in ("hold", "safe") else set())
    run = runtime(policy, live=Moody(sound, parts))
    _, entry = recorded(run, slot, State(), Request(observe(seed=3), seq=0), NOW)
    reached = entry.decision.failures
    if broken == "surely_recoverable" and not reached:
        pytest.skip("this decision asks recoverable only")
    assert reached
    assert recompute(entry, runtime(Scripted("first"), live=sound), slot).identical
    # Had nothing been recorded of the failure, the difference would show.
    silent = replace(entry, decision=replace(entry.decision, failures={}))
    assert not recompute(silent, runtime(Scripted("first"), live=sound), slot).identical


def test_a_policy_that_answers_otherwise_now_is_told():
    _, entry = recorded(runtime(), SlotSettings(), State(), Request(observe(seed=3), seq=0), NOW)
    other = np.zeros(4, np.int64)
    verdict = recompute(entry, runtime(Scripted(other)), SlotSettings())
    assert any("actions" in difference for difference in verdict.differences)
    verdict = recompute(entry, runtime(Scripted("timeout")), SlotSettings())
    assert "timeout now (as told), ok then" in verdict.differences[0]
    odd = replace(entry.request, observation=observe(3))
    with pytest.raises(Rejected):
        decide(runtime(), SlotSettings(), State(), odd, NOW)
    assert (
        "refused now"
        in recompute(replace(entry, request=odd), runtime(), SlotSettings()).differences[0]
    )
