"""Benches: what they say about a run, and that the smallest of them go through."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.platform.benchmarks import alignment, dgpg_scaling, dgpg_variance
from fairlead.platform.benchmarks.dgpg_chart import draw_scaling
from fairlead.platform.benchmarks.scaling_run import Curve
from fairlead.platform.benchmarks.subjects import SUBJECTS
from fairlead.platform.progress import silent
from fairlead.platform.train_config import load_config


def curve(*returns: float) -> Curve:
    episodes = tuple(range(1, len(returns) + 1))
    return Curve("dgpg", 0, episodes, returns, np.array([returns[-1]]), 1.0, 2.0)


@pytest.mark.parametrize(
    ("returns", "episode"),
    [
        ((-2.0, -1.01, -1.0), 2),
        ((-1.0, -1.01, -1.019), 1),
        ((-1.01, -1.5, -1.0, -1.01), 3),  # left the band again
        ((-2.0, -1.0, -1.5), 4),  # not there at the end: one more than were played
    ],
)
def test_convergence_is_the_first_episode_from_which_all_are_within_two_per_cent(returns, episode):
    assert curve(*returns).converged == episode


def test_scaling_bench_trains_compares_and_draws(tmp_path):
    picture = tmp_path / "scaling.png"
    options = dgpg_scaling.Options(
        agents=(5,), episodes=3, plain_episodes=2, plain_every=1, evaluation=3, horizon=40,
        fresh=("sed (fresh)",), workers=1, plot=picture,
    )  # fmt: skip
    rows = {row.name: row for row in dgpg_scaling.run(options, silent)}
    assert rows["an episode"].measured == 40
    assert rows["N=5: dgpg, episodes to convergence"].target == 10
    assert float(rows["N=5: dgpg, final return"].measured) > float(
        rows["N=5: mappo, final return"].measured
    )
    assert "N=5: sed (fresh)" in rows and "N=5: ippo, final return" in rows
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_variance_bench_has_marked_slopes(tmp_path):
    options = dgpg_variance.Options(
        agents=(4, 8), episodes=6, horizon=20, updates=0, workers=1, plot=tmp_path / "noise.svg"
    )
    rows = {row.name: row for row in dgpg_variance.run(options, silent)}
    slope = rows["slope of log variance over log N, return"]
    assert slope.expected == 1.0 and np.isfinite(float(slope.measured))
    noise = [float(rows[f"N={n}: return, variance per agent"].measured) for n in (4, 8)]
    assert float(slope.measured) == pytest.approx(np.log2(noise[1] / noise[0]))
    assert (tmp_path / "noise.svg").read_text().lstrip().startswith("<?xml")


def test_alignment_bench_measures_every_reference_on_the_same_pairs():
    options = alignment.Options(agents=(6,), seeds=2, probes=3, loads=(0.7,), continuation=5)
    rows = {row.name: row for row in alignment.run(options, silent)}
    names = ("drain", "static", "improvement")
    assert {rows[f"N=6, load 0.7: {name}, pairs"].measured for name in names} == {6}
    values = [float(rows[f"N=6, load 0.7: {name}, correlation"].measured) for name in names]
    assert all(-1.0 <= value <= 1.0 for value in values) and len(set(values)) == 3


def test_tuned_knobs_of_a_scenario_yield_to_files_and_overrides(tmp_path):
    assert load_config("cloud", "dispatch").evaluation.stochastic
    tuned = load_config("cloud", "swf")
    assert not tuned.evaluation.stochastic and tuned.iterations == 16
    file = tmp_path / "run.toml"
    file.write_text("iterations = 5\n")
    changed = load_config("cloud", "swf", file=file, overrides=["evaluation.stochastic=true"])
    assert (changed.iterations, changed.evaluation.stochastic) == (5, True)
    assert changed.learner.guidance.alpha.start == 1.0


def test_a_picture_of_nothing_known_is_an_error(tmp_path):
    with pytest.raises(Exception, match=r"\.png or \.svg"):
        draw_scaling([], tmp_path / "scaling.pdf", SUBJECTS["cloud"])
