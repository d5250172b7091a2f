"""One domain in depth: speed, observations, safety, guidance."""

from __future__ import annotations

from .board import Board, half, quarter, third, wide
from .fleet import CHOICES, MARKS, MODE_WORDS, by_source, mode
from .parts import RATE, Query, curve, figure, heat, metric, quantile, rate, states

_PHASES = {"1": ("closed", "green"), "2": ("half-open", "yellow"), "3": ("open", "red")}
_BREAKER = (
    "max by (domain, instance) ("
    f"({metric('breaker_state', state='closed')} * 1)"
    f" or ({metric('breaker_state', state='half-open')} * 2)"
    f" or ({metric('breaker_state', state='open')} * 3))"
)

DOMAIN_BOARD = Board(
    uid="fairlead-domain",
    title="Fairlead / Domain",
    description="One domain in depth. Choose it above; several are added up or shown side by side.",
    choices=CHOICES,
    marks=MARKS,
    rows=(
        (
            "State",
            (
                wide(
                    states(
                        "Mode",
                        "How the domain is decided for.",
                        Query(mode(), "{{domain}} @ {{instance}}"),
                        words=MODE_WORDS,
                    ),
                    4,
                ),
                wide(
                    states(
                        "Circuit breaker",
                        "Open: the policy failed too often and is not asked. Half-open: it is "
                        "probed, the baseline still decides.",
                        Query(_BREAKER, "{{domain}} @ {{instance}}"),
                        words=_PHASES,
                    ),
                    4,
                ),
                quarter(
                    figure(
                        "Observation age",
                        "Time since the last valid observation, beside the expected tick.",
                        Query(
                            f"time() - max({metric('observation_timestamp_seconds')} > 0)",
                            "since the last",
                        ),
                        Query(f"max({metric('tick_seconds')})", "expected tick"),
                        unit="s",
                    )
                ),
                quarter(
                    figure(
                        "Breaker trips, 1 h",
                        "How often the circuit breaker opened. More than 3: BreakerFlapping.",
                        Query(f"sum(increase({metric('breaker_trips_total')}[1h]))", ""),
                        unit="none",
                        steps=[(1, "yellow"), (3, "red")],
                        decimals=0,
                    )
                ),
                quarter(
                    figure(
                        "Constraint violations, 1 h",
                        "Executed actions that broke a hard constraint, measured afterwards. Any "
                        "one pages.",
                        Query(f"sum(increase({metric('constraint_violations_total')}[1h]))", ""),
                        unit="none",
                        steps=[(1, "red")],
                        decimals=0,
                    )
                ),
                quarter(
                    figure(
                        "Above the least cost",
                        "Predicted cost of the executed actions over the analytical lower bound.",
                        Query(
                            f"max by (objective) ({metric('objective_gap_ratio')})",
                            "{{objective}}",
                        ),
                        unit="percentunit",
                    )
                ),
            ),
        ),
        (
            "Speed",
            (
                half(
                    heat(
                        "Time of a decision",
                        "Distribution of whole decisions in the daemon; darker is more.",
                        f"sum by (le) ({rate('decision_duration_seconds_bucket')})",
                        unit="s",
                    )
                ),
                half(
                    curve(
                        "Median, p99 and deadline",
                        "The deadline is the configured one; later answers fall back.",
                        Query(quantile(0.5, "decision_duration_seconds"), "median"),
                        Query(quantile(0.99, "decision_duration_seconds"), "p99"),
                        Query(f"min({metric('decision_deadline_seconds')})", "deadline"),
                        unit="s",
                        colours={"deadline": "#c81e4a"},
                    )
                ),
                third(
                    curve(
                        "Stages",
                        "Mean time of each stage of a decision, stacked.",
                        Query(
                            f"sum by (stage) ({rate('decision_stage_duration_seconds_sum')}) / "
                            f"sum by (stage) ({rate('decision_stage_duration_seconds_count')})",
                            "{{stage}}",
                        ),
                        unit="s",
                        stacked=True,
                    )
                ),
                third(
                    curve(
                        "Deadline misses",
                        "Stages that ran out of time, per second. Above 0.1 % of decisions: "
                        "DeadlineMisses.",
                        Query(
                            f"sum by (stage) ({rate('decision_deadline_misses_total')})",
                            "{{stage}}",
                        ),
                        unit="ops",
                    )
                ),
                third(
                    curve(
                        "Waiting",
                        "Requests in the queue and being answered; p99 of the wait.",
                        Query(f"sum({metric('queue_length')})", "queue"),
                        Query(f"sum({metric('inflight_requests')})", "in flight"),
                        unit="none",
                    )
                ),
                third(
                    curve(
                        "Wait for a decision",
                        "How long requests waited before they were decided.",
                        Query(quantile(0.5, "queue_wait_seconds"), "median"),
                        Query(quantile(0.99, "queue_wait_seconds"), "p99"),
                        unit="s",
                    )
                ),
                third(
                    curve(
                        "Size of requests",
                        "Body of a decision request.",
                        Query(quantile(0.5, "request_size_bytes"), "median"),
                        Query(quantile(0.99, "request_size_bytes"), "p99"),
                        unit="bytes",
                    )
                ),
                third(
                    curve(
                        "Refused requests",
                        "Requests refused before a decision, by reason.",
                        Query(f"sum by (reason) ({rate('requests_rejected_total')})", "{{reason}}"),
                        unit="reqps",
                        stacked=True,
                    )
                ),
            ),
        ),
        (
            "Observations",
            (
                third(
                    curve(
                        "Unusable observations",
                        "Agents or whole observations refused, by reason. Those agents fall back.",
                        Query(
                            f"sum by (reason) ({rate('observations_invalid_total')})",
                            "{{reason}}",
                        ),
                        unit="ops",
                        stacked=True,
                    )
                ),
                third(
                    curve(
                        "Drift",
                        "Population stability index against the training observations. Above 0.25 "
                        "the policy sees another world than it learned in: ObservationDrift.",
                        Query(f"max by (stat) ({metric('observation_drift_psi')})", "{{stat}}"),
                        unit="none",
                        limit=0.25,
                    )
                ),
                third(
                    curve(
                        "Agents out of distribution",
                        "Share of agents whose features left the range of training.",
                        Query(
                            f"max by (domain) ({metric('observation_ood_agents_ratio')})",
                            "{{domain}}",
                        ),
                        unit="percentunit",
                    )
                ),
            ),
        ),
        (
            "Safety",
            (
                by_source(
                    "Fallback decisions",
                    "Agent-decisions that the current policy did not make, by who made them.",
                    'source!~"policy|projected"',
                ),
                half(
                    curve(
                        "Interventions by layer",
                        "Agents whose action is not the policy's own, by the layer that changed "
                        "it.",
                        Query(
                            f"sum by (layer) ({rate('safety_interventions_total')})", "{{layer}}"
                        ),
                        unit="ops",
                        stacked=True,
                    )
                ),
                half(
                    curve(
                        "Projected actions",
                        "Actions moved to the nearest feasible one, by constraint. A large share "
                        "means that the policy does not know its limits: ProjectionHeavy.",
                        Query(
                            f"sum by (constraint) ({rate('actions_projected_total')})",
                            "{{constraint}}",
                        ),
                        Query(
                            "max by (domain) (domain:fairlead_projected:ratio_rate5m{"
                            'job=~"$job", instance=~"$instance", domain=~"$domain"})',
                            "share in {{domain}}",
                        ),
                        unit="short",
                    )
                ),
                half(
                    curve(
                        "How far actions were moved",
                        "90th percentile of the projection distance, as a share of the action's "
                        "range.",
                        Query(
                            quantile(0.9, "action_projection_distance", "constraint"),
                            "{{constraint}}",
                        ),
                        unit="percentunit",
                    )
                ),
            ),
        ),
        (
            "Guidance and behaviour",
            (
                third(
                    heat(
                        "Distance from the guidance",
                        "Executed actions against the analytical model's favourite (0: the "
                        "favourite, 1: the worst). A drift upwards is a policy that left its "
                        "model.",
                        f"sum by (le) ({rate('guidance_deviation_bucket')})",
                        unit="none",
                    )
                ),
                third(
                    curve(
                        "Predicted cost",
                        "Predicted cost of the executed actions.",
                        Query(f"avg by (objective) ({metric('objective_value')})", "{{objective}}"),
                        unit="short",
                    )
                ),
                third(
                    curve(
                        "Freezing and chattering",
                        "Share of agents whose action differs from their last one. Near zero the "
                        "policy is frozen, near one it chatters.",
                        Query(f"avg by (domain) ({metric('action_switch_ratio')})", "{{domain}}"),
                        unit="percentunit",
                    )
                ),
                third(
                    curve(
                        "Entropy of the policy",
                        "Mean over agents, in nats. Zero: it never doubts.",
                        Query(f"avg by (domain) ({metric('policy_entropy')})", "{{domain}}"),
                        unit="none",
                    )
                ),
                third(
                    curve(
                        "Violations of constraints",
                        "Executed actions that broke a hard constraint, by constraint.",
                        Query(
                            "sum by (constraint) "
                            f"(increase({metric('constraint_violations_total')}{RATE}))",
                            "{{constraint}}",
                        ),
                        unit="none",
                    )
                ),
                third(
                    curve(
                        "Above the least cost",
                        "Predicted cost over the analytical lower bound, as a share of it.",
                        Query(
                            f"avg by (objective) ({metric('objective_gap_ratio')})",
                            "{{objective}}",
                        ),
                        unit="percentunit",
                    )
                ),
            ),
        ),
    ),
)
"""One domain in depth."""
