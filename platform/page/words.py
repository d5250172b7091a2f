"""What the page says in words: sources, causes, ages and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from ..decision.types import Cause, Source

SOURCES: Mapping[Source, tuple[str, str]] = {
    Source.POLICY: ("policy", "the trained policy chose it"),
    Source.PROJECTED: ("projected", "the policy's choice, moved to the nearest feasible one"),
    Source.PREVIOUS: ("previous", "the champion before this one chose it"),
    Source.BASELINE: ("baseline", "the verified fallback rule chose it"),
    Source.HOLD: ("hold", "kept doing what was last safe"),
    Source.SAFE: ("safe", "the constant that is always feasible"),
}
"""Every source's name and what it means, in the order of the ladder."""

CAUSES: Mapping[Cause, str] = {
    Cause.NONE: "nothing stood in the way",
    Cause.INVALID: "the agent's own observation was not usable",
    Cause.DRIFT: "its observation lies outside what training has seen",
    Cause.STALE: "the observation was too old, from the future, or out of order",
    Cause.DEADLINE: "the policy did not answer in time",
    Cause.ERROR: "the policy raised an error",
    Cause.NON_FINITE: "the policy answered with a number that is not finite",
    Cause.BREAKER: "the circuit breaker was open",
    Cause.SIMPLEX: "the look-ahead found no way back to the baseline, or still waits for calm",
    Cause.OPERATOR: "an operator forced the fallback",
    Cause.NOT_READY: "no policy was loaded",
    Cause.BOX: "outside the agent's own limits",
    Cause.RAMP: "faster than the agent may move",
    Cause.COUPLING: "together with other agents it would have broken a shared limit",
    Cause.LEGALITY: "not legal for this agent now",
}
"""Every cause as the end of the sentence 'because ...'."""

NOTHING = "\u2013"
"""Stands where there is no number."""

MODES: Mapping[str, tuple[str, str]] = {
    "policy": ("good", "The policy decides."),
    "canary": ("note", "A canary decides a share of the traffic."),
    "degraded": ("warn", "Some agents fall back, the policy decides for the others."),
    "fallback": ("bad", "The verified baseline decides for every agent."),
    "hold": ("bad", "Agents hold what was last safe."),
    "drain": ("note", "The daemon is shutting down; accepted requests are still answered."),
}
"""Every mode's tone and meaning."""


def age(seconds: float) -> str:
    """A duration in its two largest units: ``3.2 s``, ``4 min 10 s``, ``2 d 3 h``."""
    if not isfinite(seconds):
        return "never"
    if seconds < 0:
        return f"-{age(-seconds)}"
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    if rest < 60:
        return f"{rest} s"
    for size, small, unit, below in ((86400, 3600, "d", "h"), (3600, 60, "h", "min")):
        if rest >= size:
            return f"{rest // size} {unit} {rest % size // small} {below}"
    return f"{rest // 60} min {rest % 60} s"


def duration(seconds: float) -> str:
    """A short duration in the unit that fits: ``85 µs``, ``1.24 ms``, ``2.1 s``."""
    if not isfinite(seconds):
        return NOTHING
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1.0 else f"{seconds:.1f} s"


def number(value: float) -> str:
    """A number with four significant digits, or a dash where there is none."""
    if not isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.4g}"


def share(value: float) -> str:
    """A share in percent, or a dash where there is none."""
    if not isfinite(value):
        return NOTHING
    return f"{100.0 * value:.0f} %" if value in (0.0, 1.0) else f"{100.0 * value:.1f} %"
