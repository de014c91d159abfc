"""Offer torch's constraints and ember's own under one name."""

from __future__ import annotations

from torch.distributions.constraints import *  # noqa: F403
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint  # noqa: F401
from torch.distributions.constraint_registry import ConstraintRegistry, biject_to, transform_to  # noqa: F401
