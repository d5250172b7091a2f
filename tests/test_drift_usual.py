"""Healthy policies on their own scenario raise no drift; other loads and job sizes do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serving import factory, random_policy

from fairlead.platform.decision.drift import Drift
from fairlead.platform.decision.settings import DriftSettings
from fairlead.platform.episodes import Stage
from fairlead.platform.executors import Task, Trained
from fairlead.platform.observed import STRETCH, observed_of

AGENTS, HORIZON, ALERT = 20, 160, 0.25
SHORT = DriftSettings(window=96)


def made(horizon=HORIZON, **settings):
    return replace(factory(AGENTS, **settings), settings={
        **factory(AGENTS, **settings).settings, "horizon": horizon,
    })  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    stage = Stage(made())
    arrays = random_policy(stage.spec, seed=1, scale=0.05)  # nearly uniform, so it is stable
    episodes = []
    for seed in range(8):
        result = stage.play(Task(seed, Trained(arrays), record=True))
        episodes.append((result.episode, result.epochs))
    return stage, arrays, episodes, observed_of(episodes)


def highest(trained, observed=None, seeds=(1000, 1001, 1002), **settings):
    """The index after every eighth of the last half of unseen episodes."""
    stage, arrays, _, known = trained
    other = Stage(made(**settings)) if settings else stage
    drift = Drift(spec=stage.spec, observed=observed or known, settings=SHORT)
    found = []
    for seed in seeds:
        episode = other.play(Task(seed, Trained(arrays), record=True)).episode
        for at in range(HORIZON):
            drift.update(
                Seen(
                    episode.agent[at], episode.candidates[at], episode.mask[at], episode.active[at]
                )
            )
            if at % 8 == 0:
                found.append(drift.figures().highest)
    return np.array(found)


class Seen:
    """What the index reads of an observation."""

    def __init__(self, agent, candidates, mask, active):
        self.agent, self.candidates, self.mask, self.active = agent, candidates, mask, active


def test_waves_of_the_own_scenario_are_no_drift(trained):
    found = highest(trained)
    assert np.isnan(found[: STRETCH // 8]).all()  # too little is known at first
    known = found[np.isfinite(found)]
    assert known.size > 30
    assert np.median(known) < 0.05 and np.quantile(known, 0.9) < ALERT


def test_without_the_usual_level_the_same_episodes_look_like_drift(trained):
    """What the level is for: the load of a minute is never that of all training."""
    bare = {part: {k: v for k, v in trained[3][part].items() if k != "usual"}
            for part in ("agent", "candidate")}  # fmt: skip
    assert np.nanmedian(highest(trained, bare)) > ALERT


@pytest.mark.parametrize("load", [0.3, 1.1])
def test_another_load_is_drift(trained, load):
    found = highest(trained, load=load)
    assert np.nanmedian(found) > 2 * ALERT


def test_the_usual_level_is_the_highest_of_the_stretches(trained):
    _, _, episodes, known = trained
    assert known["stretch"] == STRETCH
    bare = {"agent": {**known["agent"], "usual": [0.0] * len(known["agent"]["low"])}}
    tops = []
    for episode, epochs in episodes:
        for start in range(0, epochs - STRETCH + 1, STRETCH // 4):
            drift = Drift(spec=trained[0].spec, observed=bare, settings=DriftSettings(
                window=STRETCH, ignore=(),
            ))  # fmt: skip
            for at in range(start, start + STRETCH):
                drift.update(
                    Seen(episode.agent[at], episode.candidates[at], episode.mask[at],
                         episode.active[at])
                )  # fmt: skip
            tops.append(list(drift.figures().features.values()))
    np.testing.assert_allclose(known["agent"]["usual"], np.max(tops, axis=0), atol=1e-12)


def test_short_episodes_make_short_stretches(trained):
    _, _, episodes, _ = trained
    assert observed_of([(episodes[0][0], 10), episodes[1]])["stretch"] == 10
