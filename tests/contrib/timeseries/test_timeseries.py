"""Check series in state space against dense Gaussian processes and joint covariances."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember.contrib import timeseries
from ember.contrib.gp import kernels

F64 = torch.float64
KERNELS = {0.5: kernels.Exponential, 1.5: kernels.Matern32, 2.5: kernels.Matern52}


@pytest.fixture(autouse=True)
def double_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(before)


def conditioned(covariance, values):
    """Return log density of the first values, and mean and covariance of the others given them."""
    n = len(values)
    known, cross = covariance[:n, :n], covariance[n:, :n]
    log_prob = dist.MultivariateNormal(torch.zeros(n), known).log_prob(values)
    gain = cross @ known.inverse()
    return log_prob, gain @ values, covariance[n:, n:] - gain @ cross.T


@pytest.mark.parametrize("nu", KERNELS)
def test_independent_processes_are_dense_ones(nu):
    scales = torch.tensor([[1.0, 2.0], [0.5, 1.5], [0.3, 0.4]])
    model = timeseries.IndependentMaternGP(nu, 0.7, 2, *scales)
    series, ahead = torch.randn(9, 2), torch.tensor([0.4, 1.0, 3.0])
    times = torch.cat([0.7 * torch.arange(9.0), 0.7 * 8 + ahead])
    log_probs, predicted = model.log_prob(series), model.forecast(series, ahead)
    for i in range(2):
        ember.clear_param_store()
        kernel = KERNELS[nu](1, scales[1, i].square(), scales[0, i])
        covariance = kernel(times).detach() + scales[2, i].square() * torch.eye(12)
        log_prob, mean, spread = conditioned(covariance, series[:, i])
        torch.testing.assert_close(log_probs[i], log_prob)
        torch.testing.assert_close(predicted.mean[:, i], mean)
        torch.testing.assert_close(predicted.variance[:, i], spread.diagonal())


@pytest.mark.parametrize("nu", KERNELS)
def test_mixed_processes_are_dense_ones(nu):
    model = timeseries.LinearlyCoupledMaternGP(
        nu, 0.7, 2, 3, torch.tensor([1.0, 2.0, 0.5]), obs_noise_scale_init=torch.tensor([0.3, 0.4])
    )
    series = torch.randn(6, 2)
    times = torch.cat([0.7 * torch.arange(6.0), torch.tensor([0.7 * 5 + 1.5])])
    covariance = torch.block_diag(*[torch.diag(torch.tensor([0.3, 0.4]).square())] * 7)
    for length, mix in zip((1.0, 2.0, 0.5), model.A.detach(), strict=True):
        ember.clear_param_store()
        kernel = KERNELS[nu](1, lengthscale=torch.tensor(length))
        covariance = covariance + torch.kron(kernel(times).detach(), torch.outer(mix, mix))
    log_prob, mean, spread = conditioned(covariance, series.flatten())
    torch.testing.assert_close(model.log_prob(series), log_prob)
    predicted = model.forecast(series, 1.5)
    torch.testing.assert_close(predicted.mean[0], mean)
    torch.testing.assert_close(predicted.covariance_matrix[0], spread)


def test_dependent_processes_are_stationary_solutions_of_their_equations():
    model = timeseries.DependentMaternGP(1.5, 0.7, 2, length_scale_init=torch.tensor([1.3, 0.6]))
    model.wiener_noise_tril = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    rates = 3**0.5 / torch.tensor([1.3, 0.6])
    feedback = torch.block_diag(*[torch.tensor([[0.0, 1.0], [-r * r, -2 * r]]) for r in rates])
    wiener = torch.zeros(4, 4)
    wiener[1::2, 1::2] = model.wiener_noise_tril.detach() @ model.wiener_noise_tril.detach().T
    P = model._start_covariance().detach()
    torch.testing.assert_close(feedback @ P + P @ feedback.T, -wiener)

    def between(i, j):  # of the values at two times, the later one second
        block = torch.matrix_exp(feedback * 0.7 * (j - i)) @ P
        return block[::2, ::2].T

    blocks = [[between(i, j) if i <= j else between(j, i).T for j in range(5)] for i in range(5)]
    covariance = torch.cat([torch.cat(row, -1) for row in blocks]) + 0.04 * torch.eye(10)
    series = torch.randn(4, 2)
    log_prob, mean, spread = conditioned(covariance, series.flatten())
    torch.testing.assert_close(model.log_prob(series), log_prob)
    predicted = model.forecast(series, torch.tensor([0.7]))
    torch.testing.assert_close(predicted.mean[0], mean)
    torch.testing.assert_close(predicted.covariance_matrix[0], spread)
    mixed = timeseries.DependentMaternGP(obs_dim=2, linearly_coupled=True)
    assert mixed.forecast(series, torch.tensor([1.0, 2.0])).batch_shape == (2,)
    with pytest.raises(NotImplementedError, match="one smoothness"):
        timeseries.DependentMaternGP(nu=0.5)


@pytest.mark.parametrize("with_processes", [False, True])
def test_linear_systems_have_the_joint_covariance_of_their_equations(with_processes):
    if with_processes:
        model = timeseries.GenericLGSSMWithGPNoiseModel(2, 3, 1.5, learnable_observation_loc=True)
    else:
        model = timeseries.GenericLGSSM(2, 3, learnable_observation_loc=True)
    model.obs_loc.data.copy_(torch.tensor([1.0, -1.0]))
    A, Q = (each.detach() for each in model._step())
    H, P = model._obs_matrix().detach(), model._start_covariance().detach()
    marginals = []
    for _ in range(7):
        P = A.T @ P @ A + Q
        marginals.append(P)
    power = torch.linalg.matrix_power
    rows = [
        [
            H.T @ (marginals[i] @ power(A, j - i) if i <= j else power(A.T, i - j) @ marginals[j]) @ H
            for j in range(7)
        ]
        for i in range(7)
    ]
    covariance = torch.cat([torch.cat(row, -1) for row in rows]) + 0.04 * torch.eye(14)
    series, loc = torch.randn(5, 2), torch.tensor([1.0, -1.0])
    log_prob, mean, spread = conditioned(covariance, (series - loc).flatten())
    torch.testing.assert_close(model.log_prob(series), log_prob)
    predicted = model.forecast(series, 2)
    torch.testing.assert_close(predicted.mean, mean.reshape(2, 2) + loc)
    torch.testing.assert_close(predicted.covariance_matrix[1], spread[2:, 2:])
    assert model.get_dist(duration=5).sample().shape == (5, 2)


def test_training_follows_the_likelihood():
    series = timeseries.IndependentMaternGP(2.5, 0.3, 1).get_dist(duration=60).sample()[0]
    ember.clear_param_store()
    model = timeseries.IndependentMaternGP(2.5, 0.3, 1, torch.tensor([3.0]))
    before = model.log_prob(series).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        loss = -model.log_prob(series).sum()
        loss.backward()
        optimizer.step()
    assert model.log_prob(series).item() > before + 2.0
    assert 0.5 < model.kernel.length_scale.item() < 2.0


@pytest.mark.parametrize("nu", KERNELS)
def test_single_precision_suffices_for_short_steps(nu):
    torch.set_default_dtype(torch.float32)
    model = timeseries.IndependentMaternGP(nu, 0.05, 1)
    assert torch.isfinite(model.log_prob(torch.randn(30, 1))).all()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="length_scale_init"):
        timeseries.IndependentMaternGP(obs_dim=2, length_scale_init=torch.ones(3))
    with pytest.raises(ValueError, match="obs_noise_scale_init"):
        timeseries.GenericLGSSM(obs_dim=2, obs_noise_scale_init=torch.ones(3))
    with pytest.raises(ValueError, match="wrong shape"):
        timeseries.IndependentMaternGP(obs_dim=2).log_prob(torch.ones(3, 3))
    ember.clear_param_store()
    with pytest.raises(ValueError, match="number of time steps"):
        timeseries.GenericLGSSM().forecast(torch.ones(3, 1), 0)
