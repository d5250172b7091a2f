"""Loads bundles for one slot: verification with the slot's knobs, counted and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...simulators.interface import Spec
from ..bundle import BundleError
from ..daemon.interface import Meter
from ..daemon.settings import SignatureSettings
from ..decision.settings import SlotSettings
from .loading import LiveFactory, Loaded, LoadRefused, build_runtime
from .store import Store

Tell = Callable[[str, Mapping[str, Any]], None]
"""Called with the kind of an event and its details; from any thread."""


class Loader:
    """What turns names in the registry into warm policies, for one slot.

    Args:
        store: the registry.
        domain: of the slot.
        slot: its knobs; may be replaced, later loads use the new ones.
        signature: what unsigned bundles meet.
        meter: counts loads by result.
        tell: is told of refusals.
        live: builds the domain's part; ``None``: the registered domain's.

    Attributes:
        refused: the latest refusal (JSON-able), ``None`` before the first.
    """

    def __init__(
        self,
        *,
        store: Store,
        domain: str,
        slot: SlotSettings,
        signature: SignatureSettings,
        meter: Meter,
        tell: Tell,
        live: LiveFactory | None = None,
    ):
        self.store, self.domain, self.slot = store, domain, slot
        self.refused: Mapping[str, Any] | None = None
        self.meter = meter
        self._signature, self._tell, self._live = signature, tell, live

    def named(self, name: str, serves: Spec | None) -> Loaded:
        """The bundle that an alias or digest names.

        Raises:
            LoadRefused: it must not be served; counted and told.
            UserError: nothing of that name.
        """
        digest = self.store.resolve(self.domain, name)
        return self._build(self.store.folder(self.domain, digest), digest, serves)

    def lying(self, folder: Path, serves: Spec | None) -> Loaded:
        """The bundle in any folder, without adding it.

        Raises:
            LoadRefused: it must not be served; counted and told.
        """
        return self._build(folder, None, serves)

    def _build(self, folder: Path, digest: str | None, serves: Spec | None) -> Loaded:
        try:
            if digest is not None:
                self._refuse_incomplete(digest)
            loaded = build_runtime(
                folder,
                slot=self.slot,
                domain=self.domain,
                signature=self._signature,
                serves=serves,
                live=self._live,
            )
        except LoadRefused as error:
            self.meter.count("policy_loads_total", domain=self.domain, result=error.label)
            self.refused = {
                "bundle": digest or str(folder),
                "label": error.label,
                "reason": str(error),
                "at": time.time(),
            }
            self._tell("refused", self.refused)
            raise
        self.meter.count("policy_loads_total", domain=self.domain, result="ok")
        if loaded.warnings:
            self._tell("warning", {"bundle": loaded.digest, "warnings": list(loaded.warnings)})
        return loaded

    def _refuse_incomplete(self, digest: str) -> None:
        try:
            self.store.check(self.domain, digest)
        except BundleError as error:
            raise LoadRefused(error.flaw, str(error)) from error
