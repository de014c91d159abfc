"""Offer torch's transforms and ember's own under one name."""

from __future__ import annotations

from torch.distributions.transforms import *  # noqa: F403
from torch.distributions.constraint_registry import biject_to, transform_to  # noqa: F401
