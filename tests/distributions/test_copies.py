"""Check copies of distributions without gradients, or of another dtype, and weak methods."""

import gc
import weakref

import pytest
import torch

import ember.distributions as dist
from ember.distributions import transforms
from ember.distributions.copies import deep_to, detach, weakmethod


def some(loc):
    chain = dist.DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Normal(loc, 1.0), duration=3)
    flow = dist.TransformedDistribution(dist.Normal(loc, 1.0), [transforms.AffineTransform(loc, 2.0).inv])
    unit = dist.Normal(loc, 1.0).to_event(1)
    kalman = dist.GaussianHMM(unit, torch.eye(2), unit, torch.eye(2), unit, duration=3)
    return {"plain": (unit, [flow, loc]), "chain": chain, "kalman": kalman, "number": 3}


def score(parts):
    (unit, (flow, loc)), value = parts["plain"], torch.ones(3, dtype=parts["plain"][1][1].dtype)
    return (
        unit.log_prob(value[:2])
        + flow.log_prob(value[:2]).sum()
        + parts["chain"].log_prob(value)
        + parts["kalman"].log_prob(value[:, None].expand(3, 2))
        + loc.sum()
    )


def test_detached_copies_are_equal_without_gradients():
    parts = some(torch.tensor([0.3, 0.5], requires_grad=True))
    copy = detach(parts)
    assert copy["number"] == 3 and type(copy["plain"]) is tuple
    assert copy["plain"][0].base_dist.loc is not parts["plain"][0].base_dist.loc
    torch.testing.assert_close(score(copy), score(parts).detach())
    assert score(parts).requires_grad and not score(copy).requires_grad


def test_copies_of_another_dtype_keep_their_gradients():
    loc = torch.tensor([0.3, 0.5], requires_grad=True)
    parts = some(loc)
    copy = deep_to(parts, torch.float64)
    torch.testing.assert_close(score(copy), score(parts).double(), rtol=1e-5, atol=1e-5)
    assert copy["plain"][1][0].log_prob(torch.zeros(2)).dtype == torch.float64
    (gradient,) = torch.autograd.grad(copy["plain"][0].log_prob(torch.ones(2, dtype=torch.float64)), loc)
    torch.testing.assert_close(gradient, 1 - loc.detach())
    counts = deep_to({"n": torch.tensor([1, 2])}, torch.float64)
    assert counts["n"].dtype == torch.int64  # not a real number
    module = deep_to(torch.nn.Linear(2, 1), torch.float64)
    assert isinstance(module.weight, torch.nn.Parameter) and module.weight.dtype == torch.float64


def test_a_weak_method_does_not_keep_its_object():
    class Counter:
        @weakmethod
        def shifted(self, by):
            """Return a sum."""
            return self.start + by

        start = 4

    counter = Counter()
    method, known = counter.shifted, weakref.ref(counter)
    assert method(3) == 7 and method.__doc__ == "Return a sum."
    del counter
    gc.collect()
    assert known() is None
    with pytest.raises(AttributeError, match=r"garbage collected before self\.shifted"):
        method(3)
