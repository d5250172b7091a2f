"""The daemon's parts by themselves: line, budgets, memory, events, supervisor, reload, exposure."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import HandClock, request

from fairlead.platform.config import load
from fairlead.platform.daemon.admission import PRINCIPALS, Budgets, Line, Overloaded
from fairlead.platform.daemon.events import LISTENERS, WAITING, Hub, TooManyListeners
from fairlead.platform.daemon.figures import gauges
from fairlead.platform.daemon.interface import Entry
from fairlead.platform.daemon.memory import ENTRIES, FEWEST, Memory
from fairlead.platform.daemon.notify import Supervisor
from fairlead.platform.daemon.protocol import WHOLE, GuardedProtocol
from fairlead.platform.daemon.reload import compare, slot_settings
from fairlead.platform.daemon.settings import ServeConfig
from fairlead.platform.decision.types import Decision, State
from fairlead.platform.metrics.meter import ContractMeter


def config(*overrides):
    return load(ServeConfig, file=None, overrides=overrides)


def entry(number, *, seq=None, size=1, mono=0.0):
    asked = request(5, seq=number if seq is None else seq)
    agent = np.zeros((size, 1), np.float32)
    asked = replace(asked, observation=replace(asked.observation, agent=agent))
    nothing = np.zeros(0, np.int8)
    decision = Decision(
        actions=np.zeros(0, np.int64), source=nothing, cause=nothing, outcome="ok", mode="policy",
        bundle="", seed=0, asked=(None, None), distance=np.zeros(0, np.float32), margin=0.0,
        deviation=np.zeros(0, np.float32), wanted=None, preference=None, invalid={}, seconds={},
    )  # fmt: skip
    clock = replace(HandClock()(), mono=mono)
    return Entry(f"cloud-0-{number}", "cloud", clock, asked, decision, State())


# Admission.


def line(limit=2, patience=10.0):
    meter = ContractMeter(domains=["cloud"])
    return Line(domain="cloud", meter=meter, limit=limit, patience=patience), meter


@given(st.lists(st.sampled_from(["ask", "ask", "ask", "cancel", "step"]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_line_is_first_come_first_served_whatever_is_cancelled(acts):
    async def play():
        served, waiting, refused = [], {}, 0
        queue, _ = line(limit=4)

        async def client(number):
            async with queue.turn(time.monotonic()):
                served.append(number)

        for number, act in enumerate(acts):
            if act == "ask":
                waiting[number] = asyncio.create_task(client(number))
            elif act == "cancel" and waiting:
                waiting[min(waiting)].cancel()
                waiting.pop(min(waiting))
            else:
                await asyncio.sleep(0)
        done = await asyncio.gather(*waiting.values(), return_exceptions=True)
        refused = sum(isinstance(each, Overloaded) for each in done)
        assert all(each is None or isinstance(each, Overloaded) for each in done)
        assert len([n for n in served if n in waiting]) + refused == len(waiting)
        assert served == sorted(served)
        for _ in range(3):
            await asyncio.sleep(0)
        assert queue.waiting == 0
        await client(-1)  # nothing is stuck
        assert served[-1] == -1

    asyncio.run(play())


def test_a_full_line_refuses_at_once():
    async def play():
        queue, meter = line(limit=2)
        held = asyncio.Event()

        async def client(number):
            async with queue.turn(time.monotonic()):
                await held.wait()
            return number

        tasks = [asyncio.create_task(client(i)) for i in range(5)]
        await asyncio.sleep(0.01)
        assert queue.waiting == 2
        assert meter.value("queue_length", domain="cloud") == 2
        assert [task.done() for task in tasks] == [False, False, False, True, True]
        assert all(task.exception().reason == "overload" for task in tasks[3:])
        held.set()
        assert await asyncio.gather(*tasks[:3]) == [0, 1, 2]
        assert meter.value("inflight_requests", domain="cloud") == 0

    asyncio.run(play())


def test_a_self_test_waits_but_is_never_refused():
    async def play():
        queue, _ = line(limit=1, patience=0.01)
        held = asyncio.Event()
        served = []

        async def client(name, *, always=False):
            async with queue.turn(time.monotonic(), always=always):
                served.append(name)
                if name == "first":
                    await held.wait()

        tasks = [asyncio.create_task(client("first")), asyncio.create_task(client("second"))]
        await asyncio.sleep(0)
        probe = asyncio.create_task(client("probe", always=True))
        await asyncio.sleep(0.03)
        held.set()
        await probe
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[1], Overloaded)  # it waited too long
        assert served == ["first", "probe"]

    asyncio.run(play())


def test_what_would_be_answered_too_late_is_refused():
    async def play():
        queue, _ = line(limit=50, patience=0.05)
        with pytest.raises(Overloaded):
            async with queue.turn(time.monotonic() - 1.0):
                pass
        for _ in range(40):  # turns of 10 ms are learnt
            async with queue.turn(time.monotonic()):
                time.sleep(0.01)  # noqa: ASYNC251 - decisions hold the loop
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async def client():
            async with queue.turn(time.monotonic()):
                time.sleep(0.01)  # noqa: ASYNC251 - decisions hold the loop

        tasks = [asyncio.create_task(client()) for _ in range(20)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        served = sum(each is None for each in done)
        assert 2 <= served <= 7  # about 50 ms / 10 ms

    asyncio.run(play())


def test_budgets_refill_with_time_and_are_bounded_in_number():
    now = [0.0]
    budgets = Budgets(rate=2.0, burst=3, clock=lambda: now[0])
    for _ in range(3):
        budgets.spend("a")
    with pytest.raises(Overloaded) as caught:
        budgets.spend("a")
    assert caught.value.reason == "quota"
    assert caught.value.after == pytest.approx(0.5)
    budgets.spend("b")  # somebody else's
    now[0] = 0.5
    budgets.spend("a")
    with pytest.raises(Overloaded):
        budgets.spend("a")
    for number in range(3 * PRINCIPALS):
        budgets.spend(f"p{number}")
    assert len(budgets._level) == PRINCIPALS


# Memory.


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 400)), max_size=80))
@settings(max_examples=60, deadline=None)
def test_memory_is_bounded_and_finds_what_it_keeps(added):
    limit = 3000
    memory = Memory(limit=limit)
    for number, (seq, size) in enumerate(added):
        memory.add(entry(number, seq=seq, size=size), 0.001)
        kept = memory.latest(1000)
        assert memory.size == sum(e.request.observation.agent.nbytes for e in kept) + sum(
            sum(
                getattr(e.request.observation, n).nbytes
                for n in ("candidates", "target", "mask", "low", "high")
            )
            for e in kept
        )
        assert memory.size <= limit or len(kept) <= FEWEST
        assert memory.find(kept[0].id) is kept[0]
        assert memory.repeated(request(5, seq=seq)).id == f"cloud-0-{number}"
    ids = {e.id for e in memory.latest(1000)}
    assert all(
        (memory.find(f"cloud-0-{n}") is not None) == (f"cloud-0-{n}" in ids) for n in range(80)
    )


def test_memory_keeps_at_most_its_number_and_tells_rates():
    memory = Memory(limit=10**9)
    for number in range(ENTRIES + 50):
        memory.add(entry(number, mono=0.1 * number), 0.001 if number % 50 else 0.1)
    assert len(memory.latest(10_000)) == ENTRIES
    assert memory.find("cloud-0-10") is None
    assert memory.repeated(request(5, seq=10)) is None
    assert memory.repeated(request(5, seq=-1)) is None
    assert memory.rate(0.1 * (ENTRIES + 49)) == pytest.approx(10.0, rel=0.05)
    half, most = memory.durations()
    assert half == 0.001
    assert most > 0.001
    assert Memory(limit=1).rate(0.0) == 0.0


# Events.


def test_a_slow_listener_loses_the_oldest_and_is_told():
    async def play():
        hub = Hub()
        hub.attach(asyncio.get_running_loop())
        stream = hub.stream()
        assert await anext(stream) == b"retry: 1000\n\n"
        for number in range(WAITING + 10):
            hub.publish("mode", "cloud", float(number), {"number": number})
        text = (await anext(stream)).decode()
        assert text.startswith('event: lost\ndata: {"events": 10}')
        numbers = [
            json.loads(x[6:])["number"] for x in text.splitlines() if x[6:].startswith('{"id')
        ]
        assert numbers == list(range(10, WAITING + 10))
        hub.close()
        assert [part async for part in stream] == []

    asyncio.run(play())


def test_events_come_from_any_thread_and_can_be_caught_up():
    async def play():
        hub = Hub()
        hub.attach(asyncio.get_running_loop())
        await asyncio.to_thread(hub.publish, "load", "cloud", 1.0, {"n": np.int64(3)})
        await asyncio.sleep(0.01)
        stream = hub.stream(after=0)
        await anext(stream)
        assert b'"n":3' in await anext(stream)
        assert hub.latest()[0]["kind"] == "load"
        await stream.aclose()
        streams = [hub.stream() for _ in range(LISTENERS)]
        for each in streams:
            await anext(each)
        with pytest.raises(TooManyListeners):
            await anext(hub.stream())
        for each in streams:
            await each.aclose()
        await anext(hub.stream())

    asyncio.run(play())


# Supervisor.


def test_the_supervisor_gets_datagrams_also_on_an_abstract_socket(tmp_path, monkeypatch):
    for address, bound in (
        (str(tmp_path / "n"), str(tmp_path / "n")),
        ("@fl-test-n", "\0fl-test-n"),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(bound)
            assert Supervisor(address=address, watchdog=None).tell("READY=1", "STATUS=x")
            assert sock.recv(100) == b"READY=1\nSTATUS=x"
    assert not Supervisor(address=str(tmp_path / "gone"), watchdog=None).tell("READY=1")
    assert not Supervisor(address="", watchdog=None).tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "@x")
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    assert Supervisor.from_environment().watchdog == 2.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Supervisor.from_environment().watchdog is None


# Reload.


def test_only_safe_knobs_change_in_a_running_daemon():
    old = config("server.port=0")
    new = config(
        "server.port=9999",
        "admission.queue=3",
        "slot.deadline=0.2",
        "slot.backend=onnx",
        "slots.cloud.simplex.clean_ticks=3",
        "slots.cloud.sample=no",
        "slots.cloud.simplex.limit=3.0",
        "state.folder=elsewhere",
        "tick.cloud=2.0",
    )
    change = compare(old, new)
    assert change.applied == (
        "admission.queue",
        "slot.deadline",
        "slots.cloud.simplex.clean_ticks",
        "tick.cloud",
    )
    built = {"slot.backend", "slots.cloud.sample", "slots.cloud.simplex.limit"}
    assert {"server.port", "state.folder", *built} <= set(change.refused)
    assert change.settings.server.port == 0
    assert change.settings.slot.backend == "numpy"
    assert change.settings.admission.queue == 3
    own = slot_settings(change.settings, "cloud")
    assert (own.simplex.limit, own.simplex.clean_ticks) == (2.0, 3)
    assert (own.deadline, own.sample) == (0.2, "bundle")
    assert compare(old, old).applied == compare(old, old).refused == ()


def test_a_domains_own_knobs_lie_on_top_of_the_general_ones():
    found = config("slot.deadline=0.2", "slots.cloud.breaker.share=0.9")
    knobs = slot_settings(found, "cloud")
    assert (knobs.deadline, knobs.breaker.share) == (0.2, 0.9)
    assert slot_settings(found, "power").breaker.share == 0.5


# Figures.


class FlatLive:
    """A domain in which nothing costs anything."""

    def objective(self, observation, actions):
        return 0.0, 0.0


def entropy(**changes):
    """Of a decision whose scores like every candidate equally."""
    given = entry(1)
    asked = request(5, **changes)
    rows = len(asked.observation.agent)
    decision = replace(
        given.decision,
        actions=np.zeros(rows, np.int64),
        cause=np.zeros(rows, np.int8),
        preference=np.zeros(asked.observation.mask.shape, np.float32),
    )
    return gauges(replace(given, request=asked, decision=decision), FlatLive()).entropy


def test_where_nobody_has_a_choice_there_is_no_entropy():
    seen = request(5).observation
    choices = seen.mask.sum(axis=1)[seen.active & (seen.mask.sum(axis=1) > 1)]
    assert entropy() == pytest.approx(np.log(choices).mean())
    nobody = np.zeros_like(seen.active)
    assert np.isnan(entropy(active=nobody))
    only_hold = np.zeros_like(seen.mask)
    only_hold[:, 0] = True
    assert np.isnan(entropy(mask=only_hold))


@settings(max_examples=60)
@given(st.lists(st.integers(0, WHOLE + 9), max_size=6), st.booleans())
def test_bodies_reach_the_application_as_they_were_sent(sizes, taken):
    """In one piece up to a size; beyond, the pieces that are taken and the rest are all of it."""
    protocol = GuardedProtocol.__new__(GuardedProtocol)
    protocol._refused, protocol._pieces, protocol._held = False, [], 0
    woken = []
    cycle = SimpleNamespace(
        body=bytearray(),
        more_body=True,
        response_complete=False,
        message_event=SimpleNamespace(set=lambda: woken.append(len(cycle.body))),
    )
    protocol.cycle, protocol.flow = cycle, SimpleNamespace(pause_reading=lambda: None)
    protocol.parser = SimpleNamespace(should_upgrade=lambda: False)
    sent = [bytes([index]) * size for index, size in enumerate(sizes)]
    got = b""
    for piece in sent:
        protocol.on_body(piece)
        assert protocol._held <= WHOLE, "what is held is bounded"
        if taken:  # as uvicorn's receive() does
            got, cycle.body = got + bytes(cycle.body), bytearray()
    protocol.on_message_complete()
    assert got + bytes(cycle.body) == b"".join(sent) and not cycle.more_body
    if sum(sizes) <= WHOLE:
        assert woken == [sum(sizes)]
