"""The one error of the importers: says where the bad value is and what would be accepted."""

from __future__ import annotations

from functools import partial
from pathlib import Path


class DataError(ValueError):
    """Input data that cannot be used.

    Attributes:
        file: path of the file or folder.
        line: 1-based line in the (uncompressed) file, ``None`` if the file as a whole is meant.
        field: column or field, ``None`` if the line as a whole is meant.
        value: the offending text, ``None`` if there is none.
        accepted: what would have been accepted, or the remedy.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        accepted: str,
        line: int | None = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        self.file = str(file)
        self.line = line
        self.field = field
        self.value = value
        self.accepted = accepted
        place = self.file if line is None else f"{self.file}, line {line}"
        if field is not None:
            place += f", field {field!r}"
        found = "" if value is None else f"found {_short(value)}; "
        super().__init__(f"{place}: {found}{accepted}")

    def __reduce__(self) -> tuple[object, ...]:
        # The constructor takes keywords only; without this the error could not leave a worker.
        build = partial(
            type(self), accepted=self.accepted, line=self.line, field=self.field, value=self.value
        )
        return build, (self.file,)


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."
