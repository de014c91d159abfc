"""Give Gaussian vectors a pathwise gradient whose variance can be learned to be small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ember.errors import message

from . import constraints
from .multivariate import MultivariateNormal
from .parameters import table

_EMPTY = torch.Size()


class AVFMultivariateNormal(MultivariateNormal):
    """A MultivariateNormal whose draws have the gradient of adaptive velocity fields for ``scale_tril``.

    To the usual gradient is added the mean-zero one of rotations of the noise, with learned coefficients
    (Jankowiak & Karaletsos 2019, Pathwise derivatives for multivariate distributions, section 4.2). The
    gradient that reaches ``control_var`` is half that of the squared gradient for ``scale_tril``, so that
    optimising all parameters together makes the variance fall.

    :param loc: ``(D,)``.
    :param scale_tril: Cholesky factor of the covariance, ``(D, D)``.
    :param control_var: coefficients, ``(2, L, D)`` with any L.
    :raises ValueError: for other shapes.
    """

    arg_constraints = table(
        loc=constraints.real_vector,
        scale_tril=constraints.lower_triangular,
        control_var=constraints.independent(constraints.real, 3),
    )

    def __init__(
        self, loc: Tensor, scale_tril: Tensor, control_var: Tensor, validate_args: bool | None = None
    ) -> None:
        if loc.ndim != 1:
            raise ValueError(
                message(
                    "AVFMultivariateNormal has no batches", expected="loc of shape (D,)", actual=loc.shape
                )
            )
        if control_var.ndim != 3 or control_var.shape[0] != 2 or control_var.shape[-1] != loc.shape[0]:
            raise ValueError(
                message(
                    "control_var does not fit loc",
                    expected=f"shape (2, L, {loc.shape[0]})",
                    actual=f"shape {tuple(control_var.shape)}",
                )
            )
        self.control_var = control_var
        super().__init__(loc, scale_tril=scale_tril, validate_args=validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).normal_()
        return self.loc + _AdaptiveVelocity.apply(self.scale_tril, self.control_var, noise)


class _AdaptiveVelocity(torch.autograd.Function):
    """Multiply noise ε by a factor L; to the gradient in L the null solutions of transport are added.

    A turn of the noise by the antisymmetric matrix that joins coordinates a and b moves a draw along
    L_{·a} ε_b − L_{·b} ε_a and leaves its distribution alone. Each L_ab has one, times Σ_l B_la C_lb.
    """

    @staticmethod
    def forward(ctx: Any, scale_tril: Tensor, control_var: Tensor, noise: Tensor) -> Tensor:
        ctx.save_for_backward(scale_tril, control_var, noise)
        return noise @ scale_tril.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        scale_tril, control_var, noise = ctx.saved_tensors
        size = noise.shape[-1]
        gradient, noise = gradient.reshape(-1, size), noise.reshape(-1, size)
        turned = (gradient @ scale_tril).unsqueeze(-1) * noise.unsqueeze(-2)
        turned = (turned - turned.mT).tril()
        first, second = control_var
        slopes = (gradient.unsqueeze(-1) * noise.unsqueeze(-2)).tril() + turned * (first.mT @ second)
        # Half the gradient of the squared slopes, in the coefficients.
        weights = (slopes * turned).sum(0)
        return slopes.sum(0), torch.stack([second @ weights.mT, first @ weights]), None
