"""Who decides in a slot: champion, canary and shadow; loads, promotions, aborts and rollbacks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..daemon.interface import Entry
from ..daemon.settings import RolloutSettings
from ..decision.supervised import Supervised
from ..decision.types import Clock, Request, Runtime
from ..files import UserError
from .canary import Trial, in_window, split
from .judge import Judge, Shadow, compare
from .loader import Loader, Tell
from .loading import Loaded, LoadRefused
from .store import CHAMPION, PREVIOUS
from .team import Canary, Member, Team, Watched, brief, report
from .watch import AliasWatch

_ARGUMENTS = {
    "load": {"path", "bundle"},
    "promote": {"bundle", "force"},
    "rollback": set[str](),
    "shadow": {"bundle"},
    "canary": {"bundle", "force"},
    "abort": {"role"},
}
"""What may be said with each act, besides ``dry_run``."""


def both_clocks() -> Clock:
    """Monotonic and wall clock, now."""
    return Clock(time.monotonic(), time.time())


class SlotRollout:
    """Implements ``Rollout`` on a registry: the champion is what its alias says.

    Args:
        loader: of this slot's bundles; its meter and event listener are used here as well.
        settings: of shadow and canary.
        keep: former champions kept in memory.
        watch: time between two looks at the champion alias, s.
        tell: is told of what happens without being asked for (automatic aborts, loads after the
            alias was moved, refusals); from any thread. Acts are told by who performs them.
        clock: both clocks.

    ``choose`` and ``after`` belong to one thread and never wait; ``operate`` and the watch take
    turns. What they change is one reference, so that a request keeps what it began with.

    Raises:
        UserError: there is no champion in the registry.
        LoadRefused: neither the champion nor the one before it can be served.
    """

    def __init__(
        self,
        *,
        loader: Loader,
        settings: RolloutSettings,
        keep: int,
        watch: float,
        tell: Tell,
        clock: Callable[[], Clock] = both_clocks,
    ):
        self.loader, self.settings = loader, settings
        self._keep, self._tell, self._clock = keep, tell, clock
        self._domain, self._store, self._meter = loader.domain, loader.store, loader.meter
        self._aborted: Mapping[str, Any] | None = None
        self._twin: Supervised | None = None
        self._acting, self._swapping = threading.Lock(), threading.Lock()
        champion = Member(self._first(), clock().wall)
        self._team = Team(champion, (), champion.loaded.runtime)
        report(self._team, self._meter, self._domain)
        self._judge = Judge(self._study, name=f"judge-{self._domain}")
        self._watch = AliasWatch(
            store=self._store,
            domain=self._domain,
            current=lambda: self._team.champion.digest,
            found=self._follow,
            failed=lambda reason: tell("aliases", {"reason": reason}),
            interval=watch,
        )

    @property
    def champion(self) -> Runtime:
        return self._team.runtime

    @property
    def bundle(self) -> Bundle:
        """The champion's, with its golden observations."""
        return self._team.champion.loaded.bundle

    def choose(self, request: Request, ticks: int) -> tuple[Runtime, str]:  # noqa: ARG002
        team = self._team
        canary = team.canary
        if canary is None:
            return team.runtime, "champion"
        if canary.unit == "group" or in_window(
            canary.member.digest, ticks, canary.share, window=self.settings.window
        ):
            return canary.runtime, "canary"
        return team.runtime, "champion"

    def after(self, entry: Entry) -> None:
        team = self._team
        canary = team.canary
        if entry.probe:
            return
        tried = canary is not None and entry.decision.bundle == canary.runtime.digest
        if canary is not None and tried:
            with self._swapping:
                reason = canary.trial.count(entry.decision, entry.before.breaker.trips)
            if reason:
                cause = "breaker" if "breaker" in reason else "canary"
                self._abort(canary, reason, cause=cause)
                tried = False
        if tried or team.shadow is not None:
            self._judge.offer(entry)

    def view(self) -> Mapping[str, Any]:
        team = self._team
        return {
            "champion": team.champion.view(),
            "previous": team.former[0].view() if team.former else None,
            "canary": team.canary.view(self._clock().mono) if team.canary else None,
            "shadow": team.shadow.view(self._judge) if team.shadow else None,
            "refused": self.loader.refused,
            "aborted": self._aborted,
        }

    def operate(self, act: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        acts = {
            "load": self._load,
            "promote": self._promote,
            "rollback": self._rollback,
            "shadow": self._shadow,
            "canary": self._canary,
            "abort": self._end,
        }
        if act not in acts:
            raise UserError(f"there is no act {act!r}; known: {', '.join(acts)}")
        unknown = sorted(set(arguments) - _ARGUMENTS[act] - {"dry_run"})
        if unknown:
            known = ", ".join(sorted(_ARGUMENTS[act])) or "none"
            raise UserError(f"act {act!r} takes no argument {unknown[0]!r}; known: {known}")
        with self._acting:
            return acts[act](dict(arguments), bool(arguments.get("dry_run", False)))

    def settle(self, timeout: float = 5.0) -> bool:
        """Wait until the shadow has seen what was offered to it; whether it has."""
        return self._judge.settle(timeout)

    def close(self) -> None:
        self._watch.close()
        self._judge.close()

    def _first(self) -> Loaded:
        aliases = self._store.aliases(self._domain)
        if CHAMPION not in aliases:
            raise UserError(
                f"registry {self._store.root} has no champion for domain {self._domain!r}; name a "
                "bundle on the command line, or use `fairlead registry alias`"
            )
        try:
            return self.loader.named(CHAMPION, None)
        except LoadRefused as error:
            if PREVIOUS not in aliases:
                raise
            self._tell("previous", {"champion": aliases[CHAMPION], "reason": str(error)})
            return self.loader.named(PREVIOUS, None)

    def _loaded(self, name: object) -> Loaded:
        """The bundle of that name, from memory if it is there and warm."""
        if not isinstance(name, str) or not name:
            raise UserError("say which bundle: {'bundle': an alias, a digest, or its beginning}")
        held = self._team.known(self._store.resolve(self._domain, name))
        return held or self.loader.named(name, self.champion.spec)

    def _load(self, arguments: dict[str, Any], dry: bool) -> Mapping[str, Any]:
        if ("path" in arguments) == ("bundle" in arguments):
            raise UserError("say what to load: either {'path': a folder} or {'bundle': a name}")
        if "bundle" in arguments:
            return brief(self._loaded(arguments["bundle"]))
        # Verified where it lies: what would be refused does not get into the registry at all.
        loaded = self.loader.lying(Path(str(arguments["path"])), self.champion.spec)
        if not dry:
            self._store.add(loaded.bundle.folder)
        return brief(loaded)

    def _promote(self, arguments: dict[str, Any], dry: bool) -> Mapping[str, Any]:
        canary = self._team.canary
        name = arguments.get("bundle") or (canary.member.digest if canary else None)
        loaded = self._loaded(name)
        if loaded.digest == self._team.champion.digest:
            raise UserError(f"{loaded.digest[:12]} is the champion already")
        if canary and loaded.digest == canary.member.digest and not arguments.get("force"):
            missing = canary.trial.unripe(self._clock().mono)
            if missing:
                raise UserError(f"the canary is not ripe: {missing} ('force' promotes it anyway)")
        if not dry:
            self._store.point(self._domain, CHAMPION, loaded.digest)
            self._crown(loaded)
        return brief(loaded)

    def _rollback(self, _: dict[str, Any], dry: bool) -> Mapping[str, Any]:
        team = self._team
        aliases = self._store.aliases(self._domain)
        target = team.former[0].digest if team.former else aliases.get(PREVIOUS)
        if target is None or target == team.champion.digest:
            raise UserError("there is no former champion to go back to")
        loaded = self._loaded(target)
        if not dry:
            self._store.point(self._domain, CHAMPION, loaded.digest)
            rest = team.former[1:]
            # Going back once more must not lead forward again to what was just left.
            self._store.point(self._domain, PREVIOUS, rest[0].digest if rest else None)
            self._crown(loaded, former=rest)
            self._meter.count("policy_rollbacks_total", domain=self._domain, cause="manual")
        return {**brief(loaded), "left": team.champion.digest}

    def _shadow(self, arguments: dict[str, Any], dry: bool) -> Mapping[str, Any]:
        loaded = self._loaded(arguments.get("bundle"))
        if not dry:
            policy = Supervised(digest=loaded.digest, backend=loaded.backend, name="shadow")
            watched = Watched(
                Member(loaded, self._clock().wall),
                Shadow(policy, loaded.runtime.live, self.settings.shadow_timeout),
            )
            self._change(shadow=watched)
        return brief(loaded)

    def _canary(self, arguments: dict[str, Any], dry: bool) -> Mapping[str, Any]:
        team, now = self._team, self._clock()
        running = team.canary
        name = arguments.get("bundle") or (running.member.digest if running else None)
        loaded = self._loaded(name)
        if loaded.digest == team.champion.digest:
            raise UserError(f"{loaded.digest[:12]} is the champion; a canary is another bundle")
        step, since = 0, now.wall
        if running is not None and running.member.digest == loaded.digest:
            step, since = running.step + 1, running.member.since
            if step == len(self.settings.steps):
                raise UserError("the canary has the largest share already; promote or abort it")
            missing = running.trial.unripe(now.mono)
            if missing and not arguments.get("force"):
                raise UserError(f"not yet: {missing} ('force' goes on anyway)")
        share = self.settings.steps[step]
        runtime = self._canary_runtime(team, loaded, share)
        if not dry:
            trial = Trial(self.settings, now.mono)
            member = Member(loaded, since)
            canary = Canary(member, runtime, step, share, self.settings.unit, trial)
            champion = team.champion.loaded
            self._twin = Supervised(
                digest=champion.digest, backend=champion.backend, name="champion-twin"
            )
            self._change(canary=canary)
        return {**brief(loaded), "share": share, "step": step + 1, "unit": self.settings.unit}

    def _canary_runtime(self, team: Team, loaded: Loaded, share: float) -> Runtime:
        champion = team.champion.loaded.runtime.policy
        policy = loaded.runtime.policy
        if self.settings.unit == "group" and champion is not None and policy is not None:
            # The canary's own part of the domain, as it is in its runtime, and so in a replay.
            coupling = loaded.runtime.live.coupling(loaded.bundle.spec)
            policy = split(champion, policy, coupling, share)
        # A canary that fails is first replaced by the champion, and only then by the baseline.
        return replace(loaded.runtime, policy=policy, previous=champion, mode="canary")

    def _end(self, arguments: dict[str, Any], dry: bool) -> Mapping[str, Any]:
        team = self._team
        role = arguments.get("role") or ("canary" if team.canary else "shadow")
        part = {"canary": team.canary, "shadow": team.shadow}.get(str(role))
        if part is None:
            raise UserError(f"there is no {role} to abort")
        if not dry and isinstance(part, Canary):
            self._abort(part, "an operator aborted it", cause="manual")
        elif not dry:
            self._change(shadow=None)
        return {"role": role, **brief(part.member.loaded)}

    def _abort(self, canary: Canary, reason: str, *, cause: str) -> None:
        with self._swapping:
            if self._team.canary is not canary:
                return  # somebody else was quicker
            self._team = replace(self._team, canary=None)
            self._aborted = _ended(canary, reason, cause, self._clock().wall)
        report(self._team, self._meter, self._domain)
        self._meter.count("policy_rollbacks_total", domain=self._domain, cause=cause)
        if cause != "manual":
            self._tell("abort", self._aborted)

    def _crown(self, loaded: Loaded, former: tuple[Member, ...] | None = None) -> None:
        """Make it champion; the roles that compared themselves with the one before end."""
        with self._swapping:
            team = self._team
            if former is None:
                others = [team.champion, *team.former]
                former = tuple(m for m in others if m.digest != loaded.digest)[: self._keep]
            shadow = team.shadow
            if shadow is not None and shadow.member.digest == loaded.digest:
                shadow = None
            if team.canary is not None and team.canary.member.digest != loaded.digest:
                reason = f"{loaded.digest[:12]} became champion"
                self._aborted = _ended(team.canary, reason, "manual", self._clock().wall)
            before = former[0].loaded.runtime.policy if former else None
            runtime = replace(loaded.runtime, previous=before)
            champion = Member(loaded, self._clock().wall)
            self._team = Team(champion, former, runtime, None, shadow)
        report(self._team, self._meter, self._domain)

    def _change(self, **parts: Any) -> None:
        with self._swapping:
            self._team = replace(self._team, **parts)
        report(self._team, self._meter, self._domain)

    def _follow(self, digest: str) -> None:
        """The champion alias was moved by somebody else."""
        with self._acting, suppress(LoadRefused):  # a refusal is told and counted by the loader
            try:
                loaded = self._loaded(digest)
            except LoadRefused:
                raise
            except UserError as error:
                self._tell("aliases", {"reason": str(error)})
                return
            if loaded.digest != self._team.champion.digest:
                self._crown(loaded)
                self._tell("load", brief(loaded))

    def _study(self, entry: Entry) -> None:
        """In the judge's thread: what others would have done."""
        team = self._team
        if team.shadow is not None:
            self._study_shadow(team.shadow, entry)
        canary, twin = team.canary, self._twin
        if canary is None or twin is None or entry.decision.bundle != canary.runtime.digest:
            return
        if entry.decision.outcome != "ok":
            return  # the cost is then not the canary's own
        live = team.champion.loaded.runtime.live
        found = compare(twin, live, entry, limit=self.settings.shadow_timeout)
        with self._swapping:
            reason = canary.trial.compare(found.executed, found.cost)
        if reason:
            self._abort(canary, reason, cause="canary")

    def _study_shadow(self, watched: Watched, entry: Entry) -> None:
        shadow = watched.shadow
        found = shadow.watch(entry)
        if found.status == "timeout":
            self._meter.count("shadow_timeouts_total", domain=self._domain)
        if self._team.shadow is watched:
            disagreement, above = shadow.disagreement, shadow.above
            self._meter.set("shadow_disagreement_ratio", disagreement, domain=self._domain)
            self._meter.set("shadow_cost_delta", above, domain=self._domain)


def _ended(canary: Canary, reason: str, cause: str, at: float) -> Mapping[str, Any]:
    digest = canary.member.digest
    return {"digest": digest, "share": canary.share, "reason": reason, "cause": cause, "at": at}
