"""Learners by name. Importing this module needs no torch; making a learner does."""

from __future__ import annotations

from ..simulators.interface import Spec
from .interface import Learner
from .settings import LearnerConfig

__all__ = ["LearnerConfig", "make_learner"]


def make_learner(spec: Spec, config: LearnerConfig, *, seed: int, device: str = "cpu") -> Learner:
    """A learner with fresh weights.

    Args:
        spec: of the simulator to learn on.
        config: ``algorithm`` picks IPPO, MAPPO or HAPPO; ``guidance`` is the DG-PG stage.
        seed: of weights, minibatches and orders.
        device: ``cpu``, ``cuda`` or ``cuda:<n>``.
    """
    from .actor_critic import ActorCritic

    return ActorCritic(spec, config, seed=seed, device=device)
