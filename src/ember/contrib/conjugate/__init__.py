"""Offer models whose conjugate latents are summed out, and drawn again afterwards."""

from ember.contrib.conjugate import infer

__all__ = ["infer"]
