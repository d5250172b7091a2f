"""Which reference state points downhill? Measured in the simulator, not assumed.

Pairs of episodes differ in one action of one agent; everything random is the same in both. A
reference is aligned as far as the guidance value of the two actions predicts which episode costs
less. ``models.alignment`` says exactly what is measured.
"""

from __future__ import annotations

from typing import Literal

from ...models.alignment import Alignment, measure_alignment
from ...simulators.cloud.dispatch import DispatchSimulator
from ...simulators.cloud.scenario import DispatchScenario
from ...simulators.settings import Settings, knob
from ..cloud import cloud
from ..progress import Report
from ..rows import Row


class Options(Settings):
    """What to measure."""

    agents: tuple[int, ...] = knob((20,), "numbers of dispatchers")
    loads: tuple[float, ...] = knob((0.7, 0.9), "offered loads")
    base: Literal["weighted-random", "sed", "interpreted-reference"] = knob(
        "weighted-random", "rule that plays the rest of the episodes"
    )
    seeds: int = knob(40, "episodes with probes", usual="20 ... 100", ge=2)
    probes: int = knob(10, "pairs per episode", ge=1)
    continuation: int = knob(30, "epochs played after the changed action", unit="epochs", ge=1)
    quick: bool = knob(False, "smallest useful run")


def run(options: Options, progress: Report) -> list[Row]:
    """Measure all references on common pairs; see ``Options``."""
    if options.quick:
        options = options.model_copy(update={"seeds": 4, "probes": 5, "loads": options.loads[:1]})
    cases = [(agents, load) for agents in options.agents for load in options.loads]
    rows: list[Row] = []
    for done, (agents, load) in enumerate(cases):
        progress(done, len(cases), f"N={agents}, load {load:g}")
        for alignment in _measure(options, agents, load):
            rows += _rows(f"N={agents}, load {load:g}: {alignment.reference}", alignment)
    progress(len(cases), len(cases), "done")
    return rows


def _measure(options: Options, agents: int, load: float) -> list[Alignment]:
    domain, scenario = cloud(), DispatchScenario(agents=agents, load=load)
    rules = {rule.name: rule for rule in domain.heuristics(scenario)}
    return measure_alignment(
        DispatchSimulator(scenario),
        {name: domain.model(scenario, name) for name in domain.references},
        rules[options.base].act,
        seeds=range(options.seeds),
        probes=options.probes,
        continuation=options.continuation,
    )


def _rows(name: str, alignment: Alignment) -> list[Row]:
    correlation = alignment.correlation
    return [
        Row.info(f"{name}, correlation", correlation.value, "1"),
        Row.info(f"{name}, correlation, 95 % low", correlation.low, "1"),
        Row.info(f"{name}, correlation, 95 % high", correlation.high, "1"),
        Row.info(f"{name}, agreement in sign", alignment.agreement.value, "1"),
        Row.info(f"{name}, pairs", alignment.pairs, "pairs"),
    ]
