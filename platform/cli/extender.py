"""``fairlead extender``: Kubernetes scheduler extender."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..kubernetes.remote import Comparison
    from ..kubernetes.scheduler import Replayed
    from ..kubernetes.workload import Trace
    from ..rows import Row


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        no_args_is_help=True, help="Kubernetes scheduler extender: replay a trace through it."
    )
    group.callback()(_group)
    group.command("replay")(replay)
    app.add_typer(group, name="extender")


def _group() -> None:
    """Keeps ``replay`` a sub-command although it is the only one."""


def replay(
    knobs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Knobs of the slot for the daemon and the in-process run, for example "
            "slot.drift.enabled=false; a daemon at --url must have the same.",
        ),
    ] = None,
    *,
    bundle: Annotated[Path, typer.Option(help="Bundle (or run folder) of scenario openb.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the openb CSV files [FAIRLEAD_DATA].")
    ] = None,
    url: Annotated[
        str, typer.Option(help="A daemon that serves the bundle; without it one is started.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File with a bearer token of scope infer for --url.")
    ] = None,
    pods: Annotated[int, typer.Option(min=1, help="Pods to replay.")] = 2000,
    nodes: Annotated[
        int, typer.Option(min=1, help="Nodes, evenly from the list (1523: all).")
    ] = 200,
    prefill: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of the GPUs held at the start.")
    ] = 0.9,
    load: Annotated[float, typer.Option(min=0.01, help="Offered over available GPU time.")] = 0.95,
    cap: Annotated[float, typer.Option(min=1.0, help="Longest run time of a pod, s.")] = 1800.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 1,
    timeout: Annotated[float, typer.Option(min=0.01, help="httpTimeout of a call, s.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Replay openb pods through the daemon's extender as kube-scheduler would.

    Each pod: filter, prioritize, highest score, bind; it runs and leaves. Every answer is compared
    with the same extender in process. If the daemon is away, pods go to the least allocated node
    (ignorable: true). Best-Fit and FGD run on the same arrivals.

    Exit status: 0 if all answers were equal, 1 if any differed or a pod was placed without the
    extender, 2 for mistakes.
    """
    import os
    import tempfile

    from ..bundle import MANIFEST, load_bundle
    from ..config import load as load_config
    from ..daemon.settings import ServeConfig
    from ..drive.spawn import OwnDaemon
    from ..kubernetes.experiment import RULES, by_rule, through_http
    from ..kubernetes.remote import ExtenderApi
    from ..kubernetes.workload import Size, load_trace
    from ..progress import progress_bar
    from ..rows import report

    inner = bundle / "bundle"
    folder = inner if (inner / MANIFEST).is_file() else bundle
    loaded = load_bundle(folder)
    size = Size(pods=pods, nodes=nodes, load=load, cap=cap, prefill=prefill, seed=seed)
    trace = load_trace(data, size)
    token = "" if token_file is None else token_file.read_text("utf-8").strip()
    # Long enough for a busy machine: a late policy would be a fallback, and rightly a difference.
    overrides = ["slot.deadline=5.0", *(knobs or [])]
    settings = load_config(ServeConfig, file=None, overrides=overrides).slot
    if data is not None:
        # The daemon and the extender in process look up typical pods there as well.
        os.environ["FAIRLEAD_DATA"] = str(data)
    with progress_bar("extender") as progress, tempfile.TemporaryDirectory() as scratch:
        steps = 1 + len(RULES)
        progress(0, steps, "through HTTP")
        own = None
        if not url:
            own = OwnDaemon(folder, Path(scratch), overrides=overrides)
            own.start()
        try:
            if own is not None:
                own.wait()
            api = ExtenderApi(
                url if own is None else own.url,
                loaded.spec.domain,
                token=token,
                timeout=timeout,
            )
            found, comparison = through_http(loaded, settings, trace, api)
        finally:
            if own is not None:
                own.stop()
        results = {"policy through HTTP": found}
        for done, (rule, title) in enumerate(RULES.items(), start=1):
            progress(done, steps, title)
            results[title] = by_rule(loaded, settings, trace, rule)
    rows = _rows(trace, comparison, results)
    extra = {"differences": comparison.differences, "placed": list(found.placed)}
    raise typer.Exit(
        report(f"openb through {url or 'an own daemon'}", rows, as_json=as_json, extra=extra)
    )


def _rows(trace: Trace, comparison: Comparison, results: dict[str, Replayed]) -> list[Row]:
    import numpy as np

    from ..rows import Row

    rows = [
        Row.info("nodes", len(trace.rows), "nodes"),
        Row.info("pods", int(trace.coming.time.shape[0]), "pods"),
        Row.info("answers over HTTP", comparison.asked, "pods filtered"),
        Row.at_least("decisions compared with the in-process run", comparison.compared, "pods", 1),
        Row.at_most("answers that differ", comparison.different, "answers", 0),
        Row.at_most("placed without the extender", comparison.away, "pods", 0),
        Row.info(
            "decided by the policy",
            100.0 * comparison.outcomes.get("ok", 0) / max(comparison.compared, 1),
            "% of decisions",
        ),
        Row.info("filter + prioritize p50", 1e3 * comparison.quantile(0.5), "ms"),
        Row.info("filter + prioritize p99", 1e3 * comparison.quantile(0.99), "ms"),
    ]
    for name, result in results.items():
        waited = result.waited[np.isfinite(result.waited)]
        rows += [
            Row.info(f"{name}: GPU allocation", 100.0 * result.allocation, "%"),
            Row.info(f"{name}: free GPUs unusable", 100.0 * result.fragmentation, "%"),
            Row.info(f"{name}: mean wait", float(waited.mean()) if waited.size else 0.0, "s"),
            Row.info(f"{name}: never placed", result.unplaced, "pods"),
        ]
    return rows
