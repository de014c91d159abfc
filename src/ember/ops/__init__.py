"""Offer operations that programs use beside the language."""

from ember.ops import contract, gamma_gaussian, gaussian, indexing, jit, packed

__all__ = ["contract", "gamma_gaussian", "gaussian", "indexing", "jit", "packed"]
