"""``fairlead bridge``: a system that is not ours, driven by the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .bridge_sumo import sumo

if TYPE_CHECKING:
    from ..grid2op.session import Played
    from ..rows import Row


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    bridge = typer.Typer(help="Drive a system that is not ours by the daemon.")
    bridge.command("grid2op")(grid2op)
    bridge.command("sumo")(sumo)
    app.add_typer(bridge, name="bridge")


def grid2op(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle of power/grid2op, or the folder of a run with one.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Knobs of the daemon that is started."),
    ] = None,
    url: Annotated[
        str, typer.Option(help="Ask this running daemon (it serves BUNDLE) instead.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token for --url.")
    ] = None,
    episodes: Annotated[
        int,
        typer.Option(help="Episodes: the environment's chronics in turn, seeds 0, 1, ...", min=1),
    ] = 1,
    rule: Annotated[str, typer.Option(help="Fallback rule (empty: the domain's own choice).")] = "",
    steps: Annotated[
        int | None, typer.Option(help="Most steps of an episode (none: all).", min=1)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON document.")
    ] = False,
) -> None:
    """Play episodes of a Grid2Op environment: nobody, the daemon's rule, and its policy decide.

    The daemon is asked over HTTP for set-points; they become redispatching, curtailment and storage
    actions, and the dispatch that the environment really applied is read back. Exit status 1: an
    episode of the daemon ended before that in which nobody does anything, or an action was refused.
    Train a bundle by `fairlead train power --scenario grid2op`.
    """
    import tempfile
    from contextlib import ExitStack
    from time import time_ns

    from ..client.asking import Client
    from ..client.fallback import baseline
    from ..contest import find_bundle
    from ..drive.session import ended_orderly
    from ..drive.spawn import OwnDaemon
    from ..grid2op.session import Decide, Session, by_daemon
    from ..progress import progress_bar
    from ..rows import report

    trained = find_bundle(bundle)
    session = Session(trained)
    ruler = baseline(trained.folder, rule)
    with ExitStack() as stack:
        stack.enter_context(ended_orderly())
        progress = stack.enter_context(progress_bar("bridge grid2op"))
        if not url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-")))
            knobs = (*([f"slot.baseline={rule}"] if rule else []), *(overrides or ()))
            daemon = OwnDaemon(trained.folder, folder, overrides=knobs)
            stack.callback(daemon.kill)
            daemon.start()
            daemon.wait()
            url = daemon.url
        token = None if token_file is None else token_file.read_text().strip()
        client = stack.enter_context(
            Client(url, "power", fallback=ruler, token=token, timeout=1.0, name="grid2op")
        )
        players: dict[str, Decide | None] = {
            "do nothing": None,
            f"daemon, {ruler.name}": by_daemon(client, fallback=True),
            "daemon, policy": by_daemon(client),
        }
        total = 0
        played: dict[str, list[Played]] = {}
        for player, decide in players.items():
            for episode in range(episodes):
                total += 1
                played.setdefault(player, []).append(
                    session.play(
                        episode % session.episodes,
                        decide,
                        steps=steps,
                        seed=episode,
                        client=None if decide is None else client,
                        name=f"{time_ns():x}/{player}/{episode}",
                    )
                )
                progress(total, len(players) * episodes, player)
    idle = sum(each.steps for each in played["do nothing"])
    rows = [row for player, runs in played.items() for row in _rows(player, runs, idle)]
    name = f"bridge grid2op, {session.environment}, {episodes} episodes"
    last = [message.document() for message in played["daemon, policy"][-1].messages]
    raise typer.Exit(report(name, rows, as_json=as_json, extra={"set_points": last}))


def _rows(player: str, runs: list[Played], idle: int) -> list[Row]:
    """Figures of a player's episodes."""
    import numpy as np

    from ..rows import Row

    steps = sum(run.steps for run in runs)
    planned = sum(run.planned for run in runs)
    survived = f"{player}: steps survived of {planned}"
    common = [
        Row.info(f"{player}: cost of production", sum(run.cost for run in runs), "$"),
        Row.info(f"{player}: largest loading of a line", max(run.loading for run in runs), "1"),
        Row.info(f"{player}: lines above their limit", sum(run.overloaded for run in runs), ""),
    ]
    if player == "do nothing":
        return [Row.info(survived, steps, "steps"), *common]
    asked, applied, missed, seconds = (
        np.concatenate([getattr(run, name) for run in runs])
        for name in ("asked", "applied", "missed", "seconds")
    )
    return [
        Row.at_least(survived, steps, "steps", idle),
        Row.at_most(f"{player}: refused actions", sum(run.refused for run in runs), "", 0),
        *common,
        Row.info(f"{player}: asked of units, mean of a step", float(asked.mean()), "MW"),
        Row.info(f"{player}: applied, mean of a step", float(applied.mean()), "MW"),
        Row.info(f"{player}: asked but not applied, mean", float(missed.mean()), "MW"),
        Row.info(f"{player}: asked but not applied, largest", float(missed.max()), "MW"),
        Row.info(
            f"{player}: set-points that are the policy's",
            float(np.mean([run.made for run in runs])),
            "1",
        ),
        Row.info(f"{player}: decided by the client itself", sum(run.local for run in runs), ""),
        Row.info(f"{player}: answer over the wire, p50", 1e3 * float(np.median(seconds)), "ms"),
    ]
