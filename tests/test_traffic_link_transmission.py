"""Link transmission in torch: conservation, bounds, smoothing, gradients, the exact fluid."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from traffic_graphs import graph, grid_graph, random_graph, random_greens

from fairlead.models.traffic.fluid import roll_out
from fairlead.models.traffic.link_transmission import LinkTransmission, soft_minimum

STEPS = 40


def case(seed, batch=3, scale=1.0):
    rng = np.random.default_rng(seed)
    made = random_graph(rng)
    queues = scale * rng.uniform(0.0, 6.0, (batch, made.movements))
    arrivals = scale * rng.uniform(0.0, 0.3, (batch, STEPS, made.movements))
    greens = np.stack([random_greens(rng, made, STEPS) for _ in range(batch)])
    return made, *(torch.tensor(values) for values in (queues, arrivals, greens))


@pytest.mark.parametrize("tau", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("spillback", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_nobody_is_lost_and_no_cell_leaves_its_bounds(tau, spillback, seed):
    made, queues, arrivals, greens = case(seed, scale=3.0)
    model = LinkTransmission(made, step=5.0, tau=tau, spillback=spillback)
    traffic = model.start(queues)
    full = 0
    for at in range(STEPS):
        traffic, crossed = model.advance(traffic, arrivals[:, at], greens[:, at])
        cells = torch.zeros(3, model.cells, dtype=torch.float64)
        cells = cells.index_add(1, model.slot_cell, traffic.cells)
        assert (traffic.cells >= 0.0).all() and (traffic.waiting >= 0.0).all()
        assert (crossed >= 0.0).all()
        assert (cells <= model.jam * (1.0 + 1e-12)).all()
        full += int((cells > 0.99 * model.jam).sum())
        inside = model.queues(traffic).sum(dim=1) + traffic.finished
        came = queues.sum(dim=1) + arrivals[:, : at + 1].sum(dim=(1, 2))
        torch.testing.assert_close(inside, came, rtol=1e-12, atol=0.0)
    assert full > 0, "no cell ever filled: the bound was not tried"


def test_with_one_cell_it_is_the_exact_fluid():
    short = 0
    for seed in range(6):
        made, queues, arrivals, greens = case(seed)
        # One cell per link, which holds everybody at the start, and room that is free at once.
        made = replace(made, travel=np.full(made.links, 5.0), storage=0.5 * made.storage + 8.0)
        model = LinkTransmission(made, step=5.0, spillback=False)
        _, after = model.roll_out(model.start(queues), arrivals, greens)
        for b in range(queues.shape[0]):
            given = [values[b].numpy() for values in (queues, arrivals, greens)]
            run = roll_out(made, *given, step=5.0)
            np.testing.assert_allclose(after[b].numpy(), run.queues, rtol=0.0, atol=1e-11)
            free = roll_out(made, *given, step=5.0, storage=False)
            short += np.abs(free.queues - run.queues).max() > 1e-6
    assert short, "room was never short"


def test_smooth_tends_to_exact():
    made, queues, arrivals, greens = case(1)
    exact = LinkTransmission(made, step=5.0)
    _, true = exact.roll_out(exact.start(queues), arrivals, greens)
    apart = []
    for tau in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001):
        model = LinkTransmission(made, step=5.0, tau=tau)
        _, smooth = model.roll_out(model.start(queues), arrivals, greens)
        apart.append(float((smooth - true).abs().max()))
    assert all(b < 0.6 * a for a, b in pairwise(apart)), apart
    assert apart[-1] < 0.05 < apart[0]


def test_the_soft_minimum_lies_between_zero_and_the_minimum():
    one, two = torch.rand(2, 1000, dtype=torch.float64) * torch.tensor([[1.0], [1e3]])
    one[:100], two[50:150] = 0.0, 0.0
    for tau in (1.0, 0.2, 1e-3):
        soft = soft_minimum(one, two, tau)
        assert (soft >= 0.0).all() and (soft <= torch.minimum(one, two)).all()
        worst = torch.minimum(one, two) * 2.0**-tau
        assert (soft >= worst * (1.0 - 1e-12)).all()
    torch.testing.assert_close(
        soft_minimum(one[200:], two[200:], 1.0), 1.0 / (1.0 / one[200:] + 1.0 / two[200:])
    )


def loss(model, made, queues, arrivals, logits):
    greens = model.greens(logits)
    _, after = model.roll_out(model.start(queues), arrivals, greens)
    weight = torch.linspace(0.5, 1.5, made.movements, dtype=torch.float64)
    return 0.5 * (weight * after[:, -1] ** 2).sum() + after.sum()


@pytest.mark.parametrize("tau", [0.0, 5e-4])
def test_gradients_are_those_of_the_exact_map_away_from_kinks(tau):
    found = 0
    for seed in range(4):
        made, queues, arrivals, _ = case(seed, batch=1)
        queues, arrivals = queues + 20.0, arrivals[:, :8]
        made = replace(made, storage=made.storage + 400.0)
        rng = np.random.default_rng(seed)
        logits = torch.tensor(rng.normal(size=(1, 8, made.phases)), requires_grad=True)
        model = LinkTransmission(made, step=5.0, tau=tau)
        exact = LinkTransmission(made, step=5.0)
        (slope,) = torch.autograd.grad(loss(model, made, queues, arrivals, logits), logits)
        for at in rng.choice(logits.numel(), 12, replace=False):
            row = np.unravel_index(at, tuple(logits.shape))
            values = []
            for shift in (-2e-4, -1e-4, 0.0, 1e-4, 2e-4):
                moved = logits.detach().clone()
                moved[row] += shift
                values.append(float(loss(exact, made, queues, arrivals, moved)))
            slopes = np.diff(values) / 1e-4
            if abs(np.diff(slopes, 2)).max() > 1e-5 * abs(slopes).max() + 1e-6:
                continue  # a kink lies between
            central = (values[3] - values[1]) / 2e-4
            assert float(slope[row]) == pytest.approx(central, rel=1e-4, abs=2e-4), (seed, row)
            found += abs(central) > 1e-2
    assert found >= 20


@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_a_red_phase_knows_what_its_green_would_do_further_on(tau):
    """One-hot greens: the derivative at share 0, through links that are empty, is one-sided."""
    made = grid_graph(2, 2)
    made = replace(made, low=np.zeros(made.phases), high=np.ones(made.phases))
    model = LinkTransmission(made, step=5.0, tau=tau)
    hot = torch.zeros(1, 12, made.phases, dtype=torch.float64)
    hot[..., 1::4] = 0.9
    queues = torch.full((1, made.movements), 6.0, dtype=torch.float64)
    none = torch.zeros(1, 12, made.movements, dtype=torch.float64)

    def value(shares):
        _, after = model.roll_out(model.start(queues), none, shares)
        return (torch.linspace(1.0, 2.0, made.movements) * after[:, -1]).sum()

    greens = hot.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(greens), greens)
    for phase in (0, 2, 7, 12):
        moved = hot.clone()
        moved[0, 2, phase] += 1e-6
        ahead = float(value(moved) - value(hot)) / 1e-6
        assert float(slope[0, 2, phase]) == pytest.approx(ahead, rel=1e-4, abs=1e-5)
        assert abs(ahead) > 1e-2


def test_double_precision_gradients_of_the_smooth_map():
    made, queues, arrivals, _ = case(2, batch=1, scale=2.0)
    model = LinkTransmission(made, step=5.0, tau=0.2)
    logits = torch.randn(1, 5, made.phases, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z: loss(model, made, queues, arrivals[:, :5], z), logits, atol=1e-4, rtol=1e-4
    )


def test_greens_fill_what_is_not_lost_and_keep_the_least():
    made = grid_graph(2, 3)
    model = LinkTransmission(made, step=5.0)
    logits = torch.randn(4, 7, made.phases, dtype=torch.float64) * 50.0
    greens = model.greens(logits).numpy()
    np.testing.assert_allclose(made.per_signal(greens), 0.9, rtol=1e-12)
    assert (greens >= made.low - 1e-15).all() and greens.max() == pytest.approx(0.9 - 3 * 5 / 60)
    even = model.greens(torch.zeros(1, made.phases, dtype=torch.float64))
    np.testing.assert_allclose(even[0].numpy(), made.even_greens(), rtol=1e-12)
    free = replace(made, low=np.zeros(made.phases), high=np.ones(made.phases))
    shares = LinkTransmission(free, step=5.0).greens(logits)
    soft = torch.softmax(logits.reshape(4, 7, 6, 4), dim=-1).reshape(4, 7, -1)
    torch.testing.assert_close(shares, 0.9 * soft)


def road(**values):
    """An unsignalled link of 200 m that feeds another."""
    return graph([0, 1], [1, 2], ratio=[(0, 1, 1.0)], signals=0, always=np.ones(2), **values)


def test_a_vehicle_drives_a_link_in_its_travel_time():
    made = road(travel=np.array([20.0, 40.0, 20.0]))
    model = LinkTransmission(made, step=5.0)
    traffic = model.start(torch.zeros(1, 2, dtype=torch.float64))
    arrivals = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    seen = []
    for _ in range(16):
        traffic, crossed = model.advance(traffic, arrivals, torch.zeros(1, 0, dtype=torch.float64))
        seen.append(crossed[0].tolist())
        arrivals = torch.zeros_like(arrivals)
    # A cell a step: 20 s to the first stop line, 40 s from there to the second.
    assert np.flatnonzero([a for a, _ in seen]).tolist() == [3]
    assert np.flatnonzero([b for _, b in seen]).tolist() == [3 + 8]
    assert seen[11][1] == pytest.approx(1.0)


def test_freed_room_travels_upstream_at_the_wave_speed():
    # Triangle: Q = 0.5 veh/s, 200 m driven in 20 s, 30 vehicles: w = Q L / (X - Q t) = 5 m/s.
    values = {"storage": [300.0, 30.0, 30.0], "inflow": np.full(3, 0.5)}
    made = road(travel=np.full(3, 20.0), **values)
    model = LinkTransmission(made, step=5.0)
    queues = torch.tensor([[200.0, 30.0]], dtype=torch.float64)
    traffic = model.start(queues)
    # The second stop line opens at once: half a vehicle per second leaves the full link.
    flows = []
    for _ in range(60):
        none = torch.zeros(1, 2, dtype=torch.float64)
        traffic, crossed = model.advance(traffic, none, torch.zeros(1, 0, dtype=torch.float64))
        flows.append(crossed[0].tolist())
    entered = np.cumsum([a for a, _ in flows])
    # 200 m at 5 m/s: nobody enters in the first 40 s, as far as four cells can tell; then Q.
    assert entered[3] < 0.6 and flows[-1][0] == pytest.approx(2.5, rel=1e-3)
    late = 5.0 * 60 - entered[-1] / 0.5
    assert late == pytest.approx(40.0, abs=5.0)
    jumped = LinkTransmission(made, step=5.0, spillback=False)
    traffic = jumped.start(queues)
    _, first = jumped.advance(traffic, torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 0))
    assert float(first[0, 1]) == pytest.approx(2.5)


def test_queues_stand_back_from_the_stop_line_and_the_rest_waits_outside():
    made = road(storage=[20.0, 20.0, 20.0], travel=np.full(3, 20.0))
    model = LinkTransmission(made, step=5.0)
    traffic = model.start(torch.tensor([[7.0, 26.0]], dtype=torch.float64))
    assert traffic.cells[0].tolist() == [0.0, 0.0, 2.0, 5.0, 5.0, 5.0, 5.0, 5.0]
    assert traffic.waiting[0].tolist() == [0.0, 6.0]
    assert model.queues(traffic)[0].tolist() == [7.0, 26.0]


def test_single_precision_runs_and_agrees():
    made, queues, arrivals, greens = case(3)
    double = LinkTransmission(made, step=5.0, tau=0.05)
    single = LinkTransmission(made, step=5.0, tau=0.05, dtype=torch.float32)
    _, one = double.roll_out(double.start(queues), arrivals, greens)
    _, two = single.roll_out(single.start(queues.float()), arrivals.float(), greens.float())
    assert two.dtype == torch.float32
    torch.testing.assert_close(two.double(), one, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("step", "tau"), [(0.0, 0.1), (-1.0, 0.1), (5.0, -0.1), (5.0, 1.5)])
def test_bad_steps_and_temperatures_are_named(step, tau):
    with pytest.raises(ValueError, match=f"step {step}.*tau {tau}"):
        LinkTransmission(grid_graph(1, 1), step=step, tau=tau)
