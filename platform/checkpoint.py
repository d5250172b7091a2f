"""Checkpoints: everything an exact resume needs, written whole or not at all, verified on load.

A checkpoint is a folder named by its iteration::

    000012/tensors.safetensors   arrays
    000012/counters.json         everything else
    000012/SHA256SUMS            digests of the two (readable by sha256sum --check)

It is written under another name, flushed to disk and renamed, so a crash leaves the old ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from .files import UserError, make_folder, write_atomic

TENSORS, COUNTERS, DIGESTS = "tensors.safetensors", "counters.json", "SHA256SUMS"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after ``iteration`` completed iterations: arrays by name, and JSON-able values."""

    iteration: int
    tensors: Mapping[str, NDArray[np.generic]]
    counters: Mapping[str, Any]


class CheckpointStore:
    """The checkpoints of one run; keeps the newest ``keep`` and the best one.

    Raises:
        UserError: the folder cannot be created or written.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = make_folder(folder)
        self._keep = keep
        for leftover in (*self.folder.glob(".*.tmp"), *self.folder.glob(".*.old")):
            _remove(leftover)

    def iterations(self) -> list[int]:
        """Iterations of the stored checkpoints, oldest first."""
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def save(self, checkpoint: Checkpoint, *, best: int | None = None) -> None:
        """Store ``checkpoint`` and remove all but the newest and ``best`` (an iteration).

        Raises:
            UserError: it could not be written; the earlier ones are untouched.
        """
        path = self.path(checkpoint.iteration)
        scratch = path.with_name(f".{path.name}.tmp")
        try:
            _remove(scratch)
            scratch.mkdir()
            write_sealed(scratch, encode(checkpoint))
            _put_in_place(scratch, path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"cannot write checkpoint {path}: {reason}; earlier checkpoints are intact"
            ) from error
        finally:
            _remove(scratch)
        wanted = {*self.iterations()[-self._keep :], best}
        for iteration in self.iterations():
            if iteration not in wanted:
                _remove(self.path(iteration))

    def load(self, iteration: int) -> Checkpoint:
        """Read and verify one checkpoint.

        Raises:
            CheckpointError: it is missing, truncated or changed; names the file and the others.
        """
        path = self.path(iteration)
        try:
            files = read_sealed(path)
            checkpoint = decode(files)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {self._remedy(iteration)}") from error
        if checkpoint.iteration != iteration:
            raise CheckpointError(
                f"{path / COUNTERS} is of iteration {checkpoint.iteration}; "
                f"{self._remedy(iteration)}"
            )
        return checkpoint

    def drop_after(self, iteration: int) -> None:
        """Remove the checkpoints of later iterations: the run goes on from this one."""
        for later in self.iterations():
            if later > iteration:
                _remove(self.path(later))

    def path(self, iteration: int) -> Path:
        return self.folder / f"{iteration:06d}"

    def _remedy(self, iteration: int) -> str:
        others = [other for other in self.iterations() if other != iteration]
        if not others:
            return "there is no other checkpoint: start again with --force"
        names = ", ".join(str(other) for other in others)
        return f"to continue from another one: --resume-from N with N one of {names}"


def encode(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a checkpoint by name.

    Raises:
        ValueError: a counter that JSON cannot hold exactly (NaN, infinity).
    """
    tensors = {name: _contiguous(array) for name, array in checkpoint.tensors.items()}
    counters = {"iteration": checkpoint.iteration, **checkpoint.counters}
    text = json.dumps(counters, indent=1, allow_nan=False)
    return {TENSORS: save_tensors(tensors), COUNTERS: text.encode()}


def decode(files: Mapping[str, bytes]) -> Checkpoint:
    """The inverse of :func:`encode`."""
    try:
        tensors = load_tensors(files[TENSORS])
        counters = cast("dict[str, Any]", json.loads(files[COUNTERS]))
        iteration = int(counters.pop("iteration"))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint of another program or version: {error}") from error
    return Checkpoint(iteration, tensors, counters)


def write_sealed(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into ``folder`` with their digests beside them."""
    sums = "".join(f"{_digest(data)}  {name}\n" for name, data in files.items())
    for name, data in (*files.items(), (DIGESTS, sums.encode())):
        write_atomic(folder / name, data)


def read_sealed(folder: Path) -> dict[str, bytes]:
    """The files that ``SHA256SUMS`` lists, after comparing their digests.

    Raises:
        CheckpointError: a file is missing, truncated or changed; names it.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint {folder}")
    try:
        listed: dict[str, str] = {}
        for line in (folder / DIGESTS).read_text(encoding="ascii").splitlines():
            digest, name = line.split("  ", 1)
            listed[name] = digest
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / DIGESTS} is missing or damaged") from error
    if not listed:
        raise CheckpointError(f"{folder / DIGESTS} is empty: the file is truncated")
    files: dict[str, bytes] = {}
    for name, digest in listed.items():
        try:
            files[name] = (folder / Path(name).name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error.strerror}") from error
        if _digest(files[name]) != digest:
            raise CheckpointError(
                f"{folder / name} is damaged: its checksum is not the one in {DIGESTS} "
                "(truncated, or changed after it was written)"
            )
    return files


def _contiguous(array: NDArray[np.generic]) -> NDArray[np.generic]:
    # safetensors stores the buffer as it lies; ascontiguousarray alone would turn 0-d into 1-d.
    return np.ascontiguousarray(array).reshape(array.shape)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _put_in_place(scratch: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    _remove(old)
    if path.exists():
        path.rename(old)
    scratch.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _remove(old)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
