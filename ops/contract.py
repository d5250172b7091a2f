"""Every metric that Fairlead exports: names, labels and buckets that code, rules and panels share.

Names stand here without the prefix ``fairlead_``. A label with listed values takes only those and
is exported from the start; a label without (``OPEN``) is bounded by what exists: domains, routes,
runs. An agent is never a label: hundreds of agents are answered by ``/v1/agents``.
Practice: https://prometheus.io/docs/practices/naming/ and /instrumentation/.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

from .metric import OPEN, Kind, Metric, counter, gauge, histogram
from .power_metrics import POWER
from .traffic_metrics import TRAFFIC

LATENCY = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
STAGE_LATENCY = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1)
SIZES = (1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6)
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
DEVIATIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
DIVERGENCES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)

SERIES_PER_DOMAIN = 600
"""Largest number of series that one domain may have; a test counts them."""

NO_DOMAIN = "none"
"""Value of the label ``domain`` where there is none: a request refused before its domain was
known, and the audit, which is one for all domains."""

WITHOUT_DOMAIN = frozenset(
    {
        "audit_records_total",
        "audit_bytes_total",
        "audit_write_errors_total",
        "audit_dropped_total",
        "audit_last_fsync_timestamp_seconds",
    }
)
"""Metrics of the whole process that carry the label ``domain`` as :data:`NO_DOMAIN` only."""

LAYERS: Mapping[str, str] = {
    "invalid": "validation",
    "stale": "validation",
    "drift": "drift",
    "deadline": "policy",
    "error": "policy",
    "non_finite": "policy",
    "not_ready": "policy",
    "breaker": "breaker",
    "simplex": "simplex",
    "operator": "operator",
    "box": "projection",
    "ramp": "projection",
    "coupling": "projection",
    "legality": "projection",
}
"""Cause of an intervention (lower-case name of ``Cause``) to ``safety_interventions_total``'s
label ``layer``."""


SOURCES = ("policy", "projected", "previous", "baseline", "hold", "safe")
OUTCOMES = ("ok", "degraded", "fallback")
STAGES = ("validate", "policy", "project", "simplex", "audit")
REJECTIONS = ("overload", "quota", "size", "auth", "timeout", "invalid", "stale", "not_ready")
INVALID = ("nan", "range", "shape", "stale", "future", "order", "missing")
CONSTRAINTS = ("box", "ramp", "coupling", "legality")
MODES = ("policy", "canary", "degraded", "fallback", "hold", "drain")
PHASES = ("closed", "open", "half-open")
ROLES = ("champion", "canary", "shadow")
LOADS = ("ok", "digest", "signature", "schema", "parity", "warmup", "memory")
ROLLBACKS = ("manual", "canary", "breaker")
CODES = ("2xx", "3xx", "4xx", "5xx")

_DECISIONS = (
    counter("decisions_total", "Decisions of single agents by who made them.", source=SOURCES),
    counter("decision_ticks_total", "Decisions of the whole domain by outcome.", outcome=OUTCOMES),
    histogram("decision_duration_seconds", "Time of a whole decision in the daemon.", LATENCY),
    histogram(
        "decision_stage_duration_seconds",
        "Time of one stage of a decision.",
        STAGE_LATENCY,
        stage=STAGES,
    ),
    counter("decision_deadline_misses_total", "Stages that ran out of time.", stage=STAGES),
    gauge("decision_deadline_seconds", "Configured time for a whole decision."),
    gauge("tick_seconds", "Expected time between two observations."),
    gauge(
        "decision_validity_seconds",
        "Configured time for which an answer may be executed; NaN: until the next one.",
    ),
)

_REQUESTS = (
    Metric(
        "http_requests_total",
        "counter",
        "HTTP requests by route template and class of status.",
        {"route": OPEN, "code": CODES},
        initial=0.0,
    ),
    Metric(
        "http_request_duration_seconds",
        "histogram",
        "Time from a request's header to the end of its response, by route template.",
        {"route": OPEN},
        LATENCY,
        0.0,
    ),
    histogram("request_size_bytes", "Size of a decision request's body.", SIZES),
    counter(
        "requests_rejected_total",
        "Requests refused before a decision (domain none: before it was known).",
        reason=REJECTIONS,
    ),
    gauge("queue_length", "Requests waiting for a decision.", initial=0.0),
    gauge("inflight_requests", "Requests accepted and not yet answered.", initial=0.0),
    histogram("queue_wait_seconds", "Time a request waited for its decision.", LATENCY),
)

_OBSERVATIONS = (
    counter("observations_invalid_total", "Agents or observations refused.", reason=INVALID),
    gauge("observation_timestamp_seconds", "Time stamp of the last valid observation.", initial=0),
    gauge(
        "observation_drift_psi",
        "Population stability index of the observations against those of training.",
        stat=("max", "mean"),
    ),
    gauge("observation_ood_agents_ratio", "Share of agents outside the range of training."),
)

_SAFETY = (
    counter("actions_projected_total", "Actions changed by projection.", constraint=CONSTRAINTS),
    histogram(
        "action_projection_distance",
        "How far projection moved an action, as a share of the action's range.",
        SHARES,
        constraint=CONSTRAINTS,
    ),
    counter(
        "safety_interventions_total",
        "Agents whose action is not the policy's own, by the layer that changed it.",
        layer=tuple(dict.fromkeys(LAYERS.values())),
    ),
    gauge("controller_mode", "1 for the mode the controller is in.", initial=0, mode=MODES),
    gauge("breaker_state", "1 for the phase of the circuit breaker.", initial=0, state=PHASES),
    counter("breaker_trips_total", "How often the circuit breaker opened."),
    counter(
        "constraint_violations_total",
        "Executed actions that broke a hard constraint, found after the fact.",
        constraint=CONSTRAINTS,
    ),
)

_POLICIES = (
    gauge("policy_info", "1 for each loaded bundle and its role.", role=ROLES, bundle=OPEN),
    gauge("policy_loaded_timestamp_seconds", "When the champion was loaded."),
    gauge("policy_trained_timestamp_seconds", "When the champion's bundle was made."),
    counter("policy_loads_total", "Attempts to load a bundle by result.", result=LOADS),
    counter("policy_rollbacks_total", "Returns to the champion before.", cause=ROLLBACKS),
    gauge("shadow_disagreement_ratio", "Share of agents for which the shadow decides otherwise."),
    gauge("shadow_cost_delta", "Predicted cost of the shadow over the champion's, as a share."),
    counter("shadow_timeouts_total", "Shadow decisions that took too long."),
    gauge("policy_entropy", "Mean entropy of the policy's choice over agents, in nats."),
    gauge("action_switch_ratio", "Share of agents whose action differs from their last one."),
    histogram(
        "guidance_deviation",
        "Distance of executed actions from the one the analytical guidance likes best.",
        DEVIATIONS,
    ),
    gauge("objective_value", "Predicted cost of the executed actions.", objective=OPEN),
    gauge(
        "objective_gap_ratio",
        "Predicted cost above the least possible one, as a share of the latter.",
        objective=OPEN,
    ),
)

_PROCESS = (
    counter("audit_records_total", "Records given to the audit file."),
    counter("audit_bytes_total", "Bytes given to the audit file."),
    counter("audit_write_errors_total", "Failed writes and flushes of the audit file."),
    counter("audit_dropped_total", "Records lost because the audit could not be written."),
    gauge("audit_last_fsync_timestamp_seconds", "When the audit was last flushed to disk."),
    gauge("selftest_timestamp_seconds", "When the last self-test decided well.", initial=0.0),
    Metric(
        "event_loop_lag_seconds",
        "histogram",
        "How late the event loop woke up.",
        {},
        LATENCY,
        0.0,
    ),
    Metric("build_info", "gauge", "1, with the versions.", {"version": OPEN, "python": OPEN}),
    Metric("config_info", "gauge", "1, with the hash of the configuration.", {"hash": OPEN}),
    Metric(
        "series_refused_total",
        "counter",
        "Samples dropped because a metric had too many label values.",
        {},
        initial=0.0,
    ),
)

_RUN = {"run": OPEN, "domain": OPEN}


def _train(
    name: str,
    kind: Kind,
    text: str,
    buckets: tuple[float, ...] = (),
    /,
    **labels: tuple[str, ...],
) -> Metric:
    initial = nan if kind == "gauge" else 0.0
    return Metric(name, kind, text, {**_RUN, **labels}, buckets, initial, "train")


_TRAINING = (
    _train("train_running", "gauge", "1 while the training job works, 0 once it has ended."),
    _train("train_iterations_total", "counter", "Iterations done."),
    _train("train_iterations_planned", "gauge", "Iterations the job was asked for."),
    _train("train_env_steps_total", "counter", "Decision epochs collected."),
    _train("train_return", "gauge", "Mean return of the last iteration's episodes."),
    _train("train_evaluation_return", "gauge", "Mean return of the last evaluation."),
    _train("train_kl", "histogram", "KL divergence of an update, by agent group.", DIVERGENCES),
    _train("train_kl_used", "gauge", "KL divergence that the last update used in all."),
    _train("train_kl_budget", "gauge", "KL divergence that an update may use in all."),
    _train(
        "train_hodge_norm",
        "gauge",
        "Norm of a component of the update field, as a share of the field's (no harmonic one: "
        "parameter space has no holes).",
        component=("gradient", "curl"),
    ),
    _train("train_clip_ratio", "gauge", "Share of samples whose ratio was clipped."),
    _train("train_guidance_weight", "gauge", "Weight of the analytical guidance."),
    _train("train_worker_restarts_total", "counter", "Worker processes lost and replaced."),
    _train("train_checkpoint_timestamp_seconds", "gauge", "When the last checkpoint was kept."),
    _train("train_nan_skips_total", "counter", "Updates given up for a number not finite."),
    _train(
        "train_iteration_duration_seconds",
        "gauge",
        "Time of the last iteration, by stage.",
        stage=("collect", "update", "evaluate", "write"),
    ),
)

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        *_DECISIONS,
        *_REQUESTS,
        *_OBSERVATIONS,
        *_SAFETY,
        *_POLICIES,
        *POWER,
        *TRAFFIC,
        *_PROCESS,
        *_TRAINING,
    )
}
"""Every metric by its name without the prefix."""

RECORDED: Mapping[str, tuple[str, ...]] = {
    "domain:fairlead_decision_duration_seconds:p99_5m": ("job", "instance", "domain"),
    "domain:fairlead_fallback:ratio_rate5m": ("job", "instance", "domain"),
    "domain:fairlead_fallback:ratio_rate30m": ("job", "instance", "domain"),
    "domain:fairlead_fallback:ratio_rate1h": ("job", "instance", "domain"),
    "domain:fairlead_fallback:ratio_rate6h": ("job", "instance", "domain"),
    "domain:fairlead_projected:ratio_rate5m": ("job", "instance", "domain"),
    "domain:fairlead_power_projection:ratio_avg30m": ("job", "instance", "domain"),
    "domain:fairlead_errors:ratio_rate5m": ("job", "instance", "domain"),
}
"""Series made by recording rules (``ops/prometheus/recording.rules.yml``) and their labels."""

FOREIGN: Mapping[str, tuple[str, ...]] = {
    "up": (),
    "ALERTS": ("alertname", "alertstate", "severity", "domain"),
    "scrape_duration_seconds": (),
    "process_resident_memory_bytes": (),
    "process_virtual_memory_bytes": (),
    "process_open_fds": (),
    "process_max_fds": (),
    "process_cpu_seconds_total": (),
    "process_start_time_seconds": (),
    "python_info": ("implementation", "major", "minor", "patchlevel", "version"),
    "python_gc_collections_total": ("generation",),
    "python_gc_objects_collected_total": ("generation",),
    "python_gc_objects_uncollectable_total": ("generation",),
}
"""Series that others export and our rules and panels may use, with their own labels."""

REPORTED: Mapping[str, Mapping[str, str]] = {
    domain: {
        metric.name.removeprefix(f"{domain}_").removesuffix("_total"): metric.name
        for metric in METRICS.values()
        if metric.only == domain and metric.kind == "counter"
    }
    for domain in sorted({metric.only for metric in METRICS.values()} - {""})
}
"""Domain to what a bridge may report of its plant: field of the report to the counter it adds to.

A domain's own counters are all of this kind: what a decision did, only the plant knows.
"""
