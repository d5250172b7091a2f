"""Shortest job first on the simulator's own station, by holding jobs back."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

import numpy as np

from ...simulators.calendar import Calendar
from ...simulators.cloud.kernel import Job, Seat
from ...simulators.cloud.stations import FirstComeFirstServed
from ...simulators.interface import Doubles


def shortest_first(arrival: Doubles, size: Doubles) -> Doubles:
    """Finish times ``[n]`` of a station that takes the shortest waiting job whenever it is idle.

    Args:
        arrival: ``[n]`` times in order, s.
        size: ``[n]`` service times, s.
    """
    calendar, counts, finished = Calendar(), [0], list[Job]()
    station = FirstComeFirstServed(Seat(0, calendar, counts, finished, count()))
    times, seconds = arrival.tolist(), size.tolist()
    waiting: list[tuple[float, int]] = []
    upcoming = 0
    while upcoming < len(times) or waiting or counts[0]:
        due = calendar.peek()
        if upcoming < len(times) and times[upcoming] <= due:
            calendar.run_until(times[upcoming])
            heappush(waiting, (seconds[upcoming], upcoming))
            upcoming += 1
        else:
            calendar.run_until(due)
        if waiting and not counts[0]:
            service, index = heappop(waiting)
            station.admit(Job(index, 0, service, times[index], [service], service), service)
    finish = np.empty(len(times))
    finish[[job.owner for job in finished]] = [job.finish for job in finished]
    return finish
