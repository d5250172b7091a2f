"""The verified fallback rule of a bundle's domain, to run where the daemon cannot be reached."""

from __future__ import annotations

from pathlib import Path

from ...policies.interface import Controller
from ..decision.types import Live
from ..files import UserError


def baseline(bundle: Path | str, rule: str = "") -> Controller:
    """The rule that the daemon itself would fall back to for this bundle.

    Args:
        bundle: folder of the bundle.
        rule: another one by name (knob ``slot.baseline``); empty: the domain's own choice.

    Raises:
        UserError: damaged bundle, a domain that cannot be served, or no such rule.
    """
    return domain_part(bundle, rule).baseline


def domain_part(bundle: Path | str, rule: str = "") -> Live:
    """All that the daemon knows of a bundle's domain; arguments and errors as above."""
    from ..bundle import load_bundle
    from ..decision.settings import SlotSettings
    from ..registry import find_domain

    loaded = load_bundle(bundle)
    build = find_domain(loaded.spec.domain).live
    if build is None:
        raise UserError(f"domain {loaded.spec.domain!r} has no live part: it cannot be served yet")
    settings = loaded.manifest["scenario"]["settings"]
    return build(loaded.spec, settings, SlotSettings(baseline=rule))
