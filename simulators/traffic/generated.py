"""Road networks of any size: grids and arterials. No file is needed, and none is read."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from ..streams import Streams
from .generated_layout import Place, Road, build_network
from .network import Network

LIMIT = 13.89
"""m/s, 50 km/h."""


def grid_network(
    rows: int,
    columns: int,
    *,
    spacing: float = 200.0,
    lanes: int = 2,
    speed: float = LIMIT,
    phases: Literal["2", "4", "mixed"] = "4",
    share: float = 0.5,
    seed: int = 0,
) -> Network:
    """A grid of ``rows * columns`` signals with an entry and exit road at the end of every street.

    Signals are ``J<row>_<column>``, row by row from the south-west corner. Entries are ``south0``,
    ``north0``, ``west0``, ``east0`` and so on, by column or row.

    Args:
        rows: streets from west to east.
        columns: streets from south to north.
        spacing: m between the centres of neighbouring junctions.
        lanes: per direction. See :func:`~.junction.lane_turns` for what each may do.
        speed: m/s, limit.
        phases: ``"2"``: one green per street, lefts give way. ``"4"``: lefts have greens of their
            own (with one lane per direction: each approach has its own green instead).
            ``"mixed"``: a random ``share`` of junctions has two.
        share: of junctions with two phases, for ``"mixed"`` only.
        seed: of the choice in ``"mixed"``.

    Raises:
        ValueError: fewer than 1 row, column or lane, or streets too close for their width.
    """
    _at_least_one(rows=rows, columns=columns, lanes=lanes)
    if phases not in {"2", "4", "mixed"}:
        raise ValueError(f"phases must be '2', '4' or 'mixed', got {phases!r}")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be from 0 to 1, got {share}")
    few = Streams(seed).generator("phases").random(rows * columns) < share
    places: list[Place] = []
    at: dict[tuple[int, int], int] = {}
    for row in range(-1, rows + 1):
        for column in range(-1, columns + 1):
            sides = (row in {-1, rows}) + (column in {-1, columns})
            if sides == 2:
                continue
            protected = None
            if not sides:
                two = few[row * columns + column] if phases == "mixed" else phases == "2"
                protected = not two
            at[row, column] = len(places)
            name = _grid_name(row, column, rows, columns)
            x, y = column * spacing, row * spacing
            places.append(Place(name=name, x=x, y=y, protected=protected))
    ends = [((row, c), (row, c + 1)) for row in range(rows) for c in range(-1, columns)]
    ends += [((r, column), (r + 1, column)) for column in range(columns) for r in range(-1, rows)]
    roads = [Road(one=at[one], two=at[two], lanes=lanes, speed=speed) for one, two in ends]
    return build_network(f"grid{rows}x{columns}", places, roads)


def arterial_network(
    signals: int,
    *,
    spacing: float = 300.0,
    side: float = 200.0,
    lanes: int = 3,
    side_lanes: int = 1,
    speed: float = LIMIT,
    side_speed: float = LIMIT,
) -> Network:
    """A main road from west to east with side roads, where signals differ in their phases.

    Three kinds of junctions follow each other: a crossroads with protected lefts (4 greens: main,
    main lefts, side roads one after the other or side and side lefts), a junction with a road to
    the south (2 greens, lefts give way), one with a road to the north and a protected left (3
    greens). Signals are ``J0``, ``J1`` and so on from the west.

    Args:
        signals: junctions along the main road.
        spacing: m between them, and from the first and last to the ends of the road.
        side: m from the main road to the end of a side road.
        lanes: per direction of the main road. With one lane its directions take turns where lefts
            are protected.
        side_lanes: per direction of the side roads.
        speed: m/s, limit on the main road.
        side_speed: m/s, limit on the side roads.

    Raises:
        ValueError: fewer than 1 signal or lane, side roads with more lanes than the main road, or
            distances too short for the junctions.
    """
    _at_least_one(signals=signals, lanes=lanes, side_lanes=side_lanes)
    if side_lanes > lanes:
        raise ValueError(f"side_lanes must be at most lanes ({lanes}), got {side_lanes}")
    places = [
        Place(name=f"J{at}", x=at * spacing, y=0.0, protected=at % 3 != 1) for at in range(signals)
    ]
    places.append(Place(name="west", x=-spacing, y=0.0))
    places.append(Place(name="east", x=signals * spacing, y=0.0))
    main = [signals, *range(signals), signals + 1]
    roads = [Road(one=one, two=two, lanes=lanes, speed=speed) for one, two in pairwise(main)]
    for at in range(signals):
        for sign, name, absent in ((1.0, "north", 1), (-1.0, "south", 2)):
            if at % 3 == absent:
                continue
            roads.append(Road(one=len(places), two=at, lanes=side_lanes, speed=side_speed))
            places.append(Place(name=f"{name}{at}", x=at * spacing, y=sign * side))
    return build_network(f"arterial{signals}", places, roads)


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def _grid_name(row: int, column: int, rows: int, columns: int) -> str:
    if row in {-1, rows}:
        return f"{'south' if row < 0 else 'north'}{column}"
    if column in {-1, columns}:
        return f"{'west' if column < 0 else 'east'}{row}"
    return f"J{row}_{column}"
