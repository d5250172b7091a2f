"""Configuration values: frozen, typed, documented where they are defined."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of every configuration: immutable, unknown keys are errors, values are checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def knob(default: Any, help: str, *, unit: str = "", usual: str = "", **limits: Any) -> Any:  # noqa: A002
    """A field that explains itself: effect, unit, usual range; ``limits`` are pydantic's."""
    return Field(
        default, description=help, json_schema_extra={"unit": unit, "usual": usual}, **limits
    )
