"""Metrics of the power domain alone.

Base units as everywhere in the contract: watts, joules, seconds, not the field's MW and MWh. So
power over time is energy without a factor, Grafana scales by itself (its unit ``watt`` shows MW),
and no rule has to know which multiple a series is in. Prices are the exception: dollars per joule
are numbers that nobody could hold against a market's, and nothing is multiplied by them.

Gauges are read off the decisions about all agents; counters grow by what a bridge reports of its
plant (``POST /v1/outcome/DOMAIN``), because the daemon cannot see it. The label ``group`` is a
technology of the bundle.
"""

from __future__ import annotations

from dataclasses import replace

from .metric import OPEN, counter, gauge

DIRECTIONS = ("up", "down")

POWER = tuple(
    replace(metric, only="power")
    for metric in (
        gauge("power_demand_watts", "Expected demand that the set-points must meet."),
        gauge("power_set_point_watts", "Sum of the set-points, by technology.", group=OPEN),
        gauge(
            "power_projection_watts",
            "How far projection moved the policy's set-points, summed by technology.",
            group=OPEN,
        ),
        gauge("power_balance_residual_watts", "Sum of the set-points less the expected demand."),
        gauge(
            "power_headroom_watts",
            "Room between set-points and the ends of their boxes (limits and ramps).",
            direction=DIRECTIONS,
        ),
        gauge(
            "power_at_limit_ratio",
            "Share of the agents that can move whose set-point is at an end of its box.",
            direction=DIRECTIONS,
        ),
        gauge(
            "power_price_dollars_per_megawatthour",
            "Indicative price: what the next MWh would cost in merit order.",
        ),
        gauge(
            "power_price_ceiling_dollars_per_megawatthour",
            "Price of the dearest MWh that any agent offers.",
        ),
        counter("power_unserved_joules_total", "Energy of load that was not served."),
        counter("power_overload_joules_total", "Energy that flowed above the limits of branches."),
        counter("power_reserve_shortfall_joules_total", "Spinning reserve missing, over time."),
        counter("power_off_frequency_seconds_total", "Time outside the frequency band."),
        counter(
            "power_set_points_expired_total",
            "Set-points whose validity ended before units had new ones.",
        ),
    )
)
"""In the order of reading."""
