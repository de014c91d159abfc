"""Draw values of eliminated variables, or take the most probable ones, by going back over the elimination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.poutine.elimination.contraction import Step
from ember.poutine.elimination.factors import Dim, Factor, align
from ember.poutine.elimination.like_variables import StackedStep
from ember.poutine.enum_messenger import support_values


def draw_backward(steps: Sequence[Step | StackedStep], temperature: int) -> dict[int, Factor]:
    """Return an index for each variable, as a tensor over its plates.

    :param steps: of an elimination, by sums for temperature 1 and by maxima for temperature 0.
    :param temperature: 1 for a joint draw, 0 for the most probable values.
    """
    drawn: dict[int, Factor] = {}
    for step in reversed(steps):
        if isinstance(step, StackedStep):
            _draw_stacked(step, temperature, drawn)
            continue
        dims, tensor = _given(step, drawn)
        plates = [dim for dim in dims if dim not in step.dropped]
        tensor = align(Factor(dims, tensor, frozenset()), [*plates, *step.dropped])
        sizes = tensor.shape[len(plates) :]
        flat = tensor.reshape((*tensor.shape[: len(plates)], -1))
        index = _choose(flat, temperature)
        for variable, size in zip(reversed(step.dropped), reversed(sizes), strict=True):
            drawn[variable] = Factor(tuple(plates), index % size, frozenset())
            index = index // size
    return drawn


def _draw_stacked(step: StackedStep, temperature: int, drawn: dict[int, Factor]) -> None:
    """Draw the variables that were summed out together."""
    tensor, plates = step.tensor, step.plate_names
    first = 1 + len(plates)
    # Rows and plates to the front, the variables behind them.
    tensor = tensor.permute(-1, *range(-first, -1), *range(tensor.ndim - first))
    tensor = tensor.expand(len(step.dropped), *tensor.shape[1:])
    for column in zip(*step.others, strict=True):
        tensor = tensor.movedim(first, -1)  # the next of the others; the first axis of all goes last
        index = torch.stack(
            [align(drawn[variable], plates).expand(tensor.shape[1:first]) for variable in column]
        )
        index = index.reshape(index.shape + (1,) * (tensor.ndim - first)).expand(*tensor.shape[:-1], 1)
        tensor = tensor.gather(-1, index).squeeze(-1)
    index = _choose(tensor, temperature)
    for variable, row in zip(step.dropped, index, strict=True):
        drawn[variable] = Factor(plates, row, frozenset())


def _choose(log_weights: Tensor, temperature: int) -> Tensor:
    """Return an index along the last axis: of a draw, or of the largest."""
    if temperature:  # with Gumbel noise the maximum is a draw
        log_weights = log_weights - (-torch.rand_like(log_weights).log()).log()
    return log_weights.argmax(-1)


def _given(step: Step, drawn: Mapping[int, Factor]) -> tuple[tuple[Dim, ...], Tensor]:
    """Fix the variables of a step that have values already."""
    dims, tensor = step.dims, step.tensor
    for variable in [dim for dim in dims if isinstance(dim, int) and dim not in step.dropped]:
        axis = dims.index(variable)
        dims = dims[:axis] + dims[axis + 1 :]
        tensor = tensor.movedim(axis, -1)
        index = align(drawn[variable], dims).expand(tensor.shape[:-1])
        tensor = tensor.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return dims, tensor


def values_of(site: Any, index: Factor) -> Tensor:
    """Return a site's values at drawn indices, with the batch shape that its plates give."""
    frames = {
        frame.name: frame.dim
        for frame in site["cond_indep_stack"]
        if frame.dim is not None and frame.name in index.dims
    }
    order = sorted(index.dims, key=lambda name: frames[str(name)])
    aligned = align(index, order)
    shape = [1] * max((-dim for dim in frames.values()), default=0)
    for name, size in zip(order, aligned.shape, strict=True):
        shape[frames[str(name)]] = size
    values = support_values(site["fn"])
    # Indexing by a tensor without dims would read its number, which a capture cannot.
    return values.index_select(0, aligned.reshape(-1)).reshape((*shape, *values.shape[1:]))
