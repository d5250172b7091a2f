"""When to stop asking a service that does not answer, and when to try again."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Circuit:
    """Opens after some failures in a row; lets one call through after a pause.

    Without it every decision of an outage would wait for its time-out first.

    Args:
        failures: in a row, before calls are no longer tried.
        pause: seconds until one call is let through again. It doubles with every failed one, up
            to eight times the first.
        clock: monotonic, s.
    """

    def __init__(
        self, *, failures: int = 3, pause: float = 1.0, clock: Callable[[], float] = monotonic
    ) -> None:
        if failures < 1 or not pause > 0:
            raise ValueError(f"need failures >= 1 and pause > 0, got {failures} and {pause}")
        self._limit, self._pause, self._clock = failures, pause, clock
        self._failed = 0
        self._until = 0.0

    @property
    def closed(self) -> bool:
        """Whether calls are tried without waiting."""
        return self._failed < self._limit

    def allows(self) -> bool:
        """Whether to try a call now."""
        return self.closed or self._clock() >= self._until

    def succeeded(self) -> None:
        """A call was answered."""
        self._failed = 0

    def failed(self) -> None:
        """A call was not answered."""
        self._failed += 1
        over = self._failed - self._limit
        if over >= 0:
            self._until = self._clock() + self._pause * 2 ** min(over, 3)
