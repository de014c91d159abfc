"""Check the derivatives of gamma, beta and Dirichlet draws against differences of quantiles and torch's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special as sp
import torch

from ember.engine import random
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.engine.randomness.implicit import dirichlet_grad, gamma_grad

QUANTILES = np.array([1e-6, 1e-3, 0.05, 0.3, 0.5, 0.8, 0.99, 1 - 1e-6])


def slope(function, a):
    """Differentiate by five points."""
    h = 1e-4 * a
    return (8 * (function(a + h) - function(a - h)) - (function(a + 2 * h) - function(a - 2 * h))) / (12 * h)


@pytest.mark.parametrize("a", [0.05, 0.7, 1.0, 4.0, 60.0, 2000.0, 9_999.0, 10_001.0, 1e6])
def test_gamma(a):
    upper = QUANTILES > 0.5

    def quantile(a):
        return np.where(upper, sp.gammainccinv(a, 1 - QUANTILES), sp.gammaincinv(a, QUANTILES))

    sample = torch.from_numpy(quantile(a))
    found = gamma_grad(torch.full_like(sample, a), sample)
    np.testing.assert_allclose(found, slope(quantile, a), rtol=1e-6, atol=1e-300)


@pytest.mark.parametrize(
    ("a", "b"), [(0.5, 0.5), (1.0, 1.0), (2.0, 5.0), (5.0, 0.4), (100.0, 1.0), (1.0, 100.0), (900.0, 700.0)]
)
def test_beta(a, b):
    def quantile(a):
        return sp.betaincinv(a, b, QUANTILES)

    sample = torch.from_numpy(quantile(a))
    found = dirichlet_grad(sample, torch.full_like(sample, a), torch.full_like(sample, a + b))
    np.testing.assert_allclose(found * (1 - sample), slope(quantile, a), rtol=1e-5, atol=1e-11)


def test_extremes():
    concentration = torch.tensor([1.0, 1.0, 2.0, 0.01, 0.0, torch.nan])
    sample = torch.tensor([1e-38, 300.0, torch.inf, 50.0, 1.0, 1.0])
    found = gamma_grad(concentration, sample)
    assert found.dtype == torch.float32
    assert torch.isfinite(found[[0, 1, 3]]).all()
    torch.testing.assert_close(found[1], torch.tensor(sp.psi(1) * -1 + np.log(300) + 1 / 300).float())
    ends = torch.tensor([1.0, 1e-38], dtype=torch.float32)
    assert torch.isfinite(dirichlet_grad(ends, torch.ones(2), torch.full((2,), 3.0))).all()


DISTRIBUTIONS = {
    "gamma": lambda a: torch.distributions.Gamma(a, 2.0, validate_args=False),
    "beta": lambda a: torch.distributions.Beta(a, a + 1, validate_args=False),
    "Dirichlet": lambda a: torch.distributions.Dirichlet(a, validate_args=False),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_gradients_of_captured_draws_are_torchs(name):
    torch.manual_seed(0)
    a = torch.tensor([0.3, 1.0, 2.5, 40.0], dtype=torch.float64)
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)

    def function(a):
        with torch.enable_grad():
            leaf = a.detach().requires_grad_()
            sample = DISTRIBUTIONS[name](leaf).rsample()
            return sample.detach(), torch.autograd.grad((weights * sample).sum(), leaf)[0]

    key = random.key(5)
    sample, gradient = interpret(capture(function, a, key=key), a, key)
    if name == "gamma":
        expected = weights * torch._standard_gamma_grad(a, sample * 2.0) / 2.0
    elif name == "beta":
        both = torch.stack([sample, 1 - sample], -1)
        parameters = torch.stack([a, a + 1], -1)
        total = parameters.sum(-1, True).expand_as(parameters)
        outer = torch.stack([weights, torch.zeros(4, dtype=torch.float64)], -1)
        each = torch._dirichlet_grad(both, parameters, total)
        expected = (each * (outer - (both * outer).sum(-1, True))).sum(-1)
    else:
        each = torch._dirichlet_grad(sample, a, a.sum().expand(4))
        expected = each * (weights - (sample * weights).sum())
    torch.testing.assert_close(gradient, expected, rtol=2e-3, atol=1e-6)


def test_gradients_of_student_draws_average_to_the_derivative():
    # d/dν E[x²] of Student's t is -2 / (ν-2)².
    def function(degrees):
        with torch.enable_grad():
            leaf = degrees.detach().requires_grad_()
            each = leaf.expand(20_000)
            sample = torch.distributions.StudentT(each, validate_args=False)
            return torch.autograd.grad((sample.rsample() ** 2).mean(), leaf)[0]

    degrees, key = torch.tensor(9.0, dtype=torch.float64), random.key(6)
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        (found,) = interpret(capture(function, degrees, key=key), degrees, key)
    finally:
        torch.distributions.Distribution.set_default_validate_args(__debug__)
    assert float(found) == pytest.approx(-2 / 49, rel=0.1)
