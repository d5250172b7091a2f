"""A whole audit again: is the chain unbroken, and is every decision what its inputs give?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...simulators.interface import Box, Spec
from ..bundle import Bundle, BundleError, load_bundle
from ..decision.asking import Inline
from ..decision.settings import SlotSettings
from ..decision.types import Live, Policy, Runtime
from ..files import UserError
from ..progress import Report, silent
from ..registry import find_domain
from ..rollout.backends import NumpyBackend, OnnxBackend
from ..rollout.canary import parts_of, split
from ..rollout.store import Store
from .codec import Event, Recorded
from .reader import Line, Log, domains_in
from .recompute import Verdict, recompute

LiveFactory = Callable[[Spec, Mapping[str, Any], SlotSettings], Live]

SHOWN = 20
"""Differences that a report spells out."""


class MissingBundleError(UserError):
    """A bundle that decided and is not at hand."""


class Sources:
    """Runtimes from bundles, as they were when a decision was made.

    Args:
        registry: folder of bundles by domain and digest; ``None``: there is none.
        folders: of further bundles.
        live: builds a domain's part; ``None``: the registered domain's.

    Raises:
        BundleError: a bundle of ``folders`` is damaged.
    """

    def __init__(
        self,
        *,
        registry: Path | None = None,
        folders: Iterable[Path] = (),
        live: LiveFactory | None = None,
    ) -> None:
        self._store = None if registry is None else Store(registry)
        given = [load_bundle(folder) for folder in folders]
        self._given = {bundle.digest: bundle for bundle in given}
        self._live = live
        # Audits go through few bundles, one after another; a canary needs three at once.
        self._loaded = lru_cache(maxsize=8)(self._load)
        self._runtime = lru_cache(maxsize=8)(self._build)

    def runtime(self, domain: str, digest: str, previous: str, slot: SlotSettings) -> Runtime:
        """The runtime of bundle ``digest`` (or of a split of two) before which was ``previous``.

        The previous one is left out if it is not at hand: its outcomes are in the records.

        Raises:
            MissingBundleError: no such bundle, or it is damaged.
        """
        return self._runtime(domain, digest, previous, slot.model_dump_json())

    def _build(self, domain: str, digest: str, previous: str, slot_json: str) -> Runtime:
        slot = SlotSettings.model_validate_json(slot_json)
        parts = parts_of(digest)
        bundle = self._loaded(domain, digest if parts is None else parts[1])
        live = self._live or find_domain(domain).live
        if live is None:
            raise UserError(f"domain {domain!r} cannot be served, so its audit cannot be replayed")
        built = live(bundle.spec, bundle.factory().settings, slot)
        policy: Policy = _policy(bundle, slot)
        if parts is not None:
            champion = self._loaded(domain, parts[0])
            coupling = built.coupling(bundle.spec)
            policy = split(_policy(champion, slot), policy, coupling, parts[2])
        return Runtime(
            spec=bundle.spec,
            policy=policy,
            previous=self._previous(domain, previous, slot),
            live=built,
            observed=bundle.observed,
            stochastic=_stochastic(bundle, slot),
        )

    def _previous(self, domain: str, digest: str, slot: SlotSettings) -> Policy | None:
        try:
            return _policy(self._loaded(domain, digest), slot) if digest else None
        except MissingBundleError:
            return None

    def _load(self, domain: str, digest: str) -> Bundle:
        if digest in self._given:
            return self._given[digest]
        short = digest[:12] or "of no digest"
        if self._store is None:
            raise MissingBundleError(
                f"bundle {short} of domain {domain!r} is not at hand; give --registry or --bundle"
            )
        try:
            return self._store.load(domain, digest)
        except BundleError as error:
            raise MissingBundleError(str(error)) from error
        except UserError as error:
            raise MissingBundleError(
                f"bundle {short} of domain {domain!r} is neither in registry {self._store.root} "
                f"nor given; give its --bundle"
            ) from error


def _stochastic(bundle: Bundle, slot: SlotSettings) -> bool:
    return bundle.stochastic if slot.sample == "bundle" else slot.sample == "yes"


def _policy(bundle: Bundle, slot: SlotSettings) -> Policy:
    # Scores show how far two runtimes are apart. Set-points that were drawn do not, so that they
    # are asked of the runtime that made them.
    same = slot.backend == "onnx" and isinstance(bundle.spec.action, Box)
    kind = OnnxBackend if same else NumpyBackend
    return Inline(bundle.digest, kind(bundle, stochastic=_stochastic(bundle, slot)))


@dataclass(slots=True)
class Replayed:
    """Figures of a replay.

    Attributes:
        domains: whose records were read.
        segments, decisions, events: that count.
        identical: decisions that were computed again with the same result.
        different: those with another one; the first are in ``differences``.
        missing: decisions whose bundle is not at hand; why is in ``lacking``.
        brief: decisions recorded without their observation (``audit.sample``,
            ``audit.full_rate``).
        left_out: decisions before the newest ``limit``.
        lost: decisions that the daemon could not record, by its own account.
        unlinked: states that do not follow from the decision before, in one run of the daemon.
        faults, notes: of the chain, see :class:`.reader.Log`.
    """

    domains: tuple[str, ...] = ()
    segments: int = 0
    decisions: int = 0
    events: int = 0
    identical: int = 0
    different: int = 0
    missing: int = 0
    brief: int = 0
    left_out: int = 0
    lost: int = 0
    unlinked: int = 0
    differences: list[str] = field(default_factory=list[str])
    lacking: list[str] = field(default_factory=list[str])
    faults: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    @property
    def identical_all(self) -> bool:
        """The chain holds, and every decision with its observation was recomputed identically."""
        return not (self.different or self.missing or self.faults)


def replay(
    folder: Path,
    sources: Sources,
    *,
    limit: int | None = None,
    tolerance: float | None = None,
    progress: Report = silent,
) -> Replayed:
    """Verify the whole audit, and recompute its decisions (the newest ``limit`` of each domain).

    Raises:
        AuditError: the folder holds no audit, or a file cannot be read.
    """
    domains = domains_in(folder)
    if not domains:
        raise UserError(f"{folder} holds no audit: no file like cloud-000001.log")
    result = Replayed(domains=domains)
    for domain in domains:
        log = Log(folder, domain)
        _replay(log, sources, result, limit=limit, tolerance=tolerance, progress=progress)
        result.segments += log.segments
        result.faults += log.faults
        result.notes += log.notes
    return result


def _replay(
    log: Log,
    sources: Sources,
    result: Replayed,
    *,
    limit: int | None,
    tolerance: float | None,
    progress: Report,
) -> None:
    total = sum(path.stat().st_size for path in log.folder.glob(f"{log.domain}-*.log"))
    judge = _Judge(sources, result, tolerance)
    waiting: deque[Line] = deque()
    done = 0
    for line in log.lines():
        progress(min(total, done), total, f"{log.domain}, segment {line.segment}")
        if isinstance(line.record, Event):
            result.events += 1
            if line.record.kind == "audit-gap":
                result.lost += int(line.record.detail["dropped"])
            continue
        result.decisions += 1
        done += _size(line.record)
        waiting.append(line)
        if limit is None:
            judge.look_at(waiting.popleft())
        elif len(waiting) > limit:
            waiting.popleft()
            result.left_out += 1
    for line in waiting:
        judge.look_at(line)


class _Judge:
    """Recomputes one decision after another and keeps the figures."""

    def __init__(self, sources: Sources, result: Replayed, tolerance: float | None) -> None:
        self._sources, self._result, self._tolerance = sources, result, tolerance
        self._before: tuple[str, Verdict] | None = None

    def look_at(self, line: Line) -> None:
        result, record = self._result, line.record
        assert isinstance(record, Recorded)  # noqa: S101
        if not record.full:
            result.brief += 1
            return
        verdict = self._verdict(line, record)
        if verdict.skipped:
            result.missing += 1
            if verdict.skipped not in result.lacking:
                result.lacking.append(verdict.skipped)
            return
        result.identical += verdict.identical
        result.different += not verdict.identical
        for difference in verdict.differences:
            if len(result.differences) < SHOWN:
                result.differences.append(f"{verdict.id}: {difference}")
        self._link(line, record, verdict)

    def _verdict(self, line: Line, record: Recorded) -> Verdict:
        entry = record.entry
        slot = SlotSettings.model_validate(line.header.context["slot"])
        try:
            runtime = self._sources.runtime(
                entry.domain, entry.decision.bundle, entry.previous, slot
            )
        except MissingBundleError as error:
            return Verdict(entry.id, skipped=str(error))
        return recompute(entry, runtime, slot, tolerance=self._tolerance)

    def _link(self, line: Line, record: Recorded, verdict: Verdict) -> None:
        """Whether the state follows from the decision before, if that was the one just before."""
        state, boot = record.entry.before, line.header.boot
        known = self._before
        if known is not None and known[0] == boot and known[1].after is not None:
            # Operators may force the baseline; of the sequence only a part is recorded.
            then = replace(known[1].after, forced=state.forced, sequence=state.sequence)
            if then.ticks == state.ticks and not _same_state(then, state):
                self._result.unlinked += 1
        self._before = (boot, verdict)


def _same_state(one: Any, other: Any) -> bool:
    last = (one.last is None) == (other.last is None) and (
        one.last is None or bool(((one.last == other.last) | (one.last != one.last)).all())
    )
    return last and replace(one, last=None) == replace(other, last=None)


def _size(record: Recorded) -> int:
    """About how many bytes of the file a record is, for the progress bar."""
    seen = record.entry.request.observation
    parts = (seen.agent, seen.candidates, seen.target, seen.mask, seen.low, seen.high)
    return 2000 + sum(part.nbytes for part in parts)


def rows_of(result: Replayed) -> Sequence[Any]:
    """The figures as rows of a report; those with a mark decide the exit status."""
    from ..rows import Row

    known = result.decisions - result.brief - result.left_out
    rows = [
        Row.info("domains", ", ".join(result.domains), ""),
        Row.info("segments", result.segments, "files"),
        Row.at_most("faults of the chain", len(result.faults), "", 0),
        Row.info("decisions recorded", result.decisions, ""),
        Row.near("decisions identical", result.identical, "", known, 0),
        Row.at_most("decisions different", result.different, "", 0),
        Row.at_most("decisions whose bundle is missing", result.missing, "", 0),
    ]
    optional = {
        "decisions recorded without observation": result.brief,
        "decisions before the newest --limit": result.left_out,
        "decisions that could not be recorded": result.lost,
        "states that do not follow from the decision before": result.unlinked,
        "torn or repeated ends of segments": len(result.notes),
    }
    rows += [Row.info(name, count, "") for name, count in optional.items() if count]
    rows.append(Row.info("events", result.events, ""))
    return rows
