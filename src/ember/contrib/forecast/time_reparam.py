"""Let series be drawn as cosine or wavelet coefficients, where their guide is to be smooth in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ember import poutine, sample
from ember.distributions import TorchDistribution, TransformedDistribution
from ember.distributions.transforms import DiscreteCosineTransform, HaarTransform
from ember.errors import message
from ember.infer.reparam import Reparam
from ember.poutine.plate_messenger import block_plate

_EMPTY = torch.Size()
_TRANSFORMS = {"dct": DiscreteCosineTransform, "haar": HaarTransform}


def with_time_reparam(model: Callable[..., Any], kind: str | None) -> Callable[..., Any]:
    """Return the model with the latent sites in its time plate drawn as coefficients.

    :param kind: ``"dct"``, ``"haar"``, or None for the model as it is.
    :raises ValueError: for another kind.
    """
    if kind is None:
        return model
    if kind not in _TRANSFORMS:
        raise ValueError(
            message("There is no such time_reparam.", expected=(*_TRANSFORMS, None), actual=kind)
        )

    def choose(site: Any) -> Reparam | None:
        in_time = any(frame.name == "time" for frame in site["cond_indep_stack"])
        return TimeReparam(kind) if in_time and not site["is_observed"] else None

    reparameterised: Callable[..., Any] = poutine.reparam(model, config=choose)
    return reparameterised


class TimeReparam(Reparam):
    """Draw a site of the time plate, at dim -1, by its coefficients ``NAME_KIND`` over time.

    :param kind: ``"dct"`` or ``"haar"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def apply(self, msg: Any) -> Any:
        """Rewrite the site; time is part of the event of the new one."""
        if msg["is_observed"]:
            return {"fn": msg["fn"], "value": msg["value"], "is_observed": True}
        series = _Series(msg["fn"].to_event(1))
        transform = _TRANSFORMS[self.kind](dim=-series.event_dim)
        start = None
        if msg["value"] is not None:
            start = transform(msg["value"].unsqueeze(-1 - series.event_dim))
        with block_plate(dim=-1, strict=False):
            image = sample(
                f"{msg['name']}_{self.kind}",
                TransformedDistribution(series, [transform]),
                obs=start,
                infer={"is_observed": False},
            )
        value = transform.inv(image).squeeze(-1 - series.event_dim)
        return {"fn": None, "value": value, "is_observed": True}


class _Series(TorchDistribution):
    """A distribution with a batch dim of size 1 added on the right, in the place of a plate."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as torch declares it

    def __init__(self, base_dist: Any) -> None:
        self.base_dist = base_dist
        shape = torch.Size((*base_dist.batch_shape, 1))
        super().__init__(shape, base_dist.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.base_dist.has_rsample)

    @property
    def support(self) -> Any:
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return _Series(self.base_dist.expand(torch.Size(batch_shape)[:-1]))

    def rsample(self, sample_shape: Any = _EMPTY) -> Tensor:
        return self.base_dist.rsample(sample_shape).unsqueeze(-1 - self.event_dim)

    def sample(self, sample_shape: Any = _EMPTY) -> Tensor:
        return self.base_dist.sample(sample_shape).unsqueeze(-1 - self.event_dim)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value.squeeze(-1 - self.event_dim)).unsqueeze(-1)
