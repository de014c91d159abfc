"""Draw a model's latent values by the noise of a trained structured guide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.distributions import Normal
from ember.errors import message
from ember.guides.base import get_nested, need_whole_plates
from ember.guides.reparam.carrying import carried, outside_plates
from ember.guides.reparam.refusal import kept
from ember.guides.reparam.reparam import Reparam
from ember.guides.structured import AutoStructured
from ember.poutine import reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class StructuredReparam(Reparam):
    """Precondition a model by a guide that knows how its latent sites depend on each other::

        structured = StructuredReparam(guide)  # a trained AutoStructured
        mcmc = MCMC(NUTS(structured.reparam(model)), ...)
        values = structured.transform_samples(mcmc.get_samples())

    The sites are computed from standard normal vectors ``NAME_aux``, one for each site, as the guide computes
    them from its noise. A site without noise ("delta") is fixed at its value in the guide. All sites share
    one instance.

    :param guide: a trained guide; its parameters are frozen.
    :raises TypeError: for other guides.
    :raises ValueError: for a guide that has not been run, one of a model with subsampled latent sites, or
        one whose noise is drawn by a function.
    """

    def __init__(self, guide: AutoStructured) -> None:
        if not isinstance(guide, AutoStructured):
            raise TypeError(f"StructuredReparam takes an AutoStructured guide, got {type(guide).__name__}")
        if guide.prototype_trace is None:
            raise ValueError("StructuredReparam needs a trained guide; this one has not been run")
        need_whole_plates(guide, "StructuredReparam")
        for name, kind in guide._kinds.items():
            if callable(kind):
                raise ValueError(
                    message(
                        f"StructuredReparam does not know the density of the noise of site '{name}'",
                        site=name,
                        expected="conditionals 'normal', 'mvn' or 'delta'",
                        actual=repr(kind),
                    )
                )
        self.guide = guide.requires_grad_(False)
        self._names = [name for name, _ in guide._latent_sites()]
        self._free: dict[str, Tensor] = {}
        self._extra: dict[str, Any] = {}

    def reparam(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the model with its latent sites computed from standard normal vectors."""
        return reparam(fn, config=dict.fromkeys(self._names, self))

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite a latent site of the guide; observed sites stay as they are."""
        if msg["is_observed"]:
            return kept(msg)
        name = msg["name"]
        if name == self._names[0]:
            self._extra = {}
            with outside_plates():
                self._free = self.guide._walk(self._draw)
        free = self._free.pop(name)
        if name not in self._extra:  # no noise, so that the density is that of the value itself
            value = self.guide._transforms[name](free)
            return {"fn": msg["fn"], "value": value, "is_observed": True}
        return carried(msg["fn"], self.guide._transforms[name], free, self._extra[name])

    def _draw(self, name: str) -> Tensor:
        """Draw the noise of a site, and remember what its density has in place of the standard normal's."""
        if self.guide._kinds[name] == "delta":
            return self.guide._no_noise(name)
        zero = self.guide._no_noise(name)
        base = Normal(zero, torch.ones_like(zero)).to_event(1)
        x = sample(f"{name}_aux", base, infer={"is_observed": False})
        self._extra[name] = get_nested(self.guide.scales, name).log().sum() - base.log_prob(x)
        return self._scaled(name, x)

    def _scaled(self, name: str, x: Tensor) -> Tensor:
        if self.guide._kinds[name] == "mvn":
            return x @ self.guide._factor(name).mT
        return x * get_nested(self.guide.scales, name)

    @torch.no_grad()
    def transform_samples(
        self, aux_samples: Mapping[str, Tensor], save_params: Iterable[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the sites' values for draws of the noise.

        :param aux_samples: ``batch + (size of the site,)`` by name of the new sites, ``NAME_aux``.
        :param save_params: names of the sites to return; by default all.
        :returns: tensors of shape ``batch + site shape`` by site name.
        """

        def noise(name: str) -> Tensor:
            if self.guide._kinds[name] == "delta":
                return self.guide._no_noise(name)
            return self._scaled(name, aux_samples[f"{name}_aux"])

        vectors = self.guide._vectors(noise)
        batch = torch.broadcast_shapes(*(each.shape[:-1] for each in vectors.values()))
        return {
            name: self.guide._transforms[name](
                vectors[name]
                .expand(batch + vectors[name].shape[-1:])
                .reshape(batch + self.guide._shapes[name])
            )
            for name in (self._names if save_params is None else save_params)
        }
