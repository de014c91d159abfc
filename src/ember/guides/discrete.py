"""Guide the discrete sites of a model by independent distributions that are summed over exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.distributions import Bernoulli, Categorical, OneHotCategorical, constraints
from ember.errors import message
from ember.guides.base import AutoGuide, CreatePlates, full_size, get_nested, in_plates, set_nested
from ember.model.initialisation import init_to_sample
from ember.nn import PyroParam
from ember.primitives import sample


class _Family(NamedTuple):
    """How a site is guided."""

    make: Callable[[Tensor], Any]  # from probabilities to the distribution
    num_outcomes: int | None  # None: the probabilities are numbers, not vectors


class AutoDiscreteParallel(AutoGuide):
    """Mean-field guide of discrete sites of finite support, enumerated in parallel.

    Use it with :class:`~ember.infer.TraceEnum_ELBO`. Parameters are named
    ``AutoDiscreteParallel.SITE_probs``: probabilities, with the outcomes along the last dim (for Bernoulli
    sites the probability of one).

    :param model: the model; its continuous sites must be hidden.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    """

    def __init__(self, model: Callable[..., Any], *, create_plates: CreatePlates | None = None) -> None:
        super().__init__(model, create_plates=create_plates)
        self.__dict__["init_loc_fn"] = init_to_sample

    def _transform_of(self, name: str, site: Any) -> _Family:
        family = _family(site["fn"])
        if family is None:
            raise ValueError(
                message(
                    f"AutoDiscreteParallel cannot guide site '{name}'",
                    site=name,
                    plates=site["cond_indep_stack"],
                    expected="a site whose values can be enumerated, such as Bernoulli or Categorical",
                    actual=f"a draw from {site['fn']}",
                    fix=f"hide the site by poutine.block(model, hide=['{name}']) and guide it otherwise",
                )
            )
        return family

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        for name, site in self._latent_sites():
            count = self._transforms[name].num_outcomes
            vector = () if count is None else (count,)
            start = torch.full(site["fn"].batch_shape + vector, 1.0 / (count or 2))
            start = full_size(start, site, len(vector))
            constraint = constraints.simplex if vector else constraints.unit_interval
            set_nested(self, f"{name}_probs", PyroParam(start, constraint, len(vector)))

    def _draw(self, plates: dict[str, Any]) -> dict[str, Tensor]:
        values = {}
        for name, site in self._latent_sites():
            with in_plates(plates, site):
                guide = self.get_posterior(name)
                values[name] = sample(name, guide, infer={"enumerate": "parallel"})
        return values

    def get_posterior(self, name: str) -> Any:
        """Return the distribution of a site (inside plates that subsample, of the minibatch)."""
        return self._transforms[name].make(get_nested(self, f"{name}_probs"))

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the median of each site; for one-hot sites the most probable outcome."""
        self._prepare(*args, **kwargs)
        with torch.no_grad():
            return {name: _median(self.get_posterior(name)) for name, _ in self._latent_sites()}


def _family(fn: Any) -> _Family | None:
    """Return how to guide a site of this distribution, None if that cannot be."""
    support = getattr(fn, "support", None)
    if support is constraints.one_hot:
        return _Family(OneHotCategorical, fn.event_shape[-1])
    if not getattr(support, "is_discrete", False) or not fn.has_enumerate_support:
        return None
    if support is constraints.boolean:
        return _Family(Bernoulli, None)
    try:
        values = fn.enumerate_support(expand=False).flatten()
    except NotImplementedError:  # elements of the batch have different supports
        return None
    counts = torch.equal(values, torch.arange(len(values)).to(values))
    return _Family(Categorical, len(values)) if counts else None


def _median(guide: Any) -> Tensor:
    if isinstance(guide, Bernoulli):
        return (guide.probs > 0.5).to(guide.probs.dtype)
    if isinstance(guide, OneHotCategorical):
        return torch.nn.functional.one_hot(guide.probs.argmax(-1), guide.probs.shape[-1]).to(guide.probs)
    return (guide.probs.cumsum(-1) < 0.5).sum(-1)
