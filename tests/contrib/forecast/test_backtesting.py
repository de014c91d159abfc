"""Check the windows of backtests, and scores."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember.contrib.forecast import ForecastingModel, backtest, eval_crps, eval_mae, eval_rmse


class Constant:
    """A forecaster that says zero, and notes its windows."""

    calls = []  # noqa: RUF012

    def __init__(self, model, data, covariates, **options):
        assert len(data) == len(covariates)
        Constant.calls.append((model, data[0].item(), len(data), options))

    def __call__(self, data, covariates, num_samples, batch_size=None):
        return torch.zeros(num_samples, len(covariates) - len(data), 1)


def windows(**options):
    Constant.calls.clear()
    series = torch.arange(10.0)[:, None]
    return backtest(
        series, torch.zeros(10, 0), lambda: "model", forecaster_fn=Constant, num_samples=3, **options
    )


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"train_window": 4, "test_window": 2, "stride": 2}, [(0, 4, 6), (2, 6, 8), (4, 8, 10)]),
        ({"min_train_window": 3, "test_window": 2, "stride": 3}, [(0, 3, 5), (0, 6, 8)]),
        ({"min_train_window": 5, "min_test_window": 2, "stride": 2}, [(0, 5, 10), (0, 7, 10)]),
    ],
)
def test_windows(options, expected):
    results = windows(**options)
    assert [(each["t0"], each["t1"], each["t2"]) for each in results] == expected
    assert [(start, size) for _, start, size, _ in Constant.calls] == [(a, b - a) for a, b, _ in expected]
    for each in results:
        truth = torch.arange(float(each["t1"]), each["t2"])
        assert each["mae"] == pytest.approx(truth.mean().item()) == each["crps"]
        assert each["rmse"] == pytest.approx(truth.square().mean().sqrt().item())
        assert each["num_samples"] == 3 and each["train_walltime"] >= 0 and each["params"] == {}


def test_options_and_transforms():
    results = windows(
        train_window=8,
        test_window=2,
        forecaster_options=lambda: {"speed": 3},
        transform=lambda pred, truth: (pred[..., :1, :], truth[..., :1, :]),
        metrics={"size": lambda pred, truth: float(pred[0].numel())},
    )
    assert Constant.calls[0][3] == {"speed": 3} and results[0]["size"] == 1.0 and "mae" not in results[0]
    with pytest.raises(ValueError, match="not positive"):
        windows(stride=0)


def test_scores():
    pred, truth = torch.tensor([[1.0, 2.0], [2.0, 3.0], [6.0, 7.0]]), torch.tensor([1.0, 1.0])
    assert eval_mae(pred, truth) == 1.5
    assert eval_rmse(pred, truth) == pytest.approx(((2.0**2 + 3.0**2) / 2) ** 0.5)
    spread = (pred[:, None] - pred).abs().mean((0, 1)) / 2
    assert eval_crps(pred, truth) == pytest.approx(((pred - truth).abs().mean(0) - spread).mean().item())


def test_a_real_forecaster_is_trained_anew_in_each_window():
    class Level(ForecastingModel):
        def model(self, zero_data, covariates):
            level = ember.sample("level", dist.Normal(torch.zeros(1), 10.0).to_event(1))
            self.predict(dist.Normal(0.0, 0.5), level + torch.zeros_like(zero_data))

    data = torch.randn(12, 1) + 3.0
    options = {"num_steps": 200, "learning_rate": 0.1, "log_every": 0}
    first, second = backtest(
        data, torch.zeros(12, 0), Level, min_train_window=8, stride=2, forecaster_options=options
    )
    assert first["t1"] == 8 and second["t1"] == 10
    assert first["mae"] < 1.5 and len(first["params"]) == 2
    ember.clear_param_store()
