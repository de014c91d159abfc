"""Offer Pyro's module paths: ``install()`` makes ``import pyro`` find ember's own objects."""

from ember.compat.finder import install, uninstall

__all__ = ["install", "uninstall"]
