"""One street with one signal, the smallest town that both plants can run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.traffic.demand import Demand, Kind
from ...simulators.traffic.driving import Driving
from ...simulators.traffic.episode import FASTEST
from ...simulators.traffic.generated import LIMIT, grid_network
from ...simulators.traffic.network import Network
from ...simulators.traffic.scenario import GridScenario
from ...simulators.traffic.town import Town

ENTRY, EXIT = "west0-J0_0", "J0_0-east0"
RED, YELLOW = 40.0, 3.0


def street(length: float, *, speed: float = LIMIT, green: float = 30.0) -> Network:
    """One lane of ``length`` m to a signal and one behind it; red, ``green`` s, yellow, anew.

    The crossing street is there and empty.
    """
    network = grid_network(1, 1, spacing=length, lanes=1, speed=speed, phases="2")
    # Stop lines lie before the centre: a length more makes up for it.
    short = length - float(network.length[network.link_index[ENTRY]])
    network = grid_network(1, 1, spacing=length + short, lanes=1, speed=speed, phases="2")
    signal = network.signals[0]
    shown = _green(network)
    steps = (
        ("r" * len(shown), RED),
        (shown, green),
        (shown.replace("G", "y").replace("g", "y"), YELLOW),
    )
    return replace(network, signals=(replace(signal, programme=steps),))


def town(network: Network, depart: Doubles, *, through: bool, seconds: float) -> Town:
    """Cars that enter at ``depart`` (s, ascending) and drive to the signal, or ``through`` it."""
    index = network.link_index
    route = [index[ENTRY], index[EXIT]] if through else [index[ENTRY]]
    cars = depart.size
    demand = Demand(
        names=tuple(f"v{at}" for at in range(cars)),
        depart=depart,
        kind=np.zeros(cars, dtype=np.int64),
        route=np.zeros(cars, dtype=np.int64),
        routes=(np.array(route, dtype=np.int64),),
        kinds=(Kind(),),
        charged=np.ones(cars, dtype=np.bool_),
        end=seconds,
    )
    # The files that SUMO gets let cars enter at the speed that they want.
    driving = Driving(entry=float(network.speed.max()) * FASTEST)
    scenario = GridScenario(rows=1, columns=1, lanes=1, seconds=seconds, driving=driving)
    return Town(scenario, network, demand)


def poisson(rate: float, seconds: float, seed: int) -> Doubles:
    """Arrivals at ``rate`` veh/s, ascending; on whole seconds, as SUMO inserts cars."""
    draw = np.random.default_rng(seed)
    count = int(draw.poisson(rate * seconds))
    return np.sort(np.floor(draw.random(count) * seconds))


def _green(network: Network) -> str:
    """The green that serves the street."""
    move = network.move_index[network.link_index[ENTRY], network.link_index[EXIT]]
    place = int(network.connection_index[network.connection_move == move][0])
    return next(state for state in network.signals[0].greens if state[place] == "G")
