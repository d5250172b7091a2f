"""A policy in its own thread: late, hung, raising and lying backends, and what is left of them."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import serving
from decision_toys import ask, first_legal, observe, runtime

from fairlead.platform.decision.asking import Inline
from fairlead.platform.decision.ladder import feasible
from fairlead.platform.decision.settings import BreakerSettings, SlotSettings
from fairlead.platform.decision.supervised import Supervised
from fairlead.platform.decision.types import Cause, Inference, State
from fairlead.policies.acting import PolicyActor

SEEN = observe()


class Backend:
    """Answers, waits for ``gate``, or raises, as it is told."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.error, self.answer = None, None
        self.calls, self.threads = 0, set()

    def __call__(self, observation, agents, seed, greedy):
        self.calls += 1
        self.threads.add(threading.get_ident())
        self.gate.wait(20)
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            return self.answer
        return Inference(first_legal(observation), None)


@pytest.fixture
def backend():
    made = Backend()
    yield made
    made.gate.set()


def asking(policy, limit=5.0, **fields):
    return policy.ask(SEEN, None, seed=1, greedy=None, limit=limit, **fields)


def threads(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def eventually(holds, timeout=5.0):
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_answers_come_from_one_other_thread(backend):
    policy = Supervised(digest="abc", backend=backend)
    for _ in range(20):
        outcome = asking(policy)
        assert outcome.status == "ok"
        assert outcome.inference.actions.tolist() == first_legal(SEEN).tolist()
        assert 0 < outcome.seconds < 5
    assert policy.digest == "abc"
    assert len(backend.threads) == 1
    assert threading.get_ident() not in backend.threads


def test_a_late_answer_is_a_timeout_and_reaches_nobody(backend):
    policy = Supervised(digest="x", backend=backend)
    backend.gate.clear()
    backend.answer = Inference(np.zeros(4, np.int64), None)
    began = time.perf_counter()
    outcome = asking(policy, 0.02)
    assert outcome.status == "timeout" and outcome.inference is None
    assert 0.02 <= time.perf_counter() - began < 2.0
    backend.gate.set()
    eventually(lambda: not policy._crew.current.busy)
    backend.answer = Inference(np.full(4, 2), None)
    assert asking(policy).inference.actions.tolist() == [2] * 4
    # It came back in time to be used again.
    assert len(backend.threads) == 1 and policy.abandoned == 0


def test_a_hung_thread_is_abandoned_and_the_next_asking_has_another(backend):
    policy = Supervised(digest="x", backend=backend)
    backend.gate.clear()
    assert asking(policy, 0.01).status == "timeout"
    eventually(lambda: backend.calls == 1)
    hung = backend.gate
    backend.gate = threading.Event()
    backend.gate.set()
    assert asking(policy).status == "ok"
    assert policy.abandoned == 1
    assert len(backend.threads) == 2
    hung.set()
    eventually(lambda: policy.abandoned == 0)


def test_so_many_may_hang_and_then_it_is_not_asked_until_one_ends(backend):
    policy = Supervised(digest="x", backend=backend, name="hanging", abandoned=2)
    backend.gate.clear()
    for _ in range(3):
        assert asking(policy, 0.01).status == "timeout"
    eventually(lambda: backend.calls == 3)
    assert policy.abandoned == 2
    for _ in range(5):
        outcome = asking(policy, 0.01)
        assert outcome.status == "error" and "3 askings hang" in outcome.detail
        assert outcome.seconds < 0.01
    assert backend.calls == 3 and len(threads("hanging")) == 3
    backend.gate.set()
    eventually(lambda: len(threads("hanging")) == 1)
    assert asking(policy).status == "ok"
    assert policy.abandoned == 0


@pytest.mark.parametrize(
    "error", [ValueError("bad"), MemoryError(), SystemExit(3), KeyboardInterrupt()], ids=repr
)
def test_whatever_it_raises_is_its_answer(backend, error):
    policy = Supervised(digest="x", backend=backend)
    backend.error = error
    outcome = asking(policy)
    assert (outcome.status, outcome.detail) == ("error", repr(error))
    backend.error = None
    assert asking(policy).status == "ok"
    assert len(backend.threads) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Inference(np.zeros(4), None), "error"),
        (Inference(np.zeros(5, np.int64), None), "error"),
        (Inference(np.full(4, 7), None), "error"),
        (Inference(np.zeros(4, np.int64), np.full((4, 5), np.inf)), "non-finite"),
        ("rubbish", "error"),
    ],
)
def test_answers_are_examined(backend, answer, status):
    backend.answer = answer
    outcome = asking(Supervised(digest="x", backend=backend))
    assert outcome.status == status and outcome.detail and outcome.inference is None


def test_set_points_are_examined(backend):
    seen = observe(box=True)
    policy = Supervised(digest="x", backend=backend)
    for value, status in ((0.0, "ok"), (np.nan, "non-finite")):
        backend.answer = Inference(np.full((4, 2), value, np.float32), None)
        assert policy.ask(seen, None, seed=1, greedy=None, limit=5).status == status


def test_no_time_is_no_asking(backend):
    policy = Supervised(digest="x", backend=backend)
    for limit in (0.0, -1.0, float("nan")):
        assert asking(policy, limit).status == "timeout"
    assert backend.calls == 0
    assert asking(policy, float("inf")).status == "ok"


def test_callers_of_several_threads_are_served_in_turn(backend):
    policy = Supervised(digest="x", backend=backend)
    outcomes = []

    def work():
        outcomes.extend(asking(policy).status for _ in range(50))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert outcomes == ["ok"] * 200 and len(backend.threads) == 1


def test_waiting_for_one_s_turn_counts(backend):
    policy = Supervised(digest="x", backend=backend)
    backend.gate.clear()
    first = threading.Thread(target=asking, args=(policy, 0.5))
    first.start()
    eventually(lambda: backend.calls == 1)
    outcome = asking(policy, 0.02)
    assert outcome.status == "timeout" and "turn" in outcome.detail
    backend.gate.set()
    first.join()


def test_closed_or_forgotten_policies_leave_no_thread(backend):
    policy = Supervised(digest="x", backend=backend, name="leaving")
    asking(policy)
    policy.close()
    eventually(lambda: not threads("leaving"))
    outcome = asking(policy)
    assert (outcome.status, outcome.detail) == ("error", "the policy was closed")
    # As 200 reloads do, without anybody calling close.
    for _ in range(200):
        policy = Supervised(digest="x", backend=backend, name="leaving")
        asking(policy)
    del policy
    gc.collect()
    eventually(lambda: not threads("leaving"))


def test_a_system_without_threads_left_is_an_error(backend, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    outcome = asking(Supervised(digest="x", backend=backend))
    assert outcome.status == "error" and "can't start new thread" in outcome.detail


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_the_thread_follows_its_caller_and_is_let_go_when_late(backend):
    policy = Supervised(digest="x", backend=backend, name="following")
    allowed = os.sched_getaffinity(0)
    asking(policy)
    (worker,) = threads("following")
    assert len(os.sched_getaffinity(worker.native_id)) == 1
    backend.gate.clear()
    assert asking(policy, 0.01).status == "timeout"
    assert os.sched_getaffinity(worker.native_id) == allowed == os.sched_getaffinity(0)


def test_a_backend_that_never_lets_go_of_the_interpreter_is_late_by_the_switch_interval():
    def spin(observation, agents, seed, greedy):
        end = time.perf_counter() + 0.5
        while time.perf_counter() < end:
            pass
        return Inference(first_legal(observation), None)

    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        waits = []
        for _ in range(3):
            began = time.perf_counter()
            assert asking(Supervised(digest="x", backend=spin), 0.02).status == "timeout"
            waits.append(time.perf_counter() - began)
    finally:
        sys.setswitchinterval(before)
    # The best of three: other processes may take the processor away at any time.
    assert min(waits) < 0.06


def test_a_decision_with_a_policy_that_hangs_is_in_time(backend):
    backend.gate.clear()
    knobs = SlotSettings(deadline=0.1, breaker=BreakerSettings(minimum=3, share=1.0))
    policy, state, waits = Supervised(digest="x", backend=backend), State(), []
    for tick in range(5):
        began = time.perf_counter()
        state, decision = ask(runtime(policy), seen=SEEN, settings=knobs, state=state)
        waits.append(time.perf_counter() - began)
        assert set(decision.cause.tolist()) == {Cause.DEADLINE if tick < 3 else Cause.BREAKER}
        assert feasible(SEEN, decision.actions)
    # The best of three, as above; once the breaker is open nobody waits for it any more.
    assert 0.06 <= min(waits[:3]) < 0.1
    assert min(waits[3:]) < 0.03
    assert policy.abandoned == 2


def test_the_hand_over_costs_little_beside_the_policy():
    spec, arrays, _ = serving.recorded(200)
    actor = PolicyActor(spec, arrays, name="p")
    seen = replace(serving.observations(200)[5])

    def backend(observation, agents, seed, greedy):
        return Inference(actor.act(observation, np.random.default_rng(seed)), None)

    def fastest(policy):
        best = np.inf
        for _ in range(300):
            began = time.perf_counter()
            assert policy.ask(seen, None, seed=1, greedy=None, limit=5).status == "ok"
            best = min(best, time.perf_counter() - began)
        return best

    alone = min(fastest(Inline("x", backend)) for _ in range(2))
    supervised = min(fastest(Supervised(digest="x", backend=backend)) for _ in range(2))
    assert supervised - alone < 0.0003
