"""Files that are either the old one or the new one, never half of either."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


class UserError(Exception):
    """A mistake the user can repair: one clear line naming what, where, and the remedy.

    The command line prints it to stderr and exits with status 2, without a traceback.
    """


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write ``data`` to ``path`` so that readers and crashes see the old or the new file, whole.

    A temporary file in the same folder is written, flushed to disk and renamed over ``path``;
    then the folder entry is flushed. Text is stored as UTF-8. The folder must exist.

    Raises:
        UserError: the file cannot be written; names the path and the operating system's reason.
    """
    target = Path(path)
    payload = data.encode("utf-8") if isinstance(data, str) else data
    scratch = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            _write_through(scratch, payload)
            os.replace(scratch, target)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        _flush_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {target}: {reason}; choose a folder that exists and is writable"
        ) from error


def make_folder(path: Path | str) -> Path:
    """Create ``path`` with its parents if needed and check that files can be created in it.

    Raises:
        UserError: it is no folder, or nothing can be written there; names the path and reason.
    """
    folder = Path(path)
    probe = folder / f".probe.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write into folder {folder}: {reason}; choose a folder that is writable"
        ) from error
    return folder


def _write_through(path: Path, payload: bytes) -> None:
    # O_EXCL with the ordinary mode, so that the umask applies as for any file the user creates.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(payload)
        stream.flush()
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    # Without this the rename itself may be lost by a power cut on some file systems.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
