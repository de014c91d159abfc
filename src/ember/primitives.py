"""Offer the statements of the modelling language, one function each."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.distributions.constraints import Constraint

from ember.distributions import Delta, Unit, constraints
from ember.errors import message
from ember.params import get_param_store, param_with_module_name
from ember.poutine import mask as mask_handler
from ember.poutine.param_messengers import LiftMessenger
from ember.poutine.plate_messenger import PlateMessenger, plate_stack
from ember.poutine.runtime import InferDict, apply_stack, handler_stack, new_message
from ember.poutine.site_checks import as_obs_mask, masked_batch_shape
from ember.settings import enable_validation, validation_enabled

__all__ = [
    "barrier",
    "deterministic",
    "enable_validation",
    "factor",
    "module",
    "param",
    "plate",
    "plate_stack",
    "random_module",
    "sample",
    "subsample",
    "validation_enabled",
]

plate = PlateMessenger


def sample(
    name: str,
    fn: Any,
    *args: Any,
    obs: Any = None,
    obs_mask: bool | torch.Tensor | None = None,
    infer: InferDict | dict[str, Any] | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """Draw from a distribution, or observe a value, at a named site.

    Outside any handler it just draws; an observed site then returns ``obs`` with a warning.

    :param name: name of the site, unique in one execution.
    :param fn: a distribution, or any callable (then called with ``args`` and ``kwargs``).
    :param obs: observed value, of a shape that broadcasts to ``batch_shape + event_shape``.
    :param obs_mask: bool, or bool tensor that broadcasts to the batch shape. Where true the site is
        conditioned on ``obs``, elsewhere it is imputed. It splits the site into ``NAME_observed`` and the
        latent ``NAME_unobserved``, and records the merged value under NAME as deterministic.
    :param infer: instructions to inference.
    :returns: the value, of shape ``batch_shape + event_shape``.
    :raises ValueError: for an invalid ``obs_mask``.
    :raises TypeError: for an ``obs_mask`` with a function in place of a distribution.

    >>> import ember
    >>> from ember import poutine
    >>> model = lambda: ember.sample("x", ember.distributions.Normal(0.0, 1.0))
    >>> list(poutine.trace(model).get_trace().nodes)
    ['_INPUT', 'x', '_RETURN']
    """
    if obs_mask is not None:
        return _sample_masked(name, fn, args, kwargs, obs, obs_mask)
    own_infer: Any = {}
    is_observed = obs is not None
    if infer is not None:
        own_infer.update(infer)
        is_observed = own_infer.pop("is_observed", is_observed)
    if not handler_stack():
        if is_observed and not own_infer.get("_deterministic"):
            warnings.warn(
                f"trying to observe a value outside of inference at {name}", RuntimeWarning, stacklevel=2
            )
            return obs
        return fn(*args, **kwargs) if obs is None or is_observed else obs
    msg = new_message("sample", name, fn, args, kwargs, obs, is_observed, own_infer)
    return apply_stack(msg)["value"]


def _sample_masked(
    name: str,
    fn: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    obs: Any,
    obs_mask: bool | torch.Tensor,
) -> torch.Tensor:
    """Split a partly observed site in an observed and an unobserved one, and merge their values."""
    obs_mask = as_obs_mask(name, obs_mask)
    batch_shape = masked_batch_shape(name, fn, obs_mask)
    fn = fn.expand(batch_shape)
    with mask_handler(mask=~obs_mask):
        unobserved = sample(f"{name}_unobserved", fn, *args, **kwargs)
    event_mask = obs_mask.reshape(obs_mask.shape + (1,) * fn.event_dim)
    if obs is not None:
        # Entries that the mask hides may be anything, so give them a value inside the support.
        obs = torch.where(event_mask, torch.as_tensor(obs), unobserved.detach())
    with mask_handler(mask=obs_mask):
        observed = sample(f"{name}_observed", fn, *args, obs=obs, **kwargs)
    return deterministic(name, torch.where(event_mask, observed, unobserved), event_dim=fn.event_dim)


def param(
    name: str,
    init_tensor: torch.Tensor | Callable[[], torch.Tensor] | None = None,
    constraint: Constraint = constraints.real,
    event_dim: int | None = None,
) -> torch.Tensor:
    """Register a learnable parameter, once, and return its constrained value, connected to autograd.

    :param name: name in the parameter store.
    :param init_tensor: initial value inside the constraint, or a callable that makes it, called only once.
    :param constraint: the set in which the value lies.
    :param event_dim: number of rightmost dimensions that are not batch. Inside a subsampling plate the batch
        dimensions left of them are subsampled like data. By default all dimensions are event dimensions.
    :raises KeyError: if there is neither a stored nor an initial value.
    :raises ValueError: if the initial value violates the constraint.
    """
    if not handler_stack():
        return get_param_store().get_param(name, init_tensor, constraint, event_dim)
    args = (name,) if init_tensor is None else (name, init_tensor)
    kwargs = {"constraint": constraint, "event_dim": event_dim}
    msg = new_message("param", name, _stored_param, args, kwargs)
    return apply_stack(msg)["value"]


def _stored_param(name: str, *args: Any, **kwargs: Any) -> torch.Tensor:
    # A module-level function, so that traces with param sites can be pickled without the store.
    return get_param_store().get_param(name, *args, **kwargs)


def factor(name: str, log_factor: torch.Tensor, *, has_rsample: bool | None = None) -> None:
    """Add a log probability term to the model.

    :param log_factor: tensor of a batch shape that fits the enclosing plates.
    :param has_rsample: in a guide, whether the term comes from fully reparameterised sampling (such as a
        Jacobian). Must be given in guides.
    """
    unit = Unit(log_factor) if has_rsample is None else Unit(log_factor, has_rsample=has_rsample)
    sample(name, unit, obs=unit.sample(), infer={"is_auxiliary": True})


def deterministic(name: str, value: torch.Tensor, event_dim: int | None = None) -> torch.Tensor:
    """Record a value that is determined by its parents; the density does not change.

    :param event_dim: number of rightmost dimensions that are not batch; by default all.
    :raises TypeError: if ``value`` is not a tensor.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            message(
                f"deterministic site '{name}' needs a tensor",
                site=name,
                expected="a torch.Tensor",
                actual=f"{value!r} of type {type(value).__name__}",
                fix="wrap it in torch.as_tensor(...)",
            )
        )
    if event_dim is None:
        event_dim = value.ndim
    return sample(
        name, Delta(value, event_dim=event_dim).mask(False), obs=value, infer={"_deterministic": True}
    )


def subsample(data: torch.Tensor, event_dim: int) -> torch.Tensor:
    """Take from ``data`` the minibatch that the enclosing plates chose; equal to indexing by their indices.

    :param event_dim: number of rightmost dimensions that are not batch.
    :raises ValueError: if ``event_dim`` is negative, or a batch dimension is neither 1 nor the plate's size.
    :raises TypeError: if ``event_dim`` is not an int.
    """
    if not isinstance(event_dim, int):
        raise TypeError(f"subsample needs an int event_dim, got {event_dim!r}")
    if event_dim < 0:
        raise ValueError(f"subsample needs event_dim >= 0, got {event_dim}")
    if not handler_stack():
        return data
    msg = new_message("subsample", None, _identity, (data,), {"event_dim": event_dim}, value=data)
    return apply_stack(msg)["value"]


def _identity(data: Any, **kwargs: Any) -> Any:
    return data


def module(name: str, nn_module: torch.nn.Module, update_module_params: bool = False) -> torch.nn.Module:
    """Register the parameters of a torch module with the store, under ``name$$$parameter``.

    Parameters with ``requires_grad=False`` are left out.

    :param update_module_params: put the store's values in place of the module's own; shared ones stay shared.
    :returns: ``nn_module`` itself.
    :raises TypeError: if ``nn_module`` is not a ``torch.nn.Module`` instance.
    :raises ValueError: if the name contains ``$$$``.
    """
    if not isinstance(nn_module, torch.nn.Module):
        raise TypeError(
            message(
                f"module '{name}' needs an instance of torch.nn.Module",
                site=name,
                expected="a torch.nn.Module instance",
                actual=repr(nn_module),
                fix="make an instance of the class" if isinstance(nn_module, type) else None,
            )
        )
    if "$$$" in name:
        raise ValueError(f"the name of a module must not contain '$$$', got '{name}'")
    replaced: dict[torch.Tensor, torch.Tensor] = {}
    for param_name, value in nn_module.named_parameters():
        if not value.requires_grad:
            if nn_module.training:
                warnings.warn(
                    f"{param_name} was not registered in the param store because requires_grad=False",
                    stacklevel=2,
                )
            continue
        full_name = param_with_module_name(name, param_name)
        returned = param(full_name, value)
        if returned is not value:
            replaced[value] = returned
    if update_module_params:
        _replace_parameters(nn_module, replaced)
    return nn_module


def _replace_parameters(nn_module: torch.nn.Module, replaced: dict[torch.Tensor, torch.Tensor]) -> None:
    for part in nn_module.modules():
        for name, value in part._parameters.items():
            if value is not None and value in replaced:
                # Not setattr: a module accepts only nn.Parameter there, and draws from priors are none.
                part._parameters[name] = replaced[value]  # type: ignore[assignment]


def random_module(
    name: str, nn_module: torch.nn.Module, prior: Any, *args: Any, **kwargs: Any
) -> Callable[..., torch.nn.Module]:
    """Put priors over the parameters of a torch module. Deprecated: use PyroModule.

    :param prior: a distribution or stochastic function for every parameter, or a dict of them by name.
    :returns: a function that draws a module of the same type; ``nn_module`` stays as it is.
    """
    warnings.warn(
        "random_module is deprecated, use ember.nn.PyroModule with PyroSample attributes instead",
        FutureWarning,
        stacklevel=2,
    )
    if not isinstance(nn_module, torch.nn.Module):
        raise TypeError(f"random_module '{name}' needs an instance of torch.nn.Module, got {nn_module!r}")

    def draw() -> torch.nn.Module:
        drawn = copy.deepcopy(nn_module)
        with LiftMessenger(prior):
            return module(name, drawn, update_module_params=True)

    return draw


def barrier(data: Any) -> Any:
    """Ensure that all values in ``data`` are concrete. Experimental; the identity outside ``collapse``."""
    if not handler_stack():
        return data
    return apply_stack(new_message("barrier", None, _identity, (data,)))["value"]
