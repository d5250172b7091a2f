"""A trained policy as an ONNX graph: for servers that run neither Python nor our code.

Choices: inputs ``agent`` ``[A, F]`` float32, ``candidates`` ``[A, K, C]`` float32, ``mask``
``[A, K]`` bool; outputs ``scores`` and ``probabilities`` ``[A, K]`` float32; masked candidates have
score minus infinity.

Set-points: inputs ``agent`` ``[A, F]``, ``low`` and ``high`` ``[A, D]`` float32; outputs the shapes
``a`` and ``b`` of each Beta distribution and its most likely ``set_point``, all ``[A, D]`` float32.
Who samples draws a share of the box from Beta(a, b). Whether an agent is active is the caller's to
know; one that is not stays at ``low``.

Where agents do not all share their weights, ``member`` ``[A]`` int64 is an input, too (an agent's
parameter group). A and K are free, features are raw: the graph contains the normaliser.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..policies.interface import PolicyArrays
from ..policies.normaliser import LIMIT
from ..simulators.interface import Box, Choice, Feature, Spec

OPSET = 17
_REAL, _FLAG = TensorProto.FLOAT, TensorProto.BOOL


def policy_graph(spec: Spec, arrays: PolicyArrays) -> bytes:
    """The serialised model of a policy for this spec's kind of action."""
    if isinstance(spec.action, Choice):
        return _choice_graph(spec, arrays)
    return _set_point_graph(spec, arrays, spec.action)


def _choice_graph(spec: Spec, arrays: PolicyArrays) -> bytes:
    """A candidate scorer: the same operations as ``PolicyActor``."""
    graph = _Graph(arrays)
    agent = graph.normalise("agent", spec.agent_features, "agent")
    each = graph.normalise("candidates", spec.candidate_features, "candidate")
    own = graph.op("Unsqueeze", agent, graph.axes(1))
    if arrays.tensors["agent.weight"].shape[1] > len(spec.agent_features):
        own = graph.op("Concat", own, graph.mean_of_legal(each), axis=2)
    first = graph.dense(own, "agent.weight", "agent.bias")
    hidden = graph.op("MatMul", each, graph.weight("candidate.weight"))
    hidden = graph.hidden(graph.op("Tanh", graph.op("Add", hidden, first)))
    score = graph.op("MatMul", hidden, graph.weight("score.weight"))
    score = graph.op("Squeeze", score, graph.axes(2))
    never = graph.constant(np.array(-np.inf, np.float32))
    graph.op("Where", "mask", score, never, name="scores")
    graph.op("Softmax", "scores", axis=1, name="probabilities")
    inputs = [
        _port("agent", _REAL, ["A", len(spec.agent_features)]),
        _port("candidates", _REAL, ["A", "K", len(spec.candidate_features)]),
        _port("mask", _FLAG, ["A", "K"]),
    ]
    outputs = [_port(name, _REAL, ["A", "K"]) for name in ("scores", "probabilities")]
    return graph.serialise(spec, inputs, outputs)


def _set_point_graph(spec: Spec, arrays: PolicyArrays, action: Box) -> bytes:
    """Shapes and most likely set-points: the same operations as ``SetPointActor``."""
    graph = _Graph(arrays)
    agent = graph.normalise("agent", spec.agent_features, "agent")
    own = graph.op("Unsqueeze", agent, graph.axes(1))
    first = graph.op("Tanh", graph.dense(own, "agent.weight", "agent.bias"))
    outputs = graph.dense(graph.hidden(first), "box.weight", "box.bias")
    one, none = (graph.constant(np.array(value, np.float32)) for value in (1.0, 0.0))
    shape = graph.op("Softplus", outputs)
    if "base.weight" in arrays.tensors:
        base = graph.op("Relu", graph.dense(own, "base.weight", "base.bias"))
        shape = graph.op("Add", shape, base)
    both = graph.op("Add", graph.op("Squeeze", shape, graph.axes(1)), one)
    ends = [0, action.dimensions, 2 * action.dimensions]
    for name, start, end in zip("ab", ends, ends[1:], strict=False):
        graph.op("Slice", both, graph.axes(start), graph.axes(end), graph.axes(1), name=name)
    over, under = (graph.op("Sub", name, one) for name in "ab")
    total = graph.op("Add", over, under)
    some = graph.op("Greater", total, none)
    share = graph.op("Div", over, graph.op("Where", some, total, one))
    share = graph.op("Where", some, share, graph.constant(np.array(0.5, np.float32)))
    point = graph.op("Add", "low", graph.op("Mul", graph.op("Sub", "high", "low"), share))
    # Rounding may leave the box by a bit.
    graph.op("Min", graph.op("Max", point, "low"), "high", name="set_point")
    wide = ["A", action.dimensions]
    inputs = [_port("agent", _REAL, ["A", len(spec.agent_features)])]
    inputs += [_port(name, _REAL, wide) for name in ("low", "high")]
    return graph.serialise(
        spec, inputs, [_port(name, _REAL, wide) for name in ("a", "b", "set_point")]
    )


class _Graph:
    """Builds nodes one after another; every operation returns the name of its output."""

    def __init__(self, arrays: PolicyArrays):
        self._tensors = arrays.tensors
        self._shared = arrays.tensors["agent.weight"].shape[0] == 1
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

    def hidden(self, below: str) -> str:
        """The layers between the first and the last."""
        layer = 1
        while f"hidden.{layer}.weight" in self._tensors:
            linear = self.dense(below, f"hidden.{layer}.weight", f"hidden.{layer}.bias")
            below = self.op("Tanh", linear)
            layer += 1
        return below

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

    def serialise(
        self,
        spec: Spec,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
    ) -> bytes:
        if not self._shared:
            inputs = [*inputs, _port("member", TensorProto.INT64, ["A"])]
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
