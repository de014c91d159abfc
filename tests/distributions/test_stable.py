"""Check stable laws: densities against SciPy's integrals, draws against densities, smoothness around 1."""

import numpy as np
import pytest
import scipy.stats as st
import torch

import ember.distributions as dist

DOUBLE = torch.float64
close = torch.testing.assert_close
POINTS = torch.tensor([-20.0, -3.0, -1.0, -0.3, 0.0, 0.2, 2.5, 10.0, 100.0], dtype=DOUBLE)
LAWS = [(1.9, 0.5), (1.5, 0.0), (1.5, 0.9), (1.1, 0.7), (1.01, 0.3), (0.9, -0.4), (0.5, 0.0), (0.3, 0.3)]
EXTREME = [(1.5, 1.0), (1.2, -1.0), (0.7, 1.0), (0.5, -1.0)]


def stable(*parameters, **options):
    return dist.StableWithLogProb(*(torch.tensor(p, dtype=DOUBLE) for p in parameters), **options)


@pytest.fixture
def scipy_law(monkeypatch):
    monkeypatch.setattr(st.levy_stable, "parameterization", "S0")
    return st.levy_stable


@pytest.mark.parametrize(("stability", "skew"), LAWS)
def test_density_against_scipy(stability, skew, scipy_law):
    law = stable(stability, skew, 1.3, 0.4)
    expected = scipy_law.logpdf(POINTS.numpy(), stability, skew, loc=0.4, scale=1.3)
    close(law.log_prob(POINTS), torch.as_tensor(expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("stability", "skew"), EXTREME)
def test_density_of_extreme_skew_against_scipy(stability, skew, scipy_law):
    law = stable(stability, skew)
    with np.errstate(all="ignore"):
        expected = torch.as_tensor(scipy_law.logpdf(POINTS.numpy(), stability, skew))
    actual = law.log_prob(POINTS)
    assert not actual.isnan().any()
    usual = expected > -20
    close(actual[usual], expected[usual], atol=1e-5, rtol=1e-5)
    assert (actual[~usual] < -20).all()


def test_density_where_it_has_a_formula():
    normal = dist.Normal(torch.zeros((), dtype=DOUBLE), 2.0**0.5)
    close(stable(2.0, 0.0).log_prob(POINTS), normal.log_prob(POINTS), atol=1e-8, rtol=1e-6)
    close(stable(1.0, 0.0).log_prob(POINTS), dist.Cauchy(0.0, 1.0).log_prob(POINTS), atol=1e-4, rtol=1e-5)
    # Lévy's law, which begins at 0 in the coordinates S.
    x = torch.tensor([0.05, 0.3, 1.0, 5.0, 100.0], dtype=DOUBLE)
    expected = torch.as_tensor(st.levy.logpdf(x.numpy()))
    close(stable(0.5, 1.0, coords="S").log_prob(x), expected, atol=1e-6, rtol=1e-6)
    assert stable(0.5, 1.0, coords="S").log_prob(-x).max() < -1e4


def test_density_and_draws_are_smooth_around_stability_one():
    angle = torch.linspace(-1.5, 1.5, 7, dtype=DOUBLE)
    exponential = torch.linspace(0.1, 3.0, 7, dtype=DOUBLE)
    for skew in (0.0, 0.6, -1.0):
        laws = [stable(1.0 + e, skew) for e in (-1e-5, 0.0, 1e-5)]
        for each in (lambda law: law.log_prob(POINTS), lambda law: law.transform(angle, exponential)):
            below, at, above = (each(law) for law in laws)
            usual = at > -50
            close(at[usual], 0.5 * (below + above)[usual], atol=2e-4, rtol=1e-5)
            assert (below[~usual] < -50).all() and (above[~usual] < -50).all()


@pytest.mark.parametrize(("stability", "skew"), [*LAWS[:7:2], *EXTREME, (2.0, 0.0), (1.0, 0.5)])
def test_draws_follow_the_density(stability, skew):
    law, n = stable(stability, skew, 0.8, 0.1), 40_000
    x = law.sample((n,))
    for low, high in [(-4.0, -1.0), (-1.0, 0.0), (0.0, 0.7), (0.7, 5.0)]:
        grid = torch.linspace(low, high, 4001, dtype=DOUBLE)
        share = torch.trapezoid(law.log_prob(grid).exp(), grid).item()
        actual = ((x >= low) & (x < high)).double().mean().item()
        assert abs(actual - share) < 5 * (share / n) ** 0.5 + 1e-3


def test_gradient_of_density_and_draws():
    parameters = [torch.tensor(v, dtype=DOUBLE, requires_grad=True) for v in (1.3, 0.4, 1.2, 0.3)]
    x = torch.tensor([-2.0, 0.1, 3.0], dtype=DOUBLE)
    angle, exponential = (
        torch.tensor([-0.9, 0.2, 1.1], dtype=DOUBLE),
        torch.tensor([0.3, 1.0, 2.0], dtype=DOUBLE),
    )

    def density(*p):
        return dist.StableWithLogProb(*p, validate_args=False).log_prob(x)

    def draw(*p):
        return dist.Stable(*p, validate_args=False).transform(angle, exponential)

    for stability in (1.3, 0.8):
        parameters[0] = torch.tensor(stability, dtype=DOUBLE, requires_grad=True)
        assert torch.autograd.gradcheck(density, parameters)
        assert torch.autograd.gradcheck(draw, parameters)
    parameters[0] = torch.tensor(1.0, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(draw, parameters)


def test_coordinates_and_moments():
    tangent = torch.tan(torch.tensor(0.75 * torch.pi, dtype=DOUBLE))
    first, second = stable(1.5, 0.3, 2.0, 1.0), stable(1.5, 0.3, 2.0, 1.0 - 0.6 * tangent.item(), coords="S")
    close(first.log_prob(POINTS), second.log_prob(POINTS))
    close(first.mean, 1.0 - 0.6 * tangent)
    close(second.mean, first.mean)
    assert stable(0.9, 0.3).mean.isnan() and stable(1.5, 0.0).variance.isinf()
    close(stable(2.0, 0.0, 1.5).variance, torch.tensor(4.5, dtype=DOUBLE))
    assert stable(1.0, 0.4, coords="S").shift() == 0
    with pytest.raises(NotImplementedError, match="StableReparam"):
        dist.Stable(1.5, 0.0).log_prob(torch.tensor(0.0))
    with pytest.raises(ValueError, match="coords"):
        dist.Stable(1.5, 0.0, coords="S2")
