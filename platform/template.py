"""A configuration as a commented TOML file, ready to edit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from .knobs import describe


def template(settings: BaseModel, *, section: str = "", title: str = "") -> str:
    """All knobs of ``settings`` as TOML, each with a comment of effect, unit and range.

    Knobs without a value are commented out. ``section`` puts everything below that table. Reading
    the text back gives equal settings.
    """
    lines = [f"# {title}", ""] if title else []
    lines += _table(settings, section)
    return "\n".join(lines).rstrip() + "\n"


def toml_value(value: Any) -> str:
    """One value in TOML's syntax; models and mappings become inline tables.

    Raises:
        TypeError: a type that configurations do not use.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="python")
    if isinstance(value, str):
        # A JSON string is a basic TOML string, except for the one control character it keeps.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        items = ((json.dumps(str(key)), item) for key, item in value.items() if item is not None)
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in items) + "}"
    raise TypeError(f"a configuration cannot hold {type(value).__name__}: {value!r}")


def _table(settings: BaseModel, section: str) -> Iterator[str]:
    nested: list[tuple[str, BaseModel]] = []
    if section:
        yield f"[{section}]"
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            nested.append((name, value))
            continue
        knob = describe(name, value, info)
        notes = [
            knob.help,
            f"unit: {knob.unit}" if knob.unit else "",
            f"usual: {knob.usual}" if knob.usual else "",
            knob.limits,
        ]
        words = "; ".join(" ".join(note.split()) for note in notes if note)
        comment = f"  # {words}" if words else ""
        yield (
            f"# {name} = (none){comment}"
            if value is None
            else (f"{name} = {toml_value(value)}{comment}")
        )
    for name, value in nested:
        yield ""
        yield from _table(value, f"{section}.{name}" if section else name)
