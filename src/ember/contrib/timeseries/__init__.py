"""Offer time series models in state space: Gaussian processes and linear systems, by exact filtering."""

from ember.contrib.timeseries.base import TimeSeriesModel
from ember.contrib.timeseries.dependent import DependentMaternGP
from ember.contrib.timeseries.linear_systems import GenericLGSSM, GenericLGSSMWithGPNoiseModel
from ember.contrib.timeseries.matern import IndependentMaternGP, LinearlyCoupledMaternGP

__all__ = [
    "DependentMaternGP",
    "GenericLGSSM",
    "GenericLGSSMWithGPNoiseModel",
    "IndependentMaternGP",
    "LinearlyCoupledMaternGP",
    "TimeSeriesModel",
]
