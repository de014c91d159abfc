"""Give Gaussian vectors the pathwise gradient of least transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import constraints
from .multivariate import MultivariateNormal
from .parameters import table

_EMPTY = torch.Size()


class OMTMultivariateNormal(MultivariateNormal):
    """A MultivariateNormal whose draws have the gradient of optimal mass transport for ``scale_tril``.

    Of lower variance than the usual gradient (Jankowiak & Obermeyer 2018, Pathwise derivatives beyond the
    reparameterization trick, section 4).

    :param loc: ``batch_shape + (D,)``.
    :param scale_tril: Cholesky factor of the covariance, ``batch_shape + (D, D)``.
    """

    arg_constraints = table(loc=constraints.real_vector, scale_tril=constraints.lower_triangular)

    def __init__(self, loc: Tensor, scale_tril: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        shape = torch.Size(batch_shape)
        new = type(self)(
            self.loc.expand(shape + self._event_shape),
            self.scale_tril.expand(shape + self.scale_tril.shape[-2:]),
            validate_args=False,
        )
        for name in ("has_rsample", "_validate_args"):
            new.__dict__.pop(name, None)
            if name in self.__dict__:
                new.__dict__[name] = self.__dict__[name]
        return new

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).normal_()
        return self.loc + _Transport.apply(self.scale_tril, noise)


class _Transport(torch.autograd.Function):
    """Multiply noise by a factor; the gradient moves draws along the symmetric map between covariances.

    A change dΣ moves x to x + S x with S Σ + Σ S = dΣ. The solution operator is self-adjoint: the gradient
    in Σ is T with T Σ + Σ T the symmetric part of Σ_draws g xᵀ, and that in L the lower part of 2 T L.
    """

    @staticmethod
    def forward(ctx: Any, scale_tril: Tensor, noise: Tensor) -> Tensor:
        value = (scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        ctx.save_for_backward(scale_tril, value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        scale_tril, value = ctx.saved_tensors
        outer = gradient.unsqueeze(-1) * value.unsqueeze(-2)
        extra = outer.dim() - scale_tril.dim()
        outer = outer.sum(tuple(range(extra))) if extra else outer
        left, singular, _ = torch.linalg.svd(scale_tril)
        variances = singular.square()
        symmetric = 0.5 * (outer + outer.mT)
        rotated = left.mT @ symmetric @ left
        solved = rotated / (variances.unsqueeze(-1) + variances.unsqueeze(-2))
        return (2.0 * left @ solved @ left.mT @ scale_tril).tril(), None
