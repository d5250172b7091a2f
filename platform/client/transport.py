"""One kept connection to the daemon: HTTP or frames on a unix socket. Not for several threads."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from time import monotonic
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import orjson

from ..decision.types import Rejected
from ..wire import frames
from ..wire.problems import MEDIA_TYPE

_JSON = "application/json"

MAX_ANSWER = 64 * 2**20
"""Largest answer that is read, bytes."""


class TransportError(Exception):
    """No answer: connection refused, reset, cut or too slow.

    Attributes:
        timed_out: there is no time left to try again.
    """

    def __init__(self, message: str, *, timed_out: bool = False):
        super().__init__(message)
        self.timed_out = timed_out


class Transport(Protocol):
    """Carries one frame there and one back."""

    def exchange(self, frame: bytes, *, limit: float) -> bytes:
        """The answer, also when it is a problem (then as a frame that says so).

        Args:
            frame: the request.
            limit: longest time until the whole answer is there, s.

        Raises:
            TransportError: no answer; the connection is closed, so that no late answer can be
                taken for that of another request.
        """
        ...

    def report(self, outcome: Mapping[str, Any], *, limit: float) -> Mapping[str, Any]:
        """What the daemon answers to a report: ``counted`` and ``known``, or a ``problem``.

        Raises:
            TransportError: as above.
        """
        ...

    def close(self) -> None: ...


def connect(
    where: str, domain: str, *, token: str | None, context: ssl.SSLContext | None
) -> Transport:
    """The transport for ``http://host:port``, ``https://...`` or ``unix:/path/of/socket``.

    Raises:
        ValueError: another kind of address.
    """
    if where.startswith("unix:") and len(where) > 5:
        if token is not None:
            raise ValueError("unix sockets are guarded by file permissions, not by a token")
        return UnixFrames(where.removeprefix("unix:"), domain)
    parts = urlsplit(where)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"address {where!r}: expected http://host:port or unix:/path/of/socket")
    return HttpFrames(
        parts.hostname,
        parts.port,
        parts.path.rstrip("/"),
        domain,
        token=token,
        context=(context or ssl.create_default_context()) if parts.scheme == "https" else None,
    )


class HttpFrames:
    """Frames as bodies of ``POST /v1/decide/{domain}`` on a kept-alive connection."""

    def __init__(
        self,
        host: str,
        port: int | None,
        base: str,
        domain: str,
        *,
        token: str | None,
        context: ssl.SSLContext | None,
    ) -> None:
        self._path, self._reports = f"{base}/v1/decide/{domain}", f"{base}/v1/outcome/{domain}"
        held = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._headers = {"Content-Type": frames.MEDIA_TYPE, "Accept": frames.MEDIA_TYPE, **held}
        self._plain = {"Content-Type": _JSON, "Accept": _JSON, **held}
        self._link: http.client.HTTPConnection = (
            http.client.HTTPConnection(host, port)
            if context is None
            else http.client.HTTPSConnection(host, port, context=context)
        )
        self._stream: _Stream | None = None

    def exchange(self, frame: bytes, *, limit: float) -> bytes:
        status, kind, body = self._call(self._path, self._headers, frame, limit)
        if status == 200 and kind == frames.MEDIA_TYPE:
            return body
        if kind == MEDIA_TYPE:
            return frames.pack({"problem": _loaded(body)}, {})
        raise self._stranger(status, kind)

    def report(self, outcome: Mapping[str, Any], *, limit: float) -> Mapping[str, Any]:
        sent = orjson.dumps(outcome)
        status, kind, body = self._call(self._reports, self._plain, sent, limit)
        found = _loaded(body) if kind in {_JSON, MEDIA_TYPE} else None
        if kind == MEDIA_TYPE:
            return {"problem": found}
        if status == 200 and isinstance(found, dict):
            return cast("dict[str, Any]", found)
        raise self._stranger(status, kind)

    def _stranger(self, status: int, kind: str) -> TransportError:
        self.close()
        return TransportError(f"HTTP {status} with content type {kind!r}: not the daemon?")

    def _call(
        self, path: str, headers: Mapping[str, str], data: bytes, limit: float
    ) -> tuple[int, str, bytes]:
        """Status, media type and body of a POST's answer."""
        link = self._link
        until = monotonic() + limit
        try:
            if self._stream is None:
                link.timeout = limit
                link.connect()
                self._stream = _Stream(link.sock)
                link.sock = self._stream
            self._stream.until = until
            link.request("POST", path, body=data, headers=headers)
            answer = link.getresponse()
            body = answer.read(MAX_ANSWER + 1)
            kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip()
            whole = answer.isclosed()
            if answer.getheader("Connection", "").lower() == "close":
                self.close()
        except TimeoutError as error:
            self.close()
            raise TransportError(f"no answer within {limit:.3g} s", timed_out=True) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise TransportError(f"{type(error).__name__}: {error}") from error
        if not whole:
            self.close()
            raise TransportError(f"answer of more than {MAX_ANSWER} bytes")
        return answer.status, kind, body

    def close(self) -> None:
        self._stream = None
        self._link.close()


class UnixFrames:
    """Length-prefixed frames on a unix socket."""

    def __init__(self, path: str, domain: str) -> None:
        self._path, self._domain = path, domain
        self._stream: _Stream | None = None

    def exchange(self, frame: bytes, *, limit: float) -> bytes:
        until = monotonic() + limit
        try:
            if self._stream is None:
                link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._stream = _Stream(link)
                link.settimeout(limit)
                link.connect(self._path)
            self._stream.until = until
            self._stream.sendall(frames.LENGTH.pack(len(frame)) + frame)
            (length,) = frames.LENGTH.unpack(self._read(frames.LENGTH.size))
            if length > MAX_ANSWER:
                raise ConnectionError(f"answer of {length} bytes announced")
            return self._read(length)
        except TimeoutError as error:
            self.close()
            raise TransportError(f"no answer within {limit:.3g} s", timed_out=True) from error
        except OSError as error:
            self.close()
            raise TransportError(f"{type(error).__name__}: {error}") from error

    def report(self, outcome: Mapping[str, Any], *, limit: float) -> Mapping[str, Any]:
        frame = frames.pack({"domain": self._domain, "outcome": outcome}, {})
        try:
            header = frames.unpack(self.exchange(frame, limit=limit), names={}).header
        except Rejected as error:
            self.close()
            raise TransportError(f"no answer to a report: {error}") from error
        found = header.get("outcome")
        return cast("dict[str, Any]", found) if isinstance(found, dict) else header

    def _read(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        room = memoryview(bytearray(count))
        at = 0
        while at < count and self._stream is not None:
            got = self._stream.readinto(room[at:])
            if got == 0:
                raise ConnectionError("the daemon closed the connection")
            at += got
        return bytes(room)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Stream(io.RawIOBase):
    """A connected socket that gives up at a point in time, however steadily it drips.

    Offers what ``http.client`` needs of a socket; its own time-outs count from piece to piece.
    """

    def __init__(self, link: socket.socket) -> None:
        super().__init__()
        self._link = link
        self.until = 0.0

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._link.settimeout(self._left())
        self._link.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._link.settimeout(self._left())
        return self._link.recv_into(room)

    def makefile(self, *_: object) -> io.BufferedReader:
        """Something to read one answer from; closing it leaves the connection open."""
        return io.BufferedReader(_Borrowed(self))

    def close(self) -> None:
        self._link.close()
        super().close()

    def _left(self) -> float:
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Borrowed(io.RawIOBase):
    """Reads from a stream that stays open when this is closed."""

    def __init__(self, stream: _Stream) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._stream.readinto(room)


def _loaded(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TransportError(f"a problem that is not JSON: {error}") from error
