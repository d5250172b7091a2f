"""Does an exported graph score as the policy did? Needs onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..policies.interface import PolicyArrays
from .golden import score_error


def graph_error(model: bytes, arrays: PolicyArrays, golden: Mapping[str, NDArray[Any]]) -> float:
    """Largest difference between the graph's scores and the golden ones, as ``golden.score_error``.

    Compares the legal candidates of agents that had something to decide.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model, sess_options=options, providers=["CPUExecutionProvider"]
    )
    member = np.asarray(arrays.member, np.int64)
    wanted = {port.name for port in session.get_inputs()}
    worst = 0.0
    for epoch in range(golden["seed"].size):
        mask = golden["mask"][epoch]
        offered = {
            "agent": golden["agent"][epoch],
            "candidates": golden["candidates"][epoch],
            "mask": mask,
            "member": member,
        }
        inputs = {name: value for name, value in offered.items() if name in wanted}
        scores = np.asarray(session.run(["scores"], inputs)[0])
        deciding = golden["active"][epoch] & (mask.sum(axis=1) > 1)
        compared = mask & deciding[:, None]
        worst = max(worst, score_error(scores[compared], golden["scores"][epoch][compared]))
    return worst
