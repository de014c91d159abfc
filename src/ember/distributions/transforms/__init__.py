"""Offer torch's transforms and ember's own under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.distributions.constraint_registry import biject_to, transform_to
from torch.distributions.transforms import *  # noqa: F403
from torch.distributions.transforms import SoftplusTransform
from torch.distributions.transforms import __all__ as _torch_names

from ember.elsewhere import names_of

from . import inverses  # noqa: F401
from .autoregressive import (
    AffineAutoregressive,
    ConditionalAffineAutoregressive,
    ConditionalNeuralAutoregressive,
    ConditionalSplineAutoregressive,
    NeuralAutoregressive,
    Polynomial,
    SplineAutoregressive,
)
from .batch_norm import BatchNorm
from .block_autoregressive import BlockAutoregressive
from .builders import (
    affine_autoregressive,
    affine_coupling,
    batchnorm,
    block_autoregressive,
    elu,
    generalized_channel_permute,
    householder,
    leaky_relu,
    matrix_exponential,
    neural_autoregressive,
    permute,
    planar,
    polynomial,
    radial,
    spline,
    spline_autoregressive,
    spline_coupling,
    sylvester,
    tanh,
)
from .conditional_builders import (
    conditional_affine_autoregressive,
    conditional_affine_coupling,
    conditional_generalized_channel_permute,
    conditional_householder,
    conditional_matrix_exponential,
    conditional_neural_autoregressive,
    conditional_planar,
    conditional_radial,
    conditional_spline,
    conditional_spline_autoregressive,
)
from .coupling import AffineCoupling, ConditionalAffineCoupling, SplineCoupling
from .elementwise import (
    AffineTransform,
    ELUTransform,
    ExtendedIntervalTransform,
    LeakyReLUTransform,
    PositivePowerTransform,
)
from .linear import (
    ConditionalGeneralizedChannelPermute,
    ConditionalMatrixExponential,
    GeneralizedChannelPermute,
    MatrixExponential,
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
from .modules import (
    ComposeTransformModule,
    ConditionalComposeTransformModule,
    ConditionalTransform,
    ConditionalTransformModule,
    ConstantConditionalTransform,
    TransformModule,
    iterated,
)
from .orthogonal import DiscreteCosineTransform, HaarTransform, Permute
from .reflections import ConditionalHouseholder, Householder
from .residual import ConditionalPlanar, ConditionalRadial, Planar, Radial, Sylvester
from .splines import ConditionalSpline, RationalLinear, Spline
from .vectors import Normalize, OrderedTransform, SimplexToOrderedTransform, StackTransform

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    *(
        name
        for name in _torch_names
        if name not in ("AffineTransform", "CorrCholeskyTransform", "SoftplusTransform", "StackTransform")
    ),
    "AffineAutoregressive",
    "AffineCoupling",
    "AffineTransform",
    "BatchNorm",
    "BlockAutoregressive",
    "CholeskyTransform",
    "ComposeTransformModule",
    "ConditionalAffineAutoregressive",
    "ConditionalAffineCoupling",
    "ConditionalComposeTransformModule",
    "ConditionalGeneralizedChannelPermute",
    "ConditionalHouseholder",
    "ConditionalMatrixExponential",
    "ConditionalNeuralAutoregressive",
    "ConditionalPlanar",
    "ConditionalRadial",
    "ConditionalSpline",
    "ConditionalSplineAutoregressive",
    "ConditionalTransform",
    "ConditionalTransformModule",
    "ConstantConditionalTransform",
    "CorrCholeskyTransform",
    "CorrMatrixCholeskyTransform",
    "DiscreteCosineTransform",
    "ELUTransform",
    "ExtendedIntervalTransform",
    "GeneralizedChannelPermute",
    "HaarTransform",
    "Householder",
    "LeakyReLUTransform",
    "LowerCholeskyAffine",
    "MatrixExponential",
    "NeuralAutoregressive",
    "Normalize",
    "OrderedTransform",
    "Permute",
    "Planar",
    "Polynomial",
    "PositivePowerTransform",
    "Radial",
    "RationalLinear",
    "SimplexToOrderedTransform",
    "SoftplusLowerCholeskyTransform",
    "SoftplusTransform",
    "Spline",
    "SplineAutoregressive",
    "SplineCoupling",
    "StackTransform",
    "Sylvester",
    "TransformModule",
    "UnitLowerCholeskyTransform",
    "VectorToLowerCholeskyTransform",
    "affine_autoregressive",
    "affine_coupling",
    "batchnorm",
    "biject_to",
    "block_autoregressive",
    "conditional_affine_autoregressive",
    "conditional_affine_coupling",
    "conditional_generalized_channel_permute",
    "conditional_householder",
    "conditional_matrix_exponential",
    "conditional_neural_autoregressive",
    "conditional_planar",
    "conditional_radial",
    "conditional_spline",
    "conditional_spline_autoregressive",
    "elu",
    "generalized_channel_permute",
    "householder",
    "iterated",
    "leaky_relu",
    "matrix_exponential",
    "neural_autoregressive",
    "permute",
    "planar",
    "polynomial",
    "radial",
    "spline",
    "spline_autoregressive",
    "spline_coupling",
    "sylvester",
    "tanh",
    "transform_to",
]
