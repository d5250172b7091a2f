"""Traffic for generated networks: who enters when and where, and which way each vehicle takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..interface import Bools, Doubles, Ints
from ..streams import Streams
from .demand import Demand
from .network import Network

Profile = Literal["uniform", "peaked", "tidal"]
PROFILES: tuple[Profile, ...] = ("uniform", "peaked", "tidal")


def grid_demand(
    network: Network,
    *,
    rate: float,
    seconds: float,
    seed: int,
    profile: Profile = "uniform",
    straight: float = 0.7,
) -> Demand:
    """Vehicles that enter at every entry link and find their way to an exit.

    Arrivals are Poisson. At every junction a vehicle goes straight with probability ``straight``
    and else turns. Its first turn is left or right with equal chance, every further one the
    opposite of the last: so it never heads back, and every route ends at an exit and is a shortest
    one. Over all vehicles left and right turns are about equally frequent. Where a way is missing
    the others take its share.

    Args:
        network: one from :mod:`.generated`.
        rate: veh/h at each entry, mean over ``seconds``.
        seconds: of the episode.
        seed: of the named streams ``counts``, ``arrivals`` and ``turns``.
        profile: ``"uniform"``; ``"peaked"``: a triangle from half the rate to one and a half times
            in the middle of the episode and back; ``"tidal"``: in the first half three quarters of
            the west-east traffic enters in the west, in the second half in the east.
        straight: share of vehicles that go straight at a junction, 0 to 1.

    Returns:
        Vehicles ``v0``, ``v1``, ... in order of departure, on whole milliseconds.

    Raises:
        ValueError: a number out of range, or a network with a dead end before the exit.
    """
    if not (rate >= 0.0 and seconds > 0.0 and np.isfinite([rate, seconds]).all()):
        raise ValueError(
            f"expected a rate of at least 0 veh/h and more than 0 s, got {rate} and {seconds}"
        )
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    if not 0.0 <= straight <= 1.0:
        raise ValueError(f"straight must be from 0 to 1, got {straight}")
    streams = Streams(seed)
    entries = np.flatnonzero(~np.isin(network.tail, network.head[network.move_from]))
    counts = streams.generator("counts").poisson(rate * seconds / 3600.0, entries.size)
    start = np.repeat(entries, counts)
    share = streams.generator("arrivals").random(start.size)
    depart = np.round(seconds * _share_of_time(network, start, share, profile), 3)
    order = np.argsort(depart, kind="stable")
    walks = _walk(network, start[order], straight, streams.generator("turns"))
    routes, route = np.unique(walks, axis=0, return_inverse=True)
    return Demand(
        names=tuple(f"v{at}" for at in range(start.size)),
        depart=depart[order],
        kind=np.zeros(start.size, dtype=np.int64),
        route=route.reshape(-1).astype(np.int64),
        routes=tuple(row[row >= 0] for row in routes),
        charged=np.ones(start.size, dtype=np.bool_),
        end=seconds,
    )


def movement_flows(network: Network, demand: Demand) -> Doubles:
    """``[M]`` veh/h that the routes send over each movement, mean over the demand's duration.

    The duration is ``demand.end``, or the last departure where the source gives none.

    Raises:
        ValueError: vehicles but no duration, or routes that the network cannot carry.
    """
    flows = np.zeros(network.move_from.size)
    if not demand.vehicles:
        return flows
    seconds = demand.end or float(demand.depart[-1])
    if not seconds > 0.0:
        raise ValueError("flows need a duration: give the demand an end")
    used = np.bincount(demand.route, minlength=len(demand.routes)).astype(np.float64)
    sizes = np.array([route.size for route in demand.routes])
    links = np.concatenate(demand.routes)
    # Pairs across the end of one route and the start of the next are none.
    inner = np.ones(links.size, dtype=np.bool_)
    inner[np.cumsum(sizes) - 1] = False
    one = np.flatnonzero(inner)
    count = len(network.links)
    keys = network.move_from * count + network.move_to
    order = np.argsort(keys)
    wanted = links[one] * count + links[one + 1]
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), keys.size - 1)]
    if (keys[at] != wanted).any():
        demand.check(network)
    np.add.at(flows, at, np.repeat(used, sizes)[one])
    return flows * (3600.0 / seconds)


def _share_of_time(network: Network, start: Ints, share: Doubles, profile: Profile) -> Doubles:
    """When each vehicle departs, as a share of the episode: the inverse of cumulated arrivals."""
    if profile == "uniform":
        return share
    if profile == "peaked":
        # Density .5 + 2 t up to the middle, mirrored after it: cumulated .5 t + t^2.
        late = share > 0.5
        half = np.where(late, 1.0 - share, share)
        early = (np.sqrt(0.25 + 4.0 * half) - 0.5) / 2.0
        return np.where(late, 1.0 - early, early)
    east = (network.xy[network.head] - network.xy[network.tail])[start, 0]
    early = np.where(east > 0.0, 0.75, np.where(east < 0.0, 0.25, 0.5))
    return np.where(share < early, 0.5 * share / early, 0.5 + 0.5 * (share - early) / (1.0 - early))


@dataclass(frozen=True, slots=True)
class _Ways:
    """Where each link leads.

    Attributes:
        link: ``[L, 3]`` next link straight on, to the left, to the right; -1 where there is none.
        exits: ``[L]`` whether it leaves the network.
    """

    link: Ints
    exits: Bools


def _ways(network: Network) -> _Ways:
    link = np.full((len(network.links), 3), -1, dtype=np.int64)
    column = np.array(["slr".find(turn) for turn in network.turn], dtype=np.int64)
    used = column >= 0
    link[network.move_from[used], column[used]] = network.move_to[used]
    return _Ways(link, ~np.isin(network.head, network.tail[network.move_to]))


def _walk(network: Network, start: Ints, straight: float, random: np.random.Generator) -> Ints:
    """``[V, steps]`` links of every vehicle, padded with -1."""
    ways = _ways(network)
    turn = (1.0 - straight) / 2.0
    # Rows: not turned yet, last turned left, last turned right.
    chance = np.array(
        [[straight, turn, turn], [straight, 0.0, 2.0 * turn], [straight, 2.0 * turn, 0.0]]
    )
    after = np.array([[0, 1, 2], [1, 1, 2], [2, 1, 2]])
    columns = [start]
    state = np.zeros(start.size, dtype=np.int64)
    going = np.flatnonzero(~ways.exits[start])
    while going.size:
        at = columns[-1][going]
        weight = chance[state[going]] * (ways.link[at] >= 0)
        total = weight.sum(axis=1)
        if not (total > 0.0).all():
            stuck = network.links[at[int(np.argmin(total))]]
            raise ValueError(f"no way on from link {stuck!r}; a generated network is expected")
        drawn = random.random(going.size) * total
        choice = (drawn[:, None] >= np.cumsum(weight, axis=1)).sum(axis=1)
        step = np.full(start.size, -1, dtype=np.int64)
        step[going] = ways.link[at, choice]
        columns.append(step)
        state[going] = after[state[going], choice]
        going = going[~ways.exits[step[going]]]
    return np.stack(columns, axis=1)
