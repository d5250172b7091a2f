"""openb through the extender, beside the same in process, Best-Fit and FGD."""

from __future__ import annotations

import time
from typing import Any

from ...policies.heuristics.dispatch import controllers
from ..bundle import Bundle
from ..cloud_live import cloud_live
from ..daemon.interface import Entry
from ..decision.asking import Inline
from ..decision.core import decide
from ..decision.settings import SlotSettings
from ..decision.types import Clock, Request, Runtime, State
from ..rollout.backends import backend_of
from .extender import Extender
from .remote import Comparison, ExtenderApi, ExtenderPlacer
from .scheduler import Placer, Replayed, RulePlacer, replay
from .service import build_extender
from .view import Viewer
from .workload import Trace

RULES = {"best-fit": "Best-Fit", "fgd": "FGD"}
"""Rules shown beside the policy, as the dispatching scenarios call them, and their titles."""


class InProcess:
    """The daemon's decision core without the daemon: answers requests one after another.

    Args:
        bundle: who decides.
        settings: knobs of the slot.
    """

    def __init__(self, bundle: Bundle, settings: SlotSettings):
        backend, stochastic = backend_of(bundle, settings)
        self.runtime = Runtime(
            spec=bundle.spec,
            policy=Inline(str(bundle.manifest["digest"]), backend),
            previous=None,
            live=cloud_live(bundle.spec, bundle.manifest["scenario"]["settings"], settings),
            observed=bundle.manifest.get("observed", {}),
            stochastic=stochastic,
        )
        self._settings, self._state, self._count = settings, State(), 0

    def __call__(self, request: Request, /) -> Entry:
        clock = Clock(time.monotonic(), time.time())
        before = self._state
        self._state, decision = decide(self.runtime, self._settings, before, request, clock)
        self._count += 1
        name = f"{self.runtime.spec.domain}-00000000-{self._count}"
        return Entry(name, self.runtime.spec.domain, clock, request, decision, before)


def through_http(
    bundle: Bundle, settings: SlotSettings, trace: Trace, api: ExtenderApi
) -> tuple[Replayed, Comparison]:
    """Replay through a daemon, every answer compared with the extender in process."""
    extender, viewer = _books(bundle, settings, trace)
    placer = ExtenderPlacer(api, extender, viewer, trace.listed)
    try:
        return replay(trace, placer, extender.cluster), placer.result
    finally:
        api.close()


def by_rule(bundle: Bundle, settings: SlotSettings, trace: Trace, name: str) -> Replayed:
    """Replay with a rule in process, by its name among the dispatching scenarios' rules."""
    extender, viewer = _books(bundle, settings, trace)
    scenario = cloud_live(bundle.spec, bundle.manifest["scenario"]["settings"], settings).scenario
    rules: tuple[Any, ...] = controllers(
        scenario,  # pyright: ignore[reportArgumentType]  # build_extender took an openb scenario
        bundle.spec,
        nodes=len(trace.rows),
    )
    rule = next(rule for rule in rules if rule.name == name)
    placer: Placer = RulePlacer(rule, viewer, extender.cluster)
    return replay(trace, placer, extender.cluster)


def _books(bundle: Bundle, settings: SlotSettings, trace: Trace) -> tuple[Extender, Viewer]:
    core = InProcess(bundle, settings)
    extender = build_extender(core.runtime, core)
    extender.feed_nodes({**trace.listed, "time": 0.0})
    return extender, extender.viewer
