"""The lazy queue chooses what the full greedy chooses, with fewer measurements."""

import numpy as np
import pytest

from fairlead.policies.trust.greedy import LazyQueue, full_greedy


class Coverage:
    """Priorities that never grow: weight of what a group would newly cover."""

    def __init__(self, seed, n, items=40, integer=False):
        rng = np.random.default_rng(seed)
        self.covers = rng.random((n, items)) < rng.uniform(0.02, 0.4, (n, 1))
        self.weight = np.ones(items) if integer else rng.gamma(0.5, 1.0, items)
        self.open = np.ones(items, dtype=bool)
        self.asked = 0

    def __call__(self, groups):
        self.asked += groups.size
        return (self.covers[groups] * (self.weight * self.open)).sum(axis=1)

    def move(self, groups):
        self.open &= ~self.covers[groups].any(axis=0)


@pytest.mark.parametrize("count", [1, 3, 50])
@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_lazy_choice_is_the_full_greedy_ties_included(count, integer, fresh):
    for seed in range(25):
        n = 17
        lazy, full = (Coverage(seed, n, integer=integer) for _ in range(2))
        start = lazy(np.arange(n)) if fresh else np.full(n, np.inf)
        lazy.asked = 0
        queue, remaining = LazyQueue(start, fresh=fresh), np.arange(n)
        while len(queue):
            np.testing.assert_array_equal(queue.remaining, remaining)
            chosen, wanted = queue.take(count, lazy), full_greedy(remaining, count, full)
            np.testing.assert_array_equal(chosen.groups, wanted.groups)
            np.testing.assert_array_equal(chosen.priorities, wanted.priorities)
            remaining = np.setdiff1d(remaining, wanted.groups)
            lazy.move(chosen.groups)
            full.move(wanted.groups)
        assert remaining.size == 0 and queue.grown == 0
        assert queue.evaluations == lazy.asked <= full.asked


def test_every_round_takes_the_brute_force_argmax():
    game = Coverage(3, 12)
    queue = LazyQueue(np.full(12, np.inf), fresh=False)
    while len(queue):
        values = {g: game(np.array([g]))[0] for g in queue.remaining}
        (chosen,) = queue.take(1, game).groups
        assert values[chosen] == max(values.values())
        game.move(np.array([chosen]))


def test_lazy_evaluation_saves_most_of_the_measurements():
    game = Coverage(0, 200, items=4000)
    queue = LazyQueue(game(np.arange(200)))
    first = queue.take(1, game)
    assert queue.evaluations == 0, "fresh priorities are not measured again"
    game.move(first.groups)
    while len(queue):
        game.move(queue.take(1, game).groups)
    assert queue.evaluations < 0.25 * (200 * 199 / 2)


def test_groups_whose_priority_grew_may_be_late_and_are_counted():
    def evaluate(groups):
        return np.array([1.0, 5.0, 2.0, 9.0])[groups]

    queue = LazyQueue(np.array([8.0, 4.0, 3.0, 0.5]), fresh=False)
    chosen = queue.take(1, evaluate)
    np.testing.assert_array_equal(chosen.groups, [1])
    assert queue.grown == 1 and queue.evaluations == 2, "3 would be best, its bound hid it"
    later = queue.take(3, evaluate)
    np.testing.assert_array_equal(later.groups, [3, 2, 0])
    np.testing.assert_array_equal(later.priorities, [9.0, 2.0, 1.0])
    assert queue.grown == 2 and len(queue) == 0


def test_groups_about_which_nothing_is_known_come_last():
    def evaluate(groups):
        return np.array([np.nan, -1.0, 0.0])[groups]

    chosen = LazyQueue(np.array([np.nan, 0.5, 0.5]), fresh=False).take(3, evaluate)
    np.testing.assert_array_equal(chosen.groups, [2, 1, 0])
    np.testing.assert_array_equal(chosen.priorities, [0.0, -1.0, -np.inf])


def test_the_queue_refuses_nonsense():
    queue = LazyQueue(np.zeros(3), fresh=False)
    with pytest.raises(ValueError, match="count = 0"):
        queue.take(0, lambda groups: np.zeros(groups.size))
    with pytest.raises(ValueError, match="one priority per group"):
        queue.take(2, lambda groups: np.zeros(1))
    empty = LazyQueue(np.zeros(0)).take(2, lambda groups: np.zeros(groups.size))
    assert empty.groups.size == 0
