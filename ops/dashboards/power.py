"""The power domain: demand, set-points and prices, and what the grid made of them."""

from __future__ import annotations

from .board import Board, half, quarter, third, wide
from .fleet import MARKS, MODE_WORDS, by_source, mode
from .parts import HERE, RATE, Query, curve, figure, metric, quantile, rate, states

POWER = HERE + ', domain="power"'
"""Matchers of the one domain that this is about."""

_JOULES = 3600
"""In a watt-hour."""


def _metric(name: str, **equal: str) -> str:
    return metric(name, where=POWER, **equal)


def _recorded(name: str) -> str:
    return f"{name}{{{POWER}}}"


def _energy(name: str) -> str:
    """Watt-hours of an hour."""
    return f"sum(increase({_metric(name)}[1h])) / {_JOULES}"


POWER_BOARD = Board(
    uid="fairlead-power",
    title="Fairlead / Power",
    description="Economic dispatch: what is asked for, set and paid, and what the grid made of it.",
    choices={
        "job": "label_values(fairlead_power_demand_watts, job)",
        "instance": 'label_values(fairlead_power_demand_watts{job=~"$job"}, instance)',
    },
    marks=MARKS,
    rows=(
        (
            "Now",
            (
                quarter(
                    figure(
                        "Demand",
                        "Expected demand that the set-points must meet.",
                        Query(f"sum({_metric('power_demand_watts')})", ""),
                        unit="watt",
                        decimals=1,
                    )
                ),
                quarter(
                    figure(
                        "Price of the next MWh",
                        "Indicative price in merit order, $/MWh. At the dearest offer for half an "
                        "hour: PowerPriceAtCeiling.",
                        Query(f"max({_metric('power_price_dollars_per_megawatthour')})", ""),
                        unit="currencyUSD",
                        decimals=2,
                    )
                ),
                quarter(
                    figure(
                        "Not served, 1 h",
                        "Energy of load that was shed, as bridges report it. Any pages: "
                        "PowerUnservedEnergy.",
                        Query(_energy("power_unserved_joules_total"), ""),
                        unit="watth",
                        steps=[(1, "red")],
                    )
                ),
                quarter(
                    figure(
                        "Above branch limits, 1 h",
                        "Energy that flowed above the limits of branches. Where it goes on for a "
                        "quarter of an hour: PowerOverload.",
                        Query(_energy("power_overload_joules_total"), ""),
                        unit="watth",
                        steps=[(1, "orange")],
                    )
                ),
                wide(
                    states(
                        "Mode",
                        "How the set-points are decided.",
                        Query(mode("instance", POWER), "{{instance}}"),
                        words=MODE_WORDS,
                    ),
                    4,
                ),
            ),
        ),
        (
            "Dispatch",
            (
                half(
                    curve(
                        "Set-points by technology",
                        "Sum of the set-points of every technology, stacked. Storage that charges "
                        "counts below zero.",
                        Query(
                            f"sum by (group) ({_metric('power_set_point_watts')})",
                            "{{group}}",
                        ),
                        unit="watt",
                        stacked=True,
                        low=None,
                    ),
                    9,
                ),
                half(
                    curve(
                        "Demand and dispatch",
                        "Expected demand, and what all set-points give together: one line, as long "
                        "as the balance is closed.",
                        Query(f"sum({_metric('power_demand_watts')})", "demand"),
                        Query(f"sum({_metric('power_set_point_watts')})", "dispatched"),
                        unit="watt",
                        colours={"demand": "#e76f51", "dispatched": "#2a9d8f"},
                    ),
                    9,
                ),
                third(
                    curve(
                        "Price",
                        "What the next MWh would cost in merit order, and the dearest offer, in "
                        "$/MWh. Where they meet nothing cheaper is left: PowerPriceAtCeiling.",
                        Query(
                            f"max({_metric('power_price_dollars_per_megawatthour')})",
                            "next MWh",
                        ),
                        Query(
                            f"max({_metric('power_price_ceiling_dollars_per_megawatthour')})",
                            "dearest offer",
                        ),
                        unit="currencyUSD",
                        low=None,
                        colours={"dearest offer": "#c81e4a"},
                    )
                ),
                third(
                    curve(
                        "Room in the boxes",
                        "How far the set-points of all agents together could go up and down within "
                        "limits and ramps. Near zero the next change of demand cannot be followed.",
                        Query(
                            f"sum by (direction) ({_metric('power_headroom_watts')})",
                            "{{direction}}",
                        ),
                        unit="watt",
                    )
                ),
                third(
                    curve(
                        "Agents at an end of their box",
                        "Share of the agents that can move whose set-point is at the upper or "
                        "lower end of what limits and ramps allow.",
                        Query(
                            f"max by (direction) ({_metric('power_at_limit_ratio')})",
                            "{{direction}}",
                        ),
                        unit="percentunit",
                        high=1.0,
                    )
                ),
            ),
        ),
        (
            "Balance and projection",
            (
                third(
                    curve(
                        "Residual of the balance",
                        "Sum of the set-points less the expected demand. Projection closes it to "
                        "rounding; more than a thousandth of demand: PowerBalanceOpen.",
                        Query(
                            f"sum by (instance) ({_metric('power_balance_residual_watts')})",
                            "{{instance}}",
                        ),
                        unit="watt",
                        low=None,
                    )
                ),
                third(
                    curve(
                        "Moved by projection",
                        "How far the policy's set-points were moved until boxes, ramps and balance "
                        "held, by technology, stacked.",
                        Query(
                            f"sum by (group) ({_metric('power_projection_watts')})",
                            "{{group}}",
                        ),
                        unit="watt",
                        stacked=True,
                    )
                ),
                third(
                    curve(
                        "Share moved",
                        "Power moved by projection over the power dispatched, 30 minutes. Above a "
                        "tenth the policy lives off the projection: PowerProjectionHeavy.",
                        Query(
                            "max by (instance) ("
                            + _recorded("domain:fairlead_power_projection:ratio_avg30m")
                            + ")",
                            "{{instance}}",
                        ),
                        unit="percentunit",
                        limit=0.1,
                    )
                ),
            ),
        ),
        (
            "What came of it",
            (
                third(
                    curve(
                        "Shed, overloads, missing reserve",
                        "Load that was not served, flows above limits and spinning reserve that "
                        "was missing, on average, as bridges report them.",
                        Query(
                            f"sum({rate('power_unserved_joules_total', where=POWER)})",
                            "not served",
                        ),
                        Query(
                            f"sum({rate('power_overload_joules_total', where=POWER)})",
                            "above limits",
                        ),
                        Query(
                            f"sum({rate('power_reserve_shortfall_joules_total', where=POWER)})",
                            "reserve missing",
                        ),
                        unit="watt",
                        colours={
                            "not served": "#c81e4a",
                            "above limits": "#e9a23b",
                            "reserve missing": "#8b6fe8",
                        },
                    )
                ),
                third(
                    curve(
                        "Seconds outside the frequency band",
                        "Reported time outside the band, in an interval of the curve. None where "
                        "bridges do not measure it.",
                        Query(
                            "sum by (instance) "
                            f"(increase({_metric('power_off_frequency_seconds_total')}{RATE}))",
                            "{{instance}}",
                        ),
                        unit="s",
                    )
                ),
                third(
                    curve(
                        "Set-points that expired",
                        "Set-points that were valid no longer before their unit had a new one; it "
                        "fell back to its own rule: PowerSetPointsExpired.",
                        Query(
                            "sum by (instance) "
                            f"(increase({_metric('power_set_points_expired_total')}{RATE}))",
                            "{{instance}}",
                        ),
                        unit="none",
                    )
                ),
            ),
        ),
        (
            "Who decides, and how fast",
            (
                by_source(
                    "Set-points by source",
                    "Set-points per second by who made them. Nearly all are projected, because "
                    "the balance moves everybody a little; what matters is how far.",
                    where=POWER,
                ),
                half(
                    curve(
                        "Time of a decision",
                        "Median and 99th percentile in the daemon. The deadline is on the domain "
                        "dashboard.",
                        Query(quantile(0.5, "decision_duration_seconds", where=POWER), "median"),
                        Query(quantile(0.99, "decision_duration_seconds", where=POWER), "p99"),
                        unit="s",
                    )
                ),
                third(
                    figure(
                        "Interval",
                        "Expected time between two dispatches, and how long set-points hold "
                        "(slot.expiry): two intervals at least, so that one answer may be lost.",
                        Query(f"max({_metric('tick_seconds')})", "between two"),
                        Query(f"min({_metric('decision_validity_seconds')})", "valid for"),
                        unit="s",
                    ),
                    4,
                ),
                third(
                    figure(
                        "Of the interval, p99",
                        "99th percentile of a decision over the time between two of them.",
                        Query(
                            "max("
                            + _recorded("domain:fairlead_decision_duration_seconds:p99_5m")
                            + f") / max({_metric('tick_seconds')})",
                            "",
                        ),
                        unit="percentunit",
                        steps=[(0.01, "yellow"), (0.1, "red")],
                        decimals=3,
                    ),
                    4,
                ),
                third(
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
"""Economic dispatch."""
