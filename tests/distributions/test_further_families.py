"""Check families of unusual form: trees, coalescents, groups, rejection, angles, Pólya-gamma variables."""

import itertools

import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st
import torch

import ember.distributions as dist
from ember.compat.legacy import LKJCorrCholesky
from ember.distributions.spanning_tree import (
    NUM_SPANNING_TREES,
    find_best_tree,
    make_complete_graph,
    sample_tree,
)
from ember.distributions.toroidal import log_bessel

DOUBLE = torch.float64
close = torch.testing.assert_close


def vec(*values):
    return torch.tensor(values, dtype=DOUBLE)


def test_spanning_trees_against_enumeration():
    tree = dist.SpanningTree(vec(0.1, -0.7, 0.3, 1.4, 0.5, -0.6))
    every = tree.enumerate_support()
    assert len(every) == NUM_SPANNING_TREES[4] == 16
    log_prob = tree.log_prob(every)
    close(log_prob.logsumexp(0), vec(0.0)[0])
    draws = tree.sample((4000,))
    assert draws.shape == (4000, 3, 2)
    counts = (draws.unsqueeze(1) == every).all(-1).all(-1).double().mean(0)
    assert counts.sum() == 1.0
    assert ((counts - log_prob.exp()).abs() < 5 * (log_prob.exp() / 4000).sqrt()).all()
    means = torch.zeros(4, 4, dtype=DOUBLE)
    for each, p in zip(every.tolist(), log_prob.exp(), strict=True):
        for i, j in each:
            means[i, j] += p
            means[j, i] += p
    close(tree.edge_mean, means)
    best = find_best_tree(tree.edge_logits)
    close(tree.log_prob(best), log_prob.max())
    assert sample_tree(tree.edge_logits).shape == (3, 2)
    for n in range(2, 6):
        count = dist.SpanningTree(torch.zeros(n * (n - 1) // 2)).log_partition_function.exp()
        close(count, torch.tensor(float(NUM_SPANNING_TREES[n])))
    assert make_complete_graph(4).tolist() == [[0, 0, 1, 0, 1, 2], [1, 2, 2, 3, 3, 3]]
    assert torch.autograd.gradcheck(
        lambda logits: dist.SpanningTree(logits).log_prob(best),
        [vec(0.1, -0.7, 0.3, 1.4, 0.5, -0.6).requires_grad_()],
    )
    with pytest.raises(ValueError, match="cycle"):
        tree.log_prob(torch.tensor([[0, 1], [0, 1], [2, 3]]))
    with pytest.raises(ValueError, match="complete graph"):
        dist.SpanningTree(torch.zeros(4))


LEAVES = vec(2.0, 2.1, 3.3, 4.5)
JOINS = vec(0.5, 1.2, 1.9)


def test_coalescent_density():
    # Going back: 2 lineages from 3.3, 3 from 2.1, 4 from 2.0, then 3 from 1.9, 2 from 1.2, 1 from 0.5.
    waited = 1.2 * 1 + 0.1 * 3 + 0.1 * 6 + 0.7 * 3 + 0.7 * 1
    expected = np.log([6 * 1.7, 3 * 1.7, 1.7]).sum() - 1.7 * waited
    close(dist.CoalescentTimes(LEAVES, 1.7).log_prob(JOINS), vec(expected)[0])
    rates = vec(2.0, 3.0, 1.0, 0.5, 2.0)
    steps = dist.CoalescentRateLikelihood(LEAVES, JOINS, 5)(rates)
    close(steps, vec(np.log(2) - 1, np.log(9) + np.log(18) - 8.7, -1.2, -0.15, 0.0))
    grid = dist.CoalescentTimesWithRate(LEAVES, rates)
    close(grid.log_prob(JOINS), steps.sum())
    assert grid.duration == 5 and grid.expand((2,)).log_prob(JOINS).shape == (2,)
    close(
        dist.CoalescentTimesWithRate(LEAVES, rates * 0 + 1.7).log_prob(JOINS),
        dist.CoalescentTimes(LEAVES, 1.7).log_prob(JOINS),
    )
    part = dist.CoalescentRateLikelihood(LEAVES, JOINS, 5)(rates[1:3], slice(1, 3))
    close(part, steps[1:3])
    for wrong in (vec(0.5, 1.9, 1.2), vec(0.5, 1.2, 4.0)):
        with pytest.raises(ValueError, match="support"):
            dist.CoalescentTimes(LEAVES).log_prob(wrong)
    with pytest.raises(ValueError, match="N - 1"):
        dist.CoalescentRateLikelihood(LEAVES, JOINS[:2], 5)


def test_coalescent_draws():
    d = dist.CoalescentTimes(LEAVES.expand(2, 4), vec(0.7, 3.0))
    x = d.sample((20_000,))
    assert x.shape == (20_000, 2, 3) and d.support.check(x).all()
    # The time from the last leaf but one on, with three leaves at once, is a sum of exponential variables.
    y = dist.CoalescentTimes(torch.zeros(3, dtype=DOUBLE), 2.0).sample((20_000,))
    close(-y.mean(0), vec(1 / 6 + 1 / 2, 1 / 6), atol=0.02, rtol=0)
    # Draws follow the density: its score has mean zero.
    rate = vec(0.7, 3.0).requires_grad_()
    log_prob = dist.CoalescentTimes(LEAVES.expand(2, 4), rate).log_prob(x).mean(0)
    (score,) = torch.autograd.grad(log_prob.sum(), [rate])
    assert (score * rate.detach()).abs().max() < 0.05


def test_grouped_normals_against_the_joint_distribution():
    loc, scale = vec(0.3, -1.0, 0.2), vec(1.5, 0.4, 2.0)
    noise, group = vec(0.7, 0.5, 1.2, 0.3, 0.9), torch.tensor([0, 0, 1, 2, 2])
    value = vec(0.1, 2.0, -0.4, 1.5, 0.6)
    d = dist.GroupedNormalNormal(loc, scale, noise, group)
    design = torch.nn.functional.one_hot(group, 3).double()
    covariance = design @ torch.diag(scale**2) @ design.T + torch.diag(noise**2)
    joint = dist.MultivariateNormal(loc[group], covariance)
    close(d.log_prob(value), joint.log_prob(value))
    gain = torch.diag(scale**2) @ design.T @ torch.linalg.inv(covariance)
    posterior = d.get_posterior(value)
    close(posterior.loc, loc + gain @ (value - loc[group]))
    close(posterior.variance, (torch.diag(scale**2) - gain @ design @ torch.diag(scale**2)).diagonal())
    with pytest.raises(ValueError, match="fit together"):
        dist.GroupedNormalNormal(loc, scale, noise[:2], group)


def half_normal_below(bound, scale):
    """Draw a normal variable above a bound, by rejection from a shifted exponential one."""
    propose = dist.TransformedDistribution(
        dist.Exponential(1.0 / scale), [dist.transforms.AffineTransform(bound, 1.0)]
    )

    def log_prob_accept(x):
        return -0.5 * (x - 1.0 / scale).square()

    log_mass = torch.special.log_ndtr(-bound)
    log_scale = log_mass + (2 * torch.pi) ** 0.5 * 0 + 0.5 * np.log(2 * np.pi) - scale.log() + bound / scale
    return dist.Rejector(propose, log_prob_accept, log_scale - 0.5 / scale.square())


def test_rejector_has_the_accepted_law():
    bound, scale = vec(0.5)[0], vec(0.8)[0]
    d = half_normal_below(bound, scale)
    x = d.sample((20_000,))
    truncated = st.truncnorm(0.5, np.inf)
    close(d.log_prob(x[:5]), torch.as_tensor(truncated.logpdf(x[:5].numpy())))
    close(x.mean(), torch.as_tensor(truncated.mean()), atol=0.02, rtol=0.0)
    assert d.score_parts(x).score_function.shape == (20_000,)
    with pytest.raises(ValueError, match="batch_shape"):
        dist.Rejector(dist.Normal(0.0, 1.0), lambda x: x, 0.0, batch_shape=(3,))


def test_rejector_gradient_is_right():
    """The path and the score of acceptance together give the gradient of an expectation."""
    bound = vec(0.5)[0].requires_grad_()
    d = half_normal_below(bound, vec(0.8)[0])
    x = d.rsample((100_000,))
    parts = d.score_parts(x)
    surrogate = x.square() + x.detach().square() * parts.score_function
    (gradient,) = torch.autograd.grad(surrogate.mean(), [bound])
    step = 1e-5
    up, down = (st.truncnorm(0.5 + e, np.inf).moment(2) for e in (step, -step))
    assert abs(gradient.item() - (up - down) / (2 * step)) < 0.03


def test_truncated_polya_gamma():
    d = dist.TruncatedPolyaGamma(torch.ones(2, dtype=DOUBLE))
    assert d.batch_shape == (2,) and d.expand((3, 2)).sample().shape == (3, 2)
    x = torch.linspace(1e-4, 2.5, 20_001, dtype=DOUBLE).unsqueeze(-1).expand(-1, 2)
    density = d.log_prob(x).exp()
    close(torch.trapezoid(density, x, dim=0), torch.ones(2, dtype=DOUBLE), atol=1e-4, rtol=0)
    draws = d.sample((20_000,))
    close(draws.mean(0), torch.full((2,), 0.25, dtype=DOUBLE), atol=0.01, rtol=0)
    close(draws.var(0), torch.full((2,), 1 / 24, dtype=DOUBLE), atol=0.004, rtol=0)
    # The Laplace transform of PG(1, 0) is 1 / cosh(√(t / 2)).
    transform = torch.trapezoid(density * (-3.0 * x).exp(), x, dim=0)
    close(transform, torch.full((2,), 1 / np.cosh(1.5**0.5), dtype=DOUBLE), atol=1e-4, rtol=0)


def test_bessel_functions_against_scipy():
    x = vec(1e-3, 0.5, 3.0, 40.0, 300.0)
    expected = np.log(sp.ive(np.arange(30), x.numpy()[:, None])) + x.numpy()[:, None]
    actual = log_bessel(30, x)
    close(actual[:, :10], torch.as_tensor(expected)[:, :10], rtol=1e-9, atol=1e-9)
    close(actual[2:], torch.as_tensor(expected)[2:], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("skewed", [False, True])
def test_draws_on_the_torus_follow_the_density(skewed):
    d = dist.SineBivariateVonMises(
        vec(0.5)[0], vec(-1.0)[0], vec(2.0)[0], vec(3.0)[0], weighted_correlation=vec(0.8)[0]
    )
    close(d.correlation, vec(0.8 * 6**0.5)[0])
    if skewed:
        d = dist.SineSkewed(d, vec(-0.3, 0.6))
    n = 40_000
    x = d.sample((n,))
    edges = np.linspace(-np.pi, np.pi, 5)
    fine = 60
    for (a, b), (c, e) in itertools.product(itertools.pairwise(edges), itertools.pairwise(edges)):
        phi = torch.linspace(a, b, 2 * fine + 1, dtype=DOUBLE)[1::2]
        psi = torch.linspace(c, e, 2 * fine + 1, dtype=DOUBLE)[1::2]
        cells = torch.stack(torch.meshgrid(phi, psi, indexing="ij"), -1)
        share = d.log_prob(cells).exp().mean().item() * (b - a) * (e - c)
        inside = (x[:, 0] >= a) & (x[:, 0] < b) & (x[:, 1] >= c) & (x[:, 1] < e)
        assert abs(inside.double().mean().item() - share) < 5 * (share / n) ** 0.5 + 1e-3
    with pytest.raises(ValueError, match="one correlation"):
        dist.SineBivariateVonMises(*vec(0.5, -1.0, 2.0, 3.0))


def test_draws_on_the_sphere():
    for length in (0.0, 0.1, 5.0, 200.0):
        direction = vec(2.0, -1.0, 2.0) / 3.0
        d = dist.VonMises3D(length * direction)
        cosine = (d.sample((20_000,)) * direction).sum(-1)
        expected = 1 / np.tanh(length) - 1 / length if length else 0.0
        assert abs(cosine.mean().item() - expected) < 5 * cosine.std().item() / 20_000**0.5
    concentration = vec(1.0, 0.5, -2.0).requires_grad_()
    x = dist.VonMises3D(concentration).rsample((200_000,))
    (gradient,) = torch.autograd.grad(x.mean(0)[2], [concentration])
    step = 1e-4 * vec(0.0, 0.0, 1.0)

    def mean(c):
        k = c.norm()
        return (c / k * (1 / k.tanh() - 1 / k))[2]

    with torch.no_grad():
        close(
            gradient[2],
            (mean(concentration + step) - mean(concentration - step)) / 2e-4,
            atol=0.01,
            rtol=0.02,
        )


def test_transport_gradient_is_right_and_varies_less():
    loc, scale_tril = (
        torch.zeros(3, dtype=DOUBLE),
        torch.linalg.cholesky(
            torch.tensor([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 0.7]], dtype=DOUBLE)
        ),
    )
    gradients = {}
    for family in (dist.OMTMultivariateNormal, dist.MultivariateNormal):
        found = []
        for _ in range(1500):
            factor = scale_tril.clone().requires_grad_()
            x = family(loc, scale_tril=factor, validate_args=False).rsample()
            found.append(torch.autograd.grad(x.sum().cos(), [factor])[0].tril())
        gradients[family] = torch.stack(found)
    a, b = gradients.values()
    z = (a.mean(0) - b.mean(0)) / (a.var(0) / 1500 + b.var(0) / 1500).sqrt().clamp(min=1e-9)
    assert z.abs().max() < 4.5
    assert a.var(0).sum() < b.var(0).sum()


def _velocity_slopes(coefficients, draws=1500):
    torch.manual_seed(0)
    control = coefficients.clone().requires_grad_()
    found, learned = [], 0.0
    for _ in range(draws):
        factor = torch.tensor([[1.4, 0.0], [0.4, 0.9]], dtype=DOUBLE, requires_grad=True)
        x = dist.AVFMultivariateNormal(torch.zeros(2, dtype=DOUBLE), factor, control).rsample()
        slopes = torch.autograd.grad((x * torch.tensor([1.0, 2.0])).sum().cos(), [factor, control])
        found.append(slopes[0])
        learned = learned + slopes[1]
    return torch.stack(found), learned


def test_adaptive_velocity_gradient_is_right_and_its_variance_is_learned():
    zero = torch.zeros(2, 3, 2, dtype=DOUBLE)
    chosen = torch.full((2, 3, 2), 0.2, dtype=DOUBLE)
    (plain, _), (moved, learned) = _velocity_slopes(zero), _velocity_slopes(chosen)
    assert (moved - plain).abs().max() > 0.05  # another gradient,
    z = (moved.mean(0) - plain.mean(0)) / ((moved - plain).var(0) / 1500).sqrt().clamp(min=1e-9)
    assert z.abs().max() < 4.5  # of the same mean
    # What reaches the coefficients is half the slope of the squared gradient.
    step = torch.zeros_like(chosen)
    step[1, 2, 0] = 1e-4
    ends = [_velocity_slopes(chosen + sign * step)[0].square().sum() for sign in (1, -1)]
    torch.testing.assert_close(learned[1, 2, 0], (ends[0] - ends[1]) / 4e-4, rtol=1e-5, atol=1e-6)


def test_adaptive_velocity_fields_are_checked():
    d = dist.AVFMultivariateNormal(torch.zeros(2), torch.eye(2), torch.zeros(2, 1, 2))
    assert d.rsample((5,)).shape == (5, 2)
    torch.testing.assert_close(
        d.log_prob(torch.ones(2)), dist.Normal(0.0, 1.0).log_prob(torch.tensor(1.0)) * 2
    )
    with pytest.raises(ValueError, match=r"control_var(.|\n)*expected: shape \(2, L, 2\)"):
        dist.AVFMultivariateNormal(torch.zeros(2), torch.eye(2), torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="no batches"):
        dist.AVFMultivariateNormal(torch.zeros(3, 2), torch.eye(2), torch.zeros(2, 1, 2))


def test_older_name_of_the_lkj_prior():
    with pytest.warns(FutureWarning, match="LKJCholesky"):
        d = LKJCorrCholesky(3, torch.tensor(2.0))
    assert d.event_shape == (3, 3)


@pytest.mark.parametrize("family", [dist.OneOneMatching, dist.OneTwoMatching])
def test_matchings_against_enumeration(family):
    sources, destinations = (4, 4) if family is dist.OneOneMatching else (6, 3)
    logits = torch.randn(sources, destinations, dtype=DOUBLE)
    d = family(logits)
    every = d.enumerate_support()
    assert len(every) == (24 if family is dist.OneOneMatching else 90)
    assert d.support.check(every).all() and not d.support.check(every * 0).any()
    log_prob = d.log_prob(every)
    close(log_prob.logsumexp(0), vec(0.0)[0])
    draws = d.sample((1500,))
    shares = (draws.unsqueeze(1) == every).all(-1).double().mean(0)
    close(shares.sum(), vec(1.0)[0])
    assert ((shares - log_prob.exp()).abs() < 5 * (log_prob.exp() / 1500).sqrt() + 2e-3).all()
    assert torch.autograd.gradcheck(lambda z: family(z).log_prob(every[5]), [logits.clone().requires_grad_()])
    # Belief propagation is close to the sum.
    bethe = family(logits, bp_iters=50).log_partition_function
    assert (bethe - d.log_partition_function).abs() < 1.5
    sharp = 30.0 * torch.nn.functional.one_hot(every[7], destinations).double()
    close(family(sharp, bp_iters=20).log_partition_function, vec(30.0 * sources)[0])
    with pytest.raises(ValueError, match="one logit"):
        family(torch.zeros(3, 5))
    with pytest.raises(NotImplementedError, match="bp_iters"):
        family(torch.zeros(sources * 10, destinations * 10)).sample()
    with pytest.raises(ValueError, match="support"):
        d.log_prob(every[0] * 0)
