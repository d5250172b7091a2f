"""Scenarios of the dispatching simulator as values: every knob with default, unit and range."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..settings import Settings, knob
from .arrivals import ArrivalPattern
from .sizes import SizeLaw

Discipline = Literal["ps", "fcfs", "exclusive"]
Factor = Annotated[float, Field(gt=0.0)]


class Profile(Settings):
    """Bins of the remaining-service profile that is the system state x of PS and FCFS nodes."""

    bins: int = knob(10, "bins per node", usual="6..16", ge=1, le=64)
    first: float = knob(0.25, "upper edge of the first bin", unit="s", gt=0)
    cap: float = knob(64.0, "upper edge of the last bin", unit="s", gt=0)


class Failures(Settings):
    """Independent node failures and repairs, both exponential; off by default."""

    mttf: float | None = knob(None, "mean time to failure of a node (none: never)", unit="s", gt=0)
    mttr: float = knob(30.0, "mean time to repair", unit="s", gt=0)
    lose_work: bool = knob(True, "jobs on a failed node start again from zero")


class Weights(Settings):
    """Weights of the optional cost terms; the response term always has weight 1."""

    energy: float = knob(0.0, "cost of a kJ", unit="s/kJ", ge=0)
    slo: float = knob(0.0, "cost of a missed deadline", unit="s/miss", ge=0)
    fragmentation: float = knob(0.0, "cost of a fragmented GPU-second", unit="s/GPU-s", ge=0)


class CloudScenario(Settings):
    """Knobs that all dispatching scenarios share."""

    agents: int = knob(20, "dispatchers", usual="5..1500", ge=1)
    horizon: int = knob(200, "decision epochs of an episode", unit="epochs", usual="100..400", ge=1)
    load: float = knob(
        0.7, "offered work over capacity, episode mean", usual="0.5, 0.7, 0.9", gt=0, lt=2
    )
    arrivals_per_epoch: float = knob(
        0.7,
        "mean arrivals per dispatcher and epoch; sets the epoch's length",
        usual="0.5..0.8",
        gt=0,
    )
    snapshot_age: int = knob(
        1, "age of the node snapshot that dispatchers see", unit="epochs", usual="0..5", ge=0
    )
    sampled: int = knob(
        8, "candidate nodes sampled per decision (all, if no more are capable)", usual="2..32", ge=1
    )
    rotate: bool = knob(
        False, "a job that its dispatcher holds goes behind the dispatcher's other waiting jobs"
    )
    estimate_error: float = knob(
        0.0, "spread of job size estimates (standard deviation of the log)", usual="0..1", ge=0
    )
    ewma: float = knob(5.0, "time constant of the utilisation average", unit="epochs", gt=0)
    slo_factor: float = knob(
        5.0, "deadline of a job: multiple of its fastest service time ...", usual="2..20", ge=1
    )
    slo_slack: float = knob(
        4.0, "... plus this much time for deciding and waiting", unit="epochs", usual="2..10", ge=0
    )
    slowdown_floor: float = knob(
        1.0, "shortest service time in the bounded slowdown", unit="s", usual="1..10", gt=0
    )
    profile: Profile = knob(Profile(), "bins of the system state")
    failures: Failures = knob(Failures(), "node failures and repairs")
    weights: Weights = knob(Weights(), "optional cost terms")


class DispatchScenario(CloudScenario):
    """N dispatchers of four tenants in front of N shared nodes of eight types."""

    name: Literal["dispatch"] = knob("dispatch", "scenario name")
    discipline: Literal["ps", "fcfs"] = knob("ps", "how a node serves several jobs")
    node_limit: int | None = knob(None, "most jobs that a node accepts (none: no limit)", ge=1)
    size: SizeLaw = knob(SizeLaw(), "job sizes")
    class_work: tuple[Factor, Factor, Factor, Factor] = knob(
        (1.0, 1.0, 1.0, 1.0),
        "mean size of a job of each class (web, batch, analytics, training) as a multiple of "
        "size.mean; unequal ones make the tenants' decisions matter unequally",
        usual="0.05..5",
    )
    own_share: float | None = knob(
        None,
        "share of a tenant's jobs that are of its main class, the others evenly of the other "
        "classes (none: as listed, 0.7); 1 makes tenants specialists",
        usual="0.25..1",
        ge=0,
        le=1,
    )
    pattern: ArrivalPattern = knob(ArrivalPattern(), "shape of the arrival rate")


class OpenbScenario(CloudScenario):
    """Real GPU cluster: the openb node list, its pods as jobs, exclusive vector resources."""

    name: Literal["openb"] = knob("openb", "scenario name")
    agents: int = knob(24, "dispatchers", usual="8..100", ge=1)
    data: str | None = knob(None, "folder with the openb CSV files (none: FAIRLEAD_DATA)")
    nodes: int | None = knob(
        200, "nodes, sub-sampled with the list's mix of types (none: all)", usual="50..1523", ge=1
    )
    load: float = knob(0.95, "offered GPU time over GPU capacity", usual="0.8..1.1", gt=0, lt=2)
    arrivals_per_epoch: float = knob(
        0.35,
        "mean arrivals per dispatcher and epoch; sets the epoch's length",
        usual="0.2..0.5",
        gt=0,
    )
    sampled: int = knob(16, "candidate nodes sampled per decision", usual="8..32", ge=1)
    rotate: bool = knob(
        True, "a job that its dispatcher holds goes behind the dispatcher's other waiting jobs"
    )
    duration_cap: float = knob(
        1800.0,
        "longest run time of a pod; longer ones are cut",
        unit="s",
        usual="600..86400",
        gt=0,
    )
    prefill: float = knob(
        0.9,
        "share of the GPUs that pods of the list hold at the start",
        usual="0..0.9",
        ge=0,
        lt=1,
    )
    slowdown_floor: float = knob(
        10.0, "shortest service time in the bounded slowdown", unit="s", gt=0
    )
    pattern: ArrivalPattern = knob(ArrivalPattern(), "shape of the arrival rate")


class LlmScenario(CloudScenario):
    """Language-model inference: requests of the Azure trace on GPU nodes with processor sharing."""

    name: Literal["llm"] = knob("llm", "scenario name")
    agents: int = knob(20, "dispatchers (gateways)", usual="5..200", ge=1)
    data: str | None = knob(None, "folder with the Azure trace (none: FAIRLEAD_DATA)")
    load: float = knob(0.7, "offered work over capacity (scales the trace's clock)", gt=0, lt=2)
    profile: Profile = knob(Profile(first=0.5, cap=128.0), "bins of the system state")


Scenario = DispatchScenario | OpenbScenario | LlmScenario
