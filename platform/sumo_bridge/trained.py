"""The street that a bundle was trained for."""

from __future__ import annotations

from ...simulators.errors import DataError
from ...simulators.traffic.observer import Observer
from ...simulators.traffic.scenario import TrafficScenario
from ...simulators.traffic.town import Town, town_of
from ..bundle import Bundle
from ..files import UserError
from ..served_scenario import served_scenario
from ..traffic import SCENARIOS


def street_of(bundle: Bundle) -> Town:
    """Streets and demand of the scenario that a bundle names.

    Raises:
        UserError: a bundle of another domain, or of other signals or features than these streets
            have; a file that is missing or cannot be used.
    """
    spec = bundle.spec
    if spec.domain != "traffic":
        raise UserError(
            f"{bundle.folder} is about {spec.domain}/{spec.scenario}; the bridge to SUMO drives "
            "bundles of the traffic domain: fairlead train traffic --scenario cologne8"
        )
    settings = bundle.manifest["scenario"]["settings"]
    scenario = served_scenario("traffic", SCENARIOS, spec, settings)
    if not isinstance(scenario, TrafficScenario):
        raise TypeError(f"{type(scenario).__name__} is no scenario of the traffic domain")
    try:
        # Frozen settings have a hash, which the type checker does not see.
        town = town_of(scenario)  # pyright: ignore[reportArgumentType]
    except DataError as error:
        raise UserError(str(error)) from error
    own = Observer(town).spec
    features = (spec.agent_features, spec.candidate_features)
    if spec.agents != own.agents or features != (own.agent_features, own.candidate_features):
        raise UserError(
            f"{bundle.folder} is about {spec.agents} signals with "
            f"{len(spec.agent_features)} features, and {len(spec.candidate_features)} of a phase; "
            f"these streets have {own.agents} with {len(own.agent_features)}, and "
            f"{len(own.candidate_features)}, or others of the same number"
        )
    return town
