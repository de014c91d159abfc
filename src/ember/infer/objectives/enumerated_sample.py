"""Draw enumerated sites from their posterior with the work that a training step has done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ember import poutine
from ember.errors import message
from ember.infer.discrete import draw_discrete
from ember.infer.objectives.enumerated import TraceEnum_ELBO
from ember.infer.objectives.enumerated_bound import variables_of
from ember.poutine.trace_struct import Trace


class TraceEnumSample_ELBO(TraceEnum_ELBO):
    """:class:`~ember.infer.TraceEnum_ELBO` that can draw discrete sites as of its last step.

    After ``svi.step(...)``, ``elbo.sample_saved()`` returns what the model returns on the step's arguments
    and the guide's draws, with the sites that it enumerates drawn from their posterior.
    """

    _last: tuple[Any, Trace, Trace, tuple[Any, ...], dict[str, Any]] | None = None

    def _get_traces(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[tuple[Trace, Trace]]:
        for model_trace, guide_trace in super()._get_traces(model, guide, args, kwargs):
            self._last = (model, model_trace, guide_trace, args, kwargs)
            yield model_trace, guide_trace

    def sample_saved(self) -> Any:
        """Run the last step's model with enumerated sites drawn from their posterior.

        :raises ValueError: before the first step, with several particles, or if the guide enumerates.
        """
        if self._last is None or self.num_particles != 1 or variables_of(self._last[2]):
            raise ValueError(
                message(
                    "TraceEnumSample_ELBO has no step to draw from",
                    expected="a step before, with num_particles=1 and enumeration in the model only",
                    actual="no step"
                    if self._last is None
                    else f"num_particles={self.num_particles}"
                    if self.num_particles != 1
                    else "a guide that enumerates",
                )
            )
        model, model_trace, _, args, kwargs = self._last
        with torch.no_grad():
            drawn = draw_discrete(model_trace, temperature=1)
        return poutine.replay(model, trace=drawn)(*args, **kwargs)
