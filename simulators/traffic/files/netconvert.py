"""SUMO's netconvert: from plain XML (nodes, edges, connections, signals) to a ``.net.xml``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...errors import DataError
from ...tables import open_text

EXTRA = "SUMO's programs are needed; install them with: pip install 'fairlead[sumo]'"

_PARTS = {"nod": "-n", "edg": "-e", "con": "-x", "tll": "-i", "typ": "-t"}
_REQUIRED = ("nod", "edg")


def sumo_program(name: str) -> Path:
    """Path of one of SUMO's programs, such as ``netconvert`` or ``sumo``, in its package.

    Raises:
        ModuleNotFoundError: the package ``eclipse-sumo`` is not installed; names the extra.
    """
    found = importlib.util.find_spec("sumo")
    origin = None if found is None else found.origin
    path = None if origin is None else Path(origin).parent / "bin" / name
    if path is None or not path.is_file():
        raise ModuleNotFoundError(EXTRA, name="eclipse_sumo")
    return path


def build_net(folder: str | Path, into: str | Path) -> Path:
    """Build the network whose plain XML files lie in ``folder``.

    Args:
        folder: holds one ``NAME.nod.xml`` and ``NAME.edg.xml`` and at most one ``.con.xml``,
            ``.tll.xml`` and ``.typ.xml``; each may be gzipped (``.gz``).
        into: folder for ``NAME.net.xml``, created if absent; a file of that name is replaced.

    Returns:
        Path of the ``.net.xml``.

    Raises:
        DataError: a part is missing or there are two of it, a damaged gzip stream, or files that
            netconvert refuses (its first error is quoted).
        ModuleNotFoundError: netconvert is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, accepted="no such folder; one with plain XML files is expected")
    program = sumo_program("netconvert")
    parts = _find_parts(folder)
    name = parts["nod"].name.removesuffix(".gz").removesuffix(".nod.xml")
    target = Path(into) / f"{name}.net.xml"
    with tempfile.TemporaryDirectory() as work:
        command = [str(program)]
        for part, option in _PARTS.items():
            if part in parts:
                plain = Path(work) / f"{name}.{part}.xml"
                with open_text(parts[part]) as source, plain.open("w", encoding="utf-8") as copy:
                    shutil.copyfileobj(source, copy)
                command += [option, str(plain)]
        built = Path(work) / target.name
        convert([*command, "-o", str(built)], source=folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(built, partial)
        partial.replace(target)
    return target


def convert(command: list[str], *, source: Path) -> None:
    """Run netconvert; ``source`` is named where it refuses its input.

    Raises:
        DataError: a non-zero exit; quotes the first error line.
    """
    # Another SUMO's folder in the environment would bring its own schemas and type maps.
    home = {**os.environ, "SUMO_HOME": str(Path(command[0]).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=home)  # noqa: S603
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
        why = lines[0] if lines else f"exit status {done.returncode}"
        raise DataError(source, accepted=f"netconvert refuses these files ({why})")


def _find_parts(folder: Path) -> dict[str, Path]:
    parts: dict[str, Path] = {}
    for part in _PARTS:
        found = sorted([*folder.glob(f"*.{part}.xml"), *folder.glob(f"*.{part}.xml.gz")])
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(folder, value=names, accepted=f"one *.{part}.xml is expected")
        if found:
            parts[part] = found[0]
        elif part in _REQUIRED:
            raise DataError(folder, accepted=f"no *.{part}.xml or *.{part}.xml.gz in this folder")
    return parts
