"""Training jobs: do they learn, within their budgets, and do they save?"""

from __future__ import annotations

from .board import Board, half, quarter, third
from .parts import HERE, RATE, Query, curve, figure, metric

RUN = HERE + ', domain=~"$domain", run=~"$run"'
"""Matchers of every training metric."""


def _now(name: str, **equal: str) -> str:
    return f"max by (run) ({metric(name, where=RUN, **equal)})"


def _per_second(name: str) -> str:
    return f"sum by (run) (rate({metric(name, where=RUN)}{RATE}))"


TRAINING = Board(
    uid="fairlead-training",
    title="Fairlead / Training",
    description="Training jobs that export metrics: returns, trust region, field, throughput.",
    choices={
        "job": "label_values(fairlead_train_iterations_total, job)",
        "instance": 'label_values(fairlead_train_iterations_total{job=~"$job"}, instance)',
        "domain": 'label_values(fairlead_train_iterations_total{job=~"$job"}, domain)',
        "run": (
            'label_values(fairlead_train_iterations_total{job=~"$job", domain=~"$domain"}, run)'
        ),
    },
    marks={
        "Checkpoint": (
            f"changes({metric('train_checkpoint_timestamp_seconds', where=RUN)}{RATE}) > 0"
        )
    },
    rows=(
        (
            "Progress",
            (
                quarter(
                    figure(
                        "Working",
                        "Jobs at work; ended ones show 0 until their exporter is gone.",
                        Query(f"sum({metric('train_running', where=RUN)})", ""),
                        unit="none",
                    )
                ),
                quarter(
                    figure(
                        "Done",
                        "Iterations done of those asked for.",
                        Query(
                            f"{_now('train_iterations_total')} / "
                            f"{_now('train_iterations_planned')}",
                            "{{run}}",
                        ),
                        unit="percentunit",
                    )
                ),
                quarter(
                    figure(
                        "Last checkpoint",
                        "Work since then is lost if the job dies: CheckpointStale.",
                        Query(f"{_now('train_checkpoint_timestamp_seconds')} * 1000", "{{run}}"),
                        unit="dateTimeFromNow",
                    )
                ),
                quarter(
                    figure(
                        "Trouble",
                        "Updates given up for numbers that are not finite, and workers replaced.",
                        Query(f"sum({metric('train_nan_skips_total', where=RUN)})", "not finite"),
                        Query(
                            f"sum({metric('train_worker_restarts_total', where=RUN)})",
                            "workers lost",
                        ),
                        unit="none",
                        steps=[(1, "red")],
                    )
                ),
                half(
                    curve(
                        "Return",
                        "Mean return of the iteration's episodes, and of the evaluation's.",
                        Query(_now("train_return"), "{{run}}, training"),
                        Query(_now("train_evaluation_return"), "{{run}}, evaluation"),
                        unit="short",
                        low=None,
                    )
                ),
                half(
                    curve(
                        "Throughput",
                        "Decision epochs collected per second, all workers together.",
                        Query(_per_second("train_env_steps_total"), "{{run}}"),
                        unit="ops",
                    )
                ),
            ),
        ),
        (
            "Trust region",
            (
                half(
                    curve(
                        "KL divergence and its budget",
                        "KL divergence of an update beside what it may use. Over the budget: "
                        "KLOverBudget.",
                        Query(_now("train_kl_used"), "{{run}}, used"),
                        Query(_now("train_kl_budget"), "{{run}}, budget"),
                        unit="none",
                    )
                ),
                half(
                    curve(
                        "KL divergence by agent group",
                        "Quantiles over groups: a wide gap means that few groups use it all.",
                        Query(
                            "histogram_quantile(0.5, sum by (le) "
                            f"(rate({metric('train_kl_bucket', where=RUN)}{RATE})))",
                            "median group",
                        ),
                        Query(
                            "histogram_quantile(0.95, sum by (le) "
                            f"(rate({metric('train_kl_bucket', where=RUN)}{RATE})))",
                            "95 % of groups",
                        ),
                        unit="none",
                    )
                ),
                third(
                    curve(
                        "Clipped samples",
                        "Share of samples whose ratio was clipped. High values waste experience.",
                        Query(_now("train_clip_ratio"), "{{run}}"),
                        unit="percentunit",
                    )
                ),
                third(
                    curve(
                        "Weight of the guidance",
                        "Share of the analytical guidance in the advantage.",
                        Query(_now("train_guidance_weight"), "{{run}}"),
                        unit="none",
                    )
                ),
                third(
                    curve(
                        "Parts of the update field",
                        "Norms of its gradient, harmonic and curl parts. Curl and harmonic parts "
                        "are what the projection removes.",
                        Query(
                            f"max by (component) ({metric('train_hodge_norm', where=RUN)})",
                            "{{component}}",
                        ),
                        unit="none",
                    )
                ),
            ),
        ),
        (
            "Work",
            (
                half(
                    curve(
                        "Time of an iteration",
                        "By stage, stacked.",
                        Query(
                            "sum by (stage) "
                            f"({metric('train_iteration_duration_seconds', where=RUN)})",
                            "{{stage}}",
                        ),
                        unit="s",
                        stacked=True,
                    )
                ),
                half(
                    curve(
                        "Workers lost",
                        "Worker processes that died and were replaced.",
                        Query(
                            "sum by (run) (increase("
                            f"{metric('train_worker_restarts_total', where=RUN)}{RATE}))",
                            "{{run}}",
                        ),
                        unit="none",
                    )
                ),
            ),
        ),
    ),
)
"""Training jobs."""
