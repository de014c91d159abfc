"""Train and test a forecasting model on moving windows of a series."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ember import clear_param_store, get_param_store, set_rng_seed
from ember.contrib.forecast.forecaster import Forecaster, check_training
from ember.contrib.forecast.scores import eval_crps, eval_mae, eval_rmse
from ember.errors import message

Metric = Callable[[Tensor, Tensor], float]
DEFAULT_METRICS: dict[str, Metric] = {"mae": eval_mae, "rmse": eval_rmse, "crps": eval_crps}


def backtest(
    data: Tensor,
    covariates: Tensor,
    model_fn: Callable[[], Any],
    *,
    forecaster_fn: Callable[..., Any] = Forecaster,
    metrics: dict[str, Metric] | None = None,
    transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    train_window: int | None = None,
    min_train_window: int = 1,
    test_window: int | None = None,
    min_test_window: int = 1,
    stride: int = 1,
    seed: int = 1234567890,
    num_samples: int = 100,
    batch_size: int | None = None,
    forecaster_options: dict[str, Any] | Callable[[], dict[str, Any]] = {},  # noqa: B006  # never changed
) -> list[dict[str, Any]]:
    """Train a forecaster on [t0, t1) and score its forecasts on [t1, t2), for all windows of a series.

    :param data: ``(..., T, obs_dim)``.
    :param covariates: ``(..., T, features)``.
    :param model_fn: makes a model.
    :param forecaster_fn: trains it, such as Forecaster or HMCForecaster.
    :param metrics: functions of draws and truth by name, by default MAE, RMSE and CRPS.
    :param transform: applied to draws and truth before they are scored.
    :param train_window: duration of the training, by default all that is past.
    :param min_train_window: shortest training, where it has no fixed duration.
    :param test_window: duration of the test, by default all that is left.
    :param min_test_window: shortest test, where it has no fixed duration.
    :param stride: distance between the ends of trainings.
    :param seed: set anew for each window.
    :param num_samples: number of draws of each forecast.
    :param batch_size: number of draws made at a time.
    :param forecaster_options: keywords of ``forecaster_fn``, or a function that makes them. With
        ``warm_start`` a window begins at the parameters of the one before.
    :return: for each window a dict of t0, t1, t2, seed, num_samples, the times of training and test in
        seconds, scalar parameters, and the metrics.
    :raises ValueError: if data and covariates are not of one duration, or a window is not positive.
    """
    check_training(data, covariates)
    windows = (train_window or min_train_window, test_window or min_test_window, stride)
    if any(each < 1 for each in windows):
        raise ValueError(
            message("A window or stride of a backtest is not positive.", expected=">= 1", actual=windows)
        )
    metrics = DEFAULT_METRICS if metrics is None else metrics
    duration = data.shape[-2]
    results = []
    for t1 in range(windows[0], duration - windows[1] + 1, stride):
        t0 = 0 if train_window is None else t1 - train_window
        t2 = duration if test_window is None else t1 + test_window
        options = forecaster_options() if callable(forecaster_options) else forecaster_options
        set_rng_seed(seed)
        if not options.get("warm_start"):
            clear_param_store()
        train = data[..., t0:t1, :]
        started = time.perf_counter()
        forecaster = forecaster_fn(model_fn(), train, covariates[..., t0:t1, :], **options)
        trained = time.perf_counter()
        pred = forecaster(train, covariates[..., t0:t2, :], num_samples=num_samples, batch_size=batch_size)
        tested = time.perf_counter()
        truth = data[..., t1:t2, :]
        if transform is not None:
            pred, truth = transform(pred, truth)
        results.append(
            {
                "t0": t0,
                "t1": t1,
                "t2": t2,
                "seed": seed,
                "num_samples": num_samples,
                "train_walltime": trained - started,
                "test_walltime": tested - trained,
                "params": {
                    name: value.detach().cpu().item()
                    for name, value in get_param_store().items()
                    if value.numel() == 1
                },
                **{name: metric(pred, truth) for name, metric in metrics.items()},
            }
        )
    return results
