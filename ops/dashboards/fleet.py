"""All domains of all daemons at a glance: is anything wrong, and where?"""

from __future__ import annotations

from .board import Board, Placed, half, quarter, third, wide
from .parts import COLOURS, DOMAIN, HERE, RATE, Query, curve, figure, listing, metric, rate, states

MODES = {
    "policy": ("policy", "green"),
    "canary": ("canary", "blue"),
    "degraded": ("degraded", "yellow"),
    "fallback": ("fallback", "orange"),
    "hold": ("hold", "red"),
    "drain": ("drain", "purple"),
}
"""Modes of a slot with their colours; their rank is their number in the state timeline."""

_FALLEN = 'mode=~"fallback|hold"'

MODE_WORDS = {str(index + 1): word for index, word in enumerate(MODES.values())}


def mode(by: str = "domain, instance", where: str = DOMAIN) -> str:
    """The mode as a number, from the one-hot gauge: 1 policy ... 6 drain."""
    parts = (
        f"({metric('controller_mode', where=where, mode=name)} * {index + 1})"
        for index, name in enumerate(MODES)
    )
    return f"max by ({by}) ({' or '.join(parts)})"


CHOICES = {
    "job": "label_values(fairlead_build_info, job)",
    "instance": 'label_values(fairlead_build_info{job=~"$job"}, instance)',
    "domain": 'label_values(fairlead_controller_mode{job=~"$job", instance=~"$instance"}, domain)',
}
"""Variables of dashboards about serving."""

LOADED = f"changes({metric('policy_loaded_timestamp_seconds')}{RATE}) > 0"
ROLLED_BACK = f"increase({metric('policy_rollbacks_total')}{RATE}) > 0"
MARKS = {"Champion changed": LOADED, "Rolled back": ROLLED_BACK}
"""Annotations of dashboards about serving."""


def by_source(title: str, text: str, extra: str = "", *, where: str = DOMAIN) -> Placed:
    """Agent-decisions by source, stacked."""
    more = (extra,) if extra else ()
    query = f"sum by (source) ({rate('decisions_total', *more, where=where)})"
    return half(
        curve(title, text, Query(query, "{{source}}"), unit="ops", stacked=True, colours=COLOURS)
    )


FLEET = Board(
    uid="fairlead-fleet",
    title="Fairlead / Fleet",
    description="Every controller of the fleet: who decides, how well, how fast, and what fires.",
    choices=CHOICES,
    marks=MARKS,
    rows=(
        (
            "Now",
            (
                quarter(
                    figure(
                        "Daemons up",
                        "Scrape targets that answer. Fewer than you run: see FairleadDown.",
                        Query(f"sum(up{{{HERE}}})", ""),
                        unit="none",
                        steps=[(1, "green")],
                        base="red",
                    )
                ),
                quarter(
                    figure(
                        "Domains in fallback",
                        "Domains that the baseline decides for, or that hold. Should be none.",
                        Query(f"sum({metric('controller_mode', _FALLEN)})", ""),
                        unit="none",
                        steps=[(1, "red")],
                    )
                ),
                quarter(
                    figure(
                        "Decided by the policy",
                        "Share of agent-decisions that the champion or canary made, projected ones "
                        "included, over an hour. The objective is 99.5 %.",
                        Query("1 - max(domain:fairlead_fallback:ratio_rate1h{" + DOMAIN + "})", ""),
                        unit="percentunit",
                        steps=[(0.98, "yellow"), (0.995, "green")],
                        base="red",
                        decimals=2,
                    )
                ),
                quarter(
                    figure(
                        "Slowest domain, p99",
                        "The largest 99th percentile of a whole decision over five minutes.",
                        Query(
                            "max(domain:fairlead_decision_duration_seconds:p99_5m{" + DOMAIN + "})",
                            "",
                        ),
                        unit="s",
                        steps=[(0.025, "yellow"), (0.05, "red")],
                    )
                ),
                wide(
                    states(
                        "Mode",
                        "How each domain is decided for. Anything but policy and canary means that "
                        "agents run on the fallback; the runbook is FallbackActive.",
                        Query(mode(), "{{domain}} @ {{instance}}"),
                        words=MODE_WORDS,
                    ),
                    5,
                ),
            ),
        ),
        (
            "Decisions",
            (
                by_source(
                    "Agent-decisions by source",
                    "Decisions of single agents per second by who made them. Policy and projected "
                    "are the trained policy; everything else is a fallback.",
                ),
                half(
                    curve(
                        "Budget used up",
                        "How many times faster than allowed the 0.5 % of fallback decisions are "
                        "used up. 1 lasts exactly the period; FallbackRatioBurn pages at 14.4.",
                        Query(
                            "max by (domain) (domain:fairlead_fallback:ratio_rate5m{"
                            + DOMAIN
                            + "}) / 0.005",
                            "{{domain}}, 5 min",
                        ),
                        Query(
                            "max by (domain) (domain:fairlead_fallback:ratio_rate1h{"
                            + DOMAIN
                            + "}) / 0.005",
                            "{{domain}}, 1 h",
                        ),
                        Query(
                            "max by (domain) (domain:fairlead_fallback:ratio_rate6h{"
                            + DOMAIN
                            + "}) / 0.005",
                            "{{domain}}, 6 h",
                        ),
                        unit="none",
                        limit=14.4,
                    )
                ),
                third(
                    curve(
                        "Time of a decision, p99",
                        "99th percentile over five minutes, by domain. The configured deadline is "
                        "on the domain dashboard.",
                        Query(
                            "max by (domain) (domain:fairlead_decision_duration_seconds:p99_5m{"
                            + DOMAIN
                            + "})",
                            "{{domain}}",
                        ),
                        unit="s",
                    )
                ),
                third(
                    curve(
                        "Ticks by outcome",
                        "Decisions of whole domains per second. Degraded: some agents fell back; "
                        "fallback: all did.",
                        Query(f"sum by (outcome) ({rate('decision_ticks_total')})", "{{outcome}}"),
                        unit="ops",
                        stacked=True,
                        colours={"ok": "#2a9d8f", "degraded": "#e9a23b", "fallback": "#e76f51"},
                    )
                ),
                third(
                    curve(
                        "Requests without a decision",
                        "Share of requests refused before a decision, by domain: overload, quota, "
                        "size, authentication, time-outs.",
                        Query(
                            "max by (domain) (domain:fairlead_errors:ratio_rate5m{" + DOMAIN + "})",
                            "{{domain}}",
                        ),
                        unit="percentunit",
                        limit=0.01,
                    )
                ),
            ),
        ),
        (
            "What runs",
            (
                half(
                    listing(
                        "Firing alerts",
                        "Alerts of these rules that fire now; each has a runbook of its name.",
                        Query('ALERTS{alertstate="firing", alertname!="Watchdog"}'),
                        columns={
                            "severity": "Severity",
                            "alertname": "Alert",
                            "domain": "Domain",
                            "instance": "Instance",
                        },
                    ),
                    7,
                ),
                half(
                    listing(
                        "Bundles in service",
                        "Which bundle holds which role. Instances of one domain should agree on "
                        "the champion.",
                        Query(f"{metric('policy_info')} == 1"),
                        columns={
                            "domain": "Domain",
                            "role": "Role",
                            "bundle": "Bundle",
                            "instance": "Instance",
                        },
                    ),
                    7,
                ),
                half(
                    curve(
                        "Age of the last good self-test",
                        "Every daemon decides a remembered observation through the real path every "
                        "few seconds. Older than 15 s: FairleadNotReady.",
                        Query(
                            f"time() - max by (domain, instance) "
                            f"({metric('selftest_timestamp_seconds')} > 0)",
                            "{{domain}} @ {{instance}}",
                        ),
                        unit="s",
                        limit=15,
                    ),
                    7,
                ),
                half(
                    listing(
                        "Daemons",
                        "Version and Python of every daemon.",
                        Query(f"fairlead_build_info{{{HERE}}}"),
                        columns={
                            "instance": "Instance",
                            "job": "Job",
                            "version": "Version",
                            "python": "Python",
                        },
                    ),
                    7,
                ),
            ),
        ),
    ),
)
"""All domains of all daemons."""
