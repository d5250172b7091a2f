"""Small hand-made streets."""

from fairlead.platform.validation.traffic_cases import (
    IDEAL,
    PLAIN,
    cycle,
    ideal,
    played,
    small_demand,
    small_network,
)

__all__ = ["IDEAL", "PLAIN", "cycle", "ideal", "run", "streets", "traffic"]


def streets(links, moves=(), *, yields=None, greens=(), programme=(), inside=None):
    """A network of ``links`` (id, length, speed, lanes: 1) and ``moves`` (from, to, letter: none).

    One connection per lane of the link that a movement starts on; letters are places in the state
    strings of the one signal. ``yields`` maps a move's place to those that it gives way to.
    """
    return small_network(
        [(*link, 1)[:4] for link in links],
        [(*move, None)[:3] for move in moves],
        yields=yields,
        greens=greens,
        programme=programme,
        inside=inside or (),
    )


traffic = small_demand
run = played
