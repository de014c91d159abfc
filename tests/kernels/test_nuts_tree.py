"""Compare the iterative NUTS with a recursive one written from the definition."""

import kernel_targets as targets
import numpy as np
import pytest
import scipy.stats
import torch

from ember.engine import random
from ember.kernels import metric, nuts, trajectory
from ember.kernels.integrator import leapfrog


class Leaf:
    def __init__(self, z, r, gradient, log_density, variance):
        self.z, self.r, self.gradient = z, r, gradient
        self.velocity = variance * r
        self.energy = float(0.5 * torch.dot(r, self.velocity) - log_density)


def turns(leaves):
    total = sum(leaf.r for leaf in leaves)
    return bool(torch.dot(total, leaves[0].velocity) <= 0 or torch.dot(total, leaves[-1].velocity) <= 0)


def turns_at_join(left, right):
    return turns(left + right) or turns([*left, right[0]]) or turns([left[-1], *right])


class RecursiveNuts:
    """Visit leaves one by one, in time's order of travel, and keep them all."""

    def __init__(self, density, variance, step_size, start_energy):
        self.density, self.variance, self.step_size = density, variance, step_size
        self.start_energy = start_energy
        self.visited = []
        self.diverging = False

    def subtree(self, start, direction, depth):
        """Return (leaves in order of travel, whether the subtree is complete)."""
        if depth == 0:
            inverse_mass = metric.diagonal(self.variance)
            step = torch.tensor(direction * self.step_size, dtype=torch.float64)
            point = leapfrog(self.density, inverse_mass, step, start.z, start.r, start.gradient)
            leaf = Leaf(point.position, point.momentum, point.gradient, point.log_density, self.variance)
            self.visited.append(leaf)
            error = leaf.energy - self.start_energy
            if not np.isfinite(error) or error >= 1000:
                self.diverging = True
                return [leaf], False
            return [leaf], True
        first, complete = self.subtree(start, direction, depth - 1)
        if not complete:
            return first, False
        second, complete = self.subtree(first[-1], direction, depth - 1)
        if not complete:
            return first + second, False
        return first + second, not turns_at_join(first, second)


def recursive_transition(key, density, z, step_size, variance, max_depth):
    state = nuts.init(density, z)
    noise = random.normal(random.fold_in(key, 0), z.shape)
    start = Leaf(z, noise / variance.sqrt(), state.gradient, state.log_density, variance)
    sampler = RecursiveNuts(density, variance, step_size, start.energy)
    tree, depth = [start], 0
    bits = random.random_bits(random.fold_in(key, 1), max_depth)
    while depth < max_depth:
        forward = int(bits[depth]) & 1 == 1
        end = tree[-1] if forward else tree[0]
        new, complete = sampler.subtree(end, 1 if forward else -1, depth)
        if not complete:
            break
        depth += 1
        old = tree if forward else tree[::-1]
        turning = turns_at_join(old, new)
        tree = old + new if forward else (old + new)[::-1]
        if turning:
            break
    return tree, depth, sampler


CASES = [
    (targets.normal([1.0, 1.0, 1.0]), 0.15),
    (targets.normal([1.0, 3.0, 0.3]), 0.1),
    (targets.correlated(dimension=5, seed=1), 0.3),
    (targets.banana(), 0.1),
    (targets.funnel(), 0.25),
]


@pytest.mark.parametrize("target, step_size", CASES, ids=[str(target) for target, _ in CASES])
def test_same_tree_as_a_recursive_sampler(target, step_size):
    variance = torch.linspace(0.7, 1.4, target.dimension, dtype=torch.float64)
    depths = set()
    for seed, z in enumerate(targets.exact_draws(target, 20, seed=0)):
        key = random.key(seed)
        state, info = nuts.step(
            key,
            target.density,
            nuts.init(target.density, z),
            torch.tensor(step_size, dtype=torch.float64),
            metric.diagonal(variance),
            max_tree_depth=6,
        )
        tree, depth, sampler = recursive_transition(key, target.density, z, step_size, variance, 6)
        assert int(info.num_leapfrogs) == len(sampler.visited)
        assert int(info.tree_depth) == depth
        assert bool(info.diverging) == sampler.diverging
        errors = np.array([leaf.energy - sampler.start_energy for leaf in sampler.visited])
        np.testing.assert_allclose(float(info.acceptance), np.exp(np.minimum(0, -errors)).mean(), rtol=1e-9)
        distances = [float((leaf.z - state.position).abs().max()) for leaf in tree]
        chosen = tree[int(np.argmin(distances))]
        assert min(distances) < 1e-12
        np.testing.assert_allclose(float(info.energy), chosen.energy, rtol=1e-9)
        depths.add(depth)
    assert len(depths) > 1


def test_leaves_of_an_extension_are_chosen_by_their_weights():
    target = targets.banana()
    inverse_mass = metric.diagonal(torch.ones(2, dtype=torch.float64))
    state = nuts.init(target.density, torch.tensor([0.3, -0.8], dtype=torch.float64))
    momentum = torch.tensor([2.0, 0.4], dtype=torch.float64)
    step_size = torch.tensor(0.6, dtype=torch.float64)
    energy = 0.5 * momentum @ momentum - state.log_density
    start = trajectory.Leaf(state.position, momentum, state.gradient)
    rows = torch.full((2, 2), torch.nan, dtype=torch.float64)
    proposal = trajectory.Proposal(rows, rows, state.log_density, energy)
    positions, weights = [], []
    z, r, gradient = state.position, momentum, state.gradient
    for _ in range(4):
        z, r, log_density, gradient = leapfrog(target.density, inverse_mass, step_size, z, r, gradient)
        positions.append(z)
        weights.append(float(torch.exp(log_density - 0.5 * r @ r + energy)))
    counts = np.zeros(4)
    for seed in range(1200):
        extension = trajectory.extend(
            random.key(seed),
            target.density,
            start,
            proposal,
            torch.tensor(1),
            torch.tensor(4),
            step_size,
            inverse_mass,
            energy,
            trajectory.Stack(*torch.full((5, 3, 2), torch.nan, dtype=torch.float64)),
            1000.0,
        )
        assert int(extension.num_leaves) == 4
        gaps = [float((extension.proposal.position[1] - each).abs().max()) for each in positions]
        counts[int(np.argmin(gaps))] += 1
    np.testing.assert_allclose(float(extension.log_weight), np.log(sum(weights)), rtol=1e-12)
    expected = 1200 * np.array(weights) / sum(weights)
    assert max(weights) > 1.3 * min(weights)
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def test_divergence_is_flagged_and_the_chain_stays():
    target = targets.normal([1e-3, 1.0])
    state = nuts.init(target.density, torch.tensor([1e-3, 0.5], dtype=torch.float64))
    inverse_mass = metric.diagonal(torch.ones(2, dtype=torch.float64))
    new, info = nuts.step(
        random.key(0), target.density, state, torch.tensor(1.0, dtype=torch.float64), inverse_mass
    )
    assert bool(info.diverging)
    assert int(info.num_leapfrogs) == 1 and int(info.tree_depth) == 0
    assert float(info.acceptance) == 0.0
    assert torch.equal(new.position, state.position)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_density_diverges(value):
    def density(z):
        log_density = torch.where(z[0] > 0, torch.full_like(z[0], value), -0.5 * torch.dot(z, z))
        return log_density, -z

    start = nuts.init(density, torch.tensor([-0.01], dtype=torch.float64))
    inverse_mass = metric.diagonal(torch.ones(1, dtype=torch.float64))
    flags = []
    for seed in range(10):
        new, info = nuts.step(
            random.key(seed), density, start, torch.tensor(0.3, dtype=torch.float64), inverse_mass
        )
        flags.append(bool(info.diverging))
        assert float(new.position) <= 0.0
        assert torch.isfinite(info.acceptance) and torch.isfinite(info.energy)
    assert any(flags)


def test_depth_limit_bounds_the_trajectory():
    target = targets.normal([1.0, 1.0])
    state = nuts.init(target.density, torch.tensor([1.0, 0.0], dtype=torch.float64))
    inverse_mass = metric.diagonal(torch.ones(2, dtype=torch.float64))
    tiny = torch.tensor(1e-3, dtype=torch.float64)
    for depth in (1, 2, 5):
        _, info = nuts.step(random.key(1), target.density, state, tiny, inverse_mass, max_tree_depth=depth)
        assert (int(info.tree_depth), int(info.num_leapfrogs)) == (depth, 2**depth - 1)
    with pytest.raises(ValueError, match="max_tree_depth must be at least 1, got 0"):
        nuts.step(random.key(1), target.density, state, tiny, inverse_mass, max_tree_depth=0)
