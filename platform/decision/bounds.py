"""What values an observation may have: physical bounds of the spec, ranges seen in training.

Prepared once per bundle and kept, because every decision compares thousands of numbers with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ...simulators.interface import Feature, Floats, Spec
from .settings import DriftSettings

_LARGEST = float(np.finfo(np.float32).max)
_SLACK = 1e-5
"""Relative slack of physical bounds: features are float32, bounds are decimal numbers."""
_TILES, _TILE = 16, 1 << 16

Pair = tuple[Floats, Floats]
"""Lower and upper bounds."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of the columns of one part (agent or candidate), each ``[columns]`` float32.

    Attributes:
        low, high: physical, finite numbers always: comparing with them also finds NaN and infinity.
        usual_low, usual_high: training range with tolerance; physical where nothing is known.
        middle: what a value that cannot be used is replaced by: the training median, else the
            number within the physical bounds that is nearest to zero.
    """

    low: Floats
    high: Floats
    usual_low: Floats
    usual_high: Floats
    middle: Floats


@dataclass(frozen=True, slots=True)
class Bounds:
    """Ranges of a bundle's features.

    Attributes:
        agent, candidate: the two parts of an observation.
        gated: whether training ranges are known and the gate is on.
    """

    agent: Range
    candidate: Range
    gated: bool
    _tiles: dict[tuple[int, int], Pair] = field(
        default_factory=dict[tuple[int, int], Pair], repr=False
    )

    def usual(self, rows: int, choices: int) -> Pair:
        """Usual bounds of candidates ``[rows, choices, C]``, or (0 choices) agents ``[rows, F]``.

        Laid out like the values where that is small, else like one row of them: comparing along
        one long axis is several times faster than along the few features of a candidate. Training
        ranges say nothing about hold, so that its bounds are the physical ones.
        """
        found = self._tiles.get((rows, choices))
        if found is None:
            # Sizes come from requests; what they make us keep is bounded.
            if len(self._tiles) >= _TILES:
                self._tiles.clear()
            found = self._tiles[rows, choices] = self._laid_out(rows, choices)
        return found

    def _laid_out(self, rows: int, choices: int) -> Pair:
        known = self.candidate if choices else self.agent
        low, high = np.tile(known.usual_low, choices or 1), np.tile(known.usual_high, choices or 1)
        if choices:
            low[: known.low.size], high[: known.low.size] = known.low, known.high
        if rows * low.size > _TILE:
            return low, high
        return np.tile(low, (rows, 1)), np.tile(high, (rows, 1))


class _Key:
    """A spec, its training ranges and knobs, told from others by identity, not by value."""

    __slots__ = ("spec", "observed", "settings")

    def __init__(self, spec: Spec, observed: Mapping[str, Any], settings: DriftSettings) -> None:
        self.spec, self.observed, self.settings = spec, observed, settings

    def __hash__(self) -> int:
        return id(self.spec) ^ id(self.observed)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Key)
            and self.spec is other.spec
            and self.observed is other.observed
            and self.settings is other.settings
        )


def bounds_of(spec: Spec, observed: Mapping[str, Any], settings: DriftSettings) -> Bounds:
    """Bounds of a bundle; remembered for the latest few bundles.

    Raises:
        ValueError: ``observed`` is about another number of features than the spec.
    """
    return _bounds(_Key(spec, observed, settings))


@lru_cache(maxsize=16)
def _bounds(key: _Key) -> Bounds:
    known = key.observed if key.settings.enabled else {}
    return Bounds(
        agent=_range(key.spec.agent_features, known.get("agent"), key.settings),
        candidate=_range(key.spec.candidate_features, known.get("candidate"), key.settings),
        gated=bool(known),
    )


def _range(features: tuple[Feature, ...], seen: Any, settings: DriftSettings) -> Range:
    low = np.array([feature.low for feature in features], np.float64)
    high = np.array([feature.high for feature in features], np.float64)
    physical_low = np.clip(low - _SLACK * np.maximum(1.0, np.abs(low)), -_LARGEST, _LARGEST)
    physical_high = np.clip(high + _SLACK * np.maximum(1.0, np.abs(high)), -_LARGEST, _LARGEST)
    usual_low, usual_high = physical_low, physical_high
    middle = np.clip(0.0, low, high)
    # A part about which the recorded episode said nothing has empty lists.
    if seen and len(seen["low"]):
        least, most = np.array(seen["low"], np.float64), np.array(seen["high"], np.float64)
        edges = np.array(seen["edges"], np.float64)
        if least.shape != low.shape or edges.shape[:1] != low.shape:
            raise ValueError(
                f"training ranges are about {least.shape[0]} features, the spec has {low.shape[0]}"
            )
        # A feature that hardly moved in training says little about what is unusual.
        width = np.maximum(most - least, 0.05 * np.maximum(np.abs(least), np.abs(most)))
        room = settings.tolerance * np.maximum(width, 1e-6) + _SLACK * np.abs(most)
        usual_low = np.clip(least - room, physical_low, physical_high)
        usual_high = np.clip(most + room, physical_low, physical_high)
        middle = np.clip(edges[:, edges.shape[1] // 2], low, high)
    return Range(
        *(_single(x) for x in (physical_low, physical_high, usual_low, usual_high, middle))
    )


def _single(values: Any) -> Floats:
    return np.ascontiguousarray(values, np.float32)
