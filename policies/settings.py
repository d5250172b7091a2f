"""Knobs of the learners, explained once: effect, unit, usual range. Needs no torch."""

from __future__ import annotations

from typing import Literal

from ..simulators.settings import Settings, knob
from .guidance_settings import GuidanceSettings
from .trust_settings import ProjectionSettings, TrustRegionSettings

Algorithm = Literal[
    "ippo", "mappo", "happo", "clip-happo", "hatrpo", "clip-hatrpo", "hatrpo-w", "hatrpo-g"
]
Sharing = Literal["none", "group", "all"]


class NetworkSettings(Settings):
    """The policy: one small tanh network per parameter group."""

    hidden: tuple[int, ...] = knob(
        (64, 64),
        "widths of the hidden layers; wider fits finer rules and costs time in acting",
        unit="neurons",
        usual="(32,) ... (128, 128)",
        min_length=1,
    )
    context: bool = knob(
        True,
        "choices: also show the scorer the mean of the legal candidates' features, so that it can "
        "choose sharply or evenly depending on the alternatives",
    )
    output_scale: float = knob(
        0.01,
        "scale of the last layer's initial weights; small starts close to the uniform policy (set-"
        "points: to the same policy for everybody)",
        usual="0.01 ... 1",
        gt=0.0,
    )
    concentration: float = knob(
        3.0,
        "set-points: both shapes of the Beta distribution that the policy starts with; more starts "
        "closer to the middle of the box (1: uniform, 3: deviation a fifth of the box)",
        usual="2 ... 10",
        gt=1.0,
        le=1000.0,
    )
    base: float = knob(
        0.0,
        "set-points: start near the share of the box that the simulator names as its base, as if "
        "it had been observed so many times (0: from the middle of the box, whatever the base)",
        usual="0 or 10 ... 50",
        ge=0.0,
        le=1000.0,
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


class LearnerConfig(Settings):
    """One learner, with the DG-PG stage in front and the projection between gradient and step.

    ``ippo``: critic on own features. ``mappo``: central critic. ``happo``: central critic and
    sequential updates of the parameter groups with the compound ratio. ``hatrpo``: the same with
    natural-gradient steps in a trust region, every agent with the same KL. ``hatrpo-w``,
    ``hatrpo-g``: the same total KL, shared by the KKT conditions or greedily. ``clip-``: the
    compound ratio is clamped from above at 1.
    """

    algorithm: Algorithm = knob("mappo", "which member of the family")
    sharing: Sharing = knob(
        "group",
        "which agents share weights: none (each its own), group (the simulator's groups), all",
    )
    network: NetworkSettings = NetworkSettings()
    critic: CriticSettings = CriticSettings()
    guidance: GuidanceSettings = GuidanceSettings()
    trust_region: TrustRegionSettings = TrustRegionSettings()
    projection: ProjectionSettings = ProjectionSettings()

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
        32,
        "sequential learners: at most this many sequential steps; parameter groups of one block "
        "move at once (as many blocks as groups: the published one agent after another)",
        usual="8 ... 32, or the number of agents",
        ge=1,
    )
    order: Literal["random", "fixed", "greedy"] = knob(
        "random",
        "sequential learners: order of the groups, drawn anew for each update, as listed, or by "
        "measured improvement (hatrpo-w; hatrpo-g always decides by itself)",
    )
    clip_factor: bool | None = knob(
        None,
        "clamp the compound ratio of the groups that moved before from above at 1 where it is used "
        "(low variance, some bias); unset: as the algorithm's name says",
    )

    @property
    def sequential(self) -> bool:
        """Whether blocks of groups move one after another with the compound ratio."""
        return self.algorithm not in ("ippo", "mappo")

    @property
    def trusted(self) -> bool:
        """Whether steps are natural-gradient steps within a KL budget."""
        return "hatrpo" in self.algorithm

    @property
    def clips_factor(self) -> bool:
        """Whether the compound ratio is clamped from above at 1."""
        by_name = self.algorithm.startswith("clip-")
        return by_name if self.clip_factor is None else self.clip_factor

    @property
    def guided(self) -> bool:
        """Whether roll-outs have to carry guidance values (false: a plain learner)."""
        return not (self.guidance.alpha.schedule == "fixed" and self.guidance.alpha.start == 0.0)

    @property
    def needs_effects(self) -> bool:
        """Whether roll-outs have to record how every candidate would have moved the state."""
        return self.guided and self.guidance.estimator == "joint"
