"""Offer the summation of variables out of plated factor graphs; re-exports only."""

from ember.poutine.elimination import contraction_path, eliminate, log_max, sum_out, total
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
