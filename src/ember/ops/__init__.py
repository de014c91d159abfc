"""Offer operations that programs use beside the language."""

from ember.ops import jit

__all__ = ["jit"]
