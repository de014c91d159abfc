"""Write models and guides as torch modules."""

from typing import TYPE_CHECKING

from ember.distributions.networks import (
    AutoRegressiveNN,
    ConditionalAutoRegressiveNN,
    ConditionalDenseNN,
    DenseNN,
    MaskedLinear,
    create_mask,
)
from ember.elsewhere import names_of
from ember.nn.attributes import PyroParam, PyroSample
from ember.nn.convert import PyroModuleList, clear, to_pyro_module_
from ember.nn.module import PyroModule, pyro_method

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "AutoRegressiveNN",
    "ConditionalAutoRegressiveNN",
    "ConditionalDenseNN",
    "DenseNN",
    "MaskedLinear",
    "PyroModule",
    "PyroModuleList",
    "PyroParam",
    "PyroSample",
    "clear",
    "create_mask",
    "pyro_method",
    "to_pyro_module_",
]
