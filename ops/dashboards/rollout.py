"""Champion, canary and shadow: is the new policy fit to decide?"""

from __future__ import annotations

from .board import Board, half, quarter, third, wide
from .fleet import CHOICES, MARKS, by_source
from .parts import RATE, Query, curve, figure, listing, metric, rate

_REFUSED = 'result!="ok"'

ROLLOUT = Board(
    uid="fairlead-rollout",
    title="Fairlead / Roll-out",
    description=(
        "Champion, canary and shadow. Only an abort is automatic; a promotion is a person's act."
    ),
    choices=CHOICES,
    marks=MARKS,
    rows=(
        (
            "Who decides",
            (
                quarter(
                    figure(
                        "Champion loaded",
                        "When the present champion took over.",
                        Query(
                            f"max by (domain) ({metric('policy_loaded_timestamp_seconds')}) * 1000",
                            "{{domain}}",
                        ),
                        unit="dateTimeFromNow",
                    )
                ),
                quarter(
                    figure(
                        "Champion trained",
                        "When its bundle was made. Old policies meet a changed world.",
                        Query(
                            f"max by (domain) ({metric('policy_trained_timestamp_seconds')})"
                            " * 1000",
                            "{{domain}}",
                        ),
                        unit="dateTimeFromNow",
                    )
                ),
                quarter(
                    figure(
                        "Refused bundles, 6 h",
                        "Bundles that failed a check and were not loaded; the champion stayed.",
                        Query(
                            f"sum(increase({metric('policy_loads_total', _REFUSED)}[6h]))",
                            "",
                        ),
                        unit="none",
                        steps=[(1, "yellow")],
                        decimals=0,
                    )
                ),
                quarter(
                    figure(
                        "Rollbacks, 6 h",
                        "Returns to the champion before, by hand or by an aborted canary.",
                        Query(f"sum(increase({metric('policy_rollbacks_total')}[6h]))", ""),
                        unit="none",
                        steps=[(1, "yellow")],
                        decimals=0,
                    )
                ),
                wide(
                    listing(
                        "Roles",
                        "Bundles in service by role.",
                        Query(f"{metric('policy_info')} == 1"),
                        columns={
                            "role": "Role",
                            "bundle": "Bundle",
                            "domain": "Domain",
                            "instance": "Instance",
                        },
                    ),
                    5,
                ),
            ),
        ),
        (
            "Shadow",
            (
                third(
                    curve(
                        "Disagreement",
                        "Share of agents for which the shadow would have decided otherwise.",
                        Query(
                            f"max by (domain) ({metric('shadow_disagreement_ratio')})",
                            "{{domain}}",
                        ),
                        unit="percentunit",
                        high=1.0,
                    )
                ),
                third(
                    curve(
                        "Predicted cost of the shadow",
                        "Above (worse) or below (better) the champion's, as a share of it.",
                        Query(f"avg by (domain) ({metric('shadow_cost_delta')})", "{{domain}}"),
                        unit="percentunit",
                        low=None,
                    )
                ),
                third(
                    curve(
                        "Shadow too slow",
                        "Shadow decisions given up for time, per second. They never delay the "
                        "champion.",
                        Query(f"sum by (domain) ({rate('shadow_timeouts_total')})", "{{domain}}"),
                        unit="ops",
                    )
                ),
            ),
        ),
        (
            "Canary and champion",
            (
                by_source(
                    "Agent-decisions by source",
                    "A canary that falls back more than its champion is aborted.",
                ),
                half(
                    curve(
                        "Above the least cost",
                        "Predicted cost over the analytical lower bound.",
                        Query(f"avg by (domain) ({metric('objective_gap_ratio')})", "{{domain}}"),
                        unit="percentunit",
                    )
                ),
                half(
                    curve(
                        "Loads by result",
                        "Attempts to load a bundle. Anything but ok names the check that failed.",
                        Query(
                            f"sum by (result) (increase({metric('policy_loads_total')}{RATE}))",
                            "{{result}}",
                        ),
                        unit="none",
                    )
                ),
                half(
                    curve(
                        "Rollbacks by cause",
                        "Manual, aborted canary, or circuit breaker.",
                        Query(
                            f"sum by (cause) (increase({metric('policy_rollbacks_total')}{RATE}))",
                            "{{cause}}",
                        ),
                        unit="none",
                    )
                ),
            ),
        ),
    ),
)
"""Champion, canary and shadow."""
