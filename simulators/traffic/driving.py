"""Knobs of the street model that are no property of a network or of a vehicle."""

from __future__ import annotations

from ..settings import Settings, knob


class Driving(Settings):
    """How queues discharge, spill back and give way."""

    lost: float = knob(
        1.0, "green until the first car of a standing queue crosses", unit="s", usual="0..2", ge=0
    )
    yellow_used: float = knob(
        1.0, "yellow during which cars still cross", unit="s", usual="0..3", ge=0
    )
    wave: float = knob(
        5.0,
        "speed at which freed space travels upstream (0: at once)",
        unit="m/s",
        usual="4..6",
        ge=0,
    )
    gap: float = knob(
        1.0,
        "time between leaving the conflict and the next car with right of way",
        unit="s",
        usual="0.5..3",
        ge=0,
    )
    insertion: float = knob(
        2.1, "time between two cars that enter at the same origin", unit="s", usual="1.5..3", ge=0
    )
    entry: float = knob(
        4.5,
        "speed at which cars enter at an origin (SUMO starts them from a stand, a car's length in)",
        unit="m/s",
        usual="0..14",
        ge=0,
    )
    inside: bool = knob(
        True, "cars wait for their gap inside the junction, as many as its shape has room for"
    )
