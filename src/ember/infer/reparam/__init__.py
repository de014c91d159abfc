"""Offer reparameterisers; re-exports only."""

from ember.guides.reparam.loc_scale import LocScaleReparam
from ember.guides.reparam.reparam import Reparam
from ember.guides.reparam.transform import TransformReparam

__all__ = ["LocScaleReparam", "Reparam", "TransformReparam"]
