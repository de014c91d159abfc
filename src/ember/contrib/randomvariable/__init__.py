"""Offer arithmetic on random variables: ``(2 * Normal(0, 1).rv + 1).exp().dist``."""

from ember.contrib.randomvariable.random_variable import RandomVariable

__all__ = ["RandomVariable"]
