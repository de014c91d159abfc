"""Check statistics of draws and forecasts against NumPy, SciPy and ArviZ."""

import arviz
import numpy as np
import pytest
import scipy.stats as st
import torch

from ember.ops import stats

DOUBLE = torch.float64
close = torch.testing.assert_close


def chains(count=3, size=200, carry=0.6):
    noise = torch.randn(count, size, dtype=DOUBLE)
    x = [noise[:, 0]]
    for t in range(1, size):
        x.append(carry * x[-1] + noise[:, t])
    return torch.stack(x, 1)


def test_autocovariance_is_the_sum_of_products():
    x = chains()[0]
    y = (x - x.mean()).numpy()
    expected = np.array([y[: len(y) - lag] @ y[lag:] for lag in range(len(y))])
    expected /= np.arange(len(y), 0, -1)
    close(stats.autocovariance(x), torch.as_tensor(expected))
    close(stats.autocorrelation(x), torch.as_tensor(expected / expected[0]))
    wide = chains().T.unsqueeze(-1)
    close(stats.autocorrelation(wide)[:, 0, 0], stats.autocorrelation(wide[:, 0, 0]))
    close(stats.autocorrelation(wide.movedim(0, 1), 1), stats.autocorrelation(wide).movedim(0, 1))
    assert (stats.autocorrelation(torch.ones(5)) == 1).all()


def test_chain_diagnostics_against_arviz():
    x = chains()
    close(stats.split_gelman_rubin(x), torch.as_tensor(arviz.rhat(x.numpy(), method="split")))
    close(stats.gelman_rubin(x), torch.as_tensor(arviz.rhat(x.numpy(), method="identity")))
    mean = torch.as_tensor(arviz.ess(x.numpy(), method="mean"))
    halves = torch.cat([x[:, :100], x[:, 100:]])
    close(stats.effective_sample_size(halves), mean, rtol=0.05, atol=0)
    assert 100 < stats.effective_sample_size(x) < 250
    independent = stats.effective_sample_size(torch.randn(4, 1000, 2))
    assert independent.shape == (2,) and ((independent > 3000) & (independent < 5500)).all()
    close(stats.effective_sample_size(x.T, chain_dim=1, sample_dim=0), stats.effective_sample_size(x))
    with pytest.raises(ValueError, match="two chains"):
        stats.gelman_rubin(x[:1])
    with pytest.raises(ValueError, match="Too few draws"):
        stats.split_gelman_rubin(x[:, :3])


def test_quantiles_and_intervals():
    x = torch.randn(101, 3, dtype=DOUBLE)
    close(stats.quantile(x, [0.1, 0.77]), torch.as_tensor(np.quantile(x.numpy(), [0.1, 0.77], axis=0)))
    close(stats.quantile(x.T, 0.3, dim=1), torch.as_tensor(np.quantile(x.numpy(), 0.3, axis=0)))
    assert stats.quantile(x.T, [0.1, 0.2], dim=1).shape == (3, 2)
    close(stats.pi(x, 0.8), stats.quantile(x, [0.1, 0.9]))
    interval = stats.hpdi(x[:, 0], 0.5)
    close(interval, torch.as_tensor(arviz.hdi(x[:, 0].numpy(), 0.5)))
    with pytest.raises(ValueError, match="prob"):
        stats.hpdi(x, 0.001)


def test_weighed_quantiles():
    x = torch.randn(50, dtype=DOUBLE)
    levels = [0.0, 0.2, 0.9, 1.0]
    close(stats.weighed_quantile(x, levels, torch.zeros(50, dtype=DOUBLE)), stats.quantile(x, levels))
    # Weights of zero leave draws out.
    weights = torch.where(x > 0, 0.0, -torch.inf)
    inside = stats.weighed_quantile(x, [0.5, 1.0], weights)
    assert (inside > 0).all() and inside[1] == x.max()
    many, log_weights = torch.randn(20_000, dtype=DOUBLE), torch.zeros(20_000, dtype=DOUBLE)
    tilted = stats.weighed_quantile(many, [0.5], log_weights + many)
    assert abs(tilted.item() - 1.0) < 0.1
    wide = stats.weighed_quantile(many[:40].reshape(4, 10), [0.3, 0.6], log_weights[:10], dim=1)
    assert wide.shape == (4, 2)


def test_resample():
    x = torch.arange(10.0).unsqueeze(-1).expand(10, 2)
    y = stats.resample(x, 10)
    assert sorted(y[:, 0].tolist()) == list(range(10))
    assert stats.resample(x.T, 30, dim=1, replacement=True).shape == (2, 30)


def test_waic_against_arviz():
    x = 0.3 * torch.randn(300, 4, dtype=DOUBLE) - 1.0
    data = arviz.from_dict(posterior={"z": np.zeros((1, 300))}, log_likelihood={"y": x.numpy()[None]})
    expected = arviz.waic(data, scale="deviance", pointwise=True)
    criterion, parameters = stats.waic(x, pointwise=True)
    # ArviZ divides by the number of draws, not by one less.
    close(criterion, torch.as_tensor(expected.waic_i.values), rtol=1e-3, atol=0)
    close(stats.waic(x)[0], torch.as_tensor(float(expected.elpd_waic), dtype=DOUBLE), rtol=1e-3, atol=0)
    close(parameters.sum(), torch.as_tensor(float(expected.p_waic), dtype=DOUBLE), rtol=0.01, atol=0)
    equal = stats.waic(x, log_weights=torch.zeros(300, dtype=DOUBLE))[0]
    close(equal, stats.waic(x)[0], rtol=0.01, atol=0)


@pytest.mark.parametrize("k", [-0.2, 0.3, 0.8])
def test_generalised_pareto_fit(k):
    x = torch.as_tensor(st.genpareto.rvs(k, scale=2.0, size=20_000, random_state=0))
    tail, sigma = stats.fit_generalized_pareto(x)
    assert abs(tail - k) < 0.05 and abs(sigma - 2.0) < 0.1
    with pytest.raises(ValueError, match="exceedances"):
        stats.fit_generalized_pareto(x[:4])


def test_scores_are_those_of_the_definition():
    pred, truth = torch.randn(30, 4, dtype=DOUBLE), torch.randn(4, dtype=DOUBLE)
    pairs = (pred.unsqueeze(0) - pred.unsqueeze(1)).abs().mean((0, 1))
    close(stats.crps_empirical(pred, truth), (pred - truth).abs().mean(0) - 0.5 * pairs)
    close(stats.crps_empirical(pred[:1], truth), (pred[0] - truth).abs())
    vectors, outcome = torch.randn(5, 30, 3, dtype=DOUBLE), torch.randn(5, 3, dtype=DOUBLE)
    pairs = (vectors.unsqueeze(1) - vectors.unsqueeze(2)).norm(dim=-1).mean((1, 2))
    expected = (vectors - outcome.unsqueeze(1)).norm(dim=-1).mean(1) - 0.5 * pairs
    for size in (None, 7):
        close(stats.energy_score_empirical(vectors, outcome, size), expected)
    several = stats.energy_score_empirical(vectors, torch.stack([outcome, outcome + 1], 1))
    assert several.shape == (5, 2)
    close(several[:, 0], expected)
    with pytest.raises(ValueError, match="shape of the truth"):
        stats.crps_empirical(pred, truth[:2])
    with pytest.raises(ValueError, match="one size"):
        stats.energy_score_empirical(vectors, outcome[:, :2])
