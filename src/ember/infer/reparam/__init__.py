"""Offer reparameterisers; re-exports only."""

from typing import TYPE_CHECKING

from ember.elsewhere import names_of
from ember.guides.reparam.conjugate import ConjugateReparam
from ember.guides.reparam.gumbel_softmax import GumbelSoftmaxReparam
from ember.guides.reparam.linear_hmm import LinearHMMReparam
from ember.guides.reparam.loc_scale import LocScaleReparam
from ember.guides.reparam.neutra import NeuTraReparam
from ember.guides.reparam.projected_normal import ProjectedNormalReparam
from ember.guides.reparam.reparam import Reparam
from ember.guides.reparam.split import SplitReparam
from ember.guides.reparam.stable import LatentStableReparam, StableReparam, SymmetricStableReparam
from ember.guides.reparam.strategies import AutoReparam, MinimalReparam, Strategy
from ember.guides.reparam.structured import StructuredReparam
from ember.guides.reparam.student_t import StudentTReparam
from ember.guides.reparam.transform import TransformReparam
from ember.guides.reparam.unit_jacobian import DiscreteCosineReparam, HaarReparam, UnitJacobianReparam

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "AutoReparam",
    "ConjugateReparam",
    "DiscreteCosineReparam",
    "GumbelSoftmaxReparam",
    "HaarReparam",
    "LatentStableReparam",
    "LinearHMMReparam",
    "LocScaleReparam",
    "MinimalReparam",
    "NeuTraReparam",
    "ProjectedNormalReparam",
    "Reparam",
    "SplitReparam",
    "StableReparam",
    "Strategy",
    "StructuredReparam",
    "StudentTReparam",
    "SymmetricStableReparam",
    "TransformReparam",
    "UnitJacobianReparam",
]
