"""From configuration and bundles to a service: registry, audit, state, one slot per domain."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from ..audit.state_file import StateFile
from ..audit.writer import AuditWriter, Context
from ..bundle import GOLDEN, MANIFEST, load_bundle
from ..decision.settings import SlotSettings
from ..decision.types import State
from ..files import UserError
from ..metrics.meter import ContractMeter
from ..registry import find_domain
from ..rollout.loader import Loader
from ..rollout.manager import SlotRollout
from ..rollout.store import CHAMPION, Store
from .access import Doorkeeper
from .events import Hub
from .interface import Entry, Meter, Recorder
from .reload import keyring_of, slot_settings
from .service import Service
from .settings import ServeConfig
from .slot import LiveSlot, both_clocks

_LOG = logging.getLogger(__name__)

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Unrecorded:
    """Implements ``Recorder`` where the audit is switched off: nothing is kept, on purpose."""

    healthy = True

    def record(self, entry: Entry) -> None:
        """Forget the entry."""

    def event(self, kind: str, domain: str, detail: Mapping[str, Any]) -> None:
        """Tell the log at least."""
        _LOG.info("%s %s %s", kind, domain, dict(detail))

    def flush(self, timeout: float) -> bool:
        """Nothing is queued."""
        del timeout
        return True

    def close(self, timeout: float = 0.0) -> bool:
        """Nothing is open."""
        del timeout
        return True

    def describe(self, domain: str, context: Context) -> None:
        """Nobody will read it."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A service with what the process must look after."""

    service: Service
    audit: AuditWriter | Unrecorded
    save: Callable[[], None]

    loaders: Mapping[str, Loader]

    def change(self, domain: str, knobs: SlotSettings, settings: ServeConfig) -> None:
        """Put other knobs of a slot into force; the audit and later loads know them too."""
        self.service.slots[domain].settings = knobs
        self.loaders[domain].slot = knobs
        roles = {"champion": self.service.slots[domain].runtime.digest}
        context = Context(slot=knobs, config=config_hash(settings), bundles=roles)
        self.audit.describe(domain, context)


def check_exposure(settings: ServeConfig) -> None:
    """Refuse a configuration that would let strangers in.

    Raises:
        UserError: names the knob and the remedy.
    """
    server, security = settings.server, settings.security
    if bool(security.tls_certificate) != bool(security.tls_key):
        raise UserError("security.tls_certificate and security.tls_key go together; set both")
    if security.tls_client_ca and not security.tls_certificate:
        raise UserError("security.tls_client_ca needs security.tls_certificate and tls_key")
    if server.host not in _LOOPBACK and not (security.tokens or security.tls_client_ca):
        raise UserError(
            f"server.host = {server.host!r} is open to the network; set security.tokens (create "
            "tokens with: fairlead serve token NAME) or security.tls_client_ca"
        )


def bundle_folder(path: Path) -> Path:
    """The bundle that a path means: itself, or that of a run folder."""
    inner = path / "bundle"
    return inner if (inner / MANIFEST).is_file() else path


def verify(settings: ServeConfig, bundles: Sequence[Path]) -> list[str]:
    """Check configuration and bundles without changing anything; what was found, line by line.

    Raises:
        UserError: the first thing that is wrong.
    """
    check_exposure(settings)
    keyring = keyring_of(settings)
    found = [f"configuration: good, hash {config_hash(settings)}"]
    if settings.security.tokens:
        found.append(f"tokens: {len(keyring.tokens)}")
    for path in bundles:
        bundle = load_bundle(bundle_folder(path))
        found.append(f"{path}: {bundle.spec.domain}, {bundle.name}, {bundle.digest[:12]}")
    return found


def assemble(settings: ServeConfig, bundles: Sequence[Path]) -> Assembled:
    """Build everything but sockets. The bundles become champions of their domains.

    Raises:
        UserError: a bundle or file that cannot be used.
    """
    check_exposure(settings)
    folder = Path(settings.state.folder)
    store = Store(folder / "registry")
    domains = _enrol(store, bundles)
    meter = ContractMeter(domains=domains)
    _describe(meter, settings)
    boot = secrets.token_hex(4)
    audit = (
        AuditWriter(
            folder / "audit",
            settings=settings.audit,
            boot=boot,
            meter=cast("Meter", _AuditMeter(meter)),
        )
        if settings.audit.enabled
        else Unrecorded()
    )
    hub = Hub()
    states = StateFile(folder / "state.json")
    loaded = states.load(both_clocks())
    loaders: dict[str, Loader] = {}
    slots: dict[str, LiveSlot] = {}
    for domain in domains:
        knobs = slot_settings(settings, domain)
        audit.describe(domain, Context(slot=knobs, config=config_hash(settings)))
        tell = _teller(domain, audit, hub)
        loaders[domain] = Loader(
            store=store,
            domain=domain,
            slot=knobs,
            signature=settings.signature,
            meter=meter,
            tell=tell,
        )
        rollout = SlotRollout(
            loader=loaders[domain],
            settings=settings.rollout,
            keep=settings.state.keep,
            watch=settings.state.watch,
            tell=tell,
        )
        roles = {"champion": rollout.champion.digest}
        audit.describe(domain, Context(slot=knobs, config=config_hash(settings), bundles=roles))
        spec = rollout.champion.spec
        watch = find_domain(domain).watch
        meter.set("decision_deadline_seconds", knobs.deadline, domain=domain)
        meter.set("decision_validity_seconds", knobs.expiry or nan, domain=domain)
        meter.set("tick_seconds", settings.tick.get(domain, spec.dt), domain=domain)
        slots[domain] = LiveSlot(
            domain=domain,
            boot=boot,
            settings=knobs,
            rollout=rollout,
            recorder=audit,
            meter=meter,
            hub=hub,
            state=_fitting(loaded.states.get(domain), spec.agents, domain),
            history=settings.state.history * 2**20,
            watch=None if watch is None else watch(spec),
        )
    audit.event("start", "", {"boot": boot, "config": config_hash(settings)})
    security = settings.security
    doorkeeper = Doorkeeper(
        keyring=keyring_of(settings),
        tokens=bool(security.tokens),
        certificates=bool(security.tls_client_ca),
        hosts=frozenset({settings.server.host.lower()}),
    )
    service = Service(
        settings=settings,
        slots=slots,
        golden={name: _Golden(store, slot) for name, slot in slots.items()},
        meter=meter,
        hub=hub,
        recorder=audit,
        doorkeeper=doorkeeper,
    )
    return Assembled(service, audit, partial(_save, states, slots), loaders)


def _enrol(store: Store, bundles: Sequence[Path]) -> tuple[str, ...]:
    named: dict[str, Path] = {}
    for path in bundles:
        bundle = store.add(bundle_folder(path))
        domain = bundle.spec.domain
        if domain in named:
            raise UserError(f"{named[domain]} and {path} are both for {domain!r}; give one of them")
        named[domain] = path
        store.point(domain, CHAMPION, bundle.digest)
    domains = {*named, *(each for each in store.domains() if CHAMPION in store.aliases(each))}
    if not domains:
        raise UserError(
            f"nothing to serve: registry {store.root} has no champion; name a bundle, for example "
            "fairlead serve runs/demo/bundle"
        )
    return tuple(sorted(domains))


def _teller(domain: str, audit: Recorder, hub: Hub) -> Callable[[str, Mapping[str, Any]], None]:
    def tell(kind: str, detail: Mapping[str, Any]) -> None:
        _LOG.info("%s: %s %s", domain, kind, dict(detail))
        audit.event(kind, domain, detail)
        hub.publish(kind, domain, time.time(), detail)

    return tell


def _fitting(state: State | None, agents: int, domain: str) -> State:
    """The state an earlier run left, unless it was about other agents."""
    if state is None:
        return State()
    if state.last is not None and state.last.shape[0] != agents:
        _LOG.warning("%s: the saved state is about %d agents", domain, state.last.shape[0])
        return State()
    _LOG.info("%s: goes on after %d ticks, mode %s", domain, state.ticks, state.mode)
    return state


class _AuditMeter:
    """The writer speaks of the whole audit; where the contract wants a domain, it gets ``none``."""

    def __init__(self, meter: ContractMeter) -> None:
        self._meter = meter
        # Rates see the first increase only of a series that was there before it.
        for name in ("records", "bytes", "write_errors", "dropped"):
            meter.count(f"audit_{name}_total", 0.0, domain="none")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter, name)

    def count(self, metric: str, value: float = 1.0, /, **labels: str) -> None:
        self._meter.count(metric, value, **{"domain": "none", **labels})

    def set(self, metric: str, value: float, /, **labels: str) -> None:
        self._meter.set(metric, value, **{"domain": "none", **labels})


class _Golden:
    """Golden observations of the champion, read again when it changes."""

    def __init__(self, store: Store, slot: LiveSlot) -> None:
        self._store, self._slot = store, slot
        self._known: tuple[str, Mapping[str, NDArray[Any]]] = ("", {})

    def __call__(self) -> Mapping[str, NDArray[Any]]:
        digest = self._slot.runtime.digest
        if self._known[0] != digest:
            folder = self._store.folder(self._slot.domain, digest)
            self._known = (digest, load_tensors((folder / GOLDEN).read_bytes()))
        return self._known[1]


def _save(states: StateFile, slots: Mapping[str, LiveSlot]) -> None:
    try:
        states.save({name: slot.state for name, slot in slots.items()}, both_clocks())
    except UserError as error:
        _LOG.error("state: %s", error)


def _describe(meter: ContractMeter, settings: ServeConfig) -> None:
    meter.info(
        "build_info", key="build", version=version("fairlead"), python=platform.python_version()
    )
    meter.info("config_info", key="config", hash=config_hash(settings))


def config_hash(settings: ServeConfig) -> str:
    """Twelve digits that name the effective configuration."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


__all__ = ["Assembled", "Recorder", "assemble", "bundle_folder", "config_hash", "verify"]
