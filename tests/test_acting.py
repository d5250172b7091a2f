"""The numpy actor equals the torch network, samples its softmax, and never picks the illegal."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from ring_game import PLAIN, PricedRing, learner_on, play

from fairlead.policies.acting import PolicyActor
from fairlead.policies.experience import Decisions, Experience
from fairlead.policies.interface import PolicyArrays
from fairlead.policies.networks import scores
from fairlead.simulators.interface import Box


def shaken(learner, seed=0, size=0.3):
    """The learner's policy with every weight moved: far from uniform, different groups."""
    arrays, rng = learner.policy(), np.random.default_rng(seed)
    tensors = {
        name: value
        + (0 if name.startswith("normaliser") else size)
        * rng.standard_normal(value.shape).astype(np.float32)
        for name, value in arrays.tensors.items()
    }
    return PolicyArrays(tensors, arrays.member)


@pytest.mark.parametrize("sharing", ["all", "group", "none"])
@pytest.mark.parametrize("context", [True, False])
def test_numpy_scores_equal_torch_scores(sharing, context):
    simulator = PricedRing(agents=26, horizon=12)
    network = {"context": context, "hidden": (32, 24)}
    learner = learner_on(simulator, sharing=sharing, network=network, **PLAIN)
    rollout = play(simulator, learner, [0])
    learner.update(rollout)  # calibrates the normaliser
    arrays = shaken(learner)
    actor = PolicyActor(simulator.spec, arrays, name="policy")
    tensors = {name: torch.from_numpy(value) for name, value in arrays.tensors.items()}
    logs = [torch.from_numpy(n.logarithmic) for n in learner.actor.normalisers[:2]]
    experience = Experience(
        rollout,
        scales=tensors,
        agent_log=logs[0],
        candidate_log=logs[1],
        device=torch.device("cpu"),
    )
    groups = np.arange(learner.actor.groups)
    decisions = Decisions(rollout, arrays.member, learner.actor.groups)
    ((index, real),) = decisions.everything(groups, width=10_000)
    batch = experience.minibatch(*map(torch.from_numpy, (index, real, groups)))
    logits = scores(tensors, batch.agent, batch.candidates, batch.mask).numpy()
    expected = np.zeros((12 * 26, 4), np.float32)
    expected[index[real]] = logits[real]
    simulator.reset(0)
    for epoch in range(12):
        seen = simulator.last
        np.testing.assert_allclose(
            actor.scores(seen), expected[epoch * 26 : (epoch + 1) * 26], atol=1e-5
        )
        simulator.step(rollout.actions[0, epoch])
    assert np.abs(expected).max() > 0.3


def observation(agents=10):
    simulator = PricedRing(agents=agents)
    return simulator, simulator.reset(4)


def test_sampling_follows_the_softmax_and_inactive_agents_hold():
    simulator, seen = observation()
    actor = PolicyActor(simulator.spec, shaken(learner_on(simulator), size=0.6), name="p")
    rng = np.random.default_rng(0)
    counts = np.zeros(seen.mask.shape)
    for _ in range(8000):
        counts[np.arange(10), actor.act(seen, rng)] += 1
    assert (counts[~seen.mask] == 0).all()
    assert (counts[~seen.active, 0] == 8000).all() and (~seen.active).any()
    np.testing.assert_allclose(counts / 8000, actor.probabilities(seen), atol=0.025)


def test_argmax_takes_the_best_legal_candidate():
    simulator, seen = observation()
    arrays = shaken(learner_on(simulator))
    actor = PolicyActor(simulator.spec, arrays, name="p", stochastic=False)
    legal = np.where(seen.mask, actor.scores(seen), -np.inf)
    chosen = actor.act(seen, np.random.default_rng(0))
    assert (chosen == np.where(seen.active, legal.argmax(axis=1), 0)).all()
    assert chosen.dtype == np.int64


def test_an_agent_that_falls_idle_does_not_change_the_others():
    simulator, seen = observation()
    actor = PolicyActor(simulator.spec, shaken(learner_on(simulator)), name="p")
    active = seen.active.copy()
    active[np.flatnonzero(active)[0]] = False
    idle = dataclasses.replace(seen, active=active)
    first, second = (actor.act(o, np.random.default_rng(1)) for o in (seen, idle))
    assert (first[active] == second[active]).all()


def test_masked_candidates_do_not_influence_the_others():
    simulator, seen = observation()
    actor = PolicyActor(simulator.spec, shaken(learner_on(simulator)), name="p")
    mask, candidates = seen.mask.copy(), seen.candidates.copy()
    mask[:, 3] = False
    seen = dataclasses.replace(seen, mask=mask)
    candidates[:, 3] = 1e6
    other = dataclasses.replace(seen, candidates=candidates)
    np.testing.assert_array_equal(actor.probabilities(seen), actor.probabilities(other))


def test_weights_that_do_not_fit_are_named():
    simulator, _ = observation()
    arrays = learner_on(simulator).policy()

    def build(**changed):
        tensors = {**arrays.tensors, **changed}
        kept = {k: v for k, v in tensors.items() if v is not None}
        return PolicyActor(simulator.spec, PolicyArrays(kept, arrays.member), name="p")

    with pytest.raises(ValueError, match="lacks the tensors score"):
        build(**{"score.weight": None})
    with pytest.raises(ValueError, match=r"candidate\.weight: expected shape \(2, 3, 64\)"):
        build(**{"candidate.weight": arrays.tensors["candidate.weight"][:, :2]})
    with pytest.raises(ValueError, match="reads 7 features"):
        build(**{"agent.weight": np.zeros((2, 7, 64), np.float32)})
    with pytest.raises(ValueError, match="10 agents, not 8"):
        PolicyActor(PricedRing(agents=8).spec, arrays, name="p")
    spec = dataclasses.replace(simulator.spec, action=Box(2))
    with pytest.raises(TypeError, match="box actions"):
        PolicyActor(spec, arrays, name="p")


def test_acting_and_configuration_need_no_torch():
    code = (
        "import sys, fairlead.policies.acting, fairlead.policies.learners;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("sharing", ["all", "group", "none"])
def test_a_view_of_some_agents_scores_them_as_the_whole_does(sharing):
    simulator, seen = observation(agents=26)
    actor = PolicyActor(simulator.spec, shaken(learner_on(simulator, sharing=sharing)), name="p")
    some = np.array([17, 3, 4, 25, 0])
    part = dataclasses.replace(
        seen,
        **{n: getattr(seen, n)[some] for n in ("agent", "candidates", "mask", "active", "target")},
    )
    np.testing.assert_allclose(actor.of(some).scores(part), actor.scores(seen)[some], atol=1e-6)
    assert actor.of(None) is actor
    with pytest.raises(IndexError):
        actor.of(np.array([26]))


def by_hand(spec, arrays, seen):
    """Scores one candidate after another, in double precision, straight from the definition."""
    tensors = {name: value.astype(np.float64) for name, value in arrays.tensors.items()}

    def scaled(row, features, kind, group):
        logs = [f.transform == "log1p" for f in features]
        read = np.where(logs, np.sign(row) * np.log1p(np.abs(row)), row)
        shift, scale = (tensors[f"normaliser.{kind}.{part}"][group] for part in ("shift", "scale"))
        return np.clip((read - shift) / scale, -10.0, 10.0)

    out = np.zeros(seen.mask.shape)
    for agent, mask in enumerate(seen.mask):
        if not seen.active[agent] or mask.sum() < 2:
            continue
        group = arrays.member[agent]
        own = scaled(seen.agent[agent].astype(float), spec.agent_features, "agent", group)
        legal = np.flatnonzero(mask)
        each = {
            k: scaled(
                seen.candidates[agent, k].astype(float), spec.candidate_features, "candidate", group
            )
            for k in legal
        }
        if tensors["agent.weight"].shape[1] > own.size:
            own = np.concatenate([own, np.mean([each[k] for k in legal], axis=0)])
        for k in legal:
            hidden = np.tanh(
                own @ tensors["agent.weight"][group]
                + each[k] @ tensors["candidate.weight"][group]
                + tensors["agent.bias"][group]
            )
            layer = 1
            while f"hidden.{layer}.weight" in tensors:
                weight, bias = (tensors[f"hidden.{layer}.{p}"][group] for p in ("weight", "bias"))
                hidden = np.tanh(hidden @ weight + bias)
                layer += 1
            out[agent, k] = hidden @ tensors["score.weight"][group][:, 0]
    return out


@pytest.mark.parametrize("legal", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("hidden", [(8,), (16, 5), (4, 12, 7)])
@pytest.mark.parametrize("groups", [1, 2, 20])
@pytest.mark.parametrize("context", [True, False])
def test_scores_are_those_of_the_definition(legal, hidden, groups, context, monkeypatch):
    from fairlead.policies import acting
    from fairlead.policies.networks import scorer_weights

    rng = np.random.default_rng(7)
    simulator, seen = observation(agents=20)
    spec, choices = simulator.spec, 6
    own, each = len(spec.agent_features), len(spec.candidate_features)
    logs = [dataclasses.replace(f, transform="log1p") for f in spec.candidate_features[:2]]
    spec = dataclasses.replace(
        spec,
        candidate_features=(*logs, *spec.candidate_features[2:]),
        action=dataclasses.replace(spec.action, candidates=choices),
    )
    tensors = scorer_weights(
        rng,
        groups=groups,
        agent_features=own,
        candidate_features=each,
        hidden=hidden,
        context=context,
        output_scale=1.0,
    )
    tensors = {k: v + 0.3 * rng.normal(size=v.shape).astype(np.float32) for k, v in tensors.items()}
    for kind, columns in (("agent", own), ("candidate", each)):
        # Every group has scales of its own, and some features leave the clipped range.
        tensors[f"normaliser.{kind}.shift"] = rng.normal(size=(groups, columns)).astype(np.float32)
        scale = rng.uniform(0.2, 2.0, (groups, columns)).astype(np.float32)
        tensors[f"normaliser.{kind}.scale"] = scale
    arrays = PolicyArrays(tensors, rng.integers(groups, size=20))
    mask = rng.random((20, choices)) < legal
    mask[:, 0] = True
    candidates = rng.normal(scale=8.0, size=(20, choices, each)).astype(np.float32)
    candidates[~mask] = np.nan  # nobody may look there
    seen = dataclasses.replace(
        seen,
        agent=rng.normal(scale=8.0, size=(20, own)).astype(np.float32),
        candidates=candidates,
        mask=mask,
        active=rng.random(20) < (1.0 if legal == 1.0 else 0.8),
    )
    actor = PolicyActor(spec, arrays, name="p")
    expected = by_hand(spec, arrays, seen)
    np.testing.assert_allclose(actor.scores(seen), expected, atol=2e-5)
    assert (np.abs(expected).max() > 0.3) == (legal > 0.0)
    monkeypatch.setattr(acting, "_COLUMNS", 13)  # two agents at a time
    np.testing.assert_allclose(actor.scores(seen), expected, atol=2e-5)
    order = rng.permutation(20)[:11]
    part = dataclasses.replace(
        seen, **{n: getattr(seen, n)[order] for n in ("agent", "candidates", "mask", "active")}
    )
    np.testing.assert_allclose(actor.of(order).scores(part), expected[order], atol=2e-5)


def test_threads_do_not_share_their_room():
    from concurrent.futures import ThreadPoolExecutor

    simulator, seen = observation(agents=40)
    actor = PolicyActor(simulator.spec, shaken(learner_on(simulator)), name="p")
    others = [dataclasses.replace(seen, agent=seen.agent + np.float32(i)) for i in range(6)]
    expected = [actor.scores(each) for each in others]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(60):
            found = list(pool.map(actor.scores, others))
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
