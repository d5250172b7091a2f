"""A worker process that plays episodes, and the parent's handle on it.

A worker never outlives its parent: it asks the kernel for a signal on the parent's death (Linux)
and watches the parent's end of a pipe (everywhere). It ignores Ctrl-C, which is the parent's to
handle.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from numpy.typing import NDArray

from ..policies.interface import Controller
from ..simulators.errors import DataError
from .episodes import Layout, Stage
from .files import UserError
from .segments import Segment, view
from .tasks import Factory, Heuristic, Result, Task, Trained

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PR_SET_PDEATHSIG = 1
_SENT_APART = Heuristic("sent apart")

Message = tuple[Any, ...]
"""Parent to worker: ``("play", index, task, key)``, ``("forget",)``, ``("stop",)``, and the answers
``("segment", name)`` and ``("controller", controller)``. Worker to parent: ``("segment", layout)``
and ``("need", key)``, which ask; ``("attached",)``, ``("done", index, result)``,
``("refused", message)`` (files or settings that cannot be used: no use to try again) and
``("failed", index, traceback)``, which report.

A controller may be large, so a worker asks for it: the parent never writes much into the pipe of a
process that might have stopped reading."""


class Worker:
    """One worker process. Starting it returns at once; the first task waits for its imports."""

    def __init__(self, factory: Factory, *, name: str):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe(duplex=True)
        # The kernel's signal follows the thread that started the worker, so only the main
        # thread, which lives as long as the process, may ask for it.
        deadly = threading.current_thread() is threading.main_thread()
        self.process = context.Process(
            target=_main, args=(theirs, factory, os.getpid(), deadly), name=name, daemon=True
        )
        with _one_thread():
            self.process.start()
        theirs.close()
        self._segment: Segment | None = None
        self.task: int | None = None
        self.deadline = float("inf")
        self.warm = False

    def assign(self, index: int, task: Task, key: int, *, deadline: float) -> None:
        """Send a task; ``key`` stands for its controller, which the worker asks for when new."""
        self._send(("play", index, replace(task, controller=_SENT_APART), key))
        self.task, self.deadline = index, deadline

    def make_room(self, layout: Layout) -> None:
        """Answer a worker that needs shared memory for an episode of this layout."""
        self._free()
        self._segment = Segment(layout)
        self._send(("segment", self._segment.name))

    def supply(self, controller: Trained | Heuristic | Controller) -> None:
        """Answer a worker that needs a controller."""
        self._send(("controller", controller))

    def forget(self) -> None:
        """Drop the controllers of earlier tasks; their keys mean others from now on."""
        self._send(("forget",))

    def receive(self) -> Message | None:
        """The next report, or ``None`` if the process is gone."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def attached(self) -> None:
        if self._segment is not None:
            self._segment.detach()

    def finish(self, result: Result, *, recorded: bool) -> Result:
        """Take the recorded arrays out of shared memory; the worker is free again."""
        self.task, self.deadline, self.warm = None, float("inf"), True
        if recorded and self._segment is not None:
            return replace(result, episode=self._segment.copy())
        return result

    def stop(self) -> None:
        """Ask it to end, wait a moment, then kill; always frees its memory."""
        self._send(("stop",))
        self.process.join(timeout=2.0)
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()
        self._free()

    def _free(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _send(self, message: Message) -> None:
        # A dead worker shows up as end of file when its report is awaited; one place decides.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


@contextmanager
def _one_thread() -> Generator[None]:
    """Numerical libraries read these once, when the child imports them."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _main(connection: Connection, factory: Factory, parent: int, deadly: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent(parent, deadly=deadly)
    _Server(connection, factory).serve()


def _die_with_parent(parent: int, *, deadly: bool) -> None:
    if deadly and sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)
    process = multiprocessing.parent_process()
    if process is not None:
        watch = threading.Thread(target=_watch, args=(process.sentinel,), daemon=True)
        watch.start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


class _Server:
    """The worker's loop: receive, play, report."""

    def __init__(self, connection: Connection, factory: Factory):
        self._connection, self._factory = connection, factory
        self._stage: Stage | None = None
        self._memory: SharedMemory | None = None
        self._layout: Layout = {}
        self._controllers: dict[int, Trained | Heuristic | Controller] = {}

    def serve(self) -> None:
        while True:
            match self._connection.recv():
                case ("play", int() as index, Task() as task, int() as key):
                    self._play(index, replace(task, controller=self._controller(key)))
                case ("forget",):
                    self._controllers.clear()
                case _:
                    break
        self._close()
        if self._stage is not None:
            self._stage.close()

    def _play(self, index: int, task: Task) -> None:
        try:
            if self._stage is None:
                self._stage = Stage(self._factory)
            result = self._stage.play(task, self._provide)
        except (DataError, UserError) as error:
            self._connection.send(("refused", str(error)))
        except Exception:  # noqa: BLE001
            # The boundary of the process: the parent repeats the episode or raises.
            self._connection.send(("failed", index, traceback.format_exc()))
        else:
            self._connection.send(("done", index, replace(result, episode=None)))

    def _controller(self, key: int) -> Trained | Heuristic | Controller:
        if key not in self._controllers:
            self._connection.send(("need", key))
            _, self._controllers[key] = self._connection.recv()
        return self._controllers[key]

    def _provide(self, layout: Layout) -> dict[str, NDArray[Any]]:
        if self._memory is None or layout != self._layout:
            self._close()
            self._connection.send(("segment", layout))
            _, name = self._connection.recv()
            self._memory, self._layout = SharedMemory(name=name), layout
            self._connection.send(("attached",))
        return view(self._memory, layout)

    def _close(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None
