"""The cloud kernel against small naive simulators that share no code or idea with it.

The naive ones advance all jobs at every event and know neither virtual time, heaps nor lazy timers.
"""

from __future__ import annotations

from itertools import count
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.simulators.calendar import Calendar
from fairlead.simulators.cloud.kernel import Job, Seat
from fairlead.simulators.cloud.stations import FirstComeFirstServed, ProcessorSharing

GRID = 0.25
"""Half of all examples lie on this grid, so that arrivals and departures often coincide."""

times = st.one_of(st.integers(0, 40).map(lambda i: i * GRID), st.floats(0, 10))
services = st.one_of(st.integers(1, 12).map(lambda i: i * GRID), st.floats(0.01, 4))
workloads = st.lists(st.tuples(times, services), min_size=1, max_size=25).map(sorted)


def naive_sharing(workload, stop=inf):
    """Finish times, and (remaining, busy) at ``stop``, of one egalitarian PS server."""
    left: dict[int, float] = {}
    finish = [inf] * len(workload)
    now = busy = 0.0
    upcoming = list(range(len(workload)))
    while upcoming or left:
        departure = now + min(left.values()) * len(left) if left else inf
        arrival = workload[upcoming[0]][0] if upcoming else inf
        at = min(departure, arrival, stop)
        if left:
            busy += at - now
            share = (at - now) / len(left)
            left = {job: rest - share for job, rest in left.items()}
        now = at
        if at == stop:
            return finish, sorted(left.values()), busy
        if departure <= arrival:
            job = min(left, key=lambda j: (left[j], j))
            del left[job]
            finish[job] = now
        else:
            job = upcoming.pop(0)
            left[job] = workload[job][1]
    return finish, [], busy


def naive_queue(workload, servers):
    """Finish times of an FCFS queue: each job takes the server that is free first."""
    free = [0.0] * servers
    finish = []
    for arrival, service in workload:
        free.sort()
        free[0] = max(free[0], arrival) + service
        finish.append(free[0])
    return finish


def station(kind, **options):
    calendar, counts, finished = Calendar(), [0, 0], []
    built = kind(Seat(1, calendar, counts, finished, count()), **options)
    return calendar, counts, finished, built


def feed(calendar, target, workload, stop=inf):
    jobs = []
    for index, (arrival, service) in enumerate(workload):
        if arrival > stop:
            break
        calendar.run_until(arrival)
        job = Job(index, 0, service, arrival, [service], service)
        jobs.append(job)
        target.admit(job, service)
    calendar.run_until(stop)
    return jobs


@settings(max_examples=200, deadline=None)
@given(workloads)
def test_processor_sharing_finishes_like_the_naive_server(workload):
    calendar, counts, finished, server = station(ProcessorSharing)
    jobs = feed(calendar, server, workload)
    expected, _, busy = naive_sharing(workload)
    assert [job.finish for job in jobs] == pytest.approx(expected, abs=1e-9)
    assert len(finished) == len(workload)
    assert counts == [0, 0]
    assert server.busy_time() == pytest.approx(busy, abs=1e-9)
    assert [job.finish for job in finished] == sorted(job.finish for job in jobs)


@settings(max_examples=200, deadline=None)
@given(workloads, times)
def test_remaining_work_and_busy_time_at_any_moment(workload, stop):
    stop += 1e-3  # no event exactly at the moment of the look
    calendar, counts, _, server = station(ProcessorSharing)
    jobs = feed(calendar, server, workload, stop)
    finish, left, busy = naive_sharing([entry for entry in workload if entry[0] <= stop], stop)
    assert sorted(server.remaining()) == pytest.approx(left, abs=1e-9)
    assert counts[1] == len(left)
    assert server.busy_time() == pytest.approx(busy, abs=1e-9)
    assert sum(job.finish <= stop for job in jobs) == sum(time <= stop for time in finish)


@settings(max_examples=200, deadline=None)
@given(workloads, times, workloads)
def test_after_an_eviction_the_server_is_as_good_as_new(before, gap, after):
    calendar, counts, _, server = station(ProcessorSharing)
    stop = before[-1][0] + gap
    early = feed(calendar, server, before, stop)
    left, present = sorted(server.remaining()), counts[1]
    gone = server.evict()
    assert sorted(rest for _, rest in gone) == pytest.approx(left, abs=1e-12)
    assert len(gone) == present
    assert counts[1] == 0
    assert server.remaining() == []
    assert {job.owner for job, _ in gone} == {j.owner for j in early if j.finish == inf}
    later = [(stop + arrival, service) for arrival, service in after]
    jobs = feed(calendar, server, later)
    expected, _, _ = naive_sharing(later)
    assert [job.finish for job in jobs] == pytest.approx(expected, abs=1e-9)
    assert all(job.finish == inf for job, _ in gone)


@settings(max_examples=200, deadline=None)
@given(workloads, st.integers(1, 4))
def test_first_come_first_served_finishes_like_the_naive_queue(workload, servers):
    calendar, counts, finished, queue = station(FirstComeFirstServed, servers=servers)
    jobs = feed(calendar, queue, workload)
    assert [job.finish for job in jobs] == pytest.approx(naive_queue(workload, servers), abs=1e-9)
    assert len(finished) == len(workload)
    assert counts == [0, 0]
    total = sum(service for _, service in workload)
    assert queue.busy_time() == pytest.approx(total / servers, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(workloads, times, workloads, st.integers(1, 3))
def test_an_evicted_queue_is_as_good_as_new(before, gap, after, servers):
    calendar, counts, _, queue = station(FirstComeFirstServed, servers=servers)
    stop = before[-1][0] + gap
    early = feed(calendar, queue, before, stop)
    done = sum(job.finish <= stop for job in early)
    gone = queue.evict()
    assert len(gone) == len(early) - done
    assert counts[1] == 0
    later = [(stop + arrival, service) for arrival, service in after]
    jobs = feed(calendar, queue, later)
    assert [job.finish for job in jobs] == pytest.approx(naive_queue(later, servers), abs=1e-9)


def test_a_long_busy_period_keeps_its_precision():
    # Overload: virtual time never restarts, so a rounding error would build up over 10,000 jobs.
    workload = [(0.7 * i, 1.0 if i % 7 != 3 else 0.05) for i in range(10_000)]
    calendar, _, _, server = station(ProcessorSharing)
    jobs = feed(calendar, server, workload)
    work = sum(service for _, service in workload)
    # A work-conserving server that never idles is done when it has given all the work.
    assert max(job.finish for job in jobs) == pytest.approx(work, rel=1e-12)
    assert all(job.finish - job.arrival >= job.size * (1 - 1e-9) for job in jobs)
