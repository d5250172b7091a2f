"""The daemon end to end: decisions over every way in, state, restart, drain."""

from __future__ import annotations

import json

import numpy as np
import pytest
from daemon_process import running
from serving import make_bundle, request

from fairlead.platform.wire import frames

KIND = {"Content-Type": frames.MEDIA_TYPE}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b").folder


@pytest.fixture(scope="module")
def daemon(bundle, tmp_path_factory):
    with running(bundle, tmp_path_factory.mktemp("daemon")) as found:
        yield found
        assert "Traceback" not in found.text


def decide(daemon, asked, **headers):
    body = frames.encode_request(asked)
    return daemon.call("POST", "/v1/decide/cloud", body, {**KIND, **headers})


def answer_of(body):
    return frames.unpack(body, names={"action": "INT64", "source": "INT8", "cause": "INT8"})


def test_a_frame_is_decided(daemon):
    status, headers, body = decide(daemon, request(5, seq=1000))
    assert status == 200, body
    frame = answer_of(body)
    assert frame.tensors["action"].shape == (10,)
    mask = request(5).observation.mask
    assert mask[np.arange(10), frame.tensors["action"]].all()
    assert headers["Fairlead-Outcome"] == frame.header["outcome"]


def test_health(daemon):
    assert daemon.get("/v2/health/ready") == {"ready": True}
    assert json.loads(json.dumps(daemon.get("/v1/state")))["domains"]["cloud"]["agents"] == 10
