"""Listening sockets, opened before anything is promised: a taken port is an error at the start."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

from ..files import UserError, make_folder

BACKLOG = 512
"""Connections that the kernel keeps for us; more would only wait where nobody sees them."""


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: the address is taken, unknown or not ours.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        remedy = "; set server.port" if error.errno == errno.EADDRINUSE else ""
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}{remedy}") from error
    found.setblocking(False)
    return found


def listen_unix(path: Path, *, mode: int) -> socket.socket:
    """A listening unix socket whose file has ``mode`` from its first moment.

    A file that an ended process left is replaced; one that answers is not.

    Raises:
        UserError: another process listens there, or the file cannot be made.
    """
    clear_unix(path)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o777 & ~mode)
    try:
        found.bind(str(path))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise UserError(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(previous)
    found.setblocking(False)
    return found


def clear_unix(path: Path) -> None:
    """Remove the socket file of a process that has ended.

    Raises:
        UserError: somebody listens there, or the file is no socket.
    """
    if not path.exists():
        make_folder(path.parent)
        return
    if not path.is_socket():
        raise UserError(f"{path} is in the way: it is no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise UserError(f"cannot use {path}: {error.strerror}") from error
    raise UserError(f"another process listens on {path}; stop it or choose another path")


class FolderLock:
    """Keeps two daemons from writing one state folder; the kernel frees it when we end.

    Raises:
        UserError: another daemon holds it.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise UserError(
                f"state folder {folder} is in use by another daemon; set state.folder"
            ) from error

    def free(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)
