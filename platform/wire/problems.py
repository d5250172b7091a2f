"""What went wrong, as RFC 9457 problem details (``application/problem+json``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson

from ..decision.types import Rejected

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:fairlead:problem:"

CODES: Mapping[str, tuple[int, str, bool]] = {
    "json": (400, "The body is not JSON as expected", False),
    "frame": (400, "The body is not a frame", False),
    "field": (400, "A field is missing or has the wrong form", False),
    "parameter": (400, "A parameter has the wrong type or range", False),
    "missing": (400, "A tensor is missing", False),
    "unknown": (400, "A name that has no meaning here", False),
    "shape": (400, "A tensor has the wrong shape", False),
    "dtype": (400, "A tensor has the wrong type", False),
    "agents": (400, "It is not clear which agents are meant", False),
    "mask": (422, "The mask leaves an agent without a legal action", False),
    "box": (422, "A feasible box is empty", False),
    "finite": (422, "A number is not finite", False),
    "version": (409, "Another bundle serves this domain", True),
    "order": (409, "The sequence number is not newer than the last one", False),
    "auth": (401, "No valid token", False),
    "scope": (403, "The token lacks the scope", False),
    "not_found": (404, "There is nothing here", False),
    "method": (405, "The method is not allowed here", False),
    "timeout": (408, "The request was not received in time", True),
    "size": (413, "The request is too large", False),
    "media": (415, "The content type or encoding is not accepted", False),
    "quota": (429, "Too many requests of one principal", True),
    "internal": (500, "A defect of the server", True),
    "not_ready": (503, "The domain is not ready", True),
    "overload": (503, "Too many requests wait", True),
    "drain": (503, "The server is draining", True),
    "audit": (503, "Decisions cannot be recorded", True),
}
"""Machine-readable code to its usual status, title, and whether asking again can help."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal, as clients read it.

    Attributes:
        status: HTTP status.
        code: machine-readable cause, a key of :data:`CODES` or a new one.
        detail: what is wrong, in words, with the remedy.
        retryable: whether the same request may succeed later.
        decision: id of the decision it is about, empty if there is none.
        retry_after: seconds to wait before asking again; ``None``: not said.
        title: of the kind of problem.
    """

    status: int
    code: str
    detail: str
    retryable: bool = False
    decision: str = ""
    retry_after: int | None = None
    title: str = field(default="")

    @classmethod
    def of(
        cls,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        decision: str = "",
        retry_after: int | None = None,
    ) -> Problem:
        """The problem of a known code; ``status`` wins over its usual one."""
        usual = CODES.get(code)
        number = status or (400 if usual is None else usual[0])
        title = HTTPStatus(number).phrase if usual is None else usual[1]
        retryable = number in {408, 429, 503} if usual is None else usual[2]
        return cls(number, code, detail, retryable, decision, retry_after, title)

    @classmethod
    def rejected(cls, error: Rejected) -> Problem:
        """The problem behind a refused request."""
        return cls.of(error.code, str(error), status=error.status)

    def view(self) -> dict[str, Any]:
        """JSON-able.

        ``error`` repeats the detail: the Open Inference Protocol's clients read that member.
        """
        found: dict[str, Any] = {
            "type": f"{TYPE}{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retryable": self.retryable,
            "error": f"{self.code}: {self.detail}",
        }
        if self.decision:
            found["decision_id"] = self.decision
        return found

    def body(self) -> bytes:
        """As UTF-8 JSON."""
        return orjson.dumps(self.view())

    def headers(self) -> dict[str, str]:
        """Content type, and when to ask again where that is known."""
        found = {"Content-Type": MEDIA_TYPE}
        if self.retry_after is not None:
            found["Retry-After"] = str(self.retry_after)
        return found
