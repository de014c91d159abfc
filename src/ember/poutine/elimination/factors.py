"""Turn log probabilities of sites into factors over named dims: plates by name, variables by id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.distributions.scaling import scale_and_mask
from ember.errors import message
from ember.poutine.enum_messenger import CONFLICT

Dim = str | int  # a plate's name, or a variable's id
Plates = frozenset[str]


class Factor(NamedTuple):
    """A log factor: one axis of ``tensor`` for each of ``dims``; ``scale`` multiplies it."""

    dims: tuple[Dim, ...]
    tensor: Tensor
    plates: Plates  # the plates that it is repeated over, all among the dims
    scale: Any = 1.0

    @property
    def variables(self) -> frozenset[int]:
        """Ids of the variables that it depends on."""
        return frozenset(dim for dim in self.dims if isinstance(dim, int))


class Variable(NamedTuple):
    """An enumerated site: where it is repeated, and how much it counts."""

    id: int
    name: str
    plates: Plates
    scale: Any = 1.0


def variable_of(site: Any) -> Variable | None:
    """Return the variable that a site's record enumerates, if it does."""
    dim = site["infer"].get("_enumerate_dim")
    if dim is None:
        return None
    plates = frozenset(frame.name for frame in _frames(site))
    return Variable(site["infer"]["_dim_to_id"][dim], str(site["name"]), plates, site["scale"])


def factor_of(site: Any, log_prob: Any, masked: bool = True) -> Factor:
    """Return a site's factor: its log probability, masked and not yet scaled.

    :param site: a site's record.
    :param log_prob: its log probability, neither scaled nor masked.
    :param masked: whether its mask counts.
    :raises ValueError: if it varies along a dim that is neither a plate's nor that of one variable in scope.
    """
    mask = site["mask"]
    if masked and mask is not None:
        log_prob = scale_and_mask(log_prob, 1.0, mask)
    return pack(site, log_prob)


def pack(site: Any, tensor: Tensor) -> Factor:
    """Name the batch dims of a tensor that belongs to a site."""
    plates = {frame.dim: frame for frame in _frames(site)}
    infer = site["infer"]
    variables = infer.get("_dim_to_id", {})
    own = infer.get("_enumerate_dim")
    missing = max([-dim for dim in plates] + [0 if own is None else -own]) - tensor.ndim
    if missing > 0:
        tensor = tensor.reshape((1,) * missing + tensor.shape)
    sizes = list(tensor.shape)
    dims: list[Dim] = []
    undeclared: list[int] = []
    for axis in range(tensor.ndim):
        dim = axis - tensor.ndim
        if dim in plates:
            dims.append(plates[dim].name)
            sizes[axis] = max(sizes[axis], int(plates[dim].size))
        elif sizes[axis] == 1 and dim != own:
            continue
        elif dim in variables:
            if variables[dim] == CONFLICT:
                _refuse_dim(site, tensor, dim, "several variables in scope share it")
            dims.append(variables[dim])
        else:
            undeclared.append(axis)
    has_variables = any(isinstance(dim, int) for dim in dims)
    left = [axis for axis in undeclared if axis - tensor.ndim <= infer.get("_first_enumerate_dim", -math.inf)]
    if left or (undeclared and has_variables):
        dim = (left or undeclared)[-1] - tensor.ndim
        _refuse_dim(site, tensor, dim, "no plate or variable in scope declares it")
    if sizes != list(tensor.shape):
        tensor = tensor.expand(sizes)
    if undeclared:
        tensor = tensor.sum(undeclared, keepdim=True)
    kept = [size for axis, size in enumerate(sizes) if _is_named(axis, tensor, plates, variables, own, sizes)]
    if kept != sizes:
        tensor = tensor.reshape(kept)
    scale = site["scale"]
    if isinstance(scale, Tensor) and scale.ndim:
        if has_variables:
            raise ValueError(
                message(
                    f"the scale at site '{site['name']}' is a tensor of shape {tuple(scale.shape)}, which "
                    "enumeration does not offer",
                    site=site["name"],
                    plates=site["cond_indep_stack"],
                    expected="a number as the scale of sites that depend on enumerated ones",
                )
            )
        return pack({**site, "scale": 1.0}, site_scaled(site, scale))
    return Factor(tuple(dims), tensor, frozenset(frame.name for frame in plates.values()), scale)


def site_scaled(site: Any, scale: Tensor) -> Any:
    """Return a site's log probability times a scale tensor."""
    return scale_and_mask(site["unscaled_log_prob"], scale, site["mask"])


def _is_named(
    axis: int, tensor: Tensor, plates: Any, variables: Any, own: int | None, sizes: list[int]
) -> bool:
    dim = axis - tensor.ndim
    return dim in plates or dim == own or (sizes[axis] > 1 and dim in variables)


def _frames(site: Any) -> list[Any]:
    """Return the vectorised plates of known size around a site."""
    return [
        frame
        for frame in site["cond_indep_stack"]
        if frame.dim is not None and frame.size is not None and int(frame.size) != -1
    ]


def _refuse_dim(site: Any, tensor: Tensor, dim: int, why: str) -> None:
    raise ValueError(
        message(
            f"Enumeration dim conflict at site '{site['name']}': its log probability varies along dim {dim}, "
            f"and {why}",
            site=site["name"],
            plates=site["cond_indep_stack"],
            expected="batch dims that plates declare, or that enumerated sites in scope use",
            actual=f"log_prob of shape {tuple(tensor.shape)}",
            fix="let markov have a longer history, declare batch dims by plates or .to_event(n), "
            "or give a larger max_plate_nesting",
        )
    )


def align(factor: Factor, dims: Sequence[Dim]) -> Tensor:
    """Return the factor's tensor with one axis for each of ``dims``, of size 1 where it has none."""
    order = [factor.dims.index(dim) for dim in dims if dim in factor.dims]
    tensor = factor.tensor if order == sorted(order) else factor.tensor.permute(order)
    if len(order) == len(dims):
        return tensor
    sizes = iter(tensor.shape)
    return tensor.reshape([next(sizes) if dim in factor.dims else 1 for dim in dims])


def joined_dims(factors: Iterable[Factor]) -> tuple[Dim, ...]:
    """Return all dims of some factors, plates first."""
    found: dict[Dim, None] = {}
    for factor in factors:
        found.update(dict.fromkeys(factor.dims))
    return tuple(sorted(found, key=lambda dim: isinstance(dim, int)))


def log_sum_exp(tensor: Tensor, axes: list[int]) -> Tensor:
    """Return log Σ exp over some axes; where all is −inf, it is −inf with gradient zero."""
    highest = tensor.detach().amax(axes, keepdim=True)
    highest = torch.where(highest.isinf(), torch.zeros_like(highest), highest)
    total = (tensor - highest).exp().sum(axes)
    dead = total == 0
    logs = torch.where(dead, torch.ones_like(total), total).log()
    return torch.where(dead, float("-inf"), logs) + highest.reshape(total.shape)
