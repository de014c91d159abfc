"""Offer the networks that transforms take their parameters from; ember.nn offers them too."""

from .auto_reg_nn import AutoRegressiveNN, ConditionalAutoRegressiveNN, MaskedLinear, create_mask
from .dense_nn import ConditionalDenseNN, DenseNN

__all__ = [
    "AutoRegressiveNN",
    "ConditionalAutoRegressiveNN",
    "ConditionalDenseNN",
    "DenseNN",
    "MaskedLinear",
    "create_mask",
]
