"""The Simplex switch: policy actions that leave no way back go to the verified baseline.

Black-box Simplex (arXiv 2102.12981): the joint action is executed only if, one step ahead, the
baseline could still recover. Control returns with hysteresis (Neural Simplex, arXiv 1908.00528):
after so many consecutive ticks in which the policy's action would have been accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ladder import Ladder
from .settings import SimplexSettings
from .types import Actions, Live, State


@dataclass(frozen=True, slots=True)
class Switch:
    """The switch after a tick.

    Attributes:
        accepted: the policy's action is executed.
        latched, clean: as in ``State``.
        margin: of the look-ahead, NaN if there was none.
    """

    accepted: bool
    latched: bool
    clean: int
    margin: float = float("nan")


def unasked(settings: SimplexSettings, state: State) -> Switch:
    """A tick without an action of the policy to look at: no clean one, if any are counted."""
    return Switch(accepted=False, latched=state.latched and settings.enabled, clean=0)


def look_ahead(
    settings: SimplexSettings,
    state: State,
    *,
    live: Live,
    ladder: Ladder,
    actions: Actions,
    champion: bool,
) -> Switch:
    """Judge feasible ``actions``; ``champion`` tells whether they come from the policy in charge.

    A look-ahead that fails, or has no baseline to go back to, is a refusal.
    """
    if not settings.enabled:
        return Switch(accepted=True, latched=False, clean=0)
    recoverable, margin = _verdict(live, ladder, actions)
    if not recoverable:
        return Switch(accepted=False, latched=True, clean=0, margin=margin)
    if not state.latched:
        return Switch(accepted=True, latched=False, clean=0, margin=margin)
    if not champion:
        return Switch(accepted=False, latched=True, clean=0, margin=margin)
    if state.clean >= settings.clean_ticks:
        return Switch(accepted=True, latched=False, clean=0, margin=margin)
    return Switch(accepted=False, latched=True, clean=state.clean + 1, margin=margin)


def _verdict(live: Live, ladder: Ladder, actions: Actions) -> tuple[bool, float]:
    try:
        # Mostly enough, and it keeps the baseline off the decision path.
        margin = float(live.surely_recoverable(ladder.observation, actions))
        if margin >= 0.0:
            return True, margin
        baseline = ladder.projected_baseline()
        if baseline is None:
            return False, float("nan")
        recoverable, margin = live.recoverable(ladder.observation, actions, baseline.actions)
        return bool(recoverable), float(margin)
    except Exception as error:  # noqa: BLE001 - what cannot be judged is refused, and named
        ladder.failures.setdefault("simplex", f"{type(error).__name__}: {error}")
        return False, float("nan")
