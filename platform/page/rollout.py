"""Who decides and who waits: the roll-out's own view, put into rows for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .words import age, number

ROLES: Mapping[str, str] = {
    "champion": "decides",
    "previous": "stands by for a rollback",
    "canary": "decides a share",
    "shadow": "watches, never decides",
}
"""Roles in the order of the page, with what they do."""

_KNOWN = ("digest", "name")


@dataclass(frozen=True, slots=True)
class Role:
    """One role: which bundle holds it (none: empty digest), and its figures as words."""

    role: str
    does: str
    digest: str
    name: str
    figures: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()


def roles(view: Mapping[str, Any], now: float) -> tuple[Role, ...]:
    """Every role from a slot's view; a role that the view does not name is not held.

    ``now`` is the wall clock, for figures that are points in time.
    """
    rollout = view.get("rollout")
    told: Mapping[str, Any] = rollout if isinstance(rollout, Mapping) else {}
    return tuple(_role(name, does, told.get(name), now) for name, does in ROLES.items())


def _role(role: str, does: str, told: object, now: float) -> Role:
    if isinstance(told, str) and told:
        return Role(role, does, told[:12], "", ())
    if not isinstance(told, Mapping) or not told.get("digest"):
        return Role(role, does, "", "", ())
    figures = tuple(
        (str(key).replace("_", " "), _word(str(key), value, now))
        for key, value in told.items()
        if key not in _KNOWN and value is not None and not isinstance(value, Mapping | list | tuple)
    )
    warnings = tuple(str(text) for text in told.get("warnings", ()))
    return Role(role, does, str(told["digest"])[:12], str(told.get("name", "")), figures, warnings)


def told(view: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """The latest refusal of a bundle and the latest abort of a canary, as sentences."""
    rollout = view.get("rollout")
    if not isinstance(rollout, Mapping):
        return ()
    found: list[str] = []
    for key, what in (("refused", "Refused"), ("aborted", "Canary ended")):
        one = rollout.get(key)
        if isinstance(one, Mapping):
            when = f", {age(now - one['at'])} ago" if isinstance(one.get("at"), float) else ""
            who = str(one.get("bundle") or one.get("digest") or "")[:12]
            found.append(f"{what}: {who} ({one.get('reason', 'no reason told')}{when})")
    return tuple(found)


def _word(key: str, value: object, now: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        # Points in time are seconds since 1970; nothing else in these figures is that large.
        if value > 1e9 and key in ("loaded", "since", "trained", "started", "promoted"):
            return f"{age(now - value)} ago"
        return f"{age(value)}" if key.endswith("age") else number(float(value))
    return str(value)
