"""Compute a function's value and gradient, eagerly or under capture, without reading numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

Point = TypeVar("Point")


def value_and_grad(fn: Callable[[Point], torch.Tensor]) -> Callable[[Point], tuple[torch.Tensor, Point]]:
    """Return a function that computes ``fn(z)`` and its gradient at ``z``.

    The gradient has the structure of ``z`` (a tensor or a nest of tensors), with zeros where ``fn`` does not
    depend on a tensor differentiably. Both results are differentiable again if ``z`` requires a gradient;
    otherwise they carry no graph.

    :param fn: function that returns a floating-point tensor with one element.
    :raises ValueError: if the value has more than one element.

    >>> value, gradient = value_and_grad(lambda z: (z**2).sum())(torch.tensor([1.0, 3.0]))
    >>> float(value), gradient.tolist()
    (10.0, [2.0, 6.0])
    """

    def both(z: Point) -> tuple[torch.Tensor, Point]:
        points, structure = tree_flatten(z)
        again = torch.is_grad_enabled() and any(point.requires_grad for point in points)
        with torch.enable_grad():
            if again:
                leaves = [point.view_as(point) for point in points]
            else:
                leaves = [point.detach() for point in points]
            for leaf in leaves:
                if leaf.is_floating_point() and not leaf.requires_grad:
                    leaf.requires_grad_()
            value = fn(tree_unflatten(leaves, structure))
            if not isinstance(value, torch.Tensor):
                value = torch.as_tensor(value, dtype=points[0].dtype)
            if value.numel() != 1:
                raise ValueError(
                    f"value_and_grad needs a function with one value, got shape {tuple(value.shape)}"
                )
            sources = [leaf for leaf in leaves if leaf.requires_grad]
            if value.requires_grad and sources:
                found: Any = torch.autograd.grad(
                    value.reshape(()), sources, create_graph=again, allow_unused=True
                )
            else:
                found = (None,) * len(sources)
        remaining = iter(found)
        gradients = []
        for leaf, point in zip(leaves, points, strict=True):
            gradient = next(remaining) if leaf.requires_grad else None
            gradients.append(torch.zeros_like(point) if gradient is None else gradient)
        if not again:
            value = value.detach()
        return value, tree_unflatten(gradients, structure)

    return both
