"""The DG-PG stage: what stands between the advantages and the policy update."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import Doubles
from .actor import Actor
from .alignment import AlignmentMonitor, GradientGram
from .alpha import AlphaController
from .ascent import NAMED_GROUPS
from .experience import Decisions, Experience
from .gradients import time_units, unit_gram
from .guidance import AdvantageScale, Blend, JointBoxes, JointChoices, JointValues
from .interface import Rollout
from .joint_guidance import JointGuidance, JointSetPoints
from .minibatch import DecisionBatch
from .networks import to_tensor
from .ppo import Ppo
from .settings import LearnerConfig


class DescentGuidance:
    """Scale, weight and alignment of the guidance; state that lives from update to update.

    Random choices come from streams of its own, so that the rest of an update draws the same
    numbers with and without guidance.
    """

    def __init__(self, actor: Actor, config: LearnerConfig) -> None:
        self._actor, self._config, self._settings = actor, config, config.guidance
        self.scale = AdvantageScale(config.guidance.scale_memory)
        self.alpha = AlphaController(config.guidance.alpha, actor.groups)
        self.monitor = AlignmentMonitor(config.guidance.alignment)

    def blend(
        self,
        rollout: Rollout,
        ppo: Ppo,
        decisions: Decisions,
        *,
        update: int,
        rng: Callable[[str], np.random.Generator],
    ) -> tuple[Blend | None, dict[str, float]]:
        """How guidance enters this update, and statistics.

        None where alpha is 0 for every group: then the update has the plain learner's numbers,
        minibatches included.

        Raises:
            ValueError: guidance is on and the roll-out lacks what it needs.
        """
        settings = self._settings
        if not self._config.guided or decisions.flat.size == 0:
            return None, {}
        if settings.alpha.fine_tune_from is not None and not self.alpha.value(update).any():
            return None, {"guidance/alpha": 0.0}
        if not rollout.guidance.any():
            raise ValueError(
                "guidance is on (alpha > 0) but the roll-out carries no guidance values; collect "
                "it with an analytical model or set guidance.alpha.schedule=fixed and start=0"
            )
        joint = self._joint(rollout)
        square = self._square(ppo.experience, decisions, rng("guidance"))
        self.scale.observe(float(ppo.advantages.square().mean()), square)
        scale = self.scale.factor
        gram = self._measure(rollout, ppo, scale, rng("alignment"), update)
        inner, square_guidance = gram.products()
        self.alpha.observe(
            gram.variance_return, gram.variance_guidance, inner=inner, square=square_guidance
        )
        cosine, score = gram.cosine()
        self.alpha.brake = self.monitor.observe(score, self.alpha.brake)
        alpha = self.alpha.value(update)
        statistics = {
            "advantage/rms_guidance": math.sqrt(square),
            "guidance/scale": scale,
            "guidance/alpha": float(alpha.mean()),
            "guidance/variance_return": _mean_known(gram.variance_return),
            "guidance/variance_guidance": _mean_known(gram.variance_guidance),
            "guidance/kappa": self.alpha.kappa,
            "guidance/cosine": cosine,
            "guidance/cosine_error": abs(cosine / score) if score else float("nan"),
            "guidance/evidence": self.monitor.evidence,
            "guidance/alerts": float(self.monitor.alerts),
            "guidance/brake": self.alpha.brake,
        }
        if 1 < self._actor.groups <= NAMED_GROUPS:
            for name, value in zip(self._actor.names, alpha, strict=True):
                statistics[f"alpha/{name}"] = float(value)
        if not alpha.any():
            return None, statistics
        return self._blend(alpha, scale, update=update, joint=joint), statistics

    def _blend(
        self, alpha: Doubles, scale: float, *, update: int, joint: JointValues | None = None
    ) -> Blend:
        """Step size and KL limit move with alpha between the plain and the guided ones."""
        settings = self._settings
        trust = self._config.trust_region
        plain, guided = (
            (trust.kl, trust.guided_kl)
            if self._config.trusted
            else (self._config.target_kl, settings.target_kl)
        )
        return Blend(
            of_return=self._tensor(1.0 - alpha),
            of_guidance=self._tensor(alpha * scale),
            estimator=settings.estimator,
            clip=settings.clip,
            pace=self._tensor(settings.pace.at(update) ** alpha),
            target_kl=self._tensor(plain ** (1.0 - alpha) * guided**alpha),
            joint=joint,
        )

    def _tensor(self, values: Doubles) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._actor.device)

    def _joint(self, rollout: Rollout) -> JointValues | None:
        if self._settings.estimator != "joint":
            return None
        if rollout.effects is None:
            raise ValueError(
                "guidance.estimator=joint needs a roll-out with recorded effects; record them or "
                "set guidance.estimator=expected"
            )
        device = self._actor.device
        guidance = to_tensor(rollout.guidance, device).flatten(0, 1)
        mask = to_tensor(rollout.mask, device).flatten(0, 1)
        if rollout.boxes:
            effects = JointSetPoints.from_effects(rollout.effects, device)
            taken = to_tensor(rollout.actions, device).flatten(0, 1)
            return JointBoxes(effects, guidance, mask, taken)
        return JointChoices(JointGuidance.from_effects(rollout.effects, device), guidance, mask)

    @torch.no_grad()
    def _square(
        self, experience: Experience, decisions: Decisions, rng: np.random.Generator
    ) -> float:
        """Mean of ``E (A^G)^2`` over a random subset of decisions."""
        everyone = np.arange(self._actor.groups)
        share = max(64, self._config.max_samples // everyone.size)
        table = decisions.table(rng, everyone, per_group=share)
        batch = experience.minibatch(*experience.placed(*table, everyone))
        outputs = batch.outputs(self._actor.parameters)
        square = batch.squared_guidance(outputs, batch.guidance)
        # Groups count by their number of decisions, not each the same.
        count = torch.from_numpy(decisions.count).to(self._actor.device).double()
        return float((batch.mean(square).double() * count).sum() / count.sum())

    def _measure(
        self, rollout: Rollout, ppo: Ppo, scale: float, rng: np.random.Generator, update: int
    ) -> GradientGram:
        """Gram matrix of the two policy gradients on time blocks of the episodes.

        The joint estimator is measured in its expected form: at the roll-out policy both have the
        same mean, and the expected form's variance is an upper bound.
        """
        settings = self._settings.alignment
        everyone = np.arange(self._actor.groups)
        share = max(4, settings.samples // self._actor.groups)
        units = [
            Decisions(rollout, self._actor.member, self._actor.groups, within).table(
                rng, everyone, per_group=share
            )
            for within in time_units(
                ppo.experience.episodes,
                ppo.experience.epochs,
                block=settings.block,
                aim=settings.units,
            )
        ]
        pure = [
            dataclasses.replace(ppo, blend=self._blend(whole, scale, update=update))
            for whole in (np.zeros(self._actor.groups), np.ones(self._actor.groups))
        ]

        def objectives(batch: DecisionBatch, outputs: Tensor) -> tuple[Tensor, Tensor]:
            old = outputs.detach()
            of_return, of_guidance = (
                one.surrogate(batch, old, outputs, None, clip=None)[0] for one in pure
            )
            return of_return, of_guidance

        return unit_gram(
            self._actor.parameters,
            ppo.experience,
            units,
            objectives=objectives,
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that ``load_state`` needs for an exact resume."""
        parts = {"scale": self.scale.state(), "alpha": self.alpha.state()}
        arrays: dict[str, NDArray[Any]] = {
            f"{part}.{name}": array for part, own in parts.items() for name, array in own.items()
        }
        arrays["evidence"] = np.array([self.monitor.evidence])
        arrays["alerts"] = np.array([self.monitor.alerts])
        return arrays

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore a state; shapes were checked by the learner."""
        self.scale.load_state(part(arrays, "scale"))
        self.alpha.load_state(part(arrays, "alpha"))
        self.monitor.evidence = float(arrays["evidence"][0])
        self.monitor.alerts = int(arrays["alerts"][0])


def part(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The entries named ``prefix.<name>``, by ``<name>``."""
    start = prefix + "."
    return {name[len(start) :]: a for name, a in arrays.items() if name.startswith(start)}


def _mean_known(values: Doubles) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
