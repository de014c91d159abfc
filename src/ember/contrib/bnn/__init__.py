"""Offer layers of Bayesian neural networks."""

from ember.contrib.bnn.hidden_layer import HiddenLayer

__all__ = ["HiddenLayer"]
