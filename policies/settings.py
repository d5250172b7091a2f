"""Every knob of the learners, explained once: effect, unit, usual range. Needs no torch."""

from __future__ import annotations

from typing import Literal

from ..simulators.settings import Settings, knob

Algorithm = Literal["ippo", "mappo", "happo"]
Sharing = Literal["none", "group", "all"]


class NetworkSettings(Settings):
    """The candidate scorer: one small tanh network per parameter group."""

    hidden: tuple[int, ...] = knob(
        (64, 64),
        "widths of the hidden layers; wider fits finer rules and costs time in acting",
        unit="neurons",
        usual="(32,) ... (128, 128)",
        min_length=1,
    )
    context: bool = knob(
        True,
        "also show the scorer the mean of the legal candidates' features, so that it can choose "
        "sharply or evenly depending on the alternatives",
    )
    output_scale: float = knob(
        0.01,
        "scale of the last layer's initial weights; small starts close to the uniform policy",
        usual="0.01 ... 1",
        gt=0.0,
    )


class CriticSettings(Settings):
    """The value function, on critic features (MAPPO, HAPPO) or on own features (IPPO)."""

    hidden: tuple[int, ...] = knob(
        (64, 64),
        "widths of the hidden layers",
        unit="neurons",
        usual="(64, 64) ... (256, 256)",
        min_length=1,
    )
    learning_rate: float = knob(
        2e-3, "Adam step size of the critic", usual="5e-4 ... 5e-3", gt=0.0, le=0.1
    )
    passes: int = knob(20, "passes over the roll-out per update", usual="5 ... 40", ge=1, le=1000)
    minibatch: int = knob(
        1024, "rows of a critic minibatch", unit="rows", usual="256 ... 4096", ge=8
    )
    memory: float = knob(
        0.8,
        "weight of the past in the running mean and deviation that normalise returns (0 = only "
        "the newest roll-out)",
        usual="0.5 ... 0.99",
        ge=0.0,
        lt=1.0,
    )
    max_grad_norm: float = knob(
        1.0, "gradient norm above which a critic step is shortened", usual="0.5 ... 10", gt=0.0
    )


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
        "apply the PPO clip to the expected guidance surrogate, too; off lets a guided policy move "
        "up to target_kl per update, which needs fewer episodes",
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


class LearnerConfig(Settings):
    """One learner of the PPO family with the DG-PG stage in front.

    ``ippo``: critic on own features. ``mappo``: central critic. ``happo``: central critic and
    sequential updates of the parameter groups with the compound ratio.
    """

    algorithm: Algorithm = knob("mappo", "which member of the PPO family")
    sharing: Sharing = knob(
        "group",
        "which agents share weights: none (each its own), group (the simulator's groups), all",
    )
    network: NetworkSettings = NetworkSettings()
    critic: CriticSettings = CriticSettings()
    guidance: GuidanceSettings = GuidanceSettings()

    gamma: float = knob(
        0.99,
        "discount per epoch; 1 / (1 - gamma) epochs is how far ahead the return looks",
        usual="0.95 ... 0.999",
        ge=0.0,
        le=1.0,
    )
    gae_lambda: float = knob(
        0.95,
        "GAE: 1 is the sampled return (no bias, much noise), 0 one-step (all critic)",
        usual="0.8 ... 1",
        ge=0.0,
        le=1.0,
    )
    local_mix: float = knob(
        0.0,
        "m in r_i = (1 - m) r + m r_local: 0 is a team game, 1 every agent for itself",
        usual="0 ... 0.5",
        ge=0.0,
        le=1.0,
    )
    learning_rate: float = knob(
        2e-3, "Adam step size of the policy", usual="3e-4 ... 1e-2", gt=0.0, le=0.1
    )
    clip: float = knob(
        0.2, "PPO: how far a probability ratio pays", usual="0.05 ... 0.3", gt=0.0, lt=1.0
    )
    passes: int = knob(
        8, "passes over the (sub-sampled) decisions per update", usual="2 ... 15", ge=1, le=1000
    )
    minibatches: int = knob(8, "minibatches of a pass", usual="1 ... 16", ge=1, le=1024)
    max_samples: int = knob(
        24_000,
        "decisions drawn per pass, all groups together (each group gets an equal share, at least "
        "64); bounds the cost of an update when agents are many",
        unit="decisions",
        usual="5e3 ... 1e5",
        ge=64,
    )
    entropy: float = knob(
        0.0,
        "bonus on the policy's entropy; more explores longer",
        unit="advantage deviations per nat",
        usual="0 ... 0.02",
        ge=0.0,
    )
    target_kl: float = knob(
        0.05,
        "mean exact KL from the roll-out policy at which a group's update stops early",
        unit="nats",
        usual="0.01 ... 0.1",
        gt=0.0,
    )
    max_grad_norm: float = knob(
        1.0, "gradient norm (per parameter group) above which a step is shortened", gt=0.0
    )
    blocks: int = knob(
        8,
        "happo: at most this many sequential steps; parameter groups of one block move at once",
        usual="2 ... 32",
        ge=1,
    )
    order: Literal["random", "fixed"] = knob(
        "random", "happo: order of the blocks, drawn anew for each update or as listed"
    )

    @property
    def guided(self) -> bool:
        """Whether roll-outs have to carry guidance values (false: a plain learner)."""
        return not (self.guidance.alpha.schedule == "fixed" and self.guidance.alpha.start == 0.0)

    @property
    def needs_effects(self) -> bool:
        """Whether roll-outs have to record how every candidate would have moved the state."""
        return self.guided and self.guidance.estimator == "joint"
