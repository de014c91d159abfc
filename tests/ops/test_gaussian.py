"""Check the algebra of Gaussian densities against dense matrices, distributions, and sums of logarithms."""

import pytest
import torch

import ember.distributions as dist
from ember.ops.gamma_gaussian import (
    gamma_and_mvn_to_gamma_gaussian,
    gamma_gaussian_tensordot,
    matrix_and_mvn_to_gamma_gaussian,
    scale_mvn,
)
from ember.ops.gaussian import (
    AffineNormal,
    Gaussian,
    gaussian_tensordot,
    matrix_and_mvn_to_gaussian,
    mvn_to_gaussian,
    sequential_gaussian_filter_sample,
    sequential_gaussian_tensordot,
)

DOUBLE = torch.float64
close = torch.testing.assert_close


def randn(*shape):
    return torch.randn(shape, dtype=DOUBLE)


def covariance(size, *batch):
    root = randn(*batch, size, size)
    return root @ root.mT + torch.eye(size, dtype=DOUBLE)


def some_gaussian(size, *batch):
    return Gaussian(randn(*batch), randn(*batch, size), covariance(size, *batch))


def some_mvn(size, *batch):
    return dist.MultivariateNormal(randn(*batch, size), covariance(size, *batch))


def same(a, b):
    for x, y in zip(a.tensors(), b.tensors(), strict=True):
        close(x.expand(y.shape), y)


def test_density_is_that_of_the_formula():
    g, x = some_gaussian(3, 2), randn(5, 2, 3)
    quadratic = torch.einsum("...i,...ij,...j->...", x, g.precision, x)
    close(g.log_density(x), g.log_normalizer + (g.info_vec * x).sum(-1) - 0.5 * quadratic)
    with pytest.raises(ValueError, match="3 variables"):
        g.log_density(randn(4))
    with pytest.raises(ValueError, match="square matrix"):
        Gaussian(randn(), randn(2), randn(3, 3))


def test_conditioning_is_slicing():
    g, x = some_gaussian(5, 2), randn(2, 5)
    close(g.condition(x[:, 3:]).log_density(x[:, :3]), g.log_density(x))
    close(g.left_condition(x[:, :3]).log_density(x[:, 3:]), g.log_density(x))


def test_marginals_are_those_of_the_normal_distribution():
    mvn = some_mvn(5, 2)
    g, x = mvn_to_gaussian(mvn), randn(2, 3)
    close(g.log_density(randn(2, 5) * 0), mvn.log_prob(torch.zeros(2, 5, dtype=DOUBLE)))
    close(g.event_logsumexp(), torch.zeros(2, dtype=DOUBLE))
    inner = dist.MultivariateNormal(mvn.loc[:, 1:4], mvn.covariance_matrix[:, 1:4, 1:4])
    close(g.marginalize(left=1, right=1).log_density(x), inner.log_prob(x))


def test_sums_pads_and_permutations():
    a, b, x = some_gaussian(2, 3), some_gaussian(3, 3), randn(3, 3)
    total = a.event_pad(right=1) + b
    close(total.log_density(x), a.log_density(x[:, :2]) + b.log_density(x))
    close((b + 2.0 - randn(3) * 0).log_density(x), b.log_density(x) + 2.0)
    perm = torch.tensor([2, 0, 1])
    close(b.event_permute(perm).log_density(x[:, perm]), b.log_density(x))


def test_batch_operations():
    g = some_gaussian(2, 4, 3)
    same(Gaussian.cat([g[:1], g[1:]]), g)
    same(Gaussian.cat([g[..., :1], g[..., 1:]], -1), g)
    assert g.reshape((12,)).batch_shape == (12,)
    assert g[0].batch_shape == (3,)
    assert g.expand((2, 4, 3)).batch_shape == (2, 4, 3)
    lean = Gaussian(randn(3), randn(2), covariance(2))
    assert lean.batch_shape == (3,) and lean[1].batch_shape == ()


def test_draws_have_the_mean_and_covariance():
    g = some_gaussian(3, 2)
    x = g.rsample((40_000,))
    expected = torch.linalg.inv(g.precision)
    close(x.mean(0), (expected @ g.info_vec.unsqueeze(-1)).squeeze(-1), atol=0.03, rtol=0.03)
    for i in range(2):
        close(torch.cov(x[:, i].T), expected[i], atol=0.03, rtol=0.03)


@pytest.mark.parametrize("diagonal", [False, True])
def test_matrix_and_noise(diagonal):
    matrix, xy = randn(2, 3), randn(4, 5)
    noise = dist.Normal(randn(3), torch.rand(3, dtype=DOUBLE) + 0.3).to_event(1) if diagonal else some_mvn(3)
    g = matrix_and_mvn_to_gaussian(matrix, noise)
    assert isinstance(g, AffineNormal) == diagonal
    expected = noise.log_prob(xy[:, 2:] - xy[:, :2] @ matrix)
    close(g.condition(xy[:, 2:]).log_density(xy[:, :2]), expected)
    full = g.to_gaussian() if diagonal else g
    close(full.log_density(xy), expected)
    close((g + full).log_density(xy), 2 * expected)
    y = g.left_condition(xy[0, :2]).rsample((20_000,))
    close(y.mean(0), xy[0, :2] @ matrix + noise.mean, atol=0.1, rtol=0.05)
    close(y.var(0), noise.variance, atol=0.05, rtol=0.05)
    flat = g.marginalize(right=3)
    close(flat.log_density(xy[:, :2]), torch.zeros(4, dtype=DOUBLE))
    with pytest.raises(ValueError, match="columns"):
        matrix_and_mvn_to_gaussian(randn(3, 2), noise)


def test_affine_normal_refuses_draws_without_x():
    g = AffineNormal(randn(2, 3), randn(3), torch.ones(3, dtype=DOUBLE))
    with pytest.raises(ValueError, match="left_condition"):
        g.rsample()
    x, y = randn(2), randn(3)
    close(g.left_condition(x[:1]).condition(y).log_density(x[1:]), g.condition(y).log_density(x))
    close(g.condition(y[1:]).log_density(torch.cat([x, y[:1]])), g.condition(y).log_density(x))


def test_other_noise_is_refused():
    with pytest.raises(ValueError, match="LinearHMM"):
        mvn_to_gaussian(dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1))


@pytest.mark.parametrize("dims", [0, 1, 2])
def test_tensordot_is_product_and_integral(dims):
    x, y = some_gaussian(3, 2), some_gaussian(4, 2)
    joint = x.event_pad(right=4 - dims) + y.event_pad(left=3 - dims)
    order = torch.tensor([*range(3 - dims), *range(3, 7 - dims), *range(3 - dims, 3)])
    same(gaussian_tensordot(x, y, dims), joint.event_permute(order).marginalize(right=dims))


def dense_chain(init, trans):
    """Return the joint density of all states of a chain."""
    size, length = init.dim(), trans.batch_shape[-1]
    joint = init.event_pad(right=size * length)
    for t in range(length):
        joint = joint + trans[..., t].event_pad(left=size * t, right=size * (length - 1 - t))
    return joint


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 13])
def test_chain_is_integrated_as_one_by_one(length):
    trans = some_gaussian(4, 3, length)
    expected = trans[:, 0]
    for t in range(1, length):
        expected = gaussian_tensordot(expected, trans[:, t], 2)
    same(sequential_gaussian_tensordot(trans), expected)


@pytest.mark.parametrize("length", [1, 6, 7])
def test_chain_with_shared_precision(length):
    full = some_gaussian(4, 3, length)
    trans = Gaussian(full.log_normalizer, full.info_vec, full.precision[0, 0])
    wide = Gaussian(*(t.clone() for t in trans.expand((3, length)).tensors()))
    same(sequential_gaussian_tensordot(trans), sequential_gaussian_tensordot(wide))
    per_chain = Gaussian(full.log_normalizer, full.info_vec, full.precision[:, :1])
    wide = Gaussian(*(t.clone() for t in per_chain.expand((3, length)).tensors()))
    same(sequential_gaussian_tensordot(per_chain), sequential_gaussian_tensordot(wide))


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_draws_of_a_chain_by_their_noise(length):
    """Draws are linear in the noise: the columns of the map give mean and covariance exactly."""
    init, trans = some_gaussian(2, 3), some_gaussian(4, 3, length)
    joint = dense_chain(init, trans)
    size = 2 * (length + 1)
    units = torch.eye(size, dtype=DOUBLE).reshape(size, 1, length + 1, 2).expand(size, 3, length + 1, 2)
    noise = torch.cat([torch.zeros_like(units[:1]), units])
    states = sequential_gaussian_filter_sample(init, trans, (size + 1,), noise=noise)
    assert states.shape == (size + 1, 3, length + 1, 2)
    flat = states.flatten(-2)
    root = (flat[1:] - flat[0]).movedim(0, -1)
    expected = torch.linalg.inv(joint.precision)
    close(root @ root.mT, expected)
    close(flat[0], (expected @ joint.info_vec.unsqueeze(-1)).squeeze(-1))


def test_chain_of_wrong_shape_is_refused():
    for wrong in (some_gaussian(3, 4), some_gaussian(4)):
        with pytest.raises(ValueError, match="pairs of states"):
            sequential_gaussian_tensordot(wrong)


def test_gamma_gaussian_densities():
    gamma = dist.Gamma(torch.tensor([2.0, 3.0], dtype=DOUBLE), 1.5)
    s, mvn, matrix, xy = torch.tensor([0.7, 1.8], dtype=DOUBLE), some_mvn(3), randn(2, 3), randn(2, 5)
    joint = gamma_and_mvn_to_gamma_gaussian(gamma, mvn)
    x = xy[:, 2:]
    close(joint.log_density(x, s), gamma.log_prob(s) + scale_mvn(mvn, s).log_prob(x))
    close(joint.event_logsumexp().log_density(s), gamma.log_prob(s))
    close(joint.event_logsumexp().logsumexp(), torch.zeros(2, dtype=DOUBLE))
    step = matrix_and_mvn_to_gamma_gaussian(matrix, mvn)
    expected = scale_mvn(mvn, s).log_prob(x - xy[:, :2] @ matrix)
    close(step.log_density(xy, s), expected)
    close(step.condition(x).log_density(xy[:, :2], s), expected)
    close(step.event_permute(torch.arange(4, -1, -1)).log_density(xy.flip(-1), s), expected)
    close(scale_mvn(mvn, s).precision_matrix, mvn.precision_matrix * s[:, None, None])


def test_gamma_gaussian_integrals_are_those_at_each_precision():
    gamma, s = dist.Gamma(torch.tensor(2.0, dtype=DOUBLE), 1.5), torch.tensor(0.7, dtype=DOUBLE)
    joint = gamma_and_mvn_to_gamma_gaussian(gamma, some_mvn(3))
    step = matrix_and_mvn_to_gamma_gaussian(randn(3, 2), some_mvn(2))
    merged = gamma_gaussian_tensordot(joint, step, 3)
    same(merged.at(s), gaussian_tensordot(joint.at(s), step.at(s), 3))
    apart = gamma_gaussian_tensordot(joint, step)
    same(apart.at(s), gaussian_tensordot(joint.at(s), step.at(s)))
    same(joint.marginalize(left=1, right=1).at(s), joint.at(s).marginalize(left=1, right=1))
    assert merged.marginalize(left=2).logsumexp().abs() < 1e-12


def test_compound_is_the_integral_over_the_precision():
    gamma = dist.Gamma(torch.tensor(2.0, dtype=DOUBLE), 1.5)
    joint, x = gamma_and_mvn_to_gamma_gaussian(gamma, some_mvn(2)), randn(2)
    s = torch.linspace(1e-9, 40.0, 200_001, dtype=DOUBLE)
    density = torch.trapezoid(joint.log_density(x, s).exp(), s)
    close(joint.compound().log_prob(x), density.log(), atol=1e-6, rtol=1e-6)
