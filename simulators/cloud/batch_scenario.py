"""The `swf` scenario as a value: batch scheduling of a job log by one agent per partition."""

from __future__ import annotations

from typing import Literal

from ..settings import Settings, knob
from .backfill import Backfill

Objective = Literal["bounded_slowdown", "response"]

PUBLISHED_STARTS = (1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085)
"""Where RLScheduler's ten evaluation sequences of 1,024 jobs start in a log of 10,000 jobs.

They follow from its seed 1 through numpy's RandomState; see its public code (arXiv 1910.08925).
"""


class SwfScenario(Settings):
    """Partitions of one machine type, each with its own queue and its own stretch of a job log.

    Every agent decides which waiting job of its partition to commit to next. With one partition and
    ``cycle = 0`` this is RLScheduler's game; more partitions share nothing but the reward.
    """

    name: Literal["swf"] = knob("swf", "scenario name")
    agents: int = knob(1, "partitions, one agent each", usual="1..100", ge=1)
    log: str = knob("lublin1_256.swf", "job log in Standard Workload Format (plain or .gz)")
    data: str | None = knob(None, "folder with the job log (none: FAIRLEAD_DATA)")
    processors: int | None = knob(
        None, "processors of each partition (none: what the log's header says)", ge=1
    )
    jobs: int = knob(1024, "consecutive jobs per partition and episode", usual="256..1024", ge=2)
    starts: tuple[int, ...] = knob(
        (), "positions in the log that seeds 0, 1, ... begin at, in turn (empty: drawn)"
    )
    horizon: int = knob(
        2048, "most decision epochs of an episode; it ends when every job has started", ge=1
    )
    window: int = knob(
        64, "waiting jobs that an agent can choose from, first come first", usual="32..128", ge=1
    )
    backfill: Backfill = knob("none", "rule by which other jobs run ahead of a committed one")
    objective: Objective = knob("bounded_slowdown", "mean over the jobs that the reward counts")
    cycle: float = knob(
        0.0,
        "decide only at multiples of this, all partitions at once (0: at every event)",
        unit="s",
        usual="0..60",
        ge=0,
    )
    recheck: float = knob(
        60.0, "when a holding agent is asked again if nothing else happens", unit="s", gt=0
    )
