"""Sample the latents of a forecasting model by NUTS, and forecast with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ember import poutine
from ember.contrib.forecast.forecaster import check_training, continued, recorded
from ember.contrib.forecast.model import ForecastingModel, check_durations
from ember.contrib.forecast.time_reparam import with_time_reparam
from ember.infer import MCMC, NUTS


class HMCForecaster(nn.Module):
    """A forecasting model whose posterior is sampled by NUTS on construction; calling it draws forecasts.

    :param model: the model.
    :param data: ``(..., T, obs_dim)``.
    :param covariates: ``(..., T, features)``, by default of no features.
    :param num_warmup: number of warmup steps of each chain.
    :param num_samples: number of draws of each chain.
    :param num_chains: number of chains.
    :param time_reparam: ``"dct"`` or ``"haar"``: sample the coefficients of latent series.
    :param dense_mass: adapt a dense mass matrix.
    :param jit_compile: see :class:`~ember.infer.NUTS`.
    :param max_tree_depth: see :class:`~ember.infer.NUTS`.
    :ivar mcmc: the finished run.
    :raises ValueError: if data and covariates are not of one duration.
    """

    def __init__(
        self,
        model: ForecastingModel,
        data: Tensor,
        covariates: Tensor | None = None,
        *,
        num_warmup: int = 1000,
        num_samples: int = 1000,
        num_chains: int = 1,
        time_reparam: str | None = None,
        dense_mass: bool = False,
        jit_compile: bool = False,
        max_tree_depth: int = 10,
    ) -> None:
        super().__init__()
        covariates = data.new_zeros(data.shape[-2], 0) if covariates is None else covariates
        check_training(data, covariates)
        self.model = model
        self._sampled_model = with_time_reparam(model, time_reparam)
        kernel = NUTS(
            self._sampled_model,
            full_mass=dense_mass,
            jit_compile=jit_compile,
            ignore_jit_warnings=True,
            max_tree_depth=max_tree_depth,
        )
        self.mcmc = MCMC(
            kernel,
            num_samples=num_samples,
            warmup_steps=num_warmup,
            num_chains=num_chains,
            disable_progbar=True,
        )
        self.mcmc.run(data, covariates)
        with poutine.block(), torch.random.fork_rng():
            trace = poutine.trace(self._sampled_model).get_trace(data, covariates)
        sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample"}
        dims = [-frame.dim for site in sites.values() for frame in site["cond_indep_stack"] if frame.dim]
        self.max_plate_nesting = max([1, *dims])
        self._samples = {
            name: _aligned(value, sites[name]["fn"], self.max_plate_nesting)
            for name, value in self.mcmc.get_samples().items()
        }

    def forward(
        self, data: Tensor, covariates: Tensor, num_samples: int, batch_size: int | None = None
    ) -> Tensor:
        """Draw what follows the data, ``(num_samples, ..., T - t, obs_dim)``.

        Draws of the posterior are used at most once each, unless more are asked for than there are.

        :param data: of t steps, those of the run.
        :param covariates: of T ≥ t steps.
        :param num_samples: number of draws.
        :param batch_size: number of draws made at a time, by default all.
        """
        check_durations(data, covariates)
        known = covariates[..., : data.shape[-2], :]
        available = len(next(iter(self._samples.values())))
        if num_samples <= available:
            order = torch.randperm(available)[:num_samples]
        else:
            order = torch.randint(available, (num_samples,))
        chosen = iter(order.split(num_samples if batch_size is None else batch_size))

        def draw_latents(size: int) -> dict[str, Tensor]:
            indices = next(chosen)
            values = {name: each[indices] for name, each in self._samples.items()}
            conditioned = poutine.condition(self._sampled_model, data=values)
            return recorded(poutine.trace(conditioned).get_trace(data, known))

        return continued(
            self.model, draw_latents, data, covariates, num_samples, batch_size, self.max_plate_nesting
        )


def _aligned(value: Tensor, fn: Any, max_plate_nesting: int) -> Tensor:
    """Return draws with the sample dim to the left of all plates."""
    batch = value.shape[1 : value.dim() - fn.event_dim]
    ones = (1,) * (max_plate_nesting - len(batch))
    return value.reshape(value.shape[0], *ones, *value.shape[1:])
