"""Offer the summation of variables out of plated factor graphs; re-exports only."""

from ember.poutine.contraction import contraction_path, log_max, sum_out
from ember.poutine.elimination import eliminate, total
from ember.poutine.factors import Factor, Variable, log_sum_exp

__all__ = [
    "Factor",
    "Variable",
    "contraction_path",
    "eliminate",
    "log_max",
    "log_sum_exp",
    "sum_out",
    "total",
]
