"""What metrics tell of a domain's decisions beyond what they tell of every domain's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .types import Decision, Request


@dataclass(frozen=True, slots=True)
class Figure:
    """The value of one gauge.

    Attributes:
        metric: name in ``ops/contract.py``, without prefix.
        value: in the metric's unit.
        labels: all but the domain.
    """

    metric: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


class Watch(Protocol):
    """Reads a domain's own figures off its decisions; built for one spec, used in the background.

    The specs that a slot serves one after another agree in all that a watch may read.
    """

    def figures(self, request: Request, decision: Decision) -> Sequence[Figure]:
        """Figures of one decision; empty where it does not tell them."""
        ...
