"""Named random streams, all derived from one seed.

Every source of randomness of an episode (arrivals, sizes, candidate samples, failures ...) draws
from a stream of its own. Two policies that act on the same seed therefore meet the same arrivals
and the same failures (common random numbers), and adding a source changes no other one.
"""

from __future__ import annotations

import hashlib

import numpy as np


class Streams:
    """Independent generators by name; the same ``(seed, name)`` always starts the same stream.

    The name enters ``numpy.random.SeedSequence`` as a spawn key (128 bits of its SHA-256), so
    streams are independent of each other and of the order in which they are asked for.
    """

    __slots__ = ("seed",)

    def __init__(self, seed: int):
        if seed < 0:
            raise ValueError(f"seed must be a non-negative integer, got {seed}")
        self.seed = int(seed)

    def generator(self, name: str) -> np.random.Generator:
        """A fresh generator at the start of the stream ``name``."""
        digest = hashlib.sha256(name.encode()).digest()
        key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
