"""Check that one transition from exact draws leaves the distribution as it is."""

from functools import partial

import kernel_targets as targets
import pytest
import torch

from ember.engine import random
from ember.kernels import hmc, metric, nuts, random_walk

CASES = [
    (targets.normal([1.0, 2.0, 0.5]), 0.9),
    (targets.correlated(dimension=3, seed=6), 0.7),
    (targets.banana(), 0.8),
    (targets.funnel(), 0.7),
    (targets.student_t(), 1.0),
]
IDS = [str(target) for target, _ in CASES]


def metrics(dimension):
    generator = torch.Generator().manual_seed(dimension)
    root = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    scale = torch.exp(0.5 * torch.randn(dimension, generator=generator, dtype=torch.float64))
    vectors = torch.linalg.qr(root[:, :2])[0]
    return {
        "diagonal": metric.diagonal(scale),
        "dense": metric.dense(root @ root.T / dimension + 0.5 * torch.eye(dimension, dtype=torch.float64)),
        "low_rank": metric.low_rank(scale, vectors, torch.tensor([0.4, 2.5], dtype=torch.float64)),
    }


def transitions(target, step, step_size, inverse_mass, number, seed):
    key, before = random.key(seed), targets.exact_draws(target, number, seed)
    step_size = torch.tensor(step_size, dtype=torch.float64)
    results = []
    for index, z in enumerate(before):
        state = nuts.init(target.density, z)
        results.append(step(random.fold_in(key, index), target.density, state, step_size, inverse_mass))
    after = torch.stack([state.position for state, _ in results])
    return before, after, [info for _, info in results]


@pytest.mark.parametrize("target, step_size", CASES, ids=IDS)
def test_nuts_leaves_the_target_invariant(target, step_size):
    inverse_mass = metrics(target.dimension)["diagonal"]
    _, after, infos = transitions(target, nuts.step, step_size, inverse_mass, 700, seed=1)
    assert targets.smallest_p_value(target.pivots(after)) > 1e-3
    # Large enough steps for the weights to matter.
    assert sum(float(info.acceptance) for info in infos) / len(infos) < 0.97


@pytest.mark.parametrize("form", ["dense", "low_rank"])
@pytest.mark.parametrize("kernel", [nuts.step, partial(hmc.step, num_steps=3)], ids=["nuts", "hmc"])
def test_other_metrics_leave_the_target_invariant(kernel, form):
    target = targets.correlated(dimension=3, seed=7)
    _, after, _ = transitions(target, kernel, 0.6, metrics(3)[form], 500, seed=2)
    assert targets.smallest_p_value(target.pivots(after)) > 1e-3


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_truncated_trees_leave_the_target_invariant(depth):
    target = targets.banana()
    step = partial(nuts.step, max_tree_depth=depth)
    _, after, infos = transitions(target, step, 0.5, metrics(2)["diagonal"], 500, seed=3)
    assert targets.smallest_p_value(target.pivots(after)) > 1e-3
    assert max(int(info.tree_depth) for info in infos) == depth


@pytest.mark.parametrize("target, step_size", CASES, ids=IDS)
def test_hmc_leaves_the_target_invariant_and_balances_flows(target, step_size):
    step = partial(hmc.step, num_steps=3)
    inverse_mass = metrics(target.dimension)["diagonal"]
    before, after, infos = transitions(target, step, 0.5 * step_size, inverse_mass, 1500, seed=4)
    assert targets.smallest_p_value(target.pivots(after)) > 1e-3
    assert 0.3 < sum(float(info.acceptance) for info in infos) / len(infos) < 0.99
    # Detailed balance: between any two regions as many transitions go one way as the other.
    for coordinate in range(target.dimension):
        was, now = before[:, coordinate] > 0.6, after[:, coordinate] > 0.6
        there, back = int((~was & now).sum()), int((was & ~now).sum())
        assert there + back > 50
        assert abs(there - back) < 4 * (there + back) ** 0.5


def test_random_walk_leaves_the_target_invariant():
    target = targets.banana()
    before = targets.exact_draws(target, 2500, seed=5)
    key = random.key(5)
    after = []
    for index, z in enumerate(before):
        state = random_walk.init(target.density, z)
        unit = metric.diagonal(torch.ones_like(z))
        size = torch.tensor(1.2, dtype=torch.float64)
        moved, _ = random_walk.step(random.fold_in(key, index), target.density, state, size, unit)
        after.append(moved.position)
    assert targets.smallest_p_value(target.pivots(torch.stack(after))) > 1e-3
    assert (torch.stack(after) != before).any(-1).double().mean() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("form", ["diagonal", "dense", "low_rank"])
@pytest.mark.parametrize("target, step_size", CASES, ids=IDS)
def test_nuts_leaves_the_target_invariant_over_many_draws(target, step_size, form):
    if form == "low_rank" and target.dimension < 3:
        pytest.skip("two directions would be everything")
    _, after, _ = transitions(target, nuts.step, step_size, metrics(target.dimension)[form], 8000, seed=9)
    assert targets.smallest_p_value(target.pivots(after)) > 1e-3
