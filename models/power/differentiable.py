"""Economic dispatch without a network in torch: batched, exact, differentiable.

One price balances all units (Wood and Wollenberg, *Power Generation, Operation and Control*,
section 3.1): the sum of what units offer grows with the price, so the price is found by bisection
over the marginal costs that jump, then by Newton steps inside a bracket where none jumps. Shedding
at ``shed_price`` and surplus at ``-surplus_price`` are offers like any other, so that every member
of a batch has a dispatch. Gradients are those of the optimality conditions, not of the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .torch_balance import balance, differentiable_balance
from .torch_costs import CostTensors, pick


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Cheapest dispatch of a batch; differentiable but for the flags.

    Attributes:
        dispatch: ``[B, U]`` MW.
        price: ``[B]`` $/MWh: cost of the last MW served. Where the load ends exactly at a jump of
            the merit order any price of ``price_interval`` is dual; this is its lower end.
        cost: ``[B]`` $/h of production.
        objective: ``[B]`` $/h, cost plus what shed and surplus are charged; its derivative by the
            load is the price.
        shed, surplus: ``[B]`` MW of load not served, and of generation nobody takes.
        feasible: ``[B]`` bool, neither.
    """

    dispatch: Tensor
    price: Tensor
    cost: Tensor
    objective: Tensor
    shed: Tensor
    surplus: Tensor
    feasible: Tensor


def economic_dispatch(
    costs: CostTensors,
    load: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    on: Tensor | None = None,
    shed_price: float = 5000.0,
    surplus_price: float = 500.0,
) -> Dispatch:
    """Cheapest dispatch that meets each load within each box.

    Gradients (all implicit): dispatch and price by ``load``, ``low``, ``high`` and by the costs'
    ``slope``, ``bend``, ``origin``. Equally cheap units share what is left by the width of their
    offers, and so do the derivatives. Where the load ends exactly at a jump or a limit they are
    those from below.

    Args:
        costs: of U units.
        load: ``[B]`` MW.
        low: ``[B, U]`` or ``[U]`` MW, finite; where it exceeds ``high`` it gives way.
        high: likewise.
        on: ``[B, U]`` bool; units that are off give nothing and cost nothing.
        shed_price: $/MWh of load not served: dearer units do not run.
        surplus_price: $/MWh of generation nobody takes.

    Raises:
        ValueError: a load or a limit that is not finite (member named), or prices that cross.
    """
    if not -surplus_price < shed_price:
        raise ValueError(f"shed_price {shed_price} must exceed -surplus_price {-surplus_price}")
    shape = (load.shape[0], costs.slope.shape[0])
    low, high = low.expand(shape), high.expand(shape)
    _finite(load, low, high)
    if on is not None:
        low, high = torch.where(on, low, 0.0), torch.where(on, high, 0.0)
    low = torch.minimum(low, high)
    prices = (-surplus_price, shed_price)
    parameters = (load, low, high, costs.slope, costs.bend, costs.origin)
    if torch.is_grad_enabled() and any(value.requires_grad for value in parameters):
        dispatch, price = differentiable_balance(costs, load, low, high, prices)
    else:
        solved = balance(costs, load, low, high, prices)
        dispatch, price = solved.dispatch, solved.price
    cost = costs.total(dispatch)
    cost = (cost if on is None else torch.where(on, cost, 0.0)).sum(1)
    given = dispatch.sum(1)
    missing = load - given
    # What rounding leaves is no shedding.
    noise = 64.0 * torch.finfo(load.dtype).eps * (load.abs() + given.abs()).detach()
    shed = torch.where((price.detach() >= shed_price) & (missing > noise), missing, 0.0)
    surplus = torch.where((price.detach() <= -surplus_price) & (missing < -noise), -missing, 0.0)
    objective = cost + shed_price * shed + surplus_price * surplus
    feasible = (shed == 0.0) & (surplus == 0.0)
    return Dispatch(dispatch, price, cost, objective, shed, surplus, feasible)


def proximal_reference(
    costs: CostTensors,
    load: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    previous: Tensor,
    capacity: Tensor,
    rho: float,
    on: Tensor | None = None,
    shed_price: float = 5000.0,
) -> Dispatch:
    """The dispatch that minimises cost plus ``rho / 2 |(p - previous) / capacity|^2``.

    It is unique and Lipschitz in load and previous dispatch, where the linear program's jumps from
    vertex to vertex; with rho to 0 it becomes the cheapest dispatch (of several the nearest).
    ``price`` includes the proximal term's slope; ``cost`` and ``objective`` do not.

    Args:
        costs: as in ``economic_dispatch``, and so are the arguments without a word here.
        load: MW.
        low: MW.
        high: MW.
        previous: ``[B, U]`` MW.
        capacity: ``[U]`` MW; less than 1 MW counts as 1 MW.
        rho: $/h, positive.
        on: units that run.
        shed_price: $/MWh.
    """
    if not rho > 0.0:
        raise ValueError(f"rho must be positive, got {rho}; economic_dispatch is the limit of 0")
    near = costs.near(rho / capacity.clamp(min=1.0) ** 2, previous)
    found = economic_dispatch(near, load, low, high, on=on, shed_price=shed_price)
    cost = costs.total(found.dispatch)
    cost = (cost if on is None else torch.where(on, cost, 0.0)).sum(1)
    return Dispatch(
        found.dispatch,
        found.price,
        cost,
        cost + (found.objective - found.cost),
        found.shed,
        found.surplus,
        found.feasible,
    )


def price_interval(
    costs: CostTensors, dispatch: Tensor, low: Tensor, high: Tensor, *, tolerance: float = 1e-7
) -> tuple[Tensor, Tensor]:
    """All prices ``[B]``, ``[B]`` at which nobody wants to leave this dispatch.

    The lower end is the dearest last MW of units that could give less, the upper end the cheapest
    next MW of units that could give more (``-inf`` and ``inf`` where there are none). They differ
    only where the load ends exactly at a jump. ``tolerance`` is MW.
    """
    bend = costs.bend * (dispatch - costs.origin)
    last = pick(costs.slope, costs.segment(dispatch - tolerance)) + bend
    following = pick(costs.slope, costs.segment(dispatch + tolerance)) + bend
    lower = torch.where(dispatch > low + tolerance, last, -torch.inf).amax(1)
    upper = torch.where(dispatch < high - tolerance, following, torch.inf).amin(1)
    return lower, upper


def _finite(load: Tensor, low: Tensor, high: Tensor) -> None:
    # One sum each: an infinity or a NaN spoils it.
    total = load + low.sum(1) + high.sum(1)
    if not bool(torch.isfinite(total).all()):
        member = int((~torch.isfinite(total)).nonzero()[0, 0])
        raise ValueError(
            f"member {member}: load, low and high must be finite, found load {float(load[member])}"
            f", low within {float(low[member].min())} .. {float(low[member].max())}"
            f", high within {float(high[member].min())} .. {float(high[member].max())}"
        )
