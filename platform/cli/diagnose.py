"""``fairlead diagnose``: which agent failed first, and whom it took along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .evaluate import AsJson, Config, Data, Overrides

if TYPE_CHECKING:
    from rich.table import Table

    from ...simulators.interface import Spec
    from ..diagnosis import Case, DiagnosisSettings, Examiner
    from ..diagnosis_accuracy import Accuracy
    from ..diagnosis_faults import Fault
    from ..rows import Row
    from ..tasks import DomainFactory

_ACCURACY = "Break a random agent in each of so many episodes and count who is named; 0: do not."

_REPLAY = {
    None: "",
    True: " (not without the fault)",
    False: " (but crosses without the fault, too)",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("diagnose")(diagnose)


def diagnose(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, or that of a run with one.")],
    overrides: Overrides = None,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.", min=0)] = 0,
    episodes: Annotated[
        int, typer.Option(help="Episodes to examine, on seeds in a row.", min=1)
    ] = 1,
    inject: Annotated[
        list[str] | None,
        typer.Option(metavar="AGENT@EPOCH", help="Break an agent from an epoch on (repeatable)."),
    ] = None,
    fault: Annotated[
        str,
        typer.Option(
            help="How: noise (observation plus noise), stuck (observation frozen), flip (its least "
            "liked candidate is carried out); all: in turn, for --accuracy."
        ),
    ] = "",
    strength: Annotated[
        float, typer.Option(help="Deviation of the noise, normalised feature units.", min=0.0)
    ] = 1.0,
    signals: Annotated[
        str,
        typer.Option(
            help="Signals that may raise an incident: all, or names with commas of remainder "
            "(the Taylor remainder), observation, surprise, frozen."
        ),
    ] = "all",
    references: Annotated[
        int, typer.Option(help="Clean episodes to calibrate the thresholds on.", min=5)
    ] = 20,
    alarm: Annotated[
        float, typer.Option(help="Accepted chance of a false incident per clean episode.")
    ] = 0.05,
    window: Annotated[int, typer.Option(help="Causal window of the contagion, epochs.", min=1)] = 8,
    top: Annotated[int, typer.Option(help="Agents in the table.", min=1)] = 10,
    accuracy: Annotated[int, typer.Option(help=_ACCURACY, min=0)] = 0,
    config: Config = None,
    data: Data = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the first episode with an incident to this PNG or SVG file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the agent that failed first in an episode, and the agents that it took along.

    Every agent's Taylor remainder, and three signals beside it, are compared with clean episodes of
    the same policy; the analytical model's influences say who moved whose decision. With --inject
    an agent is broken on purpose; without, the episode is examined as it is.

    Exit status: 0 for every episode that could be examined, 2 for a mistake in the input.
    """
    from ..contest import find_bundle
    from ..diagnosis import examiner_of
    from ..progress import progress_bar
    from ..rollouts import evaluation_seeds

    trained = find_bundle(bundle)
    settings = _settings(signals, references, alarm, window)
    factory = _factory(trained, overrides, config, data)
    spec = factory.simulator().spec
    faults = _faults(inject or [], fault or "noise", strength, spec)
    kinds = _kinds(fault or "all") if accuracy else ()
    _check_plot(plot)
    seeds = evaluation_seeds(episodes, seed)
    with progress_bar("diagnose") as progress:
        examiner = examiner_of(trained, factory, spec.domain, settings, progress)
        cases: list[Case] = []
        for number, each in enumerate(seeds):
            progress(number, len(seeds), "episodes")
            cases.append(examiner.examine(each, faults))
        found = None
        if accuracy:
            from ..diagnosis_accuracy import measure

            found = measure(
                examiner, accuracy, kinds, strength=strength, seed=seed, progress=progress
            )
    if plot is not None:
        from ..diagnosis_chart import draw_case

        drawn = next((case for case in cases if case.first is not None), cases[0])
        draw_case(drawn, spec, plot, settings.window)
    title = f"diagnose {trained.name} on {spec.domain}/{spec.scenario}, {spec.agents} agents"
    _present(title, examiner, cases, found, as_json=as_json, top=top)


def _settings(signals: str, references: int, alarm: float, window: int) -> DiagnosisSettings:
    from ..diagnosis import DiagnosisSettings
    from ..diagnosis_signals import SIGNALS

    names = [name.strip() for name in signals.split(",") if name.strip()]
    return DiagnosisSettings(
        signals=SIGNALS if signals == "all" else tuple(dict.fromkeys(names)),
        references=references,
        alarm=alarm,
        window=window,
    )


def _factory(
    trained: Any, overrides: list[str] | None, config: Path | None, data: Path | None
) -> DomainFactory:
    """The bundle's scenario with changed knobs; refuses a system of another shape."""
    from ...policies.acting import PolicyActor
    from ..contest import settings_of
    from ..diagnosis import refuse_set_points
    from ..files import UserError
    from ..train_config import load_config
    from .train import data_override

    home = trained.factory()
    given = [*(overrides or []), *data_override(home.domain, home.scenario, data)]
    base = settings_of(trained)
    settings = load_config(home.domain, home.scenario, file=config, overrides=given, base=base)
    factory = settings.factory()
    spec = factory.simulator().spec
    refuse_set_points(spec)
    try:
        PolicyActor(spec, trained.arrays, name=trained.name)
    except ValueError as error:
        raise UserError(f"{trained.folder} does not fit the scenario: {error}") from error
    return factory


def _faults(inject: list[str], kind: str, strength: float, spec: Spec) -> list[Fault]:
    from ..diagnosis_faults import parse_fault

    return [parse_fault(text, kind, strength, spec) for text in inject]


def _kinds(text: str) -> Any:
    from ..diagnosis_faults import KINDS
    from ..files import UserError

    if text == "all":
        return KINDS
    if text not in KINDS:
        raise UserError(f"--fault {text}: no such fault; known: {', '.join(KINDS)}, all")
    return (text,)


def _check_plot(plot: Path | None) -> None:
    """Refuse before minutes of work what would fail after them."""
    from ..files import UserError

    if plot is None:
        return
    if plot.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"--plot {plot}: the file must end in .png or .svg")
    if not plot.parent.is_dir():
        raise UserError(f"--plot {plot}: its folder does not exist; create it first")


def _present(
    title: str,
    examiner: Examiner,
    cases: list[Case],
    accuracy: Accuracy | None,
    *,
    as_json: bool,
    top: int,
) -> None:
    from rich.console import Console

    from ..diagnosis import case_json, case_rows
    from ..rows import PIPED_WIDTH, report

    rows: list[Row] = [row for case in cases for row in case_rows(case)]
    if as_json:
        extra: dict[str, Any] = {
            "settings": examiner.settings.model_dump(mode="json"),
            "episodes": [
                case_json(case, examiner.spec, examiner.settings.window) for case in cases
            ],
            "accuracy": None if accuracy is None else accuracy.plain(),
        }
        if accuracy is not None:
            rows += accuracy.rows()
        report(title, rows, as_json=True, extra=extra)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    console.print(title, style="bold", highlight=False)
    for case in cases:
        console.print(_table(case, examiner, top))
        console.print(verdict(case, stage_2=examiner.customary is not None), highlight=False)
    if accuracy is not None:
        report(
            "how often the broken agent is named (95 % interval)", accuracy.rows(), as_json=False
        )


def _table(case: Case, examiner: Examiner, top: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ..diagnosis import ranking

    spec = examiner.spec
    table = Table(box=SIMPLE_HEAD, title=f"episode {case.seed}, return {case.total:.4g}")
    for name in (
        "rank",
        "agent",
        "group",
        "crossed at",
        "signal",
        "peak",
        "remainder",
        "fragility",
    ):
        table.add_column(name, justify="left" if name in ("group", "signal") else "right")
    table.add_column("role", overflow="fold")
    when = {crossing.agent: crossing for crossing in case.crossings}
    peak, remainder = case.heat.max(axis=0), case.ratio[0].max(axis=0)
    for rank, agent in enumerate(ranking(case)[:top], start=1):
        crossing = when.get(agent)
        table.add_row(
            str(rank),
            str(agent),
            spec.groups[int(spec.group_of[agent])],
            "" if crossing is None else str(crossing.epoch),
            "" if crossing is None else crossing.signal,
            f"{peak[agent]:.2f}",
            f"{remainder[agent]:.2f}",
            f"{case.fragility[agent]:.3g}",
            _role(case, agent, examiner.settings.window),
        )
    table.caption = (
        "crossed at: first epoch above the level for a single agent (an incident needs that for "
        "all agents);\npeak, remainder: largest, in incident thresholds; "
        "fragility: median probe, nats"
    )
    return table


def _role(case: Case, agent: int, window: int) -> str:
    roles = [
        f"broken on purpose at {fault.epoch} ({fault.kind})"
        for fault in case.faults
        if fault.agent == agent
    ]
    if agent == case.patient_zero:
        roles.insert(0, "PATIENT 0")
    elif case.first is not None and agent == case.first.agent:
        roles.insert(0, "flagged first, downstream of Patient-0")
    if case.contagion is not None:
        roles += [
            f"taken along by {edge.source} at {edge.epoch}{_REPLAY[case.confirmed(edge, window)]}"
            for edge in case.contagion.edges
            if edge.target == agent
        ]
        if agent in {crossing.agent for crossing in case.contagion.alone}:
            roles.append("crossed its own level, nobody's influence explains it")
        elif agent != case.patient_zero and case.contagion.reached[agent] >= 0:
            roles.append(f"reached at {case.contagion.reached[agent]}")
    return "; ".join(roles)


def verdict(case: Case, *, stage_2: bool) -> str:
    """The finding in words."""
    if case.first is None:
        return "No incident: no agent did what clean episodes do not show.\n"
    first = case.first
    text = (
        f"Agent {case.patient_zero} failed first: agent {first.agent} crossed at epoch "
        f"{first.epoch} by {first.signal}, {first.ratio:.1f} times the threshold. "
    )
    if case.contagion is None:
        missing = "" if stage_2 else "The domain has no analytical model: no contagion analysis."
        return text + missing + "\n"
    contagion = case.contagion
    if len(contagion.moved) > 1:
        text += f"Moved upstream along {' <- '.join(map(str, contagion.moved))}. "
    taken = ", ".join(f"{edge.target} (epoch {edge.epoch})" for edge in contagion.edges)
    reached = int((contagion.reached >= 0).sum())
    return (
        f"{text}It took along {taken or 'nobody'}; its influence reached {reached} other "
        f"{'agent' if reached == 1 else 'agents'}.\n"
    )
