"""Whole episodes of the traffic simulator: vehicles add up, lamps are safe, nothing is random.

What an episode must hold whatever agents do, on generated streets under random legal actions.
"""

from __future__ import annotations

import hashlib
from functools import partial
from itertools import pairwise

import numpy as np

from ...simulators.observations import random_actions
from ...simulators.traffic.programme import GREEN, Signal
from ...simulators.traffic.scenario import ArterialScenario, GridScenario, Scenario
from ...simulators.traffic.signals import TrafficSimulator
from ...simulators.traffic.streets import Streets
from ...simulators.traffic.town import town_of
from ..rows import Row
from .suites import Check

Lamps = list[list[tuple[float, str]]]
"""By signal: s, and the state that is shown from then on."""


def episode_checks(*, quick: bool) -> list[Check]:
    """Episodes on a grid that jams, and on an arterial with signals of several kinds."""
    seconds = 600.0 if quick else 1800.0
    scenarios: dict[str, Scenario] = {
        "grid": GridScenario(rows=3, columns=3, spacing=80.0, rate=900.0, seconds=seconds),
        "mixed grid": GridScenario(rows=3, columns=3, rate=400.0, mixed=True, seconds=seconds),
        "arterial": ArterialScenario(signals=5, seconds=seconds),
    }
    return [
        Check(f"episode: {name}", partial(episode_rows, name, scenario), seconds / 900.0)
        for name, scenario in scenarios.items()
    ]


def episode_rows(name: str, scenario: Scenario) -> list[Row]:
    """One episode of random actions, twice."""
    # Frozen settings have a hash, which the type checker does not see.
    simulator = TrafficSimulator(town_of(scenario))  # pyright: ignore[reportArgumentType]
    lamps, balance = random_episode(simulator, seed=1)
    first = fingerprint(simulator.streets)
    random_episode(simulator, seed=1)
    again = fingerprint(simulator.streets)
    timing = scenario.timing
    signals = simulator.town.network.signals
    faults = sum(
        unsafe_changes(signal, shown, yellow=timing.yellow, all_red=timing.all_red)
        for signal, shown in zip(signals, lamps, strict=True)
    )
    changes = sum(len(shown) - 1 for shown in lamps)
    return [
        *balance_rows(name, simulator.streets, balance),
        Row.at_least(f"{name}: changes of lamps", changes, "1", 10 * len(signals)),
        Row.near(f"{name}: unsafe changes of lamps", faults, "1", 0, 0),
        Row.near(f"{name}: two runs with one seed differ", float(first != again), "1", 0.0, 0),
    ]


def balance_rows(name: str, streets: Streets, balance: int) -> list[Row]:
    """How many there were, and whether they add up."""
    return [
        Row.at_least(f"{name}: vehicles that entered", streets.inserted, "1", 1),
        Row.near(f"{name}: largest imbalance of vehicles at a decision", balance, "1", 0, 0),
    ]


def random_episode(simulator: TrafficSimulator, *, seed: int) -> tuple[Lamps, int]:
    """Play random legal actions to the end; lamps of all signals, and the largest imbalance."""
    seen = simulator.reset(seed)
    rng = np.random.default_rng(seed)
    lamps = watched(simulator)
    balance = 0
    for _ in range(simulator.spec.horizon):
        seen = simulator.step(random_actions(simulator.spec, seen, rng)).observation
        balance = max(balance, imbalance(simulator.streets))
    return lamps, balance


def watched(simulator: TrafficSimulator) -> Lamps:
    """What its signals show from now to the end of the episode, filled as they change."""
    streets, signals = simulator.streets, simulator.town.network.signals
    found: Lamps = [[(0.0, signal.greens[0])] for signal in signals]
    show = streets.show

    def recorded(signal: int, state: str) -> None:
        found[signal].append((streets.calendar.now, state))
        show(signal, state)

    streets.show = recorded
    return found


def imbalance(streets: Streets) -> int:
    """Vehicles too many or too few, over all lanes and in total; more on a lane than it holds."""
    on_lanes = sum(len(queue) for queue in streets.queues)
    inside = sum(len(queue) for queue in streets.inside.values())
    outside = sum(len(queue) for queue in streets.origins)
    wrong = abs(streets.inserted - on_lanes - inside - streets.completed)
    wrong += abs(streets.due() - streets.inserted - outside)
    wrong += abs(on_lanes - int((np.frombuffer(streets.lane_of, dtype=np.int64) >= 0).sum()))
    for lane, queue in enumerate(streets.queues):
        taken = sum(streets.space[vehicle] for vehicle in queue)
        wrong += taken > streets.layout.room[lane] + 1e-6 and len(queue) > 1
    return wrong


def unsafe_changes(
    signal: Signal, shown: list[tuple[float, str]], *, yellow: float, all_red: float
) -> int:
    """Greens that begin too soon after one they conflict with, and ends without their yellow.

    Letters conflict if no green phase lets both go.
    """
    faults = 0
    letters = range(len(signal.greens[0]))
    lost = dict.fromkeys(letters, -np.inf)
    for (_, before), (now, after) in pairwise(shown):
        for letter in letters:
            old, new = before[letter] in GREEN, after[letter] in GREEN
            if old and not new:
                lost[letter] = now
                faults += yellow > 0 and after[letter] != "y"
            if new and not old:
                faults += sum(
                    after[other] in GREEN or now < lost[other] + yellow + all_red - 1e-9
                    for other in letters
                    if _conflict(signal, letter, other)
                )
    return faults


def _conflict(signal: Signal, one: int, two: int) -> bool:
    return not any(state[one] in GREEN and state[two] in GREEN for state in signal.greens)


def fingerprint(streets: Streets) -> str:
    """A hash over when everybody entered, arrived and was last ready to cross."""
    digest = hashlib.sha256()
    for times in (streets.entered, streets.finished, streets.ready, streets.lane_of):
        digest.update(times.tobytes())
    return digest.hexdigest()
