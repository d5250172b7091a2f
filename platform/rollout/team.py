"""Who holds which role in a slot, as one value that is swapped as a whole, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ..daemon.interface import Meter
from ..decision.types import Runtime
from .canary import Trial, Unit
from .judge import Judge, Shadow
from .loading import Loaded


@dataclass(frozen=True, slots=True)
class Member:
    """A loaded bundle in a role since a point in time (wall clock)."""

    loaded: Loaded
    since: float

    @property
    def digest(self) -> str:
        return self.loaded.digest

    def view(self) -> dict[str, Any]:
        """JSON-able: who it is, since when, how it was trained, how fast it answers."""
        manifest = self.loaded.bundle.manifest
        return {
            "digest": self.digest,
            "name": self.loaded.bundle.name,
            "scenario": self.loaded.bundle.spec.scenario,
            "since": self.since,
            "trained": self.loaded.made,
            "iteration": manifest["provenance"].get("iteration"),
            "latency_ms": self.loaded.latency * 1e3,
            "warnings": list(self.loaded.warnings),
        }


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary at one share: its runtime decides what is its, the trial counts."""

    member: Member
    runtime: Runtime
    step: int
    share: float
    unit: Unit
    trial: Trial

    def view(self, now: float) -> dict[str, Any]:
        """JSON-able; ``now`` is the monotonic clock."""
        trial = self.trial
        return {
            **self.member.view(),
            "share": self.share,
            "step": self.step + 1,
            "unit": self.unit,
            "samples": trial.samples,
            "fallbacks": trial.failures,
            "cost_delta": number(trial.above),
            "share_age": now - trial.began,
            "waits_for": trial.unripe(now),
        }


@dataclass(frozen=True, slots=True)
class Watched:
    """The bundle that shadows, and its figures."""

    member: Member
    shadow: Shadow

    def view(self, judge: Judge) -> dict[str, Any]:
        """JSON-able."""
        shadow = self.shadow
        return {
            **self.member.view(),
            "samples": shadow.samples,
            "disagreement": number(shadow.disagreement),
            "cost_delta": number(shadow.above),
            "timeouts": shadow.timeouts,
            "failures": shadow.failures,
            "dropped": judge.dropped,
            "errors": judge.failed,
            "error": judge.error or None,
        }


@dataclass(frozen=True, slots=True)
class Team:
    """Everybody. ``runtime`` is the champion's, with the one before it as its second rung."""

    champion: Member
    former: tuple[Member, ...]
    runtime: Runtime
    canary: Canary | None = None
    shadow: Watched | None = None

    def known(self, digest: str) -> Loaded | None:
        """The bundle if it is in memory already, warm."""
        held = [self.champion, *self.former]
        held += [part.member for part in (self.canary, self.shadow) if part is not None]
        return next((member.loaded for member in held if member.digest == digest), None)


def report(team: Team, meter: Meter, domain: str) -> None:
    """Put who holds which role into the metrics."""
    parts = {"canary": team.canary, "shadow": team.shadow}
    held = {role: part.member for role, part in parts.items() if part is not None}
    held["champion"] = team.champion
    for role in ("champion", "canary", "shadow"):
        key = f"{domain}/{role}"
        if role in held:
            bundle = held[role].digest[:12]
            meter.info("policy_info", key=key, domain=domain, role=role, bundle=bundle)
        else:
            meter.forget("policy_info", key=key)
    meter.set("policy_loaded_timestamp_seconds", team.champion.since, domain=domain)
    meter.set("policy_trained_timestamp_seconds", team.champion.loaded.made, domain=domain)
    watched = team.shadow
    gone = float("nan")
    meter.set(
        "shadow_disagreement_ratio",
        watched.shadow.disagreement if watched else gone,
        domain=domain,
    )
    meter.set("shadow_cost_delta", watched.shadow.above if watched else gone, domain=domain)


def brief(loaded: Loaded) -> Mapping[str, Any]:
    """What an act says about a bundle."""
    return {
        "digest": loaded.digest,
        "name": loaded.bundle.name,
        "latency_ms": loaded.latency * 1e3,
        "warnings": list(loaded.warnings),
    }


def number(value: float) -> float | None:
    """The value for JSON, which knows no NaN."""
    return value if isfinite(value) else None
