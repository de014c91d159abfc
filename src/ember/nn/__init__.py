"""Write models and guides as torch modules."""

from ember.nn.attributes import PyroParam, PyroSample
from ember.nn.convert import PyroModuleList, clear, to_pyro_module_
from ember.nn.module import PyroModule, pyro_method

__all__ = [
    "PyroModule",
    "PyroModuleList",
    "PyroParam",
    "PyroSample",
    "clear",
    "pyro_method",
    "to_pyro_module_",
]
