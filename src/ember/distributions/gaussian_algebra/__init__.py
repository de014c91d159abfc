"""Multiply, condition and integrate unnormalised Gaussian densities; re-exports only."""

from .affine_normal import AffineNormal
from .chains import sequential_gaussian_filter_sample, sequential_gaussian_tensordot
from .conversion import (
    matrix_and_gaussian_to_gaussian,
    matrix_and_mvn_to_gaussian,
    mvn_to_gaussian,
)
from .gamma_conversion import (
    gamma_and_mvn_to_gamma_gaussian,
    matrix_and_mvn_to_gamma_gaussian,
    scale_mvn,
)
from .gamma_gaussian import (
    Gamma,
    GammaGaussian,
    gamma_gaussian_tensordot,
    sequential_gamma_gaussian_tensordot,
)
from .gaussian import Gaussian, gaussian_tensordot

__all__ = [
    "AffineNormal",
    "Gamma",
    "GammaGaussian",
    "Gaussian",
    "gamma_and_mvn_to_gamma_gaussian",
    "gamma_gaussian_tensordot",
    "gaussian_tensordot",
    "matrix_and_gaussian_to_gaussian",
    "matrix_and_mvn_to_gamma_gaussian",
    "matrix_and_mvn_to_gaussian",
    "mvn_to_gaussian",
    "scale_mvn",
    "sequential_gamma_gaussian_tensordot",
    "sequential_gaussian_filter_sample",
    "sequential_gaussian_tensordot",
]
