"""Regress on a Gaussian process with Gaussian noise, exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ember import sample
from ember.contrib.gp.kernels import Kernel
from ember.contrib.gp.kernels.kernel import positive
from ember.contrib.gp.models.model import GPModel, MeanFunction, add_noise, centred, gaussian_event
from ember.contrib.gp.posterior import conditional, jittered_cholesky
from ember.nn import pyro_method


class GPRegression(GPModel):
    """Gaussian process regression: y ~ N(mean(X), k(X, X) + noise · I), with f summed out.

    Rasmussen & Williams (2006), section 2.2; costs O(N³).

    :param X: inputs, ``(N, features)`` or ``(N,)``.
    :param y: outputs, ``(…, N)``; several rows are independent given the hyperparameters.
    :param kernel: the covariance function.
    :param noise: initial value of the noise's variance, a parameter; by default 1.
    :param mean_function: the mean at inputs, by default zero.
    :param jitter: added to the diagonal of the kernel's matrix.

    >>> import torch
    >>> from ember.contrib.gp.kernels import RBF
    >>> X = torch.linspace(0.0, 3.0, 7)
    >>> gpr = GPRegression(X, X.sin(), RBF(1), noise=torch.tensor(0.01))
    >>> loc, variance = gpr(torch.tensor([1.5]))
    >>> abs(loc.item() - 1.0) < 0.05
    True
    """

    noise: Tensor

    def __init__(
        self,
        X: Tensor,
        y: Tensor | None,
        kernel: Kernel,
        noise: Tensor | None = None,
        mean_function: MeanFunction | None = None,
        jitter: float = 1e-6,
    ) -> None:
        super().__init__(X, y, kernel, mean_function, jitter)
        self.noise = positive(self.X.new_tensor(1.0) if noise is None else noise)

    @pyro_method
    def model(self) -> Tensor | tuple[Tensor, Tensor]:
        """Observe y; without y, return mean and variance of the process at X."""
        self.set_mode("model")
        mean = self.mean_function(self.X)
        factor = jittered_cholesky(self.kernel(self.X), self.jitter + self.noise)
        if self.y is None:
            return mean, factor.square().sum(-1)
        mean = mean.expand(self.y.shape)
        return sample(self._pyro_get_fullname("y"), gaussian_event(mean, factor), obs=self.y)

    @pyro_method
    def guide(self) -> None:
        """Draw the random parameters from their guides."""
        self.set_mode("guide")
        self._load_pyro_samples()

    def forward(self, Xnew: Tensor, full_cov: bool = False, noiseless: bool = True) -> tuple[Tensor, Tensor]:
        """Return mean and (co)variance at new inputs, as :meth:`GPModel.forward`.

        :param noiseless: whether they are those of the process, or of new outputs with noise.
        """
        self._check_Xnew_shape(Xnew)
        self.set_mode("guide")
        factor = jittered_cholesky(self.kernel(self.X), self.jitter + self.noise)
        residual = centred(self.y, self.mean_function(self.X))
        loc, covariance = conditional(Xnew, self.X, self.kernel, residual, None, factor, full_cov)
        if not noiseless:
            covariance = add_noise(covariance, self.noise, full_cov)
        return loc + self.mean_function(Xnew), covariance

    def iter_sample(self, noiseless: bool = True) -> Callable[[Tensor], Tensor]:
        """Return a function that draws values of one function from the posterior, call after call.

        Later inputs may depend on the values at earlier ones.

        :param noiseless: whether the values are those of the process, or of outputs with noise.
        """
        self.set_mode("guide")
        context = self._pyro_context
        with torch.no_grad(), context:
            self._load_pyro_samples()
            draws = dict(context.draws)
            noise = self.noise.detach().clone()
            drawn_noise = torch.zeros_like(noise) if noiseless else noise
            inputs, variances = self.X, noise.expand(len(self.X))
            values = centred(self.y, self.mean_function(self.X))

        def sample_next(xnew: Tensor) -> Tensor:
            nonlocal inputs, variances, values
            self._check_Xnew_shape(xnew)
            with torch.no_grad(), context:
                context.draws.update(draws)  # one function has one set of hyperparameters
                factor = jittered_cholesky(self.kernel(inputs) + torch.diag(variances), self.jitter)
                loc, covariance = conditional(xnew, inputs, self.kernel, values, None, factor, full_cov=True)
                spread = jittered_cholesky(covariance, self.jitter + drawn_noise)
                new = loc + (spread @ torch.randn_like(loc).unsqueeze(-1)).squeeze(-1)
                inputs, values = torch.cat([inputs, xnew]), torch.cat([values, new], -1)
                variances = torch.cat([variances, drawn_noise.expand(len(xnew))])
                return new + self.mean_function(xnew)

        return sample_next
