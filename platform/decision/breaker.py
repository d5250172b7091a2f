"""The circuit breaker around the policy: pure transitions of the value ``Breaker``.

Closed, the policy decides; failures among the latest askings open it. Open, the policy is left
alone for a while. Half-open, it is asked again while the baseline decides: so many good answers in
a row close the breaker, one bad answer opens it again (Nygard, Release It!, chapter 5).
"""

from __future__ import annotations

from .settings import BreakerSettings
from .types import Breaker


def before(settings: BreakerSettings, breaker: Breaker, now: float) -> Breaker:
    """The breaker as it is when the policy could be asked at monotonic time ``now``.

    An open one becomes half-open when its time is up. A clock that reads less than when it opened
    is that of another boot (monotonic clocks begin anew), so waiting starts again.
    """
    if breaker.phase != "open":
        return breaker
    if now < breaker.since:
        return Breaker("open", (), now, 0, breaker.trips)
    if now - breaker.since < settings.open_time:
        return breaker
    return Breaker("half-open", (), now, 0, breaker.trips)


def after(settings: BreakerSettings, breaker: Breaker, now: float, *, failed: bool) -> Breaker:
    """The breaker after one asking, which must not happen while it is open.

    Raises:
        ValueError: it is open.
    """
    if breaker.phase == "open":
        raise ValueError("the policy was asked although the breaker is open")
    if breaker.phase == "half-open":
        if failed:
            return Breaker("open", (), now, 0, breaker.trips + 1)
        probes = breaker.probes + 1
        if probes >= settings.probes:
            return Breaker("closed", (), now, 0, breaker.trips)
        return Breaker("half-open", (), breaker.since, probes, breaker.trips)
    window = (*breaker.window, failed)[-settings.window :]
    failures = sum(window)
    if (
        failed
        and len(window) >= min(settings.minimum, settings.window)
        and failures >= settings.share * len(window)
    ):
        return Breaker("open", (), now, 0, breaker.trips + 1)
    return Breaker("closed", window, breaker.since, 0, breaker.trips)
