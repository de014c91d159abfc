"""Compute with random variables, and keep their distributions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember.distributions import FoldedDistribution, TransformedDistribution, transforms
from ember.errors import message

Number = float | Tensor


class RandomVariable:
    """A random variable, made by ``distribution.rv``; each operation gives the one of its result.

    :param distribution: its distribution.

    >>> import torch
    >>> from ember.distributions import LogNormal, Normal
    >>> doubled = (2.0 * Normal(0.0, 1.0).rv + 1.0).exp().dist
    >>> point = torch.tensor(3.0)
    >>> bool(torch.isclose(doubled.log_prob(point), LogNormal(1.0, 2.0).log_prob(point)))
    True
    """

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution

    @property
    def dist(self) -> Any:
        """The distribution of the variable, for a sample statement."""
        return self.distribution

    def transform(self, t: Any) -> RandomVariable:
        """Return the variable's image under a transform of ``ember.distributions.transforms``."""
        base = self.distribution
        if isinstance(base, TransformedDistribution):
            return RandomVariable(TransformedDistribution(base.base_dist, [*base.transforms, t]))
        return RandomVariable(TransformedDistribution(base, [t]))

    # -- operators -----------------------------------------------------------------------------------------

    def __add__(self, x: Number) -> RandomVariable:
        return self._affine(x, 1.0)

    __radd__ = __add__

    def __sub__(self, x: Number) -> RandomVariable:
        return self._affine(-_number(x), 1.0)

    def __rsub__(self, x: Number) -> RandomVariable:
        return self._affine(x, -1.0)

    def __mul__(self, x: Number) -> RandomVariable:
        return self._affine(0.0, x)

    __rmul__ = __mul__

    def __truediv__(self, x: Number) -> RandomVariable:
        return self._affine(0.0, 1.0 / _number(x))

    def __neg__(self) -> RandomVariable:
        return self._affine(0.0, -1.0)

    def __pow__(self, x: Number) -> RandomVariable:
        return self.transform(transforms.PowerTransform(torch.as_tensor(_number(x))))

    def __abs__(self) -> RandomVariable:
        # Folding keeps the density, which a transform without inverse loses.
        return RandomVariable(FoldedDistribution(self.distribution))

    # -- methods -------------------------------------------------------------------------------------------

    def add(self, x: Number) -> RandomVariable:
        """Return the variable plus a number."""
        return self + x

    def sub(self, x: Number) -> RandomVariable:
        """Return the variable minus a number."""
        return self - x

    def mul(self, x: Number) -> RandomVariable:
        """Return the variable times a number."""
        return self * x

    def div(self, x: Number) -> RandomVariable:
        """Return the variable divided by a number."""
        return self / x

    def neg(self) -> RandomVariable:
        """Return minus the variable."""
        return -self

    def pow(self, x: Number) -> RandomVariable:
        """Return a power of the variable, whose support must be positive."""
        return self**x

    def abs(self) -> RandomVariable:
        """Return the variable's absolute value."""
        return abs(self)

    def exp(self) -> RandomVariable:
        """Return the variable's exponential."""
        return self.transform(transforms.ExpTransform())

    def log(self) -> RandomVariable:
        """Return the logarithm of a positive variable."""
        return self.transform(transforms.ExpTransform().inv)

    def sigmoid(self) -> RandomVariable:
        """Return the logistic function of the variable."""
        return self.transform(transforms.SigmoidTransform())

    def tanh(self) -> RandomVariable:
        """Return the variable's hyperbolic tangent."""
        return self.transform(transforms.TanhTransform())

    def softmax(self) -> RandomVariable:
        """Return the softmax of a vector; it has draws, but no density."""
        return self.transform(transforms.SoftmaxTransform())

    def _affine(self, loc: Number, scale: Number) -> RandomVariable:
        return self.transform(transforms.AffineTransform(_number(loc), _number(scale)))


def _number(x: Any) -> Any:
    """Return a number or tensor.

    :raises TypeError: for a random variable, whose joint distribution with another is not known.
    """
    if isinstance(x, RandomVariable) or not isinstance(x, int | float | Tensor):
        raise TypeError(
            message(
                "A random variable can be combined with numbers and tensors only.",
                expected="a number or tensor",
                actual=type(x).__name__,
                fix="write two sample statements, and combine their values",
            )
        )
    return x
