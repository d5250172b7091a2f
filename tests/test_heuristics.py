"""Node-choice rules against choices worked out by hand."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import RingModel, RingSimulator

from fairlead.policies.heuristics import dispatch, stale
from fairlead.policies.heuristics.greedy import SnapshotGreedy
from fairlead.policies.heuristics.rules import MixedRule, ScoreRule, fixed_order
from fairlead.simulators.interface import Choice, Feature, Observation, Spec

PLAIN = ("hold", "jobs", "service", "work", "overlap")
VECTOR = ("cpu_left", "gpu_left", "fragmentation_delta", "dominant_share", "alignment")
AGENT = ("load", "class:web", "class:batch")


def spec_of(columns: tuple[str, ...], candidates: int = 4) -> Spec:
    return Spec(
        domain="toy",
        scenario="table",
        agents=2,
        groups=("all",),
        group_of=np.zeros(2, dtype=np.int64),
        agent_features=tuple(Feature(name, "1") for name in AGENT),
        candidate_features=tuple(Feature(name, "1") for name in columns),
        critic_features=(),
        state_size=1,
        action=Choice(candidates),
        horizon=1,
        dt=1.0,
    )


def observe(spec: Spec, table: dict[str, list[list[float]]], **changes) -> Observation:
    """Observation of agents whose candidates 1.. have the given columns; hold's are zero."""
    agents, nodes = np.shape(next(iter(table.values())))
    candidates = np.zeros((agents, nodes + 1, len(spec.candidate_features)), np.float32)
    candidates[:, 0, 0] = 1.0
    for name, values in table.items():
        candidates[:, 1:, spec.candidate_column(name)] = values
    agent = np.zeros((agents, len(AGENT)), np.float32)
    agent[:, :2] = [0.5, 1.0]
    empty = np.zeros((agents, 0), np.float32)
    seen = Observation(
        agent=agent,
        candidates=candidates,
        target=np.tile(np.arange(-1, nodes), (agents, 1)).astype(np.int64),
        mask=np.ones((agents, nodes + 1), bool),
        low=empty,
        high=empty,
        active=np.ones(agents, bool),
        critic=np.zeros(0, np.float32),
        state=np.zeros(1),
        exogenous=np.zeros(1),
        time=0.0,
    )
    return replace(seen, **changes)


@dataclass
class Knobs:
    agents: int = 2
    load: float = 0.5
    arrivals_per_epoch: float = 0.75
    snapshot_age: int = 1


WEIGHTS = np.array([[1.0, 2.0, 5.0], [0.0, 0.0, 1.0]])


def rules(spec: Spec, information: str = "same"):
    every = dispatch.controllers(Knobs(), spec, nodes=3, weights=WEIGHTS)
    return {
        rule.name.removesuffix(" (fresh)"): rule
        for rule in every
        if rule.information == information
    }


# One table for all rules: two agents, three nodes, chosen so that the rules disagree.
TABLE = {
    "jobs": [[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]],
    "service": [[9.0, 3.0, 1.0], [1.0, 8.0, 2.0]],
    "work": [[0.0, 1.0, 5.0], [6.0, 0.5, 1.0]],
    "overlap": [[0.0, 0.5, 2.0], [0.5, 8.0, 1.0]],
    "cpu_left": [[64e3, 0.0, 32e3], [0.0, 96e3, 64e3]],
    "gpu_left": [[8e3, 4e3, 0.0], [2e3, 0.0, 1e3]],
    "fragmentation_delta": [[500.0, -200.0, 900.0], [0.0, 100.0, -50.0]],
    "dominant_share": [[0.4, 0.9, 0.1], [0.3, 0.2, 0.6]],
    "alignment": [[0.1, 0.7, 0.9], [0.8, 0.2, 0.3]],
}
TABLE_OF_PLAIN = {key: TABLE[key] for key in PLAIN[1:]}
BY_HAND = {
    "jsq": [1, 2],  # 0 1 2 | 3 1 2
    "sed": [3, 1],  # 9 6 3 | 4 16 6
    "least-work-left": [2, 3],  # 9 4 6 | 7 8.5 3
    "greedy-reference": [2, 1],  # 9 4 5 | 2 24 4
    "best-fit": [3, 1],  # .75 .25 .125 | .125 .375 .3125 of a node left
    "worst-fit": [1, 2],
    "fgd": [2, 3],
    "drf": [3, 2],
    "tetris": [3, 1],
}


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_rankings_by_hand(name):
    vector = name in ("best-fit", "worst-fit", "fgd", "drf", "tetris")
    spec = spec_of(PLAIN + VECTOR if vector else PLAIN)
    seen = observe(spec, {k: v for k, v in TABLE.items() if vector or k in PLAIN})
    for information in ("same", "fresh"):
        actions = rules(spec, information)[name].act(seen, np.random.default_rng(0))
        assert actions.tolist() == BY_HAND[name]
        assert actions.dtype == np.int64


def test_the_list_names_every_rule_in_both_variants():
    plain = [rule.name for rule in dispatch.controllers(Knobs(), spec_of(PLAIN), nodes=3)]
    assert len(plain) == len(set(plain)) == 20
    assert {name.removesuffix(" (fresh)") for name in plain} == {
        "random", "round-robin", "jsq", "sed", "power-of-two", "least-work-left",
        "interpreted", "interpreted-reference", "softmax-sed", "greedy-reference",
    }  # fmt: skip
    assert sum(name.endswith(" (fresh)") for name in plain) == 10
    vector = rules(spec_of(PLAIN + VECTOR))
    assert {"best-fit", "worst-fit", "fgd", "drf", "tetris", "weighted-random"} <= vector.keys()
    assert "interpreted-reference" not in vector  # it levels the drain cost of shared nodes


def test_greedy_on_fragmentation_does_not_round_as_the_published_rule_does():
    spec = spec_of(PLAIN + VECTOR)
    seen = observe(spec, {"fragmentation_delta": [[1.0, 0.0, 2.0]] * 2})
    # 100 sigmoid(-delta / 1000) is 49.97, 50 and 49.95: cut to 49, 50, 49. With 1, 3 and 2 all
    # are 49 and the fixed rank decides.
    assert rules(spec)["greedy-reference"].act(seen, np.random.default_rng(0)).tolist() == [2, 2]
    seen = observe(spec, {"fragmentation_delta": [[1.0, 3.0, 2.0]] * 2})
    assert rules(spec)["greedy-reference"].act(seen, np.random.default_rng(0)).tolist() == [1, 1]
    first = fixed_order(np.arange(3)).argmin() + 1
    assert rules(spec)["fgd"].act(seen, np.random.default_rng(0)).tolist() == [first, first]


def draws(rule, seen: Observation, count: int = 4000) -> np.ndarray:
    """Relative frequency of every candidate of agent 0."""
    rng = np.random.default_rng(5)
    picks = np.array([rule.act(seen, rng)[0] for _ in range(count)])
    return np.bincount(picks, minlength=seen.mask.shape[1]) / count


def tied(tie, **more) -> tuple[ScoreRule, Observation]:
    spec = spec_of(PLAIN)
    rule = ScoreRule(
        name="tie", spec=spec, columns=("jobs",), score=lambda c: c["jobs"], tie=tie, **more
    )
    seen = observe(spec, {"jobs": [[1.0, 1.0, 4.0]] * 2})
    # Targets out of column order, so that 'lowest' means the target and not the column.
    return rule, replace(seen, target=np.array([[-1, 7, 3, 1]] * 2))


def test_random_ties_draw_afresh():
    rule, seen = tied("random")
    assert draws(rule, seen) == pytest.approx([0.0, 0.5, 0.5, 0.0], abs=0.03)


def test_lowest_tie_takes_the_lowest_target():
    rule, seen = tied("lowest")
    assert draws(rule, seen, 20).tolist() == [0.0, 0.0, 1.0, 0.0]


def test_rank_ties_follow_one_fixed_order():
    order = np.array([9, 9, 9, 5, 9, 9, 9, 2])
    rule, seen = tied("rank", order=order)
    assert draws(rule, seen, 20).tolist() == [0.0, 1.0, 0.0, 0.0]
    rule, seen = tied("rank", order=order[::-1].copy())
    assert draws(rule, seen, 20).tolist() == [0.0, 1.0, 0.0, 0.0]
    # Without an order: always the same of the two, and a permutation of the target ids.
    rule, seen = tied("rank")
    assert sorted(draws(rule, seen, 50).tolist()) == [0.0, 0.0, 0.0, 1.0]
    ranks = fixed_order(np.arange(2000))
    assert np.unique(ranks).size == 2000
    assert abs(np.corrcoef(np.arange(2000), ranks.astype(float))[0, 1]) < 0.1


def test_unknown_tie_rule_and_column_are_refused():
    with pytest.raises(ValueError, match="'random', 'lowest' or 'rank', got 'first'"):
        tied("first")
    with pytest.raises(KeyError, match="no feature named 'queue'; known: hold, jobs"):
        ScoreRule(name="x", spec=spec_of(PLAIN), columns=("queue",), score=lambda c: c["queue"])


def test_power_of_two_is_uniform_over_pairs():
    spec = spec_of(PLAIN)
    seen = observe(spec, {"jobs": [[0.0, 1.0, 2.0]] * 2, "service": [[1.0, 1.0, 1.0]] * 2})
    # Of the three pairs the best node is in two, the second best wins one, the worst none.
    expected = [0.0, 2 / 3, 1 / 3, 0.0]
    assert draws(rules(spec)["power-of-two"], seen) == pytest.approx(expected, abs=0.03)


def test_round_robin_goes_round_the_legal_targets():
    rule = rules(spec_of(PLAIN))["round-robin"]
    rng = np.random.default_rng(1)
    seen = observe(spec_of(PLAIN), {"jobs": [[0.0] * 3] * 2})
    turns = [seen.target[[0, 1], rule.act(replace(seen, time=t), rng)] for t in np.arange(6.0)]
    steps = np.diff(np.array(turns), axis=0) % 3
    assert (steps == 1).all()
    # A masked target is skipped, not waited for.
    here = int(turns[-1][0])
    mask = seen.mask.copy()
    mask[0, 1 + (here + 1) % 3] = False
    after = rule.act(replace(seen, mask=mask, time=6.0), rng)
    assert seen.target[0, after[0]] == (here + 2) % 3


def test_round_robin_forgets_the_episode_before():
    rule = rules(spec_of(PLAIN))["round-robin"]
    seen = observe(spec_of(PLAIN), {"jobs": [[0.0] * 3] * 2})

    def episode(seed):
        rng = np.random.default_rng(seed)
        return [rule.act(replace(seen, time=float(t)), rng).tolist() for t in range(4)]

    first = episode(3)
    episode(4)
    assert episode(3) == first


def test_weighted_random_follows_the_odds_of_the_job_class():
    spec = spec_of(PLAIN)
    seen = observe(spec, {"jobs": [[0.0] * 3] * 2})
    assert isinstance(rules(spec)["weighted-random"], MixedRule)
    web = rules(spec)["weighted-random"].probabilities(seen)
    assert web[0] == pytest.approx([0.0, 1 / 8, 2 / 8, 5 / 8])
    seen.agent[:, 1:] = [0.0, 1.0]
    batch = rules(spec)["weighted-random"].probabilities(seen)
    assert batch[0].tolist() == [0.0, 0.0, 0.0, 1.0]
    # A legal set on which all odds are zero is drawn uniformly rather than held.
    seen.mask[0, 3] = False
    rest = rules(spec)["weighted-random"].probabilities(seen)
    assert rest[0].tolist() == [0.0, 0.5, 0.5, 0.0]
    with pytest.raises(ValueError, match="3 rows but the agents have 2 job classes"):
        dispatch.weighted_random(spec, np.ones((3, 3)))


def test_water_filling_by_hand():
    # Costs 0, 2, 9 with slopes 2, 1, 3 and 2 jobs to pour. The first candidate alone would rise
    # to 4; with the second: level (2 + 0 / 2 + 2 / 1) / (1/2 + 1) = 8/3, below 9.
    share = stale.water_filling(
        np.array([[0.0, 2.0, 9.0]]), np.array([[2.0, 1.0, 3.0]]), np.array([[2.0]])
    )
    assert share[0] == pytest.approx([4 / 3, 2 / 3, 0.0])


def test_water_filling_levels_every_candidate_it_touches():
    rng = np.random.default_rng(0)
    cost, slope = rng.uniform(0.0, 20.0, (200, 8)), rng.uniform(0.2, 5.0, (200, 8))
    cost[rng.random((200, 8)) < 0.3] = np.inf
    cost[:, 0] = 7.0
    arrivals = rng.uniform(0.01, 30.0, (200, 1))
    share = stale.water_filling(cost, slope, arrivals)
    assert share.sum(axis=1) == pytest.approx(arrivals[:, 0])
    assert (share[np.isinf(cost)] == 0.0).all()
    after = cost + share * slope
    touched = share > 1e-9
    level = np.broadcast_to(
        np.where(touched, after, -np.inf).max(axis=1, keepdims=True), after.shape
    )
    assert after[touched] == pytest.approx(level[touched])
    assert (after[~touched] >= level[~touched] - 1e-9).all()


def test_interpreted_load_pours_what_the_snapshot_hides():
    # Half of one epoch's arrivals at the mean load, 2 dispatchers * 0.75 jobs / 3 nodes: 1/4 job
    # per node, 3/4 in all. Delays of the next job 2, 3, 12; slopes 2, 1, 3: level
    # (3/4 + 1 + 3) / (3/2) = 19/6; shares 7/12 and 1/6 of 3/4.
    spec = spec_of(PLAIN)
    seen = observe(
        spec,
        {
            "jobs": [[0.0, 2.0, 3.0]] * 2,
            "service": [[2.0, 1.0, 3.0]] * 2,
            "overlap": [[1.0, 0.5, 3.0]] * 2,
        },
    )
    found = rules(spec)["interpreted"].probabilities(seen)
    assert found[0] == pytest.approx([0.0, 7 / 9, 2 / 9, 0.0])
    # Marginal drain costs 4, 2, 9 with the same slopes: only the second is below the level 2.75.
    found = rules(spec)["interpreted-reference"].probabilities(seen)
    assert found[0].tolist() == [0.0, 0.0, 1.0, 0.0]
    # Twice the load pours twice as much: level (3/2 + 1 + 3) / (3/2) = 11/3.
    seen.agent[:, 0] = 1.0
    found = rules(spec)["interpreted"].probabilities(seen)
    assert found[0] == pytest.approx([0.0, 5 / 9, 4 / 9, 0.0])
    # Nothing is hidden from the fresh variant: all on the shortest delay.
    found = rules(spec, "fresh")["interpreted"].probabilities(seen)
    assert found[0] == pytest.approx([0.0, 1.0, 0.0, 0.0], abs=1e-6)


BROKEN = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 3e38])


@given(
    broken=st.dictionaries(st.tuples(st.integers(0, 1), st.integers(0, 2)), BROKEN, max_size=6),
    column=st.sampled_from(["jobs", "service", "work", "overlap"]),
    name=st.sampled_from(["interpreted", "interpreted-reference", "softmax-sed"]),
)
def test_broken_sensors_leave_the_spreading_rules_finite_and_silent(broken, column, name):
    """A live system's observations may hold anything; warnings are errors here."""
    spec = spec_of(PLAIN)
    table = {key: np.array(TABLE[key]) for key in PLAIN[1:]}
    for (agent, node), value in broken.items():
        table[column][agent, node] = value
    seen = observe(spec, table)
    for information in ("same", "fresh"):
        rule = rules(spec, information)[name]
        odds = rule.probabilities(seen)
        assert np.isfinite(odds).all() and (odds >= 0).all()
        np.testing.assert_allclose(odds.sum(axis=1), 1.0)
        assert (odds[:, 0] == 0.0).all()  # it never holds while a node is legal


@pytest.mark.parametrize("name", ["interpreted-reference", "softmax-sed"])
def test_a_node_of_which_nothing_is_known_is_as_if_it_were_masked(name):
    spec = spec_of(PLAIN)
    table = {key: np.array(TABLE[key]) for key in PLAIN[1:]}
    table["service"][0, 1] = np.nan
    seen = observe(spec, table)
    masked = seen.mask.copy()
    masked[0, 2] = False
    rule = rules(spec)[name]
    expected = rule.probabilities(replace(observe(spec, TABLE_OF_PLAIN), mask=masked))
    if name == "interpreted-reference":
        # The arrivals that it pours follow from how many nodes are legal.
        assert rule.probabilities(seen)[0, 2] == 0.0
        np.testing.assert_array_equal(rule.probabilities(seen)[1], expected[1])
    else:
        np.testing.assert_array_equal(rule.probabilities(seen), expected)


@pytest.mark.parametrize("name", ["interpreted", "interpreted-reference", "softmax-sed"])
def test_agents_that_know_nothing_draw_evenly(name):
    spec = spec_of(PLAIN)
    nothing = {key: np.full((2, 3), np.nan) for key in PLAIN[1:]}
    seen = observe(spec, nothing)
    odds = rules(spec)[name].probabilities(seen)
    np.testing.assert_allclose(odds, [[0, 1 / 3, 1 / 3, 1 / 3]] * 2)
    blind = observe(spec, TABLE_OF_PLAIN, agent=np.full_like(seen.agent, np.nan))
    assert np.isfinite(rules(spec)[name].probabilities(blind)).all()


def test_softmax_follows_its_temperature():
    spec = spec_of(PLAIN)
    seen = observe(spec, {"jobs": [[0.0, 1.0, 3.0]] * 2, "service": [[1.0, 1.0, 1.0]] * 2})
    odds = np.array([1.0, 1 / 2, 1 / 4])
    warm = stale.softmax_sed(spec, 1.0).probabilities(seen)
    assert warm[0, 1:] == pytest.approx(odds / odds.sum())
    cool = stale.softmax_sed(spec, 0.5).probabilities(seen)
    assert cool[0, 1:] == pytest.approx(odds**2 / (odds**2).sum())
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        stale.softmax_sed(spec, 0.0)


def test_greedy_on_any_model_reads_only_what_it_is_shown():
    simulator = RingSimulator(agents=6)
    seen = simulator.reset(4)
    for _ in range(3):
        seen = simulator.step(np.where(seen.mask, [0, 3, 2, 1], -1).argmax(axis=1)).observation

    def rebuild(observation: Observation) -> Observation:
        load = np.zeros(6)
        load[observation.target[:, 1:]] = observation.candidates[:, 1:, 1]
        return replace(observation, state=load)

    rule = SnapshotGreedy(model=RingModel(simulator), rebuild=rebuild)
    actions = rule.act(replace(seen, state=np.full(6, np.nan)), np.random.default_rng(0))
    # Marginal cost of one more unit on a server: cost * (2 load + 1) / 6; lowest wins.
    cost = seen.candidates[:, :, 2] * (2.0 * seen.candidates[:, :, 1] + 1.0)
    chosen = cost[np.arange(6), actions]
    assert seen.active.any()
    assert chosen[seen.active] == pytest.approx(cost[seen.active, 1:].min(axis=1))
    assert (actions[~seen.active] == 0).all()
    with pytest.raises(ValueError, match="must"):
        ScoreRule(name="p", spec=spec_of(PLAIN), columns=(), score=len, probes=0)


def every_rule():
    plain, vector = spec_of(PLAIN, 7), spec_of(PLAIN + VECTOR, 7)
    knobs = Knobs(agents=40)
    for spec in (plain, vector):
        weights = np.arange(1.0, 7.0)
        yield from (
            (spec, rule) for rule in dispatch.controllers(knobs, spec, nodes=6, weights=weights)
        )


def crowd(spec: Spec, rng: np.random.Generator) -> Observation:
    table = {f.name: rng.integers(0, 4, (40, 6)).astype(float) for f in spec.candidate_features[1:]}
    table["service"] = rng.uniform(0.5, 4.0, (40, 6))
    seen = observe(spec, table)
    seen.mask[:, 1:] = rng.random((40, 6)) < 0.5
    seen.mask[:3, 1:] = False
    seen.active[3:8] = False
    return seen


@pytest.mark.parametrize(
    ("spec", "rule"), list(every_rule()), ids=lambda value: getattr(value, "name", "")
)
def test_no_rule_holds_while_a_node_is_legal_or_takes_an_illegal_one(spec, rule):
    rng = np.random.default_rng(11)
    for _ in range(20):
        seen = crowd(spec, rng)
        actions = rule.act(seen, rng)
        free = seen.mask[:, 1:].any(axis=1) & seen.active
        assert free.sum() > 10
        assert (actions[free] > 0).all()
        assert (actions[~free] == 0).all()
        assert seen.mask[np.arange(40), actions].all()


@pytest.mark.parametrize(
    ("spec", "rule"), list(every_rule()), ids=lambda value: getattr(value, "name", "")
)
def test_rules_read_the_decentralised_part_only(spec, rule):
    seen = crowd(spec, np.random.default_rng(12))
    poisoned = replace(
        seen,
        critic=np.full(3, np.nan, np.float32),
        state=np.full(9, np.nan),
        exogenous=np.full(4, np.nan),
        private={"service": np.full((40, 7), np.nan)},
    )
    clean = deepcopy(rule).act(seen, np.random.default_rng(13))
    assert rule.act(poisoned, np.random.default_rng(13)).tolist() == clean.tolist()
