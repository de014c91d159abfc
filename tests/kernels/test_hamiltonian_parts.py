"""Check integrator, metrics, fixed-length HMC and step sizes on their own."""

import kernel_targets as targets
import numpy as np
import pytest
import torch

from ember.engine import random
from ember.kernels import hmc, metric, step_size
from ember.kernels.integrator import leapfrog


def identity(dimension):
    return metric.diagonal(torch.ones(dimension, dtype=torch.float64))


def integrate(target, inverse_mass, size, steps, z, r):
    size = torch.tensor(size, dtype=torch.float64)
    log_density, gradient = target.density(z)
    for _ in range(steps):
        z, r, log_density, gradient = leapfrog(target.density, inverse_mass, size, z, r, gradient)
    return z, r, float(metric.kinetic_energy(r, inverse_mass.velocity(r)) - log_density)


def forms():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / 4 + torch.eye(4, dtype=torch.float64)
    scale = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    vectors = torch.linalg.qr(root[:, :2])[0]
    values = torch.tensor([0.1, 5.0], dtype=torch.float64)
    inner = torch.eye(4, dtype=torch.float64) + vectors @ torch.diag(values - 1) @ vectors.T
    return [
        (metric.diagonal(scale), torch.diag(scale)),
        (metric.dense(covariance), covariance),
        (metric.low_rank(scale, vectors, values), scale[:, None] * inner * scale),
    ]


@pytest.mark.parametrize("inverse_mass, matrix", forms(), ids=["diagonal", "dense", "low_rank"])
def test_velocity_is_the_matrix_product_and_momentum_has_the_inverse_covariance(inverse_mass, matrix):
    r = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    torch.testing.assert_close(inverse_mass.velocity(r), matrix @ r)
    # The map from noise to momentum is linear: apply it to a basis.
    basis = torch.eye(4, dtype=torch.float64)
    linear = torch.stack([inverse_mass.momentum(each) for each in basis], dim=1)
    torch.testing.assert_close(linear @ linear.T, torch.linalg.inv(matrix))
    energy = metric.kinetic_energy(r, inverse_mass.velocity(r))
    torch.testing.assert_close(energy, 0.5 * r @ matrix @ r)


def test_dense_metric_falls_back_when_not_positive_definite():
    good = metric.dense(torch.eye(2, dtype=torch.float64))
    bad = metric.dense(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64), fallback=good)
    assert torch.equal(bad.covariance, good.covariance) and torch.equal(bad.factor, good.factor)


def test_block_mask():
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    assert metric.block_mask(4, [[2, 0]]).tolist() == expected
    for wrong in ([[0, 4]], [[0, 1], [1, 2]], [[-1]]):
        with pytest.raises(ValueError, match="disjoint groups of indices from 0 to 3"):
            metric.block_mask(4, wrong)


@pytest.mark.parametrize("inverse_mass", [form for form, _ in forms()], ids=["diagonal", "dense", "low_rank"])
def test_leapfrog_is_reversible(inverse_mass):
    target = targets.correlated(dimension=4, seed=2)
    z = torch.tensor([1.0, 0.2, -0.5, 0.4], dtype=torch.float64)
    r = torch.tensor([0.1, -0.8, 0.6, 1.2], dtype=torch.float64)
    end, momentum, _ = integrate(target, inverse_mass, 0.15, 12, z, r)
    assert (end - z).abs().max() > 0.1
    back, momentum, _ = integrate(target, inverse_mass, 0.15, 12, end, -momentum)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(momentum, -r, rtol=0, atol=1e-12)


def test_energy_error_is_of_second_order():
    target = targets.banana()
    z, r = (torch.tensor(each, dtype=torch.float64) for each in ([0.4, 0.9], [1.0, -0.3]))
    _, _, start = integrate(target, identity(2), 0.1, 0, z, r)
    errors = [abs(integrate(target, identity(2), 0.8 / n, n, z, r)[2] - start) for n in (16, 32, 64)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert (np.abs(orders - 2) < 0.2).all()


def test_leapfrog_preserves_volume():
    target = targets.funnel(dimension=2)

    def flow(point):
        z, r, _ = integrate(target, identity(2), 0.3, 3, point[:2], point[2:])
        return torch.cat([z, r])

    point = torch.tensor([0.3, -0.6, 0.5, 0.8], dtype=torch.float64)
    columns = []
    for each in torch.eye(4, dtype=torch.float64) * 1e-6:
        columns.append((flow(point + each) - flow(point - each)) / 2e-6)
    assert abs(float(torch.linalg.det(torch.stack(columns, 1))) - 1) < 1e-7


def hmc_step(size, **options):
    target = targets.normal([1.0, 2.0])
    counted = targets.Counter(target.density)
    state = hmc.init(counted, torch.tensor([0.5, 0.5], dtype=torch.float64))
    size = torch.tensor(size, dtype=torch.float64)
    state, info = hmc.step(random.key(0), counted, state, size, identity(2), **options)
    assert counted.calls == 1 + int(info.num_leapfrogs)
    return state, info


@pytest.mark.parametrize(
    "size, length, steps", [(0.1, 1.0, 10), (0.3, 1.0, 3), (2.0, 1.0, 1), (1e-6, 1.0, 1023)]
)
def test_trajectory_length_gives_the_number_of_steps(size, length, steps):
    assert int(hmc_step(size, trajectory_length=length)[1].num_leapfrogs) == steps


def test_hmc_arguments():
    assert int(hmc_step(0.3, num_steps=7)[1].num_leapfrogs) == 7
    for wrong in ({}, {"num_steps": 2, "trajectory_length": 1.0}):
        with pytest.raises(ValueError, match="exactly one of trajectory_length and num_steps"):
            hmc_step(0.3, **wrong)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        hmc_step(0.3, num_steps=0)
    with pytest.raises(ValueError, match="trajectory_length must be positive, got -1"):
        hmc_step(0.3, trajectory_length=-1.0)


def test_hmc_rejects_what_diverges():
    state, info = hmc_step(1e3, num_steps=20)
    assert bool(info.diverging) and not bool(info.accepted) and float(info.acceptance) == 0.0
    assert state.position.tolist() == [0.5, 0.5]


def test_dual_averaging_converges_to_the_target_acceptance():
    # A made-up sampler whose acceptance falls with the step size, with noise.
    def acceptance(log_size):
        return 1.0 / (1.0 + np.exp(2.0 * (log_size - np.log(0.3))))

    for target in (0.6, 0.8, 0.95):
        generator = np.random.default_rng(1)
        state = step_size.init(torch.tensor(5.0, dtype=torch.float64))
        for _ in range(3000):
            observed = generator.binomial(10, acceptance(float(state.log_step_size))) / 10
            state = step_size.update(state, torch.tensor(observed, dtype=torch.float64), target)
        assert abs(acceptance(float(state.log_average)) - target) < 0.02


def test_dual_averaging_treats_nan_as_rejection():
    state = step_size.init(torch.tensor(1.0, dtype=torch.float64))
    nan = step_size.update(state, torch.tensor(float("nan"), dtype=torch.float64))
    zero = step_size.update(state, torch.tensor(0.0, dtype=torch.float64))
    assert nan == zero
    # By hand: H̄ = 0.8 / 11, log ε = log 10 − H̄ / 0.05.
    assert float(nan.log_step_size) == pytest.approx(np.log(10) - 0.8 / 11 / 0.05)


@pytest.mark.parametrize("first", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_heuristic_crosses_the_target_within_a_factor_of_two(first, scale):
    target = targets.normal([scale] * 3)
    counted = targets.Counter(target.density)
    state = hmc.init(counted, torch.full((3,), 0.7 * scale, dtype=torch.float64))
    first = torch.tensor(first, dtype=torch.float64)
    found = float(step_size.heuristic(random.key(2), counted, state, first, identity(3)))
    assert 0.05 * scale < found < 5 * scale
    assert counted.calls == 2 + abs(round(np.log2(found / float(first))))


def test_heuristic_is_bounded_where_nothing_is_accepted():
    def density(z):
        return torch.full((), float("nan"), dtype=torch.float64), z

    state = hmc.init(targets.normal([1.0]).density, torch.ones(1, dtype=torch.float64))
    found = step_size.heuristic(
        random.key(0), density, state, torch.tensor(1.0, dtype=torch.float64), identity(1), max_iterations=9
    )
    assert float(found) == 2.0**-9
