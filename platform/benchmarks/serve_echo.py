"""The floor under every HTTP figure: a bare ASGI application that reads a body and answers.

``python -m fairlead.platform.benchmarks.serve_echo PORT BYTES`` answers every request with that
many bytes, on uvicorn with its fastest loop and parser and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


class Echo:
    """Reads the whole body, answers with a constant one."""

    def __init__(self, size: int):
        self._body = b"x" * size
        self._start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(size).encode())],
        }

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is answered, not {scope['type']}")
        while (await receive()).get("more_body"):
            pass
        await send(self._start)
        await send({"type": "http.response.body", "body": self._body})


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    import uvicorn

    port, size = int(arguments[0]), int(arguments[1])
    uvicorn.run(
        Echo(size),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
