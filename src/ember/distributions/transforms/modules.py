"""Be the bases of transforms that are torch modules, and of those that wait for a context."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributions.transforms import ComposeTransform, Transform

from .. import constraints


class TransformModule(Transform, nn.Module):
    """Base of transforms with parameters; densities of the last draw need no inverse.

    What is kept of the last call is dropped when a parameter has changed since.
    """

    def __init__(self, cache_size: int = 1) -> None:
        nn.Module.__init__(self)
        Transform.__init__(self, cache_size=cache_size)

    __hash__ = nn.Module.__hash__
    _transient_attributes: tuple[str, ...] = (
        "_cached_x_y",
        "_versions",
    )  # not part of what a captured program knows

    def __call__(self, x: Tensor) -> Tensor:
        """Return the image of ``x``."""
        self._drop_stale()
        return Transform.__call__(self, x)

    def _inv_call(self, y: Tensor) -> Tensor:
        self._drop_stale()
        return super()._inv_call(y)

    def _drop_stale(self) -> None:
        versions = [parameter._version for parameter in self.parameters()]
        if self.__dict__.get("_versions") != versions:
            self.clear_cache()
            self.__dict__["_versions"] = versions

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_versions": None}
        return {**state, "_cached_x_y": (None, None)} if self._cache_size == 1 else state

    def clear_cache(self) -> None:
        """Forget the last input and output."""
        if self._cache_size == 1:
            self._cached_x_y = None, None


class ComposeTransformModule(ComposeTransform, nn.ModuleList):
    """A composition of transforms that owns the parameters of those parts which are modules."""

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0) -> None:
        nn.ModuleList.__init__(self)
        ComposeTransform.__init__(self, list(parts), cache_size=cache_size)
        for part in parts:
            if isinstance(part, nn.Module):
                self.append(part)

    __hash__ = nn.Module.__hash__


class OwnParameters(TransformModule):
    """Base of transforms that are another one, given their own parameters."""

    bijective = True
    domain: Any = constraints.real_vector
    codomain: Any = constraints.real_vector

    def given(self) -> Transform:
        """Return the transform with the present parameters."""
        raise TypeError(f"{type(self).__name__} does not say what it is")

    def _call(self, x: Tensor) -> Tensor:
        return self.given()._call(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.given()._inverse(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log |det ∂y/∂x|, ``batch``."""
        return self.given().log_abs_det_jacobian(x, y)


class ConditionalTransform:
    """Base of what makes a transform from a context."""

    def condition(self, context: Any) -> Transform:
        """Return the transform for a context, a tensor ``batch + (context_dim,)``."""
        raise TypeError(f"{type(self).__name__} does not say how to condition")


class ConditionalTransformModule(ConditionalTransform, nn.Module):
    """Base of conditional transforms with parameters."""


class FromNetwork(ConditionalTransformModule):
    """Base of conditional transforms whose parameters are outputs of a network of the context.

    :param nn: a network from a context to the parameters.
    """

    def __init__(self, nn: Any) -> None:
        super().__init__()
        self.nn = nn

    def parameters_at(self, context: Tensor) -> tuple[Tensor, ...]:
        """Return the network's outputs."""
        found = self.nn(context)
        return found if isinstance(found, tuple) else (found,)


class ConstantConditionalTransform(ConditionalTransform):
    """A transform that ignores the context.

    :param transform: the transform.
    """

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def condition(self, context: Any) -> Transform:
        """Return the transform."""
        return self.transform


class ConditionalComposeTransformModule(ConditionalTransformModule):
    """A composition of transforms, some of which wait for a context.

    :param transforms: conditional transforms and plain ones.
    """

    def __init__(self, transforms: Sequence[Any], cache_size: int = 0) -> None:
        super().__init__()
        self.transforms = list(transforms)
        self.parts = nn.ModuleList(each for each in transforms if isinstance(each, nn.Module))
        self._cache_size = cache_size

    def condition(self, context: Any) -> Transform:
        """Return the composition for a context."""
        parts = [conditioned(each, context) for each in self.transforms]
        return ComposeTransform(parts, cache_size=self._cache_size)


def conditioned(transform: Any, context: Any) -> Transform:
    """Return a conditional transform at a context, and any other one as it is."""
    return transform.condition(context) if isinstance(transform, ConditionalTransform) else transform


def at_context(network: Any, context: Tensor) -> Callable[..., Any]:
    """Return a network of an input and a context as a network of the input alone."""
    return functools.partial(network, context=context)


def iterated(repeats: int, base_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Compose several transforms, each made by ``base_fn(*args, **kwargs)``.

    :param repeats: number of transforms.
    :raises ValueError: if it is less than one.
    """
    if repeats < 1:
        raise ValueError(f"iterated needs at least one transform, got repeats={repeats}")
    parts = [base_fn(*args, **kwargs) for _ in range(repeats)]
    if any(isinstance(part, ConditionalTransform) for part in parts):
        return ConditionalComposeTransformModule(parts)
    return ComposeTransformModule(parts)
