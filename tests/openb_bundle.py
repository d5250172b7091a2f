"""What tests of the scheduler extender share: a small openb bundle, pods and nodes as JSON."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from serving import random_policy

from fairlead.platform.bundle import Contents, load_bundle, save_bundle
from fairlead.platform.cloud_live import cloud_live
from fairlead.platform.decision.asking import Inline
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Runtime
from fairlead.platform.episodes import Stage
from fairlead.platform.executors import Task, Trained
from fairlead.platform.rollout.backends import NumpyBackend
from fairlead.platform.tasks import DomainFactory
from fairlead.simulators.cloud.openb import read_openb_nodes, read_openb_pods
from fairlead.simulators.cloud.openb_fleet import NODES, PODS
from fairlead.simulators.tables import locate

SETTINGS = {"agents": 8, "nodes": 40, "horizon": 20}


@cache
def openb_files():
    """Node and pod lists of the trace."""
    return read_openb_nodes(locate(NODES)), read_openb_pods(locate(PODS))


def factory():
    return DomainFactory("cloud", "openb", SETTINGS)


def simulator():
    return factory().simulator()


@cache
def recorded():
    stage = Stage(factory())
    arrays = random_policy(stage.spec, seed=1, scale=0.05)
    return stage.spec, arrays, stage.play(Task(5, Trained(arrays), record=True))


def make_openb_bundle(folder, *, seed=1):
    """A valid bundle of the scenario openb with random weights."""
    spec, _, result = recorded()
    contents = Contents(
        name="random openb policy",
        spec=spec,
        arrays=random_policy(spec, seed=seed, scale=0.05),
        settings=dict(SETTINGS),
        provenance={"iteration": 0, "seed": seed},
    )
    return save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)


@cache
def _bundle():
    with TemporaryDirectory() as folder:
        make_openb_bundle(Path(folder) / "b")
        return load_bundle(Path(folder) / "b")


def live_runtime(policy=None, settings=None, **changes):
    """What a slot would serve, with the policy asked in the caller's thread."""
    bundle = _bundle()
    knobs = settings or SlotSettings(**changes)
    backend = policy or NumpyBackend(bundle, stochastic=bundle.stochastic)
    return Runtime(
        spec=bundle.spec,
        policy=Inline(bundle.manifest["digest"], backend),
        previous=None,
        live=cloud_live(bundle.spec, SETTINGS, knobs),
        observed=bundle.manifest.get("observed", {}),
        stochastic=bundle.stochastic,
    )


def node_json(name, *, cpu="64", memory="256Gi", gpus=0, model="T4"):
    """A ``v1.Node``."""
    there = {"cpu": cpu, "memory": memory}
    if gpus:
        there["alibabacloud.com/gpu-count"] = str(gpus)
    labels = {"alibabacloud.com/gpu-card-model": model} if gpus else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": there, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod_json(
    name, *, cpu="4", memory="8Gi", gpus=0, share=1000, run_time=None, node="", tenant="LS", **notes
):
    """A ``v1.Pod`` that waits, or runs on ``node``."""
    annotations = {"fairlead.dev/tenant": tenant, **notes}
    if gpus:
        annotations["alibabacloud.com/gpu-count"] = str(gpus)
        annotations["alibabacloud.com/gpu-milli"] = str(share)
    if run_time is not None:
        annotations["fairlead.dev/run-time"] = str(run_time)
    spec = {"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "annotations": annotations,
        },
        "spec": {**spec, "nodeName": node} if node else spec,
    }
