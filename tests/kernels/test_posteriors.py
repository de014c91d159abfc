"""Check that whole chains, warmup included, find known posteriors."""

from functools import partial

import kernel_targets as targets
import pytest
import torch

from ember.engine import random
from ember.kernels import chain, hmc, nuts, random_walk
from ember.kernels.warmup import Adaptation

FAST = [
    targets.normal([1.0], "normal_1"),
    targets.normal([1.0] * 5, "normal_5"),
    targets.normal([1.0] * 50, "normal_50"),
    targets.correlated(),
    targets.normal([1e-3, 1e-1, 1.0, 1e2, 1e3], "badly_scaled"),
    targets.student_t(),
    targets.banana(),
    targets.funnel(),
]


def run(target, transition, adaptation, num_warmup, num_draws, seed):
    start = torch.full((target.dimension,), 0.5, dtype=torch.float64)
    state = chain.init(random.key(seed), target.density, start, adaptation)
    schedule = adaptation.schedule(num_warmup)
    state, _ = chain.run_warmup(target.density, transition, adaptation, state, schedule)
    return chain.run_sampling(target.density, transition, state, num_draws)[1]


@pytest.mark.parametrize("target", FAST, ids=str)
def test_nuts_finds_known_posteriors(target):
    draws = run(target, nuts.step, Adaptation(), 150, 400, seed=11)
    assert targets.largest_z_score(target.pivots(draws.position)) < 4.5
    assert draws.info.diverging.double().mean() < 0.01


def test_nuts_with_dense_metric_whitens_a_correlated_normal():
    target = targets.correlated(dimension=8, seed=3)
    diagonal = run(target, nuts.step, Adaptation(metric="diagonal"), 150, 150, seed=5)
    dense = run(target, nuts.step, Adaptation(metric="dense"), 150, 400, seed=5)
    assert targets.largest_z_score(target.pivots(dense.position)) < 4.5
    assert dense.info.num_leapfrogs.double().mean() < 0.7 * diagonal.info.num_leapfrogs.double().mean()


@pytest.mark.parametrize("options", [{"trajectory_length": 1.5}, {"num_steps": 4}])
def test_hmc_finds_known_posteriors(options):
    target = targets.correlated(dimension=3, seed=2)
    draws = run(target, partial(hmc.step, **options), Adaptation(scheme="stan"), 150, 600, seed=4)
    assert targets.largest_z_score(target.pivots(draws.position)) < 4.5


def test_random_walk_finds_a_normal_and_its_target_acceptance():
    target = targets.normal([0.5, 1.0], "normal_2")
    adaptation = Adaptation(target_acceptance=0.234, adapt_metric=False, search_step_size=False)
    draws = run(target, random_walk.step, adaptation, 1500, 4500, seed=8)
    assert targets.largest_z_score(target.pivots(draws.position)) < 4.5
    assert abs(float(draws.info.acceptance.mean()) - 0.234) < 0.04


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheme, metric",
    [
        ("stan", "diagonal"),
        ("stan", "dense"),
        ("mixed", "diagonal"),
        ("fisher", "diagonal"),
        ("fisher", "dense"),
        ("fisher", "low_rank"),
    ],
)
@pytest.mark.parametrize("target", FAST, ids=str)
def test_every_adaptation_finds_known_posteriors_in_long_runs(target, scheme, metric):
    draws = run(target, nuts.step, Adaptation(metric=metric, scheme=scheme), 300, 3000, seed=21)
    assert targets.largest_z_score(target.pivots(draws.position)) < 4.5
