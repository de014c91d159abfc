"""Offer forecasts of multivariate time series: models, training, predictions and their scores."""

from ember.contrib.forecast.backtesting import backtest
from ember.contrib.forecast.forecaster import Forecaster
from ember.contrib.forecast.hmc_forecaster import HMCForecaster
from ember.contrib.forecast.model import ForecastingModel
from ember.contrib.forecast.scores import eval_crps, eval_mae, eval_rmse

__all__ = [
    "Forecaster",
    "ForecastingModel",
    "HMCForecaster",
    "backtest",
    "eval_crps",
    "eval_mae",
    "eval_rmse",
]
