"""From a bundle's folder to something that decides: everything that is checked before a swap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from ...simulators.interface import Box, Feature, Observation, Spec
from ..bundle import GOLDEN, MANIFEST, ONNX, WEIGHTS, Bundle, BundleError, load_bundle
from ..daemon.settings import SignatureSettings
from ..decision.asking import Backend, ask
from ..decision.settings import SlotSettings
from ..decision.supervised import Supervised
from ..decision.types import Live, Policy, Runtime
from ..files import UserError
from ..golden import TOLERANCE, score_error, seen_in
from ..registry import find_domain
from .backends import OnnxBackend, backend_of
from .signature import SignatureError, check_signature

Refusal = Literal["digest", "signature", "schema", "parity", "warmup", "memory"]
"""Why a bundle is not served; with ``ok`` the labels of ``policy_loads_total``."""

LARGEST = 256 << 20
"""Largest bundle that is read, bytes; a policy of hundreds of agents has about one million."""

WARMUP = 50
_PATIENCE = 2.0
"""Seconds that one asking may take while the policy warms up; its speed is judged afterwards."""

LiveFactory = Callable[[Spec, Mapping[str, Any], SlotSettings], Live]


class LoadRefused(UserError):  # noqa: N818
    """A bundle that is not served.

    Attributes:
        label: which check it failed.
    """

    def __init__(self, label: Refusal, message: str):
        super().__init__(message)
        self.label: Refusal = label


@dataclass(frozen=True, slots=True)
class Loaded:
    """A verified, warm policy.

    Attributes:
        runtime: what decides.
        bundle: where it came from.
        backend: what runs the network; a shadow asks it in a thread of its own.
        latency: median time of an asking after warming up, s.
        made: when the bundle was made, s since 1970 (the registry keeps that time stamp).
        warnings: what is wrong but tolerated (an unsigned bundle, say).
    """

    runtime: Runtime
    bundle: Bundle
    backend: Backend
    latency: float
    made: float
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return self.bundle.digest


def build_runtime(
    folder: Path,
    *,
    slot: SlotSettings,
    domain: str | None = None,
    signature: SignatureSettings | None = None,
    serves: Spec | None = None,
    previous: Policy | None = None,
    live: LiveFactory | None = None,
) -> Loaded:
    """Verify the bundle in ``folder`` completely, warm it up, and put its runtime together.

    Verified are size, digests, signature, finite weights, golden decisions, the domain, that it
    fits what the slot serves now (``serves``), that the chosen backend scores as the golden
    decisions, and that it answers within the slot's time limit. Takes some 100 ms: not for the
    decision path.

    Args:
        folder: of the bundle.
        slot: knobs of the slot (backend, sampling, time limits).
        domain: that the bundle must be for; ``None``: any.
        signature: what an unsigned bundle meets; ``None``: signatures are not looked at.
        serves: spec that the slot's clients speak now; ``None``: nothing is served yet.
        previous: the champion before, as the second rung of the ladder.
        live: builds the domain's part; ``None``: the registered domain's.

    Raises:
        LoadRefused: with the label of the check that failed.
        UserError: the signature's public key cannot be read.
    """
    made = _refuse_large(folder)
    try:
        bundle = load_bundle(folder)
    except BundleError as error:
        raise LoadRefused(error.flaw, str(error)) from error
    except MemoryError as error:
        raise LoadRefused("memory", f"{folder} does not fit into memory") from error
    warning = _signature(folder, signature, bundle)
    _refuse_misfit(bundle, domain, serves)
    backend, stochastic = _backend(bundle, slot)
    policy = Supervised(digest=bundle.digest, backend=backend, name=f"policy-{bundle.digest[:8]}")
    runtime = Runtime(
        spec=bundle.spec,
        policy=policy,
        previous=previous,
        live=_live(bundle, slot, live),
        observed=bundle.observed,
        stochastic=stochastic,
    )
    try:
        latency = _warm_up(policy, bundle, slot)
    except LoadRefused:
        policy.close()
        raise
    return Loaded(runtime, bundle, backend, latency, made, (warning,) if warning else ())


def misfit(spec: Spec, serves: Spec) -> str:
    """How a bundle's spec differs from the one that clients speak; empty if they fit.

    Scenario, horizon and time step may differ (a policy may be trained on another load), shapes,
    features, their units and their order may not.
    """
    found: list[str] = []
    for name in ("domain", "agents", "groups", "action"):
        new, old = getattr(spec, name), getattr(serves, name)
        if new != old:
            found.append(f"{name} is {new}, not {old}")
    if spec.group_of.tolist() != serves.group_of.tolist():
        found.append("agents are in other groups")
    for kind in ("agent_features", "candidate_features"):
        found += _features(kind, getattr(spec, kind), getattr(serves, kind))
    return "; ".join(found)


def _features(kind: str, new: tuple[Feature, ...], old: tuple[Feature, ...]) -> list[str]:
    if len(new) != len(old):
        return [f"{kind} are {len(new)}, not {len(old)}"]
    # Bounds describe the scenario's load; the meaning of the number does not hang on them.
    named = [field.name for field in fields(Feature) if field.name not in ("low", "high")]
    return [
        f"{kind}[{index}].{name} is {getattr(a, name)!r}, not {getattr(b, name)!r}"
        for index, (a, b) in enumerate(zip(new, old, strict=True))
        for name in named
        if getattr(a, name) != getattr(b, name)
    ]


def _refuse_large(folder: Path) -> float:
    """Refuse before anything is read; when the bundle was made."""
    try:
        found = [(folder / name).stat() for name in (MANIFEST, WEIGHTS, GOLDEN, ONNX)]
    except OSError as error:
        raise LoadRefused("digest", f"cannot read {error.filename}: {error.strerror}") from error
    total = sum(file.st_size for file in found)
    if total > LARGEST:
        raise LoadRefused("memory", f"{folder} has {total} bytes; at most {LARGEST} are served")
    return found[0].st_mtime


def _signature(folder: Path, settings: SignatureSettings | None, bundle: Bundle) -> str:
    if settings is None:
        return ""
    try:
        return check_signature(folder, settings, digest=bundle.digest)
    except SignatureError as error:
        raise LoadRefused("signature", str(error)) from error


def _refuse_misfit(bundle: Bundle, domain: str | None, serves: Spec | None) -> None:
    spec = bundle.spec
    if domain is not None and spec.domain != domain:
        raise LoadRefused(
            "schema", f"{bundle.folder} is for domain {spec.domain!r}, the slot is {domain!r}"
        )
    wrong = misfit(spec, serves) if serves is not None else ""
    if wrong:
        raise LoadRefused("schema", f"{bundle.folder} does not fit what is served now: {wrong}")


def _live(bundle: Bundle, slot: SlotSettings, factory: LiveFactory | None) -> Live:
    try:
        wanted = factory or find_domain(bundle.spec.domain).live
        built = None if wanted is None else wanted(bundle.spec, bundle.factory().settings, slot)
    except (UserError, ValueError, KeyError, TypeError) as error:
        raise LoadRefused(
            "schema", f"{bundle.folder}: no fallback rule can be built for it: {error}"
        ) from error
    if built is None:
        raise LoadRefused("schema", f"domain {bundle.spec.domain!r} cannot be served yet")
    return built


def _backend(bundle: Bundle, slot: SlotSettings) -> tuple[Backend, bool]:
    worst = 0.0
    try:
        backend, stochastic = backend_of(bundle, slot)
        if isinstance(backend, OnnxBackend):
            worst = _parity(backend, bundle)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        # onnxruntime's errors have no base class of their own.
        raise LoadRefused("schema", f"{bundle.folder / ONNX} cannot be run: {error}") from error
    if not worst <= TOLERANCE:
        raise LoadRefused(
            "parity",
            f"{bundle.folder / ONNX} {_scored(bundle)} differ by {worst:.3g} from the golden ones "
            f"(allowed {TOLERANCE:g})",
        )
    return backend, stochastic


def _scored(bundle: Bundle) -> str:
    return "shapes" if isinstance(bundle.spec.action, Box) else "scores"


def golden_observations(bundle: Bundle) -> tuple[Observation, ...]:
    """The observations of a bundle's golden decisions."""
    return seen_in(bundle.golden)


def _parity(backend: OnnxBackend, bundle: Bundle) -> float:
    golden, errors = bundle.golden, [0.0]
    for epoch, seen in enumerate(golden_observations(bundle)):
        if isinstance(bundle.spec.action, Box):
            shapes = zip("ab", backend.shapes(seen, None), strict=True)
            errors += [score_error(found, golden[name][epoch]) for name, found in shapes]
        else:
            legal, scores = seen.mask & seen.active[:, None], golden["scores"][epoch]
            errors.append(score_error(backend.scores(seen, None)[legal], scores[legal]))
    return float(np.max(errors))


def _warm_up(policy: Policy, bundle: Bundle, slot: SlotSettings) -> float:
    seen = golden_observations(bundle)
    taken: list[float] = []
    for index in range(WARMUP):
        outcome = ask(
            policy, seen[index % len(seen)], None, seed=index, greedy=None, limit=_PATIENCE
        )
        if outcome.status != "ok":
            raise LoadRefused(
                "warmup",
                f"{bundle.folder} answered asking {index + 1} of {WARMUP} with {outcome.status}: "
                f"{outcome.detail}",
            )
        taken.append(outcome.seconds)
    # The first ones fill caches; a median is not shaken by what else the machine does.
    latency = median(taken[WARMUP // 5 :])
    limit = slot.deadline * slot.policy_share
    if latency > limit:
        raise LoadRefused(
            "warmup",
            f"{bundle.folder} takes {latency * 1e3:.3g} ms to answer, the slot allows "
            f"{limit * 1e3:.3g} ms (deadline x policy_share)",
        )
    return latency
