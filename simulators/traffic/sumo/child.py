"""A child process that answers one request at a time, and is surely gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from .protocol import ERRORS, Message, receive, send

_MODULE = "fairlead.simulators.traffic.sumo.worker"
_GRACE = 10.0
"""s that a child has for an orderly end before it is killed."""
_LAST_LINES = 15


class Child:
    """The worker process of one engine.

    Args:
        folder: takes the standard error of the worker and of SUMO; the worker removes it when it
            ends in order, so that it goes even if this process is killed.
        home: SUMO's own folder, if it has one.
    """

    def __init__(self, folder: Path, home: Path | None) -> None:
        environment = dict(os.environ)
        if home is not None:
            environment["SUMO_HOME"] = str(home)
            if (projections := home / "data" / "proj").is_dir():
                # Otherwise SUMO's library of projections complains on the standard error.
                environment["PROJ_LIB"] = str(projections)
        self._errors = folder / ERRORS
        with self._errors.open("wb") as stream:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", _MODULE, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=environment,
                # A group of its own: a Ctrl-C is ours to handle, and a kill takes SUMO along.
                start_new_session=True,
            )
        self._requests = cast("BinaryIO", self._process.stdin)
        self._replies = cast("BinaryIO", self._process.stdout)

    @property
    def pid(self) -> int:
        """Of the worker, and of its process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.returncode is None

    def ask(self, request: Mapping[str, object]) -> Message:
        """One round trip.

        Raises:
            ValueError: the request was refused; the simulation is unharmed.
            RuntimeError: SUMO failed or its process ended; its last words are in it. The child is
                gone then, as it is after an interrupt.
        """
        try:
            send(self._requests, request)
            reply = receive(self._replies)
        except (EOFError, OSError) as error:
            raise self._broken(f"SUMO's process ended during {request['do']!r}") from error
        except BaseException:
            # Interrupted between request and reply: the next reply would answer the wrong one.
            self.kill()
            raise
        if "failed" in reply.header:
            raise self._broken(f"SUMO failed during {request['do']!r}: {reply.header['failed']}")
        if "refused" in reply.header:
            raise ValueError(reply.header["refused"])
        return reply

    def close(self) -> None:
        """Let it end on its own for a while, then kill it."""
        with contextlib.suppress(OSError):  # a pipe to a dead child
            self._requests.close()
        self._await_end()
        self.kill()

    def kill(self) -> None:
        """Kill it and everything that it started; harmless if it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._requests, self._replies):
            with contextlib.suppress(OSError):  # unsent bytes for a dead child
                stream.close()

    def _await_end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)

    def _broken(self, what: str) -> RuntimeError:
        self._await_end()  # for the exit status
        self.kill()
        lines = self._errors.read_text(encoding="utf-8", errors="replace").splitlines()
        words = [line for line in lines if line.strip()][-_LAST_LINES:]
        return RuntimeError("\n".join([f"{what} (exit status {self._process.returncode})", *words]))
