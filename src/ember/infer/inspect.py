"""Offer ways to look at a model: what depends on what, and a picture."""

from ember.model.dependencies import get_dependencies
from ember.model.picture import render_model

__all__ = ["get_dependencies", "render_model"]
