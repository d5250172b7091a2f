"""Wide CSV files of numbers (one column per unit, area or branch), read fast, refused exactly."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Doubles
from ...tables import open_text


@dataclass(frozen=True, slots=True)
class Columns:
    """``keys``: columns of text that were asked for; ``values``: all others, ``[rows]`` each."""

    file: Path
    rows: int
    keys: dict[str, list[str]]
    values: dict[str, Doubles]

    def select(self, names: Sequence[str]) -> Doubles:
        """``[rows, names]``.

        Raises:
            DataError: a name without a column.
        """
        for name in names:
            if name not in self.values:
                accepted = "this column is required in the header line"
                raise DataError(self.file, line=1, field=name, accepted=accepted)
        if not names:
            return np.zeros((self.rows, 0))
        return np.stack([self.values[name] for name in names], axis=1)


def read_columns(path: str | Path, keys: tuple[str, ...]) -> Columns:
    """Read a CSV file (plain or gzip) whose columns other than ``keys`` are finite numbers.

    Raises:
        DataError: a missing key column, no rows, lines of different length, or a cell that is
            empty, NaN or no number (the first one is named).
    """
    import polars as pl

    path = Path(path)
    with open_text(path) as stream:
        text = stream.read()
    try:
        frame = pl.read_csv(io.StringIO(text), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(path, accepted=f"not valid CSV ({str(error).splitlines()[0]})") from error
    for key in keys:
        if key not in frame.columns:
            accepted = "this column is required in the header line"
            raise DataError(path, line=1, field=key, accepted=accepted)
    if frame.height == 0:
        raise DataError(path, line=1, accepted="no rows; a header line and rows are expected")
    numbers = frame.drop(keys).with_columns(
        pl.all().str.strip_chars().cast(pl.Float64, strict=False)
    )
    values: dict[str, Doubles] = {}
    for column in numbers.get_columns():
        cells = column.to_numpy().astype(np.float64)
        if not np.isfinite(cells).all():
            row = int(np.argmin(np.isfinite(cells)))
            raise DataError(
                path,
                line=row + 2,
                field=column.name,
                value=frame[column.name][row],
                accepted="a finite number is expected",
            )
        values[column.name] = cells
    found = {key: frame[key].to_list() for key in keys}
    return Columns(path, frame.height, found, values)
