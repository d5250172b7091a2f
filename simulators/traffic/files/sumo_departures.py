"""When vehicles of SUMO route files depart: clock times, and flows as single departures."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import accumulate, islice, takewhile
from itertools import count as counting

import numpy as np

from ...tables import finite
from .sumo_xml import Tag

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+):(\d+(?:\.\d+)?)")
_RANDOM_GAPS = re.compile(r"\s*exp\(([^()]*)\)\s*")
_SHORTEST = 0.001  # s, SUMO's resolution of time
_HOUR = 3600.0
_RATES = ("period", "vehsPerHour", "perHour", "probability")


def read_time(tag: Tag, field: str, default: float | None = None) -> float:
    """Time in s, or written ``[days:]hours:minutes:seconds``.

    Raises:
        DataError: absent without a default, or no time (``triggered``, ``now``, ...).
    """
    if default is not None and field not in tag.values:
        return default
    text = tag.text(field)
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, seconds = (float(part or 0.0) for part in clock.groups())
        return ((days * 24.0 + hours) * 60.0 + minutes) * 60.0 + seconds
    try:
        value = finite(text)
    except ValueError:
        value = -1.0
    if value < 0.0:
        tag.fail(field, "a time is expected, in s of at least 0 or as hours:minutes:seconds")
    return value


def flow_times(tag: Tag, *, begin: float, end: float | None) -> Iterator[float]:
    """Departures of a ``flow`` before the end of the episode, ascending, on the file's clock.

    They are equally spaced from the flow's begin on (``period``, ``vehsPerHour``, or ``number`` in
    all) or random: with ``probability`` in each second, or with exponential gaps
    (``period="exp(rate)"``). Random ones follow from the flow's id alone.

    Args:
        tag: the ``flow``.
        begin: s, of a flow that does not say.
        end: s, of the episode, if it has one; also of a flow that does not say.

    Raises:
        DataError: no rate or several, no number and no end, an impossible number.
    """
    first = read_time(tag, "begin", begin)
    episode = math.inf if end is None else end
    last = read_time(tag, "end", episode)
    number = tag.whole("number") if "number" in tag.values else None
    rates = [name for name in _RATES if name in tag.values]
    if len(rates) > 1 or (not rates and number is None):
        tag.refuse(f"one of {', '.join(_RATES)} or a number is expected")
    if last == math.inf and (number is None or not rates):
        tag.fail("end", "missing, and the episode has no end either")
    if last <= first or number == 0:
        return iter(())
    if rates:
        times = _at_rate(tag, rates[0], first)
    else:
        times = _spaced(first, (last - first) / (number or 1))
    return takewhile(lambda time: time < min(last, episode), islice(times, number))


def _at_rate(tag: Tag, rate: str, first: float) -> Iterator[float]:
    """Endless departures."""
    generator = np.random.default_rng(zlib.crc32(tag.text("id").encode()))
    random_gap = _RANDOM_GAPS.fullmatch(tag.values[rate])
    if rate == "probability":
        share = tag.number(rate, above=True)
        if share > 1.0:
            tag.fail(rate, "a number up to 1 is expected")
        # Seconds until the next success, so that the first second counts too.
        return (first - 1.0 + time for time in accumulate(_drawn(generator.geometric, share)))
    if rate == "period" and random_gap:
        try:
            mean = 1.0 / finite(random_gap[1])
        except (ValueError, ZeroDivisionError):
            mean = -1.0
        if mean < _SHORTEST:
            tag.fail(rate, "exp(vehicles per second) is expected, a positive rate")
        return (first + time for time in accumulate(_drawn(generator.exponential, mean)))
    gap = tag.number(rate, above=True)
    gap = gap if rate == "period" else _HOUR / gap
    if gap < _SHORTEST:
        tag.fail(rate, f"at least {_SHORTEST} s between vehicles are expected")
    return _spaced(first, gap)


def _spaced(first: float, gap: float) -> Iterator[float]:
    return (first + place * gap for place in counting())


def _drawn(draw: Callable[[float], float], parameter: float) -> Iterator[float]:
    while True:
        yield float(draw(parameter))
