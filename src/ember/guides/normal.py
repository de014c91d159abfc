"""Guide a model by independent normal distributions in unconstrained space, one for each site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ember.distributions import Normal, constraints
from ember.guides.base import AutoGuide, CreatePlates, full_size, get_nested, in_plates, set_nested
from ember.guides.image import image, normal_quantiles
from ember.model.initialisation import InitStrategy, init_to_feasible
from ember.nn import PyroModule, PyroParam
from ember.primitives import sample


class AutoNormal(AutoGuide):
    """Mean-field normal guide whose parameters have the sites' shapes.

    Parameters are named ``AutoNormal.locs.SITE`` and ``AutoNormal.scales.SITE``, in unconstrained space.

    :param model: the model.
    :param init_loc_fn: strategy for starting values of the locations.
    :param init_scale: starting value of the scales.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    :raises ValueError: if ``init_scale`` is not positive.
    """

    scale_constraint = constraints.softplus_positive

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: InitStrategy = init_to_feasible,
        init_scale: float = 0.1,
        create_plates: CreatePlates | None = None,
    ) -> None:
        if not init_scale > 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        super().__init__(model, create_plates=create_plates)
        self.__dict__["init_loc_fn"] = init_loc_fn
        self.__dict__["_init_scale"] = init_scale
        self.locs = PyroModule()
        self.scales = PyroModule()

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        event_dims = {}
        for name, site in self._latent_sites():
            transform = self._transforms[name]
            loc = transform.inv(site["value"].detach()).detach()
            # Bijections may change the number of event dims' elements, and of dims.
            event_dims[name] = event_dim = site["fn"].event_dim + loc.ndim - site["value"].ndim
            loc = full_size(loc, site, event_dim)
            set_nested(self.locs, name, PyroParam(loc, constraints.real, event_dim))
            scale = torch.full_like(loc, self._init_scale)
            set_nested(self.scales, name, PyroParam(scale, self.scale_constraint, event_dim))
        self.__dict__["_event_dims"] = event_dims

    def _draw(self, plates: dict[str, Any]) -> dict[str, Tensor]:
        values = {}
        for name, site in self._latent_sites():
            transform = self._transforms[name]
            with in_plates(plates, site):
                normal = Normal(get_nested(self.locs, name), get_nested(self.scales, name))
                free = sample(
                    name + "_unconstrained",
                    normal.to_event(self._event_dims[name]),
                    infer={"is_auxiliary": True},
                )
                values[name] = sample(name, image(transform, free, site["fn"].event_dim))
        return values

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the median of each site, of the full sizes of subsampled plates."""
        self._prepare(*args, **kwargs)
        return {
            name: self._transforms[name](get_nested(self.locs, name).detach().clone())
            for name, _ in self._latent_sites()
        }

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return quantiles of each site.

        :param quantiles: probabilities, a list or a vector.
        :returns: tensors of shape ``(len(quantiles),) + site shape`` by site name.
        """
        self._prepare(*args, **kwargs)
        result = {}
        with torch.no_grad():
            for name, _ in self._latent_sites():
                loc, scale = get_nested(self.locs, name), get_nested(self.scales, name)
                result[name] = normal_quantiles(quantiles, loc, scale, self._transforms[name])
        return result
