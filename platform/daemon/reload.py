"""SIGHUP: which knobs may change while the daemon runs, and changing them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import merged
from ..decision.settings import SlotSettings
from ..files import UserError
from .settings import ServeConfig
from .tokens import Keyring, read_tokens

_LOG = logging.getLogger(__name__)

SAFE = (
    "server.receipt_deadline",
    "server.max_header",
    "server.max_connections",
    "server.max_connections_per_peer",
    "server.drain",
    "server.selftest_interval",
    "server.selftest_age",
    "admission.",
    "tick.",
)
"""Knobs (or sections, with the dot) that are read whenever they are needed."""

SAFE_SLOT = (
    "deadline",
    "policy_share",
    "validation.",
    "drift.",
    "simplex.enabled",
    "simplex.clean_ticks",
    "breaker.",
)
"""As :data:`SAFE`, below ``slot`` and ``slots.DOMAIN``. What is built from a bundle (backend,
sampling, fallback rule, limit of the look-ahead) needs a new load."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a re-read configuration comes to.

    Attributes:
        settings: the old ones with all safe changes.
        applied, refused: dotted names of changed knobs.
    """

    settings: ServeConfig
    applied: tuple[str, ...]
    refused: tuple[str, ...]


def compare(old: ServeConfig, new: ServeConfig) -> Change:
    """Take over what is safe."""
    before, after = _flat(_given(old)), _flat(_given(new))
    changed = sorted(
        key for key in before.keys() | after.keys() if before.get(key) != after.get(key)
    )
    applied = tuple(key for key in changed if _safe(key) and key in after)
    refused = tuple(key for key in changed if key not in applied)
    values = _given(old)
    for key in applied:
        nested: Any = after[key]
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = merged(values, nested)
    return Change(ServeConfig.model_validate(values), applied, refused)


def _given(settings: ServeConfig) -> dict[str, Any]:
    """All values, but of the domains' own sections only what was said: the rest is general."""
    values = settings.model_dump(mode="json")
    values["slots"] = {
        domain: own.model_dump(mode="json", exclude_unset=True)
        for domain, own in settings.slots.items()
    }
    return values


def _safe(key: str) -> bool:
    section, _, rest = key.partition(".")
    if section == "slots":
        section, rest = "slot", rest.partition(".")[2]
    if section == "slot":
        return any(
            rest == name or (name.endswith(".") and rest.startswith(name)) for name in SAFE_SLOT
        )
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in SAFE)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def slot_settings(settings: ServeConfig, domain: str) -> SlotSettings:
    """Knobs of one domain: its own section on top of the general one."""
    own = settings.slots.get(domain)
    if own is None:
        return settings.slot
    values = merged(
        settings.slot.model_dump(mode="json"), own.model_dump(mode="json", exclude_unset=True)
    )
    return SlotSettings.model_validate(values)


def keyring_of(settings: ServeConfig) -> Keyring:
    """The tokens of the configured file; empty without one.

    Raises:
        UserError: the file cannot be used.
    """
    return read_tokens(Path(settings.security.tokens)) if settings.security.tokens else Keyring()


@dataclass(slots=True)
class Reloader:
    """Carries out a SIGHUP; a configuration that cannot be used changes nothing.

    Attributes:
        settings: in force.
        reread: the configuration as the files say now; raises ``UserError``.
        apply: puts settings and tokens into force.
        event: writes into audit and event stream.
    """

    settings: ServeConfig
    reread: Callable[[], ServeConfig]
    apply: Callable[[ServeConfig, Keyring], None]
    event: Callable[[str, Mapping[str, Any]], None]

    def __call__(self) -> None:
        try:
            change = compare(self.settings, self.reread())
            keyring = keyring_of(change.settings)
        except UserError as error:
            _LOG.error("reload refused, nothing has changed: %s", error)
            self.event("reload", {"ok": False, "reason": str(error)})
            return
        self.settings = change.settings
        self.apply(change.settings, keyring)
        for key in change.refused:
            _LOG.warning("reload: %s needs a restart and stays as it was", key)
        _LOG.info("reloaded: %d tokens, changed %s", len(keyring.tokens), list(change.applied))
        detail = {"ok": True, "applied": list(change.applied), "refused": list(change.refused)}
        self.event("reload", detail)
