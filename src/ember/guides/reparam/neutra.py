"""Draw a model's latent values in the space where a trained guide is a standard normal one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import ComposeTransform

from ember.distributions.transforms import AffineTransform, LowerCholeskyAffine
from ember.guides.base import need_whole_plates
from ember.guides.continuous import AutoContinuous
from ember.guides.reparam.carrying import carried, outside_plates
from ember.guides.reparam.refusal import kept
from ember.guides.reparam.reparam import Reparam
from ember.poutine import reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class NeuTraReparam(Reparam):
    """Neural transport (Hoffman et al. 2019, arXiv 1903.03704)::

        neutra = NeuTraReparam(guide)  # trained
        mcmc = MCMC(NUTS(neutra.reparam(model)), ...)

    The first latent site draws ``NAME_shared_latent`` from the standard normal base of the guide; all latent
    sites are computed from it.

    :param guide: a trained guide with one latent vector: a normal one, or a flow.
    :raises TypeError: for other guides.
    :raises ValueError: for a guide that has not been run.
    """

    def __init__(self, guide: AutoContinuous) -> None:
        if not isinstance(guide, AutoContinuous):
            raise TypeError(f"NeuTraReparam takes a guide with one latent vector, got {type(guide).__name__}")
        if guide.prototype_trace is None:
            raise ValueError("NeuTraReparam needs a trained guide; this one has not been run")
        need_whole_plates(guide, "NeuTraReparam")
        self.guide = guide
        self.transform = _transform_of(guide)
        self._names = [name for name, _ in guide._latent_sites()]
        self._free: dict[str, Tensor] = {}

    def reparam(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the model with its latent sites computed from one vector."""
        return reparam(fn, config=dict.fromkeys(self._names, self))

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite a latent site of the guide; observed sites stay as they are."""
        if msg["is_observed"]:
            return kept(msg)
        name, prior = msg["name"], msg["fn"]
        extra: Any = 0.0
        if name == self._names[0]:
            base = self.guide.get_base_dist()
            with outside_plates():
                x = sample(f"{name}_shared_latent", base, infer={"is_observed": False})
            y = self.transform(x)
            self._free = {each: free for each, _, free in self.guide._unpack(y)}
            # The new site's density is in place of the sites' own, carried to its space.
            extra = self.transform.log_abs_det_jacobian(x, y) - base.log_prob(x)
        return carried(prior, self.guide._transforms[name], self._free.pop(name), extra)

    @torch.no_grad()
    def transform_sample(self, latent: Tensor) -> dict[str, Tensor]:
        """Return the sites' values for draws of the shared latent vector.

        :param latent: ``batch + (latent_dim,)``.
        :returns: tensors of shape ``batch + site shape`` by site name.
        """
        parts = self.transform(latent).split([shape.numel() for shape in self.guide._shapes], -1)
        return {
            name: self.guide._transforms[name](part.reshape(latent.shape[:-1] + shape))
            for name, part, shape in zip(self._names, parts, self.guide._shapes, strict=True)
        }


def _transform_of(guide: AutoContinuous) -> Any:
    """Return the trained transform from the standard normal base to the guide's latent vector."""
    transform = guide.get_transform()
    if isinstance(transform, torch.nn.Module):
        transform.requires_grad_(False)
    if isinstance(transform, AffineTransform):
        return AffineTransform(transform.loc.detach(), transform.scale.detach(), event_dim=1)  # type: ignore[union-attr]
    if isinstance(transform, LowerCholeskyAffine):
        return LowerCholeskyAffine(transform.loc.detach(), transform.scale_tril.detach())
    return ComposeTransform([transform])
