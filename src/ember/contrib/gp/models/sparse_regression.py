"""Regress on a Gaussian process through inducing points, with the effects of noise in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

import ember.distributions as dist
from ember import factor, sample
from ember.contrib.gp.kernels import Kernel
from ember.contrib.gp.kernels.kernel import positive
from ember.contrib.gp.models.model import GPModel, MeanFunction, add_noise, centred
from ember.contrib.gp.posterior import jittered_cholesky, solve_lower
from ember.errors import message
from ember.nn import pyro_method

APPROXIMATIONS = ("DTC", "FITC", "VFE")


class SparseGPRegression(GPModel):
    """Gaussian process regression at the cost O(N M²), with M inducing inputs.

    With Q = k(X, Xu) k(Xu, Xu)⁻¹ k(Xu, X) the outputs are N(mean, Q + noise · I) for ``"DTC"``, have the true
    variances on the diagonal for ``"FITC"`` (Quiñonero-Candela & Rasmussen 2005, A unifying view of sparse
    approximate Gaussian process regression, equations 20 and 24), and for ``"VFE"`` are those of DTC with the
    factor −tr(k(X, X) − Q) / 2 noise of a lower bound on the evidence (Titsias 2009, Variational learning of
    inducing variables in sparse Gaussian processes, equation 9).

    :param X: inputs, ``(N, features)`` or ``(N,)``.
    :param y: outputs, ``(…, N)``.
    :param kernel: the covariance function.
    :param Xu: initial values of the inducing inputs, a parameter, ``(M, features)`` or ``(M,)``.
    :param noise: initial value of the noise's variance, a parameter; by default 1.
    :param mean_function: the mean at inputs, by default zero.
    :param approx: ``"DTC"``, ``"FITC"`` or ``"VFE"``, the default.
    :param jitter: added to the diagonal of k(Xu, Xu).
    :raises ValueError: for another approximation.
    """

    Xu: Tensor
    noise: Tensor

    def __init__(
        self,
        X: Tensor,
        y: Tensor | None,
        kernel: Kernel,
        Xu: Tensor,
        noise: Tensor | None = None,
        mean_function: MeanFunction | None = None,
        approx: str | None = None,
        jitter: float = 1e-6,
    ) -> None:
        super().__init__(X, y, kernel, mean_function, jitter)
        approx = "VFE" if approx is None else approx
        if approx not in APPROXIMATIONS:
            raise ValueError(
                message("There is no such sparse approximation.", expected=APPROXIMATIONS, actual=approx)
            )
        self.Xu = Parameter(Xu)
        self.noise = positive(self.X.new_tensor(1.0) if noise is None else noise)
        self.approx = approx

    def _low_rank(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Luu, Luu⁻¹ k(Xu, X) = Wᵀ, the noise of each point, and the variances that Q lacks."""
        factor_u = jittered_cholesky(self.kernel(self.Xu), self.jitter)
        reach = solve_lower(factor_u, self.kernel(self.Xu, self.X))
        noise = self.noise.expand(self.X.shape[0])
        if self.approx == "DTC":
            return factor_u, reach, noise, torch.zeros_like(noise)
        lacking = (self.kernel(self.X, diag=True) - reach.square().sum(0)).clamp(min=0.0)
        return factor_u, reach, noise + lacking if self.approx == "FITC" else noise, lacking

    @pyro_method
    def model(self) -> Tensor | tuple[Tensor, Tensor]:
        """Observe y; without y, return mean and variance of the process at X."""
        self.set_mode("model")
        _, reach, noise, lacking = self._low_rank()
        mean = self.mean_function(self.X)
        if self.y is None:
            return mean, reach.square().sum(0) + noise
        rows = self.y.shape[:-1].numel()
        if self.approx == "VFE":
            bound = -0.5 * rows * (lacking / self.noise).sum()
            factor(self._pyro_get_fullname("trace_term"), bound)
        outputs = dist.LowRankMultivariateNormal(mean.expand(self.y.shape), reach.mT, noise)
        outputs = outputs.to_event(len(outputs.batch_shape))
        return sample(self._pyro_get_fullname("y"), outputs, obs=self.y)

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
        factor_u, reach, noise, _ = self._low_rank()
        residual = centred(self.y, self.mean_function(self.X))
        scaled = reach / noise  # Wᵀ D⁻¹
        inner = jittered_cholesky(scaled @ reach.mT, 1.0)
        summary = solve_lower(inner, scaled @ residual.unsqueeze(-1))
        new = solve_lower(factor_u, self.kernel(self.Xu, Xnew))
        learned = solve_lower(inner, new)
        loc = (learned.mT @ summary).squeeze(-1)
        if full_cov:
            covariance = self.kernel(Xnew) - new.mT @ new + learned.mT @ learned
        else:
            covariance = self.kernel(Xnew, diag=True) - new.square().sum(0) + learned.square().sum(0)
        covariance = covariance.expand(*loc.shape[:-1], *covariance.shape)
        if not noiseless:
            covariance = add_noise(covariance, self.noise, full_cov)
        return loc + self.mean_function(Xnew), covariance
