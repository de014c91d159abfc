"""Turn plain torch modules into PyroModules in place, and take modules out of the store."""

from __future__ import annotations

from torch import nn

from ember.nn.containers import RegistersChildren
from ember.nn.module import PyroModule, _reset_state, mixed_class
from ember.params import get_param_store


class PyroModuleList(RegistersChildren, nn.ModuleList, PyroModule):
    """A list of PyroModules, named by their places."""


def to_pyro_module_(m: nn.Module, recurse: bool = True) -> None:
    """Convert a torch module to a PyroModule, in place.

    :param recurse: convert all submodules too.
    :raises TypeError: if ``m`` is not a module instance.
    """
    if not isinstance(m, nn.Module):
        raise TypeError(f"to_pyro_module_ takes an instance of torch.nn.Module, got {m!r}")
    if not isinstance(m, PyroModule):
        m.__class__ = mixed_class(type(m))  # type: ignore[arg-type]  # mypy doubts that classes are hashable
        _reset_state(m)
    for name, child in list(m._modules.items()):
        if child is None:
            continue
        if recurse:
            to_pyro_module_(child)
        m.add_module(name, child)


def clear(mod: PyroModule) -> None:
    """Remove the parameters, priors and submodules of a PyroModule, from it and from the store.

    :raises TypeError: if ``mod`` is not a PyroModule.
    """
    if not isinstance(mod, PyroModule):
        raise TypeError(f"clear takes a PyroModule, got {mod!r}")
    for name, child in list(mod._modules.items()):
        if isinstance(child, PyroModule):
            clear(child)
        elif child is not None:
            for key, _ in child.named_parameters():
                get_param_store().discard(f"{mod._pyro_get_fullname(name)}$$${key}")
    for name in dict.fromkeys([*mod._pyro_params, *mod._pyro_samples, *mod._parameters, *mod._modules]):
        mod._pyro_forget(name)
