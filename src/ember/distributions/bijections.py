"""Register the transforms that reach every constraint, for ``biject_to`` and ``transform_to``.

``biject_to`` gives bijections from vectors, with a log determinant, also where torch has none: for
triangular, positive definite and unit triangular matrices. ``transform_to`` keeps torch's matrix forms.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions.constraint_registry import biject_to, transform_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import (
    ComposeTransform,
    ExpTransform,
    LowerCholeskyTransform,
    SigmoidTransform,
    SoftplusTransform,
    Transform,
)

from . import constraints
from .scaling import is_identically_one, is_identically_zero
from .transforms.elementwise import AffineTransform, ExtendedIntervalTransform
from .transforms.matrices import (
    CholeskyTransform,
    CorrCholeskyTransform,
    CorrMatrixCholeskyTransform,
    SoftplusLowerCholeskyTransform,
    UnitLowerCholeskyTransform,
    VectorToLowerCholeskyTransform,
    VectorToUnitLowerCholeskyTransform,
)
from .transforms.vectors import Normalize, OrderedTransform, StackTransform

__all__ = ["biject_to", "transform_to"]


@biject_to.register(constraints.greater_than)
@biject_to.register(constraints.greater_than_eq)
@transform_to.register(constraints.greater_than)
@transform_to.register(constraints.greater_than_eq)
def _greater_than(constraint: Any) -> Transform:
    if is_identically_zero(constraint.lower_bound):
        return ExpTransform()
    return ComposeTransform([ExpTransform(), AffineTransform(constraint.lower_bound, 1)])


@biject_to.register(constraints.less_than)
@transform_to.register(constraints.less_than)
def _less_than(constraint: Any) -> Transform:
    return ComposeTransform([ExpTransform(), AffineTransform(constraint.upper_bound, -1)])


@biject_to.register(constraints.interval)
@biject_to.register(constraints.half_open_interval)
@transform_to.register(constraints.interval)
@transform_to.register(constraints.half_open_interval)
def _interval(constraint: Any) -> Transform:
    low, high = constraint.lower_bound, constraint.upper_bound
    if is_identically_zero(low) and is_identically_one(high):
        return SigmoidTransform()
    return ComposeTransform([SigmoidTransform(), AffineTransform(low, high - low)])


@biject_to.register(constraints.corr_cholesky)
@transform_to.register(constraints.corr_cholesky)
def _corr_cholesky(constraint: Any) -> Transform:
    return CorrCholeskyTransform()


@biject_to.register(constraints.corr_matrix)
@transform_to.register(constraints.corr_matrix)
def _corr_matrix(constraint: Any) -> Transform:
    return ComposeTransform([CorrCholeskyTransform(), CorrMatrixCholeskyTransform().inv])


@biject_to.register(constraints.ordered_vector)
@transform_to.register(constraints.ordered_vector)
def _ordered_vector(constraint: Any) -> Transform:
    return OrderedTransform()


@biject_to.register(constraints.positive_ordered_vector)
@transform_to.register(constraints.positive_ordered_vector)
def _positive_ordered_vector(constraint: Any) -> Transform:
    return ComposeTransform([OrderedTransform(), ExpTransform()])


@biject_to.register(constraints.softplus_positive)
@transform_to.register(constraints.softplus_positive)
def _softplus_positive(constraint: Any) -> Transform:
    return SoftplusTransform()


@biject_to.register(constraints.stack)
def _biject_to_stack(constraint: Any) -> Transform:
    return StackTransform([biject_to(each) for each in constraint.cseq], constraint.dim)


@transform_to.register(constraints.stack)
def _transform_to_stack(constraint: Any) -> Transform:
    return StackTransform([transform_to(each) for each in constraint.cseq], constraint.dim)


@biject_to.register(constraints.MixtureSameFamilyConstraint)
def _biject_to_mixture(constraint: Any) -> Transform:
    """Return the components' bijection, where they have one support."""
    if _varies(constraint.base_constraint):
        raise NotImplementedError("the components of the mixture may have different supports")
    return biject_to(constraint.base_constraint)


def _varies(constraint: Any) -> bool:
    """Whether a constraint has bounds by element."""
    return any(
        (isinstance(each, Tensor) and each.numel() > 1) or (isinstance(each, Constraint) and _varies(each))
        for each in vars(constraint).values()
    )


@transform_to.register(constraints.MixtureSameFamilyConstraint)
def _transform_to_mixture(constraint: Any) -> Transform:
    return _biject_to_mixture(constraint)


@biject_to.register(constraints.extended_interval)
@transform_to.register(constraints.extended_interval)
def _extended_interval(constraint: Any) -> Transform:
    return ExtendedIntervalTransform(constraint.lower_bound, constraint.upper_bound)


@transform_to.register(constraints.sphere)
def _sphere(constraint: Any) -> Transform:
    return Normalize()


@biject_to.register(constraints.lower_cholesky)
def _biject_to_lower_cholesky(constraint: Any) -> Transform:
    return VectorToLowerCholeskyTransform()


@biject_to.register(constraints.softplus_lower_cholesky)
def _biject_to_softplus_lower_cholesky(constraint: Any) -> Transform:
    return VectorToLowerCholeskyTransform("softplus")


@transform_to.register(constraints.softplus_lower_cholesky)
def _softplus_lower_cholesky(constraint: Any) -> Transform:
    return SoftplusLowerCholeskyTransform()


@biject_to.register(constraints.unit_lower_cholesky)
def _biject_to_unit_lower_cholesky(constraint: Any) -> Transform:
    return VectorToUnitLowerCholeskyTransform()


@transform_to.register(constraints.unit_lower_cholesky)
def _unit_lower_cholesky(constraint: Any) -> Transform:
    return UnitLowerCholeskyTransform()


@biject_to.register(constraints.positive_definite)
@biject_to.register(constraints.positive_semidefinite)
def _biject_to_positive_definite(constraint: Any) -> Transform:
    return ComposeTransform([VectorToLowerCholeskyTransform(), CholeskyTransform().inv])


@transform_to.register(constraints.positive_definite)
@transform_to.register(constraints.positive_semidefinite)
def _positive_definite(constraint: Any) -> Transform:
    return ComposeTransform([LowerCholeskyTransform(), CholeskyTransform().inv])
