"""The command line ``fairlead``: collects the commands and turns mistakes into one clear line.

Each command is a module beside this one with a function ``register(app)``. Commands import what is
heavy inside their function, so that ``fairlead --help`` is quick and works on the base install.
"""

from __future__ import annotations

import importlib
import linecache
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from ..files import UserError

COMMANDS = (
    "train",
    "evaluate",
    "compare",
    "diagnose",
    "bundle",
    "serve",
    "registry",
    "replay",
    "drive",
    "bridge",
    "extender",
    "ops",
    "validate",
    "scenario",
    "bench",
    "version",
)
"""Modules with a ``register`` function, in the order in which help shows them."""

EXTRAS = ("train", "serve", "sign", "dash", "grid2op", "dev")
"""Extras to suggest for a missing package, best first."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which numerical libraries take their number of threads."""

_HELP = """
Simulate systems with many local decision makers, train cooperative controllers on them, and \
compare those with the heuristics of the field.

[bold]First steps[/bold]

[green]fairlead demo[/green] ... train, compare and report in a minute or two

[green]fairlead scenario list[/green] ... what can be simulated

[green]fairlead train --help[/green] ... every knob, with its effect and usual range

[green]fairlead train cloud[/green] ... train; save a bundle and a report

[green]fairlead compare --help[/green] ... policies and heuristics on the same seeds

[green]fairlead diagnose --help[/green] ... which agent fails first, and whom it takes along

[green]fairlead diagnose BUNDLE[/green] ... which agent failed first, and whom it took along

[green]fairlead validate cloud[/green] ... check the simulator against published figures

Commands that report figures take --json. The exit status is 1 if a figure misses its mark \
and 2 for a mistake in the input.
"""


def build() -> typer.Typer:
    """The application with all commands."""
    app = typer.Typer(
        name="fairlead",
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        debug: bool = typer.Option(
            False, "--debug", help="Show full tracebacks (also FAIRLEAD_DEBUG=1); works anywhere."
        ),
    ) -> None:
        # Taken out of the arguments by main() before they are parsed; declared for the help text.
        del debug

    for name in COMMANDS:
        importlib.import_module(f".{name}", __package__).register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; raises ``SystemExit`` with 0, 1 (missed mark) or 2 (mistake)."""
    # Read once, when numpy is first imported (by a command). Matrices here are small: on a busy
    # machine a second thread makes them many times slower. Torch has a setting of its own.
    for name in THREADS:
        os.environ.setdefault(name, "1")
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("FAIRLEAD_DEBUG", "") not in ("", "0")
    try:
        build()(args=[word for word in given if word != "--debug"], prog_name="fairlead")
    except Exception as error:
        message = None if debug else explain(error)
        if message is None:
            raise
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {message}", "bold red"))
        raise SystemExit(2) from None


def explain(error: Exception) -> str | None:
    """The line to show for a user's mistake; ``None`` for a defect, whose traceback matters."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(error)
    if isinstance(error, ValidationError):
        details = (
            f"{'.'.join(str(step) for step in detail['loc'])}: {detail['msg']}"
            for detail in error.errors()
        )
        return f"invalid {error.title}: " + "; ".join(details)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ValueError) and _raised_on_purpose(error):
        return str(error)
    return None


def _missing_package(error: ModuleNotFoundError) -> str | None:
    package = (error.name or "").partition(".")[0]
    for extra in EXTRAS:
        if package.replace("_", "-") in requirements(extra):
            return (
                f"this command needs the package {package!r}, which is not installed; "
                f"install it with: pip install 'fairlead[{extra}]'"
            )
    return None


def requirements(extra: str) -> set[str]:
    """Names of the packages that an extra of the installed distribution asks for."""
    found: set[str] = set()
    # A checkout may hold metadata of an older build beside the installed one; read both.
    installed = metadata.distributions(name="fairlead")
    for line in (line for distribution in installed for line in distribution.requires or ()):
        name, _, marker = line.partition(";")
        if re.search(rf"extra == ['\"]{extra}['\"]", marker):
            found.add(re.split(r"[\s\[<>=!~(]", name.strip(), maxsplit=1)[0].lower())
    return found


def _raised_on_purpose(error: Exception) -> bool:
    """Whether the error comes from a ``raise`` statement of ours, not from inside a calculation."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = trace.tb_frame.f_code.co_filename
    ours = any(room in Path(file).resolve().parents for room in _rooms())
    return ours and linecache.getline(file, trace.tb_lineno).lstrip().startswith("raise")


def _rooms() -> list[Path]:
    # platform/cli/main.py in a checkout, fairlead/platform/cli/main.py where it is installed.
    root = Path(__file__).resolve().parents[2]
    return [root / name for name in ("simulators", "models", "policies", "platform")]
