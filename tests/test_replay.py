"""Recorded decisions are computed again: identical, or it is said where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from audit_doubles import BOOT, CountingMeter
from serving import HandClock, make_bundle, observations, request

from fairlead.platform.audit.codec import encode_entry
from fairlead.platform.audit.reader import Log
from fairlead.platform.audit.recompute import differing, recompute
from fairlead.platform.audit.replay import Sources, replay
from fairlead.platform.audit.stream import Stream
from fairlead.platform.audit.writer import AuditWriter, Context
from fairlead.platform.cli.main import main
from fairlead.platform.daemon.interface import Entry
from fairlead.platform.daemon.settings import AuditSettings
from fairlead.platform.decision.asking import Injected, Inline
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.supervised import Supervised
from fairlead.platform.decision.types import Inference, Outcome, Rejected, Runtime, State
from fairlead.platform.files import UserError
from fairlead.platform.registry import find_domain
from fairlead.platform.rollout.backends import backend_of
from fairlead.platform.rollout.canary import split
from fairlead.platform.rollout.store import Store

SLOT = SlotSettings(deadline=5.0, simplex={"enabled": False})
"""The policies here are untrained: the Simplex switch would take most decisions from them."""


class Drive:
    """Decides like a slot and records like one."""

    def __init__(self, folder, *, slot=SLOT, **audit):
        self.slot, self.state, self.clock, self.count = slot, State(), HandClock(), 0
        settings = AuditSettings(**{"fsync": 0.05, **audit})
        self.writer = AuditWriter(folder, settings=settings, boot=BOOT, meter=CountingMeter())
        self.writer.describe("cloud", Context(slot=slot))

    def decide(self, runtime, asked, *, role="champion"):
        self.clock.advance(0.5)
        asked = replace(asked, received=self.clock.mono, observed=self.clock.wall)
        before = self.state
        self.state, decision = decide(runtime, self.slot, before, asked, self.clock())
        entry = Entry(
            id=f"cloud-{BOOT}-{self.count}",
            domain="cloud",
            clock=self.clock(),
            request=asked,
            decision=decision,
            before=before,
            role=role,
            previous="" if runtime.previous is None else runtime.previous.digest,
        )
        self.count += 1
        self.writer.record(entry)
        return entry

    def close(self):
        assert self.writer.close(20.0)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two bundles in one registry, by the seed of their weights."""
    root = tmp_path_factory.mktemp("bundles")
    store = Store(root / "registry")
    return {seed: store.add(folder_of(root, seed)) for seed in (1, 2)}


def folder_of(root, seed):
    make_bundle(root / f"bundle{seed}", seed=seed)
    return root / f"bundle{seed}"


def sources_of(bundles, **more):
    return Sources(registry=bundles[1].folder.parents[2], **more)


def runtime_of(bundle, slot=SLOT, *, policy=None, previous=None, mode="policy"):
    backend, stochastic = backend_of(bundle, slot)
    live = find_domain("cloud").live(bundle.spec, bundle.factory().settings, slot)
    policy = policy or Supervised(digest=bundle.digest, backend=backend)
    return Runtime(bundle.spec, policy, previous, live, bundle.observed, stochastic, mode)


def outcomes(result):
    return (result.identical, result.different, result.missing, result.faults)


def test_an_ordinary_run_is_recomputed_bit_for_bit(tmp_path, bundles):
    drive = Drive(tmp_path)
    runtime = runtime_of(bundles[1])
    seeds = np.random.default_rng(3)
    for index in range(60):
        drive.decide(runtime, request(index, seq=index))
    for index in range(60, 70):  # of some agents only, in another order; greedy; own seeds
        agents = seeds.permutation(10)[:4]
        seen = observations()[index % 12]
        cut = {
            name: getattr(seen, name)[agents]
            for name in ("agent", "candidates", "target", "mask", "low", "high", "active")
        }
        part = replace(seen, **cut)
        asked = replace(
            request(seq=index), observation=part, agents=agents, greedy=True, seed=index
        )
        drive.decide(runtime, asked)
    drive.close()
    result = replay(tmp_path, sources_of(bundles))
    assert outcomes(result) == (70, 0, 0, [])
    assert result.unlinked == 0 and result.identical_all
    entries = [line.record.entry for line in Log(tmp_path, "cloud").lines()]
    assert {entry.decision.outcome for entry in entries} == {"ok"}
    assert len({entry.decision.seed for entry in entries}) == 70


def test_a_run_with_every_kind_of_trouble_is_recomputed_too(tmp_path, bundles):
    slot = replace_settings(
        SLOT,
        validation={"imputed_share": 0.5},
        breaker={"minimum": 4, "window": 4, "open_time": 2.0, "probes": 2},
    )
    drive = Drive(tmp_path, slot=slot)
    good = runtime_of(bundles[1], slot)
    digest = bundles[1].digest
    backend = backend_of(bundles[2], slot)[0]
    previous = Inline(bundles[2].digest, backend)

    def failing(status):
        return replace(good, policy=Injected(digest, Outcome(status, None, 0.01, "as told")))

    seq = iter(range(1000))

    def tick(runtime, **changes):
        index = next(seq)
        return drive.decide(runtime, request(index, seq=index, **changes)).decision

    def broken():
        """The next observation, with one active agent's own numbers unusable."""
        index = next(seq)
        agent = observations()[index % 12].agent.copy()
        agent[observations()[index % 12].active.argmax()] = np.nan
        return drive.decide(good, request(index, seq=index, agent=agent)).decision

    far = observations()[4].agent.copy()
    far[:, [0, 1, 2, 7]] += 1e6  # features without a bound: possible, but unlike all of training
    decisions = [
        tick(good),
        tick(replace(failing("timeout"), previous=previous)),
        tick(failing("error")),
        tick(failing("non-finite")),  # and now the breaker is open
        *[tick(good) for _ in range(8)],  # open, probes, closed again
        *[broken() for _ in range(12)],
        *[tick(good, agent=far) for _ in range(3)],
        tick(replace(good, policy=None)),
    ]
    drive.state = replace(drive.state, forced=True)
    decisions.append(tick(good))
    drive.state = replace(drive.state, forced=False)
    decisions.append(tick(good))
    # A baseline that raises, then a projection that does, in the middle of a fallback.
    live = good.live
    drive.decide(replace(failing("error"), live=Broken(live, "act")), request(900, seq=900))
    drive.decide(replace(good, live=Broken(live, "project")), request(901, seq=901))
    watchful = replace_settings(slot, simplex={"enabled": True, "limit": 1.001})
    drive.slot = watchful
    drive.writer.describe("cloud", Context(slot=watchful))
    good = runtime_of(bundles[1], watchful)
    late = [drive.decide(good, request(index, seq=index)) for index in range(902, 910)]
    decisions += [entry.decision for entry in late]
    drive.close()
    assert {"ok", "fallback", "degraded"} <= {decision.outcome for decision in decisions}
    assert {int(cause) for d in decisions for cause in d.cause} >= {0, 1, 2, 4, 5, 6, 7, 8, 9, 10}
    assert any(5 in decision.source for decision in decisions)  # the previous champion
    result = replay(tmp_path, sources_of(bundles))
    # Without a bundle in charge there is nothing to recompute with, and that is said.
    assert outcomes(result) == (len(decisions) + 1, 0, 1, []), result.differences
    assert "of no digest" in result.lacking[0] and not result.identical_all


class Broken:
    """A domain's part, one method of which raises."""

    def __init__(self, live, method):
        self._live, self._method = live, method

    @property
    def baseline(self):
        return self if self._method == "act" else self._live.baseline

    def __getattr__(self, name):
        if name == self._method:
            raise RuntimeError(f"{name} is broken today")
        return getattr(self._live, name)


def replace_settings(settings, **sections):
    return type(settings).model_validate({**settings.model_dump(), **sections})


def test_the_onnx_backend_is_recomputed_within_its_tolerance(tmp_path, bundles):
    slot = replace_settings(SLOT, backend="onnx")
    drive = Drive(tmp_path, slot=slot)
    runtime = runtime_of(bundles[1], slot)
    entries = [drive.decide(runtime, request(index, seq=index)) for index in range(40)]
    drive.close()
    exact = backend_of(bundles[1], SLOT)[0]
    inexact = [
        not np.array_equal(
            exact(e.request.observation, None, e.decision.seed, None).preference,
            e.decision.preference,
        )
        for e in entries
    ]
    assert any(inexact), "onnxruntime agrees to the last bit; the tolerance was not needed"
    assert outcomes(replay(tmp_path, sources_of(bundles))) == (40, 0, 0, [])


def test_scores_beyond_the_tolerance_are_a_difference(bundles):
    runtime = runtime_of(bundles[1])
    slot = replace_settings(SLOT, backend="onnx")
    entry = one_entry(runtime, slot)
    for shift, identical in ((1e-7, True), (1e-3, False)):
        moved = shifted(entry, shift)
        verdict = recompute(moved, runtime, slot)
        assert verdict.identical == identical
        assert not recompute(moved, runtime, SLOT).identical  # numpy: not a single bit
        assert recompute(moved, runtime, SLOT, tolerance=1e-2).identical


def one_entry(runtime, slot=SLOT, **changes):
    clock = HandClock()()
    asked = replace(request(6, **changes), received=clock.mono, observed=clock.wall)
    _, decision = decide(runtime, slot, State(), asked, clock)
    return Entry(f"cloud-{BOOT}-0", "cloud", clock, asked, decision, State())


def shifted(entry, shift):
    """The same entry, had the policy scored the first agent's candidates a little higher."""
    decision = entry.decision
    inference = decision.asked[0].inference
    preference = inference.preference.copy()
    preference[preference != 0] += np.float32(shift)
    asked = replace(decision.asked[0], inference=Inference(inference.actions, preference))
    decision = replace(decision, preference=preference, asked=(asked, None))
    return replace(entry, decision=decision)


def test_a_canary_of_whole_groups_is_recomputed(tmp_path, bundles):
    drive = Drive(tmp_path)
    one, two = runtime_of(bundles[1]), runtime_of(bundles[2])
    coupling = np.arange(10) // 2
    mixed = split(one.policy, two.policy, coupling, 0.4)
    canary = replace(two, policy=mixed, previous=one.policy, mode="canary")
    for index in range(10):
        drive.decide(canary, request(index, seq=2 * index), role="canary")
        drive.decide(one, request(index, seq=2 * index + 1))
    drive.close()

    class Grouped:
        def __init__(self, live):
            self._live = live

        def coupling(self, spec):
            return coupling

        def __getattr__(self, name):
            return getattr(self._live, name)

    domain = find_domain("cloud")
    sources = sources_of(bundles, live=lambda *arguments: Grouped(domain.live(*arguments)))
    entries = [line.record.entry for line in Log(tmp_path, "cloud").lines()]
    assert {entry.decision.mode for entry in entries[::2]} == {"canary"}
    # Had the champion decided alone, other actions would have come out.
    alone = [
        recompute(replace(e, decision=replace(e.decision, bundle=one.digest)), one, SLOT)
        for e in entries[::2]
    ]
    assert any(not verdict.identical for verdict in alone)
    assert outcomes(replay(tmp_path, sources)) == (20, 0, 0, [])


@pytest.mark.parametrize(
    "field", ["actions", "source", "cause", "margin", "mode", "seed", "wanted"]
)
def test_each_falsified_field_is_found(bundles, field):
    """The chain is right, as whoever falsifies a record would make it; the decision is not."""
    runtime = runtime_of(bundles[1])
    entry = one_entry(runtime)
    assert recompute(entry, runtime, SLOT).identical
    value = getattr(entry.decision, field)
    if isinstance(value, np.ndarray):
        value = value.copy()
        value[0] += 1
    else:
        value = {"margin": 0.123, "mode": "hold", "seed": 5}[field]
    false = replace(entry, decision=replace(entry.decision, **{field: value}))
    verdict = recompute(false, runtime, SLOT)
    assert any(difference.startswith(field) for difference in verdict.differences)


def test_falsified_inputs_and_answers_are_found(bundles):
    runtime = runtime_of(bundles[1])
    entry = one_entry(runtime)
    agent = entry.request.observation.agent.copy()
    agent[:, 0] += 1.0
    observation = replace(entry.request.observation, agent=agent)
    other = replace(entry, request=replace(entry.request, observation=observation))
    assert "scores differ" in recompute(other, runtime, SLOT).differences[0]
    asked = entry.decision.asked[0]
    actions = asked.inference.actions.copy()
    actions[0] = (actions[0] + 1) % 3
    answer = replace(asked, inference=Inference(actions, asked.inference.preference))
    lied = replace(entry.decision, asked=(answer, None))
    assert recompute(replace(entry, decision=lied), runtime, SLOT).differences
    unasked = replace(entry.decision, asked=(None, None))
    verdict = recompute(replace(entry, decision=unasked), runtime, SLOT)
    assert "was not asked then" in verdict.differences[0]
    assert differing(entry.decision, entry.decision) == []


def test_another_bundle_or_a_request_that_is_refused_now_is_said(bundles):
    one, two = runtime_of(bundles[1]), runtime_of(bundles[2])
    entry = one_entry(one)
    verdict = recompute(entry, two, SLOT)
    assert verdict.skipped and not verdict.identical
    ahead = replace(entry, before=State(sequence=(("test/e", 99),)))
    assert "refused now" in recompute(ahead, one, SLOT).differences[0]
    with pytest.raises(Rejected):
        decide(one, SLOT, ahead.before, ahead.request, ahead.clock)


def test_changed_knobs_are_taken_from_the_segment(tmp_path, bundles):
    """The same observation, decided under a knob that changes who decides."""
    drive = Drive(tmp_path)
    runtime = runtime_of(bundles[1])
    drive.decide(runtime, request(3, seq=1))
    greedy = replace_settings(SLOT, sample="no")
    drive.slot = greedy
    drive.writer.describe("cloud", Context(slot=greedy))
    drive.decide(runtime_of(bundles[1], greedy), request(3, seq=2))
    drive.close()
    result = replay(tmp_path, sources_of(bundles))
    assert outcomes(result) == (2, 0, 0, []) and result.segments == 2


def test_brief_records_are_counted_and_the_limit_takes_the_newest(tmp_path, bundles):
    drive = Drive(tmp_path, sample=0.5)
    runtime = runtime_of(bundles[1])
    for index in range(40):
        drive.decide(runtime, request(index, seq=index))
    drive.close()
    result = replay(tmp_path, sources_of(bundles))
    assert 5 < result.brief < 35
    assert outcomes(result) == (40 - result.brief, 0, 0, []) and result.identical_all
    newest = replay(tmp_path, sources_of(bundles), limit=10)
    assert newest.left_out == 30 and newest.identical + newest.brief == 10


def test_a_missing_and_a_damaged_bundle_are_named(tmp_path, bundles):
    drive = Drive(tmp_path / "audit")
    drive.decide(runtime_of(bundles[1]), request(3))
    drive.close()
    result = replay(tmp_path / "audit", Sources())
    assert outcomes(result) == (0, 0, 1, []) and bundles[1].digest[:12] in result.lacking[0]
    empty = replay(tmp_path / "audit", Sources(registry=tmp_path / "registry"))
    assert "registry" in empty.lacking[0]
    make_bundle(tmp_path / "copy")
    given = replay(tmp_path / "audit", Sources(folders=[tmp_path / "copy"]))
    assert outcomes(given) == (1, 0, 0, [])
    store = Store(tmp_path / "registry")
    kept = store.add(tmp_path / "copy").folder / "weights.safetensors"
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes()[:-1] + b"\x01")
    damaged = replay(tmp_path / "audit", Sources(registry=tmp_path / "registry"))
    assert outcomes(damaged)[2] == 1 and "weights.safetensors" in damaged.lacking[0]


def test_a_folder_without_an_audit_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="holds no audit"):
        replay(tmp_path, Sources())


def fairlead(capsys, *arguments):
    """Exit status and both outputs of ``fairlead replay``."""
    with pytest.raises(SystemExit) as left:
        main(["replay", *map(str, arguments)])
    return left.value.code, *capsys.readouterr()


def test_the_command_runs_without_torch(tmp_path):
    code = (
        "import sys; from fairlead.platform.audit.replay import Sources, replay;"
        "print(sorted({'torch', 'scipy', 'polars', 'pyomo', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_says_identical_or_not(tmp_path, bundles, capsys):
    drive = Drive(tmp_path / "state" / "audit")
    runtime = runtime_of(bundles[1])
    entries = [drive.decide(runtime, request(index, seq=index)) for index in range(5)]
    drive.close()
    root = bundles[1].folder.parents[2]
    code, out, _ = fairlead(capsys, tmp_path / "state", "--registry", root)
    assert code == 0 and out.splitlines()[-1] == "identical"
    folder = bundles[1].folder
    code, out, _ = fairlead(capsys, tmp_path / "state" / "audit", "--bundle", folder, "--json")
    assert code == 0 and json.loads(out)["identical"] is True
    # A record falsified together with its checksum and its chain.
    actions = entries[2].decision.actions.copy()
    actions[:] = 0
    entries[2] = replace(entries[2], decision=replace(entries[2].decision, actions=actions))
    (tmp_path / "false").mkdir()
    stream = Stream(tmp_path / "false", "cloud", boot=BOOT, limit=2**20, keep=0)
    stream.context = Context(slot=SLOT).header()
    stream.pending += [encode_entry(entry, full=True) for entry in entries]
    stream.write(0.0)
    stream.sync()
    stream.close()
    code, out, _ = fairlead(capsys, tmp_path / "false", "--registry", root)
    assert code == 1 and out.splitlines()[-1] == "NOT identical"
    assert f"cloud-{BOOT}-2: actions" in out
    # A flipped byte.
    path = tmp_path / "false" / "cloud-000001.log"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, out, _ = fairlead(capsys, tmp_path / "false", "--registry", root, "--json")
    assert code == 1 and "checksum" in json.loads(out)["faults"][0]
    code, _, err = fairlead(capsys, tmp_path, "--registry", root)
    assert code == 2 and "holds no audit" in err
