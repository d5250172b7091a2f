"""Everything deployable, written into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import UserError, make_folder, write_atomic
from .checks import OPS

_FOLDERS = (
    "prometheus",
    "alertmanager",
    "dashboards",
    "provisioning",
    "runbooks",
    "systemd",
    "container",
    "kubernetes",
    "config",
)
_PAGES = ("README.md", "THREATS.md")
_CODE = {".py", ".pyc", ".typed"}


def export(folder: Path, *, runbooks: str = "", force: bool = False) -> Sequence[Path]:
    """Copy dashboards, rules, service files and documents into ``folder``.

    Args:
        folder: made if it is missing.
        runbooks: put before the alerts' relative ``runbook_url``; empty: they stay relative.
        force: replace files whose content differs.

    Returns:
        The files written.

    Raises:
        UserError: a file is in the way, or the folder cannot be written.
    """
    contents = {
        path.relative_to(OPS): path.read_bytes()
        for path in _sources()
        if path.suffix not in _CODE and "__pycache__" not in path.parts
    }
    rules = Path("prometheus") / "alerts.rules.yml"
    if runbooks:
        link = f"runbook_url: {runbooks.rstrip('/')}/".encode()
        contents[rules] = contents[rules].replace(b"runbook_url: runbooks/", link)
    for name, content in contents.items():
        target = folder / name
        if not force and target.exists() and target.read_bytes() != content:
            raise UserError(f"{target} exists and differs; choose another folder or --force")
    for name, content in contents.items():
        make_folder((folder / name).parent)
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def _sources() -> list[Path]:
    found = [path for name in _FOLDERS for path in sorted((OPS / name).rglob("*"))]
    return [path for path in [*found, *(OPS / name for name in _PAGES)] if path.is_file()]
