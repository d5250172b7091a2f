"""Kubernetes' resource quantities (``100m``, ``2Gi``, ``1e3``) as exact numbers."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from ..files import UserError

_PATTERN = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)")
_SUFFIX = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
MIB = Decimal(2**20)
_LARGEST = Decimal(2**53)
"""Beyond it a count is no resource any more, and double precision no longer exact."""


class ObjectError(UserError):
    """A Kubernetes object that cannot be used; names the field, its value and what is accepted."""


def quantity(value: object, where: str) -> Decimal:
    """The exact number behind a quantity.

    Raises:
        ObjectError: it is none, or negative; ``where`` names the field.
    """
    text = str(value) if isinstance(value, str | int | float) else ""
    found = _PATTERN.fullmatch(text.strip()) if not isinstance(value, bool) else None
    if found is None or found[2] not in _SUFFIX:
        raise ObjectError(f"{where} = {value!r} is no quantity; accepted: 2, 0.5, 500m, 16Gi, 1e3")
    try:
        number = Decimal(found[1]) * _SUFFIX[found[2]]
    except InvalidOperation as error:
        raise ObjectError(f"{where} = {value!r} is no number") from error
    if number < 0:
        raise ObjectError(f"{where} = {value!r} is negative")
    return number


def milli(value: object, where: str, *, up: bool) -> int:
    """In thousandths of the unit, rounded up (demands) or down (capacities)."""
    return _whole(quantity(value, where) * 1000, where, up=up)


def mebibytes(value: object, where: str, *, up: bool) -> int:
    """Memory in MiB, rounded up (demands) or down (capacities)."""
    return _whole(quantity(value, where) / MIB, where, up=up)


def count(value: object, where: str) -> int:
    """A whole number.

    Raises:
        ObjectError: it is no whole number.
    """
    number = quantity(value, where)
    if number > _LARGEST or number != number.to_integral_value():
        raise ObjectError(f"{where} = {value!r} is no whole number")
    return int(number)


def _whole(number: Decimal, where: str, *, up: bool) -> int:
    if number > _LARGEST:
        raise ObjectError(f"{where} is too large: {number:.3g}")
    return int(number.to_integral_value("ROUND_CEILING" if up else "ROUND_FLOOR"))
