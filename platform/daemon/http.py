"""Small pieces of ASGI that the hot routes are made of: headers, bodies, answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from ..wire.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class TooLarge(Exception):  # noqa: N818
    """A body beyond its limit."""


class Gone(Exception):  # noqa: N818
    """The client went away before its request was complete."""


class Unreadable(Exception):  # noqa: N818
    """A content type or encoding that is not accepted."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Header fields by lower-case name; the first one counts where a name is repeated."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        found.setdefault(name, value)
    return found


def check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Refuse compressed bodies: a few bytes would unpack to any size.

    Raises:
        Unreadable: any content encoding but ``identity``.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in {b"", b"identity"}:
        raise Unreadable("bodies are taken as they are: no Content-Encoding")


def check_type(headers: Mapping[bytes, bytes], accepted: frozenset[bytes]) -> None:
    """Refuse other media types; a missing one is taken for the route's own.

    Raises:
        Unreadable: naming what is accepted. It also keeps out what a browser sends across origins
            without asking (forms and plain text).
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind and kind not in accepted:
        known = ", ".join(sorted(each.decode() for each in accepted))
        raise Unreadable(f"content type is one of {known}")


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: by its announced length before anything is read, or while it arrives.
        Gone: the client closed the connection.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"body of {int(announced)} bytes; at most {limit} are accepted")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"body of more than {limit} bytes")
        if not message.get("more_body", False):
            return part if not parts else b"".join([*parts, part])
        parts.append(part)


def bounded(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> Receive:
    """``receive`` for applications that read bodies themselves; raises like :func:`read_body`."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            raise TooLarge(f"body of {int(announced)} bytes; at most {limit} are accepted")
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise TooLarge(f"body of more than {limit} bytes")
        return message

    return limited


async def answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """A complete response."""
    fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    fields.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, problem: Problem, *, close: bool = False) -> None:
    """A problem as the response; ``close`` where the rest of the request is not read."""
    headers = {**problem.headers(), "Cache-Control": "no-store"}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if close:
        headers["Connection"] = "close"
    await answer(send, problem.status, problem.body(), headers)
