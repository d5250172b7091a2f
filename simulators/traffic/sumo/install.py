"""Which SUMO runs: the one of this environment, or a binary elsewhere, and its version.

The version decides the figures: between 1.9.1 and 1.28.0 the same streets differ by 20-50 % in
delay. So it stands beside every result.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from ...errors import DataError

Backend = Literal["libsumo", "traci"]

EXTRA = "pip install 'fairlead[sumo]'"
_PACKAGES = {"libsumo": ("libsumo",), "traci": ("traci",)}
_VERSION = re.compile(r"\bsumo\s+(?:Version\s+)?v?(\d+(?:\.\d+)+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Installation:
    """A SUMO that can be run.

    Attributes:
        backend: ``libsumo`` (inside the child process) or ``traci`` (a binary that it talks to).
        version: for example ``1.28.0``.
        binary: the ``sumo`` program; ``None`` for libsumo.
        home: folder with SUMO's own data; ``None`` where the package has none.
    """

    backend: Backend
    version: str
    binary: Path | None
    home: Path | None

    @property
    def label(self) -> str:
        """What stands beside results, for example ``SUMO 1.28.0 (libsumo)``."""
        return f"SUMO {self.version} ({self.backend})"


def find_sumo(backend: Backend = "libsumo", binary: Path | None = None) -> Installation:
    """The installation that ``backend`` will use.

    Args:
        backend: ``libsumo`` or ``traci``.
        binary: another ``sumo`` program, ``traci`` only; by default that of the package
            ``eclipse-sumo``.

    Raises:
        ModuleNotFoundError: a Python package is missing; names the remedy.
        DataError: ``binary`` is not a SUMO program.
        ValueError: unknown backend, or a binary for libsumo.
    """
    if backend not in _PACKAGES:
        raise ValueError(f"backend {backend!r}; known: {', '.join(_PACKAGES)}")
    for package in _PACKAGES[backend]:
        if importlib.util.find_spec(package) is None:
            raise _missing(package)
    if backend == "libsumo":
        if binary is not None:
            raise ValueError("backend 'libsumo' takes no binary; use backend 'traci' for another")
        return Installation(backend, version("libsumo"), None, _package_folder())
    if binary is None:
        folder = _package_folder()
        if folder is None:
            raise _missing("sumo")
        binary = folder / "bin" / "sumo"
    return Installation(backend, _version_of(binary), binary, _home_of(binary))


def available(backend: Backend = "libsumo") -> bool:
    """Whether ``find_sumo(backend)`` would find one."""
    try:
        find_sumo(backend)
    except (ModuleNotFoundError, DataError):
        return False
    return True


def _missing(package: str) -> ModuleNotFoundError:
    message = f"SUMO needs the package {package!r}, which is not installed; install it with: "
    return ModuleNotFoundError(message + EXTRA, name=package)


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("sumo")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _home_of(binary: Path) -> Path | None:
    folder = binary.resolve().parent.parent
    return folder if (folder / "data").is_dir() else None


def _version_of(binary: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the caller's own choice of program
            [binary, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(
            binary, accepted=f"a runnable sumo program is expected ({error})"
        ) from error
    found = _VERSION.search(done.stdout)
    if done.returncode != 0 or found is None:
        first = (done.stdout or done.stderr).partition("\n")[0]
        raise DataError(
            binary, value=first, accepted="a sumo program that answers --version is expected"
        )
    return found.group(1)
