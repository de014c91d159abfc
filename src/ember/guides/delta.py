"""Guide a model by a point estimate of each site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ember.distributions import Delta
from ember.guides.base import AutoGuide, CreatePlates, full_size, get_nested, in_plates, set_nested
from ember.model.initialisation import InitStrategy, init_to_median
from ember.nn import PyroParam
from ember.primitives import sample


class AutoDelta(AutoGuide):
    """Estimate each latent site by one value (maximum a posteriori, with an ELBO).

    Parameters are named ``AutoDelta.SITE``, of the site's shape and inside its support.

    :param model: the model.
    :param init_loc_fn: strategy for starting values.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        init_loc_fn: InitStrategy = init_to_median,
        *,
        create_plates: CreatePlates | None = None,
    ) -> None:
        super().__init__(model, create_plates=create_plates)
        self.__dict__["init_loc_fn"] = init_loc_fn

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        for name, site in self._latent_sites():
            event_dim = site["fn"].event_dim
            value = full_size(site["value"].detach(), site, event_dim)
            set_nested(self, name, PyroParam(value, site["fn"].support, event_dim))

    def _draw(self, plates: dict[str, Any]) -> dict[str, Tensor]:
        values = {}
        for name, site in self._latent_sites():
            with in_plates(plates, site):
                point = Delta(get_nested(self, name), event_dim=site["fn"].event_dim)
                values[name] = sample(name, point)
        return values

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the estimates, of the full sizes of subsampled plates."""
        self._prepare(*args, **kwargs)
        return {name: get_nested(self, name).detach().clone() for name, _ in self._latent_sites()}
