"""The child process: runs SUMO and answers requests on its standard streams.

``python -m fairlead.simulators.traffic.sumo.worker FOLDER``. It ends when its standard input
closes, so it cannot outlive the process that started it, and SUMO ends with it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ...interface import Doubles
from .protocol import ERRORS, TRIPINFO, receive, send
from .street import RefusedError, Street

_ATTEMPTS = 3
_PATIENCE = 60.0
"""s in which a SUMO must have loaded its network before we can talk to it."""
_POLL = 0.02
_WORDS = 5.0
"""s that a SUMO which closed the connection has to end."""
_SUMO = ("libsumo", "traci")


class Worker:
    """Holds at most one simulation."""

    def __init__(self) -> None:
        self._street: Street | None = None
        self._close: Callable[[], None] | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._requests = {
            "start": self.start,
            "lanes": self.lanes,
            "states": self.states,
            "advance": self.advance,
            "stop": self.stop,
        }

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, object], Doubles | None]:
        """Header and readings of the reply to ``request``, whose kind is its field ``do``.

        Raises:
            RefusedError: it cannot be met; the simulation is unharmed.
        """
        kind = request.get("do")
        if kind not in self._requests:
            raise RefusedError(f"no request {kind!r}; known: {', '.join(self._requests)}")
        return self._requests[kind](request)

    def start(self, request: dict[str, Any]) -> tuple[dict[str, object], Doubles | None]:
        """Load and start a simulation; an earlier one is ended."""
        self.stop(request)
        binary: str | None = request["binary"]
        options: list[str] = request["options"]
        if binary is None:
            api = importlib.import_module("libsumo")
            api.start(["sumo", *options])
        else:
            api = self._connect(binary, options)
        self._close = api.close
        self._street = Street(api, local=binary is None, mesoscopic=request["mesoscopic"])
        return {"time": self._street.time, "signals": self._street.signals}, None

    def lanes(self, request: dict[str, Any]) -> tuple[dict[str, object], Doubles | None]:
        """Read these lanes from now on."""
        self._running.watch(request["names"])
        return {}, None

    def states(self, request: dict[str, Any]) -> tuple[dict[str, object], Doubles | None]:
        """Set signals."""
        street = self._running
        pairs = list(request["states"].items())
        for signal, state in pairs:
            street.check(signal, state)
        for signal, state in pairs:
            street.show(signal, state)
        return {}, None

    def advance(self, request: dict[str, Any]) -> tuple[dict[str, object], Doubles | None]:
        """Simulate some seconds, then read."""
        street = self._running
        schedule = [(int(at), str(signal), str(state)) for at, signal, state in request["schedule"]]
        counts = street.run(request["seconds"], schedule)
        return {"time": street.time, **counts}, street.read(request["horizon"])

    def stop(self, request: dict[str, Any]) -> tuple[dict[str, object], Doubles | None]:  # noqa: ARG002 - requests share one form
        """End the simulation; SUMO then writes what it knows of the trips."""
        close, self._close, self._street = self._close, None, None
        if close is not None:
            close()
        return {}, None

    def last_words(self) -> None:
        """Give a SUMO that has failed the time to say why."""
        if self._program is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._program.wait(_WORDS)

    def _connect(self, binary: str, options: list[str]) -> Any:
        """A TraCI connection to a SUMO of our own."""
        traci = importlib.import_module("traci")
        for attempt in range(1, _ATTEMPTS + 1):
            port = _free_port()
            command = [binary, *options, "--remote-port", str(port)]
            self._program = subprocess.Popen(command)  # noqa: S603 - the caller's choice
            # traci prints a line for every attempt to connect.
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    return traci.connect(
                        port,
                        numRetries=int(_PATIENCE / _POLL),
                        host="127.0.0.1",
                        proc=self._program,
                        waitBetweenRetries=_POLL,
                    )
                except traci.exceptions.TraCIException:
                    # Somebody else may have taken the port before SUMO could.
                    if attempt == _ATTEMPTS or _free_port(port):
                        raise
        raise AssertionError("the last attempt returns or raises")

    @property
    def _running(self) -> Street:
        if self._street is None:
            raise RefusedError("no simulation is running")
        return self._street


def _free_port(wanted: int = 0) -> int:
    """A port nobody listens on; with ``wanted`` that one, or 0 if it is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until the requests end, or until SUMO fails (said in the last reply)."""
    worker = Worker()
    while True:
        try:
            request = receive(requests).header
        except EOFError:
            return
        try:
            header, values = worker.answer(request)
        except RefusedError as error:
            send(replies, {"refused": str(error)})
            continue
        except Exception as error:
            worker.last_words()
            send(replies, {"failed": f"{type(error).__name__}: {error}"})
            if type(error).__module__.partition(".")[0] in _SUMO:
                # SUMO has spoken for itself; of anything else the trace is wanted.
                raise SystemExit(1) from None
            raise
        send(replies, header, {} if values is None else {"readings": values})


def main() -> None:
    """Serve on the standard streams; whatever SUMO prints goes to the standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError):  # nobody is left to answer
        serve(sys.stdin.buffer, replies)
    folder = Path(sys.argv[1])
    for name in (TRIPINFO, ERRORS):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # gone, or somebody keeps something in it
        folder.rmdir()


if __name__ == "__main__":
    main()
