"""Approximate the posterior of a Gaussian process under any likelihood by a Gaussian."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ember import sample
from ember.contrib.gp.kernels import Kernel
from ember.contrib.gp.likelihoods import Likelihood
from ember.contrib.gp.models.model import GPModel, MeanFunction, gaussian_event
from ember.contrib.gp.posterior import conditional, jittered_cholesky
from ember.distributions import constraints
from ember.nn import PyroParam, pyro_method


class VariationalGP(GPModel):
    """A Gaussian process with any likelihood, and the guide N(f_loc, S Sᵀ) of its values f at the inputs.

    The observations are scored under the guide's marginals of f, which the likelihood takes as means and
    variances; the site ``f`` carries the divergence of the guide from the prior. Opper & Archambeau (2009),
    The variational Gaussian approximation revisited.

    :param X: inputs, ``(N, features)`` or ``(N,)``.
    :param y: outputs, ``(…, N)``.
    :param kernel: the covariance function.
    :param likelihood: the distribution of y given f.
    :param mean_function: the mean at inputs, by default zero.
    :param latent_shape: batch shape of the processes, by default y's without its last dim.
    :param whiten: whether f stands for L⁻¹ f with L Lᵀ = k(X, X), whose prior is a standard Gaussian.
    :param jitter: added to the diagonal of k(X, X).
    """

    f_loc: Tensor
    f_scale_tril: Tensor

    def __init__(
        self,
        X: Tensor,
        y: Tensor | None,
        kernel: Kernel,
        likelihood: Likelihood,
        mean_function: MeanFunction | None = None,
        latent_shape: torch.Size | None = None,
        whiten: bool = False,
        jitter: float = 1e-6,
    ) -> None:
        super().__init__(X, y, kernel, mean_function, jitter)
        self.likelihood = likelihood
        self.latent_shape = latent_shape_of(self.y, latent_shape)
        self.whiten = whiten
        self.f_loc, self.f_scale_tril = variational_parameters(self.X, self.X, self.latent_shape)

    @pyro_method
    def model(self) -> Tensor | tuple[Tensor, Tensor]:
        """Draw f and observe y; without y, return mean and variance of the process at X under the guide."""
        self.set_mode("model")
        factor = jittered_cholesky(self.kernel(self.X), self.jitter)
        sample(self._pyro_get_fullname("f"), prior_of_values(self.f_loc, factor, self.whiten))
        f_loc, f_scale_tril = self.f_loc, self.f_scale_tril
        if self.whiten:
            f_loc = (factor @ f_loc.unsqueeze(-1)).squeeze(-1)
            f_scale_tril = factor @ f_scale_tril
        f_loc = f_loc + self.mean_function(self.X)
        f_var = f_scale_tril.square().sum(-1)
        if self.y is None:
            return f_loc, f_var
        return self.likelihood(f_loc, f_var, self.y)

    @pyro_method
    def guide(self) -> None:
        """Draw f, and the random parameters, from their guides."""
        self.set_mode("guide")
        self._load_pyro_samples()
        sample(self._pyro_get_fullname("f"), gaussian_event(self.f_loc, self.f_scale_tril))

    def forward(self, Xnew: Tensor, full_cov: bool = False) -> tuple[Tensor, Tensor]:
        """Return mean and (co)variance of the process at new inputs, as :meth:`GPModel.forward`."""
        self._check_Xnew_shape(Xnew)
        self.set_mode("guide")
        loc, covariance = conditional(
            Xnew,
            self.X,
            self.kernel,
            self.f_loc,
            self.f_scale_tril,
            full_cov=full_cov,
            whiten=self.whiten,
            jitter=self.jitter,
        )
        return loc + self.mean_function(Xnew), covariance


def latent_shape_of(y: Tensor | None, latent_shape: torch.Size | None) -> torch.Size:
    """Return the batch shape of the processes, by default that of the outputs."""
    if latent_shape is not None:
        return torch.Size(latent_shape)
    return torch.Size() if y is None else y.shape[:-1]


def variational_parameters(like: Tensor, points: Tensor, latent_shape: torch.Size) -> tuple[Any, Any]:
    """Return the mean (zero) and Cholesky factor (the identity) of a guide of values at some points."""
    size = points.shape[0]
    eye = torch.eye(size, dtype=like.dtype, device=like.device).expand(*latent_shape, size, size)
    return (
        Parameter(like.new_zeros(*latent_shape, size)),
        PyroParam(eye.clone(), constraint=constraints.lower_cholesky),
    )


def prior_of_values(like: Tensor, factor: Tensor, whiten: bool) -> Any:
    """Return the prior of values of centred processes, ``like`` in shape, or of their whitened form."""
    if whiten:
        factor = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return gaussian_event(torch.zeros_like(like), factor)
