"""Let users write a guide as the model itself with their own posteriors at its latent sites."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ember.errors import message
from ember.guides.messenger import PosteriorMessenger
from ember.poutine.trace_messenger import TraceMessenger
from ember.poutine.trace_struct import Trace


class GuideMessenger(ABC):
    """Base of guides that run the model; subclasses define :meth:`get_posterior`.

    Calls take the model's arguments, draw all latent sites, and return a dict of the values of all
    sites, observed and deterministic ones too, by name.

    :param model: the model.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        self._model = (model,)  # in a tuple: a model that is a module is no submodule
        self._values: dict[str, Tensor] = {}
        self._priors: dict[str, Any] = {}
        self._trace: Trace | None = None

    @property
    def model(self) -> Callable[..., Any]:
        """The model that the guide was made from."""
        return self._model[0]

    @abstractmethod
    def get_posterior(self, name: str, prior: Any) -> Any:
        """Return the posterior of a site: a distribution, or a value.

        :param name: name of the site.
        :param prior: its distribution in the model, inside the model's plates.
        """

    def upstream_value(self, name: str) -> Tensor | None:
        """Return the draw of an earlier site in this run, or None if there is none."""
        return self._values.get(name)

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw all latent sites and return the values of all sites; arguments are the model's."""
        substitution = PosteriorMessenger(self._posterior)
        recorder = TraceMessenger()
        self._priors = {}
        with substitution:
            self._values = substitution.values
            with recorder:
                self.model(*args, **kwargs)
        self._trace = recorder.get_trace()
        return substitution.values

    def _posterior(self, name: str, prior: Any) -> Any:
        self._priors[name] = prior
        return self.get_posterior(name, prior)

    def get_traces(self) -> tuple[Trace, Trace]:
        """Return the traces of the model and of the guide in the last run, without running them again.

        :raises ValueError: before the first run.
        """
        if self._trace is None:
            raise ValueError(message(f"{type(self).__name__} has not run yet", fix="call it first"))
        model_trace, guide_trace = self._trace.copy(), Trace()
        for name, site in model_trace.nodes.items():
            if site["type"] != "sample" or not site["is_observed"]:
                guide_trace.add_record(name, site.copy())
            if name in self._priors:
                site["fn"] = self._priors[name]
        return model_trace, guide_trace
