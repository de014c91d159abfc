"""Compute conditional distributions of Gaussian processes, and train their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ember.optim
from ember.contrib.gp.parameterized import Parameterized
from ember.infer import SVI, TraceMeanField_ELBO


def jittered_cholesky(covariance: Tensor, jitter: float | Tensor) -> Tensor:
    """Return the Cholesky factor of a covariance with something added to its diagonal."""
    size = covariance.shape[-1]
    eye = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky(covariance + jitter * eye)


def solve_lower(factor: Tensor, right: Tensor) -> Tensor:
    """Return L⁻¹ B for a lower triangular L."""
    return torch.linalg.solve_triangular(factor, right, upper=False)


def conditional(
    Xnew: Tensor,
    X: Tensor,
    kernel: Callable[..., Tensor],
    f_loc: Tensor,
    f_scale_tril: Tensor | None = None,
    Lff: Tensor | None = None,
    full_cov: bool = False,
    whiten: bool = False,
    jitter: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Return mean and (co)variance of a zero-mean process at new inputs, given a Gaussian f at others.

    With f ~ N(f_loc, S Sᵀ), or f = f_loc, and L Lᵀ = k(X, X), A = L⁻¹ k(X, Xnew), the mean is Aᵀ L⁻¹ f_loc
    and the covariance k(Xnew, Xnew) − Aᵀ A + Aᵀ L⁻¹ S (Aᵀ L⁻¹ S)ᵀ. Hensman, Matthews & Ghahramani (2015),
    Scalable variational Gaussian process classification, equation 14.

    :param Xnew: new inputs, ``(M, …)``.
    :param X: the inputs of f, ``(N, …)``.
    :param kernel: the covariance function.
    :param f_loc: mean of f, ``latent_shape + (N,)``.
    :param f_scale_tril: Cholesky factor S of its covariance, ``latent_shape + (N, N)``; by default f
        is known.
    :param Lff: the factor L, ``(N, N)``, if it is known; it may contain noise.
    :param full_cov: whether to return the covariances of the new values, or their variances.
    :param whiten: whether ``f_loc`` and ``f_scale_tril`` describe L⁻¹ f instead of f.
    :param jitter: added to the diagonal of k(X, X).
    :return: ``latent_shape + (M,)`` and ``latent_shape + (M, M)`` or ``latent_shape + (M,)``.
    """
    if Lff is None:
        Lff = jittered_cholesky(kernel(X), jitter)
    reach = solve_lower(Lff, kernel(X, Xnew))  # A, (N, M)
    white_loc = f_loc.unsqueeze(-1) if whiten else solve_lower(Lff, f_loc.unsqueeze(-1))
    loc = (reach.mT @ white_loc).squeeze(-1)
    latent_shape = f_loc.shape[:-1]
    spread = None
    if f_scale_tril is not None:
        spread = reach.mT @ (f_scale_tril if whiten else solve_lower(Lff, f_scale_tril))
    if full_cov:
        covariance = kernel(Xnew) - reach.mT @ reach
        if spread is not None:
            covariance = covariance + spread @ spread.mT
        return loc, covariance.expand(*latent_shape, *covariance.shape[-2:])
    variance = kernel(Xnew, diag=True) - reach.square().sum(-2)
    # Rounding must not make what is known for certain negative.
    variance = variance.clamp(min=0.0)
    if spread is not None:
        variance = variance + spread.square().sum(-1)
    return loc, variance.expand(*latent_shape, variance.shape[-1])


def train(
    gpmodule: Parameterized,
    optimizer: torch.optim.Optimizer | None = None,
    loss_fn: Callable[..., Tensor] | None = None,
    retain_graph: bool | None = None,
    num_steps: int = 1000,
) -> list[float]:
    """Train the parameters of a Gaussian process model with its guide.

    With the defaults the steps are those of SVI, and run as machine code where they can.

    :param gpmodule: a model with methods ``model`` and ``guide``.
    :param optimizer: a torch optimizer of its parameters, by default Adam with learning rate 0.01.
    :param loss_fn: a function of model and guide, by default ``TraceMeanField_ELBO().differentiable_loss``.
    :param retain_graph: passed to ``backward`` of the loss.
    :param num_steps: number of steps.
    :return: the loss of each step.
    """
    if optimizer is None and loss_fn is None and not retain_graph:
        adam = ember.optim.Adam({"lr": 0.01})
        svi = SVI(gpmodule.model, gpmodule.guide, adam, TraceMeanField_ELBO())
        return [float(svi.step()) for _ in range(num_steps)]
    loss_of = TraceMeanField_ELBO().differentiable_loss if loss_fn is None else loss_fn
    optimizer = torch.optim.Adam(gpmodule.parameters(), lr=0.01) if optimizer is None else optimizer

    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(gpmodule.model, gpmodule.guide)
        loss.backward(retain_graph=retain_graph)
        return loss.detach()

    return [float(optimizer.step(closure)) for _ in range(num_steps)]
