"""One decision, from what is observed to what is done: ``decide``.

The order is the contract: validate, impute, gate, policy under a time limit, projection, Simplex
switch; below the policy the ladder of the previous champion, the domain's baseline, hold and the
safe constant; a circuit breaker around the policy. Whatever happens, the answer is finite and
feasible, and every agent's action says who made it and why.

A pure function but for two things: it asks the policy (which may be anything that implements
``Policy``) and it takes the time of its stages, which nothing depends on. Given the same runtime,
settings, state, request, clock and outcomes of the policies it decides the same, bit for bit;
replays rely on that (:class:`.asking.Injected`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Box, Floats, Ints, Spec
from . import simplex
from .arrays import every, some
from .bounds import bounds_of
from .checks import check_shape, order
from .ladder import Ladder
from .questions import Asked, Plan, ask_policies, withheld_of
from .screening import screen
from .seeds import seed_of
from .settings import SlotSettings
from .types import (
    Actions,
    Cause,
    Clock,
    Decision,
    Live,
    Mode,
    Projected,
    Request,
    Runtime,
    Source,
    State,
    Tick,
)

_POLICY, _PROJECTED, _PREVIOUS = Source.POLICY, Source.PROJECTED, Source.PREVIOUS


def decide(
    runtime: Runtime, settings: SlotSettings, state: State, request: Request, clock: Clock
) -> tuple[State, Decision]:
    """Decide on one request.

    Args:
        runtime: who decides.
        settings: of the slot.
        state: what the decision before left.
        request: the observation, and whose it is. Its arrays are only read.
        clock: now, for deadlines, staleness and the breaker.

    Returns:
        The state for the next decision, and the decision.

    Raises:
        Rejected: the request does not say what to decide about (shapes, types, agents, a box that
            is none, an agent that may not hold, a seq that is not newer). The state stays.
    """
    began = time.perf_counter()
    check_shape(runtime.spec, settings.validation, request)
    sequence = order(state, request)
    seed = seed_of(request, state.ticks)
    bounds = bounds_of(runtime.spec, runtime.observed, settings.drift)
    screened = screen(bounds, settings, request.observation)
    withheld, whole, invalid = withheld_of(runtime, settings, state, request, clock, screened)
    validated = time.perf_counter()
    asked = ask_policies(
        runtime, settings, state, request, clock, Plan(screened, withheld, whole, seed)
    )
    answered = time.perf_counter()
    ladder = Ladder(
        live=runtime.live,
        observation=screened.observation,
        last=_fitting(state.last, runtime.spec),
        agents=request.agents,
        seed=seed,
    )
    done, switch, looking = _act(runtime, settings, state, ladder, asked, withheld)
    acted = time.perf_counter()
    actions = done.projected.actions.copy()
    # State and decision share it.
    actions.setflags(write=False)
    outcome, mode = _result(runtime, done)
    decision = Decision(
        actions=actions,
        source=done.source,
        cause=done.cause,
        outcome=outcome,
        mode=mode,
        bundle=runtime.digest,
        seed=seed,
        asked=(asked.champion, asked.previous),
        distance=done.projected.distance,
        margin=switch.margin,
        deviation=_deviation(runtime.live, ladder, actions),
        wanted=None if asked.inference is None else asked.inference.actions,
        preference=None if done.whole or asked.inference is None else asked.inference.preference,
        invalid=invalid,
        seconds={
            "validate": validated - began,
            "policy": answered - validated,
            "project": acted - answered - looking,
            "simplex": looking,
        },
        failures={**asked.failures, **ladder.failures},
    )
    after = State(
        mode=mode,
        breaker=asked.breaker,
        clean=switch.clean,
        latched=switch.latched,
        forced=state.forced,
        last=_executed(state.last, actions, request.agents, runtime.spec),
        sequence=sequence,
        ticks=state.ticks + 1,
    )
    return after, decision


@dataclass(frozen=True, slots=True)
class _Done:
    """Feasible actions with their provenance; ``whole``: no agent got the policy's action."""

    projected: Projected
    source: NDArray[np.int8]
    cause: NDArray[np.int8]
    whole: bool


def _act(
    runtime: Runtime,
    settings: SlotSettings,
    state: State,
    ladder: Ladder,
    asked: Asked,
    withheld: NDArray[np.int8] | None,
) -> tuple[_Done, simplex.Switch, float]:
    """Execute the answer if it passes, else climb down; also the seconds of the look-ahead."""
    maker = asked.maker
    if asked.inference is None or maker is None:
        idle = simplex.unasked(settings.simplex, state)
        return _fallen(ladder, withheld, asked.whole), idle, 0.0
    done = _executable(ladder, asked.inference.actions, maker, asked.whole, withheld)
    if done is None:
        idle = simplex.unasked(settings.simplex, state)
        return _fallen(ladder, withheld, Cause.ERROR), idle, 0.0
    before = time.perf_counter()
    switch = simplex.look_ahead(
        settings.simplex,
        state,
        live=runtime.live,
        ladder=ladder,
        actions=done.projected.actions,
        champion=maker is _POLICY,
    )
    looking = time.perf_counter() - before
    if not switch.accepted:
        return _fallen(ladder, withheld, Cause.SIMPLEX), switch, looking
    return done, switch, looking


def _executable(
    ladder: Ladder,
    actions: Actions,
    maker: Source,
    whole: Cause,
    withheld: NDArray[np.int8] | None,
) -> _Done | None:
    """The answer, with fallbacks where agents are withheld, projected; ``None``: impossible."""
    active = ladder.observation.active
    rows = active.shape[0]
    # Agents with nothing to decide hold (set-points: their lower end), whatever the policy says.
    low = ladder.observation.low
    wanted = actions * active if actions.ndim == 1 else np.where(active[:, None], actions, low)
    source = np.full(rows, maker, np.int8)
    cause = np.full(rows, whole, np.int8)
    if withheld is not None:
        apart = withheld != 0
        fallback, rung = ladder.parts()
        wanted = np.where(apart if wanted.ndim == 1 else apart[:, None], fallback, wanted)
        source[apart] = rung
        cause[apart] = withheld[apart]
    projected = ladder.project(wanted)
    if projected is None:
        return None
    if np.count_nonzero(projected.cause):
        moved = (projected.cause != 0) & (source == _POLICY)
        source[moved] = _PROJECTED
        cause[moved] = projected.cause[moved]
    return _Done(projected, source, cause, whole=maker is _PREVIOUS)


def _fallen(ladder: Ladder, withheld: NDArray[np.int8] | None, whole: Cause) -> _Done:
    """Everybody on the highest rung below the policies that holds."""
    projected, rung = ladder.whole()
    rows = ladder.observation.active.shape[0]
    cause = np.full(rows, whole, np.int8)
    if withheld is not None:
        np.copyto(cause, withheld, where=withheld != 0)
    return _Done(projected, np.full(rows, rung, np.int8), cause, whole=True)


def _result(runtime: Runtime, done: _Done) -> tuple[Tick, Mode]:
    if done.whole:
        still = (done.source == Source.HOLD) | (done.source == Source.SAFE)
        return "fallback", "hold" if every(still) else "fallback"
    if some(done.source > _PROJECTED):
        return "degraded", "degraded"
    return "ok", runtime.mode


def _deviation(live: Live, ladder: Ladder, actions: Actions) -> Floats:
    rows = ladder.observation.active.shape
    try:
        deviation = live.deviation(ladder.observation, actions)
        if deviation.shape == rows:
            return deviation
        ladder.failures["deviation"] = f"shape {deviation.shape}, not {rows}"
    except Exception as error:  # noqa: BLE001 - a figure for operators must not cost the decision
        ladder.failures["deviation"] = f"{type(error).__name__}: {error}"
    return np.full(rows, np.nan, np.float32)


def _shape(spec: Spec) -> tuple[int, ...]:
    return (spec.agents, spec.action.dimensions) if isinstance(spec.action, Box) else (spec.agents,)


def _fitting(last: Actions | None, spec: Spec) -> Actions | None:
    """Last actions, unless they are another bundle's with other agents."""
    return last if last is not None and last.shape == _shape(spec) else None


def _executed(last: Actions | None, actions: Actions, agents: Ints | None, spec: Spec) -> Actions:
    if agents is None:
        return actions
    known = _fitting(last, spec)
    if known is None:
        empty = np.nan if isinstance(spec.action, Box) else 0
        known = np.full(_shape(spec), empty, actions.dtype)
    updated = known.copy()
    updated[agents] = actions
    return updated
