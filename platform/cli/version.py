"""``fairlead version``: what is installed, for bug reports and run folders."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Annotated

import typer

RELEVANT = (
    "fairlead",
    "numpy",
    "pydantic",
    "typer",
    "rich",
    "torch",
    "simpy",
    "gymnasium",
    "pettingzoo",
    "pyomo",
    "highspy",
    "scipy",
    "polars",
    "matplotlib",
    "safetensors",
    "tensorboard",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "prometheus-client",
)
"""Distributions whose version can change a result or a file format."""


def versions() -> dict[str, str]:
    """Versions of Python, the operating system and the relevant packages that are installed."""
    found = {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
    for name in RELEVANT:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def version(
        as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    ) -> None:
        """Versions of Fairlead, Python, and every package that can change a result."""
        from ..rows import Row, report

        rows = [Row.info(name, text, "") for name, text in versions().items()]
        raise typer.Exit(report("versions", rows, as_json=as_json))
