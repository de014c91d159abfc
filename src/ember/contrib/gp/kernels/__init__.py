"""Offer covariance functions of Gaussian processes, and ways to combine them."""

from ember.contrib.gp.kernels.brownian import Brownian
from ember.contrib.gp.kernels.combinations import Combination, Product, Sum
from ember.contrib.gp.kernels.coregionalize import Coregionalize
from ember.contrib.gp.kernels.dot_product import DotProduct, Linear, Polynomial
from ember.contrib.gp.kernels.isotropic import (
    RBF,
    Cosine,
    Exponential,
    Isotropy,
    Matern32,
    Matern52,
    RationalQuadratic,
)
from ember.contrib.gp.kernels.kernel import Kernel
from ember.contrib.gp.kernels.periodic import Periodic
from ember.contrib.gp.kernels.static import Constant, WhiteNoise
from ember.contrib.gp.kernels.transformed import Exponent, Transforming, VerticalScaling, Warping

__all__ = [
    "Brownian",
    "Combination",
    "Constant",
    "Coregionalize",
    "Cosine",
    "DotProduct",
    "Exponent",
    "Exponential",
    "Isotropy",
    "Kernel",
    "Linear",
    "Matern32",
    "Matern52",
    "Periodic",
    "Polynomial",
    "Product",
    "RBF",
    "RationalQuadratic",
    "Sum",
    "Transforming",
    "VerticalScaling",
    "Warping",
    "WhiteNoise",
]
