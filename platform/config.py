"""Configuration from TOML files and command-line overrides, with errors that say what to type."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .files import UserError
from .knobs import LIMITS, describe, knob_table, models_in, show_value

__all__ = ["ConfigError", "knob_table", "load"]

SettingsType = TypeVar("SettingsType", bound=BaseModel)


class ConfigError(UserError):
    """A configuration that cannot be used; names file or override, key, value and remedy."""


def load(
    settings_type: type[SettingsType],
    *,
    file: Path | None,
    overrides: Sequence[str],
    base: Mapping[str, Any] | None = None,
) -> SettingsType:
    """Build ``settings_type`` from ``base``, then ``file`` (TOML), then ``overrides``; later wins.

    An override is ``section.key=value`` with TOML's value syntax; a bare word is a string. A
    section that is given in part keeps the rest of its default; where a section may be one of
    several types, the one that is named (or else the default) decides.

    Raises:
        ConfigError: unreadable file, TOML syntax, unknown key (with the nearest known one), wrong
            type or value out of range (with limits and unit).
    """
    values: dict[str, Any] = merged({}, base or {})
    text = ""
    if file is not None:
        text = _read(file)
        try:
            values = merged(values, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{file}: not valid TOML: {error}") from error
    for override in overrides:
        values = merged(values, _parse_override(override))
    try:
        return settings_type.model_validate(_on_defaults(settings_type, values))
    except ValidationError as error:
        sources = _Sources(file=file, text=text, overrides=tuple(overrides))
        lines = [_explain(settings_type, detail, sources) for detail in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read configuration {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start}); TOML is UTF-8") from error


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of both; where both have one, that of ``high``."""
    result = dict(low)
    for key, value in high.items():
        known: Any = result.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            result[key] = merged(known, value)
        else:
            result[key] = value
    return result


def _on_defaults(settings_type: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Put partly given sections on top of the field's default (not of its type's defaults)."""
    result = dict(values)
    for name, info in settings_type.model_fields.items():
        given, default = values.get(name), info.get_default(call_default_factory=True)
        if not isinstance(given, Mapping) or not isinstance(default, BaseModel):
            continue
        section: Mapping[str, Any] = given
        tag = info.discriminator if isinstance(info.discriminator, str) else None
        kind = None if tag is None else getattr(default, tag)
        if tag is None or section.get(tag, kind) == kind:
            known = default.model_dump(exclude_unset=True)
            if tag is not None:
                known[tag] = kind
            result[name] = _on_defaults(type(default), merged(known, section))
    return result


def _parse_override(override: str) -> dict[str, Any]:
    dotted, equals, text = override.partition("=")
    keys = [key.strip() for key in dotted.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"override {override!r}: write it as section.key=value")
    value: Any = _parse_value(text.strip(), override)
    for key in reversed(keys):
        value = {key: value}
    return value


def _parse_value(text: str, override: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ("[", "{", '"', "'", ""):
            raise ConfigError(f"override {override!r}: not a TOML value: {error}") from error
        return text
    return parsed["value"] if len(parsed) == 1 else text


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where values came from, so that an error can point there."""

    file: Path | None
    text: str
    overrides: tuple[str, ...]

    def of(self, dotted: str) -> str:
        for override in reversed(self.overrides):
            name = override.partition("=")[0].replace(" ", "")
            if name == dotted or dotted.startswith(name + ".") or name.startswith(dotted + "."):
                return f"override {override!r}"
        if self.file is not None:
            line = _line_of(self.text, dotted)
            return f"{self.file}, line {line}" if line else str(self.file)
        return "configuration"


def _line_of(text: str, dotted: str) -> int | None:
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            section = header[1].replace('"', "").replace(" ", "") + "."
            if section == dotted + ".":
                return number
        elif entry := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            name = section + entry[1].replace('"', "").replace("'", "")
            if dotted == name or dotted.startswith(name + "."):
                return number
    return None


def _explain(root: type[BaseModel], detail: ErrorDetails, sources: _Sources) -> str:
    path, owners, info = _walk(root, detail["loc"])
    dotted = ".".join(path)
    where = sources.of(dotted)
    if detail["type"] == "extra_forbidden":
        known = sorted({name for owner in owners for name in owner.model_fields})
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        parent = ".".join(path[:-1])
        hint = (
            f"did you mean {'.'.join([*path[:-1], near[0]])!r}?"
            if near
            else f"known keys{f' of {parent}' if parent else ''}: {', '.join(known)}"
        )
        return f"{where}: unknown key {dotted!r}; {hint}"
    if detail["type"] == "missing":
        return f"{where}: key {dotted!r} is required"
    message = detail["msg"].removeprefix("Value error, ")
    if not path:
        return f"{where}: {message}"
    return f"{where}: {_complaint(dotted, info, detail, message)}"


def _complaint(dotted: str, info: FieldInfo | None, detail: ErrorDetails, message: str) -> str:
    """Value, what would be accepted, and what is usual."""
    knob = None if info is None else describe(dotted, None, info)
    unit = f" {knob.unit}" if knob is not None and knob.unit else ""
    context = detail.get("ctx") or {}
    bounds = [f"{LIMITS[key]} {context[key]}" for key in LIMITS if key in context]
    if bounds:
        allowed = knob.limits if knob is not None and knob.limits else " and ".join(bounds)
        message = f"must be {allowed}{unit}"
    else:
        message = message[:1].lower() + message[1:]
    usual = f" (usual: {knob.usual}{unit})" if knob is not None and knob.usual else ""
    return f"{dotted} = {show_value(detail['input'])}{unit} is not accepted: {message}{usual}"


def _walk(
    root: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], list[type[BaseModel]], FieldInfo | None]:
    """Follow an error's location: keys as typed, the models that own the last key, its field.

    pydantic mixes names of union branches into the location; nobody typed those, so they only
    narrow the models that come into question.
    """
    path: list[str] = []
    owners: list[type[BaseModel]] = [root]
    info: FieldInfo | None = None
    inner: list[type[BaseModel]] = [root]
    for step in location:
        name = str(step)
        known = [model.model_fields[name] for model in inner if name in model.model_fields]
        tagged = [m for m in inner if name in (m.__name__, *_tags(m))]
        if tagged and not known:
            inner = tagged
            continue
        if not inner and not _is_entry(step, info):
            continue
        path.append(name)
        owners, info = inner, known[0] if known else info
        inner = [model for field in known for model in models_in(field.annotation)]
    return path, owners, info


def _is_entry(step: int | str, info: FieldInfo | None) -> bool:
    """Whether a step below a plain field is an index or a mapping's key, not a union's branch."""
    if isinstance(step, int) or info is None:
        return True
    origin = get_origin(info.annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _tags(model: type[BaseModel]) -> Iterator[Any]:
    for info in model.model_fields.values():
        if get_origin(info.annotation) is Literal:
            yield from get_args(info.annotation)
