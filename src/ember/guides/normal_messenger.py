"""Guide a model, run with the guide's draws, by normal distributions in unconstrained space."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import identity_transform

from ember.distributions import Normal, TransformedDistribution, constraints
from ember.distributions.constraints import biject_to
from ember.distributions.transforms import AffineTransform
from ember.errors import message
from ember.guides.base import full_size, get_nested, set_nested
from ember.guides.image import normal_quantiles
from ember.guides.messenger import AutoMessenger, shared_over
from ember.model.initialisation import InitStrategy, init_to_feasible, init_to_mean
from ember.nn import PyroModule, PyroParam
from ember.poutine.runtime import get_plates


class AutoNormalMessenger(AutoMessenger):
    """Mean-field guide: each site is a normal variable carried to the site's support.

    Parameters are ``locs.SITE`` and ``scales.SITE``, in unconstrained space, of the full sizes of plates.

    :param model: the model.
    :param init_loc_fn: strategy for starting values of the locations; by default the prior's mean.
    :param init_scale: starting value of the scales.
    :param amortized_plates: names of plates whose elements share their parameters.
    :raises ValueError: if ``init_scale`` is not positive.
    """

    scale_constraint = constraints.softplus_positive

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: InitStrategy | None = None,
        init_scale: float = 0.1,
        amortized_plates: Iterable[str] = (),
    ) -> None:
        if not init_scale > 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        super().__init__(model, amortized_plates=amortized_plates)
        self.__dict__["init_loc_fn"] = init_loc_fn or init_to_mean(fallback=init_to_feasible)
        self.__dict__["_init_scale"] = init_scale
        self.__dict__["_known"] = set()
        self.locs = PyroModule()
        self.scales = PyroModule()

    def get_posterior(self, name: str, prior: Any) -> Any:
        """Return the site's distribution."""
        transform = biject_to(prior.support)
        loc, scale = self._loc_scale(name, prior, transform)
        return _carried(Normal(loc, scale), transform, prior)

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the median of each latent site given those before, and the values of the other sites."""

        def middle(name: str, prior: Any) -> Tensor:
            transform = biject_to(prior.support)
            return transform(self._loc_scale(name, prior, transform)[0].detach().clone())

        # As in a call, parameters are statements here, which the plates of the model slice.
        with self._pyro_context, torch.no_grad():
            return self._run(middle, args, kwargs)

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return quantiles of each latent site, given the medians of the sites before.

        :param quantiles: probabilities, a list or a vector; the other arguments are the model's.
        :returns: tensors of shape ``(len(quantiles),) + site shape`` by site name.
        """
        found = {}

        def middle(name: str, prior: Any) -> Tensor:
            transform = biject_to(prior.support)
            loc, scale = self._loc_scale(name, prior, transform)
            found[name] = normal_quantiles(quantiles, loc, scale, transform)
            return transform(loc)

        with self._pyro_context, torch.no_grad():
            self._run(middle, args, kwargs)
        return found

    def _loc_scale(self, name: str, prior: Any, transform: Any) -> tuple[Tensor, Tensor]:
        """Return location and scale in unconstrained space, sliced for the minibatch."""
        self._ensure(name, prior, transform)
        return get_nested(self.locs, name), get_nested(self.scales, name)

    def _ensure(self, name: str, prior: Any, transform: Any) -> None:
        """Make the parameters of a site when it is first met."""
        if name in self._known:
            return
        with torch.no_grad():
            site = {"name": name, "fn": prior, "cond_indep_stack": get_plates(), "infer": {}, "value": None}
            value = self.init_loc_fn(site)
            loc = transform.inv(prior.sample() if value is None else value)
            event_dim = transform.domain.event_dim + prior.event_dim - transform.codomain.event_dim
            loc = shared_over(loc, get_plates(), self.amortized_plates, event_dim)
            loc = full_size(self._start(loc, prior, transform), site, event_dim)
        self._known.add(name)
        set_nested(self.locs, name, PyroParam(loc, constraints.real, event_dim))
        scale = torch.full_like(loc, self._init_scale)
        set_nested(self.scales, name, PyroParam(scale, self.scale_constraint, event_dim))

    def _start(self, loc: Tensor, prior: Any, transform: Any) -> Tensor:
        """Return the starting value of ``locs.SITE`` that puts the posterior at ``loc``."""
        return loc


class AutoHierarchicalNormalMessenger(AutoNormalMessenger):
    """Mean-field guide whose locations follow the prior's mean, which depends on draws upstream.

    The location is ``locs.SITE + weights.SITE * u``, with u the prior's mean in unconstrained space: a weight
    of 0 is :class:`AutoNormalMessenger`, a weight of 1 a decentered guide.

    :param init_weight: starting value of the weights.
    :param hierarchical_sites: names of the sites that have weights; all by default.

    The other parameters are those of :class:`AutoNormalMessenger`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: InitStrategy | None = None,
        init_scale: float = 0.1,
        amortized_plates: Iterable[str] = (),
        init_weight: float = 1.0,
        hierarchical_sites: Iterable[str] | None = None,
    ) -> None:
        super().__init__(
            model, init_loc_fn=init_loc_fn, init_scale=init_scale, amortized_plates=amortized_plates
        )
        self.__dict__["_init_weight"] = init_weight
        self.__dict__["_hierarchical"] = None if hierarchical_sites is None else set(hierarchical_sites)
        self.weights = PyroModule()

    def _is_hierarchical(self, name: str) -> bool:
        return self._hierarchical is None or name in self._hierarchical

    def _loc_scale(self, name: str, prior: Any, transform: Any) -> tuple[Tensor, Tensor]:
        if not self._is_hierarchical(name):
            return super()._loc_scale(name, prior, transform)
        center = transform.inv(_mean(name, prior, checked=name in self._known))
        if name not in self._known:
            self.__dict__["_center"] = center.detach()
            self._ensure(name, prior, transform)
            self.__dict__["_center"] = None
            event_dim = transform.domain.event_dim + prior.event_dim - transform.codomain.event_dim
            weight = torch.full_like(self.locs_leaf(name), self._init_weight)
            set_nested(self.weights, name, PyroParam(weight, constraints.real, event_dim))
        loc, scale = get_nested(self.locs, name), get_nested(self.scales, name)
        return loc + get_nested(self.weights, name) * center, scale

    def locs_leaf(self, name: str) -> Tensor:
        """Return the whole parameter ``locs.SITE``, whatever plates are active."""
        *path, last = name.split(".")
        module = get_nested(self.locs, ".".join(path)) if path else self.locs
        return getattr(module, last + "_unconstrained").detach()

    def _start(self, loc: Tensor, prior: Any, transform: Any) -> Tensor:
        center = self.__dict__.get("_center")
        if center is None:
            return loc
        moved = loc - self._init_weight * center
        # Parameters shared over a plate start at the mean of what its elements need.
        for dim, size in enumerate(loc.shape):
            if size == 1 and moved.shape[dim] != 1:
                moved = moved.mean(dim, keepdim=True)
        return moved


class AutoRegressiveMessenger(AutoNormalMessenger):
    """Guide whose sites are learned affine images, in unconstrained space, of draws from the prior.

    The prior at a site depends on the guide's draws before it, so that dependences of the model are kept.
    """

    def get_posterior(self, name: str, prior: Any) -> Any:
        """Return the site's distribution."""
        transform = biject_to(prior.support)
        loc, scale = self._loc_scale(name, prior, transform)
        event_dim = transform.domain.event_dim
        affine = AffineTransform(loc, scale, event_dim=event_dim, cache_size=1)
        parts = [affine]
        if transform is not identity_transform:
            parts = [transform.inv, affine, transform.with_cache()]
        moved = TransformedDistribution(_split_events(prior, transform), parts)
        return moved.to_event(prior.event_dim - moved.event_dim)

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Say that there is no closed form (always raises)."""
        raise TypeError("AutoRegressiveMessenger has no median; take it over draws of the guide")

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Say that there is no closed form (always raises)."""
        raise TypeError("AutoRegressiveMessenger has no quantiles; take them over draws of the guide")

    def _start(self, loc: Tensor, prior: Any, transform: Any) -> Tensor:
        return (1 - self._init_scale) * loc


def _mean(name: str, prior: Any, checked: bool) -> Tensor:
    try:
        mean: Tensor = prior.mean
        if checked or bool(torch.isfinite(mean).all()):
            return mean
        actual = "a mean that is not finite"
    except (NotImplementedError, AttributeError):
        actual = "no mean"
    raise ValueError(
        message(
            f"AutoHierarchicalNormalMessenger needs the prior mean of site '{name}'",
            site=name,
            expected="a distribution with a finite mean",
            actual=f"{type(prior).__name__} with {actual}",
            fix="list the sites whose priors have one: hierarchical_sites=[...]",
        )
    )


def _carried(base: Any, transform: Any, prior: Any) -> Any:
    """Carry a normal distribution in unconstrained space to a site's support, as the prior's events."""
    if transform is identity_transform:
        return base.to_event(prior.event_dim)
    carried = TransformedDistribution(base.to_event(transform.domain.event_dim), [transform.with_cache()])
    return carried.to_event(prior.event_dim - carried.event_dim)


def _split_events(prior: Any, transform: Any) -> Any:
    """Return the prior with the event dims that its support's bijection needs, others as batch dims."""
    while prior.event_dim > transform.codomain.event_dim and hasattr(prior, "reinterpreted_batch_ndims"):
        prior = prior.base_dist
    return prior
