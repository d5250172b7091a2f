"""What controllers of power dispatch cost above perfect foresight and above look-ahead dispatch.

A trained policy and the domain's rules play the same days, which no training has seen, with the
forecast errors as measured and scaled. Every controller is compared with ``mpc`` (look-ahead over
the forecast horizon, the same forecasts) seed by seed, and with a proven lower bound of each day
(``models.power.foresight``). Decision times are CPU time of one process with one thread.

Marks are put on a trained policy: at the measured forecast errors within 1 % of ``mpc``, 50 times
faster and without unserved energy that ``mpc`` avoids; where forecasts are worse or something fails
ahead of merit order, proportional and ``greedy-reference``. Rows say where ``mpc`` is better, by
parts of the cost and by days.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...simulators.settings import Settings, knob
from ..bundle import Bundle
from ..contest import Arena, find_bundle, settings_of
from ..files import UserError
from ..progress import Report
from ..registry import find_scenario
from ..rollouts import evaluation_seeds
from ..rows import Row
from ..tasks import DomainFactory
from .regret_play import Archive, ClockedFactory, Contest, play
from .regret_rows import MPC, Standing, setting_rows

UNTOUCHED = 1_000_000
"""First seed, as in a run's final comparison: evaluations that chose the policy are below."""


class Options(Settings):
    """Who plays, where, and for how long."""

    bundle: Path | None = knob(None, "trained policy: a bundle's folder, or that of a run with one")
    rules: tuple[str, ...] = knob(
        ("merit-order", "price", "proportional", "droop", "dc-opf", "greedy-reference"),
        "rules beside mpc, which always plays",
    )
    scenario: str | None = knob(None, "scenario (none: the bundle's, or generated)")
    data: Path | None = knob(None, "folder with the scenario's files (none: FAIRLEAD_DATA)")
    units: int | None = knob(None, "units of a generated system (none: the scenario's own)", ge=10)
    hours: int | None = knob(None, "length of an episode (none: the scenario's own)", ge=1)
    seeds: int = knob(20, "days, each with its own seed", usual="20 ... 100", ge=2)
    first_seed: int = knob(UNTOUCHED, "seed of the first day; the others follow", ge=0, lt=2**40)
    errors: tuple[float, ...] = knob(
        (1.0, 2.0), "multiples of the measured forecast errors, each played on all days"
    )
    foresight: bool = knob(True, "also the lower bound of every day")
    workers: int = knob(2, "processes that play", ge=1)
    archive: Path | None = knob(
        None, "file that keeps finished episodes, so that a stopped run goes on where it was"
    )
    plot: Path | None = knob(None, "write a chart of the gaps here")
    quick: bool = knob(False, "smallest useful run")


def run(options: Options, progress: Report) -> list[Row]:
    """Play and compare; see the module and ``Options``.

    Raises:
        UserError: a bundle of another domain or shape, an unknown rule, an archive of other
            settings.
    """
    if options.quick:
        options = options.model_copy(update={"seeds": 2, "hours": options.hours or 2})
    bundle = None if options.bundle is None else _power_bundle(options.bundle)
    base = _scenario(options, bundle)
    settings = {
        f"forecast error x {scale:g}": ClockedFactory(
            "power", base.scenario, {**base.settings, "forecast_error": scale}
        )
        for scale in options.errors
    }
    if len(settings) < max(len(options.errors), 1):
        raise UserError(
            "errors: give multiples of the forecast errors, at least one, each once, as [1.0]"
        )
    arena = Arena(base)
    entrants = arena.policies([bundle] if bundle is not None else [])
    entrants += arena.rules([*(rule for rule in options.rules if rule != MPC), MPC])
    seeds = evaluation_seeds(options.seeds, options.first_seed)
    archive = Archive(options.archive, _identity(base, bundle))
    contest = Contest(settings, entrants, seeds, options.workers, options.foresight)
    play(contest, archive, progress)
    found: dict[str, Standing] = {}
    rows = [
        Row.info("scenario", base.scenario, ""),
        Row.info("days", len(seeds), "1"),
        Row.info("agents", base.simulator().spec.agents, "1"),
    ]
    for scale, name in zip(options.errors, settings, strict=True):
        bounds = archive.bounds(name, seeds) if options.foresight else None
        found[name] = Standing(name, archive.table(name, entrants, seeds), bounds)
        rows += setting_rows(found[name], marked=scale == 1.0, wrong=scale > 1.0)
    if options.plot is not None:
        from .regret_chart import draw_gaps

        draw_gaps(list(found.values()), options.plot)
    return rows


def _power_bundle(path: Path) -> Bundle:
    bundle = find_bundle(path)
    if bundle.spec.domain != "power":
        raise UserError(f"{bundle.folder} was trained for domain {bundle.spec.domain!r}, not power")
    return bundle


def _scenario(options: Options, bundle: Bundle | None) -> DomainFactory:
    """The scenario to play: the bundle's own settings first, then what the options say."""
    own = bundle is not None and options.scenario in (None, bundle.spec.scenario)
    name = options.scenario or (bundle.spec.scenario if bundle is not None else "generated")
    values: dict[str, Any] = {"name": name}
    if own and bundle is not None:
        values |= dict(settings_of(bundle)["scenario"])
    given = {"units": options.units, "hours": options.hours}
    given |= {"data": None if options.data is None else str(options.data.resolve())}
    kind = find_scenario("power", name)
    for key, value in given.items():
        if value is None:
            continue
        if key not in kind.model_fields:
            raise UserError(f"{key}={value}: scenario {name!r} has no such knob")
        values[key] = value
    try:
        kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"scenario {name!r}: {error}") from error
    return DomainFactory("power", name, values)


def _identity(base: DomainFactory, bundle: Bundle | None) -> Mapping[str, Any]:
    """What episodes of an archive have in common."""
    return {
        "scenario": dict(base.settings),
        "policy": None if bundle is None else bundle.digest,
    }
