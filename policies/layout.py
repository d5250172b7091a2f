"""Whether the tensors of a stored policy fit a scenario; errors name the tensor."""

from __future__ import annotations

from ..simulators.interface import Spec
from .interface import PolicyArrays

Shapes = dict[str, tuple[int, ...]]


def require(arrays: PolicyArrays, names: tuple[str, ...]) -> None:
    """Raise ``ValueError`` naming the tensors that are missing."""
    if missing := [name for name in names if name not in arrays.tensors]:
        raise ValueError(f"policy lacks the tensors {', '.join(missing)}")


def hidden_shapes(arrays: PolicyArrays, groups: int, width: int) -> tuple[Shapes, int, int]:
    """Shapes of the layers ``hidden.<n>`` above one of ``width``; last width; hidden layers."""
    tensors, shapes, layers = arrays.tensors, Shapes(), 1
    while f"hidden.{layers}.weight" in tensors:
        out = tensors[f"hidden.{layers}.weight"].shape[-1]
        shapes[f"hidden.{layers}.weight"] = (groups, width, out)
        shapes[f"hidden.{layers}.bias"] = (groups, out)
        width = out
        layers += 1
    return shapes, width, layers


def check(spec: Spec, arrays: PolicyArrays, expected: Shapes, groups: int) -> None:
    """Raise ``ValueError`` unless tensors have these shapes and every agent a parameter group."""
    tensors = arrays.tensors
    for key, shape in expected.items():
        if key not in tensors or tensors[key].shape != shape:
            found = tensors[key].shape if key in tensors else "nothing"
            raise ValueError(f"policy tensor {key}: expected shape {shape}, found {found}")
    if arrays.member.shape != (spec.agents,):
        raise ValueError(f"policy is for {arrays.member.shape[0]} agents, not {spec.agents}")
    if arrays.member.min() < 0 or arrays.member.max() >= groups:
        raise ValueError(f"parameter groups run to {arrays.member.max()}, weights have {groups}")
