"""Kinds of vehicles in SUMO route files (``vType``).

Defaults by class are those of SUMO 1.28, read from it by ``libsumo.vehicletype``.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from ..demand import Kind
from .sumo_xml import Tag

DEFAULT = "DEFAULT_VEHTYPE"
"""Kind of vehicles that name none."""
_CAR = Kind(name=DEFAULT)
_EXACT = replace(_CAR, spread=0.0)
_DELIVERY = replace(_CAR, length=6.5, spread=0.05)
_TRUCK = replace(_CAR, length=7.1, accel=1.3, decel=4.0, spread=0.05, top=36.11)
_BUS = replace(_CAR, length=12.0, accel=1.2, decel=4.0, spread=0.0, top=27.78)
_CLASSES = {
    **dict.fromkeys(("passenger", "private", "vip", "hov", "evehicle", "custom1", "custom2"), _CAR),
    **dict.fromkeys(("authority", "army"), _EXACT),
    "taxi": replace(_CAR, spread=0.05),
    "emergency": replace(_DELIVERY, spread=0.0),
    "delivery": _DELIVERY,
    "truck": _TRUCK,
    "trailer": replace(_TRUCK, length=16.5, accel=1.1),
    "bus": _BUS,
    "coach": replace(_BUS, length=14.0, accel=2.0, spread=0.05),
    "motorcycle": replace(_CAR, length=2.2, accel=6.0, decel=10.0),
    "moped": replace(_CAR, length=2.1, accel=1.1, decel=7.0, top=16.67),
}
_NORMAL = re.compile(r"\s*(?:normc?|N)\(([^()]*)\)\s*")


def default_kind() -> Kind:
    """SUMO's passenger car."""
    return _CAR


def read_kind(tag: Tag) -> Kind:
    """A ``vType``; what it does not say follows from its class.

    Only what a :class:`Kind` holds is read; car following and lane change models are not.

    Raises:
        DataError: a class that uses no ordinary lanes (rail, bicycle, ...), an impossible number,
            or a speed factor that is neither a number nor a normal distribution.
    """
    vehicle = tag.values.get("vClass", "passenger")
    if vehicle not in _CLASSES:
        tag.fail("vClass", f"one of {', '.join(_CLASSES)} is expected")
    base = _CLASSES[vehicle]
    factor, spread = _factor(tag, base)
    sigma = tag.number("sigma", base.sigma)
    if sigma > 1.0:
        tag.fail("sigma", "a number from 0 to 1 is expected")
    return Kind(
        name=tag.text("id"),
        length=tag.number("length", base.length, above=True),
        gap=tag.number("minGap", base.gap),
        tau=tag.number("tau", base.tau, above=True),
        accel=tag.number("accel", base.accel, above=True),
        decel=tag.number("decel", base.decel, above=True),
        factor=factor,
        spread=tag.number("speedDev", spread),
        top=tag.number("maxSpeed", base.top, above=True),
        sigma=sigma,
    )


def _factor(tag: Tag, base: Kind) -> tuple[float, float]:
    """Mean and standard deviation of desired speed over the limit.

    A plain number leaves the deviation of the class; a distribution without one has none.
    """
    text = tag.values.get("speedFactor")
    if text is None:
        return base.factor, base.spread
    accepted = "a positive number, norm(mean,deviation) or normc(mean,deviation,...) is expected"
    found = _NORMAL.fullmatch(text)
    try:
        numbers = [float(part) for part in (found[1] if found else text).split(",")]
    except ValueError:
        numbers = [math.nan]
    if found is None:
        numbers.append(base.spread)
    elif len(numbers) == 1:
        numbers.append(0.0)
    factor, spread = numbers[:2]
    if not (0.0 < factor < math.inf and 0.0 <= spread < math.inf):
        tag.fail("speedFactor", accepted)
    return factor, spread
