"""Offer operations that programs use beside the language."""

from ember.ops import contract, indexing, jit, packed

__all__ = ["contract", "indexing", "jit", "packed"]
