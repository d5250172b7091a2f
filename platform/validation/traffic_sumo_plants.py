"""One town in two plants, our streets and SUMO, under plans that the signals run by themselves."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.traffic.plans import FIXED
from ...simulators.traffic.signals import TrafficSimulator
from ...simulators.traffic.sumo.simulator import SumoSimulator
from ...simulators.traffic.town import Town

Metrics = Mapping[str, float]


@contextmanager
def in_sumo(town: Town) -> Generator[SumoSimulator]:
    """The town in SUMO, which has ended afterwards."""
    simulator = SumoSimulator(town)
    try:
        yield simulator
    finally:
        simulator.close()


def played(
    simulator: TrafficSimulator | SumoSimulator, seeds: Sequence[int], plan: str = FIXED
) -> list[Metrics]:
    """Figures of one episode per seed, with all signals under ``plan``."""
    simulator.use_local(plan)
    hold = np.zeros(simulator.spec.agents, dtype=np.int64)
    found: list[Metrics] = []
    for seed in seeds:
        simulator.reset(seed)
        while not simulator.step(hold).truncated:
            pass
        found.append(simulator.metrics())
    return found


def mean_of(episodes: Sequence[Metrics], figure: str) -> float:
    """Mean over episodes."""
    return float(np.mean([episode[figure] for episode in episodes]))


def apart(ours: float, theirs: float) -> float:
    """Relative difference, in %, of our figure from theirs."""
    return 100.0 * (ours / theirs - 1.0)


def left_links(town: Town, simulator: TrafficSimulator) -> Doubles:
    """``[L]`` vehicles that have left each link, or arrived on it, in the running episode."""
    gone = np.array(simulator.streets.gone, dtype=np.float64)
    links = town.network.lane_link
    return np.bincount(links, weights=gone, minlength=len(town.network.links)).astype(np.float64)
