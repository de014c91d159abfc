"""Offer guides written by hand for groups of the model's sites."""

from ember.contrib.easyguide.easyguide import EasyGuide, Group, easy_guide

__all__ = ["EasyGuide", "Group", "easy_guide"]
