"""A slot's roll-out: who decides after which act, what is aborted by itself, what never is."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from rollout_stage import Slot, ToyLive, until
from serving import make_bundle

from fairlead.platform.daemon.settings import RolloutSettings
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Inference, Source
from fairlead.platform.files import UserError
from fairlead.platform.rollout import loading
from fairlead.platform.rollout.canary import (
    Split,
    in_groups,
    in_window,
    parts_of,
    position,
    split_digest,
)
from fairlead.platform.rollout.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three policies, and one that decides as the first but is another bundle."""
    root = tmp_path_factory.mktemp("made")
    bundles = [make_bundle(root / f"b{seed}", seed=seed) for seed in (1, 2, 3)]
    return [*bundles, make_bundle(root / "twin", seed=1, name="twin")]


@pytest.fixture
def store(tmp_path, made):
    found = Store(tmp_path / "registry")
    for bundle in made:
        found.add(bundle.folder)
    found.point("cloud", "champion", made[0].digest)
    return found


@pytest.fixture
def tricks(monkeypatch):
    """Digest to a backend that takes over once the bundle is loaded and warm."""
    found, real = {}, loading.backend_of

    def backend_of(bundle, slot):
        backend, stochastic = real(bundle, slot)

        def asked(observation, agents, seed, greedy):
            return found.get(bundle.digest, backend)(observation, agents, seed, greedy)

        return asked, stochastic

    monkeypatch.setattr(loading, "backend_of", backend_of)
    return found


@pytest.fixture
def start(store):
    slots = []

    def build(**options):
        slots.append(Slot(store, **options))
        return slots[-1]

    yield build
    for slot in slots:
        slot.rollout.close()


def slow(observation, agents, seed, greedy):
    time.sleep(1.5)
    raise RuntimeError("too late anyway")


def not_finite(observation, agents, seed, greedy):
    scores = np.full(observation.mask.shape, np.nan, np.float32)
    return Inference(np.zeros(len(scores), np.int64), scores)


def raising(observation, agents, seed, greedy):
    raise ValueError("no")


def constant(observation, agents, seed, greedy):
    """Always the last candidate: the dearest one in this toy's terms."""
    rows, choices = observation.mask.shape
    return Inference(np.full(rows, choices - 1, np.int64), np.zeros((rows, choices), np.float32))


def info(slot, role):
    """Bundles that the metric names in a role."""
    (family,) = [f for f in slot.meter.collect() if f.name == "fairlead_policy_info"]
    return [s.labels["bundle"] for s in family.samples if s.labels["role"] == role]


def test_the_alias_says_who_is_champion(start, made):
    slot = start()
    (entry,) = slot.decide()
    assert entry.decision.bundle == made[0].digest and entry.role == "champion"
    assert entry.decision.outcome == "ok"
    assert slot.value("policy_loads_total", result="ok") == 1
    assert info(slot, "champion") == [made[0].digest[:12]]
    assert info(slot, "canary") == info(slot, "shadow") == []
    assert slot.rollout.view()["champion"]["name"] == "test policy"
    json.dumps(slot.rollout.view(), allow_nan=False)
    assert slot.rollout.bundle.golden["seed"].size > 0


def test_promotion_moves_alias_champion_and_second_rung_and_rollback_moves_back(start, store, made):
    slot = start()
    digests = [bundle.digest for bundle in made]
    dry = slot.rollout.operate("promote", {"bundle": digests[1], "dry_run": True})
    assert dry["digest"] == digests[1]
    assert slot.rollout.champion.digest == digests[0]
    assert store.aliases("cloud") == {"champion": digests[0]}
    slot.rollout.operate("promote", {"bundle": digests[1][:10]})
    slot.rollout.operate("promote", {"bundle": digests[2]})
    (entry,) = slot.decide()
    assert entry.decision.bundle == digests[2]
    assert slot.rollout.champion.previous.digest == digests[1]
    assert store.aliases("cloud") == {"champion": digests[2], "previous": digests[1]}
    for expected in (digests[1], digests[0]):
        slot.rollout.operate("rollback", {})
        assert slot.rollout.champion.digest == expected == store.aliases("cloud")["champion"]
    with pytest.raises(UserError, match="no former champion"):
        slot.rollout.operate("rollback", {})
    assert slot.value("policy_rollbacks_total", cause="manual") == 2
    assert info(slot, "champion") == [digests[0][:12]]


def test_a_rollback_after_a_restart_uses_the_alias(start, store, made):
    first = start()
    first.rollout.operate("promote", {"bundle": made[1].digest})
    second = start()
    assert second.rollout.champion.digest == made[1].digest
    assert second.rollout.champion.previous is None
    second.rollout.operate("rollback", {})
    assert second.rollout.champion.digest == made[0].digest


def test_only_so_many_former_champions_are_kept(start, made):
    slot = start(keep=1)
    for bundle in (made[1], made[2], made[3]):
        slot.rollout.operate("promote", {"bundle": bundle.digest})
    slot.rollout.operate("rollback", {})
    assert slot.rollout.champion.digest == made[2].digest
    assert slot.rollout.champion.previous is None


def test_a_request_keeps_the_runtime_that_it_began_with(start, made):
    slot = start()
    runtime, _ = slot.rollout.choose(None, 0)
    slot.rollout.operate("promote", {"bundle": made[1].digest})
    seen = loading.golden_observations(made[0])[0]
    outcome = runtime.policy.ask(seen, None, seed=0, greedy=True, limit=5.0)
    assert outcome.status == "ok" and runtime.digest == made[0].digest
    best = np.where(seen.mask, made[0].golden["scores"][0], -np.inf).argmax(axis=1)
    assert (outcome.inference.actions == np.where(seen.active, best, 0)).all()


def test_loading_a_folder_adds_it_without_making_it_champion(start, store, tmp_path):
    slot = start()
    fresh = make_bundle(tmp_path / "fresh", seed=9)
    slot.rollout.operate("load", {"path": str(fresh.folder), "dry_run": True})
    assert fresh.digest not in {v.digest for v in store.list()}
    slot.rollout.operate("load", {"path": str(fresh.folder)})
    assert fresh.digest in {v.digest for v in store.list()}
    assert slot.rollout.champion.digest != fresh.digest


@pytest.mark.parametrize(
    ("act", "arguments", "message"),
    [
        ("launch", {}, "there is no act 'launch'"),
        ("rollback", {"bundle": "x"}, "takes no argument 'bundle'"),
        ("load", {}, "say what to load"),
        ("load", {"path": "/nowhere"}, "cannot read /nowhere"),
        ("promote", {}, "say which bundle"),
        ("promote", {"bundle": "champion"}, "is the champion already"),
        ("promote", {"bundle": "0123456789"}, "no version or alias"),
        ("shadow", {"bundle": 3}, "say which bundle"),
        ("canary", {"bundle": "champion"}, "a canary is another bundle"),
        ("abort", {}, "there is no shadow to abort"),
        ("abort", {"role": "boss"}, "there is no boss to abort"),
    ],
)
def test_acts_that_make_no_sense_say_why_and_change_nothing(start, store, act, arguments, message):
    slot = start()
    before = slot.rollout.champion
    with pytest.raises(UserError, match=message):
        slot.rollout.operate(act, arguments)
    assert slot.rollout.champion is before and set(store.aliases("cloud")) == {"champion"}


def test_a_bad_bundle_leaves_the_champion_alone_and_is_counted_by_cause(start, store, made):
    slot = start()
    before = slot.rollout.champion
    (store.folder("cloud", made[1].digest) / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(loading.LoadRefused):
        slot.rollout.operate("promote", {"bundle": made[1].digest})
    assert slot.rollout.champion is before
    assert store.aliases("cloud")["champion"] == made[0].digest
    assert slot.value("policy_loads_total", result="digest") == 1
    assert slot.rollout.view()["refused"]["label"] == "digest"
    assert slot.kinds() == ["refused"]


def test_a_damaged_champion_at_the_start_gives_way_to_the_one_before(start, store, made):
    store.point("cloud", "champion", made[1].digest)
    (store.folder("cloud", made[1].digest) / "golden.safetensors").write_bytes(b"x")
    slot = start()
    assert slot.rollout.champion.digest == made[0].digest
    assert slot.kinds() == ["refused", "previous"]
    assert slot.value("policy_loads_total", result="digest") == 1
    (store.folder("cloud", made[0].digest) / "golden.safetensors").write_bytes(b"x")
    with pytest.raises(loading.LoadRefused):
        start()
    with pytest.raises(UserError, match="no champion for domain"):
        Slot(Store(store.root / "empty"))


def test_a_moved_alias_is_followed_and_a_bad_one_refused_once(start, store, made):
    slot = start(watch=0.02)
    store.point("cloud", "champion", made[1].digest)
    assert until(lambda: slot.rollout.champion.digest == made[1].digest)
    assert until(lambda: slot.kinds() == ["load"])
    (store.folder("cloud", made[2].digest) / "weights.safetensors").write_bytes(b"x")
    store.point("cloud", "champion", made[2].digest)
    assert until(lambda: "refused" in slot.kinds())
    time.sleep(0.2)
    assert slot.kinds() == ["load", "refused"]
    assert slot.rollout.champion.digest == made[1].digest
    store.alias_file("cloud").write_text("{")
    assert until(lambda: "aliases" in slot.kinds())
    store.alias_file("cloud").unlink()
    time.sleep(0.1)
    assert slot.rollout.champion.digest == made[1].digest
    store.point("cloud", "champion", made[0].digest)
    assert until(lambda: slot.rollout.champion.digest == made[0].digest)
    assert slot.kinds() == ["load", "refused", "aliases", "load"]


def test_a_shadow_watches_and_never_decides(start, made):
    slot = start(rollout=RolloutSettings(shadow_timeout=30.0))
    slot.rollout.operate("shadow", {"bundle": made[3].digest})
    # One by one: the shadow's queue is short, and what does not fit is dropped.
    for _ in range(6):
        (entry,) = slot.decide()
        assert entry.decision.bundle == made[0].digest and entry.role == "champion"
        assert slot.rollout.settle()
    view = slot.rollout.view()["shadow"]
    assert view["samples"] == 6 and view["errors"] == 0
    # The same weights and the same seed: the twin decides exactly alike.
    assert view["disagreement"] == 0.0 and view["cost_delta"] == 0.0
    slot.rollout.operate("shadow", {"bundle": made[1].digest})
    expected, costs = [], []
    for _ in range(6):
        (entry,) = slot.decide()
        assert slot.rollout.settle()
        policy = slot.rollout._team.shadow.member.loaded.runtime.policy
        seed = entry.decision.seed
        seen = entry.request.observation
        other = policy.ask(seen, None, seed=seed, greedy=None, limit=5.0).inference.actions
        expected.append((other != entry.decision.actions)[seen.active].mean())
        costs.append((1.0 + other.sum(), 1.0 + entry.decision.actions.sum()))
    view = slot.rollout.view()["shadow"]
    assert view["disagreement"] == pytest.approx(np.mean(expected)) and view["disagreement"] > 0.1
    mine, executed = np.sum(costs, axis=0)
    assert view["cost_delta"] == pytest.approx(mine / executed - 1.0)
    assert slot.value("shadow_disagreement_ratio") == pytest.approx(view["disagreement"])
    assert info(slot, "shadow") == [made[1].digest[:12]]
    slot.rollout.operate("abort", {"role": "shadow"})
    assert slot.rollout.view()["shadow"] is None and info(slot, "shadow") == []
    assert np.isnan(slot.value("shadow_disagreement_ratio"))


@pytest.mark.parametrize("trick", [slow, not_finite, raising, constant])
def test_a_shadow_that_misbehaves_costs_only_itself(start, made, tricks, trick):
    settings = RolloutSettings(shadow_timeout=0.3)
    slot = start(rollout=settings)
    slot.rollout.operate("shadow", {"bundle": made[1].digest})
    tricks[made[1].digest] = trick
    for _ in range(5):
        began = time.perf_counter()
        (entry,) = slot.decide()
        assert time.perf_counter() - began < 1.4, "the shadow held the decision up"
        assert entry.decision.outcome == "ok" and entry.decision.bundle == made[0].digest
        assert slot.rollout.settle()
    view = slot.rollout.view()["shadow"]
    timeouts = slot.value("shadow_timeouts_total")
    # Each late answer gives up a thread, and only so many threads are given up.
    assert timeouts == view["timeouts"] and (timeouts >= 4 if trick is slow else timeouts == 0)
    assert view["failures"] + view["timeouts"] == (0 if trick is constant else 5)
    assert slot.state.breaker.phase == "closed" and not any(slot.state.breaker.window)


def test_entries_are_dropped_when_the_judge_is_behind(start, made, tricks):
    slot = start(rollout=RolloutSettings(shadow_timeout=30.0))
    gate = threading.Event()
    slot.rollout.operate("shadow", {"bundle": made[1].digest})

    def waiting(observation, agents, seed, greedy):
        gate.wait(20)
        return constant(observation, agents, seed, greedy)

    tricks[made[1].digest] = waiting
    slot.decide(20)
    assert slot.rollout.view()["shadow"]["dropped"] >= 15
    gate.set()
    assert slot.rollout.settle(20)


def test_a_live_part_that_raises_in_the_judge_is_counted(start, made, monkeypatch):
    def broken(self, observation, actions):
        raise ZeroDivisionError

    slot = start()
    slot.rollout.operate("shadow", {"bundle": made[1].digest})
    monkeypatch.setattr(ToyLive, "objective", broken)
    slot.decide(2)
    assert slot.rollout.settle()
    view = slot.rollout.view()["shadow"]
    assert view["errors"] == 2 and "ZeroDivision" in view["error"]


def test_windows_of_a_canary_are_whole_reproducible_and_grow(made):
    digest = made[1].digest
    small = [in_window(digest, tick, 0.1, window=4) for tick in range(20_000)]
    large = [in_window(digest, tick, 0.3, window=4) for tick in range(20_000)]
    assert all(len(set(small[i : i + 4])) == 1 for i in range(0, 20_000, 4))
    assert np.mean(small) == pytest.approx(0.1, abs=0.02)
    assert np.mean(large) == pytest.approx(0.3, abs=0.02)
    assert all(big for one, big in zip(small, large, strict=True) if one)
    assert small != [in_window(made[2].digest, t, 0.1, window=4) for t in range(20_000)]
    assert all(in_window(digest, t, 1.0, window=4) for t in range(100))
    assert 0.0 <= position(digest, "group", 3) < 1.0


def test_groups_of_a_canary_are_whole_and_never_none():
    coupling = np.repeat(np.arange(20), 5)
    small, large = (in_groups("a" * 64, coupling, share) for share in (0.1, 0.5))
    assert small.sum() == 10 and large.sum() == 50 and (large | ~small).all()
    for group in range(20):
        assert len(set(large[coupling == group])) == 1
    assert in_groups("a" * 64, coupling, 0.001).sum() == 5
    assert in_groups("a" * 64, np.zeros(7, int), 1.0).all()
    with pytest.raises(UserError, match="one coupling group"):
        in_groups("a" * 64, np.zeros(7, int), 0.5)


def test_a_canary_takes_its_windows_grows_on_request_and_is_promoted(start, store, made):
    slot = start(
        rollout=RolloutSettings(
            steps=(0.3, 1.0), min_samples=10, min_healthy=20.0, window=2, max_cost=10.0
        )
    )
    canary = made[3].digest
    told = slot.rollout.operate("canary", {"bundle": canary})
    assert told["share"] == 0.3 and info(slot, "canary") == [canary[:12]]
    with pytest.raises(UserError, match=r"not yet: 0 decisions so far, 10 are needed"):
        slot.rollout.operate("canary", {})
    with pytest.raises(UserError, match="not ripe"):
        slot.rollout.operate("promote", {})
    entries = slot.decide(60)
    for tick, entry in enumerate(entries):
        expected = in_window(canary, tick, 0.3, window=2)
        assert (entry.role == "canary") == expected
        assert entry.decision.bundle == (canary if expected else made[0].digest)
        assert entry.decision.mode == ("canary" if expected else "policy")
    assert 10 <= slot.rollout.view()["canary"]["samples"] < 60
    assert slot.rollout.operate("canary", {})["share"] == 1.0
    assert slot.rollout.view()["canary"]["samples"] == 0
    assert {entry.role for entry in slot.decide(12)} == {"canary"}
    with pytest.raises(UserError, match=r"healthy for 12 s, 20 s are needed"):
        slot.rollout.operate("promote", {})
    slot.decide(10)
    with pytest.raises(UserError, match="largest share already"):
        slot.rollout.operate("canary", {})
    slot.rollout.operate("promote", {})
    assert store.aliases("cloud") == {"champion": canary, "previous": made[0].digest}
    (entry,) = slot.decide()
    assert entry.role == "champion" and entry.decision.bundle == canary
    assert slot.rollout.view()["canary"] is None and info(slot, "canary") == []
    # Nothing was ever promoted or stepped by itself, and nothing aborted.
    assert slot.kinds() == [] and slot.value("policy_rollbacks_total", cause="canary") == 0


@pytest.mark.parametrize("trick", [slow, not_finite, raising])
def test_a_canary_that_fails_is_aborted_before_it_opens_the_breaker(start, made, tricks, trick):
    slot = start(
        rollout=RolloutSettings(steps=(1.0,), min_samples=50, max_fallback=0.05),
        slot=SlotSettings(deadline=0.5),
    )
    slot.decide(5)
    slot.rollout.operate("canary", {"bundle": made[1].digest})
    tricks[made[1].digest] = trick
    entries = slot.decide(8)
    tried = [entry for entry in entries if entry.role == "canary"]
    # 5 % of at least 50 is 2.5: the third failure is one too many, whatever comes after.
    assert len(tried) == 3
    for entry in tried:
        asked = {slow: "timeout", not_finite: "non-finite", raising: "error"}[trick]
        assert entry.decision.asked[0].status == asked
        # The champion is the next rung, so that nobody notices but the figures.
        assert (entry.decision.source[entry.request.observation.active] == Source.PREVIOUS).all()
    assert all(entry.decision.bundle == made[0].digest for entry in entries[3:])
    assert slot.state.breaker.phase == "closed"
    assert slot.kinds() == ["abort"]
    assert slot.value("policy_rollbacks_total", cause="canary") == 1
    assert "3 of 3 decisions with fallbacks" in slot.rollout.view()["aborted"]["reason"]
    assert slot.rollout.view()["canary"] is None


def test_a_canary_that_costs_more_is_aborted_and_one_that_costs_less_is_not(start, made, tricks):
    limits = RolloutSettings(steps=(1.0,), min_samples=10, max_cost=0.1)
    slot = start(rollout=limits)
    slot.rollout.operate("canary", {"bundle": made[3].digest})
    slot.decide(1)
    tricks[made[3].digest] = constant
    for _ in range(20):
        slot.decide(1)
        slot.rollout.settle()
    assert slot.kinds() == ["abort"]
    assert "predicted cost +" in slot.rollout.view()["aborted"]["reason"]

    def cheap(observation, agents, seed, greedy):
        return replace(
            constant(observation, agents, seed, greedy),
            actions=np.zeros(len(observation.mask), np.int64),
        )

    slot.rollout.operate("canary", {"bundle": made[3].digest})
    tricks[made[3].digest] = cheap
    for _ in range(30):
        slot.decide(1)
        slot.rollout.settle()
    view = slot.rollout.view()["canary"]
    assert view["cost_delta"] < -0.5 and slot.kinds() == ["abort"]


def test_missing_data_never_aborts_a_canary(start, made):
    class Blind(ToyLive):
        def objective(self, observation, actions):
            return float("nan"), float("nan")

    slot = start(rollout=RolloutSettings(steps=(1.0,), min_samples=2), live=Blind)
    slot.state = replace(slot.state, forced=True)  # the policy is not asked at all
    slot.rollout.operate("canary", {"bundle": made[1].digest})
    slot.decide(10)
    slot.rollout.settle()
    assert slot.rollout.view()["canary"]["samples"] == 0
    slot.state = replace(slot.state, forced=False)
    slot.decide(10)
    assert slot.rollout.settle()
    view = slot.rollout.view()["canary"]
    assert view["samples"] > 0 and view["cost_delta"] is None and view["fallbacks"] == 0
    assert slot.kinds() == []


def test_a_breaker_that_opens_aborts_the_canary(start, made):
    slot = start(rollout=RolloutSettings(steps=(1.0,)))
    slot.rollout.operate("canary", {"bundle": made[1].digest})
    slot.decide(2)
    slot.state = replace(slot.state, breaker=replace(slot.state.breaker, trips=1))
    slot.decide(1)
    assert slot.rollout.view()["canary"] is None
    assert slot.value("policy_rollbacks_total", cause="breaker") == 1


def test_a_canary_by_groups_decides_whole_groups_of_agents(start, made):
    slot = start(rollout=RolloutSettings(steps=(0.4, 1.0), unit="group", min_samples=2))
    slot.rollout.operate("canary", {"bundle": made[1].digest})
    runtime, role = slot.rollout.choose(None, 0)
    assert role == "canary" and isinstance(runtime.policy, Split)
    chosen = runtime.policy.agents
    assert chosen.sum() == 4 and len(set(np.flatnonzero(chosen) % 5)) == 2
    (entry,) = slot.decide()
    seen, seed = entry.request.observation, entry.decision.seed
    for bundle, mine in ((made[0], ~chosen), (made[1], chosen)):
        backend, _ = loading.backend_of(bundle, slot.settings)
        alone = backend(seen, None, seed, None)
        np.testing.assert_array_equal(entry.decision.wanted[mine], alone.actions[mine])
        np.testing.assert_array_equal(entry.decision.preference[mine], alone.preference[mine])
    assert entry.decision.bundle == split_digest(made[0].digest, made[1].digest, 0.4)
    assert parts_of(entry.decision.bundle) == (made[0].digest, made[1].digest, 0.4)
    assert parts_of(made[0].digest) is None
    # Some rows only, in any order: each row goes to whom its agent belongs.
    some = np.array([7, 2, 9, 4])
    part = replace(
        seen,
        **{n: getattr(seen, n)[some] for n in ("agent", "candidates", "mask", "active", "target")},
    )
    answer = runtime.policy.ask(part, some, seed=3, greedy=True, limit=5.0).inference.actions
    whole = runtime.policy.ask(seen, None, seed=3, greedy=True, limit=5.0).inference.actions
    np.testing.assert_array_equal(answer, whole[some])


def test_a_split_whose_canary_fails_leaves_everything_to_the_champion(start, made, tricks):
    slot = start(rollout=RolloutSettings(steps=(0.4,), unit="group"))
    slot.rollout.operate("canary", {"bundle": made[1].digest})
    tricks[made[1].digest] = raising
    (entry,) = slot.decide()
    assert entry.decision.asked[0].status == "error"
    assert (entry.decision.source[entry.request.observation.active] == Source.PREVIOUS).all()
    backend, _ = loading.backend_of(made[0], slot.settings)
    alone = backend(entry.request.observation, None, entry.decision.seed, None)
    np.testing.assert_array_equal(entry.decision.actions, alone.actions)


def test_another_champion_ends_the_canary_that_was_compared_with_the_old_one(start, made):
    slot = start()
    slot.rollout.operate("canary", {"bundle": made[1].digest})
    slot.rollout.operate("promote", {"bundle": made[2].digest})
    assert slot.rollout.view()["canary"] is None
    assert "became champion" in slot.rollout.view()["aborted"]["reason"]


def test_an_operator_aborts_a_canary(start, made):
    slot = start(rollout=RolloutSettings(steps=(1.0,)))
    slot.rollout.operate("canary", {"bundle": made[1].digest})
    slot.rollout.operate("abort", {"dry_run": True})
    assert slot.rollout.view()["canary"] is not None
    assert slot.rollout.operate("abort", {})["role"] == "canary"
    assert {entry.role for entry in slot.decide(3)} == {"champion"}
    assert slot.value("policy_rollbacks_total", cause="manual") == 1


def test_threads_of_dropped_policies_end(start, made):
    slot = start(keep=1)
    before = threading.active_count()
    for turn in range(12):
        slot.rollout.operate("promote", {"bundle": made[1 + turn % 2].digest})
        slot.decide(1)
    assert until(lambda: threading.active_count() <= before + 4)
