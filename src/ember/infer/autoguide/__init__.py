"""Offer automatic guides and strategies for starting values; re-exports only."""

from typing import TYPE_CHECKING

from ember.elsewhere import names_of
from ember.guides.base import AutoGuide
from ember.guides.continuous import (
    AutoContinuous,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)
from ember.guides.delta import AutoDelta
from ember.guides.discrete import AutoDiscreteParallel
from ember.guides.entropy import mean_field_entropy
from ember.guides.flow import AutoIAFNormal, AutoNormalizingFlow
from ember.guides.gaussian import AutoGaussian
from ember.guides.laplace import AutoLaplaceApproximation
from ember.guides.messenger import AutoMessenger
from ember.guides.normal import AutoNormal
from ember.guides.normal_messenger import (
    AutoHierarchicalNormalMessenger,
    AutoNormalMessenger,
    AutoRegressiveMessenger,
)
from ember.guides.parts import AutoCallable, AutoGuideList
from ember.guides.structured import AutoStructured
from ember.model.initialisation import (
    InitMessenger,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "AutoCallable",
    "AutoContinuous",
    "AutoDelta",
    "AutoDiagonalNormal",
    "AutoDiscreteParallel",
    "AutoGaussian",
    "AutoGuide",
    "AutoGuideList",
    "AutoHierarchicalNormalMessenger",
    "AutoIAFNormal",
    "AutoLaplaceApproximation",
    "AutoLowRankMultivariateNormal",
    "AutoMessenger",
    "AutoMultivariateNormal",
    "AutoNormal",
    "AutoNormalMessenger",
    "AutoNormalizingFlow",
    "AutoRegressiveMessenger",
    "AutoStructured",
    "InitMessenger",
    "init_to_feasible",
    "init_to_generated",
    "init_to_mean",
    "init_to_median",
    "init_to_sample",
    "init_to_uniform",
    "init_to_value",
    "mean_field_entropy",
]
