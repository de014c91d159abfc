"""Offer packed tensors, whose dims have symbols; re-exports only."""

from ember.poutine.elimination.packing import pack, unpack

__all__ = ["pack", "unpack"]
