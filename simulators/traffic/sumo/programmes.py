"""Plans of signals as an additional file for SUMO, which then runs them by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

from ..actuated import DEFAULTS, ActuatedSettings
from ..programme import Signal, red_state, yellow_state
from ..timing import TimingSettings

PROGRAM = "fairlead"
"""Id of the programmes; a signal runs the one that SUMO has loaded last."""


def write_static(path: Path, signals: Iterable[Signal]) -> None:
    """Write the signals' programmes as they are."""
    _write(path, (_logic(signal, "static", _static(signal)) for signal in signals))


def write_actuated(
    path: Path,
    signals: Iterable[Signal],
    timing: TimingSettings,
    settings: ActuatedSettings = DEFAULTS,
) -> None:
    """Write SUMO's own actuated control of the signals' greens, in their order.

    The longer minimum green of ``timing`` and ``settings`` holds, as in
    :class:`..actuated.Actuated`.
    """
    _write(
        path,
        (_logic(signal, "actuated", _actuated(signal, timing, settings)) for signal in signals),
    )


def _write(path: Path, logics: Iterable[str]) -> None:
    text = "".join(logics)
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<additional>\n{text}</additional>\n',
        encoding="utf-8",
    )


def _logic(signal: Signal, kind: str, rows: Iterable[str]) -> str:
    name = quoteattr(signal.name)
    head = f'<tlLogic id={name} type="{kind}" programID="{PROGRAM}" offset="{signal.offset:g}">'
    return "\n".join([f"    {head}", *(f"        {row}" for row in rows), "    </tlLogic>\n"])


def _static(signal: Signal) -> Iterator[str]:
    for state, seconds in signal.programme:
        yield f'<phase duration="{seconds:g}" state="{state}"/>'


def _actuated(signal: Signal, timing: TimingSettings, settings: ActuatedSettings) -> Iterator[str]:
    yield f'<param key="max-gap" value="{settings.gap:g}"/>'
    yield f'<param key="detector-gap" value="{settings.detector:g}"/>'
    least = max(settings.min_green, timing.min_green)
    most = max(settings.max_green, least)
    for at, green in enumerate(signal.greens):
        after = signal.greens[(at + 1) % len(signal.greens)]
        yield (
            f'<phase duration="{least:g}" minDur="{least:g}" maxDur="{most:g}" state="{green}"/>'
        )
        yellow = yellow_state(green, after)
        if "y" not in yellow:
            continue
        if timing.yellow:
            yield f'<phase duration="{timing.yellow:g}" state="{yellow}"/>'
        if timing.all_red:
            yield f'<phase duration="{timing.all_red:g}" state="{red_state(green, after)}"/>'
