"""Take out time steps of distributions whose batch shape has a dim of time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import message


def time_slice(distribution: Any, dim: int, start: int, stop: int) -> Any:
    """Return the distribution at some entries along a batch dim, unless that has size 1.

    :param dim: a batch dim, counted from the right of the batch shape.
    :raises NotImplementedError: for families whose parameters are not known by name.
    """
    batch_shape = distribution.batch_shape
    if len(batch_shape) < -dim or batch_shape[dim] == 1:
        return distribution
    new = object.__new__(type(distribution))
    state = new.__dict__
    state.update(distribution.__dict__)
    axis = len(batch_shape) + dim
    if hasattr(distribution, "reinterpreted_batch_ndims"):
        state["base_dist"] = time_slice(
            distribution.base_dist, dim - distribution.reinterpreted_batch_ndims, start, stop
        )
    elif hasattr(type(distribution), "parameter_dims"):
        for name, dims in type(distribution).parameter_dims.items():
            value = state.get(name)
            if isinstance(value, Tensor):
                state[name] = value.narrow(value.dim() - dims + dim, start, stop - start)
            elif value is not None:
                state[name] = time_slice(value, dim, start, stop)
    else:
        raise NotImplementedError(
            message(
                f"{type(distribution).__name__} cannot be taken apart in time.",
                expected="a family of ember that keeps its parameters by name",
                actual=f"batch_shape {tuple(batch_shape)}",
                fix="give the later parameters to a new DiscreteHMM, with the logits of .filter(data)",
            )
        )
    state["_batch_shape"] = torch.Size((*batch_shape[:axis], stop - start, *batch_shape[axis + 1 :]))
    return new
