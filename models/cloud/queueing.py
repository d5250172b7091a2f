"""Textbook queueing formulas: what a correct simulator must reproduce.

Rates are in jobs per second, times in seconds, loads and probabilities without unit. ``scv`` is
the squared coefficient of variation of a positive law, variance / mean^2 (exponential 1,
deterministic 0). Every function raises ``ValueError`` outside its domain, above all when the
offered load reaches the capacity, where no steady state exists.

Sources: L. Kleinrock, *Queueing Systems* vol. 1 (1975) for M/M/1, M/G/1 and the Erlang formulas;
M. Harchol-Balter, *Performance Modeling and Design of Computer Systems* (2013), chapters 14, 23
and 30, for M/M/k, Pollaczek-Khinchine and processor sharing; N. D. Vvedenskaya, R. L. Dobrushin,
F. I. Karpelevich (1996) and M. Mitzenmacher (2001) for the supermarket model; W. Whitt,
"Planning queueing simulations", Management Science 35 (1989), for run lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value!r}")


def _stable_load(load: float) -> float:
    if not 0 <= load < 1:
        raise ValueError(f"a steady state needs a load in [0, 1), got {load!r}")
    return load


def mm1_wait(*, arrival_rate: float, service_rate: float) -> float:
    """Mean wait in queue of M/M/1 FCFS, seconds: ``rho / (mu - lambda)``."""
    _positive(arrival_rate=arrival_rate, service_rate=service_rate)
    return _stable_load(arrival_rate / service_rate) / (service_rate - arrival_rate)


def pollaczek_khinchine_wait(*, arrival_rate: float, mean: float, scv: float) -> float:
    """Mean wait in queue of M/G/1 FCFS, seconds: ``lambda E[S^2] / (2 (1 - rho))``."""
    _positive(arrival_rate=arrival_rate, mean=mean)
    if not scv >= 0:
        raise ValueError(f"scv must not be negative, got {scv!r}")
    load = _stable_load(arrival_rate * mean)
    return arrival_rate * mean**2 * (1 + scv) / (2 * (1 - load))


def erlang_b(*, servers: int, offered: float) -> float:
    """Probability that M/G/c/c turns a job away; depends on the service law through its mean only.

    ``offered`` is the offered load in erlangs, arrival rate x mean service time. Computed by the
    recursion B(k) = a B(k-1) / (k + a B(k-1)), which neither overflows nor cancels.
    """
    _positive(servers=servers, offered=offered)
    blocking = 1.0
    for k in range(1, servers + 1):
        blocking = offered * blocking / (k + offered * blocking)
    return blocking


def erlang_c(*, servers: int, offered: float) -> float:
    """Probability that a job of M/M/c has to wait, C(c, a) = B / (1 - (a / c) (1 - B))."""
    load = _stable_load(offered / servers)
    blocking = erlang_b(servers=servers, offered=offered)
    return blocking / (1 - load * (1 - blocking))


def mmc_wait(*, servers: int, arrival_rate: float, service_rate: float) -> float:
    """Mean wait in queue of M/M/c FCFS over all jobs, seconds: ``C(c, a) / (c mu - lambda)``."""
    _positive(arrival_rate=arrival_rate, service_rate=service_rate)
    waits = erlang_c(servers=servers, offered=arrival_rate / service_rate)
    return waits / (servers * service_rate - arrival_rate)


def ps_response(*, load: float, size: float) -> float:
    """Mean response of a job of ``size`` seconds in M/G/1-PS, seconds: ``size / (1 - rho)``.

    Linear in the size and free of the service law; with the mean size it is the mean response, and
    the expected slowdown is ``1 / (1 - rho)`` for every size.
    """
    _positive(size=size)
    return size / (1 - _stable_load(load))


@dataclass(frozen=True, slots=True)
class Split:
    """An optimal static split.

    Attributes:
        flow: ``[J]`` jobs per second to each server, 0 where it is not used.
        response: mean response over all jobs, seconds.
    """

    flow: Doubles
    response: float


def square_root_split(*, arrival_rate: float, service_rates: Sequence[float]) -> Split:
    """Probabilistic split of a Poisson stream over PS (or M/M/1) servers with least mean response.

    Minimises ``sum_j x_j / (mu_j - x_j)`` over ``sum_j x_j = lambda``, ``0 <= x_j < mu_j``. Setting
    the derivatives ``mu_j / (mu_j - x_j)^2`` of the used set A equal gives the square-root rule

        x_j = mu_j - sqrt(mu_j) (sum_A mu - lambda) / sum_A sqrt(mu),

    in which the slowest server is dropped until no flow is negative (after C. E. Bell and
    S. Stidham, Management Science 29, 1983; the formula follows from the two lines above).
    ``service_rates`` are in jobs of mean size per second.
    """
    rates = np.asarray(service_rates, dtype=np.float64)
    if rates.ndim != 1 or rates.size == 0 or not (rates > 0).all():
        raise ValueError(f"service_rates must be positive numbers, got {service_rates!r}")
    _positive(arrival_rate=arrival_rate)
    _stable_load(arrival_rate / float(rates.sum()))
    fastest_first = np.argsort(-rates, kind="stable")
    flow = np.zeros_like(rates)
    for used in range(rates.size, 0, -1):
        chosen = fastest_first[:used]
        root = np.sqrt(rates[chosen])
        share = rates[chosen] - root * (rates[chosen].sum() - arrival_rate) / root.sum()
        if share[-1] >= 0:
            flow[chosen] = share
            break
    return Split(flow, split_response(flow=flow, service_rates=rates))


def split_response(*, flow: Doubles, service_rates: Sequence[float] | Doubles) -> float:
    """Mean response, seconds, when server j of rate mu_j (PS or M/M/1) gets ``flow[j]`` jobs/s."""
    rates = np.asarray(service_rates, dtype=np.float64)
    if (flow < 0).any() or (flow >= rates).any():
        raise ValueError(f"need 0 <= flow < service rate for every server, got {flow} for {rates}")
    return float((flow / (rates - flow)).sum() / flow.sum())


def proportional_split_response(*, arrival_rate: float, service_rates: Sequence[float]) -> float:
    """Mean response of a split in proportion to speed, seconds: ``J / (sum mu - lambda)``."""
    total = float(np.sum(service_rates))
    _stable_load(arrival_rate / total)
    return len(service_rates) / (total - arrival_rate)


def jsq_tail(*, load: float, choices: int, levels: int) -> Doubles:
    """Mean-field share ``s_k`` of queues with at least k jobs, k = 1..levels, under JSQ(d).

    ``s_k = lambda^((d^k - 1)/(d - 1))``: doubly exponential for d >= 2, geometric for d = 1
    (Mitzenmacher 2001, section 3). Unit-rate exponential servers, FCFS or PS.
    """
    _positive(choices=choices, levels=levels)
    _stable_load(load)
    k = np.arange(1, levels + 1, dtype=np.float64)
    exponent = k if choices == 1 else (choices**k - 1) / (choices - 1)
    return load**exponent


def jsq_response(*, load: float, choices: int, mean: float = 1.0) -> float:
    """Mean response under JSQ(d) as N grows, seconds: ``E[S] sum_k s_k / lambda``."""
    _positive(mean=mean, load=load)
    if choices == 1:
        return mean / (1 - _stable_load(load))
    tail = jsq_tail(load=load, choices=choices, levels=64)
    return mean * float(tail.sum()) / load


def lindley_waits(interarrivals: Doubles, services: Doubles) -> Doubles:
    """FCFS waits of one server by Lindley's recursion, an independent path to M/G/1 figures.

    ``W_1 = 0``, ``W_{n+1} = max(0, W_n + S_n - A_{n+1})``, evaluated as a random walk minus its
    running minimum, so without a Python loop.

    Args:
        interarrivals: ``[n]`` seconds before each job; the first entry is ignored.
        services: ``[n]`` service times, seconds.
    """
    if interarrivals.shape != services.shape or services.ndim != 1:
        raise ValueError(
            f"need two equally long vectors, got {interarrivals.shape} and {services.shape}"
        )
    walk = np.concatenate([[0.0], np.cumsum(services[:-1] - interarrivals[1:])])
    return walk - np.minimum.accumulate(walk)


def wait_relative_variance(*, load: float, scv: float) -> float:
    """Asymptotic variance of the M/G/1 mean wait, relative to its square, times the job count.

    Heavy-traffic value ``2 (1 + scv) / (1 - rho)^2`` (Whitt 1989): the mean over n jobs has a
    relative variance of about this number / n. For M/M/1 at load .8 it gives 100, the exact figure
    is 123 (D. J. Daley, J. Australian Math. Soc. 8, 1968); it plans run lengths, it is no oracle.
    """
    return 2 * (1 + scv) / (1 - _stable_load(load)) ** 2
