"""Shared memory for one worker's recorded episode: big arrays never pass through a pipe.

The parent creates a segment, the worker attaches, and the parent removes the name as soon as the
worker says so. From then on the memory belongs to the two mappings alone: whatever dies in
whichever way, the system frees it, and nothing stays behind in the shared-memory file system.
"""

from __future__ import annotations

import os
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .episodes import Layout, assemble
from .files import UserError
from .tasks import Episode

_ALIGNMENT = 64
_MOUNT = Path("/dev/shm")  # noqa: S108 where Linux keeps shared memory


def size_of(layout: Layout) -> int:
    """Bytes of a segment that holds ``layout``."""
    return max(1, sum(_room(shape, kind) for shape, kind in layout.values()))


def view(memory: SharedMemory, layout: Layout) -> dict[str, NDArray[Any]]:
    """The segment seen as arrays; drop every view before closing the segment."""
    arrays: dict[str, NDArray[Any]] = {}
    offset = 0
    for name, (shape, kind) in layout.items():
        arrays[name] = np.ndarray(shape, kind, buffer=memory.buf, offset=offset)
        offset += _room(shape, kind)
    return arrays


class Segment:
    """The parent's side: create, hand the name to a worker, :meth:`detach`, read copies."""

    def __init__(self, layout: Layout):
        size = size_of(layout)
        _check_room(size)
        self._layout = layout
        self._memory = SharedMemory(create=True, size=size)
        self._named = True

    @property
    def name(self) -> str:
        return self._memory.name

    def detach(self) -> None:
        """Remove the name; call it once the worker has attached (or is gone)."""
        if self._named:
            self._named = False
            self._memory.unlink()

    def copy(self) -> Episode:
        """A copy of the arrays as they are now."""
        seen = view(self._memory, self._layout)
        return assemble({name: array.copy() for name, array in seen.items()})

    def close(self) -> None:
        self.detach()
        self._memory.close()


def _room(shape: tuple[int, ...], kind: np.dtype[np.generic]) -> int:
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _check_room(size: int) -> None:
    # A segment larger than the file system is created without complaint and kills its first
    # writer with a bus error, so ask beforehand. Containers often have 64 MiB here.
    if os.name == "posix" and _MOUNT.is_dir():
        free = disk_usage(_MOUNT).free
        if free < size:
            raise UserError(
                f"shared memory {_MOUNT} has {free / 2**20:.0f} MiB free and an episode needs "
                f"{size / 2**20:.0f} MiB; enlarge it (containers: --shm-size), use fewer workers, "
                "or set executor=inline"
            )
