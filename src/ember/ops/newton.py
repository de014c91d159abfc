"""Take Newton steps on many small problems at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ember.errors import message


def newton_step(loss: Tensor, x: Tensor, trust_radius: float | None = None) -> tuple[Tensor, Tensor]:
    """Take one Newton step towards the minimum of a sum of independent functions of one to three numbers.

    With a trust radius, eigenvalues of the Hessian below ``|gradient| / trust_radius`` are raised to it, so
    that no step is longer, and all steps go downhill; near a minimum the step is Newton's.

    :param loss: scalar tensor, twice differentiable in ``x``, without interaction between batch elements.
    :param x: ``batch + (D,)`` with D in 1, 2, 3.
    :param trust_radius: greatest length of a step, positive; None for the plain step.
    :returns: the new points, ``batch + (D,)``, with gradients to what the loss depends on besides ``x``, and
        the detached inverse Hessians, ``batch + (D, D)``.
    :raises ValueError: for other shapes or a radius that is not positive.
    """
    if loss.shape != () or x.dim() < 1 or x.shape[-1] not in (1, 2, 3):
        raise ValueError(
            message(
                "newton_step takes a scalar loss and points of one to three dimensions",
                expected="loss of shape (), x of shape batch + (1,), (2,) or (3,)",
                actual=f"loss {tuple(loss.shape)}, x {tuple(x.shape)}",
            )
        )
    if trust_radius is not None and not trust_radius > 0:
        raise ValueError(f"trust_radius must be positive, got {trust_radius}")
    (gradient,) = torch.autograd.grad(loss, [x], create_graph=True)
    rows = []
    for coordinate in gradient.unbind(-1):
        row = None
        if coordinate.requires_grad:
            (row,) = torch.autograd.grad(coordinate.sum(), [x], create_graph=True, allow_unused=True)
        rows.append(torch.zeros_like(x) if row is None else row)
    hessian = torch.stack(rows, -2)
    if trust_radius is not None:
        hessian = hessian + _lift(gradient.detach(), hessian.detach(), trust_radius)
    step = torch.linalg.solve(hessian, gradient.unsqueeze(-1)).squeeze(-1)
    return x.detach() - step, torch.linalg.inv(hessian.detach())


def _lift(gradient: Tensor, hessian: Tensor, trust_radius: float) -> Tensor:
    """Return what raises the eigenvalues of the Hessian to the least that the radius allows."""
    values, vectors = torch.linalg.eigh(hessian)
    tiny = torch.finfo(values.dtype).eps
    least = (gradient.norm(dim=-1, keepdim=True) / trust_radius).clamp(min=tiny)
    lift = (least - values).clamp(min=0)
    return (vectors * lift.unsqueeze(-2)) @ vectors.transpose(-1, -2)


def _of_dim(dim: int, loss: Tensor, x: Tensor, trust_radius: float | None) -> tuple[Tensor, Tensor]:
    if x.dim() < 1 or x.shape[-1] != dim:
        raise ValueError(f"newton_step_{dim}d takes points of shape batch + ({dim},), got {tuple(x.shape)}")
    return newton_step(loss, x, trust_radius)


def newton_step_1d(loss: Tensor, x: Tensor, trust_radius: float | None = None) -> tuple[Tensor, Tensor]:
    """Take :func:`newton_step` for points of one dimension."""
    return _of_dim(1, loss, x, trust_radius)


def newton_step_2d(loss: Tensor, x: Tensor, trust_radius: float | None = None) -> tuple[Tensor, Tensor]:
    """Take :func:`newton_step` for points of two dimensions."""
    return _of_dim(2, loss, x, trust_radius)


def newton_step_3d(loss: Tensor, x: Tensor, trust_radius: float | None = None) -> tuple[Tensor, Tensor]:
    """Take :func:`newton_step` for points of three dimensions."""
    return _of_dim(3, loss, x, trust_radius)
