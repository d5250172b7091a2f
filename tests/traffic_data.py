"""Paths of the traffic data; a test that needs one that is absent is skipped with the reason."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")


def needed(*parts):
    """The path DATA/traffic/parts, or a skip."""
    path = DATA.joinpath("traffic", *parts)
    if not path.exists():
        pytest.skip(f"needs {path}; set FAIRLEAD_DATA to the folder with the data")
    return path
