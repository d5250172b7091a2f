"""Max pressure: hand-worked numbers, and that it is the guidance of store-and-forward control."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from traffic_graphs import crossing, entries, grid_graph, random_graph, tandem

from fairlead.models.traffic.fluid import cost_of, fluid_step, roll_out
from fairlead.models.traffic.link_transmission import LinkTransmission
from fairlead.models.traffic.max_pressure import (
    best_phases,
    link_effect,
    link_pressures,
    pressures,
    storage_weights,
)
from fairlead.models.traffic.store_forward_layout import Costs


def test_two_nodes_by_hand():
    made = tandem(storage=np.array([20.0, 40.0, 10.0, 50.0, 9.0, 9.0, 9.0]))
    queues = np.array([10.0, 4.0, 5.0, 3.0])
    # 0 feeds 1: 0.5 (10 - 4); cross 0.5 * 5; second signal 0.5 * 4 and 0.5 * 3.
    weight = pressures(made, queues)
    assert weight.tolist() == [3.0, 2.5, 2.0, 1.5]
    assert best_phases(made, weight).tolist() == [0, 0]
    # With storage 20 and 40 before 0 and 1, 10 and 50 on the cross streets.
    aware = pressures(made, queues, weights=storage_weights(made))
    np.testing.assert_allclose(aware, [0.5 * (0.5 - 0.1), 0.25, 0.05, 0.03])
    assert best_phases(made, aware).tolist() == [1, 0]
    # Full beyond: the feeding phase has negative pressure.
    assert pressures(made, np.array([2.0, 9.0, 0.0, 0.0])).tolist() == [-3.5, 0.0, 4.5, 0.0]
    # Towards a reference instead of empty.
    ref = np.array([8.0, 4.0, 0.0, 4.0])
    assert pressures(made, queues, reference=ref).tolist() == [1.0, 2.5, 0.0, -0.5]


def test_ties_go_to_the_first_phase_and_phase_counts_may_differ():
    made = random_graph(np.random.default_rng(5), signals=6)
    assert set(made.phase_counts.tolist()) == {2, 3}
    assert best_phases(made, np.zeros(made.phases)).tolist() == [0] * 6
    wanted = np.array([int(c) - 1 for c in made.phase_counts])
    pressure = np.zeros(made.phases)
    pressure[made.phase_start[:-1] + wanted] = 1.0
    assert best_phases(made, pressure).tolist() == wanted.tolist()


def phi(queues, weights, reference):
    return 0.5 * float((weights * (queues - reference) ** 2).sum())


@pytest.mark.parametrize("kind", ["plain", "storage", "reference"])
def test_the_change_of_phi_under_the_dynamics_is_minus_the_pressure(kind):
    """1000 random states; the step goes through the exact fluid roll-out, not the formula."""
    rng = np.random.default_rng(7)
    made = random_graph(rng)
    made = replace(made, storage=np.full(made.links, 1e4), always=np.zeros(made.movements))
    weights = storage_weights(made) if kind == "storage" else np.ones(made.movements)
    first = made.phase_start
    none = np.zeros(made.movements)
    for _ in range(1000):
        queues = rng.uniform(5.0, 30.0, made.movements)
        ref = rng.uniform(0.0, 20.0, made.movements) if kind == "reference" else none
        pressure = pressures(made, queues, weights=weights, reference=ref)
        i = int(rng.integers(len(made.signals)))
        slopes = []
        for p in range(first[i], first[i + 1]):
            greens = np.zeros(made.phases)
            greens[p] = 1.0
            values = [
                phi(fluid_step(made, queues, none, made.rate(greens), step=h)[0], weights, ref)
                for h in (1.0, 2.0)
            ]
            # Phi is quadratic in the step, so that two steps give its slope at zero exactly.
            slopes.append(2.0 * values[0] - 0.5 * values[1] - 1.5 * phi(queues, weights, ref))
        np.testing.assert_allclose(slopes, -pressure[first[i] : first[i + 1]], rtol=1e-9, atol=1e-8)
        assert int(np.argmin(slopes)) == best_phases(made, pressure)[i]


def test_autograd_through_link_transmission_gives_the_same():
    rng = np.random.default_rng(11)
    made = random_graph(rng)
    made = replace(
        made,
        storage=np.full(made.links, 1e4),
        travel=np.full(made.links, 1e-3),
        always=np.zeros(made.movements),
    )
    model = LinkTransmission(made, step=1e-3, spillback=False)
    queues = torch.tensor(rng.uniform(5.0, 30.0, (1000, made.movements)))
    greens = torch.tensor(np.tile(made.even_greens(), (1000, 1)), requires_grad=True)
    after, _ = model.advance(model.start(queues), torch.zeros_like(queues), greens)
    value = 0.5 * (model.queues(after) ** 2).sum()
    (slope,) = torch.autograd.grad(value, greens)
    # At the queues after the step, because greens act on Phi there.
    exact = pressures(made, model.queues(after).detach().numpy())
    np.testing.assert_allclose(slope.numpy() / 1e-3, -exact, rtol=1e-9, atol=1e-9)
    before = pressures(made, queues.numpy())
    same = [
        (best_phases(made, -slope[b].numpy()) == best_phases(made, before[b])).all()
        for b in range(1000)
    ]
    # The step of 1 ms itself may turn what was all but a tie.
    assert np.mean(same) > 0.99


def test_links_as_a_whole():
    rng = np.random.default_rng(2)
    made = random_graph(rng)
    queues, ref = rng.uniform(0.0, 9.0, (2, made.movements))
    occupancy, wanted = made.on_link @ queues, made.on_link @ ref
    value = lambda x: 0.5 * float(((x - wanted) ** 2 / made.storage).sum())  # noqa: E731
    weight = link_pressures(made, occupancy, reference=wanted)
    for p in range(made.phases):
        move = link_effect(made)[[p]].toarray()[0]
        central = (value(occupancy + 1e-3 * move) - value(occupancy - 1e-3 * move)) / 2e-3
        assert weight[p] == pytest.approx(-central, rel=1e-7, abs=1e-9)
    np.testing.assert_allclose(
        made.green_effect @ made.on_link.T.toarray(), link_effect(made).toarray()
    )
    # Batches are another axis in front.
    many = rng.uniform(0.0, 9.0, (5, made.links))
    np.testing.assert_allclose(link_pressures(made, many)[3], link_pressures(made, many[3]))


def totals(load, steps=600):
    """Vehicles in a 2x2 grid under max pressure, every phase for ten seconds, none lost."""
    made = grid_graph(2, 2, lost=0.0, low=0.0, length=1e5)
    rng = np.random.default_rng(3)
    rate = np.where(entries(made), np.tile([0.2, 0.6, 0.2], made.movements // 3), 0.0)
    # Straight on two approaches at a time, and left turns: the share of time that flows need.
    flow = rate.copy()
    for _ in range(50):
        flow = rate + made.ratio.T @ flow
    need = made.serve @ np.zeros(made.movements)
    for p in range(made.phases):
        own = made.serve[[p]].nonzero()[1]
        need[p] = (flow[own] / made.saturation[own]).max()
    rate *= load / made.per_signal(need).max()
    queues, seen = np.zeros(made.movements), []
    for _ in range(steps):
        greens = np.zeros(made.phases)
        greens[made.phase_start[:-1] + best_phases(made, pressures(made, queues))] = 1.0
        arrivals = rng.poisson(10.0 * rate).astype(float)
        queues, _ = fluid_step(made, queues, arrivals, made.rate(greens), step=10.0)
        seen.append(queues.sum())
    return np.array(seen)


def test_it_is_stable_inside_capacity_and_not_outside():
    inside, outside = totals(0.9), totals(1.1)
    assert inside[300:].max() < 2.0 * inside[100:300].max()
    growth = np.diff(outside[[200, 400, 599]])
    assert (growth > 50.0).all(), growth
    assert inside[-1] < 0.3 * outside[-1]


def test_it_beats_even_greens_where_demand_is_uneven():
    made = crossing(lost=np.zeros(1))
    arrivals = np.tile([3.0, 1.0], (60, 1))
    even = roll_out(made, np.zeros(2), arrivals, np.tile([0.5, 0.5], (60, 1)), step=10.0)
    queues, seen = np.zeros(2), []
    for at in range(60):
        greens = np.zeros(2)
        greens[best_phases(made, pressures(made, queues + arrivals[at]))] = 1.0
        queues, _ = fluid_step(made, queues, arrivals[at], made.rate(greens), step=10.0)
        seen.append(queues)
    time = [cost_of(made, x, Costs(), 10.0) for x in (np.array(seen), even.queues)]
    assert time[0] < 0.5 * time[1]
