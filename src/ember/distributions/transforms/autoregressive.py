"""Define transforms whose entries depend on the entries before: affine, spline, polynomial and neural."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import AffineTransform, Transform

from .. import constraints
from .modules import ConditionalTransformModule, TransformModule, at_context
from .sigmoids import DeepSigmoid
from .splines import monotone_spline, spline_sizes


class Autoregressive(TransformModule):
    """Base of the maps ``y_i = f_i(x_i)`` with f an elementwise transform that depends on ``x_<i``.

    The inverse takes one pass of the network for each dim.

    :param autoregressive_nn: a network from ``batch + (D,)`` to the elementwise transform's parameters.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True
    _transient_attributes = ("_cached_x_y", "_versions", "_last")

    def __init__(self, autoregressive_nn: Any) -> None:
        super().__init__()
        self.arn = autoregressive_nn
        self.__dict__["_last"] = (None, None, None)

    def elementwise(self, x: Tensor) -> Transform:
        """Return the transforms of the entries, given all of them."""
        raise TypeError(f"{type(self).__name__} does not say what transforms the entries")

    def clear_cache(self) -> None:
        """Forget the last input and output."""
        super().clear_cache()
        self.__dict__["_last"] = (None, None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_last": (None, None, None)}

    def _call(self, x: Tensor) -> Tensor:
        transform = self.elementwise(x)
        y = transform(x)
        self.__dict__["_last"] = (x, y, transform)
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        x = torch.zeros_like(y)
        # Each pass makes at least one more dim right, in whatever order the network has.
        for _ in range(y.shape[-1]):
            x = self.elementwise(x).inv(y)
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the logarithms of the entries' slopes, ``batch``."""
        last_x, last_y, transform = self.__dict__["_last"]
        if last_x is not x or last_y is not y:
            transform = self.elementwise(x)
        return transform.log_abs_det_jacobian(x, y).sum(-1)


class AffineAutoregressive(Autoregressive):
    """The map ``y_i = μ_i(x_<i) + σ_i(x_<i) x_i`` (Kingma et al. 2016, arXiv 1606.04934).

    :param autoregressive_nn: a network from ``batch + (D,)`` to a pair of tensors of that shape, means and
        logarithms of scales, whose i-th outputs depend on inputs before i only.
    :param log_scale_min_clip: least logarithm of a scale.
    :param log_scale_max_clip: greatest logarithm of a scale.
    :param sigmoid_bias: added before the sigmoid of the stable form.
    :param stable: use the form ``y_i = s_i x_i + (1 − s_i) μ_i`` with ``s = sigmoid(log-scale + bias)``.
    """

    def __init__(
        self,
        autoregressive_nn: Any,
        log_scale_min_clip: float = -5.0,
        log_scale_max_clip: float = 3.0,
        sigmoid_bias: float = 2.0,
        stable: bool = False,
    ) -> None:
        super().__init__(autoregressive_nn)
        self.log_scale_min_clip = log_scale_min_clip
        self.log_scale_max_clip = log_scale_max_clip
        self.sigmoid_bias = sigmoid_bias
        self.stable = stable

    def elementwise(self, x: Tensor) -> Transform:
        """Return the affine transforms of the entries."""
        loc, raw = self.arn(x)
        if self.stable:
            log_scale = nn.functional.logsigmoid(raw + self.sigmoid_bias)
            return Affine(-torch.expm1(log_scale) * loc, log_scale)
        return Affine(loc, raw.clamp(self.log_scale_min_clip, self.log_scale_max_clip))


class Affine(AffineTransform):
    """``y = loc + exp(log_scale) x``, elementwise."""

    def __init__(self, loc: Tensor, log_scale: Tensor) -> None:
        super().__init__(loc, log_scale.exp())
        self.log_scale = log_scale

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.log_scale.expand_as(x)


class SplineAutoregressive(Autoregressive):
    """Autoregressive splines (Durkan et al. 2019, arXiv 1906.04032; Dolatabadi et al. 2020, 2001.05168).

    :param input_dim: dimension D.
    :param autoregressive_nn: a network with the heads K, K, K - 1 (and K, if linear) for K bins.
    :param count_bins: number of bins K.
    :param bound: the spline is on ``[-bound, bound]``, the identity outside.
    :param order: "linear" or "quadratic".
    """

    def __init__(
        self,
        input_dim: int,
        autoregressive_nn: Any,
        count_bins: int = 8,
        bound: float = 3.0,
        order: str = "linear",
    ) -> None:
        super().__init__(autoregressive_nn)
        self.input_dim, self.bound = input_dim, bound
        self.sizes = spline_sizes(count_bins, order)

    def elementwise(self, x: Tensor) -> Transform:
        """Return the splines of the entries."""
        return monotone_spline([_behind(each, x) for each in self.arn(x)], self.bound)


class NeuralAutoregressive(Autoregressive):
    """Neural autoregressive flow: entries pass small monotone networks (Huang et al. 2018, 1804.00779).

    The inverse is found by bisection.

    :param autoregressive_nn: a network with three heads of ``hidden_units`` outputs.
    :param hidden_units: size W of the monotone networks' hidden layer.
    :param activation: of that layer: "sigmoid", "tanh", "ELU" or "leaky_relu".
    """

    def __init__(self, autoregressive_nn: Any, hidden_units: int = 16, activation: str = "sigmoid") -> None:
        super().__init__(autoregressive_nn)
        self.hidden_units, self.activation = hidden_units, activation

    def elementwise(self, x: Tensor) -> Transform:
        """Return the monotone networks of the entries."""
        slopes, shifts, weights = (_behind(each, x) for each in self.arn(x))
        return DeepSigmoid(slopes, shifts, weights, self.activation)


class Polynomial(Autoregressive):
    """Sums of squares of polynomials, integrated (Jaini et al. 2019, arXiv 1905.02325).

    The inverse is found by bisection.

    :param autoregressive_nn: a network with one head of ``count_sum * (count_degree + 1)`` outputs.
    :param input_dim: dimension D.
    :param count_degree: degree of the polynomials that are squared.
    :param count_sum: number of squares.
    """

    def __init__(self, autoregressive_nn: Any, input_dim: int, count_degree: int, count_sum: int) -> None:
        super().__init__(autoregressive_nn)
        self.c = nn.Parameter(torch.zeros(input_dim))
        self.count_degree, self.count_sum = count_degree, count_sum

    def elementwise(self, x: Tensor) -> Transform:
        """Return the polynomials of the entries."""
        from zuko.transforms import ComposedTransform, SOSPolynomialTransform

        flat = _behind(self.arn(x), x)
        coefficients = flat.reshape((*x.shape, self.count_sum, self.count_degree + 1))
        polynomial = SOSPolynomialTransform(coefficients, bound=100.0, eps=1e-9)
        return ComposedTransform(polynomial, Affine(self.c.expand_as(x), torch.zeros_like(x)))


def _behind(head: Tensor, x: Tensor) -> Tensor:
    """Move a head's outputs, ``batch + (outputs, D)``, behind the dims of ``x``; one output has no dim."""
    return head.unsqueeze(-1) if head.ndim == x.ndim else head.mT


class _Conditional(ConditionalTransformModule):
    """Base of autoregressive transforms whose network takes a context too.

    :param autoregressive_nn: a network of an input and a context.
    :param kwargs: of the transform.
    """

    def __init__(self, autoregressive_nn: nn.Module, **kwargs: Any) -> None:
        super().__init__()
        self.nn = autoregressive_nn
        self.kwargs = kwargs


class ConditionalAffineAutoregressive(_Conditional):
    """:class:`AffineAutoregressive` whose network takes a context too.

    :param autoregressive_nn: a network of an input and a context.
    :param kwargs: further arguments of ``AffineAutoregressive``.
    """

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        return AffineAutoregressive(at_context(self.nn, context), **self.kwargs)


class ConditionalNeuralAutoregressive(_Conditional):
    """:class:`NeuralAutoregressive` whose network takes a context too.

    :param autoregressive_nn: a network of an input and a context.
    :param kwargs: further arguments of ``NeuralAutoregressive``.
    """

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        return NeuralAutoregressive(at_context(self.nn, context), **self.kwargs)


class ConditionalSplineAutoregressive(_Conditional):
    """:class:`SplineAutoregressive` whose network takes a context too.

    :param input_dim: dimension D.
    :param autoregressive_nn: a network of an input and a context.
    :param kwargs: further arguments of ``SplineAutoregressive``.
    """

    def __init__(self, input_dim: int, autoregressive_nn: nn.Module, **kwargs: Any) -> None:
        super().__init__(autoregressive_nn, **kwargs)
        self.input_dim = input_dim

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        return SplineAutoregressive(self.input_dim, at_context(self.nn, context), **self.kwargs)
