"""Hold densities over Gaussian variables that share an unknown gamma precision, and combine them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..multivariate import MultivariateStudentT, cholesky_of_inverse
from ..positive import Gamma as GammaDistribution
from .batches import Batched
from .chains import state_size
from .gaussian import Gaussian
from .links import reduce_chain
from .quadratic_forms import Elimination, block_diagonal, fix, integrate, join_vectors, merge_forms
from .reduction import Fields


class Gamma:
    """The density exp(log_normalizer) s^(concentration - 1) exp(-rate s) of a positive number."""

    def __init__(self, log_normalizer: Tensor, concentration: Tensor, rate: Tensor) -> None:
        self.log_normalizer = log_normalizer
        self.concentration = concentration
        self.rate = rate

    def log_density(self, s: Tensor) -> Tensor:
        """Return the logarithm of the density."""
        return self.log_normalizer + (self.concentration - 1.0) * s.log() - self.rate * s

    def logsumexp(self) -> Tensor:
        """Return the logarithm of the integral."""
        return self.log_normalizer + self.concentration.lgamma() - self.concentration * self.rate.log()

    def to_distribution(self) -> GammaDistribution:
        """Return the normalised distribution."""
        return GammaDistribution(self.concentration, self.rate)


class GammaGaussian(Batched):
    """The density exp(log_normalizer) s^alpha exp(s (xᵀ info_vec - ½ xᵀ precision x - beta)) over (x, s).

    :param log_normalizer: ``batch_shape``.
    :param info_vec: precision times mean at s = 1, ``batch_shape + (dim,)``.
    :param precision: symmetric, at s = 1, ``batch_shape + (dim, dim)``.
    :param alpha: ``batch_shape``.
    :param beta: ``batch_shape``.
    """

    fields = {"log_normalizer": 0, "info_vec": 1, "precision": 2, "alpha": 0, "beta": 0}  # noqa: RUF012

    def __init__(
        self, log_normalizer: Tensor, info_vec: Tensor, precision: Tensor, alpha: Tensor, beta: Tensor
    ) -> None:
        self.log_normalizer = log_normalizer
        self.info_vec = info_vec
        self.precision = precision
        self.alpha = alpha
        self.beta = beta

    def dim(self) -> int:
        """Return the number of variables besides s."""
        return self.info_vec.shape[-1]

    def at(self, s: Tensor) -> Gaussian:
        """Return the density over x at a value of s, of shape ``batch_shape``."""
        scale = s.unsqueeze(-1)
        return Gaussian(
            self.log_normalizer + self.alpha * s.log() - self.beta * s,
            self.info_vec * scale,
            self.precision * scale.unsqueeze(-1),
        )

    def event_pad(self, left: int = 0, right: int = 0) -> GammaGaussian:
        """Add variables on the left and right in whose directions the density is flat."""
        return self._around(self._form().event_pad(left, right))

    def event_permute(self, perm: Tensor) -> GammaGaussian:
        """Reorder the variables by the index tensor ``perm``."""
        return self._around(self._form().event_permute(perm))

    def __add__(self, other: GammaGaussian | Tensor | float) -> GammaGaussian:
        """Multiply densities over the same variables, or add a number to the log density."""
        if isinstance(other, GammaGaussian):
            return GammaGaussian(
                *(a + b for a, b in zip(self.tensors(), other.tensors(), strict=True)),
            )
        if isinstance(other, Tensor | float | int):
            return self._around(self._form() + other)
        return NotImplemented

    def log_density(self, value: Tensor, s: Tensor) -> Tensor:
        """Return the logarithm of the density at (value, s)."""
        return self.at(s).log_density(value)

    def condition(self, value: Tensor) -> GammaGaussian:
        """Fix the rightmost variables to ``value``; the density of the others and s remains, as a slice."""
        info_vec, precision, constant = fix(self.info_vec, self.precision, value, right=True)
        return GammaGaussian(self.log_normalizer, info_vec, precision, self.alpha, self.beta - constant)

    def marginalize(self, left: int = 0, right: int = 0) -> GammaGaussian | Gamma:
        """Integrate out the ``left`` leftmost and ``right`` rightmost variables; of all, a Gamma remains."""
        if left + right == self.dim():
            return self.event_logsumexp()
        result = (
            self._integrate(slice(None, self.dim() - right), slice(self.dim() - right, None))
            if right
            else self
        )
        return result._integrate(slice(left, None), slice(None, left)) if left else result

    def _integrate(self, kept: slice, out: slice) -> GammaGaussian:
        info_vec, precision, parts = integrate(self.info_vec, self.precision, kept, out)
        return _integrated(self.log_normalizer, self.alpha, self.beta, info_vec, precision, parts)

    def _form(self) -> Gaussian:
        return Gaussian(self.log_normalizer, self.info_vec, self.precision)

    def _around(self, form: Gaussian) -> GammaGaussian:
        return GammaGaussian(form.log_normalizer, form.info_vec, form.precision, self.alpha, self.beta)

    def compound(self) -> MultivariateStudentT:
        """Integrate out s: the distribution of x, without the normaliser."""
        factor = torch.linalg.cholesky(self.precision)
        loc = torch.cholesky_solve(self.info_vec.unsqueeze(-1), factor).squeeze(-1)
        shape = self.alpha - 0.5 * self.dim() + 1.0
        rate = self.beta - 0.5 * (self.info_vec * loc).sum(-1)
        scale_tril = cholesky_of_inverse(self.precision) * (rate / shape).sqrt().unsqueeze(-1).unsqueeze(-1)
        return MultivariateStudentT(2.0 * shape, loc, scale_tril)

    def event_logsumexp(self) -> Gamma:
        """Integrate out all variables but s."""
        total = self._integrate(slice(0, 0), slice(None))
        return Gamma(total.log_normalizer, total.alpha + 1.0, total.beta)


def _integrated(
    constant: Tensor, alpha: Tensor, beta: Tensor, info_vec: Tensor, precision: Tensor, parts: Elimination
) -> GammaGaussian:
    """Return the density whose form lost variables: s takes part in their volume and energy."""
    lost = 0.5 * parts.factor.shape[-1]
    return GammaGaussian(
        constant + parts.log_volume(), info_vec, precision, alpha - lost, beta - parts.energy()
    )


def gamma_gaussian_tensordot(x: GammaGaussian, y: GammaGaussian, dims: int = 0) -> GammaGaussian:
    """Multiply x(a, b, s) with y(b, c, s) and integrate over b: a density over (a, c, s).

    :param dims: number of variables b: the rightmost of ``x`` and the leftmost of ``y``.
    """
    constant, alpha, beta = x.log_normalizer + y.log_normalizer, x.alpha + y.alpha, x.beta + y.beta
    if dims == 0:
        info_vec = join_vectors(x.info_vec, y.info_vec)
        return GammaGaussian(constant, info_vec, block_diagonal(x.precision, y.precision), alpha, beta)
    merged = merge_forms((x.info_vec, x.precision), (y.info_vec, y.precision), dims)
    return _integrated(constant, alpha, beta, *merged)


def sequential_gamma_gaussian_tensordot(gaussian: GammaGaussian) -> GammaGaussian:
    """Integrate out all but s and the first and last variables of a chain, in O(log T) depth.

    :param gaussian: densities over (z_{t-1}, z_t, s), of batch shape ``batch + (T,)``.
    :returns: a density over (z_0, z_T, s) of batch shape ``batch``.
    """
    lost = 0.5 * state_size(gaussian)

    def merge_constants(x: Fields, y: Fields, volume: Tensor, energy: Tensor) -> Fields:
        return x[0] + y[0] + volume, x[1] + y[1] - lost, x[2] + y[2] - energy

    info_vec, precision, constants = reduce_chain(
        gaussian.info_vec,
        gaussian.precision,
        (gaussian.log_normalizer, gaussian.alpha, gaussian.beta),
        gaussian.batch_shape[-1],
        merge_constants,
    )
    return GammaGaussian(constants[0], info_vec, precision, *constants[1:])
