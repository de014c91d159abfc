"""Offer operations that programs use beside the language."""

from typing import TYPE_CHECKING

from ember.elsewhere import names_of
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

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

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
