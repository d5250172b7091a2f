"""Which plant moves the vehicles of a traffic scenario: our streets or SUMO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..simulators.errors import DataError
from .files import UserError
from .registry import find_scenario
from .tasks import DomainFactory

Plant = Literal["streets", "sumo"]

OURS = "our streets"


@dataclass(frozen=True, slots=True)
class Placed:
    """A scenario in a plant.

    Attributes:
        factory: builds it there.
        label: what stands beside its figures: :data:`OURS`, or SUMO with its version.
    """

    factory: DomainFactory
    label: str


def placed(factory: DomainFactory, plant: Plant, binary: Path | None = None) -> Placed:
    """The scenario of ``factory`` in ``plant``.

    Args:
        factory: of a traffic scenario.
        plant: what moves the vehicles.
        binary: another ``sumo`` program than the installed package.

    Raises:
        UserError: a scenario with one plant only, a binary without SUMO, or settings that SUMO
            cannot run; says which.
        ModuleNotFoundError: SUMO is not installed; names the remedy.
        DataError: the binary is no SUMO, or the scenario's files are missing.
    """
    known = find_scenario(factory.domain, factory.scenario)
    if "plant" not in known.model_fields:
        raise UserError(
            f"scenarios of domain {factory.domain!r} have one plant; only those of 'traffic' can "
            "be run in another"
        )
    settings = {**factory.settings, "plant": plant}
    if binary is not None:
        if plant != "sumo":
            raise UserError("another sumo program changes nothing in our own streets")
        settings["sumo"] = {"backend": "traci", "binary": str(binary)}
    there = replace(factory, settings=settings)
    if plant != "sumo":
        return Placed(there, OURS)
    return Placed(there, _version(there))


def _version(factory: DomainFactory) -> str:
    """What stands beside figures of a scenario in SUMO; finds out whether it can run there."""
    from ..simulators.traffic.sumo.simulator import SumoSimulator

    try:
        simulator = factory.simulator()
    except DataError:
        raise
    except ValueError as error:
        raise UserError(f"scenario {factory.scenario!r} cannot run in SUMO: {error}") from error
    if not isinstance(simulator, SumoSimulator):
        raise TypeError(f"{type(simulator).__name__} is not SUMO")
    return simulator.version
