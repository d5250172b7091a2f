"""Ready-made runs, and knobs that suit one scenario better than the general defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..policies.settings import Algorithm

ALGORITHMS: Mapping[Algorithm, str] = {
    "ippo": "every agent learns from what it sees itself; the plainest baseline",
    "mappo": "a central critic, all groups move at once; the quick default, good with guidance",
    "happo": "groups move one after another and take the earlier moves into account",
    "clip-happo": "happo with less noise from the earlier moves; for many groups",
    "hatrpo": "happo with natural-gradient steps of a measured KL, the same for every agent; "
    "steady where a step size is hard to choose",
    "clip-hatrpo": "hatrpo with less noise from the earlier moves; for many groups",
    "hatrpo-w": "the same total KL, given to groups in proportion to what it gains there; for "
    "groups that differ",
    "hatrpo-g": "the same total KL, given greedily to the group that gains most next; for few "
    "groups that matter among many",
}
"""Every member of the family and what it is for, in one line."""

BATCH: Mapping[str, Any] = {
    "iterations": 16,
    "evaluation": {"stochastic": False},
    "learner": {
        "guidance": {
            "alpha": {"schedule": "fixed", "start": 1.0},
            "target_kl": 10.0,
            "pace": {"updates": 12},
        }
    },
}
"""Batch scheduling: one decision at a time among many jobs.

Nobody decides at the same moment, so the best score is served; the return is dominated by the
backlog of a few sequences, so the guidance alone is followed, in long steps.
"""

DISPATCH: Mapping[str, Any] = {
    "iterations": 10,
    "episodes": 4,
    "evaluation": {"stochastic": False, "episodes": 20},
    "learner": {
        "sharing": "group",
        "network": {"base": 30.0, "hidden": [32, 32]},
        "passes": 10,
        "guidance": {
            "estimator": "expected",
            "alpha": {"schedule": "fixed", "start": 1.0},
            "target_kl": 1000.0,
            "pace": {"first": 0.3, "last": 0.05, "updates": 10},
        },
    },
}
"""Dispatch: set-points are no ranking, so nothing herds and the mode of the policy is served.

Technologies have weights of their own. They start from the response to the indicative price, and
move slowly away from it: what one day teaches must not undo what another did. Each unit moves its
own output only, so guidance in expectation over own actions is what the joint one would be.
"""

SIGNALS: Mapping[str, Any] = {
    "iterations": 10,
    "episodes": 8,
    "evaluation": {"stochastic": False, "episodes": 10, "keep": "last"},
    "learner": {
        "sharing": "all",
        "gamma": 0.9,
        "gae_lambda": 0.9,
        "local_mix": 0.8,
        "guidance": {"alpha": {"schedule": "linear", "end": 0.3, "updates": 8}},
    },
}
"""Signals: the mode of the policy is served, because neighbours do not herd.

What a phase does shows within a minute or two and mostly at its own stop lines: hence the short
horizon, and a reward that is mostly its own delay.
"""

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
