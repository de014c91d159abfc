"""Offer torch's transforms and ember's own under one name."""

from __future__ import annotations

from torch.distributions.constraint_registry import biject_to, transform_to
from torch.distributions.transforms import *  # noqa: F403
from torch.distributions.transforms import SoftplusTransform
from torch.distributions.transforms import __all__ as _torch_names

from .autoregressive import AffineAutoregressive, ComposeTransformModule, TransformModule, iterated
from .elementwise import (
    AffineTransform,
    ELUTransform,
    ExtendedIntervalTransform,
    LeakyReLUTransform,
    PositivePowerTransform,
)
from .matrices import (
    CholeskyTransform,
    CorrCholeskyTransform,
    CorrMatrixCholeskyTransform,
    LowerCholeskyAffine,
    SoftplusLowerCholeskyTransform,
    UnitLowerCholeskyTransform,
    VectorToLowerCholeskyTransform,
)
from .orthogonal import DiscreteCosineTransform, HaarTransform, Permute
from .vectors import Normalize, OrderedTransform, SimplexToOrderedTransform, StackTransform

__all__ = [
    *(
        name
        for name in _torch_names
        if name not in ("AffineTransform", "CorrCholeskyTransform", "SoftplusTransform", "StackTransform")
    ),
    "AffineAutoregressive",
    "AffineTransform",
    "CholeskyTransform",
    "ComposeTransformModule",
    "CorrCholeskyTransform",
    "CorrMatrixCholeskyTransform",
    "DiscreteCosineTransform",
    "ELUTransform",
    "ExtendedIntervalTransform",
    "HaarTransform",
    "LeakyReLUTransform",
    "LowerCholeskyAffine",
    "Normalize",
    "OrderedTransform",
    "Permute",
    "PositivePowerTransform",
    "SimplexToOrderedTransform",
    "SoftplusLowerCholeskyTransform",
    "SoftplusTransform",
    "StackTransform",
    "TransformModule",
    "UnitLowerCholeskyTransform",
    "VectorToLowerCholeskyTransform",
    "biject_to",
    "iterated",
    "transform_to",
]
