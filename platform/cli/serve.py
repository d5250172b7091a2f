"""``fairlead serve``: run the live controller, or create a token for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from ..files import UserError

DEFAULT = "run"


class _ServeGroup(TyperGroup):
    """``serve BUNDLE...`` is ``serve run BUNDLE...``: what people type needs no sub-command."""

    # typer carries its own copy of click or depends on it, by version: no common type to name.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        cls=_ServeGroup, help="Run the live controller: fairlead serve BUNDLE... (see --help)."
    )
    group.command(DEFAULT)(run)
    group.command("token")(token)
    app.add_typer(group, name="serve")


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BUNDLE]... [KEY=VALUE]...",
            help="Bundles (or run folders) that become champion of their domains; without any, "
            "the champions of the registry. KEY=VALUE sets a knob, for example server.port=0.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of the knobs; overrides come after it.")
    ] = None,
    knobs: Annotated[bool, typer.Option("--knobs", help="Only list the knobs.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Verify configuration and bundles, then end; nothing changes."
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Decide live: verify bundles, then serve them on http://127.0.0.1:8470.

    SIGTERM drains (exit status 0), a second one ends at once; SIGHUP reads the configuration and
    the tokens again. Create tokens with: fairlead serve token NAME --scope infer
    """
    from ..config import load
    from ..daemon.settings import ServeConfig

    given = arguments or []
    bundles = [Path(word) for word in given if "=" not in word]
    overrides = [word for word in given if "=" in word]
    if knobs:
        from ..knobs import knob_table

        Console().print(knob_table(ServeConfig, title="Knobs of fairlead serve"))
        return
    settings = load(ServeConfig, file=config, overrides=overrides)
    _logging(log_level)
    from ..daemon.main import serve, verify

    if check:
        for line in verify(settings, bundles):
            typer.echo(line)
        return
    raise typer.Exit(
        serve(
            settings,
            bundles,
            reread=lambda: load(ServeConfig, file=config, overrides=overrides),
            announce=typer.echo,
        )
    )


def token(
    name: Annotated[str, typer.Argument(help="Who will use it; appears in audit and log.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, infer or admin; give it more than once for several."),
    ] = None,
    file: Annotated[
        Path, typer.Option(help="Token file; the knob security.tokens names it.")
    ] = Path("tokens"),
) -> None:
    """Create a bearer token and show it: this once, as only its hash is stored."""
    from ..daemon.tokens import add_token

    made = add_token(file, name, scope or ["read"])
    typer.echo(made)
    Console(stderr=True).print(
        f"stored its hash in {file}; use it as 'Authorization: Bearer ...', and set "
        f"security.tokens={file} (a running daemon reads it again on SIGHUP)",
        soft_wrap=True,
        highlight=False,
    )


def _logging(level: str) -> None:
    import logging

    levels = logging.getLevelNamesMapping()
    known = ("debug", "info", "warning", "error")
    if level not in known:
        raise UserError(f"--log-level {level!r}: one of {', '.join(known)}")
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    # Their chatter repeats ours, and its debug level would show header fields.
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, levels[level.upper()]))
