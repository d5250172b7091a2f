"""Set-points and measurements that come late or not at all.

Once an interval something is sent to every unit (or by it). It arrives after a fixed delay, or is
lost. Whoever got nothing new goes on with what was last received until that expires; then it stays
where it is (hold).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from ..interface import Bools, Doubles


@dataclass(frozen=True, slots=True)
class Delivery:
    """What holds in one interval, ``[n]`` each.

    Attributes:
        before: in force until ``late``, MW.
        value: in force from then on, MW.
        late: seconds into the interval at which ``value`` takes effect.
        arrived: whether this interval's message arrives.
        holds: nothing is in force (too old, or nothing ever arrived): the unit stays where it is.
        age: seconds from the sending of what is in force to this interval's (``inf``: none).
    """

    before: Doubles
    value: Doubles
    late: Doubles
    arrived: Bools
    holds: Bools
    age: Doubles


class Telemetry:
    """The line between a controller and n units.

    Args:
        n: units.
        delay: of every message, s, shorter than an interval.
        loss: share of messages that get lost, independently.
        interval: time between two messages, s.
        expiry: age, s, from which a message no longer holds (``inf``: never); looked at once an
            interval.
        rng: of the losses; one draw a unit and interval, whatever happens.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(
        self,
        n: int,
        *,
        delay: float,
        loss: float,
        interval: float,
        rng: np.random.Generator,
        expiry: float = inf,
    ):
        if not 0.0 <= delay < interval:
            raise ValueError(f"delay is {delay} s, expected 0 to less than {interval} s")
        if not 0.0 <= loss <= 1.0:
            raise ValueError(f"loss is {loss}, expected a share from 0 to 1")
        if not expiry > 0.0:
            raise ValueError(f"expiry is {expiry} s, expected more than 0")
        self._delay, self._loss, self._interval, self._expiry = delay, loss, interval, expiry
        self._rng = rng
        self._held = np.full(n, np.nan)
        self._age = np.full(n, inf)

    def deliver(self, sent: Doubles, output: Doubles) -> Delivery:
        """Send ``sent`` ``[n]``; ``output`` ``[n]`` is where units are, and stay if they hold.

        Raises:
            ValueError: arrays of another length.
        """
        if sent.shape != self._held.shape or output.shape != self._held.shape:
            raise ValueError(
                f"sent {sent.shape} and output {output.shape} must have {len(self._held)} values"
            )
        lost = self._rng.random(len(self._held)) < self._loss
        # Before anything has arrived, units stay where the first message finds them.
        before = np.where(np.isnan(self._held), output, self._held)
        age = self._age + self._interval
        expires = lost & np.isfinite(age) & (age >= self._expiry)
        self._held = np.where(lost, np.where(expires, output, before), sent)
        self._age = np.where(lost, np.where(expires, inf, age), 0.0)
        return Delivery(
            before=before,
            value=self._held,
            late=np.where(lost, 0.0, self._delay),
            arrived=~lost,
            holds=np.isinf(self._age),
            age=self._age,
        )
