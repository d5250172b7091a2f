"""Who asks, and whether they may: tokens, client certificates, loopback, the admin socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .tokens import Keyring, Principal

LOCAL = Principal("local", frozenset({"read", "infer"}))
"""Loopback and unix-socket peers while no tokens are configured."""

ADMIN = Principal("admin-socket", frozenset({"read", "infer", "admin"}))
"""Whoever the file system lets open the admin socket (mode 0600)."""

OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Paths for everybody: supervisors and load balancers hold no token and learn one bit."""

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Denied(Exception):  # noqa: N818
    """Not allowed.

    Attributes:
        status: 401 (who are you?) or 403 (not you).
        code: ``unauthenticated``, ``scope``, ``origin`` or ``host``.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def required(method: str, path: str) -> str | None:
    """The scope that a request needs; ``None`` for the open paths.

    Whatever is not known to be harmless needs more: an unknown method changes something, so a
    route that is added later is never open by accident.
    """
    if path in OPEN and method in _READING:
        return None
    if path == "/v1/admin" or path.startswith("/v1/admin/"):
        return "admin"
    return "read" if method in _READING else "infer"


@dataclass(slots=True)
class Doorkeeper:
    """Decides for one listening socket.

    Attributes:
        keyring: tokens; replaced as a whole on SIGHUP.
        tokens: whether a token file is configured (an empty one lets nobody in).
        trusted: the socket is the admin socket.
        certificates: client certificates are required by TLS; their holders read and infer.
        hosts: host names by which this socket may be addressed besides loopback's.
    """

    keyring: Keyring = field(default_factory=Keyring)
    tokens: bool = False
    trusted: bool = False
    certificates: bool = False
    hosts: frozenset[str] = frozenset()

    def admit(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], need: str | None
    ) -> Principal:
        """The principal of a request that has the scope ``need``.

        Raises:
            Denied: with the status and code to answer.
        """
        if need is None:
            return LOCAL
        principal = self.identify(scope, headers)
        if need not in principal.scopes:
            raise Denied(403, "scope", f"{principal.name!r} lacks the scope {need!r}")
        return principal

    def identify(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Principal:
        """Who asks, whatever for."""
        if self.trusted:
            return ADMIN
        if self.tokens:
            return self._bearer(headers.get(b"authorization"))
        subject = scope.get("fairlead.subject")
        if self.certificates:
            if not subject:
                raise Denied(401, "unauthenticated", "a client certificate is required")
            return Principal(str(subject), LOCAL.scopes)
        client = scope.get("client")
        # A unix socket has no address. Other peers cannot be there: the configuration refuses to
        # listen elsewhere without tokens. Checked again because that is what all rests on.
        if client is not None and client[0] not in _LOOPBACK:
            raise Denied(401, "unauthenticated", "no tokens are configured: loopback only")
        self._own_page_only(headers)
        return LOCAL

    def _bearer(self, value: bytes | None) -> Principal:
        scheme, _, token = (value or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Denied(401, "unauthenticated", "send 'Authorization: Bearer TOKEN'")
        principal = self.keyring.find(token.strip())
        if principal is None:
            raise Denied(401, "unauthenticated", "unknown token")
        return principal

    def _own_page_only(self, headers: Mapping[bytes, bytes]) -> None:
        # Without tokens a browser on this machine is trusted, so foreign pages in it must not be:
        # neither by a request across origins nor by a name that was re-bound to loopback.
        host = headers.get(b"host")
        if host is not None and not self._known(host):
            raise Denied(403, "host", "this service is not known by the name in 'Host'")
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            raise Denied(403, "origin", "requests from other origins need a token")

    def _known(self, host: bytes) -> bool:
        name = host.decode("latin-1").lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        return name in _LOOPBACK or name in self.hosts
