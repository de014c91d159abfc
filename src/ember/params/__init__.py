"""Keep learnable parameters by name."""

from typing import TYPE_CHECKING

from ember.elsewhere import names_of
from ember.params.names import (
    module_from_param_with_module_name,
    normalize_param_name,
    param_with_module_name,
    user_param_name,
)
from ember.params.param_store import ParamStoreDict
from ember.params.store import clear_param_store, get_param_store, use_param_store

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "ParamStoreDict",
    "clear_param_store",
    "get_param_store",
    "module_from_param_with_module_name",
    "normalize_param_name",
    "param_with_module_name",
    "use_param_store",
    "user_param_name",
]
