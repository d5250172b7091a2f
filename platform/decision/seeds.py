"""Where the randomness of a decision comes from, so that clients and replays can recompute it."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, cast

import numpy as np

from .types import Request

POLICY, BASELINE = 0xF1EE, 0xBA5E
"""Streams of one decision's seed: the policy's sampling, and the fallback rule's."""


def seed_of(request: Request, ticks: int = 0) -> int:
    """Seed of a decision, below 2**63.

    That of the request, else a hash of client, episode and seq. An unordered request (seq below 0)
    has nothing that tells it from the one before, so that the number of decisions made, ``ticks``,
    goes in as well: equal noise in all of them would not be sampling.
    """
    if request.seed is not None:
        return request.seed
    client, episode = request.client, request.episode
    order = f"{request.seq}" if request.seq >= 0 else f"{request.seq}@{ticks}"
    identity = f"{len(client)}:{client}{len(episode)}:{episode}{order}"
    return int.from_bytes(blake2b(identity.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, stream: int = POLICY) -> np.random.Generator:
    """Generator of one decision; used for exactly one call of the policy (or of the rule)."""
    return np.random.default_rng(np.random.SeedSequence([seed, stream]))


def late_generator(seed: int, stream: int) -> np.random.Generator:
    """As :func:`generator`, but seeded when it is first used.

    Most fallback rules draw nothing, and seeding takes as long as some of them do.
    """
    return cast("np.random.Generator", _Late(seed, stream))


class _Late:
    __slots__ = ("_identity", "_made")

    def __init__(self, seed: int, stream: int) -> None:
        self._identity = seed, stream
        self._made: np.random.Generator | None = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = generator(*self._identity)
        return getattr(self._made, name)
