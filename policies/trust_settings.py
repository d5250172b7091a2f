"""Knobs of the trust region, of its budgets and of the projection. Needs no torch."""

from __future__ import annotations

from typing import Literal

from ..simulators.settings import Settings, knob


class BudgetSettings(Settings):
    """How the total KL is shared among parameter groups (HATRPO-W and HATRPO-G)."""

    floor: float = knob(
        0.0,
        "smallest budget of a group, as a multiple of the equal share; above 0 nobody stands still",
        usual="0 ... 0.5",
        ge=0.0,
        le=1.0,
    )
    cap: float = knob(
        5.0,
        "hatrpo-w: largest budget of a group, as a multiple of the equal share; bounds how far the "
        "quadratic model is trusted",
        usual="2 ... 20",
        ge=1.0,
    )
    trial: float = knob(
        3.0,
        "hatrpo-g: budget of every group that is taken, as a multiple of the equal share; the best "
        "1 / trial of the groups move",
        usual="1.5 ... 5",
        ge=1.0,
    )
    weight: float = knob(
        1.0,
        "hatrpo-w: share of the total that follows the measured improvement; the rest is shared "
        "equally (0: exactly the equal budgets)",
        usual="0.5 ... 1",
        ge=0.0,
        le=1.0,
    )
    split_half: bool = knob(
        True,
        "estimate k = g' H^-1 g from two halves of the roll-out, so that noise does not buy "
        "budget, and count differences as far as they are reliable; off: the plain estimate, "
        "biased up by noise",
    )
    memory: float = knob(
        0.5,
        "weight of the past in the running estimate of k",
        usual="0 ... 0.9",
        ge=0.0,
        lt=1.0,
    )
    redistribute: bool = knob(
        True, "hand what a block left unused (rejected or shortened steps) to the blocks after it"
    )


class TrustRegionSettings(Settings):
    """Natural-gradient steps within a KL budget (hatrpo and its relatives)."""

    kl: float = knob(
        0.01,
        "equal share: mean KL of one agent's decision per update; the total of all methods is this "
        "times the number of deciding agents",
        unit="nats",
        usual="0.001 ... 0.05",
        ge=0.0,
    )
    total_kl: float | None = knob(
        None,
        "bound on the joint KL of all agents' decisions of one epoch. The compound ratio's "
        "variance is then about exp(2 total_kl) if the agents' steps are independent; if they fit "
        "the same noise it is much larger, and only the clamp helps. Applies to the part of a step "
        "that follows the sampled return (1 - alpha). Unset: no bound",
        unit="nats",
        usual="0.1 ... 2",
        ge=0.0,
    )
    fisher_samples: int | None = knob(
        512,
        "decisions per group in the Fisher products; unset: all that the gradient uses",
        unit="decisions",
        usual="256 ... 4096",
        ge=8,
    )
    damping: float = knob(
        0.1,
        "added to the Fisher matrix's diagonal in conjugate gradients",
        usual="0.001 ... 0.1",
        ge=0.0,
    )
    cg_iterations: int = knob(10, "conjugate-gradient iterations at most", usual="5 ... 20", ge=1)
    cg_tolerance: float = knob(
        1e-3,
        "residual norm relative to the gradient's at which a group's iterations stop",
        usual="1e-6 ... 1e-1",
        ge=0.0,
    )
    backtrack: float = knob(
        0.8, "factor between candidate step fractions", usual="0.5 ... 0.9", gt=0.0, lt=1.0
    )
    fractions: int = knob(
        10, "candidate step fractions (the first is the full step)", usual="5 ... 15", ge=1, le=50
    )
    accept: float = knob(
        0.5,
        "smallest ratio of the surrogate's measured to its predicted gain",
        usual="0 ... 0.8",
        ge=0.0,
        lt=1.0,
    )
    sweeps: int | None = knob(
        None,
        "passes over all groups per roll-out, each with new gradients; the KL from the roll-out's "
        "policy stays within the budget. 1 is the published method. Unset: 1, and 4 while there is "
        "guidance, since the groups of a block answer what the others did before",
        usual="1 ... 10",
        ge=1,
        le=100,
    )
    guided_kl: float = knob(
        0.3,
        "takes the place of kl as alpha goes to 1 (geometric between): what has no sampling noise "
        "needs no short leash",
        unit="nats",
        usual="0.05 ... 1",
        gt=0.0,
    )
    budget: BudgetSettings = BudgetSettings()


class ProjectionSettings(Settings):
    """HPML: removes the part of the joint update field that no potential explains."""

    method: Literal["none", "hpml"] = knob("none", "hpml: metric-gradient projection")
    form: Literal["galerkin", "network", "graph"] = knob(
        "galerkin",
        "galerkin: closed-form quadratic potential. network: a small smooth network on top, "
        "warm-started. graph: nodes and edges; only for few dimensions and many samples",
    )
    players: int = knob(
        8,
        "at most this many players: parameter groups are gathered into so many",
        usual="2 ... 32",
        ge=2,
        le=128,
    )
    directions: int = knob(
        2,
        "directions per player that span the subspace: gradient, displacement from the running "
        "mean of the policies, earlier updates",
        usual="1 ... 4",
        ge=1,
        le=8,
    )
    samples: int = knob(
        128, "perturbed joint policies per projection", usual="64 ... 1024", ge=8, le=65536
    )
    kl: float = knob(
        0.1,
        "joint KL of a typical perturbation; sets the radius of the sampling measure",
        unit="nats",
        usual="0.02 ... 0.5",
        gt=0.0,
    )
    memory: float = knob(
        0.8,
        "weight of the past in the running mean of the policies; the displacement from it is one "
        "of the directions",
        usual="0.5 ... 0.95",
        ge=0.0,
        lt=1.0,
    )
    least: float = knob(
        0.02, "non-potentiality below which nothing is projected", usual="0 ... 0.1", ge=0.0, le=1.0
    )
    confidence: float = knob(
        2.0,
        "factor by which the measured non-potentiality must exceed its noise floor (and always the "
        "98 % point of noise)",
        usual="1 ... 5",
        ge=0.0,
    )
    max_samples: int = knob(
        24_000, "decisions that the field is measured on", unit="decisions", ge=64
    )
