"""One domain's records on their way into segment files, and what is known to be on disk.

After a failed flush nobody knows what the disk holds, and a second flush of the same file may
report success without having written anything (the lesson of PostgreSQL's "fsyncgate"). So a
failed write or flush ends its segment: what was not known to be on disk stays in memory and is
written again into a new segment, whose header says up to which record the old one counts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .codec import Header, Link, encode_header
from .segments import MAGIC, frame_head, last_link, segment_name, segments

_PARTS = 512
"""Buffers of one call; systems take 1024."""

_log = logging.getLogger(__name__)


class Stream:
    """Appends payloads to the segments of one domain; used by one thread.

    Args:
        folder: of the audit; must exist.
        domain: in the files' names.
        boot: id of the daemon's run.
        limit: size at which a new segment begins, bytes.
        keep: how many full segments' worth of files is kept; 0: all.

    ``pending`` holds what was put in and is not yet known to be on disk; ``records`` and ``bytes``
    count what is.
    """

    def __init__(self, folder: Path, domain: str, *, boot: str, limit: int, keep: int) -> None:
        self._folder, self._domain, self._boot = folder, domain, boot
        self._limit, self._keep = limit, keep
        self.context: Mapping[str, Any] = {}
        self.pending: list[bytes] = []
        self._written = 0  # of the pending ones
        self._file: int | None = None
        self._size = 0
        self._number: int | None = None  # of the newest file; None: the folder was not read yet
        self._link = Link()  # what is known to be on disk
        self._records, self._chain = 0, b""
        self.records = self.bytes = 0

    @property
    def head(self) -> Link:
        """The newest record known to be on disk."""
        return self._link

    def renew(self) -> None:
        """Begin a new segment with the next record (the context has changed)."""
        self._size = self._limit

    def write(self, wall: float) -> None:
        """Hand everything pending to the operating system.

        Raises:
            OSError: that failed; the segment has been given up, everything is pending still.
        """
        try:
            while self._written < len(self.pending):
                if self._file is None or self._size >= self._limit:
                    self._next_segment(wall)
                self._write_some()
        except OSError:
            self._give_up()
            raise

    def sync(self) -> None:
        """Flush what was written to the disk.

        Raises:
            OSError: that failed; the segment has been given up, everything is pending still.
        """
        if self._file is None or not self._written:
            return
        try:
            self._flush(self._file)
        except OSError:
            self._give_up()
            raise

    def close(self) -> None:
        """Close the file; flushes nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write_some(self) -> None:
        """As many pending records as the segment takes, in one go."""
        assert self._file is not None  # noqa: S101
        parts: list[bytes] = []
        chain, size = self._chain, self._size
        for payload in self.pending[self._written :]:
            if parts and size >= self._limit:
                break
            head, chain = frame_head(chain, payload)
            parts += (head, payload)
            size += len(head) + len(payload)
        _write_all(self._file, parts)
        self._chain, self._size = chain, size
        self._records += len(parts) // 2
        self._written += len(parts) // 2

    def _next_segment(self, wall: float) -> None:
        if self._file is not None:
            self._flush(self._file)  # what the new header refers to must be on disk before it
            self.close()
        if self._number is None:
            self._recover()
        number = (self._number or 0) + 1
        path = self._folder / segment_name(self._domain, number)
        header = Header(self._domain, number, self._boot, wall, self._link, self.context)
        before = bytes.fromhex(self._link.chain)
        payload = encode_header(header)
        head, chain = frame_head(before, payload)
        parts = [MAGIC, head, payload]
        self._number = number  # a number is used once, even if the file comes to nothing
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(path, flags, 0o640)
        _write_all(self._file, parts)
        os.fsync(self._file)
        _sync_folder(self._folder)
        self._size, self._records, self._chain = sum(map(len, parts)), 1, chain
        self._link = Link(number, 1, chain.hex())
        self._delete_old()

    def _flush(self, file: int) -> None:
        os.fsync(file)
        self.records += self._written
        self.bytes += sum(map(len, self.pending[: self._written]))
        del self.pending[: self._written]
        self._written = 0
        self._link = Link(self._number or 0, self._records, self._chain.hex())

    def _give_up(self) -> None:
        """Leave the segment; nothing in it counts beyond the last good flush."""
        self._written = 0
        if self._link.segment == self._number and self._number:
            self._link = replace(self._link, rest="doubtful")
        try:
            self.close()
        except OSError as error:
            # Closing may report the same failure again; the descriptor is gone either way.
            self._file = None
            _log.warning("closing a segment of %s: %s", self._domain, error)

    def _recover(self) -> None:
        """Find where the chain of an earlier run ends; the newest readable header decides."""
        known = segments(self._folder, self._domain).get(self._domain, [])
        for _, path in reversed(known):
            header, ending = last_link(path)
            if header is not None:
                number = header.number
                self._link = Link(number, ending.records, ending.chain.hex(), ending.tail)
                break
        self._number = known[-1][0] if known else 0

    def _delete_old(self) -> None:
        if not self._keep:
            return
        known = segments(self._folder, self._domain)[self._domain]
        try:
            sizes = [path.stat().st_size for _, path in known]
            while len(known) > 1 and sum(sizes) > self._keep * self._limit:
                known.pop(0)[1].unlink()
                sizes.pop(0)
        except OSError as error:
            # Room that is not made is no reason to lose what is to be written.
            _log.warning("old segments of %s cannot be deleted: %s", self._domain, error)


def _write_all(file: int, parts: list[bytes]) -> None:
    """Write without joining: copying megabytes would hold the interpreter's lock meanwhile."""
    waiting: list[bytes | memoryview] = list(parts)
    while waiting:
        written = os.writev(file, waiting[:_PARTS])
        done = 0
        while done < len(waiting) and written >= len(waiting[done]):
            written -= len(waiting[done])
            done += 1
        del waiting[:done]
        if written:
            waiting[0] = memoryview(waiting[0])[written:]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
