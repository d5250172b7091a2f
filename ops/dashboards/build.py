"""Writes the dashboards' JSON beside this file: ``python -m fairlead.ops.dashboards.build``.

The committed files are the ones to deploy; a test holds that building again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from .domain import DOMAIN_BOARD
from .fleet import FLEET
from .power import POWER_BOARD
from .process import PROCESS
from .rollout import ROLLOUT
from .traffic import TRAFFIC_BOARD
from .training import TRAINING

HERE = Path(__file__).parent

BOARDS = (FLEET, DOMAIN_BOARD, POWER_BOARD, TRAFFIC_BOARD, ROLLOUT, TRAINING, PROCESS)
"""Every dashboard, in the order of reading."""


def generate() -> Mapping[str, str]:
    """File name to content of every dashboard."""
    return {
        f"{board.uid}.json": json.dumps(
            json.loads(JSONEncoder().encode(board.build().build())),
            indent=2,
            sort_keys=True,
            ensure_ascii=False,
        )
        + "\n"
        for board in BOARDS
    }


def main() -> None:
    """Write every file that is not as it should be."""
    for name, content in generate().items():
        path = HERE / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
