"""Diagnosis: injected faults, calibrated signals, influences by hand, and who is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ring import RingFactory

from fairlead.models.interface import Influence, Reference, counterfactual_values
from fairlead.platform.bundle import Bundle
from fairlead.platform.diagnosis import DiagnosisSettings, Examiner, case_json, ranking
from fairlead.platform.diagnosis_accuracy import Share, measure
from fairlead.platform.diagnosis_chart import draw_case
from fairlead.platform.diagnosis_contagion import (
    Crossing,
    Customary,
    Edge,
    Influences,
    first_crossings,
    trace,
)
from fairlead.platform.diagnosis_faults import Fault, Seen, Witness, parse_fault
from fairlead.platform.diagnosis_signals import SIGNALS, Explained, Signals, Yardstick, clean_rows
from fairlead.platform.episodes import Stage
from fairlead.platform.files import UserError
from fairlead.platform.tasks import Episode, Guidance, Task
from fairlead.policies.acting import PolicyActor
from fairlead.policies.fragility import FragilityGauge
from fairlead.policies.interface import Effects
from fairlead.policies.learners import LearnerConfig, make_learner

AGENTS = 6
FACTORY = RingFactory(agents=AGENTS, horizon=30)
SPEC = FACTORY.simulator().spec


def ring_policy():
    """Sends work to the emptiest server, not always: far from uniform, far from certain."""
    learner = make_learner(SPEC, LearnerConfig(network={"hidden": (8,), "context": False}), seed=0)
    tensors = {name: np.zeros_like(value) for name, value in learner.policy().tensors.items()}
    for name in ("normaliser.agent.scale", "normaliser.candidate.scale"):
        tensors[name] += 0.5
    # One hidden unit reads the load, one the 'hold' flag.
    tensors["candidate.weight"][:, 1, 0] = tensors["candidate.weight"][:, 0, 1] = 0.5
    tensors["score.weight"][:, 0], tensors["score.weight"][:, 1] = -3.0, -14.0
    return replace(learner.policy(), tensors=tensors)


@pytest.fixture(scope="module")
def bundle():
    manifest = {"name": "ring policy", "action": {"stochastic": True}}
    return Bundle(Path("ring"), manifest, SPEC, ring_policy(), {})


@pytest.fixture(scope="module")
def examiner(bundle):
    settings = DiagnosisSettings(references=20, window=4)
    return Examiner(bundle, FACTORY, reference="drain", settings=settings)


def watch(bundle, seed, *faults):
    witness = Witness(SPEC, bundle.arrays, stochastic=True, faults=faults, seed=seed)
    Stage(FACTORY).play(Task(seed, witness))
    return witness.seen()


def test_faults_strike_one_agent_from_their_epoch_on(bundle):
    clean = watch(bundle, 3)
    for kind in ("noise", "stuck", "flip"):
        seen = watch(bundle, 3, Fault(2, 10, kind))
        for name in ("agent", "candidates", "mask", "deciding", "actions"):
            before, after = (getattr(one, name)[:10] for one in (clean, seen))
            np.testing.assert_array_equal(before, after)
        others = np.arange(AGENTS) != 2
        np.testing.assert_array_equal(clean.candidates[10, others], seen.candidates[10, others])
        again = watch(bundle, 3, Fault(2, 10, kind))
        np.testing.assert_array_equal(again.candidates, seen.candidates)
        assert not np.array_equal(seen.actions, clean.actions)


def test_noise_has_its_strength_in_normalised_units(bundle):
    gauge = FragilityGauge(SPEC, bundle.arrays)
    moves = []
    for seed in range(30):
        shown = [watch(bundle, seed, *f) for f in ((), (Fault(2, 10, "noise", 0.02),))]
        views = [gauge.view_of(one.agent[10], one.candidates[10], one.mask[10]) for one in shown]
        move = (views[1].candidates - views[0].candidates).numpy()
        assert (move[2, 0] == 0.0).all()  # hold describes nothing that is measured
        moves.append(move[2][views[0].mask.numpy()[2]][1:])
    assert np.concatenate(moves).std() == pytest.approx(0.02, rel=0.15)


def test_stuck_shows_the_last_decision_for_ever_and_flip_takes_the_worst(bundle):
    stuck = watch(bundle, 5, Fault(1, 12, "stuck"))
    last = np.flatnonzero(stuck.deciding[:12, 1])[-1]
    later = np.flatnonzero(stuck.deciding[12:, 1]) + 12
    assert later.size > 5
    assert (stuck.candidates[later, 1] == stuck.candidates[last, 1]).all()
    flip = watch(bundle, 5, Fault(1, 12, "flip"))
    actor = PolicyActor(SPEC, bundle.arrays, name="x")
    simulator = FACTORY.simulator()
    observation = simulator.reset(5)
    for epoch in range(SPEC.horizon):
        scores = np.where(observation.mask[1], actor.scores(observation)[1], np.inf)
        if epoch >= 12 and observation.active[1]:
            assert flip.actions[epoch, 1] == scores.argmin()
        observation = simulator.step(flip.actions[epoch]).observation


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("9@3", "noise", "agents are 0 to 5"),
        ("2@30", "noise", "epochs are 0 to 29"),
        ("2", "noise", "AGENT@EPOCH"),
        ("a@b", "noise", "AGENT@EPOCH"),
        ("2@3", "melt", "known: noise, stuck, flip"),
    ],
)
def test_wrong_faults_are_named(text, kind, words):
    with pytest.raises(UserError, match=words):
        parse_fault(text, kind, 1.0, SPEC)
    assert parse_fault("2@3", "flip", 1.0, SPEC) == Fault(2, 3, "flip", 1.0)


def test_explained_part_and_eta_make_the_view(bundle):
    gauge = FragilityGauge(SPEC, bundle.arrays)
    seen = watch(bundle, 1)
    rows = clean_rows(gauge, seen)
    explained = Explained.fit([rows], 0.05)
    projector = explained.projector
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-12)
    assert 0 < round(np.trace(projector)) < projector.shape[0]
    at = np.nonzero(seen.deciding)
    view = gauge.view_of(seen.agent[at], seen.candidates[at], seen.mask[at], rows=at[1])
    base, eta, size = explained.split(view)
    back = base.moved(eta)
    np.testing.assert_allclose(back.agent, view.agent)
    np.testing.assert_allclose(back.candidates, view.candidates)
    # What is left out is small on the data it was fitted to, and large off it.
    spread = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert (size**2).mean() < 0.06 * spread
    strange = replace(view, agent=view.agent + torch.tensor([1.5, -0.5]))
    assert np.median(explained.split(strange)[2]) > 3 * np.median(size)


def test_signals_by_hand(bundle):
    gauge = FragilityGauge(SPEC, bundle.arrays)
    seen = watch(bundle, 2, Fault(4, 8, "stuck"))
    explained = Explained.fit([clean_rows(gauge, watch(bundle, 1))], 0.05)
    found = Signals(gauge, explained)(seen)
    assert (np.isnan(found) == ~seen.deciding).all()
    frozen = found[SIGNALS.index("frozen"), :, 4]
    late = frozen[8:][seen.deciding[8:, 4]]
    first = late[0]
    np.testing.assert_array_equal(late, first + np.arange(late.size))
    actor = PolicyActor(SPEC, bundle.arrays, name="x")
    observation = FACTORY.simulator().reset(2)
    chances = actor.probabilities(observation)
    for agent in np.flatnonzero(seen.deciding[0]):
        own = chances[agent][chances[agent] > 0]
        expected = -np.log(chances[agent, seen.actions[0, agent]]) + (own * np.log(own)).sum()
        surprise = found[SIGNALS.index("surprise"), 0, agent]
        assert surprise == pytest.approx(max(expected, 0.0), abs=1e-5)


def test_thresholds_keep_the_promised_rate_of_false_incidents():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 10.0, (1, 4, 1, 12))  # agents and signals of all sizes
    clean = scale * rng.exponential(size=(60, 4, 50, 12))
    yardstick = Yardstick.fit(clean, 0.2)
    fresh = scale * rng.exponential(size=(600, 4, 50, 12))
    alarms = np.mean([bool(first_crossings(yardstick.ratio(one))) for one in fresh])
    assert 0.02 < alarms < 0.3
    follows = np.mean([(yardstick.followers(one) > 1.0).any(axis=0).mean() for one in fresh])
    assert follows == pytest.approx(0.2, abs=0.06)
    assert (yardstick.follow <= yardstick.incident).all()
    assert not any(first_crossings(yardstick.ratio(one)) for one in clean)


def test_signals_that_were_not_chosen_never_alarm():
    rng = np.random.default_rng(0)
    clean = rng.exponential(size=(10, 4, 20, 5))
    yardstick = Yardstick.fit(clean, 0.05, ("surprise",))
    loud = np.full((4, 20, 5), 1e9)
    loud[SIGNALS.index("surprise")] = 0.0
    assert first_crossings(yardstick.ratio(loud)) == []
    assert (yardstick.followers(loud) == 0.0).all()


def recorded(seed=3):
    """An episode of the ring with effects, and its parts."""
    stage = Stage(FACTORY)
    task = Task(
        seed, FACTORY.heuristics()[0], record=True, guidance=Guidance("drain", effects=True)
    )
    episode = stage.play(task).episode
    assert episode is not None and episode.effects is not None
    return episode, episode.effects


def test_first_order_sensitivity_is_the_change_of_linear_counterfactual_values():
    episode, effects = recorded()
    influences = Influences(episode, effects, window=4)
    epoch = 11
    left = influences.footprint(epoch)
    expected = sum(
        np.exp(-(back - 1) / 4) * influences.deviation(epoch - back) for back in range(1, 5)
    )
    np.testing.assert_allclose(left, expected)
    first, second = influences.sensitivity(epoch)
    # Rebuild what the model would say with and without each agent's footprint.
    simulator = FACTORY.simulator()
    observation = simulator.reset(3)
    for actions in episode.actions[:epoch]:
        observation = simulator.step(actions).observation
    weight = effects.weight[epoch].astype(float)
    reference = Reference(np.zeros(AGENTS), weight, np.zeros(0), 0.0, 0.0, "optimal")
    influence = Influence(effects.index[epoch].astype(np.int64), effects.value[epoch].astype(float))
    actions = episode.actions[epoch]
    base = counterfactual_values(observation, reference, influence, actions, form="linear")
    assert episode.active[epoch].any() and first.max() > 0.0
    for source in range(AGENTS):
        moved = replace(observation, state=observation.state + left[source])
        change = counterfactual_values(moved, reference, influence, actions, form="linear") - base
        spread = change.max(axis=1) - change.min(axis=1)
        spread[source] = 0.0
        np.testing.assert_allclose(first[source], spread, atol=1e-6)
    # The quadratic part, on the three servers that an active agent may use.
    for target in np.flatnonzero(episode.active[epoch]):
        servers = simulator.neighbours[target]
        part = 0.5 * (left**2 * weight)[:, servers].sum(axis=1)
        part[target] = 0.0
        np.testing.assert_allclose(second[:, target], part, atol=1e-9)


def test_influence_is_local_and_needs_a_deviation():
    episode, effects = recorded()
    influences = Influences(episode, effects, window=1)
    for epoch in range(1, 20):
        first, second = influences.sensitivity(epoch)
        # Servers of i and j overlap only up to distance 2 on the ring of six: opposite agents
        # share none.
        for agent in range(AGENTS):
            assert first[agent, (agent + 3) % AGENTS] == second[agent, (agent + 3) % AGENTS] == 0.0
        quiet = ~influences.deviation(epoch - 1).any(axis=1)
        assert (first[quiet] == 0.0).all()


class Scripted(Influences):
    """Influences with given strengths, the same at every epoch."""

    def __init__(self, strength, epochs=30, window=4):
        self._strength, self.epochs, self.window = np.array(strength, float), epochs, window

    def strength(self, epoch):
        return self._strength


CUSTOMARY = Customary(np.ones(4), 2.0)
CHAIN = [[0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_downstream_flag_moves_upstream_and_the_failure_is_followed_down():
    flag = Crossing(2, 10, "remainder", 1.5)
    own = [Crossing(1, 9, "observation", 0.9), flag, Crossing(0, 11, "observation", 0.8),
           Crossing(3, 15, "remainder", 0.9)]  # fmt: skip
    found = trace(flag, own, Scripted(CHAIN), CUSTOMARY)
    assert found.moved == (2, 1, 0) and found.source == 0
    assert [(e.source, e.target, e.epoch) for e in found.edges] == [(0, 1, 9), (1, 2, 10)]
    assert [c.agent for c in found.alone] == [3]
    assert found.reached.tolist() == [-1, 9, -1, -1]
    assert found.strength[1] == 5.0


def test_taken_along_is_attached_to_the_strongest_sick_agent_before_it():
    flag = Crossing(0, 5, "surprise", 3.0)
    own = [flag, Crossing(1, 8, "remainder", 0.9), Crossing(2, 12, "observation", 1.2)]
    found = trace(flag, own, Scripted(CHAIN), CUSTOMARY)
    assert [(e.source, e.target, e.epoch) for e in found.edges] == [(0, 1, 8), (1, 2, 12)]
    assert found.moved == (0,) and found.alone == ()


@pytest.mark.parametrize("case", ["own doing", "weak", "healthy", "too late"])
def test_a_flag_stays_where_nobody_upstream_explains_it(case):
    signal = "surprise" if case == "own doing" else "remainder"
    strength = [[0, 1.9, 0, 0], *CHAIN[1:]] if case == "weak" else CHAIN
    flag = Crossing(1, 10, signal, 1.5)
    upstream = Crossing(0, 20 if case == "too late" else 9, "observation", 0.9)
    own = [flag] if case == "healthy" else [upstream, flag]
    found = trace(flag, own, Scripted(strength), CUSTOMARY)
    assert found.source == 1


def test_edges_are_rare_in_clean_operation():
    rng = np.random.default_rng(0)
    size = rng.uniform(0.1, 10.0, 20)
    draw = [size[:, None] * rng.exponential(size=(20, 20)) for _ in range(60)]
    customary = Customary.fit(draw, 0.1)
    fresh = np.stack([size[:, None] * rng.exponential(size=(20, 20)) for _ in range(300)])
    fresh *= ~np.eye(20, dtype=bool)
    struck = (fresh / customary.source[:, None] >= customary.edge).any(axis=1).mean()
    assert struck == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize(("kind", "signal"), [("noise", "observation"), ("flip", "surprise")])
def test_the_broken_agent_is_named(examiner, kind, signal):
    named = []
    for seed in range(6):
        case = examiner.examine(seed, [Fault(seed, 10, kind, 3.0)], probe=False)
        named.append(case.patient_zero == seed)
        if named[-1]:
            assert case.first.signal in {signal, "remainder"}
            assert ranking(case)[0] == seed
    assert sum(named) >= 5


def test_a_clean_episode_has_no_incident_and_a_case_is_a_function_of_its_seed(examiner):
    first, second = examiner.examine(40), examiner.examine(40)
    np.testing.assert_array_equal(first.signals, second.signals)
    np.testing.assert_array_equal(first.fragility, second.fragility)
    assert (first.fragility > 0.0).all()
    assert sum(examiner.examine(50 + n, probe=False).first is not None for n in range(12)) <= 3


def test_the_document_of_a_case_holds_its_numbers(examiner):
    case = examiner.examine(1, [Fault(1, 10, "flip")])
    found = case_json(case, SPEC, 4)
    assert found["patient_0"] == case.patient_zero == 1
    assert [row["rank"] for row in found["agents"]] == list(range(1, AGENTS + 1))
    top = found["agents"][0]
    assert top["agent"] == 1 and top["group"] == "odd"
    assert top["peak"] == case.ratio[:, :, 1].max() > 1.0
    assert found["incident"] >= found["faults"][0]["epoch"] == 10


def test_a_replay_without_the_fault_says_whether_it_was_the_cause(examiner):
    case = replace(
        examiner.examine(1, [Fault(1, 10, "flip")], probe=False),
        twin=(Crossing(3, 14, "remainder", 1.1),),
    )
    anyway, caused, later = Edge(1, 3, 12, 2.0), Edge(1, 4, 12, 2.0), Edge(1, 3, 25, 2.0)
    assert [case.confirmed(edge, 4) for edge in (anyway, caused, later)] == [False, True, True]
    assert replace(case, twin=None).confirmed(caused, 4) is None


def test_unknown_signals_are_refused(bundle):
    settings = DiagnosisSettings(signals=("temperature",))
    with pytest.raises(UserError, match="known: remainder, observation, surprise, frozen"):
        Examiner(bundle, FACTORY, reference=None, settings=settings)


def test_wilson_interval():
    assert Share(0, 10).interval == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert Share(10, 10).interval == pytest.approx((0.72247, 1.0), abs=1e-4)
    assert Share(50, 100).interval == pytest.approx((0.40383, 0.59617), abs=1e-4)


def test_accuracy_counts_what_was_named(examiner):
    found = measure(examiner, 8, ("flip", "stuck"), seed=1)
    assert set(found.shares) == {"flip", "stuck", "all"}
    for methods in found.shares.values():
        assert methods["stage 1 alone"].count in (4, 8)
    hits = [found.shares[kind]["both stages"].hits for kind in ("flip", "stuck", "all")]
    assert hits[0] + hits[1] == hits[2]
    assert found.shares["flip"]["both stages"].hits >= 3
    assert found.shares["flip"]["frozen alone"].hits <= 1
    names = [row.name for row in found.rows()]
    assert "flip: Patient-0 by largest remainder" in names
    assert "false incidents in clean episodes" in names
    assert found.false_alarms.count == 8


@pytest.mark.parametrize("agents", [6, 200])
def test_pictures_of_small_and_large_systems(examiner, tmp_path, agents):
    case, spec = examiner.examine(1, [Fault(1, 10, "flip")], probe=False), SPEC
    if agents > AGENTS:
        ratio = np.resize(case.ratio, (4, SPEC.horizon, agents))
        case = replace(case, ratio=ratio, signals=ratio, contagion=None)
        spec = replace(SPEC, agents=agents, group_of=np.arange(agents) % 2)
    for ending in ("png", "svg"):
        draw_case(case, spec, tmp_path / f"case.{ending}", 4)
    assert (tmp_path / "case.png").read_bytes().startswith(b"\x89PNG")
    assert "agent 1 failed first" in (tmp_path / "case.svg").read_text()


def test_seen_is_what_policies_read(bundle):
    seen = watch(bundle, 0)
    assert isinstance(seen, Seen) and seen.agent.shape == (30, AGENTS, 2)
    assert isinstance(recorded()[0], Episode) and isinstance(recorded()[1], Effects)
    chosen = np.take_along_axis(seen.mask, seen.actions[..., None], axis=2)
    assert chosen.all()
