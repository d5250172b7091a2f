"""What runs a bundle's policy inside the daemon: plain callables, as ``decision.asking.Backend``.

Both sample alike: one generator per decision, derived from the decision's seed, used for one draw
of Gumbel noise, or of all set-points. So a client or a replay can compute the same action from the
recorded seed. Choices come with the scores behind them, set-points without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...policies.acting import choose
from ...policies.box_acting import SetPointActor, mode, sample, set_points
from ...simulators.interface import Box, Floats, Ints, Observation
from ..bundle import ONNX, Bundle
from ..decision.asking import Backend
from ..decision.seeds import generator
from ..decision.settings import SlotSettings
from ..decision.types import Inference


class NumpyBackend:
    """The policy as roll-out workers run it; replays recompute it bit for bit.

    Args:
        bundle: loaded and verified.
        stochastic: sample where a request does not say otherwise.
    """

    def __init__(self, bundle: Bundle, *, stochastic: bool):
        self._actor, self._stochastic = bundle.actor(), stochastic

    def __call__(
        self, observation: Observation, agents: Ints | None, seed: int, greedy: bool | None, /
    ) -> Inference:
        sampled = self._stochastic if greedy is None else not greedy
        actor = self._actor.of(agents)
        rng = generator(seed) if sampled else None
        if isinstance(actor, SetPointActor):
            return _set(actor.shapes(observation), observation, rng)
        scores = actor.scores(observation)
        return Inference(choose(scores, observation, rng), scores)


class OnnxBackend:
    """The exported graph by onnxruntime, on one thread; outputs within 1e-5 of the numpy ones.

    Args:
        bundle: loaded and verified.
        stochastic: sample where a request does not say otherwise.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, bundle: Bundle, *, stochastic: bool):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = (bundle.folder / ONNX).read_bytes()
        self._session = onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._wanted = {port.name for port in self._session.get_inputs()}
        self._member: NDArray[np.int64] = np.asarray(bundle.arrays.member, np.int64)
        self._stochastic = stochastic
        self._boxes = isinstance(bundle.spec.action, Box)

    def __call__(
        self, observation: Observation, agents: Ints | None, seed: int, greedy: bool | None, /
    ) -> Inference:
        sampled = self._stochastic if greedy is None else not greedy
        rng = generator(seed) if sampled else None
        if self._boxes:
            return _set(self.shapes(observation, agents), observation, rng)
        scores = self.scores(observation, agents)
        return Inference(choose(scores, observation, rng), scores)

    def shapes(self, observation: Observation, agents: Ints | None) -> tuple[Floats, Floats]:
        """As ``SetPointActor.shapes``."""
        found = self._run(
            ["a", "b"],
            agents,
            {"agent": observation.agent, "low": observation.low, "high": observation.high},
        )
        return found[0], found[1]

    def scores(self, observation: Observation, agents: Ints | None) -> Floats:
        """As ``PolicyActor.scores``: zero for masked candidates and agents without a choice."""
        mask = observation.mask
        raw = self._run(
            ["scores"],
            agents,
            {"agent": observation.agent, "candidates": observation.candidates, "mask": mask},
        )[0]
        deciding = observation.active & (mask.sum(axis=1) > 1)
        return np.where(mask & deciding[:, None], raw, np.float32(0.0))

    def _run(
        self, outputs: list[str], agents: Ints | None, offered: dict[str, NDArray[Any]]
    ) -> list[Floats]:
        offered["member"] = self._member if agents is None else self._member[agents]
        inputs = {name: value for name, value in offered.items() if name in self._wanted}
        return [np.asarray(found) for found in self._session.run(outputs, inputs)]


def _set(
    shapes: tuple[Floats, Floats], observation: Observation, rng: np.random.Generator | None
) -> Inference:
    """Set-points from the shapes of their distribution, as ``SetPointActor.act`` takes them."""
    share = mode(*shapes) if rng is None else sample(*shapes, rng)
    return Inference(set_points(observation, share), None)


def backend_of(bundle: Bundle, slot: SlotSettings) -> tuple[Backend, bool]:
    """What the slot's knobs ask for, and whether it samples by default."""
    stochastic = bundle.stochastic if slot.sample == "bundle" else slot.sample == "yes"
    kind = OnnxBackend if slot.backend == "onnx" else NumpyBackend
    return kind(bundle, stochastic=stochastic), stochastic
