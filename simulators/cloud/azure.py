"""Requests to a language-model service, in the layout of Azure's public LLM inference traces.

Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting" (ISCA 2024):
one row per request with its arrival time and its numbers of context and generated tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from ..interface import Doubles, Ints
from ..tables import Table, read_table

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True, slots=True)
class LlmTrace:
    """Requests in order of arrival.

    Attributes:
        arrival: ``[requests]`` seconds since the first request, non-decreasing.
        context_tokens: ``[requests]`` tokens of the prompt.
        generated_tokens: ``[requests]`` tokens of the answer.
    """

    arrival: Doubles
    context_tokens: Ints
    generated_tokens: Ints

    @property
    def requests(self) -> int:
        return int(self.arrival.shape[0])


def read_azure_llm(path: str | Path) -> LlmTrace:
    """Read an Azure LLM trace (plain or gzip).

    Raises:
        DataError: missing column, no time stamp (``YYYY-MM-DD HH:MM:SS.fraction``, with or without
            an offset from UTC), a time stamp before its predecessor's, or no whole number.
    """
    table = read_table(path, COLUMNS)
    arrival = _seconds(table)
    backwards = np.diff(arrival, prepend=arrival[0]) < 0
    if backwards.any():
        row = int(np.argmax(backwards))
        table.fail(row, "TIMESTAMP", "a time not before the previous row's is expected")
    return LlmTrace(
        arrival=arrival - arrival[0],
        context_tokens=table.integers("ContextTokens"),
        generated_tokens=table.integers("GeneratedTokens"),
    )


def _seconds(table: Table) -> Doubles:
    """Seconds since the first row's whole second; sub-microsecond digits are kept."""
    values = np.empty(table.rows, dtype=np.float64)
    origin: datetime | None = None
    for row, cell in enumerate(table.text("TIMESTAMP")):
        try:
            whole, fraction, offset = _split(cell)
            moment = datetime.fromisoformat(whole + offset)
            origin = origin or moment
            values[row] = (moment - origin).total_seconds() + fraction
        except (ValueError, TypeError):
            table.fail(row, "TIMESTAMP", "YYYY-MM-DD HH:MM:SS.fraction is expected")
    return values


def _split(stamp: str) -> tuple[str, float, str]:
    """A time stamp's whole seconds, fraction and offset; the fraction may have any length."""
    whole, rest = stamp[:19], stamp[19:]
    digits = len(rest)
    for position, character in enumerate(rest):
        if position and not character.isdigit():
            digits = position
            break
    if rest.startswith("."):
        return whole, float("0" + rest[:digits]), rest[digits:]
    return whole, 0.0, rest
