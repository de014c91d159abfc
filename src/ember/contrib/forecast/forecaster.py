"""Train a forecasting model by variational inference, and forecast with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import ember.optim
from ember import get_param_store, plate, poutine
from ember.contrib.forecast.model import ForecastingModel, check_durations
from ember.contrib.forecast.prefixes import PrefixReplay
from ember.contrib.forecast.time_reparam import with_time_reparam
from ember.errors import message
from ember.infer import SVI, Trace_ELBO
from ember.infer.autoguide import AutoNormal, init_to_sample
from ember.infer.objectives.elbo import find_max_plate_nesting

logger = logging.getLogger(__name__)


class Forecaster(nn.Module):
    """A forecasting model trained by SVI on construction; calling it draws forecasts.

    :param model: the model.
    :param data: ``(..., T, obs_dim)``.
    :param covariates: ``(..., T, features)``; those of no features are ``torch.zeros(T, 0)``.
    :param guide: a guide of the model, by default AutoNormal.
    :param init_loc_fn: where AutoNormal's means begin.
    :param init_scale: where its scales begin.
    :param create_plates: makes the plates of AutoNormal, for models that subsample.
    :param optim: an optimizer, by default ClippedAdam (DCTAdam) of the following arguments.
    :param learning_rate: the first learning rate.
    :param betas: decay rates of the optimizer's moments.
    :param learning_rate_decay: ratio of the last to the first learning rate.
    :param clip_norm: bound on the elements of gradients.
    :param time_reparam: ``"dct"`` or ``"haar"``: guide the cosine or wavelet coefficients of latent series.
    :param dct_gradients: use DCTAdam.
    :param subsample_aware: let DCTAdam leave the parameters of unused subsamples alone.
    :param num_steps: number of training steps.
    :param num_particles: number of draws in each step.
    :param vectorize_particles: draw them at once.
    :param warm_start: begin at the parameters of a shorter series, where the store holds such ones.
    :param log_every: log the loss every so many steps, or never if 0.
    :ivar losses: the loss of each step, divided by the number of observations.
    :raises ValueError: if data and covariates are not of one duration.
    """

    def __init__(
        self,
        model: ForecastingModel,
        data: Tensor,
        covariates: Tensor,
        *,
        guide: Any = None,
        init_loc_fn: Callable[..., Any] = init_to_sample,
        init_scale: float = 0.1,
        create_plates: Callable[..., Any] | None = None,
        optim: Any = None,
        learning_rate: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        learning_rate_decay: float = 0.1,
        clip_norm: float = 10.0,
        time_reparam: str | None = None,
        dct_gradients: bool = False,
        subsample_aware: bool = False,
        num_steps: int = 1001,
        num_particles: int = 1,
        vectorize_particles: bool = True,
        warm_start: bool = False,
        log_every: int = 100,
    ) -> None:
        super().__init__()
        check_training(data, covariates)
        self.model = model
        self._trained_model = with_time_reparam(model, time_reparam)
        if guide is None:
            guide = AutoNormal(
                self._trained_model,
                init_loc_fn=init_loc_fn,
                init_scale=init_scale,
                create_plates=create_plates,
            )
        self.guide = guide
        earlier = _take_parameters() if warm_start else {}
        self.max_plate_nesting = max(
            1, find_max_plate_nesting(self._trained_model, guide, (data, covariates), {})
        )
        _begin_at(earlier)
        if optim is None:
            options = {
                "lr": learning_rate,
                "betas": betas,
                "lrd": learning_rate_decay ** (1 / max(num_steps, 1)),
                "clip_norm": clip_norm,
            }
            if dct_gradients:
                optim = ember.optim.DCTAdam({**options, "subsample_aware": subsample_aware})
            else:
                optim = ember.optim.ClippedAdam(options)
        elbo = Trace_ELBO(
            num_particles=num_particles,
            vectorize_particles=vectorize_particles,
            max_plate_nesting=self.max_plate_nesting,
        )
        svi = SVI(self._trained_model, guide, optim, elbo)
        self.losses: list[float] = []
        for step in range(num_steps):
            self.losses.append(float(svi.step(data, covariates)) / data.numel())
            if log_every and step % log_every == 0:
                logger.info("step %d loss = %.6g", step, self.losses[-1])
        self.guide.eval()

    def forward(
        self, data: Tensor, covariates: Tensor, num_samples: int, batch_size: int | None = None
    ) -> Tensor:
        """Draw what follows the data, ``(num_samples, ..., T - t, obs_dim)``.

        :param data: of t steps, those of the training or their like.
        :param covariates: of T ≥ t steps.
        :param num_samples: number of draws.
        :param batch_size: number of draws made at a time, by default all.
        """
        check_durations(data, covariates)
        known = covariates[..., : data.shape[-2], :]

        def draw_latents(size: int) -> dict[str, Tensor]:
            guided = poutine.trace(self.guide).get_trace(data, known)
            replayed = poutine.replay(self._trained_model, trace=guided)
            return recorded(poutine.trace(replayed).get_trace(data, known))

        return continued(
            self.model, draw_latents, data, covariates, num_samples, batch_size, self.max_plate_nesting
        )


def check_training(data: Tensor, covariates: Tensor) -> None:
    """Refuse data and covariates that are not of one duration.

    :raises ValueError: naming both shapes.
    """
    check_durations(data, covariates)
    if data.shape[-2] != covariates.shape[-2]:
        raise ValueError(
            message(
                "A forecaster is trained on data and covariates of one duration.",
                expected=f"covariates of {data.shape[-2]} steps",
                actual=tuple(covariates.shape),
                fix="give covariates of the future when forecasting",
            )
        )


def continued(
    model: ForecastingModel,
    draw_latents: Callable[[int], dict[str, Tensor]],
    data: Tensor,
    covariates: Tensor,
    num_samples: int,
    batch_size: int | None,
    max_plate_nesting: int,
) -> Tensor:
    """Draw from a model what follows the data, given a function that draws latents of the past."""
    parts = []
    with torch.no_grad():
        for size in _sizes(num_samples, batch_size):
            dim = -1 - max_plate_nesting
            with poutine.block(), plate("particles", size, dim=dim):
                values = draw_latents(size)
            with plate("particles", size, dim=dim), PrefixReplay(values):
                drawn = model(data, covariates)
            parts.append(drawn.expand(size, *drawn.shape[-data.dim() :]))
    return torch.cat(parts)


def recorded(trace: Any) -> dict[str, Tensor]:
    """Return the values of a trace's random sites, and of those computed in their places."""
    return {
        name: site["value"]
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and isinstance(site["value"], Tensor)
    }


def _sizes(total: int, batch_size: int | None) -> Iterator[int]:
    batch_size = total if batch_size is None else batch_size
    for start in range(0, total, batch_size):
        yield min(batch_size, total - start)


def _take_parameters() -> dict[str, Tensor]:
    """Take all parameters out of the store; return their unconstrained values."""
    store = get_param_store()
    values = {name: leaf.detach().clone() for name, leaf in store.named_parameters()}
    store.clear()
    return values


def _begin_at(earlier: dict[str, Tensor]) -> None:
    """Copy earlier values into parameters of the same shape, or of one that is longer along one dim."""
    with torch.no_grad():
        for name, leaf in get_param_store().named_parameters():
            before = earlier.get(name)
            if before is None or before.dim() != leaf.dim():
                continue
            overlap = tuple(slice(0, min(a, b)) for a, b in zip(leaf.shape, before.shape, strict=True))
            leaf[overlap] = before[overlap]
