"""Metrics of the traffic domain alone.

Gauges are read off the decisions about all signals; counters grow by what a bridge reports of its
streets (``POST /v1/outcome/DOMAIN``), because the daemon cannot see them. The label ``group`` is a
kind of signal of the bundle (number of phases, permissive or protected turns); a signal is never a
label.
"""

from __future__ import annotations

from dataclasses import replace

from .metric import OPEN, counter, gauge

HELD = ("min_green", "max_red")
"""Why a signal may only hold."""

TRAFFIC = tuple(
    replace(metric, only="traffic")
    for metric in (
        gauge("traffic_queue_vehicles", "Vehicles that stand before signals.", group=OPEN),
        gauge(
            "traffic_arriving_vehicles",
            "Moving vehicles that reach a stop line before the next decision.",
            group=OPEN,
        ),
        gauge(
            "traffic_waiting_seconds",
            "Time for which the vehicles that stand have stood, summed over them.",
            group=OPEN,
        ),
        gauge("traffic_longest_queue_vehicles", "Largest queue before one signal."),
        gauge("traffic_longest_red_seconds", "Longest red of anybody who waits."),
        gauge(
            "traffic_pressure_vehicles",
            "Vehicles before the phases in force less those beyond them, summed over signals.",
            group=OPEN,
        ),
        gauge(
            "traffic_spill_ratio",
            "Share of signals with a nearly full link ahead, into which hardly anybody can go.",
        ),
        gauge("traffic_switch_ratio", "Share of signals that are asked for another phase."),
        gauge(
            "traffic_held_ratio",
            "Share of signals that may only hold: their green is too young, or the timing layer "
            "itself ends a red that is too long.",
            reason=HELD,
        ),
        counter("traffic_delay_seconds_total", "Delay of all vehicles together."),
        counter("traffic_trips_total", "Vehicles that reached their destination."),
        counter("traffic_jam_seconds_total", "Time in which nearly everybody stood."),
        counter("traffic_phase_changes_total", "Phases that signals changed."),
        counter("traffic_forced_phases_total", "Phases that came because of a red too long."),
        counter("traffic_requests_refused_total", "Phases that the filter at the street refused."),
        counter(
            "traffic_requests_expired_total",
            "Decisions that were late or whose validity ended before they could be carried out.",
        ),
        counter(
            "traffic_local_seconds_total",
            "Time for which signals ran their local plan, the mean over signals.",
        ),
        counter(
            "traffic_unsafe_changes_total",
            "Lamp changes that the monitor at the street found unsafe.",
        ),
    )
)
"""In the order of reading."""
