"""Reads a whole audit: which records count, and whether any was changed, lost or put in.

The newest segment's header names the segment before it and the record up to which that one counts,
and so on backwards; what no header names does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .codec import Event, Header, Link, Record, Recorded
from .segments import AuditError, Segment, segment_name, segments


@dataclass(frozen=True, slots=True)
class Line:
    """A record and where it stands: ``segment`` and ``number`` count from 1."""

    segment: int
    number: int
    header: Header
    record: Event | Recorded


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment on the way from the newest to the oldest; ``after``: what the next one says."""

    number: int
    path: Path
    after: Link | None


class Log:
    """The records of one domain, oldest first.

    Args:
        folder: of the audit.
        domain: whose.

    Iterate over :meth:`lines` to the end; then ``faults`` says what must not be (empty: the chain
    holds) and ``notes`` what is worth knowing (torn ends of crashed runs, deleted old segments).
    """

    def __init__(self, folder: Path | str, domain: str) -> None:
        self.folder, self.domain = Path(folder), domain
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.segments = 0
        self._known = dict(segments(self.folder, domain).get(domain, []))

    def lines(self) -> Iterator[Line]:
        """All records that count.

        Raises:
            AuditError: a file cannot be read, or holds a record that does not decode.
        """
        chain: bytes | None = None
        for part in self._parts():
            segment = Segment(part.path, chain)
            yield from self._counting(segment, part)
            self._judge(segment, part)
            # After a fault the chain goes on from the next header's own word.
            said = None if part.after is None else bytes.fromhex(part.after.chain)
            chain = segment.ending.chain if segment.ending.chain == said else None
            self.segments += 1

    def _counting(self, segment: Segment, part: _Part) -> Iterator[Line]:
        header: Header | None = None
        most = None if part.after is None else part.after.records
        for index, record in enumerate(_until(segment, most), 1):
            if header is None:
                if not isinstance(record, Header):
                    raise AuditError(f"{part.path} does not begin with a header")
                if (record.domain, record.number) != (self.domain, part.number):
                    self.faults.append(
                        f"{part.path.name}: its header is that of "
                        f"{segment_name(record.domain, record.number)}"
                    )
                header = record
            elif isinstance(record, Header):
                self.faults.append(f"{part.path.name}, record {index}: a second header")
            else:
                yield Line(part.number, index, header, record)

    def _judge(self, segment: Segment, part: _Part) -> None:
        name, ending, after = part.path.name, segment.ending, part.after
        if after is None:
            if ending.tail == "torn":
                self.notes.append(f"{name} ends torn after record {ending.records}: {ending.why}")
            elif ending.tail == "damaged":
                self.faults.append(f"{name} is damaged after record {ending.records}: {ending.why}")
            return
        if ending.records < after.records:
            why = ending.why or "the file ends there"
            self.faults.append(
                f"{name} ends at record {ending.records} ({why}), but the next segment goes on "
                f"from record {after.records}"
            )
        elif ending.chain.hex() != after.chain:
            self.faults.append(f"{name}: the next segment does not follow from its last record")
        elif after.rest == "damaged":
            self.faults.append(
                f"{name} was damaged after record {ending.records} when the daemon started again"
            )
        elif after.rest != "whole":
            self.notes.append(f"{name}: {after.rest} after record {ending.records}")
        elif ending.rest:
            self.faults.append(
                f"{name} goes on after record {ending.records}, where the next segment begins"
            )

    def _parts(self) -> list[_Part]:
        """Segments that count, oldest first."""
        headers = {number: _header_of(path) for number, path in self._known.items()}
        readable = [number for number, header in headers.items() if header is not None]
        if not readable:
            if self._known:
                self.faults.append(f"no segment of {self.domain} has a readable header")
            return []
        found: list[_Part] = []
        number, after = max(readable), None
        while number in self._known:
            found.append(_Part(number, self._known[number], after))
            header = headers[number]
            after = None if header is None else header.link
            if after is None:
                # Its reading will say what is wrong; what comes before it is still worth reading.
                lower = [other for other in readable if other < number]
                number, after = (max(lower), None) if lower else (0, None)
                continue
            number = after.segment
        if number:
            self._missing(number)
        self._left_out(headers, {part.number for part in found})
        return found[::-1]

    def _missing(self, number: int) -> None:
        name = segment_name(self.domain, number)
        if number > min(self._known):
            self.faults.append(f"{name} is missing, and with it all that came before")
        else:
            self.notes.append(f"{name} and older ones are not there any more")

    def _left_out(self, headers: dict[int, Header | None], used: set[int]) -> None:
        for number in sorted(set(self._known) - used):
            name = self._known[number].name
            if headers[number] is None and number > max(used):
                tail = _tail_of(self._known[number])
                known = self.notes if tail == "torn" else self.faults
                known.append(f"{name} has no readable header ({tail})")
            else:
                self.notes.append(f"{name} does not count: it was given up before its first flush")


def domains_in(folder: Path | str) -> tuple[str, ...]:
    """Whose segments lie in the folder; ``AuditError`` if it cannot be read."""
    return tuple(segments(Path(folder)))


def _until(segment: Segment, most: int | None) -> Iterator[Record]:
    for count, record in enumerate(segment.records(), 1):
        yield record
        if count == most:
            return


def _header_of(path: Path) -> Header | None:
    segment = Segment(path)
    try:
        first = next(segment.records(), None)
    except AuditError:
        return None
    return first if isinstance(first, Header) else None


def _tail_of(path: Path) -> str:
    segment = Segment(path)
    next(segment.payloads(), None)
    return segment.ending.tail
