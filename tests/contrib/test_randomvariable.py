"""Check arithmetic on random variables by their densities and draws."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember.contrib.randomvariable import RandomVariable

POINT = torch.tensor(0.7)
NORMAL, UNIFORM = dist.Normal(0.5, 2.0), dist.Uniform(0.0, 1.0)


@pytest.mark.parametrize(
    "variable, expected",
    [
        (NORMAL.rv + 1, dist.Normal(1.5, 2.0)),
        (1 + NORMAL.rv.add(0.0), dist.Normal(1.5, 2.0)),
        (NORMAL.rv - 1, dist.Normal(-0.5, 2.0)),
        (1 - NORMAL.rv.sub(0.0), dist.Normal(0.5, 2.0)),
        (3 * NORMAL.rv, dist.Normal(1.5, 6.0)),
        (NORMAL.rv.mul(3), dist.Normal(1.5, 6.0)),
        (NORMAL.rv / 2, dist.Normal(0.25, 1.0)),
        (NORMAL.rv.div(2.0), dist.Normal(0.25, 1.0)),
        (-NORMAL.rv.neg().neg(), dist.Normal(-0.5, 2.0)),
        ((2 * NORMAL.rv + 1).exp(), dist.LogNormal(2.0, 4.0)),
        (NORMAL.rv.exp().log(), NORMAL),
        (-UNIFORM.rv.log(), dist.Exponential(1.0)),
        (UNIFORM.rv**0.5, dist.Beta(2.0, 1.0)),
        (UNIFORM.rv.pow(0.5), dist.Beta(2.0, 1.0)),
        (dist.Normal(0.0, 2.0).rv.abs(), dist.HalfNormal(2.0)),
        (abs(dist.Normal(0.0, 2.0).rv), dist.HalfNormal(2.0)),
        (dist.Logistic(0.0, 1.0).rv.sigmoid(), UNIFORM),
    ],
)
def test_densities(variable, expected):
    assert isinstance(variable, RandomVariable)
    torch.testing.assert_close(variable.dist.log_prob(POINT), expected.log_prob(POINT))


def test_draws():
    ember.set_rng_seed(0)
    value = ember.sample("x", NORMAL.rv.tanh().dist)
    assert -1.0 < value < 1.0
    assert dist.Normal(torch.zeros(3), 1.0).rv.softmax().dist.sample().sum().item() == pytest.approx(1.0)
    shifted = (dist.Normal(0.0, 1.0).expand([2]).rv + torch.tensor([10.0, -10.0])).dist.sample((100,))
    assert shifted[:, 0].min() > 0 > shifted[:, 1].max()


def test_two_variables_are_not_combined():
    with pytest.raises(TypeError, match="numbers and tensors only"):
        _ = NORMAL.rv + NORMAL.rv
