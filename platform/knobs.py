"""Every knob of a configuration with its value, unit, range and effect, for tables."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
"""Names of pydantic's range constraints, and how we say them."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One leaf of a configuration, as the tables show it."""

    name: str
    value: Any
    unit: str
    usual: str
    limits: str
    help: str


def knobs(settings: type[BaseModel] | BaseModel, prefix: str = "") -> list[Knob]:
    """All leaves of a configuration by dotted name: a type's defaults, an instance's values."""
    settings_type = settings if isinstance(settings, type) else type(settings)
    found: list[Knob] = []
    for name, info in settings_type.model_fields.items():
        value = _default(info) if isinstance(settings, type) else getattr(settings, name)
        nested = value if isinstance(value, BaseModel) else _only_model(info.annotation)
        if nested is not None and value is not None:
            found += knobs(nested, f"{prefix}{name}.")
        else:
            found.append(describe(prefix + name, value, info))
    return found


def knob_table(settings_type: type[BaseModel] | BaseModel, title: str = "") -> Table:
    """All knobs as a table: name and default with unit; effect and usual (else allowed) range."""
    values = "default" if isinstance(settings_type, type) else "value"
    table = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    # Two lines per knob: deep names leave no room for four columns in a terminal of 80 characters.
    table.add_column(f"knob\n= {values}", overflow="fold")
    table.add_column("effect\nusual range", overflow="fold")
    for knob in knobs(settings_type):
        unit = "" if knob.value is None else knob.unit
        value = f"= {show_value(knob.value)} {unit}".rstrip()
        # Text, not markup: brackets are part of TOML values.
        name = Text.assemble((knob.name, "bold"), "\n", (value, "green"))
        reach = _reach(knob)
        table.add_row(name, Text.assemble(knob.help, ("\n" + reach if reach else "", "dim")))
    return table


def _reach(knob: Knob) -> str:
    if isinstance(knob.value, bool):
        return "true | false"
    if " | " in knob.limits:
        return knob.limits
    return f"usual {knob.usual}" if knob.usual else knob.limits


def _only_model(annotation: Any) -> type[BaseModel] | None:
    union = get_origin(annotation) in (Union, types.UnionType)
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    found = models_in(annotation) if union or is_model else []
    return found[0] if len(found) == 1 else None


def _default(info: FieldInfo) -> Any:
    return "(required)" if info.is_required() else info.get_default(call_default_factory=True)


def describe(name: str, value: Any, info: FieldInfo) -> Knob:
    """The knob behind one field, with what ``simulators.settings.knob`` noted about it."""
    extra = info.json_schema_extra
    notes: Mapping[str, Any] = extra if isinstance(extra, dict) else {}
    # "1" marks a pure number; "must be below 1 1" would only puzzle the reader.
    unit = str(notes.get("unit", ""))
    return Knob(
        name=name,
        value=value,
        unit="" if unit == "1" else unit,
        usual=str(notes.get("usual", "")),
        limits=_allowed(info),
        help=info.description or "",
    )


def _allowed(info: FieldInfo) -> str:
    words = [
        f"{text} {getattr(bound, key)}"
        for bound in info.metadata
        for key, text in LIMITS.items()
        if getattr(bound, key, None) is not None
    ]
    choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    return " and ".join(words) or " | ".join(str(choice) for choice in choices)


def show_value(value: Any) -> str:
    """A value as one would type it in TOML (``none`` where TOML has no word)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(show_value(item) for item in value) + "]"
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{name} = {show_value(item)}" for name, item in value) + "}"
    return "none" if value is None else str(value)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """All model classes that an annotation mentions, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
