"""Approximate the posterior of a Gaussian process through inducing points, also from minibatches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from ember import poutine, sample
from ember.contrib.gp.kernels import Kernel
from ember.contrib.gp.likelihoods import Likelihood
from ember.contrib.gp.models.model import GPModel, MeanFunction, gaussian_event
from ember.contrib.gp.models.variational import latent_shape_of, prior_of_values, variational_parameters
from ember.contrib.gp.posterior import conditional, jittered_cholesky
from ember.nn import pyro_method


class VariationalSparseGP(GPModel):
    """A Gaussian process with any likelihood, and a Gaussian guide of its values u at M inducing inputs.

    The cost is O(N M²) a step, and minibatches can be set by ``set_data``. Hensman, Matthews & Ghahramani
    (2015), Scalable variational Gaussian process classification.

    :param X: inputs, ``(N, features)`` or ``(N,)``.
    :param y: outputs, ``(…, N)``.
    :param kernel: the covariance function.
    :param Xu: initial values of the inducing inputs, a parameter, ``(M, features)`` or ``(M,)``.
    :param likelihood: the distribution of y given f.
    :param mean_function: the mean at inputs, by default zero.
    :param latent_shape: batch shape of the processes, by default y's without its last dim.
    :param num_data: number of points of the whole data set, if X and y are a minibatch.
    :param whiten: whether u stands for L⁻¹ u with L Lᵀ = k(Xu, Xu).
    :param jitter: added to the diagonal of k(Xu, Xu).
    """

    Xu: Tensor
    u_loc: Tensor
    u_scale_tril: Tensor

    def __init__(
        self,
        X: Tensor,
        y: Tensor | None,
        kernel: Kernel,
        Xu: Tensor,
        likelihood: Likelihood,
        mean_function: MeanFunction | None = None,
        latent_shape: torch.Size | None = None,
        num_data: int | None = None,
        whiten: bool = False,
        jitter: float = 1e-6,
    ) -> None:
        super().__init__(X, y, kernel, mean_function, jitter)
        self.likelihood = likelihood
        self.num_data = num_data
        self.whiten = whiten
        self.latent_shape = latent_shape_of(self.y, latent_shape)
        self.u_loc, self.u_scale_tril = variational_parameters(self.X, Xu, self.latent_shape)
        self.Xu = Parameter(Xu)

    @pyro_method
    def model(self) -> Tensor | tuple[Tensor, Tensor]:
        """Draw u and observe y; without y, return mean and variance of the process at X under the guide."""
        self.set_mode("model")
        factor = jittered_cholesky(self.kernel(self.Xu), self.jitter)
        sample(self._pyro_get_fullname("u"), prior_of_values(self.u_loc, factor, self.whiten))
        f_loc, f_var = self._values(self.X, factor, full_cov=False)
        if self.y is None:
            return f_loc, f_var
        scale = 1.0 if self.num_data is None else self.num_data / self.X.shape[0]
        with poutine.scale(scale=scale):
            return self.likelihood(f_loc, f_var, self.y)

    @pyro_method
    def guide(self) -> None:
        """Draw u, and the random parameters, from their guides."""
        self.set_mode("guide")
        self._load_pyro_samples()
        sample(self._pyro_get_fullname("u"), gaussian_event(self.u_loc, self.u_scale_tril))

    def forward(self, Xnew: Tensor, full_cov: bool = False) -> tuple[Tensor, Tensor]:
        """Return mean and (co)variance of the process at new inputs, as :meth:`GPModel.forward`."""
        self._check_Xnew_shape(Xnew)
        self.set_mode("guide")
        return self._values(Xnew, None, full_cov)

    def _values(self, X: Tensor, factor: Tensor | None, full_cov: bool) -> tuple[Tensor, Tensor]:
        loc, covariance = conditional(
            X,
            self.Xu,
            self.kernel,
            self.u_loc,
            self.u_scale_tril,
            factor,
            full_cov=full_cov,
            whiten=self.whiten,
            jitter=self.jitter,
        )
        return loc + self.mean_function(X), covariance
