"""Be a torch module whose attributes can be parameters of the store, or random values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from ember import settings
from ember.distributions import constraints
from ember.distributions.constraints import transform_to
from ember.nn.attributes import PyroParam, PyroSample, check_value
from ember.nn.containers import CONTAINERS, RegistersChildren
from ember.nn.context import ModuleContext
from ember.nn.statements import constrain, local_param
from ember.params import get_param_store
from ember.primitives import deterministic, module, param, sample

Method = TypeVar("Method", bound=Callable[..., Any])

_UNCONSTRAINED = "_unconstrained"


class PyroModule(nn.Module):
    """A ``torch.nn.Module`` that takes part in the modelling language.

    While it is called (or a :func:`pyro_method` runs), reading an attribute is a statement of the language,
    under the attribute's full dotted name: ``nn.Parameter`` and :class:`PyroParam` attributes are ``param``
    statements, :class:`PyroSample` attributes are ``sample`` statements (one draw for each call), plain
    submodules are registered like ``module`` does. ``PyroModule[nn.Linear]`` is the class ``nn.Linear`` with
    these abilities.

    With ``settings.set(module_local_params=True)`` parameters stay in the module instead of the global store.

    :param name: name of the root module, a prefix of all names inside.

    >>> import ember, torch
    >>> from ember.distributions import Normal
    >>> linear = PyroModule[torch.nn.Linear](2, 1)
    >>> linear.weight = PyroSample(Normal(0.0, 1.0).expand([1, 2]).to_event(2))
    >>> trace = ember.poutine.trace(linear).get_trace(torch.zeros(2))
    >>> [name for name in trace.nodes if not name.startswith("_")]
    ['weight', 'bias']
    """

    _pyro_name: str
    _pyro_context: ModuleContext
    _pyro_params: dict[str, tuple[Constraint, int | None]]
    _pyro_samples: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> PyroModule:
        # Here rather than in __init__, since classes that this one is mixed into need not call it.
        self = super().__new__(cls)
        _reset_state(self)
        return self

    def __init__(self, name: str = "") -> None:
        self.__dict__["_pyro_name"] = name
        super().__init__()

    def __class_getitem__(cls, module_class: type) -> type:
        return mixed_class(module_class)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._pyro_context:
            return super().__call__(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced = super().__reduce_ex__(max(int(protocol), 2))
        base = type(self).__dict__.get("_pyro_base")
        # The classes that PyroModule[...] makes have no importable name.
        return reduced if base is None else (_new_mixed, (base,), *reduced[2:])

    # -- names ---------------------------------------------------------------------------------------------

    def _pyro_get_fullname(self, name: str) -> str:
        return f"{self._pyro_name}.{name}" if self._pyro_name else name

    def _pyro_join(self, name: str, context: ModuleContext) -> None:
        """Become a submodule: take the full name and context of the place in the tree."""
        self.__dict__["_pyro_name"] = name
        self.__dict__["_pyro_context"] = context
        for key, child in self._modules.items():
            _join(child, self._pyro_get_fullname(key), context)

    # -- writing attributes --------------------------------------------------------------------------------

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a submodule, as containers do."""
        super().add_module(name, module)
        _join(module, self._pyro_get_fullname(name), self._pyro_context)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, PyroParam):
            self._pyro_add_param(name, value)
        elif isinstance(value, PyroSample):
            self._pyro_forget(name)
            self._pyro_samples[name] = value.prior
        elif isinstance(value, nn.Module):
            self._pyro_forget(name)
            super().__setattr__(name, value)
            _join(value, self._pyro_get_fullname(name), self._pyro_context)
        elif isinstance(value, nn.Parameter):
            if name in self._pyro_params or name in self._pyro_samples or name in self._parameters:
                self._pyro_forget(name)
            super().__setattr__(name, value)
        elif isinstance(value, Tensor) and name in self._pyro_params:
            self._pyro_set_value(name, value)
        elif isinstance(value, Tensor) and isinstance(declared := vars(type(self)).get(name), PyroParam):
            self._pyro_add_param(name, PyroParam(value, declared.constraint, declared.event_dim))
        elif isinstance(value, Tensor) and self._parameters.get(name) is not None:
            with torch.no_grad():
                self._parameters[name].copy_(value)  # type: ignore[union-attr]
        else:
            super().__setattr__(name, value)

    def _pyro_add_param(self, name: str, declared: PyroParam) -> None:
        value = declared.init_value
        if callable(value) and not isinstance(value, Tensor):
            value = value()
        with torch.no_grad():
            check_value(self._pyro_get_fullname(name), declared.constraint, value)
            real = declared.constraint is constraints.real
            leaf = value if real else transform_to(declared.constraint).inv(value)
        self._pyro_forget(name)
        self._pyro_params[name] = (declared.constraint, declared.event_dim)
        self.register_parameter(name + _UNCONSTRAINED, nn.Parameter(leaf.detach().clone().contiguous()))

    def _pyro_set_value(self, name: str, value: Tensor) -> None:
        constraint, _ = self._pyro_params[name]
        with torch.no_grad():
            check_value(self._pyro_get_fullname(name), constraint, value)
            leaf = self._pyro_leaf(
                name + _UNCONSTRAINED, self._pyro_get_fullname(name), constraint, adopt=False
            )
            leaf.copy_(transform_to(constraint).inv(value))

    def __delattr__(self, name: str) -> None:
        if name in self._pyro_params or name in self._pyro_samples or name in self._parameters:
            self._pyro_forget(name)
        else:
            super().__delattr__(name)

    def _pyro_forget(self, name: str) -> None:
        """Remove whatever an attribute was, from the store too."""
        if self._pyro_params.pop(name, None) is not None:
            self._parameters.pop(name + _UNCONSTRAINED, None)
            get_param_store().discard(self._pyro_get_fullname(name))
        elif self._parameters.pop(name, None) is not None:
            get_param_store().discard(self._pyro_get_fullname(name))
        self._pyro_samples.pop(name, None)
        self._modules.pop(name, None)
        self.__dict__.pop(name, None)

    # -- reading attributes --------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        if name in state.get("_pyro_params", ()):
            return self._pyro_read_param(name)
        if name in state.get("_pyro_samples", ()):
            return self._pyro_read_sample(name)
        found = super().__getattr__(name)
        if state["_pyro_context"].depth:
            if isinstance(found, nn.Parameter) or name in self._parameters:
                if found is not None and not name.endswith(_UNCONSTRAINED):
                    return self._pyro_statement(name, name, constraints.real, None)
            elif isinstance(found, nn.Module) and not isinstance(found, PyroModule):
                self._pyro_register_plain(name, found)
        return found

    def _pyro_read_param(self, name: str) -> Tensor:
        constraint, event_dim = self._pyro_params[name]
        key = name + _UNCONSTRAINED
        if self._pyro_context.depth:
            return self._pyro_statement(name, key, constraint, event_dim)
        return constrain(self._parameters[key], constraint)

    def _pyro_statement(self, name: str, key: str, constraint: Constraint, event_dim: int | None) -> Tensor:
        """Run the ``param`` statement of an attribute whose leaf is kept under ``key``."""
        fullname = self._pyro_get_fullname(name)
        if settings.read("module_local_params"):
            return local_param(fullname, self._parameters[key], constraint, event_dim)
        self._pyro_leaf(key, fullname, constraint)
        return param(fullname, None, constraint, event_dim)

    def _pyro_leaf(self, key: str, fullname: str, constraint: Constraint, adopt: bool = True) -> Any:
        """Return the leaf of a parameter, the same one here and in the store (which wins)."""
        store = get_param_store()
        own: Any = self._parameters[key]
        stored = store.leaf(fullname)
        if stored is own:
            return own
        if stored is not None:
            self._parameters[key] = stored  # type: ignore[assignment]  # loaded leaves are plain tensors
            return stored
        if adopt:
            store.adopt(fullname, own, constraint)
        return own

    def _pyro_read_sample(self, name: str) -> Any:
        context = self._pyro_context
        fullname = self._pyro_get_fullname(name)
        if context.depth and fullname in context.draws:
            return context.draws[fullname]
        prior = self._pyro_samples[name]
        if prior is None:
            prior = inspect.getattr_static(type(self), name).prior
        if not hasattr(prior, "sample"):
            prior = prior(self)
        if not context.depth:
            return prior() if hasattr(prior, "sample") else prior
        value = sample(fullname, prior) if hasattr(prior, "sample") else deterministic(fullname, prior)
        context.draws[fullname] = value
        return value

    def _pyro_register_plain(self, name: str, plain: nn.Module) -> None:
        fullname = self._pyro_get_fullname(name)
        if settings.read("module_local_params"):
            for key, leaf in plain.named_parameters():
                if leaf.requires_grad:
                    local_param(f"{fullname}$$${key}", leaf, constraints.real, None)
        else:
            module(fullname, plain, update_module_params=True)

    def named_pyro_params(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Iterate over (name, constrained value) of all parameters."""
        for path, each in self.named_modules(prefix=prefix) if recurse else [(prefix, self)]:
            start = f"{path}." if path else ""
            constrained = getattr(each, "_pyro_params", {})
            for key in each._parameters:
                name = key.removesuffix(_UNCONSTRAINED)
                name = name if name in constrained else key
                value = getattr(each, name)
                if value is not None:
                    yield start + name, value


def _reset_state(self: Any) -> None:
    self.__dict__.update(_pyro_name="", _pyro_context=ModuleContext(), _pyro_params={}, _pyro_samples={})


def _join(child: Any, name: str, context: ModuleContext) -> None:
    """Give every PyroModule in the tree of ``child`` its full name and the root's context."""
    if isinstance(child, PyroModule):
        child._pyro_join(name, context)
    elif isinstance(child, nn.Module):
        for key, grandchild in child._modules.items():
            _join(grandchild, f"{name}.{key}", context)


@functools.cache
def mixed_class(module_class: Any) -> type:
    """Return the class that ``PyroModule[module_class]`` stands for.

    :raises TypeError: if it is no class of torch modules.
    """
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise TypeError(f"PyroModule[...] takes a subclass of torch.nn.Module, got {module_class!r}")
    if issubclass(module_class, PyroModule):
        return module_class
    if module_class is nn.Module:
        return PyroModule
    name = f"Pyro{module_class.__name__}"
    bases: tuple[type, ...] = (module_class, PyroModule)
    if issubclass(module_class, CONTAINERS):
        bases = (RegistersChildren, *bases)
    return type(name, bases, {"_pyro_base": module_class, "__module__": __name__})


def _new_mixed(base: type) -> Any:
    cls: Any = mixed_class(base)
    return cls.__new__(cls)


def pyro_method(method: Method) -> Method:
    """Decorate a method of a PyroModule so that attributes inside it are statements, as in ``forward``."""

    @functools.wraps(method)
    def wrapper(self: PyroModule, *args: Any, **kwargs: Any) -> Any:
        with self._pyro_context:
            return method(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]
