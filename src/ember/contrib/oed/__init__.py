"""Offer optimal experimental design: estimators of how much an experiment will tell."""

from ember.contrib.oed import eig

__all__ = ["eig"]
