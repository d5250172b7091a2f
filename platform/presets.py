"""Ready-made runs, as overrides of the defaults."""

from __future__ import annotations

_RIVALS = (
    "random",
    "weighted-random",
    "jsq",
    "power-of-two",
    "least-work-left",
    "sed",
    "interpreted",
    "interpreted-reference",
    "greedy-reference",
    "sed (fresh)",
)

DEMO = (
    "scenario.agents=20",
    "iterations=20",
    "episodes=1",
    "evaluation.every=2",
    "evaluation.episodes=20",
    f"evaluation.baselines={list(_RIVALS)}",
)
"""DG-PG on the built-in dispatch scenario with 20 agents."""
