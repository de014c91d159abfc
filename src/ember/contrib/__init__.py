"""Offer packages built on the language: Gaussian processes, forecasting and other kinds of models."""

from ember.elsewhere import names_of

__getattr__ = names_of(__name__)
