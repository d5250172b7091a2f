"""All domains by name. Adding one is a function here and its modules in the other rooms."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache

from pydantic import BaseModel

from .domains import Domain
from .files import UserError


@cache
def domains() -> Mapping[str, Domain]:
    """All domains by name. Building this imports configuration types, nothing heavy."""
    from .cloud import cloud
    from .power import power
    from .traffic import traffic

    return {domain.name: domain for domain in (cloud(), power(), traffic())}


def find_domain(name: str) -> Domain:
    """The domain of that name.

    Raises:
        UserError: there is none; names the nearest and all known ones.
    """
    known = domains()
    if name not in known:
        raise UserError(_unknown("domain", name, known))
    return known[name]


def find_scenario(domain: str, scenario: str) -> type[BaseModel]:
    """The configuration type of a domain's scenario.

    Raises:
        UserError: no such domain or scenario; names the nearest and all known ones.
    """
    known = find_domain(domain).scenarios
    if scenario not in known:
        raise UserError(_unknown(f"scenario of domain {domain!r}", scenario, known))
    return known[scenario]


def locate_scenario(name: str) -> tuple[Domain, type[BaseModel]]:
    """Domain and configuration type of ``scenario`` (where unambiguous) or ``domain/scenario``.

    Raises:
        UserError: no such scenario, or several domains have it.
    """
    wanted_domain, slash, scenario = name.rpartition("/")
    if slash:
        return find_domain(wanted_domain), find_scenario(wanted_domain, scenario)
    found = [domain for domain in domains().values() if name in domain.scenarios]
    if not found:
        known = [scenario for domain in domains().values() for scenario in domain.scenarios]
        raise UserError(_unknown("scenario", name, known))
    if len(found) > 1:
        choices = " or ".join(f"{domain.name}/{name}" for domain in found)
        raise UserError(f"several domains have a scenario {name!r}; write {choices}")
    return found[0], found[0].scenarios[name]


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no {kind} named {name!r}; {hint}known: {', '.join(names)}"
