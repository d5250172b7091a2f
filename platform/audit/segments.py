"""Segment files: frames with a checksum, chained by hash from record to record and file to file.

``DOMAIN-NNNNNN.log`` holds eight bytes of magic and then frames::

    u32   length of the payload
    u32   CRC-32 of the payload
    32    chain hash: blake2b(chain hash of the record before + payload)
    u32   CRC-32 of the 40 bytes so far, so that a wrong length is not taken for a torn record
    ...   payload (:mod:`.tensors`)

The first payload is the segment's header, which names the record of the segment before from which
the chain goes on. The checksum tells torn from whole; the chain tells that no record was changed,
taken out or put in. Who can rewrite a whole folder can also compute a new chain: to exclude that,
keep the head of the chain (``AuditWriter.head``) somewhere else as well.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from ..files import UserError
from .codec import Header, Record, decode
from .tensors import MAX_PAYLOAD, RecordError

MAGIC = b"FLAUDIT1"
CHAIN = 32
_FRAME = struct.Struct("<II")
_CHECK = struct.Struct("<I")
OVERHEAD = _FRAME.size + CHAIN + _CHECK.size
"""Bytes of a frame besides its payload."""

_NAME = re.compile(r"(?P<domain>[a-z][a-z0-9_]*)-(?P<number>[0-9]{6})\.log")
DAEMON = "daemon"
"""Whose segments hold the events that concern no single domain."""


class AuditError(UserError):
    """An audit that cannot be read; names the file and what is wrong with it."""


def segment_name(domain: str, number: int) -> str:
    """File name of a segment; ``AuditError`` for what is no name of a domain."""
    name = f"{domain}-{number:06d}.log"
    if not _NAME.fullmatch(name):
        raise AuditError(f"{domain!r} is not a name of a domain, or {number} beyond 999999")
    return name


def segments(folder: Path, domain: str | None = None) -> dict[str, list[tuple[int, Path]]]:
    """Numbers and files of the segments in a folder by domain, in order.

    Raises:
        AuditError: the folder cannot be read.
    """
    found: dict[str, list[tuple[int, Path]]] = {}
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise AuditError(f"cannot read audit folder {folder}: {error.strerror}") from error
    for name in names:
        match = _NAME.fullmatch(name)
        if match and domain in (None, match["domain"]):
            found.setdefault(match["domain"], []).append((int(match["number"]), folder / name))
    return found


def link_hash(chain: bytes, payload: bytes) -> bytes:
    """Chain hash after ``payload``."""
    known = hashlib.blake2b(chain, digest_size=CHAIN)
    known.update(payload)
    return known.digest()


def frame_head(chain: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """What stands before a payload, and the chain hash after it."""
    after = link_hash(chain, payload)
    head = _FRAME.pack(len(payload), zlib.crc32(payload)) + after
    return head + _CHECK.pack(zlib.crc32(head)), after


Tail = Literal["whole", "torn", "damaged"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a segment ends.

    Attributes:
        tail: ``whole``; ``torn``: the rest is the beginning of a frame, or zeros that the file
            system left there; ``damaged``: the rest is something else.
        records: whole records, header included.
        offset: bytes up to the end of the last of them.
        rest: bytes after it.
        chain: chain hash after it.
        why: what is wrong with the rest; empty if nothing is.
    """

    tail: Tail
    records: int
    offset: int
    rest: int
    chain: bytes
    why: str = ""


class Segment:
    """Reads one segment front to back; stops before the first byte that is not right.

    Args:
        path: of the file.
        chain: chain hash that the header must follow; ``None``: take the header's own word.

    Iterate over :meth:`payloads` (or :meth:`records`) until it ends, then look at ``ending``.
    """

    def __init__(self, path: Path, chain: bytes | None = None) -> None:
        self.path = path
        self.ending = Ending("whole", 0, 0, 0, chain or b"")
        self._expected = chain

    def records(self) -> Iterator[Record]:
        """Decoded records, the header first.

        Raises:
            AuditError: the file cannot be read, or a record with a right checksum does not decode.
        """
        for number, payload in enumerate(self.payloads(), 1):
            try:
                yield decode(payload)
            except RecordError as error:
                raise AuditError(f"{self.path}, record {number}: {error}") from error

    def payloads(self) -> Iterator[bytes]:
        """Payloads with right checksums and chain; ``AuditError`` if the file cannot be read."""
        try:
            with self.path.open("rb") as stream:
                yield from self._payloads(stream, self.path.stat().st_size)
        except OSError as error:
            raise AuditError(f"cannot read {self.path}: {error.strerror}") from error

    def _payloads(self, stream: BinaryIO, size: int) -> Iterator[bytes]:
        magic = stream.read(len(MAGIC))
        if magic != MAGIC:
            short = MAGIC.startswith(magic) or not any(magic)
            self._end(0, 0, size, b"", "no segment of an audit", "torn" if short else "damaged")
            return
        offset, records, chain = len(MAGIC), 0, self._expected
        while offset < size:
            payload, after, why, tail = self._next(stream, size - offset, chain)
            if payload is None:
                self._end(records, offset, size - offset, chain or b"", why, tail)
                return
            chain, records = after, records + 1
            offset += OVERHEAD + len(payload)
            self._end(records, offset, size - offset, chain, "", "whole")
            yield payload

    def _next(
        self, stream: BinaryIO, rest: int, chain: bytes | None
    ) -> tuple[bytes | None, bytes, str, Tail]:
        head = stream.read(OVERHEAD)
        length, why, tail = _size(head, stream, rest)
        if why:
            return None, b"", why, tail
        payload = stream.read(length)
        if len(payload) != length or zlib.crc32(payload) != _FRAME.unpack_from(head)[1]:
            return None, b"", "a record with a wrong checksum", "damaged"
        after = head[_FRAME.size : _FRAME.size + CHAIN]
        if chain is None:
            header = _header(payload)
            chain = b"" if header is None else bytes.fromhex(header.link.chain)
        if link_hash(chain, payload) != after:
            return None, b"", "a record that does not follow from the one before it", "damaged"
        return payload, after, "", "whole"

    def _end(
        self, records: int, offset: int, rest: int, chain: bytes, why: str, tail: Tail
    ) -> None:
        self.ending = Ending(tail, records, offset, rest, chain, why)


def _size(head: bytes, stream: BinaryIO, rest: int) -> tuple[int, str, Tail]:
    """Length of the payload after ``head``, or what is wrong."""
    if len(head) < OVERHEAD:
        return 0, f"{rest} bytes of an unfinished record", "torn"
    if not any(head):
        blocks = iter(lambda: stream.read(2**20), b"")
        zeros = not any(any(block) for block in blocks)
        return 0, "zeros instead of a record", "torn" if zeros else "damaged"
    length, _ = _FRAME.unpack_from(head)
    checksum = _CHECK.unpack_from(head, OVERHEAD - _CHECK.size)[0]
    if zlib.crc32(head[: -_CHECK.size]) != checksum or length > MAX_PAYLOAD:
        return 0, "a record whose beginning is wrong", "damaged"
    if OVERHEAD + length > rest:
        return 0, f"{rest} bytes of an unfinished record", "torn"
    return length, "", "whole"


def _header(payload: bytes) -> Header | None:
    try:
        record = decode(payload)
    except RecordError:
        return None  # the record is refused for its chain, which is then that of nothing
    return record if isinstance(record, Header) else None


def last_link(path: Path) -> tuple[Header | None, Ending]:
    """Header and ending of a segment, for going on from it."""
    segment = Segment(path)
    header: Header | None = None
    for index, payload in enumerate(segment.payloads()):
        if index == 0:
            header = _header(payload)
    return header, segment.ending
