"""Offer torch's constraints and ember's own under one name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraint_registry import ConstraintRegistry, biject_to, transform_to
from torch.distributions.constraints import *  # noqa: F403
from torch.distributions.constraints import (
    Constraint,
    MixtureSameFamilyConstraint,
    corr_cholesky,
    independent,
    is_dependent,
    lower_cholesky,
    lower_triangular,
    positive,
    real,
    symmetric,
)


class _Integer(Constraint):
    """Hold whole numbers, of either sign."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return value % 1 == 0


class _Sphere(Constraint):
    """Hold vectors of unit length along the last dim."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        tolerance = 10.0 * torch.finfo(value.dtype).eps * value.shape[-1] ** 0.5
        return (value.norm(dim=-1) - 1.0).abs() < tolerance


class _CorrMatrix(Constraint):
    """Hold positive definite matrices with a unit diagonal."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        tolerance = 10.0 * value.shape[-1] * torch.finfo(value.dtype).eps
        unit = ((value.diagonal(dim1=-2, dim2=-1) - 1.0).abs() < tolerance).all(-1)
        return unit & symmetric.check(value) & torch.linalg.cholesky_ex(value).info.eq(0)


class _OrderedVector(Constraint):
    """Hold vectors that increase strictly along the last dim."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        known = (value == value).all(-1)
        return known & (value[..., 1:] > value[..., :-1]).all(-1)


class _PositiveOrderedVector(Constraint):
    """Hold positive vectors that increase strictly along the last dim."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return ordered_vector.check(value) & (value > 0).all(-1)


class _SoftplusPositive(type(positive)):  # type: ignore[misc]
    """Hold positive numbers that are reached through softplus instead of exp."""

    def __init__(self) -> None:
        super().__init__(lower_bound=0.0)


class _SoftplusLowerCholesky(type(lower_cholesky)):  # type: ignore[misc]
    """Hold lower triangular matrices whose positive diagonal is reached through softplus."""


class _UnitLowerCholesky(Constraint):
    """Hold lower triangular matrices with a unit diagonal."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        return lower_triangular.check(value) & (value.diagonal(dim1=-2, dim2=-1) == 1).all(-1)


class _ExtendedInterval(type(torch.distributions.constraints.unit_interval)):  # type: ignore[misc]
    """Hold numbers between bounds of which some may be infinite; which ones may differ by entry."""


integer = _Integer()
extended_interval = _ExtendedInterval
sphere = _Sphere()
corr_matrix = _CorrMatrix()
ordered_vector = _OrderedVector()
positive_ordered_vector = _PositiveOrderedVector()
softplus_positive = _SoftplusPositive()
softplus_lower_cholesky = _SoftplusLowerCholesky()
unit_lower_cholesky = _UnitLowerCholesky()
corr_cholesky_constraint = corr_cholesky


def __getattr__(name: str) -> Any:
    """Look up what torch adds to its constraints without naming it in ``__all__``."""
    return getattr(torch.distributions.constraints, name)


__all__ = [
    *torch.distributions.constraints.__all__,
    "ConstraintRegistry",
    "MixtureSameFamilyConstraint",
    "biject_to",
    "corr_cholesky_constraint",
    "corr_matrix",
    "extended_interval",
    "independent",
    "integer",
    "is_dependent",
    "ordered_vector",
    "positive_ordered_vector",
    "real",
    "softplus_lower_cholesky",
    "softplus_positive",
    "sphere",
    "transform_to",
    "unit_lower_cholesky",
]
