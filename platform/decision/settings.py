"""Knobs of one slot: what counts as a good observation, a late policy, a way back."""

from __future__ import annotations

from typing import Literal

from ...simulators.settings import Settings, knob


class ValidationSettings(Settings):
    """Which observations are accepted, and how many bad agents are imputed."""

    max_age: float = knob(
        5.0, "oldest observation that a policy may act on", unit="s", usual="1..3 ticks", gt=0
    )
    max_skew: float = knob(
        2.0, "how far in the future an observation may be (clock skew)", unit="s", ge=0
    )
    imputed_share: float = knob(
        0.1,
        "share of agents whose own observation may be unusable; they fall back, the others go on; "
        "beyond it the whole domain falls back",
        usual="0..0.3",
        ge=0,
        le=1,
    )
    max_candidates: int = knob(
        4096, "candidates per agent beyond which a request is refused", ge=2, le=65536
    )


class DriftSettings(Settings):
    """Out-of-distribution gate against the training observations of the bundle."""

    enabled: bool = knob(True, "compare observations with those of training")
    tolerance: float = knob(
        1.0,
        "how far beyond the training range an agent's feature may lie, as a multiple of that range",
        usual="0.5..5",
        ge=0,
    )
    features: int = knob(
        2, "features beyond it for which an agent counts as out of distribution", ge=1
    )
    window: int = knob(256, "decisions over which the drift figure (PSI) is taken", ge=8)
    ignore: tuple[str, ...] = knob(
        ("day_sin", "day_cos"),
        "features that the drift figure leaves out: those that follow the clock move all day",
    )


class SimplexSettings(Settings):
    """Switch to the verified baseline when the policy's action leaves no way back."""

    enabled: bool = knob(True, "look one step ahead before an action is executed")
    limit: float = knob(
        2.0,
        "predicted cost of the policy's action beyond which the baseline takes over, as a multiple "
        "of the baseline's own predicted cost",
        usual="1.2..5",
        gt=1,
    )
    clean_ticks: int = knob(
        5, "clean ticks after which the policy gets control back (hysteresis)", ge=1
    )


class BreakerSettings(Settings):
    """Circuit breaker around the policy."""

    window: int = knob(20, "latest askings that count", ge=2, le=1024)
    share: float = knob(0.5, "share of failed ones that opens the breaker", gt=0, le=1)
    minimum: int = knob(5, "askings before it may open", ge=1)
    open_time: float = knob(
        10.0, "how long it stays open before the policy is probed again", unit="s", gt=0
    )
    probes: int = knob(5, "good probes in a row that close it", ge=1)


class SlotSettings(Settings):
    """One domain's slot in the daemon."""

    deadline: float = knob(
        0.05, "time for a whole decision unless the request asks for less", unit="s", gt=0, le=60
    )
    policy_share: float = knob(
        0.6,
        "share of the deadline that the policy may use; the rest is for the fallback",
        gt=0,
        lt=1,
    )
    expiry: float = knob(
        0.0,
        "how long an answer may be executed, from its decision on; after it a bridge holds or "
        "follows its own rule (0: until the next answer)",
        unit="s",
        usual="1..3 ticks",
        ge=0,
    )
    backend: Literal["numpy", "onnx"] = knob(
        "numpy", "what runs the policy; numpy recomputes bit for bit in replays"
    )
    sample: Literal["bundle", "yes", "no"] = knob(
        "bundle", "sample the policy or take its best score; bundle: as it was trained"
    )
    baseline: str = knob("", "fallback rule by name; empty: the domain's own choice")
    validation: ValidationSettings = knob(ValidationSettings(), "accepted observations")
    drift: DriftSettings = knob(DriftSettings(), "out-of-distribution gate")
    simplex: SimplexSettings = knob(SimplexSettings(), "switch to the baseline")
    breaker: BreakerSettings = knob(BreakerSettings(), "circuit breaker")
