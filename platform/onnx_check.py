"""Does an exported graph score as the policy did? Needs onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..policies.box_acting import mode, set_points
from ..policies.interface import PolicyArrays
from .golden import parts_of, score_error, seen_in, share_error


def graph_error(model: bytes, arrays: PolicyArrays, golden: Mapping[str, NDArray[Any]]) -> float:
    """Largest difference between the graph's outputs and the golden ones, ``golden.score_error``.

    Of choices the legal candidates of agents that had something to decide are compared; of
    set-points the shapes, and the most likely set-point with that of the graph's own shapes, as a
    share of the box.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model, sess_options=options, providers=["CPUExecutionProvider"]
    )
    member = np.asarray(arrays.member, np.int64)
    wanted = {port.name for port in session.get_inputs()}
    compare = _set_point_error if "a" in golden else _choice_error
    errors = [0.0]
    for epoch in range(golden["seed"].size):
        seen = {name: array[epoch] for name, array in golden.items()}
        offered = {**{name: seen[name] for name in parts_of(golden)}, "member": member}
        inputs = {name: value for name, value in offered.items() if name in wanted}
        errors.append(compare(session, inputs, seen))
    return float(np.max(errors))


def _choice_error(
    session: Any, inputs: Mapping[str, NDArray[Any]], seen: Mapping[str, NDArray[Any]]
) -> float:
    mask = seen["mask"]
    scores = np.asarray(session.run(["scores"], inputs)[0])
    deciding = seen["active"] & (mask.sum(axis=1) > 1)
    compared = mask & deciding[:, None]
    return score_error(scores[compared], seen["scores"][compared])


def _set_point_error(
    session: Any, inputs: Mapping[str, NDArray[Any]], seen: Mapping[str, NDArray[Any]]
) -> float:
    a, b, points = (np.asarray(found) for found in session.run(["a", "b", "set_point"], inputs))
    whole = {name: array[None] for name, array in seen.items()}
    whole["active"] = np.ones_like(whole["active"])
    expected = set_points(seen_in(whole)[0], mode(a, b))
    found = share_error(points, expected, seen["low"], seen["high"])
    return float(np.max([score_error(a, seen["a"]), score_error(b, seen["b"]), found]))
