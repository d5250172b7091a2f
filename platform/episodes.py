"""Plays one episode: a task goes in, figures and (if asked for) pre-allocated arrays come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..models.interface import AnalyticalModel
from ..policies.acting import actor
from ..policies.interface import Controller, Effects, PlantPlan
from ..simulators.interface import (
    Closeable,
    Ints,
    LocallyControlled,
    Observation,
    SequentialSimulator,
    Simulator,
    Spec,
    Step,
)
from .files import UserError
from .recording import Layout, Recording, recording_of
from .tasks import Episode, Factory, Guidance, Heuristic, Result, Task, Trained

ACTION_STREAM = 0xAC7
"""Second entropy word of the action-sampling stream; keeps it apart from the simulator's own."""

Provide = Callable[[Layout], Mapping[str, NDArray[Any]]]
"""Gives room for the arrays of a layout; their content is overwritten."""

_EFFECTS = ("deviation", "weight", "index", "value")


def layout(spec: Spec, *, support: int | None = None) -> Layout:
    """Shape and type of every array of an :class:`Episode` of this simulator.

    With ``support``, the largest number of coordinates that one action moves, also those of its
    :class:`Effects`.
    """
    return recording_of(spec).layout(support)


def allocate(wanted: Layout) -> dict[str, NDArray[Any]]:
    """Fresh arrays in ordinary memory."""
    return {name: np.zeros(shape, kind) for name, (shape, kind) in wanted.items()}


def assemble(arrays: Mapping[str, NDArray[Any]]) -> Episode:
    """The arrays of a layout as an episode."""
    plain = {name: array for name, array in arrays.items() if name not in _EFFECTS}
    effects = {name: arrays[name] for name in _EFFECTS if name in arrays}
    return Episode(**plain, effects=Effects(**effects) if effects else None)


class Stage:
    """Simulator, models and controllers of one process, built once and kept."""

    def __init__(self, factory: Factory):
        self._factory = factory
        self.simulator: Simulator = factory.simulator()
        self._models: dict[str, AnalyticalModel] = {}
        self._actor: tuple[Trained, Controller] | None = None

    @property
    def spec(self) -> Spec:
        return self.simulator.spec

    def model(self, reference: str) -> AnalyticalModel:
        if reference not in self._models:
            self._models[reference] = self._factory.model(reference)
        return self._models[reference]

    def controller(self, wanted: Trained | Heuristic | Controller) -> Controller:
        """The acting object for a task's controller.

        Heuristics are built anew for every episode, so that one with a memory (round robin)
        cannot carry it from one episode into the next.

        Raises:
            UserError: the scenario has no heuristic of that name; names the known ones.
        """
        if isinstance(wanted, Trained):
            if self._actor is None or self._actor[0] is not wanted:
                built = actor(
                    self.spec, wanted.arrays, name=wanted.name, stochastic=wanted.stochastic
                )
                self._actor = (wanted, built)
            return self._actor[1]
        if isinstance(wanted, Heuristic):
            offered = {rule.name: rule for rule in self._factory.heuristics()}
            if wanted.name not in offered:
                raise UserError(
                    f"scenario {self.spec.scenario!r} has no heuristic {wanted.name!r}; "
                    f"known: {', '.join(sorted(offered)) or 'none'}"
                )
            return offered[wanted.name]
        return wanted

    def close(self) -> None:
        """End what the simulator runs outside this process; another ``play`` starts it anew."""
        if isinstance(self.simulator, Closeable):
            self.simulator.close()

    def play(self, task: Task, provide: Provide = allocate) -> Result:
        """Play ``task``; ``provide`` gives room for a recorded one (fresh arrays by default)."""
        return _Play(self, task, provide).run()


def give_control(simulator: Simulator, controller: Controller) -> None:
    """Before a reset: the plant runs its own plan if the controller stands for one.

    Raises:
        UserError: it stands for a plan and the plant has no controllers of its own.
    """
    plan = controller.plan if isinstance(controller, PlantPlan) else ""
    if isinstance(simulator, LocallyControlled):
        simulator.use_local(plan)
    elif plan:
        raise UserError(
            f"{controller.name!r} is run by the plant; this simulator has no controllers of its own"
        )


class _Play:
    """The state of one episode in progress."""

    def __init__(self, stage: Stage, task: Task, provide: Provide):
        self._stage, self._task, self._provide = stage, task, provide
        self._controller = stage.controller(task.controller)
        self._arrays: Episode | None = None
        self._rng = np.random.default_rng(np.random.SeedSequence([task.seed, ACTION_STREAM]))
        guidance = task.guidance
        self._recording = recording_of(stage.spec, guidance.form if guidance else "exact")
        self._guide = (
            _Guide(stage.model(guidance.reference), guidance, self._recording) if guidance else None
        )
        self._seconds = {"simulate": 0.0, "act": 0.0, "guidance": 0.0}
        self._components: dict[str, float] = {}
        self._total = 0.0

    def run(self) -> Result:
        clock = perf_counter()
        give_control(self._stage.simulator, self._controller)
        observation = self._stage.simulator.reset(self._task.seed)
        if self._task.record:
            support = self._guide.support(observation) if self._guide else None
            self._arrays = assemble(self._provide(self._recording.layout(support)))
        self._seconds["simulate"] += perf_counter() - clock
        fresh = self._controller.information == "fresh"
        epoch, terminated = 0, False
        while True:
            step = self._fresh() if fresh else self._joint(epoch, observation)
            self._account(epoch, step)
            observation = step.observation
            epoch += 1
            if step.terminated or step.truncated:
                terminated = step.terminated
                break
        if self._arrays is not None:
            self._recording.close(self._arrays, epoch, observation)
        return Result(
            seed=self._task.seed,
            controller=self._controller.name,
            total=self._total,
            components=self._components,
            metrics=self._stage.simulator.metrics(),
            epochs=epoch,
            terminated=terminated,
            distance=self._guide.distance() if self._guide else float("nan"),
            seconds=self._seconds,
            episode=self._arrays,
        )

    def _joint(self, epoch: int, observation: Observation) -> Step:
        """All agents decide at once on the same observation."""
        start = perf_counter()
        actions = self._controller.act(observation, self._rng)
        acted = perf_counter()
        if self._arrays is not None:
            self._record(self._arrays, epoch, observation, actions)
        guided = perf_counter()
        step = self._stage.simulator.step(actions)
        self._seconds["act"] += acted - start
        self._seconds["guidance"] += guided - acted
        self._seconds["simulate"] += perf_counter() - guided
        return step

    def _fresh(self) -> Step:
        """Agents decide one after another, each with the true present before it."""
        simulator = self._stage.simulator
        if self._arrays is not None or not isinstance(simulator, SequentialSimulator):
            raise UserError(
                f"{self._controller.name!r} decides on fresh information: it can be evaluated on "
                "a simulator with step_fresh, not recorded for training"
            )
        start = perf_counter()
        # Whoever decides on fresh information chooses among candidates.
        step = simulator.step_fresh(
            lambda seen: cast("Ints", self._controller.act(seen, self._rng))
        )
        self._seconds["simulate"] += perf_counter() - start
        return step

    def _record(
        self, arrays: Episode, epoch: int, observation: Observation, actions: NDArray[Any]
    ) -> None:
        self._recording.write(arrays, epoch, observation, actions)
        if self._guide:
            self._guide.record(arrays, epoch, observation, actions)

    def _account(self, epoch: int, step: Step) -> None:
        self._total += step.reward
        for name, value in step.components.items():
            self._components[name] = self._components.get(name, 0.0) + value
        if self._arrays is not None:
            self._arrays.reward[epoch] = step.reward
            self._arrays.local_reward[epoch] = step.local_reward


class _Guide:
    """Guidance along an episode, and how far the state was from the reference."""

    def __init__(self, model: AnalyticalModel, guidance: Guidance, recording: Recording):
        self._model, self._guidance, self._recording = model, guidance, recording
        self._sum, self._count = 0.0, 0

    def support(self, observation: Observation) -> int | None:
        """Room for recorded effects: coordinates per action; ``None`` if they are not wanted."""
        if not self._guidance.effects:
            return None
        return self._model.influence(observation).index.shape[2]

    def record(
        self, arrays: Episode, epoch: int, observation: Observation, actions: NDArray[Any]
    ) -> None:
        reference = self._model.reference(observation.exogenous)
        influence = self._model.influence(observation)
        deviation = observation.state - reference.x_ref
        self._sum += 0.5 * float(reference.weight @ (deviation * deviation))
        self._count += 1
        self._recording.guide(arrays, epoch, observation, actions, (reference, influence))

    def distance(self) -> float:
        return self._sum / self._count if self._count else float("nan")


def named(episode: Episode) -> dict[str, NDArray[Any]]:
    """The arrays of an episode by name, as in :func:`layout`; the inverse of :func:`assemble`."""
    plain = {field.name: getattr(episode, field.name) for field in fields(Episode)}
    del plain["effects"]
    plain = {name: array for name, array in plain.items() if array is not None}
    if episode.effects is not None:
        plain |= {name: getattr(episode.effects, name) for name in _EFFECTS}
    return plain
