"""``fairlead drive``: a simulator in closed loop with the daemon."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
