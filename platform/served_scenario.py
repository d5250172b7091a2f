"""The scenario that a bundle was trained on, for those who serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..simulators.interface import Spec
from .files import UserError

Kind = TypeVar("Kind", bound=BaseModel)


def served_scenario(
    domain: str, known: Mapping[str, type[Kind]], spec: Spec, settings: Mapping[str, Any]
) -> Kind:
    """The scenario's values.

    Args:
        domain: for the message.
        known: scenarios that the domain serves.
        spec: of the bundle.
        settings: values that differ from the defaults suffice.

    Raises:
        UserError: a scenario that is not served, or settings that it does not accept.
    """
    if spec.scenario not in known:
        names = ", ".join(known)
        raise UserError(
            f"the {domain} domain cannot serve scenario {spec.scenario!r}; known: {names}"
        )
    try:
        return known[spec.scenario].model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"scenario settings of the bundle: {where}: {first['msg']} (got {first['input']!r})"
        ) from error
