"""Check log probabilities, draws and gradients where naive formulas lose their digits."""

# ruff: noqa: E501  (one example a line reads as a table)

import math

import numpy as np
import pytest
import scipy.stats as st
import torch

import ember.distributions as dist

D = torch.float64


def t(*values):
    return torch.tensor(values, dtype=D)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (3.0, 4.0), (30.0, 31.0), (-40.0, -35.0), (8.0, math.inf),
                                           (-math.inf, -20.0), (-math.inf, math.inf), (1e-3, 2e-3)])  # fmt: skip
def test_truncated_normal_in_the_tails(low, high):
    """Compare with a numerical integral of the scaled density, which neither side of SciPy is needed for."""
    d = dist.TruncatedNormal(t(0.0), t(1.0), low, high)
    a, b = max(low, -38.5), min(high, 38.5 if low < 30 else high)
    b = min(b, a + 12.0) if low > 0 else b
    a = max(a, b - 12.0) if high < 0 else a
    grid = np.linspace(a, b, 2_000_001)
    peak = min(max(0.0, a), b)
    weight = np.exp(-0.5 * (grid**2 - peak**2))
    mass = np.trapezoid(weight, grid)
    x = np.linspace(a, min(a + 1.0, b), 5)[1:-1] if high > 0 else np.linspace(max(b - 1.0, a), b, 5)[1:-1]
    expected = -0.5 * (x**2 - peak**2) - np.log(mass)
    torch.testing.assert_close(
        d.log_prob(torch.as_tensor(x)), torch.as_tensor(expected), rtol=1e-6, atol=1e-6
    )
    mean = np.trapezoid(weight * grid, grid) / mass
    variance = np.trapezoid(weight * (grid - mean) ** 2, grid) / mass
    torch.testing.assert_close(d.mean, t(mean), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(d.variance, t(variance), rtol=1e-4, atol=1e-8)
    torch.manual_seed(0)
    draws = d.sample((20_000,))
    assert torch.isfinite(draws).all() and (draws >= low).all() and (draws <= high).all()
    assert abs(draws.mean().item() - mean) < 5 * math.sqrt(variance / 20_000)


def test_truncated_normal_quantiles_invert_probabilities():
    d = dist.TruncatedNormal(t(0.3), t(1.7), t(-2.0, 5.0, -math.inf, 12.0), t(1.0, 9.0, 4.0, math.inf))
    u = torch.linspace(0.001, 0.999, 41, dtype=D).unsqueeze(-1)
    torch.testing.assert_close(d.cdf(d.icdf(u)), u.expand(41, 4), rtol=1e-8, atol=1e-10)
    expected = st.truncnorm.ppf(u.numpy(), (-2 - 0.3) / 1.7, (1 - 0.3) / 1.7, 0.3, 1.7)
    torch.testing.assert_close(d.icdf(u)[:, :1], torch.as_tensor(expected))


@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (10.0, 12.0), (-30.0, -29.0)])
def test_truncated_normal_quantile_gradients(bounds):
    u = torch.linspace(0.05, 0.95, 7, dtype=D)
    parameters = [t(0.2).requires_grad_(), t(1.3).requires_grad_(), t(bounds[0]).requires_grad_(), t(bounds[1]).requires_grad_()]  # fmt: skip

    def quantile(loc, scale, low, high):
        return dist.TruncatedNormal(loc, scale, low, high, validate_args=False).icdf(u)

    assert torch.autograd.gradcheck(quantile, parameters, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, math.inf), (-math.inf, 0.0), (-math.inf, math.inf), (5.0, 6.0)]
)
def test_truncated_normal_gradients_are_finite(dtype, low, high):
    loc = torch.zeros(3, dtype=dtype, requires_grad=True)
    scale = torch.ones(3, dtype=dtype, requires_grad=True)
    d = dist.TruncatedNormal(loc, scale, low, high)
    x = d.rsample()
    assert d.support.check(x).all()
    gradients = torch.autograd.grad(d.log_prob(x.detach()).sum() + x.sum(), [loc, scale])
    assert all(torch.isfinite(g).all() for g in gradients)


def test_bernoulli_far_out():
    logits = t(-800.0, -40.0, 40.0, 800.0).requires_grad_()
    for value in (0.0, 1.0):
        log_prob = dist.Bernoulli(logits=logits).log_prob(torch.full((4,), value, dtype=D))
        assert torch.isfinite(log_prob).all()
        (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
        torch.testing.assert_close(gradient, value - torch.sigmoid(logits.detach()))
    certain = dist.Bernoulli(t(0.0, 1.0))
    assert (certain.log_prob(t(0.0, 1.0)).abs() < 1e-12).all()
    assert torch.isfinite(certain.log_prob(t(1.0, 0.0))).all()


def test_binomial_far_out():
    d = dist.Binomial(10, logits=t(-500.0, 500.0))
    torch.testing.assert_close(d.log_prob(t(0.0, 10.0)), t(0.0, 0.0))
    assert torch.isfinite(d.log_prob(t(10.0, 0.0))).all()


def test_gamma_and_beta_at_their_bounds():
    assert dist.Gamma(t(1.0), t(2.0)).log_prob(t(0.0)) == math.log(2.0)
    assert dist.Gamma(t(2.0), t(2.0)).log_prob(t(0.0)) == -math.inf
    assert dist.Exponential(t(2.0)).log_prob(t(0.0)) == math.log(2.0)
    assert (dist.Beta(t(1.0), t(1.0)).log_prob(t(0.0, 1.0)).abs() < 1e-12).all()
    assert dist.Poisson(t(0.0)).log_prob(t(0.0)) == 0.0
    assert dist.Uniform(t(1.0), t(3.0)).log_prob(t(3.0)) == -math.log(2.0)


def test_beta_near_one():
    x = t(1.0 - 1e-12)
    torch.testing.assert_close(
        dist.Beta(t(2.0), t(3.0)).log_prob(x), t(st.beta.logpdf(x.item(), 2, 3)), rtol=1e-12, atol=0
    )


def test_ordered_logistic_far_from_its_cutpoints():
    d = dist.OrderedLogistic(t(60.0), t(-1.0, 1.0))
    expected = t(-61.0, -59.0 + math.log1p(-math.exp(-2.0)), 0.0)
    torch.testing.assert_close(d.logits[0], expected, rtol=1e-12, atol=1e-12)


def test_von_mises_with_large_concentration():
    x = t(0.001)
    actual = dist.VonMises(t(0.0), t(1e6)).log_prob(x)
    torch.testing.assert_close(actual, dist.Normal(t(0.0), t(1e-3)).log_prob(x), rtol=1e-5, atol=1e-5)


def test_gamma_poisson_for_large_rates():
    torch.testing.assert_close(
        dist.GammaPoisson(t(1e9), t(1e9 / 3)).log_prob(t(2.0)),
        t(st.poisson.logpmf(2, 3)),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cauchy_tails_do_not_overflow(dtype):
    x = torch.tensor([0.0, 1e-5, 1.0, 1e25], dtype=dtype, requires_grad=True)
    for d, reference in [(dist.Cauchy(0.0, 1.0), st.cauchy), (dist.HalfCauchy(1.0), st.halfcauchy)]:
        log_prob = d.log_prob(x)
        expected = torch.as_tensor(reference.logpdf(x.detach().double().numpy())).to(dtype)
        torch.testing.assert_close(log_prob, expected)
        (gradient,) = torch.autograd.grad(log_prob.sum(), x)
        inner = x.detach()[:3]
        torch.testing.assert_close(gradient[:3], -2 * inner / (1 + inner**2))
        assert torch.isfinite(gradient).all()


def test_nan_masked():
    d = dist.NanMaskedNormal(t(0.0).requires_grad_(), 1.0)
    log_prob = d.log_prob(t(math.nan, 1.0))
    assert log_prob[0] == 0.0
    log_prob.sum().backward()
    covariance = torch.tensor([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 0.7]], dtype=D)
    joint = dist.NanMaskedMultivariateNormal(t(0.1, 0.2, 0.3), covariance)
    value = torch.tensor([[0.5, math.nan, 1.0], [math.nan] * 3, [0.1, 0.2, 0.5]], dtype=D)
    keep = torch.tensor([0, 2])
    part = dist.MultivariateNormal(t(0.1, 0.3), covariance[keep][:, keep])
    full = dist.MultivariateNormal(t(0.1, 0.2, 0.3), covariance)
    expected = torch.stack([part.log_prob(value[0, keep]), t(0.0)[0], full.log_prob(value[2])])
    torch.testing.assert_close(joint.log_prob(value), expected)


def test_multivariate_normal_over_broadcast_batches():
    torch.manual_seed(0)
    factor = torch.randn(2, 1, 3, 3, dtype=D).tril(-1) + torch.eye(3, dtype=D)
    loc = torch.randn(4, 3, dtype=D)
    ours = dist.MultivariateNormal(loc, scale_tril=factor)
    theirs = torch.distributions.MultivariateNormal(loc, scale_tril=factor)
    assert ours.batch_shape == (2, 4)
    for shape in [(3,), (4, 3), (2, 1, 3), (5, 2, 4, 3), (6, 5, 1, 4, 3), (7, 1, 1, 3)]:
        x = torch.randn(shape, dtype=D)
        torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.expand((5, 2, 4)).log_prob(loc), theirs.log_prob(loc).expand(5, 2, 4))


def test_lkj_entries_have_beta_marginals():
    """An off-diagonal entry r has (r + 1)/2 beta distributed with both parameters η - 1 + n/2."""
    torch.manual_seed(0)
    eta, n = 1.5, 5
    draws = dist.LKJ(n, eta).sample((4000,))
    for i, j in [(1, 0), (3, 1), (4, 3), (4, 0)]:
        p = st.kstest((draws[:, i, j].numpy() + 1) / 2, st.beta(eta - 1 + n / 2, eta - 1 + n / 2).cdf).pvalue
        assert p > 1e-4


@pytest.mark.parametrize("arguments", [(0.0, 1.0), (torch.tensor(0.0), 1), (0, torch.tensor(1.0, dtype=D)),
                                       (torch.zeros(3, dtype=D), 1.0), (1.0, torch.ones(2, 1))])  # fmt: skip
def test_numbers_follow_torch(arguments):
    ours, theirs = dist.Normal(*arguments), torch.distributions.Normal(*arguments)
    assert ours.batch_shape == theirs.batch_shape
    for name in ("loc", "scale"):
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))


def test_default_dtype_is_followed():
    former = torch.get_default_dtype()
    torch.set_default_dtype(D)
    try:
        assert dist.Normal(0.0, 1.0)().dtype == D
        assert dist.Delta(1.0)().dtype == D
    finally:
        torch.set_default_dtype(former)


def test_draws_agree_with_torch_for_equal_seeds():
    for ours, theirs in [(dist.Normal(t(0.0, 1.0), 2.0), torch.distributions.Normal(t(0.0, 1.0), 2.0)),
                         (dist.Bernoulli(t(0.3, 0.6)), torch.distributions.Bernoulli(t(0.3, 0.6))),
                         (dist.Categorical(t(0.3, 0.6)), torch.distributions.Categorical(t(0.3, 0.6))),
                         (dist.Gamma(t(0.3, 0.6), 1.0), torch.distributions.Gamma(t(0.3, 0.6), 1.0))]:  # fmt: skip
        for shape in [(), (4,)]:
            torch.manual_seed(5)
            x = ours.sample(shape)
            torch.manual_seed(5)
            torch.testing.assert_close(x, theirs.sample(shape))
