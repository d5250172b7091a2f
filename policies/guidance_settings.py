"""Knobs of the DG-PG stage. Needs no torch."""

from __future__ import annotations

from typing import Literal

from ..simulators.settings import Settings, knob


class AlphaSettings(Settings):
    """Weight alpha of the guidance against the sampled policy gradient."""

    schedule: Literal["fixed", "linear", "optimal"] = knob(
        "optimal",
        "fixed: start for ever. linear: start to end over `updates` (published: 0.9 to 0.2). "
        "optimal: the weight with the best signal-to-noise ratio, per parameter group, from "
        "measured gradient variances",
    )
    start: float = knob(
        0.9, "alpha at the first update (and before variances are known)", ge=0.0, le=1.0
    )
    end: float = knob(0.2, "alpha at the end of the linear schedule", ge=0.0, le=1.0)
    updates: int = knob(
        10,
        "length of the linear schedule; set it to the number of updates of the training run",
        unit="updates",
        usual="5 ... 200",
        ge=1,
    )
    fine_tune_from: int | None = knob(
        None,
        "update at which alpha starts to go to exactly 0, so that the last steps follow the true "
        "return alone; unset: never",
        unit="updates",
        ge=0,
    )
    fine_tune_updates: int = knob(
        5, "length of the ramp to 0 in the fine-tune phase", unit="updates", usual="2 ... 20", ge=1
    )
    memory: float = knob(
        0.7,
        "weight of the past in the running gradient variances behind the optimal schedule",
        usual="0.5 ... 0.95",
        ge=0.0,
        lt=1.0,
    )


class AlignmentSettings(Settings):
    """Does the guidance point where the measured policy gradient points?"""

    cut: float = knob(0.5, "factor on alpha at each alert", usual="0.2 ... 0.8", ge=0.0, lt=1.0)
    recover: float = knob(
        1.2,
        "factor by which a cut heals per update while the evidence is positive",
        usual="1 ... 2",
        ge=1.0,
    )
    confidence: float = knob(
        3.0,
        "standard deviations by which the accumulated cosine must lie below 0 before alpha is cut "
        "(3: one false alarm in about 700 updates if the two gradients are unrelated)",
        usual="1.6 ... 3.5",
        gt=0.0,
    )
    memory: float = knob(
        0.7, "weight of the past in the accumulated evidence", usual="0.5 ... 0.9", ge=0.0, lt=1.0
    )
    block: int = knob(
        25,
        "epochs of a time block that counts as one independent gradient sample; should cover the "
        "reach of GAE, about 1 / (1 - gamma lambda)",
        unit="epochs",
        usual="10 ... 50",
        ge=1,
    )
    units: int = knob(
        16, "independent gradient samples to aim at per update", usual="8 ... 32", ge=4, le=256
    )
    samples: int = knob(
        1024,
        "decisions per gradient sample (of all groups together)",
        unit="decisions",
        usual="256 ... 4096",
        ge=16,
    )


class PaceSettings(Settings):
    """Step size of guided updates: large at first, since the guidance is free of noise."""

    first: float = knob(
        5.0,
        "factor on learning_rate at the first update where the guidance has all the weight; "
        "smaller alpha, smaller effect (factor ** alpha)",
        usual="1 ... 10",
        gt=0.0,
        le=100.0,
    )
    last: float = knob(
        0.1,
        "factor after `updates`, reached geometrically; small, so that the policy settles",
        usual="0.05 ... 1",
        gt=0.0,
        le=100.0,
    )
    updates: int = knob(8, "updates from first to last", unit="updates", usual="5 ... 50", ge=1)

    def at(self, update: int) -> float:
        """Factor at an update, counted from 0."""
        return self.first * (self.last / self.first) ** min(1.0, update / self.updates)


class GuidanceSettings(Settings):
    """DG-PG stage in front of any learner (after arXiv 2602.20078)."""

    form: Literal["exact", "linear"] = knob(
        "exact",
        "own-action counterfactual of the quadratic deviation, or its first-order inner product; "
        "decided when roll-outs are collected",
    )
    estimator: Literal["joint", "expected", "sampled"] = knob(
        "joint",
        "sampled: the taken action's guidance is added to its advantage. expected: summed over the "
        "own actions, no own-action sampling noise. joint: the others' actions in expectation, "
        "too, under the current policy at every minibatch (needs recorded effects)",
    )
    clip: bool = knob(
        False,
        "choices: apply the PPO clip to the expected guidance surrogate, too; off lets a guided "
        "policy move up to target_kl per update, which needs fewer episodes. Set-points: the "
        "surrogate is an exact expectation and never clipped",
    )
    target_kl: float = knob(
        3.0,
        "takes the place of the learner's target_kl as alpha goes to 1 (geometric between): what "
        "has no sampling noise needs no short leash",
        unit="nats",
        usual="0.3 ... 10",
        gt=0.0,
    )
    pace: PaceSettings = PaceSettings()
    scale_memory: float = knob(
        0.5,
        "weight of the past in the running RMS of both advantages that puts them on one scale "
        "(0 = normalise each roll-out by itself)",
        usual="0 ... 0.95",
        ge=0.0,
        lt=1.0,
    )
    alpha: AlphaSettings = AlphaSettings()
    alignment: AlignmentSettings = AlignmentSettings()
