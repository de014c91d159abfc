"""Draw from a posterior predictive distribution, with importance weights of the draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember import poutine
from ember.errors import message
from ember.guides.checks import remove_subsample_sites
from ember.infer.importance import smooth_weights, vectorized_importance_weights
from ember.infer.objectives.elbo import find_max_plate_nesting
from ember.infer.objectives.particles import per_particle
from ember.infer.prediction.predictive import Predictive
from ember.infer.prediction.shapes import chunks, join_chunks, run_prototype, with_draws

_GUIDE, _MODEL = "_guide_log_prob", "_model_log_prob"


class WeighedPredictiveResults(NamedTuple):
    """Draws by site, with what weighs them; each tensor has a leading dim of draws."""

    samples: dict[str, Tensor]
    log_weights: Tensor  # log p − log q
    guide_log_prob: Tensor
    model_log_prob: Tensor

    def smooth(self) -> tuple[Tensor, float]:
        """Return Pareto-smoothed log weights, normalised, and their k̂; above 0.7 do not trust them."""
        return smooth_weights(self.log_weights)

    def resample(self, num_samples: int | None = None) -> dict[str, Tensor]:
        """Return draws by site, drawn again with replacement by their smoothed weights.

        :param num_samples: number of draws to return; by default as many as there are.
        """
        count = len(self.log_weights) if num_samples is None else num_samples
        chosen = torch.multinomial(self.smooth()[0].exp(), count, replacement=True)
        return {name: value[chosen] for name, value in self.samples.items()}


class WeighedPredictive(Predictive):
    """Like :class:`~ember.infer.prediction.predictive.Predictive` with a guide, and log weights of the draws.

    The weight of a draw is that of the latent values, the data of ``model_guide`` (by default the model
    itself) taken into account. Parameters are those of ``Predictive``; ``guide`` is needed, and with
    ``parallel`` it must broadcast like the model.
    """

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Return :class:`WeighedPredictiveResults` for the given arguments of the model.

        :param model_guide: keyword; the model whose posterior the guide stands for, with the data. By default
            the model.
        """
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return :class:`WeighedPredictiveResults` for the given arguments of the model."""
        model = kwargs.pop("model_guide", self.model)
        if self.guide is None:
            raise ValueError(
                message("WeighedPredictive weighs draws of a guide", fix="pass guide=..., or use Predictive")
            )
        with torch.no_grad():
            weigh = self._weigh_together if self.parallel else self._weigh_singly
            found = weigh(model, args, kwargs)
        q, p = found.pop(_GUIDE), found.pop(_MODEL)
        chosen = self.return_sites
        options: dict[str, Any] = {
            "return_sites": chosen,
            "parallel": self.parallel,
            "batch_size": self.batch_size,
        }
        samples = Predictive(self.model, found, **options).forward(*args, **kwargs)
        if chosen is None or not len(chosen):
            samples = {**found, **samples}
        return WeighedPredictiveResults(samples, p - q, q, p)

    def _weigh_singly(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
        """Return latent values and log probabilities of draws of the guide, one run for each."""

        def once() -> dict[str, Tensor]:
            guide_trace = poutine.trace(self.guide).get_trace(*args, **kwargs)
            replayed = poutine.replay(model, trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
            for trace in (guide_trace, model_trace):
                remove_subsample_sites(trace)
            row = {name: site["value"] for name, site in model_trace.iter_stochastic_nodes()}
            row[_GUIDE] = torch.as_tensor(guide_trace.log_prob_sum())
            row[_MODEL] = torch.as_tensor(model_trace.log_prob_sum())
            return {name: value.unsqueeze(0) for name, value in row.items()}

        return join_chunks(once() for _ in range(self.num_samples))

    def _weigh_together(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
        """Return what :meth:`_weigh_singly` does, from runs with many draws."""
        guide: Any = self.guide
        prototype = run_prototype(model, args, kwargs)
        nesting = find_max_plate_nesting(model, guide, args, kwargs)

        def together(count: int) -> dict[str, Tensor]:
            options = {"num_samples": count, "max_plate_nesting": nesting, **kwargs}
            weights, model_trace, _ = vectorized_importance_weights(model, guide, *args, **options)
            rows = {
                name: with_draws(site["value"], (count,), prototype.nodes[name]["value"].shape)
                for name, site in model_trace.iter_stochastic_nodes()
            }
            rows[_MODEL] = per_particle(model_trace, lambda site: site["log_prob"]).expand(count)
            rows[_GUIDE] = rows[_MODEL] - weights
            return rows

        return join_chunks(together(count) for count, _ in chunks({}, self.num_samples, self.batch_size))
