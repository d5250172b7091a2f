"""Executors: same results wherever episodes are played, and no loss of any when workers fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ring import LowestLoad, RandomRule, RingFactory, Saboteur, Slow

from fairlead.platform.episodes import Stage, layout, named
from fairlead.platform.executors import (
    Guidance,
    Heuristic,
    InlineExecutor,
    ProcessExecutor,
    Task,
    WorkerError,
)
from fairlead.platform.files import UserError

SHM = Path("/dev/shm")  # noqa: S108


def tasks(count: int, controller=None, *, record: bool = True) -> list[Task]:
    wanted = controller or Heuristic("random")
    guidance = Guidance("drain", effects=True) if record else None
    return [Task(100 + i, wanted, record=record, guidance=guidance) for i in range(count)]


def assert_same(left, right):
    assert [result.seed for result in left] == [result.seed for result in right]
    for a, b in zip(left, right, strict=True):
        assert (a.total, a.metrics, a.components) == (b.total, b.metrics, b.components)
        assert a.epochs == b.epochs and a.terminated == b.terminated
        np.testing.assert_equal(a.distance, b.distance)
        assert (a.episode is None) == (b.episode is None)
        if a.episode is not None:
            for name, array in named(a.episode).items():
                np.testing.assert_array_equal(array, named(b.episode)[name], err_msg=name)


def segments() -> set[str]:
    return set(os.listdir(SHM)) if SHM.is_dir() else set()


def gone(pid: int, within: float = 5.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_recorded_arrays_are_what_happened():
    stage = Stage(RingFactory())
    result = stage.play(
        Task(3, RandomRule(), record=True, guidance=Guidance("drain", effects=True))
    )
    episode = result.episode
    assert {n: (a.shape, a.dtype) for n, a in named(episode).items()} == layout(
        stage.spec, support=1
    )
    assert result.epochs == 20
    assert not result.terminated
    assert result.total == pytest.approx(episode.reward.sum(), abs=1e-12)
    assert result.metrics["return"] == pytest.approx(result.total)
    np.testing.assert_allclose(episode.local_reward.mean(axis=1), episode.reward)
    chosen = np.take_along_axis(episode.mask, episode.actions[:, :, None], axis=2)
    assert chosen.all()
    assert episode.active.any()
    np.testing.assert_array_equal(episode.guidance[:, :, 0], 0.0)
    # Replaying the recorded actions gives the recorded rewards.
    simulator = RingFactory().simulator()
    simulator.reset(3)
    rewards = [simulator.step(actions).reward for actions in episode.actions]
    np.testing.assert_array_equal(rewards, episode.reward)


def test_guidance_prefers_the_cheaper_emptier_server():
    episode = Stage(RingFactory()).play(tasks(1)[0]).episode
    # Load and cost of a candidate decide its value: the first epoch has empty servers, where
    # sending one unit to a server of cost c changes d by c / N (weight 2c/N, x from 0 to 1).
    first = episode.guidance[0]
    active = episode.active[0]
    others = np.zeros(6)
    for agent in np.flatnonzero(active):
        if episode.actions[0, agent] > 0:
            others[(agent + episode.actions[0, agent] - 2) % 6] += 1
    cost = np.where(np.arange(6) % 2 == 0, 1.0, 3.0)
    for agent in np.flatnonzero(active):
        mine = others.copy()
        if episode.actions[0, agent] > 0:
            mine[(agent + episode.actions[0, agent] - 2) % 6] -= 1
        for k in (1, 2, 3):
            node = (agent + k - 2) % 6
            expected = -cost[node] / 6 * ((mine[node] + 1) ** 2 - mine[node] ** 2)
            assert first[agent, k] == pytest.approx(expected, rel=1e-5)


def test_results_do_not_depend_on_the_workers():
    wanted = [*tasks(5), *tasks(3, LowestLoad(), record=False)]
    with InlineExecutor(RingFactory()) as inline:
        reference = inline.map(wanted)
    before = segments()
    for workers in (1, 3):
        with ProcessExecutor(RingFactory(), workers=workers) as pool:
            assert_same(pool.map(wanted), reference)
            # No name is left even while the workers run, so nothing can leak later.
            assert segments() - before == set()
            assert_same(pool.map(wanted[::-1]), reference[::-1])
            assert pool.faults.total == 0
            pids = pool.processes
        assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("how", ["kill", "hang", "raise"])
def test_failed_worker_is_replaced_and_its_episode_repeated(how, tmp_path):
    good = InlineExecutor(RingFactory()).map(tasks(4, RandomRule()))
    bad = Saboteur(str(tmp_path / "marker"), how)
    before = segments()
    with ProcessExecutor(RingFactory(), workers=2, timeout=1.5) as pool:
        pool.map(tasks(2))  # warm, so that the time limit is the episode's alone
        results = pool.map(tasks(4, bad))
        faults = pool.faults
        assert len(pool.processes) == 2
    assert faults.total >= 1
    counted = {"kill": faults.crashed, "hang": faults.hung, "raise": faults.raised}
    assert counted[how] == faults.total
    assert [r.total for r in results] == [r.total for r in good]
    for a, b in zip(results, good, strict=True):
        np.testing.assert_array_equal(a.episode.actions, b.episode.actions)
    assert segments() - before == set()


def test_kill_from_outside_in_the_middle_of_an_episode():
    reference = InlineExecutor(RingFactory()).map(tasks(4, RandomRule()))
    with ProcessExecutor(RingFactory(), workers=2) as pool:
        pool.map(tasks(2))
        victim = pool.processes[0]
        threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()
        results = pool.map(tasks(4, Slow(0.05)))
        assert pool.faults.crashed == 1
        assert victim not in pool.processes
    assert [r.total for r in results] == [r.total for r in reference]


def test_three_failures_raise_with_the_workers_traceback(tmp_path):
    bad = Saboteur(str(tmp_path / "marker"), "raise", always=True)
    with ProcessExecutor(RingFactory(), workers=1) as pool:
        with pytest.raises(WorkerError, match=r"seed 100 failed 3 times") as caught:
            pool.map(tasks(1, bad))
        assert "ArithmeticError: sabotage" in str(caught.value)
        assert pool.faults.raised == 3
        # The pool stays usable.
        assert len(pool.map(tasks(2))) == 2


def test_data_that_cannot_be_used_are_refused_at_once_in_one_line(tmp_path):
    bad = Saboteur(str(tmp_path / "marker"), "bad data", always=True)
    with ProcessExecutor(RingFactory(), workers=2) as pool:
        with pytest.raises(UserError) as caught:
            pool.map([*tasks(1, bad), *tasks(3, Slow(0.02))])
        assert str(caught.value) == "days.csv, line 5: a finite number is expected"
        assert pool.faults.raised == 0
        assert len(pool.map(tasks(2))) == 2


def test_unknown_heuristic_names_the_known_ones():
    with pytest.raises(Exception, match=r"no heuristic 'lowst'; known: lowest, random"):
        InlineExecutor(RingFactory()).map([Task(1, Heuristic("lowst"))])


@pytest.mark.parametrize(("workers", "timeout"), [(0, 1.0), (1, 0.0)])
def test_impossible_pools_are_refused(workers, timeout):
    with pytest.raises(ValueError, match=r"at least 1|above 0"):
        ProcessExecutor(RingFactory(), workers=workers, timeout=timeout)


CHILD = """
import sys, time
from fairlead.platform.executors import ProcessExecutor, Task
from ring import RingFactory, RandomRule, Slow
if __name__ == "__main__":
    pool = ProcessExecutor(RingFactory(), workers=2)
    pool.map([Task(i, RandomRule(), record=True) for i in range(2)])
    print(*pool.processes, flush=True)
    {then}
"""


@pytest.mark.parametrize(
    "then",
    [
        "pool.map([Task(i, Slow(1.0), record=True) for i in range(2)])",
        "time.sleep(60)",
    ],
    ids=["busy", "idle"],
)
def test_workers_die_with_their_parent(then, tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(then=then))
    before = segments()
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None
        workers = [int(pid) for pid in child.stdout.readline().split()]
        assert len(workers) == 2
        child.kill()
    assert all(gone(pid) for pid in workers)
    time.sleep(0.2)
    assert segments() - before == set()


def test_workers_do_not_import_torch():
    probe = "import sys, fairlead.platform.executors; print('torch' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "False"
