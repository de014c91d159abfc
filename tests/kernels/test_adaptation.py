"""Check variance estimates, Fisher-divergence estimates, schedules and the warmup that they drive."""

from functools import partial

import kernel_targets as targets
import pytest
import torch

from ember.engine import random
from ember.kernels import chain, density, fisher, history, hmc, metric, nuts, schedule, variance, warmup
from ember.kernels.warmup import Adaptation


def moments(rows, dense):
    result = variance.init(rows[0], dense)
    for row in rows:
        result = variance.update(result, row)
    return result


def gaussian_sample(dimension, number, seed):
    target = targets.correlated(dimension, seed)
    draws = targets.exact_draws(target, number, seed)
    gradients = torch.stack([target.density(z)[1] for z in draws])
    factor = target.draw(torch.eye(dimension, dtype=torch.float64)) - target.draw(
        torch.zeros(1, dimension, dtype=torch.float64)
    )
    return draws, gradients, factor.T @ factor


def relative_error(estimate, exact):
    return float((estimate - exact).abs().max() / exact.abs().max())


def test_running_moments_equal_the_batch_formulas():
    rows = 1e6 + torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        variance.covariance(moments(rows, True)), torch.cov(rows.T), rtol=1e-8, atol=1e-9
    )
    torch.testing.assert_close(variance.covariance(moments(rows, False)), rows.var(0), rtol=1e-8, atol=0)
    assert variance.covariance(moments(rows[:1], False)).tolist() == [0.0, 0.0, 0.0]
    expected = 50 / 55 * torch.cov(rows.T) + 1e-3 * 5 / 55 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(variance.shrunk(moments(rows, True)), expected, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(variance.shrunk(moments(rows, False)), expected.diagonal(), rtol=1e-8, atol=0)


def test_fisher_diagonal_is_exact_for_independent_gaussians_from_three_draws():
    target = targets.normal([1e-3, 1.0, 1e3])
    draws = targets.exact_draws(target, 3, seed=1)
    gradients = torch.stack([target.density(z)[1] for z in draws])
    estimate = fisher.diagonal(moments(draws, False), moments(gradients, False), torch.ones(3))
    torch.testing.assert_close(
        estimate, torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_fisher_diagonal_keeps_the_fallback_where_nothing_is_known():
    draws = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    gradients = torch.tensor([[0.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    estimate = fisher.diagonal(
        moments(draws, False), moments(gradients, False), torch.tensor([7.0, 8.0]).double()
    )
    assert estimate.tolist() == [7.0, 8.0]


def test_fisher_dense_is_exact_for_gaussians():
    draws, gradients, covariance = gaussian_sample(5, 200, seed=4)
    estimate = fisher.dense(moments(draws, True), moments(gradients, True), torch.ones(5))
    # Up to the shrinkage of 10⁻³ · 5 / 205; the sample covariance is off by sampling error.
    assert relative_error(estimate, covariance) < 1e-3
    assert relative_error(torch.cov(draws.T), covariance) > 1e-2


def test_fisher_dense_keeps_blocks_apart():
    draws, gradients, _ = gaussian_sample(4, 50, seed=4)
    mask = metric.block_mask(4, [[0, 2]])
    estimate = fisher.dense(moments(draws, True), moments(gradients, True), torch.ones(4), mask)
    assert torch.equal(estimate != 0, mask != 0)
    assert (torch.linalg.eigvalsh(estimate) > 0).all()


@pytest.mark.parametrize("dimension", [6, 60])
def test_fisher_low_rank_finds_directions_beyond_the_diagonal(dimension):
    # Covariance S (I + U (Λ − I) Uᵀ) S whose variances in balance are S² up to the two directions.
    generator = torch.Generator().manual_seed(dimension)
    vectors = torch.linalg.qr(torch.randn(dimension, 2, generator=generator, dtype=torch.float64))[0]
    values = torch.tensor([1e-2, 1e2], dtype=torch.float64)
    scale = torch.exp(torch.randn(dimension, generator=generator, dtype=torch.float64))
    exact = metric.low_rank(scale, vectors, values)
    noise = torch.randn(25, dimension, generator=generator, dtype=torch.float64)
    # Σ maps momenta, of covariance Σ⁻¹, to velocities, of covariance Σ: minus gradients to draws.
    gradients = -torch.stack([exact.momentum(each) for each in noise])
    draws = torch.stack([exact.velocity(-each) for each in gradients])
    data = history.init(draws[0], 40)
    for z, g in zip(draws, gradients, strict=True):
        data = history.update(data, z, g)
    estimate = fisher.low_rank(data, 4, torch.ones(dimension, dtype=torch.float64))

    def dense(form):
        eye = torch.eye(dimension, dtype=torch.float64)
        return torch.stack([form.velocity(each) for each in eye], 1)

    def condition(matrix):
        factor = torch.linalg.cholesky(dense(exact))
        whitened = torch.linalg.solve(factor, torch.linalg.solve(factor, matrix).T)
        eigenvalues = torch.linalg.eigvalsh(whitened)
        return float(eigenvalues[-1] / eigenvalues[0])

    diagonal = torch.diag(estimate.scale**2)
    assert condition(dense(estimate)) < 0.2 * condition(diagonal)
    inner = estimate.vectors.T @ estimate.vectors
    used = (inner.diagonal() > 0.5).double()
    torch.testing.assert_close(inner, torch.diag(used), rtol=0, atol=1e-6)


def test_history_is_a_ring():
    data = history.init(torch.zeros(1, dtype=torch.float64), 3)
    for value in range(5):
        row = torch.tensor([float(value)], dtype=torch.float64)
        data = history.update(data, row, -row)
        draws, gradients, used = history.deviations(data)
        kept = torch.arange(max(0, value - 2), value + 1, dtype=torch.float64)
        assert float(used) == len(kept)
        assert float((draws**2).sum()) == pytest.approx(float(((kept - kept.mean()) ** 2).sum()))
        torch.testing.assert_close(gradients, -draws)


def test_metric_from_a_gradient():
    gradient = torch.tensor([0.0, -4.0, 0.5, float("inf")], dtype=torch.float64)
    assert fisher.from_gradient(gradient).tolist() == [1.0, 0.25, 2.0, 1.0]


def where(column):
    return column.nonzero().flatten().tolist()


@pytest.mark.parametrize(
    "number, collected, ends",
    [
        (0, (0, 0), []),
        (5, (0, 0), []),
        (19, (0, 0), []),
        (20, (3, 18), [17]),
        (100, (15, 90), [89]),
        (150, (75, 100), [99]),
        (1000, (75, 950), [99, 149, 249, 449, 949]),
    ],
)
def test_stan_schedule(number, collected, ends):
    table = schedule.stan(number)
    assert all(column.shape == (number,) and column.dtype == torch.bool for column in table)
    assert where(table.collect) == list(range(*collected))
    assert where(table.update) == where(table.switch) == where(table.restart) == ends
    assert where(table.collect_background) == []
    assert where(table.finish) == ([number - 1] if number else [])


@pytest.mark.parametrize(
    "number, collected, switches",
    [
        (0, 0, []),
        (5, 0, []),
        (20, 17, []),
        (100, 85, [9, 19, 29]),
        (1000, 850, [*range(9, 300, 10), 379, 459, 539, 619, 699]),
    ],
)
def test_fisher_schedule(number, collected, switches):
    table = schedule.fisher(number)
    assert where(table.collect) == where(table.collect_background) == list(range(collected))
    assert where(table.switch) == switches
    assert where(table.update) == list(range(3, collected))
    assert where(table.restart) == []
    assert where(table.finish) == ([number - 1] if number else [])
    sparse = schedule.fisher(number, early_update_interval=10, update_interval=40)
    assert set(where(sparse.update)) <= set(where(table.update))
    assert where(sparse.update)[-1:] == where(table.update)[-1:]


def test_mixed_schedule():
    table = schedule.mixed(1000)
    assert where(table.switch) == list(range(9, 300, 10))
    assert where(table.restart) == [849] == where(table.update)[-1:]
    assert where(schedule.mixed(0).restart) == where(schedule.mixed(5).restart) == []


def test_schedules_reject_negative_lengths():
    for make in (schedule.stan, schedule.fisher, schedule.step_size_only):
        with pytest.raises(ValueError, match="must not be negative, got -1"):
            make(-1)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"metric": "full"}, "'diagonal', 'dense' or 'low_rank', got 'full'"),
        ({"scheme": "window"}, "'mixed', 'fisher' or 'stan', got 'window'"),
        ({"metric": "low_rank", "scheme": "stan"}, "use scheme='fisher'"),
        ({"target_acceptance": 1.0}, "between 0 and 1, got 1.0"),
        ({"blocks": ((0,),)}, "blocks need metric='dense'"),
        ({"metric": "low_rank", "rank": 0}, "rank must be at least 1, got 0"),
    ],
)
def test_adaptation_rejects_what_does_not_fit(options, text):
    with pytest.raises(ValueError, match=text):
        Adaptation(**options)


def warm(target, adaptation, number, seed=1, transition=nuts.step):
    start = torch.full((target.dimension,), 0.5, dtype=torch.float64)
    state = chain.init(random.key(seed), target.density, start, adaptation)
    return chain.run_warmup(target.density, transition, adaptation, state, adaptation.schedule(number))[0]


def test_fisher_warmup_learns_badly_scaled_variances_exactly():
    target = targets.normal([1e-2, 1.0, 1e2])
    state = warm(target, Adaptation(), 60)
    torch.testing.assert_close(
        state.metric.variance, torch.tensor([1e-4, 1.0, 1e4], dtype=torch.float64), rtol=1e-6, atol=0
    )
    assert 0.3 < float(state.step_size) < 2.0


@pytest.mark.parametrize("target_acceptance", [0.7, 0.95])
def test_warmup_reaches_the_target_acceptance(target_acceptance):
    target = targets.normal([1.0] * 20)
    adaptation = Adaptation(target_acceptance=target_acceptance)
    # With a fixed number of steps acceptance is a smooth function of the step size, which it is not for NUTS.
    transition = partial(hmc.step, num_steps=2)
    state = warm(target, adaptation, 300, transition=transition)
    draws = chain.run_sampling(target.density, transition, state, 400)[1]
    assert abs(float(draws.info.acceptance.mean()) - target_acceptance) < 0.06


def test_stan_warmup_estimates_variances_by_window():
    target = targets.normal([0.3, 3.0])
    state = warm(target, Adaptation(scheme="stan"), 200)
    assert (state.metric.variance.log() - torch.tensor([0.09, 9.0]).log()).abs().max() < 0.8


def test_blocks_stay_blocks():
    target = targets.correlated(dimension=3, seed=1)
    for scheme in ("stan", "fisher"):
        adaptation = Adaptation(metric="dense", scheme=scheme, blocks=((0, 2),))
        covariance = warm(target, adaptation, 40).metric.covariance
        assert covariance[0, 1] == covariance[1, 2] == 0.0 and covariance[0, 2] != 0.0


@pytest.mark.parametrize("number, by_draws", [(40, False), (60, True)])
def test_the_mixed_scheme_leaves_gradients_out_once_there_are_many_draws(number, by_draws):
    scale = torch.tensor([1.0, 3.0], dtype=torch.float64)
    draws = torch.randn(number, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    moments = variance.init(draws[0], dense=False)
    estimator = warmup.DrawsAndGradients(moments, moments)
    for draw in draws:
        gradient = -100.0 * draw  # as in the neck of a funnel
        estimator = warmup._add(estimator, density.State(draw, draw.sum(), gradient))
    found = warmup._estimate(Adaptation(scheme="mixed"), estimator, metric.diagonal(torch.ones_like(scale)))
    expected = variance.shrunk(estimator.draws) if by_draws else torch.full_like(scale, 0.01)
    torch.testing.assert_close(found.variance, expected)


def test_nothing_adapts_unless_asked():
    target = targets.normal([0.5, 2.0])
    adaptation = Adaptation(adapt_step_size=False, adapt_metric=False)
    start = torch.ones(2, dtype=torch.float64)
    first = chain.init(random.key(0), target.density, start, adaptation, step_size=0.25)
    last, _ = chain.run_warmup(target.density, nuts.step, adaptation, first, adaptation.schedule(30))
    assert float(last.step_size) == 0.25
    assert last.metric.variance.tolist() == [1.0, 1.0]


def test_step_size_has_a_floor():
    target = targets.normal([1e-3])
    adaptation = Adaptation(scheme="stan", min_step_size=0.05)
    assert float(warm(target, adaptation, 15).step_size) == 0.05


def test_no_warmup_keeps_the_first_step_size():
    target = targets.normal([1.0])
    adaptation = Adaptation()
    state = chain.init(random.key(0), target.density, torch.ones(1, dtype=torch.float64), adaptation)
    assert len(adaptation.schedule(0).finish) == 0
    draws = chain.run_sampling(target.density, nuts.step, state, 3)[1]
    assert draws.info.step_size.tolist() == [float(state.step_size)] * 3
