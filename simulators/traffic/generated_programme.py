"""The green phases of a generated junction, and the plan it starts with."""

from __future__ import annotations

from ..interface import Bools
from .junction import Arm, Path, yields

THROUGH = 30.0
"""s of green that straight traffic starts with."""
LEFT = 10.0
"""s of green that protected left turns start with."""


def find_stages(
    arms: tuple[Arm, ...], paths: tuple[Path, ...], *, protected: bool
) -> tuple[tuple[int, ...], ...]:
    """Which paths go together, in the order shown.

    Facing arms share a green, in which lefts give way. If lefts are ``protected`` they follow in a
    green of their own, together with the rest of their arm where nobody turns left from the facing
    arm. Facing arms of which one has a single lane cannot keep lefts apart and take turns instead.
    """
    found: list[tuple[int, ...]] = []
    for axis in (0, 90):
        along = [at for at, arm in enumerate(arms) if arm.bearing % 180 == axis]
        own = [at for at, path in enumerate(paths) if path.arm in along]
        lefts = [at for at in own if paths[at].turn == "l"]
        if len(along) < 2 or not protected or not lefts:
            found.append(tuple(own))
        elif min(arms[at].lanes for at in along) == 1:
            found.extend(tuple(at for at in own if paths[at].arm == arm) for arm in along)
        else:
            found.append(tuple(at for at in own if at not in lefts))
            turning = {paths[at].arm for at in lefts}
            alone = [at for at in own if paths[at].arm in turning] if len(turning) == 1 else lefts
            found.append(tuple(alone))
    return tuple(stage for stage in found if stage)


def find_greens(
    arms: tuple[Arm, ...], paths: tuple[Path, ...], stages: tuple[tuple[int, ...], ...]
) -> tuple[str, ...]:
    """State string of each stage: ``g`` for whoever gives way to another path of the stage."""
    gives = yields(arms, paths)
    return tuple("".join(_letter(at, stage, gives) for at in range(len(paths))) for stage in stages)


def first_seconds(
    paths: tuple[Path, ...], stages: tuple[tuple[int, ...], ...]
) -> tuple[float, ...]:
    """S of green per stage before any demand is known."""
    return tuple(LEFT if _starts_left(paths, stages, at) else THROUGH for at in range(len(stages)))


def _letter(at: int, stage: tuple[int, ...], gives: Bools) -> str:
    if at not in stage:
        return "r"
    return "g" if gives[at, list(stage)].any() else "G"


def _starts_left(paths: tuple[Path, ...], stages: tuple[tuple[int, ...], ...], at: int) -> bool:
    """Whether lefts are the only movements that this stage adds to the one before."""
    fresh = set(stages[at]) - set(stages[at - 1])
    return bool(fresh) and all(paths[path].turn == "l" for path in fresh)
