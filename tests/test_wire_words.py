"""What the metadata routes and the refusals say."""

from __future__ import annotations

from dataclasses import replace

import orjson
from serving import recorded

from fairlead.platform.decision.types import Rejected
from fairlead.platform.wire import frames, metadata
from fairlead.platform.wire.problems import Problem
from fairlead.platform.wire.tensors import INPUTS
from fairlead.simulators.interface import Box

SPEC = recorded()[0]
F, C = len(SPEC.agent_features), len(SPEC.candidate_features)


def test_metadata_names_what_decode_accepts():
    found = metadata.model("cloud", SPEC, ["abc"])
    assert {item["name"]: item["datatype"] for item in found["inputs"]} == {
        name: kind for name, kind in INPUTS.items() if name not in {"low", "high"}
    }
    assert found["inputs"][0]["shape"] == [-1, F]
    assert found["inputs"][1]["shape"] == [-1, -1, C]
    assert [item["name"] for item in found["outputs"]] == [
        "action", "source", "cause", "preference",
    ]  # fmt: skip
    box = metadata.model("power", replace(SPEC, action=Box(3)), [])
    assert box["outputs"][0] == {"name": "action", "datatype": "FP32", "shape": [-1, 3]}
    assert orjson.loads(orjson.dumps(found)) == found
    assert metadata.server()["extensions"] == ["binary_tensor_data", "model_versions"]


def test_problems():
    problem = Problem.of("overload", "64 requests wait", retry_after=1, decision="d")
    view = orjson.loads(problem.body())
    assert view["status"] == 503 and view["retryable"] is True and view["decision_id"] == "d"
    assert problem.headers() == {"Content-Type": "application/problem+json", "Retry-After": "1"}
    assert frames.unpack(frames.problem(problem)).header["problem"] == view
    strange = Problem.rejected(Rejected("tea", "short and stout", 418))
    assert (strange.status, strange.code, strange.title) == (418, "tea", "I'm a Teapot")
