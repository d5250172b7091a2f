"""A trained policy as an ONNX graph: for servers that run neither Python nor our code.

Inputs ``agent`` ``[A, F]`` float32, ``candidates`` ``[A, K, C]`` float32, ``mask`` ``[A, K]`` bool
and, where agents do not all share their weights, ``member`` ``[A]`` int64 (an agent's parameter
group). Outputs ``scores`` and ``probabilities`` ``[A, K]`` float32; masked candidates have score
minus infinity. A and K are free, features are raw: the graph contains the normaliser.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..policies.interface import PolicyArrays
from ..policies.normaliser import LIMIT
from ..simulators.interface import Feature, Spec

OPSET = 17


def policy_graph(spec: Spec, arrays: PolicyArrays) -> bytes:
    """The serialised model of a candidate scorer (the same operations as ``PolicyActor``)."""
    graph = _Graph(arrays)
    agent = graph.normalise("agent", spec.agent_features, "agent")
    each = graph.normalise("candidates", spec.candidate_features, "candidate")
    own = graph.op("Unsqueeze", agent, graph.axes(1))
    if arrays.tensors["agent.weight"].shape[1] > len(spec.agent_features):
        own = graph.op("Concat", own, graph.mean_of_legal(each), axis=2)
    first = graph.dense(own, "agent.weight", "agent.bias")
    hidden = graph.op("MatMul", each, graph.weight("candidate.weight"))
    hidden = graph.op("Tanh", graph.op("Add", hidden, first))
    layer = 1
    while f"hidden.{layer}.weight" in arrays.tensors:
        linear = graph.dense(hidden, f"hidden.{layer}.weight", f"hidden.{layer}.bias")
        hidden = graph.op("Tanh", linear)
        layer += 1
    score = graph.op("MatMul", hidden, graph.weight("score.weight"))
    score = graph.op("Squeeze", score, graph.axes(2))
    never = graph.constant(np.array(-np.inf, np.float32))
    graph.op("Where", "mask", score, never, name="scores")
    graph.op("Softmax", "scores", axis=1, name="probabilities")
    return graph.serialise(spec)


class _Graph:
    """Builds nodes one after another; every operation returns the name of its output."""

    def __init__(self, arrays: PolicyArrays):
        self._tensors = arrays.tensors
        self._shared = arrays.tensors["score.weight"].shape[0] == 1
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, name: str = "", axis: int | None = None) -> str:
        output = name or f"{kind.lower()}_{len(self._nodes)}"
        node = helper.make_node(kind, list(inputs), [output])
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)
        return output

    def constant(self, value: NDArray[np.generic], name: str = "") -> str:
        label = name or f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), label))
        return label

    def axes(self, *axes: int) -> str:
        return self.constant(np.array(axes, np.int64))

    def weight(self, name: str) -> str:
        """A weight for every agent ``[A, ...]``, or once ``[...]`` if all agents share it."""
        if self._shared:
            return self.constant(self._tensors[name][0], name)
        return self.op("Gather", self.constant(self._tensors[name], name), "member", axis=0)

    def row(self, name: str) -> str:
        """A vector per agent, shaped to be added to ``[A, n, width]``."""
        found = self.weight(name)
        return found if self._shared else self.op("Unsqueeze", found, self.axes(1))

    def dense(self, value: str, weight: str, bias: str) -> str:
        return self.op("Add", self.op("MatMul", value, self.weight(weight)), self.row(bias))

    def normalise(self, value: str, features: Sequence[Feature], kind: str) -> str:
        """Transform, shift, scale and clip, as ``policies.normaliser.normalise``."""
        logarithmic = np.array([feature.transform == "log1p" for feature in features])
        one = self.constant(np.array(1.0, np.float32))
        logarithm = self.op("Log", self.op("Add", self.op("Abs", value), one))
        signed = self.op("Mul", self.op("Sign", value), logarithm)
        read = self.op("Where", self.constant(logarithmic), signed, value)
        wide = value == "candidates"
        shift, scale = (
            self.row(f"normaliser.{kind}.{part}")
            if wide
            else self.weight(f"normaliser.{kind}.{part}")
            for part in ("shift", "scale")
        )
        scaled = self.op("Div", self.op("Sub", read, shift), scale)
        low, high = (self.constant(np.array(bound, np.float32)) for bound in (-LIMIT, LIMIT))
        return self.op("Clip", scaled, low, high)

    def mean_of_legal(self, each: str) -> str:
        """Mean features of the legal candidates, ``[A, 1, C]``."""
        cast = helper.make_node("Cast", ["mask"], ["legal"], to=TensorProto.FLOAT)
        self._nodes.append(cast)
        legal = self.op("Unsqueeze", "legal", self.axes(1))
        total = self.op("MatMul", legal, each)
        count = self.op("ReduceSum", legal, self.axes(2))
        return self.op("Div", total, count)

    def serialise(self, spec: Spec) -> bytes:
        real, flag, whole = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64
        inputs = [
            _port("agent", real, ["A", len(spec.agent_features)]),
            _port("candidates", real, ["A", "K", len(spec.candidate_features)]),
            _port("mask", flag, ["A", "K"]),
        ]
        if not self._shared:
            inputs.append(_port("member", whole, ["A"]))
        outputs = [_port(name, real, ["A", "K"]) for name in ("scores", "probabilities")]
        graph = helper.make_graph(
            self._nodes, f"{spec.domain}-{spec.scenario}", inputs, outputs, self._constants
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fairlead"
        )
        model.ir_version = 9  # what runtimes of the last years read
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def _port(name: str, kind: int, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))
