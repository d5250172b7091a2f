"""The daemon as a process: requests, event loop, audit, memory."""

from __future__ import annotations

from .board import Board, half, quarter, third, wide
from .fleet import CHOICES
from .parts import HERE, RATE, Query, curve, figure, heat, listing, metric, quantile


def _foreign(name: str) -> str:
    return f"{name}{{{HERE}}}"


def _audit(name: str) -> str:
    # The audit is one for all domains of a daemon.
    return f"sum by (instance) (rate({metric(name, where=HERE)}{RATE}))"


PROCESS = Board(
    uid="fairlead-process",
    title="Fairlead / Process",
    description="The daemon as a process: HTTP, event loop, audit, memory, descriptors.",
    choices=CHOICES,
    marks={"Restarted": f"changes({_foreign('process_start_time_seconds')}{RATE}) > 0"},
    rows=(
        (
            "Now",
            (
                quarter(
                    figure(
                        "Started",
                        "When the process began.",
                        Query(
                            f"max by (instance) ({_foreign('process_start_time_seconds')}) * 1000",
                            "{{instance}}",
                        ),
                        unit="dateTimeFromNow",
                    )
                ),
                quarter(
                    figure(
                        "Memory",
                        "Resident memory.",
                        Query(
                            f"max by (instance) ({_foreign('process_resident_memory_bytes')})",
                            "{{instance}}",
                        ),
                        unit="bytes",
                        steps=[(300e6, "yellow"), (600e6, "red")],
                    )
                ),
                quarter(
                    figure(
                        "Last audit flush",
                        "When the audit was last flushed to disk. Older than a minute: "
                        "AuditNotDurable.",
                        Query(
                            "max by (instance) "
                            f"({metric('audit_last_fsync_timestamp_seconds', where=HERE)}) * 1000",
                            "{{instance}}",
                        ),
                        unit="dateTimeFromNow",
                    )
                ),
                quarter(
                    figure(
                        "Audit records lost",
                        "Decisions that the audit does not hold, since the start.",
                        Query(f"sum({metric('audit_dropped_total', where=HERE)})", "dropped"),
                        Query(
                            f"sum({metric('audit_write_errors_total', where=HERE)})",
                            "failed writes",
                        ),
                        unit="none",
                        steps=[(1, "red")],
                    )
                ),
            ),
        ),
        (
            "Requests",
            (
                half(
                    curve(
                        "Requests by class of status",
                        "All routes. 4xx are the clients', 5xx ours.",
                        Query(
                            "sum by (code) "
                            f"(rate({metric('http_requests_total', where=HERE)}{RATE}))",
                            "{{code}}",
                        ),
                        unit="reqps",
                        stacked=True,
                        colours={"2xx": "#2a9d8f", "4xx": "#e9a23b", "5xx": "#c81e4a"},
                    )
                ),
                half(
                    curve(
                        "Requests by route",
                        "Route templates, so that ids do not multiply series.",
                        Query(
                            "sum by (route) "
                            f"(rate({metric('http_requests_total', where=HERE)}{RATE})) > 0",
                            "{{route}}",
                        ),
                        unit="reqps",
                    )
                ),
                half(
                    curve(
                        "Time of a request, p99, by route",
                        "From the header's first byte to the response's last.",
                        Query(
                            quantile(0.99, "http_request_duration_seconds", "route", where=HERE),
                            "{{route}}",
                        ),
                        unit="s",
                    )
                ),
                half(
                    heat(
                        "Event loop lag",
                        "How late the event loop woke up. Long lags stall every decision: "
                        "EventLoopStall.",
                        "sum by (le) "
                        f"(rate({metric('event_loop_lag_seconds_bucket', where=HERE)}{RATE}))",
                        unit="s",
                    )
                ),
            ),
        ),
        (
            "Audit",
            (
                third(
                    curve(
                        "Records",
                        "Records written per second.",
                        Query(_audit("audit_records_total"), "{{instance}}"),
                        unit="ops",
                    )
                ),
                third(
                    curve(
                        "Bytes",
                        "Bytes written per second.",
                        Query(_audit("audit_bytes_total"), "{{instance}}"),
                        unit="Bps",
                    )
                ),
                third(
                    curve(
                        "Errors and losses",
                        "Failed writes and flushes, and records lost by them, per second.",
                        Query(_audit("audit_write_errors_total"), "{{instance}}, failed"),
                        Query(_audit("audit_dropped_total"), "{{instance}}, lost"),
                        unit="ops",
                    )
                ),
            ),
        ),
        (
            "Resources",
            (
                third(
                    curve(
                        "Memory",
                        "Resident memory. A steady rise: MemoryGrowth.",
                        Query(
                            f"max by (instance) ({_foreign('process_resident_memory_bytes')})",
                            "{{instance}}",
                        ),
                        unit="bytes",
                    )
                ),
                third(
                    curve(
                        "Processor",
                        "Cores in use.",
                        Query(
                            "sum by (instance) "
                            f"(rate({_foreign('process_cpu_seconds_total')}{RATE}))",
                            "{{instance}}",
                        ),
                        unit="none",
                    )
                ),
                third(
                    curve(
                        "Descriptors",
                        "Open ones as a share of the limit. Near it: FdNearLimit.",
                        Query(
                            f"max by (instance) ({_foreign('process_open_fds')}) / "
                            f"max by (instance) ({_foreign('process_max_fds')})",
                            "{{instance}}",
                        ),
                        unit="percentunit",
                    )
                ),
                third(
                    curve(
                        "Garbage collections",
                        "Collections per second by generation; the oldest one stops everything.",
                        Query(
                            "sum by (generation) "
                            f"(rate({_foreign('python_gc_collections_total')}{RATE}))",
                            "generation {{generation}}",
                        ),
                        unit="ops",
                    )
                ),
                third(
                    curve(
                        "Scrape",
                        "How long Prometheus takes to read the metrics.",
                        Query(
                            f"max by (instance) ({_foreign('scrape_duration_seconds')})",
                            "{{instance}}",
                        ),
                        unit="s",
                    )
                ),
                third(
                    curve(
                        "Samples dropped",
                        "Samples refused because a metric had too many label values. Always zero "
                        "in a healthy daemon.",
                        Query(
                            "sum by (instance) "
                            f"(rate({metric('series_refused_total', where=HERE)}{RATE}))",
                            "{{instance}}",
                        ),
                        unit="ops",
                    )
                ),
                wide(
                    listing(
                        "Configuration in force",
                        "Hash of every daemon's configuration: equal hashes, equal knobs.",
                        Query(f"fairlead_config_info{{{HERE}}}"),
                        columns={"instance": "Instance", "job": "Job", "hash": "Configuration"},
                    ),
                    5,
                ),
            ),
        ),
    ),
)
"""The daemon as a process."""
