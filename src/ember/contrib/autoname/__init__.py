"""Offer names that programs need not invent: scopes, counters, and objects that name what they hold."""

from ember.contrib.autoname import named, scoping
from ember.contrib.autoname.frames import autoname, sample
from ember.contrib.autoname.scoping import name_count, scope

__all__ = ["autoname", "name_count", "named", "sample", "scope", "scoping"]
