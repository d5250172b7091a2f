"""The traffic domain: queues, reds and phases, and what the streets made of them."""

from __future__ import annotations

from .board import Board, half, quarter, third, wide
from .fleet import MARKS, MODE_WORDS, by_source, mode
from .parts import HERE, RATE, Query, curve, figure, metric, quantile, rate, states

TRAFFIC = HERE + ', domain="traffic"'
"""Matchers of the one domain that this is about."""

_HOUR = 3600


def _metric(name: str, **equal: str) -> str:
    return metric(name, where=TRAFFIC, **equal)


def _grown(name: str, window: str = "[1h]") -> str:
    return f"sum(increase({_metric(name)}{window}))"


def _rate(name: str) -> str:
    return f"sum({rate(name, where=TRAFFIC)})"


TRAFFIC_BOARD = Board(
    uid="fairlead-traffic",
    title="Fairlead / Traffic",
    description="Signals: who waits, which phases come and why, and what the streets made of it.",
    choices={
        "job": "label_values(fairlead_traffic_longest_queue_vehicles, job)",
        "instance": (
            'label_values(fairlead_traffic_longest_queue_vehicles{job=~"$job"}, instance)'
        ),
    },
    marks=MARKS,
    rows=(
        (
            "Now",
            (
                quarter(
                    figure(
                        "Standing vehicles",
                        "Vehicles that stand before signals, as detectors see them.",
                        Query(f"sum({_metric('traffic_queue_vehicles')})", ""),
                        unit="short",
                        decimals=0,
                    )
                ),
                quarter(
                    figure(
                        "Delay of a trip, 1 h",
                        "Delay that accrued over trips that ended, as bridges report them.",
                        Query(
                            f"{_grown('traffic_delay_seconds_total')} / "
                            f"{_grown('traffic_trips_total')}",
                            "",
                        ),
                        unit="s",
                        decimals=1,
                    )
                ),
                quarter(
                    figure(
                        "Jammed, 1 h",
                        "Time in which nearly everybody stood. More than half of ten minutes "
                        "pages: TrafficJam.",
                        Query(_grown("traffic_jam_seconds_total"), ""),
                        unit="s",
                        steps=[(60, "orange"), (300, "red")],
                    )
                ),
                quarter(
                    figure(
                        "Unsafe changes, 1 h",
                        "Lamp changes that the monitor at the street refused. Any pages: "
                        "TrafficUnsafeChange.",
                        Query(_grown("traffic_unsafe_changes_total"), ""),
                        unit="none",
                        steps=[(0.5, "red")],
                    )
                ),
                wide(
                    states(
                        "Mode",
                        "How phases are decided.",
                        Query(mode("instance", TRAFFIC), "{{instance}}"),
                        words=MODE_WORDS,
                    ),
                    4,
                ),
            ),
        ),
        (
            "Who waits",
            (
                half(
                    curve(
                        "Standing vehicles by kind of signal",
                        "Vehicles that stand, by phases and turns of the signal, stacked.",
                        Query(
                            f"sum by (group) ({_metric('traffic_queue_vehicles')})",
                            "{{group}}",
                        ),
                        unit="short",
                        stacked=True,
                    ),
                    9,
                ),
                half(
                    curve(
                        "Standing and coming",
                        "Vehicles that stand, and moving ones that reach a stop line before the "
                        "next decision.",
                        Query(f"sum({_metric('traffic_queue_vehicles')})", "stand"),
                        Query(f"sum({_metric('traffic_arriving_vehicles')})", "come"),
                        unit="short",
                        colours={"stand": "#e76f51", "come": "#2a9d8f"},
                    ),
                    9,
                ),
                third(
                    curve(
                        "Waiting so far",
                        "Time for which the vehicles that stand have stood, summed over them, by "
                        "kind of signal.",
                        Query(
                            f"sum by (group) ({_metric('traffic_waiting_seconds')})",
                            "{{group}}",
                        ),
                        unit="s",
                        stacked=True,
                    )
                ),
                third(
                    curve(
                        "Largest queue of one signal",
                        "Vehicles that stand before the signal with the most of them.",
                        Query(
                            f"max by (instance) ({_metric('traffic_longest_queue_vehicles')})",
                            "{{instance}}",
                        ),
                        unit="short",
                    )
                ),
                third(
                    curve(
                        "Longest red",
                        "Longest red of anybody who waits. The timing layer ends it at its limit; "
                        "five minutes page: TrafficRedTooLong.",
                        Query(
                            f"max by (instance) ({_metric('traffic_longest_red_seconds')})",
                            "{{instance}}",
                        ),
                        unit="s",
                        limit=300.0,
                    )
                ),
            ),
        ),
        (
            "Phases",
            (
                third(
                    curve(
                        "Asked for another phase",
                        "Share of signals that a decision asks for another phase.",
                        Query(
                            f"max by (instance) ({_metric('traffic_switch_ratio')})",
                            "{{instance}}",
                        ),
                        unit="percentunit",
                        high=1.0,
                    )
                ),
                third(
                    curve(
                        "Without a choice",
                        "Share of signals that may only hold: their green is too young, or a red "
                        "that is too long comes to its end. More than a tenth of the latter: "
                        "TrafficForcedPhases.",
                        Query(
                            f"max by (reason) ({_metric('traffic_held_ratio')})",
                            "{{reason}}",
                        ),
                        unit="percentunit",
                        high=1.0,
                    )
                ),
                third(
                    curve(
                        "Pressure",
                        "Vehicles before the phases in force less those beyond them, by kind of "
                        "signal. Below zero phases lead into queues.",
                        Query(
                            f"sum by (group) ({_metric('traffic_pressure_vehicles')})",
                            "{{group}}",
                        ),
                        unit="short",
                        low=None,
                    )
                ),
                third(
                    curve(
                        "Full links ahead",
                        "Share of signals with a link ahead that is nearly full. More than a fifth "
                        "for long: TrafficSpillback.",
                        Query(
                            f"max by (instance) ({_metric('traffic_spill_ratio')})",
                            "{{instance}}",
                        ),
                        unit="percentunit",
                        high=1.0,
                        limit=0.2,
                    )
                ),
                third(
                    curve(
                        "Changes of phase",
                        "Phases that signals changed, and those among them that came by themselves "
                        "because of a red too long, per hour.",
                        Query(f"{_HOUR} * {_rate('traffic_phase_changes_total')}", "all"),
                        Query(f"{_HOUR} * {_rate('traffic_forced_phases_total')}", "forced"),
                        unit="short",
                        colours={"forced": "#c81e4a"},
                    )
                ),
                third(
                    curve(
                        "Not carried out",
                        "Decisions that the filter at the street refused, and those that came too "
                        "late, in an interval of the curve: TrafficRequestsRefused, "
                        "TrafficRequestsExpired.",
                        Query(_grown("traffic_requests_refused_total", RATE), "refused"),
                        Query(_grown("traffic_requests_expired_total", RATE), "too late"),
                        unit="none",
                        colours={"refused": "#c81e4a", "too late": "#e9a23b"},
                    )
                ),
            ),
        ),
        (
            "What came of it",
            (
                third(
                    curve(
                        "Delay of a trip",
                        "Delay that accrues over trips that end, as bridges report them.",
                        Query(
                            f"{_rate('traffic_delay_seconds_total')} / "
                            f"({_rate('traffic_trips_total')} > 0)",
                            "delay",
                        ),
                        unit="s",
                    )
                ),
                third(
                    curve(
                        "Trips",
                        "Vehicles that reach their destination, per hour.",
                        Query(f"{_HOUR} * {_rate('traffic_trips_total')}", "trips per hour"),
                        unit="short",
                    )
                ),
                third(
                    curve(
                        "On the local plan, jammed",
                        "Share of the time in which signals ran their local plan (the mean over "
                        "signals), and in which nearly everybody stood.",
                        Query(_rate("traffic_local_seconds_total"), "local plan"),
                        Query(_rate("traffic_jam_seconds_total"), "jammed"),
                        unit="percentunit",
                        colours={"local plan": "#e9a23b", "jammed": "#c81e4a"},
                    )
                ),
            ),
        ),
        (
            "Who decides, and how fast",
            (
                by_source(
                    "Phases by source",
                    "Decisions of single signals per second by who made them.",
                    where=TRAFFIC,
                ),
                half(
                    curve(
                        "Time of a decision",
                        "Median and 99th percentile in the daemon. The deadline is on the domain "
                        "dashboard.",
                        Query(quantile(0.5, "decision_duration_seconds", where=TRAFFIC), "median"),
                        Query(quantile(0.99, "decision_duration_seconds", where=TRAFFIC), "p99"),
                        unit="s",
                    )
                ),
                half(
                    figure(
                        "Interval",
                        "Expected time between two decisions.",
                        Query(f"max({_metric('tick_seconds')})", "between two"),
                        unit="s",
                    ),
                    4,
                ),
                half(
                    figure(
                        "Observation age",
                        "Time since the last valid observation.",
                        Query(
                            f"time() - max({_metric('observation_timestamp_seconds')} > 0)",
                            "",
                        ),
                        unit="s",
                    ),
                    4,
                ),
            ),
        ),
    ),
)
"""Traffic signals."""
