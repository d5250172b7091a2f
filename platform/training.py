"""Training as one call: start a run, or continue one exactly where its checkpoint was taken."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from .checkpoint import Checkpoint, CheckpointError, CheckpointStore
from .executors import Executor, make_executor, usable_cores
from .files import UserError
from .job import Job, baselines
from .moments import Observer, Outcome, Record, Watch, unrecorded, unwatched
from .report import write_report
from .run_folder import RunFolder, write_json
from .train_config import TrainConfig


def start(
    config: TrainConfig,
    root: Path,
    *,
    force: bool = False,
    watch: Watch = unwatched,
    record: Record = unrecorded,
) -> Outcome:
    """Train from the beginning in a new folder.

    Raises:
        UserError: the folder is in use or not writable, learning diverged, an episode fails ...
    """
    baselines(config)  # complain before anything is written
    folder = RunFolder(root)
    folder.require_free(force=force)
    with folder.locked():
        return _run(RunFolder.create(root, config, force=force), config, None, (watch, record))


def resume(
    root: Path,
    *,
    config: TrainConfig | None = None,
    checkpoint: int | None = None,
    watch: Watch = unwatched,
    record: Record = unrecorded,
) -> Outcome:
    """Continue a run exactly where its last checkpoint was taken.

    Args:
        root: folder of the run.
        config: may differ from the stored one in ``iterations`` and ``execution`` only.
        checkpoint: continue from this iteration's instead, and forget later ones.
        watch: told how far it is.
        record: given each iteration's figures.

    Raises:
        UserError: nothing to resume, a damaged checkpoint (named, with the remedy), or a
            configuration that would make it another run.
    """
    folder, stored = RunFolder.open(root)
    if config is not None:
        _require_same(stored, config, root)
    with folder.locked():
        store = CheckpointStore(folder.checkpoints)
        known = store.iterations()
        if checkpoint is not None and checkpoint not in known:
            names = ", ".join(map(str, known)) or "none"
            raise CheckpointError(f"{root} has no checkpoint {checkpoint}; known: {names}")
        wanted = known[-1] if known and checkpoint is None else checkpoint
        loaded = None if wanted is None else store.load(wanted)
        if config is not None:
            folder.write_config(config)
        if wanted is not None:
            store.drop_after(wanted)
        return _run(folder, config or stored, loaded, (watch, record))


def _require_same(stored: TrainConfig, wanted: TrainConfig, root: Path) -> None:
    free = {"iterations", "execution"}
    old = stored.model_dump(mode="json", exclude=free)
    new = wanted.model_dump(mode="json", exclude=free)
    changed = _differences(old, new)
    if changed:
        raise UserError(
            f"{root} was started with other values of {', '.join(changed[:5])}; on --resume only "
            "iterations and execution.* may change (choose another --out for a new run)"
        )


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for key in {**old, **new}
            for found in _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if old == new else [name]


def _run(
    folder: RunFolder,
    config: TrainConfig,
    loaded: Checkpoint | None,
    told: tuple[Watch, Record],
) -> Outcome:
    watch, record = told
    execution = config.execution
    torch.set_num_threads(execution.torch_threads)
    if execution.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"execution.device = {execution.device!r}, but this machine offers no CUDA device to "
            "torch; use cpu"
        )
    with (
        make_executor(
            execution.executor,
            config.factory(),
            workers=execution.workers or usable_cores(),
            timeout=execution.episode_timeout,
        ) as executor,
        _stop_on_signal() as stop,
    ):
        job = Job(folder, config, executor, Observer(watch, stop, record))
        finished = job.run(loaded)
        outcome = job.outcome(finished=finished)
        write_json(folder.summary, _summary(outcome, executor))
        watch(job.moment("report"))
    write_report(folder.root)
    return outcome


def _summary(outcome: Outcome, executor: Executor) -> dict[str, Any]:
    faults = executor.faults
    return {
        "finished": outcome.finished,
        "iteration": outcome.iteration,
        "best_iteration": outcome.best_iteration,
        "best": outcome.best,
        "baseline": None if outcome.mark is None else outcome.mark[0],
        "baseline_return": None if outcome.mark is None else outcome.mark[1],
        "seconds": outcome.seconds,
        "workers_lost": {
            "crashed": faults.crashed,
            "hung": faults.hung,
            "raised": faults.raised,
        },
    }


@contextmanager
def _stop_on_signal() -> Generator[threading.Event]:
    """Ctrl-C and SIGTERM ask to stop; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
