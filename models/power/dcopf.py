"""DC optimal power flow, built once and re-solved hot: the cheapest dispatch that lines allow.

    min  production + voll * shed + price * surplus (+ proximal term)
    s.t. balance of every island, low <= p <= high, |flow| <= limit on every line

with flows from the PTDF. Few lines ever bind, so the program starts with the balances alone and
takes up a line when an optimum without it would overload it; an optimum without violations is one
of the whole problem. LMPs are ``energy price - PTDF' congestion`` (Schweppe et al., Spot Pricing of
Electricity, 1988, chapter 7). Costs are piecewise linear; constant terms are included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles
from ...simulators.power.lodf import Topology
from ...simulators.power.network import Network
from .costs import Columns, Proximal, Segments
from .dispatch_program import DispatchProgram, Optimum
from .economic import VOLL

VIOLATION = 1e-7
"""MW above a limit from which a line gets its row."""
LINES_PER_ROUND = 20
"""Most lines taken up after one solve, the most overloaded first."""
KEPT_LINES = 200
"""With more rows than this, the next solve begins without any."""


@dataclass(frozen=True, slots=True)
class SlackPrices:
    """What it costs to break a rule, so that every interval has a dispatch.

    Attributes:
        shed: $/MWh of load that is not served; surplus: of energy that cannot be got rid of.
        overload: $/h per MW above a line's limit; None: limits hold whatever it costs. Every
            interval has a dispatch with None too, unless phase shifts alone overload a line.
    """

    shed: float = VOLL
    surplus: float = VOLL
    overload: float | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """An optimal dispatch.

    Attributes:
        power: ``[U]`` MW; flow: ``[L]`` MW; dc_flow: ``[H]`` MW.
        lmp: ``[B]`` cost of one more MW of load at a bus, $/MWh.
        congestion: ``[L]`` what one MW more of a line's limit would save, $/MWh; positive at the
            upper limit, negative at the lower one, so ``congestion * flow`` is the line's rent.
        shed: ``[B]`` load not served, MW; surplus: ``[B]`` energy nobody can stop giving, MW.
        overload: ``[L]`` MW above the limit (0 unless ``SlackPrices.overload`` allows it).
        cost: $/h of production.
        objective: $/h of everything minimised; as the program is solved to optimality, it is a
            lower bound on every dispatch of this interval under its model.
        iterations: of the simplex; rounds: of taking up lines.
        form: ``pwl``, ``pyomo``, or ``qp`` where the quadratic program was solved.
        status: always ``optimal``.
    """

    power: Doubles
    flow: Doubles
    dc_flow: Doubles
    lmp: Doubles
    congestion: Doubles
    shed: Doubles
    surplus: Doubles
    overload: Doubles
    cost: float
    objective: float
    iterations: int
    rounds: int
    form: str = "pwl"
    status: str = "optimal"


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval to dispatch; what is None is as in the grid.

    Attributes:
        load: ``[B]`` MW (without shunts); negative is a given injection, as of a storage.
        low: ``[U]`` MW, ramp box and must-take; high: ``[U]`` MW, ramp box and what is available.
        on: ``[U]`` units that run; the others give 0 MW for 0 $/h whatever their box.
        topology: outages of the same network; rate: ``[L]`` MW, tightens every line's limits.
        dc_limit: ``[H]`` MW.
        around: ``[U]`` MW, the dispatch to stay near where the model has a proximal term.
    """

    load: Doubles | None = None
    low: Doubles | None = None
    high: Doubles | None = None
    on: Bools | None = None
    topology: Topology | None = None
    rate: Doubles | None = None
    dc_limit: Doubles | None = None
    around: Doubles | None = None


class DcOpf:
    """The DC-OPF of a network.

    Args:
        network: names grid and convention; may have islands (``split``), each with its balance.
        slack: prices of shed load and surplus; without them an interval may have no dispatch.
        proximal: keep near ``Interval.around``.

    Without ``proximal`` the optimum need not be unique: equally cheap units and DC lines leave a
    choice, and which of the optima comes out depends on the basis before. ``solve(hot=False)``
    starts from scratch, so that the result is a function of the interval alone.
    """

    def __init__(
        self,
        network: Network,
        *,
        slack: SlackPrices | None = None,
        proximal: Proximal | None = None,
    ) -> None:
        grid = network.grid
        self.network, self.slack = network, slack
        self._overload = None if slack is None else slack.overload
        self.segments = Segments(grid.units, proximal)
        self._at = grid.units.bus[self.segments.unit]
        self._lines = grid.dc_lines
        count, buses = self.segments.unit.shape[0], network.buses
        extra = 2 * buses if slack is not None else 0
        self._shed = slice(count, count + extra // 2)
        self._surplus = slice(count + extra // 2, count + extra)
        self._dc = slice(count + extra, count + extra + len(self._lines.name))
        price = np.zeros(self._dc.stop)
        price[:count] = self.segments.price
        if slack is not None:
            price[self._shed], price[self._surplus] = slack.shed, slack.surplus
        self._islands = network.references.shape[0]
        self._member = (network.island == np.arange(self._islands)[:, None]).astype(np.float64)
        self._program = DispatchProgram(price=price, fixed=self._spread(self._member))
        self._lower, self._upper = np.zeros(self._dc.stop), np.zeros(self._dc.stop)
        if slack is not None:
            self._upper[self._surplus] = np.inf
        self._on = np.ones(len(grid.units.name), dtype=bool)
        self._intact = Topology(network)
        self._present, self._version = self._intact, self._intact.version
        self._forget_lines()

    def solve(self, interval: Interval | None = None, *, hot: bool = True) -> Dispatch:
        """The cheapest dispatch of an interval; ``Interval()`` is the grid's own.

        Raises:
            ValueError: a box whose lower limit is above the upper one, or values that are no
                numbers; names the unit or bus.
            RuntimeError: there is no dispatch (possible without ``slack`` only), or HiGHS could not
                find it; names the solver's status and the power at hand.
        """
        interval = interval or Interval()
        if not hot:
            self._forget_lines()
            self._program.forget()
        self._follow(interval.topology or self._intact)
        low, high = self._limits(interval.rate)
        demand, columns = self._set_columns(interval)
        rounds, iterations = 0, 0
        while True:
            rounds += 1
            base = self._rows @ demand - self._offset
            self._program.set_rows(
                np.concatenate([self._member @ demand, low[self._monitored] + base]),
                np.concatenate([self._member @ demand, high[self._monitored] + base]),
            )
            optimum = self._optimum(columns, demand)
            iterations += optimum.iterations
            flow = self._present.flows(self._injection(optimum.x, demand))
            if not self._take_up(flow, low, high):
                break
        on = self._on if interval.on is None else interval.on
        over = np.maximum(np.maximum(flow - high, low - flow), 0.0)
        over[over <= VIOLATION] = 0.0
        return self._result(optimum, columns, on, (flow, over), (iterations, rounds))

    @property
    def monitored(self) -> list[str]:
        """Names of the lines that have a row now."""
        names = self.network.grid.branches.name
        return [names[line] for line in self._monitored.tolist()]

    def _set_columns(self, interval: Interval) -> tuple[Doubles, Columns]:
        """Bounds (and prices) of all columns; demand ``[B]`` above what is given anyway."""
        grid, units = self.network.grid, self.network.grid.units
        low = units.low if interval.low is None else interval.low
        high = units.high if interval.high is None else interval.high
        on = self._on if interval.on is None else interval.on
        load = grid.buses.load if interval.load is None else interval.load
        around = low if interval.around is None else interval.around
        if not (low <= high).all():
            _refuse_box(units.name, low, high, on)
            low = np.minimum(low, high)
        columns = self.segments.columns(low, high, on, around)
        demand = load + grid.buses.shunt
        if not np.isfinite(demand.sum()):
            bus = int(np.flatnonzero(~np.isfinite(demand))[0])
            raise ValueError(
                f"grid {grid.name!r}: bus {grid.buses.name[bus]!r}: load is {load[bus]}, "
                "expected a finite number"
            )
        count = columns.upper.shape[0]
        self._upper[:count] = columns.upper
        if self.slack is not None:
            self._upper[self._shed] = np.maximum(demand, 0.0)
        limit = self._lines.limit if interval.dc_limit is None else interval.dc_limit
        self._lower[self._dc], self._upper[self._dc] = -limit, limit
        self._program.set_columns(self._lower, self._upper)
        if columns.price is not None:
            self._program.set_prices(columns.price)
        return demand - np.bincount(units.bus, columns.base, self.network.buses), columns

    def _optimum(self, columns: Columns, demand: Doubles) -> Optimum:
        try:
            return self._program.solve()
        except RuntimeError as error:
            given, room = float(columns.base.sum()), float(columns.upper.sum())
            raise RuntimeError(
                f"grid {self.network.grid.name!r}: {error}; demand and shunts take "
                f"{demand.sum() + given:.6g} MW, units give {given:.6g} to {given + room:.6g} MW "
                f"({'with' if self.slack else 'without'} slack)"
            ) from error

    def _injection(self, x: Doubles, demand: Doubles) -> Doubles:
        count = self.segments.unit.shape[0]
        net = np.bincount(self._at, x[:count], self.network.buses) - demand
        if self.slack is not None:
            net += x[self._shed] - x[self._surplus]
        if self._dc.stop > self._dc.start:
            net += np.bincount(self._lines.end, x[self._dc], self.network.buses)
            net -= np.bincount(self._lines.start, x[self._dc], self.network.buses)
        return net

    def _take_up(self, flow: Doubles, low: Doubles, high: Doubles) -> bool:
        """Give overloaded lines a row; whether there are any."""
        over = np.maximum(flow - high, low - flow)
        over[self._monitored] = 0.0
        worst = np.flatnonzero(over > VIOLATION)
        if not worst.shape[0]:
            return False
        if worst.shape[0] > LINES_PER_ROUND:
            worst = worst[np.argpartition(-over[worst], LINES_PER_ROUND)[:LINES_PER_ROUND]]
        rows = self._present.rows(worst)
        free = np.full(worst.shape[0], np.inf)
        self._program.append(self._spread(rows), -free, free, self._overload)
        self._monitored = np.concatenate([self._monitored, worst])
        self._rows = np.concatenate([self._rows, rows])
        self._offset = np.concatenate([self._offset, self._present.offset[worst]])
        return True

    def _follow(self, topology: Topology) -> None:
        """Make the lines' rows those of the present topology."""
        if topology is self._present and topology.version == self._version:
            if self._monitored.shape[0] > KEPT_LINES:
                self._forget_lines()
            return
        if topology.network is not self.network:
            raise ValueError(f"the topology is of another network than {self.network.grid.name!r}")
        self._present, self._version = topology, topology.version
        kept = self._monitored[topology.closed[self._monitored]]
        self._forget_lines()
        if kept.shape[0]:
            rows, free = topology.rows(kept), np.full(kept.shape[0], np.inf)
            self._program.append(self._spread(rows), -free, free, self._overload)
            self._monitored, self._rows, self._offset = kept, rows, topology.offset[kept]

    def _forget_lines(self) -> None:
        self._program.drop()
        self._monitored = np.zeros(0, dtype=np.int64)
        self._rows = np.zeros((0, self.network.buses))
        self._offset = np.zeros(0)

    def _limits(self, rate: Doubles | None) -> tuple[Doubles, Doubles]:
        network = self.network
        if rate is None:
            return network.low, network.high
        return np.maximum(network.low, -rate), np.minimum(network.high, rate)

    def _spread(self, of_bus: Doubles) -> Doubles:
        """Coefficients of all columns ``[n, columns]`` from those of a MW at every bus."""
        parts = [of_bus[:, self._at]]
        if self.slack is not None:
            parts += [of_bus, -of_bus]
        ends = of_bus[:, self._lines.end] - of_bus[:, self._lines.start]
        return np.concatenate([*parts, ends], axis=1)

    def _result(
        self,
        optimum: Optimum,
        columns: Columns,
        on: Bools,
        lines: tuple[Doubles, Doubles],
        effort: tuple[int, int],
    ) -> Dispatch:
        x, network = optimum.x, self.network
        count = self.segments.unit.shape[0]
        units = columns.base.shape[0]
        power = columns.base + np.bincount(self.segments.unit, x[:count], units)
        energy, dual = optimum.row_dual[: self._islands], optimum.row_dual[self._islands :]
        congestion = np.zeros(network.branches)
        congestion[self._monitored] = -dual
        nothing = np.zeros(network.buses)
        return Dispatch(
            power=power,
            flow=lines[0],
            dc_flow=x[self._dc],
            lmp=energy[network.island] + dual @ self._rows,
            congestion=congestion,
            shed=x[self._shed] if self.slack is not None else nothing,
            surplus=x[self._surplus] if self.slack is not None else nothing,
            overload=lines[1],
            cost=float(self.segments.table.cost(power, on).sum()),
            objective=optimum.objective + columns.fixed,
            iterations=effort[0],
            rounds=effort[1],
        )


def _refuse_box(names: tuple[str, ...], low: Doubles, high: Doubles, on: Bools) -> None:
    for unit in np.flatnonzero(on & ~(low <= high + 1e-9)).tolist():
        raise ValueError(
            f"unit {names[unit]!r}: low is {low[unit]} MW, expected at most high {high[unit]} MW"
        )
