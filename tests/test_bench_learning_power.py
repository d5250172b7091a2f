"""The learning benches on power: defaults, start, equal KL on technologies, rows without marks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fairlead.platform.benchmarks import projection, trust_region
from fairlead.platform.benchmarks.learning_plan import assignments, heterogeneous
from fairlead.platform.benchmarks.learning_table import Run, RunTable
from fairlead.platform.files import UserError
from fairlead.platform.progress import silent

CHEAP = ("critic.passes=1", "passes=1")
METHODS = ("hatrpo", "hatrpo-w", "hatrpo-g")


def power(**given) -> trust_region.Options:
    return trust_region.Options.model_validate({"domain": "power", **given})


def test_a_domain_has_defaults_of_its_own_and_what_is_given_wins():
    options = power(iterations=3)
    assert options.agents == (40,) and options.horizon == 72 and options.iterations == 3
    assert options.clamps == ("unclamped",) and options.long_updates == 0
    assert trust_region.Options().agents == (20, 100) and trust_region.Options().horizon == 200
    assert projection.Options.model_validate({"domain": "power"}).agents == (40,)


def test_learners_of_set_points_start_from_the_middle_of_the_box_unless_asked_otherwise():
    for learner, base in (((), 0.0), (("network.base=30",), 30.0)):
        options = power(seeds=2, learner=learner)
        wanted = assignments(
            options, trust_region.variants(options, 0.01), heterogeneous(options, 12)
        )
        assert [a.variant for a in wanted[::2]] == list(METHODS)
        for one in wanted:
            assert one.agents == 12 and one.config["scenario"]["hours"] == 6
            assert one.config["domain"] == "power" and one.config["learner"]["sharing"] == "group"
            assert one.config["learner"]["network"]["base"] == base


def test_options_that_do_not_fit_the_domain_are_named():
    with pytest.raises(UserError, match=r"load=0\.5: scenario 'generated' has no offered load"):
        heterogeneous(power(load=0.5), 12)
    with pytest.raises(UserError, match="horizon=70: power episodes are whole hours"):
        heterogeneous(power(horizon=70), 12)
    with pytest.raises(UserError, match="clamps: runs with long steps compare both"):
        trust_region.run(power(long_updates=1), silent)


def test_technologies_learn_within_equal_total_kl():
    cheap = {"agents": (10,), "seeds": 2, "iterations": 1, "episodes": 1, "evaluation": 2}
    options = power(**cheap, horizon=12, workers=1, learner=CHEAP)
    rows = {row.name: row for row in trust_region.run(options, silent)}
    totals = {rows[f"N=10: {m}, total KL of an update"].measured for m in METHODS}
    assert len(totals) == 1
    for method in METHODS:
        used = rows[f"N=10: {method}, largest used over allowed KL"]
        assert used.passed and float(used.measured) > 0.0
        assert rows[f"N=10: {method}, updating"].passed is None
    # Nothing was published for power, so only the KL has a mark.
    assert rows["N=10: hatrpo-w, improvement over that of hatrpo"].target is None
    assert not any("clipped" in name for name in rows)


def test_what_was_learned_and_the_kl_that_it_took():
    figures = {"policy/kl": 0.01, "trust/joint_kl": 0.09, "trust/total": 0.1}
    runs = [
        dataclasses.replace(
            Run.played(name, 100, seed, np.array([final - 0.1 * seed])),
            figures={key: np.full(3, value) for key, value in figures.items()},
        )
        for name, final in (("untrained", -3.0), ("hatrpo-w", -2.5), ("hatrpo-w + HPML", -2.4))
        for seed in range(3)
    ]
    rows = {row.name: row for row in projection.learned(RunTable(tuple(runs)), 100, "hatrpo-w")}
    assert rows["N=100: hatrpo-w, gained over untrained"].measured == pytest.approx(0.5)
    low = rows["N=100: hatrpo-w + HPML, gained over untrained, 95 % low"]
    assert low.measured == pytest.approx(0.6)
    assert rows["N=100: hatrpo-w, KL of a decision and update"].measured == pytest.approx(0.01)
    assert rows["N=100: hatrpo-w + HPML, largest used over allowed KL"].passed
