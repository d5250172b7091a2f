"""The cloud's analytical models against closed forms and against each other."""

from __future__ import annotations

import numpy as np
import torch

from ...models.cloud.delay import DelaySolver
from ...models.cloud.differentiable import delay_single, delay_torch
from ...models.cloud.planning import PlanningSolver
from ...models.cloud.queueing import square_root_split
from ..rows import Row
from .suites import Check

SPEEDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Service rates of the square-root example, jobs/s."""
LOADS = (0.3, 0.5, 0.8)


def checks() -> list[Check]:
    """Deterministic comparisons; the same in the quick set."""
    return [
        Check("square-root split: linear program with tangents", split_by_tangents, 1.0),
        Check("square-root split: torch form", split_by_torch, 4.0),
        Check("static planning: capacity boundary", capacity_boundary, 1.0),
    ]


def split_by_tangents() -> list[Row]:
    """HiGHS with 400 tangents per node type brackets the closed form within 5e-5."""
    solver = DelaySolver(np.array([SPEEDS]))
    rows: list[Row] = []
    for load in LOADS:
        rate = load * sum(SPEEDS)
        exact = square_root_split(arrival_rate=rate, service_rates=SPEEDS).response
        solved = solver.solve(np.array([rate]), np.ones(len(SPEEDS)))
        for form, value in (
            ("mean response of the flow", solved.mean_response),
            ("lower bound", solved.lower_bound / rate),
        ):
            name = f"square-root split, load {load:g}, 400 tangents: {form}"
            rows.append(Row.near(name, value, "s", exact, 5e-5 * exact))
        name = f"square-root split, load {load:g}, 400 tangents: bound below optimum"
        rows.append(Row.at_most(name, solved.lower_bound / rate, "s", exact * (1 + 1e-9)))
    return rows


def split_by_torch() -> list[Row]:
    """The torch forms equal the closed form to 1e-6, their gradient central differences to 1e-5."""
    service = torch.tensor([SPEEDS], dtype=torch.float64)
    count = torch.ones_like(service)
    rows: list[Row] = []
    for load in LOADS:
        rate = load * sum(SPEEDS)
        exact = square_root_split(arrival_rate=rate, service_rates=SPEEDS).response
        rates = torch.tensor([rate], dtype=torch.float64, requires_grad=True)
        utilisation, _ = delay_single(rates, service, count)
        response = (utilisation / (1 - utilisation)).sum() / rates[0]
        interior = delay_torch(rates[:, None].detach(), service[:, None, :], count).objective
        (slope,) = torch.autograd.grad(response, rates)
        step = 1e-5 * rate
        above, below = (
            square_root_split(arrival_rate=rate + side, service_rates=SPEEDS).response
            for side in (step, -step)
        )
        difference = (above - below) / (2 * step)
        name = f"square-root split, load {load:g}, torch"
        rows += [
            Row.near(f"{name}: bisection", response.item(), "s", exact, 1e-6 * exact),
            Row.near(f"{name}: interior method", interior.item() / rate, "s", exact, 1e-6 * exact),
            Row.near(
                f"{name}: d response / d rate",
                slope.item(),
                "s^2",
                difference,
                1e-5 * abs(difference),
            ),
        ]
    return rows


def capacity_boundary() -> list[Row]:
    """The planning program's rho* where it is known, and its duality gap."""
    speeds = np.array([SPEEDS])
    pooled = PlanningSolver(speeds).solve(np.array([24.8]), np.ones(len(SPEEDS)))
    # Two nodes of each type. Class 0 runs on both types (at 1 and 2 jobs/s), class 1 on type 1 only
    # (at 1 job/s), where one job/s of it keeps one node busy.
    nested = PlanningSolver(np.array([[1.0, 2.0], [0.0, 1.0]])).solve(
        np.array([3.0, 1.0]), np.array([2.0, 2.0])
    )
    rng = np.random.default_rng(0)
    service = rng.uniform(0.5, 8.0, size=(4, 8))
    large = PlanningSolver(service).solve(rng.uniform(50, 200, 4), rng.uniform(1, 50, 8))
    return [
        Row.near("static planning: one class, rho*", pooled.rho, "1", 0.8, 1e-8),
        # Class 0 gets 2 rho nodes of type 0 and 2 rho - 1 of type 1: 2 rho + 2 (2 rho - 1) = 3.
        Row.near("static planning: nested classes, rho*", nested.rho, "1", 5 / 6, 1e-8),
        Row.near(
            "static planning: 4 classes on 8 types, dual bound",
            large.lower_bound,
            "1",
            large.rho,
            1e-8,
        ),
    ]
