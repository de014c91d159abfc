"""Draw from a posterior predictive distribution, with importance weights of the draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember import poutine
from ember.errors import message
from ember.guides.checks import remove_subsample_sites
from ember.infer.predictive import Predictive


class WeighedPredictiveResults(NamedTuple):
    """Draws by site, with what weighs them; each tensor has a leading dim of draws."""

    samples: dict[str, Tensor]
    log_weights: Tensor  # log p − log q
    guide_log_prob: Tensor
    model_log_prob: Tensor


class WeighedPredictive(Predictive):
    """Like :class:`~ember.infer.predictive.Predictive` with a guide, and log weights of the draws.

    The weight of a draw is that of the latent values, the data of ``model_guide`` (by default the model
    itself) taken into account. Parameters are those of ``Predictive``; ``guide`` is needed.
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
        latent: dict[str, list[Tensor]] = {}
        log_q, log_p = [], []
        with torch.no_grad():
            for _ in range(self.num_samples):
                guide_trace = poutine.trace(self.guide).get_trace(*args, **kwargs)
                replayed = poutine.replay(model, trace=guide_trace)
                model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
                for trace in (guide_trace, model_trace):
                    remove_subsample_sites(trace)
                log_q.append(torch.as_tensor(guide_trace.log_prob_sum()))
                log_p.append(torch.as_tensor(model_trace.log_prob_sum()))
                for name, site in model_trace.iter_stochastic_nodes():
                    latent.setdefault(name, []).append(site["value"])
        posterior = {name: torch.stack(values) for name, values in latent.items()}
        chosen = self.return_sites
        inner = Predictive(self.model, posterior, return_sites=chosen, parallel=self.parallel)
        samples = inner.forward(*args, **kwargs)
        if chosen is None or not len(chosen):
            samples = {**posterior, **samples}
        q, p = torch.stack(log_q), torch.stack(log_p)
        return WeighedPredictiveResults(samples, p - q, q, p)
