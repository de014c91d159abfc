"""Guide a model by its mode, and then by the normal distribution that fits the curvature there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ember import poutine
from ember.distributions import Delta
from ember.errors import message
from ember.guides.base import need_whole_plates
from ember.guides.continuous import AutoContinuous, AutoMultivariateNormal


class AutoLaplaceApproximation(AutoContinuous):
    """Fit the mode of the unconstrained posterior; then approximate the posterior by a normal around it.

    While it is trained it is a point; :meth:`laplace_approximation` returns the normal guide.
    """

    def _make_params(self, loc: Tensor) -> None:
        self.loc = nn.Parameter(loc)

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the point mass at the current estimate."""
        return Delta(self.loc, event_dim=1)

    def _loc_scale(self) -> tuple[Tensor, Tensor]:
        return self.loc, torch.zeros_like(self.loc)

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Say that a point has no quantiles (always raises)."""
        raise ValueError("quantiles need the curvature: use guide.laplace_approximation(...).quantiles(...)")

    def laplace_approximation(self, *args: Any, **kwargs: Any) -> AutoMultivariateNormal:
        """Return a normal guide at the estimate, with the inverse Hessian as covariance.

        :param args: the model's arguments.
        :raises ValueError: if a site is in a subsampling plate; if the Hessian is not positive definite,
            that is, the estimate is no mode.
        """
        self._prepare(*args, **kwargs)
        need_whole_plates(self, "a Hessian")
        loc = self.loc.detach()

        def energy(latent: Tensor) -> Tensor:
            points: dict[str, Tensor] = {}
            log_jacobian: Any = 0.0
            for name, _, free in self._unpack(latent):
                value = self._transforms[name](free)
                points[name] = value
                log_jacobian = log_jacobian + self._transforms[name].log_abs_det_jacobian(free, value).sum()
            with poutine.block():
                conditioned = poutine.condition(self.model, data=points)
                trace = poutine.trace(conditioned).get_trace(*args, **kwargs)
            return -(trace.log_prob_sum() + log_jacobian)

        hessian = torch.autograd.functional.hessian(energy, loc)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if bool(failed):
            raise ValueError(
                message(
                    "the Hessian at the estimate is not positive definite",
                    expected="a mode of the posterior",
                    actual=f"smallest eigenvalue {float(torch.linalg.eigvalsh(hessian).min()):g}",
                    fix="train the guide until it converges, or use another guide",
                )
            )
        covariance = torch.cholesky_inverse(factor)
        scale_tril = torch.linalg.cholesky(covariance)
        scale = scale_tril.diagonal()
        guide = AutoMultivariateNormal(self.model, self.init_loc_fn, create_plates=self.create_plates)
        guide._setup_prototype(*args, **kwargs)
        guide.loc = nn.Parameter(loc.clone())
        guide.scale = scale
        guide.scale_tril = scale_tril / scale.unsqueeze(-1)
        return guide
