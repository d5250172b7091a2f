"""``fairlead bundle``: verify a saved policy, or say what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...simulators.interface import Spec
    from ..bundle import Bundle
    from ..rows import Row

Folder = Annotated[Path, typer.Argument(help="A bundle's folder, or that of a run with one.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Verify a saved policy, or say what is in it.")
    group.command("check")(check)
    group.command("show")(show)
    app.add_typer(group, name="bundle")


def check(folder: Folder, as_json: Json = False) -> None:
    """Verify digests, finite weights, golden decisions, and the ONNX graph against them.

    Exit status: 0 if the bundle may be used, 1 if the graph decides differently, 2 if the bundle
    is damaged.
    """
    from ..rows import Row, report

    bundle = _load(folder)
    rows = [
        Row.info("files with matching digest", len(bundle.manifest["digests"]) + 1, "files"),
        Row.info("golden decisions reproduced", int(bundle.golden["active"].sum()), "decisions"),
        _graph_row(bundle),
    ]
    raise typer.Exit(report(f"bundle {bundle.folder}", rows, as_json=as_json))


def show(folder: Folder, as_json: Json = False) -> None:
    """What the policy is for, how large it is, and how it was trained."""
    from ..rows import Row, report

    bundle = _load(folder)
    manifest, spec = bundle.manifest, bundle.spec
    rows = [
        Row.info("name", bundle.name, ""),
        Row.info("domain", spec.domain, ""),
        Row.info("scenario", spec.scenario, ""),
        Row.info("agents", spec.agents, "agents"),
        _size_row(spec),
        Row.info("parameters", int(manifest["parameters"]), "numbers"),
        Row.info("parameter groups", int(bundle.arrays.member.max()) + 1, "groups"),
        Row.info("sampled", str(bundle.stochastic).lower(), ""),
    ]
    for name, value in manifest["provenance"].items():
        if isinstance(value, bool):
            rows.append(Row.info(f"trained: {name}", str(value).lower(), ""))
        elif isinstance(value, str | int | float):
            rows.append(Row.info(f"trained: {name}", value, ""))
    extra = {"manifest": dict(manifest)}
    raise typer.Exit(report(f"bundle {bundle.folder}", rows, as_json=as_json, extra=extra))


def _size_row(spec: Spec) -> Row:
    from ...simulators.interface import Choice
    from ..rows import Row

    if isinstance(spec.action, Choice):
        return Row.info("candidates", spec.action.candidates, "candidates")
    return Row.info("dimensions", spec.action.dimensions, "dimensions")


def _load(folder: Path) -> Bundle:
    from ..bundle import MANIFEST, load_bundle

    inner = folder / "bundle"
    return load_bundle(inner if (inner / MANIFEST).is_file() else folder)


def _graph_row(bundle: Bundle) -> Row:
    from ..bundle import ONNX
    from ..golden import TOLERANCE
    from ..onnx_check import graph_error
    from ..rows import Row

    what = "shapes and set-points" if "a" in bundle.golden else "scores"
    error = graph_error((bundle.folder / ONNX).read_bytes(), bundle.arrays, bundle.golden)
    return Row.near(f"ONNX {what}: largest difference", error, "1", 0.0, TOLERANCE)
