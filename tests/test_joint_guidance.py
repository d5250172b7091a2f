"""Expected own-action guidance values against full enumeration of the joint actions."""

import itertools

import pytest
import torch

from fairlead.policies.joint_guidance import JointGuidance, has_disjoint_supports


def game(shared_support: bool, seed: int = 0):
    """Three agents, three candidates (the first moves nothing), four coordinates, two epochs."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    logits = draw(2, 3, 3)
    deviation, weight = 2 * draw(2, 4) - 1, draw(2, 4) + 0.5
    own = [[0, 0], [1, 1], [2, 2]] if shared_support else [[0, 1], [1, 2], [2, 3]]
    index = torch.full((2, 3, 3, 1), -1)
    for agent, (first, second) in enumerate(own):
        index[:, agent, 1, 0], index[:, agent, 2, 0] = first, second
    value = draw(2, 3, 3, 1) * (index >= 0)
    return logits, deviation, weight, index, value


def expected_deviation(probabilities, deviation, weight, index, value):
    total = torch.zeros((), dtype=torch.float64)
    for epoch in range(2):
        for joint in itertools.product(range(3), repeat=3):
            x, chance = deviation[epoch].clone(), torch.ones((), dtype=torch.float64)
            for agent, k in enumerate(joint):
                chance = chance * probabilities[epoch, agent, k]
                if index[epoch, agent, k, 0] >= 0:
                    x[index[epoch, agent, k, 0]] += value[epoch, agent, k, 0]
            total = total + chance * 0.5 * (weight[epoch] * x * x).sum()
    return total


@pytest.mark.parametrize("shared_support", [False, True])
def test_policy_weighted_values_have_the_gradient_of_the_expected_deviation(shared_support):
    logits, deviation, weight, index, value = game(shared_support)
    assert has_disjoint_supports(index) is not shared_support
    logits.requires_grad_()
    exact = expected_deviation(torch.softmax(logits, -1), deviation, weight, index, value)
    (by_enumeration,) = torch.autograd.grad(exact, logits)
    probabilities = torch.softmax(logits, -1)
    guidance = JointGuidance(deviation, weight, index, value, disjoint=not shared_support)
    q = guidance.values(probabilities.detach())
    (by_values,) = torch.autograd.grad(-(probabilities * q).sum(), logits)
    torch.testing.assert_close(by_values, by_enumeration, rtol=1e-10, atol=1e-12)
    assert by_enumeration.abs().max() > 1e-3


def test_general_form_equals_the_disjoint_form_where_both_apply():
    logits, deviation, weight, index, value = game(False)
    p = torch.softmax(logits, -1)
    fast = JointGuidance(deviation, weight, index, value, disjoint=True).values(p)
    general = JointGuidance(deviation, weight, index, value, disjoint=False).values(p)
    torch.testing.assert_close(fast, general, rtol=1e-12, atol=1e-14)


def test_padding_at_coordinate_zero_does_not_leak():
    logits, deviation, weight, index, value = game(False)
    p = torch.softmax(logits, -1)
    q = JointGuidance(deviation, weight, index, value, disjoint=True).values(p)
    assert torch.equal(q[..., 0], torch.zeros_like(q[..., 0]))


def test_slice_of_epochs_gives_the_rows_of_the_whole():
    logits, *effects = game(True)
    p = torch.softmax(logits, -1)
    guidance = JointGuidance(*effects, disjoint=False)
    rows = torch.tensor([1])
    torch.testing.assert_close(guidance.at(rows).values(p[rows]), guidance.values(p)[rows])
