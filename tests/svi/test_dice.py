"""Check the DiCE operator against exact expectations and their gradients."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.infer.objectives.dice import Dice
from ember.poutine.elimination.packing import pack

PLATE = frozenset({"data"})
COSTS = torch.tensor([[1.0, -2.0, 0.5], [0.3, 4.0, -1.0]])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, generator=generator).requires_grad_(), torch.randn(
        2, 2, generator=generator
    ).requires_grad_()


def guide(logits, enumerate, number=None):
    how = {"enumerate": enumerate} if number is None else {"enumerate": enumerate, "num_samples": number}
    a = ember.sample("a", dist.Categorical(logits=logits[0]), infer=dict(how))
    with ember.plate("data", 3, dim=-1):
        ember.sample("b", dist.Categorical(logits=logits[1][a]), infer=dict(how))


def expectation(logits):
    q_a, q_b = logits[0].softmax(-1), logits[1].softmax(-1)
    return (q_a @ q_b @ COSTS).sum()


def traced(logits, **how):
    wrapped = poutine.enum(guide, first_available_dim=-2)
    trace = poutine.trace(wrapped).get_trace(logits, **how)
    trace.compute_score_parts()
    trace.pack_tensors()
    return trace


def estimate(trace):
    site = trace.nodes["b"]
    value = site["value"]
    cost = COSTS[value, torch.arange(3)]
    packed = pack(cost, site["infer"]["_dim_to_symbol"])
    return Dice(trace, {"a": frozenset(), "b": PLATE}).compute_expectation({PLATE: [packed]})


def test_enumerated_sites_are_averaged_exactly(logits):
    found, expected = estimate(traced(logits, enumerate="parallel")), expectation(logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


def test_sampled_sites_have_score_functions(logits):
    number = 3000
    expected = torch.autograd.grad(expectation(logits), logits)
    found = [torch.autograd.grad(estimate(traced(logits, enumerate=None)), logits) for _ in range(number)]
    for draws, exact in zip(zip(*found, strict=True), expected, strict=True):
        stacked = torch.stack(draws)
        error = (stacked.mean(0) - exact) / (stacked.std(0) / number**0.5)
        assert error.abs().max() < 4.5
