"""Offer operations that programs use beside the language."""

from ember.ops import (
    arrowhead,
    contract,
    dual_averaging,
    gamma_gaussian,
    gaussian,
    hessian,
    indexing,
    integrator,
    jit,
    linalg,
    packed,
    provenance,
    special,
    stats,
    streaming,
    welford,
)
from ember.ops import tensors as tensor_utils

__all__ = [
    "arrowhead",
    "contract",
    "dual_averaging",
    "gamma_gaussian",
    "gaussian",
    "hessian",
    "indexing",
    "integrator",
    "jit",
    "linalg",
    "packed",
    "provenance",
    "special",
    "stats",
    "streaming",
    "tensor_utils",
    "welford",
]
