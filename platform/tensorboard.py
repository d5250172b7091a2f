"""A run's figures as TensorBoard event files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard.writer import SummaryWriter

from .files import UserError


class EventFiles:
    """Writes scalars to ``folder``; on resume, hides what was written ``after`` the checkpoint.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, after: int | None = None):
        purge = None if after is None else after + 1
        try:
            self._writer = SummaryWriter(str(folder), purge_step=purge)
        except OSError as error:
            raise UserError(f"cannot write event files to {folder}: {error.strerror}") from error

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the finite figures of one step and flush them."""
        for name, value in figures.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
