"""Offer the algebra of Gaussian densities; re-exports only."""

from ember.distributions.gaussian_algebra import (
    AffineNormal,
    Gaussian,
    gaussian_tensordot,
    matrix_and_gaussian_to_gaussian,
    matrix_and_mvn_to_gaussian,
    mvn_to_gaussian,
    sequential_gaussian_filter_sample,
    sequential_gaussian_tensordot,
)

__all__ = [
    "AffineNormal",
    "Gaussian",
    "gaussian_tensordot",
    "matrix_and_gaussian_to_gaussian",
    "matrix_and_mvn_to_gaussian",
    "mvn_to_gaussian",
    "sequential_gaussian_filter_sample",
    "sequential_gaussian_tensordot",
]
