"""The folder of a training run: what is where, and tables that survive a crash at any time.

::

    config.json          effective configuration, every knob
    config.toml          the same with comments, to start another run from (--config)
    run.json             versions, machine, seeds, revision of the source
    metrics.parquet      one row per iteration; a function of config.json alone
    groups.parquet       one row per iteration and parameter group: KL, budget, backtracks, ...
    timing.parquet       one row per iteration: seconds per stage, memory, lost workers
    evaluation.parquet   one row per evaluation and seed (column ``iteration``)
    baselines.parquet    heuristics on the same seeds
    comparison.parquet   best policy and heuristics on other, unseen seeds
    checkpoints/         newest two and the best
    tensorboard/         the same figures as event files
    bundle/              the best policy
    summary.json         how it ended
    report.html          plots
"""

from __future__ import annotations

import fcntl
import io
import json
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import polars as pl

from .cli.version import versions
from .files import UserError, make_folder, write_atomic
from .template import template
from .train_config import TrainConfig, from_json

_FILES = (
    "run.json",
    "config.toml",
    "metrics.parquet",
    "groups.parquet",
    "timing.parquet",
    "evaluation.parquet",
    "baselines.parquet",
    "comparison.parquet",
    "summary.json",
    "report.html",
)
_FOLDERS = ("checkpoints", "tensorboard", "bundle", "plots")


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, root: Path):
        self.root = root
        self.config = root / "config.json"
        self.run = root / "run.json"
        self.metrics = root / "metrics.parquet"
        self.groups = root / "groups.parquet"
        self.timing = root / "timing.parquet"
        self.evaluation = root / "evaluation.parquet"
        self.baselines = root / "baselines.parquet"
        self.comparison = root / "comparison.parquet"
        self.summary = root / "summary.json"
        self.report = root / "report.html"
        self.checkpoints = root / "checkpoints"
        self.tensorboard = root / "tensorboard"
        self.bundle = root / "bundle"

    @classmethod
    def create(cls, root: Path, config: TrainConfig, *, force: bool = False) -> RunFolder:
        """Start a run in a new or empty folder; with ``force`` over an earlier run.

        Raises:
            UserError: the folder holds a run (without ``force``) or other files (always), or
                cannot be written.
        """
        folder = cls(root)
        folder.require_free(force=force)
        folder._clear()
        # Without config.json the folder is no run, so it is written last.
        write_json(folder.run, _facts(config))
        folder.write_config(config)
        return folder

    @classmethod
    def open(cls, root: Path) -> tuple[RunFolder, TrainConfig]:
        """An earlier run and its configuration.

        Raises:
            UserError: there is none, or its configuration is damaged.
        """
        folder = cls(root)
        if not folder.config.exists():
            raise UserError(f"{root} holds no run to continue; start one without --resume")
        make_folder(root)
        return folder, from_json(read_json(folder.config))

    def require_free(self, *, force: bool) -> None:
        """Raise unless a new run may be started here, see :meth:`create`."""
        make_folder(self.root)
        if self.config.exists():
            if not force:
                raise UserError(
                    f"{self.root} already holds a run: continue it with --resume, replace it with "
                    "--force, or choose another folder with --out"
                )
        elif any(path.name != ".lock" for path in self.root.iterdir()):
            raise UserError(
                f"{self.root} holds other files and no run; choose an empty folder with --out"
            )

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep other processes from training in this folder meanwhile.

        The lock belongs to the process and ends with it, however it ends.

        Raises:
            UserError: another process has it.
        """
        with (self.root / ".lock").open("w", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"another process is training in {self.root}; wait for it, or stop it first"
                ) from error
            yield

    def write_config(self, config: TrainConfig) -> None:
        """Store the effective configuration, for machines and for people."""
        write_atomic(self.root / "config.toml", template(config, title="Effective configuration"))
        write_json(self.config, config.model_dump(mode="json"))

    def _clear(self) -> None:
        # The configuration goes first: a folder that is half cleared is no run.
        self.config.unlink(missing_ok=True)
        for name in _FILES:
            (self.root / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            if (self.root / name).exists():
                shutil.rmtree(self.root / name)


class Table:
    """Rows on disk as Parquet, rewritten whole and atomically; every row has an ``iteration``."""

    def __init__(self, path: Path):
        self._path = path
        self._frame = pl.DataFrame()

    @property
    def frame(self) -> pl.DataFrame:
        return self._frame

    def restore(self, iteration: int) -> None:
        """Read what is on disk, without rows after ``iteration`` (they will be made again).

        Raises:
            UserError: the file is damaged.
        """
        if not self._path.exists():
            return
        try:
            frame = pl.read_parquet(self._path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(
                f"cannot read {self._path}: {error}; remove it to continue without its history"
            ) from error
        self._frame = frame.filter(pl.col("iteration") <= iteration)

    def append(self, rows: pl.DataFrame) -> None:
        """Add rows in memory."""
        if self._frame.width == 0:
            self._frame = rows
        else:
            self._frame = pl.concat([self._frame, rows], how="diagonal_relaxed")

    def write(self) -> None:
        """Bring the file up to date."""
        buffer = io.BytesIO()
        self._frame.write_parquet(buffer)
        write_atomic(self._path, buffer.getvalue())


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    write_atomic(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: it cannot be read or parsed; names the file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object")
    return cast("dict[str, Any]", values)


def _facts(config: TrainConfig) -> dict[str, Any]:
    return {
        "format": 1,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": config.seed,
        "torch_threads": config.execution.torch_threads,
        "versions": versions(),
        "source": revision(),
    }


def revision() -> dict[str, Any] | None:
    """Git revision of the source tree and whether it was changed; ``None`` if installed."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"git": head, "changed": changed}


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return done.stdout.strip()
