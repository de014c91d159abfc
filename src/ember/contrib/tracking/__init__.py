"""Offer the tracking of objects: which detection is whose, filters of their motion, and hashing."""

from ember.contrib.tracking import (
    assignment,
    distributions,
    dynamic_models,
    extended_kalman_filter,
    hashing,
    measurements,
)

__all__ = [
    "assignment",
    "distributions",
    "dynamic_models",
    "extended_kalman_filter",
    "hashing",
    "measurements",
]
