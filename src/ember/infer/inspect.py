"""Offer ways to look at a model: what depends on what, and a picture."""

from ember.model.dependencies import get_dependencies, get_model_relations
from ember.model.picture import render_model

__all__ = ["get_dependencies", "get_model_relations", "render_model"]
