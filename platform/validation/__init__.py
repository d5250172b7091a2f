"""Comparison of every domain with closed forms and published figures.

``SUITES`` maps a domain to its suites. A new suite is a line here and a module with
``checks(*, data, quick)``; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from .suites import Suite

SUITES: Mapping[str, tuple[Suite, ...]] = {
    "cloud": (
        Suite("closed forms", ".closed_forms", needs_data=False),
        Suite("published", ".published", needs_data=True),
    ),
    "power": (
        Suite("closed forms", ".power_closed", needs_data=False),
        Suite("dynamics", ".power_dynamics", needs_data=False),
        Suite("look-ahead and commitment", ".power_commitment", needs_data=False),
        Suite("published", ".power_published", needs_data=True),
    ),
    "traffic": (
        Suite("closed forms", ".traffic_closed", needs_data=False),
        Suite("published", ".traffic_published", needs_data=True),
    ),
}

SUMO: Mapping[str, Suite] = {"traffic": Suite("against SUMO", ".traffic_sumo", needs_data=False)}
"""Suites that compare with SUMO and run only if that is wanted: they take minutes."""

__all__ = ["SUITES", "SUMO", "Suite"]
