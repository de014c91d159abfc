"""Join and split the names of parameters that belong to modules: ``MODULE$$$PARAM``."""

from __future__ import annotations

_MODULE_NAMESPACE_DIVIDER = "$$$"


def param_with_module_name(module_name: str, param_name: str) -> str:
    """Join a module's and a parameter's name.

    >>> param_with_module_name("net", "weight")
    'net$$$weight'
    """
    return module_name + _MODULE_NAMESPACE_DIVIDER + param_name


def module_from_param_with_module_name(param_name: str) -> str:
    """Return the module's part of a parameter name (the whole name if it has none)."""
    return param_name.split(_MODULE_NAMESPACE_DIVIDER)[0]


def user_param_name(param_name: str) -> str:
    """Return the parameter's part of a parameter name (the whole name if it has no module's)."""
    return param_name.split(_MODULE_NAMESPACE_DIVIDER)[-1]


def normalize_param_name(name: str) -> str:
    """Replace the divider by a dot."""
    return name.replace(_MODULE_NAMESPACE_DIVIDER, ".")
