"""Choose reparameterisers for the sites of a model by their distributions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from ember.distributions import (
    ProjectedNormal,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
    Stable,
    StableWithLogProb,
    constraints,
)
from ember.guides.reparam.gumbel_softmax import GumbelSoftmaxReparam
from ember.guides.reparam.loc_scale import LocScaleReparam
from ember.guides.reparam.projected_normal import ProjectedNormalReparam
from ember.guides.reparam.reparam import Reparam
from ember.guides.reparam.stable import LatentStableReparam, StableReparam
from ember.guides.reparam.transform import TransformReparam
from ember.poutine import reparam


class Strategy(ABC):
    """Base of choices by site, for ``poutine.reparam(model, config=strategy)`` or as a decorator of models.

    ``config`` holds the choices made so far, by site name: a site keeps its first.
    """

    def __init__(self) -> None:
        self.config: dict[str, Reparam | None] = {}

    @abstractmethod
    def configure(self, msg: Any) -> Reparam | None:
        """Choose a reparameteriser for a site record, or None."""

    def __call__(self, msg_or_model: Any) -> Any:
        """Return the choice for a site record, or the rewritten model if given a model."""
        if not isinstance(msg_or_model, dict):
            return reparam(msg_or_model, config=self)
        name = str(msg_or_model["name"])
        if name not in self.config:
            self.config[name] = self.configure(msg_or_model)
        return self.config[name]


def _inner(msg: Any) -> Any:
    fn = msg["fn"]
    while hasattr(fn, "reinterpreted_batch_ndims"):
        fn = fn.base_dist
    return fn


class MinimalReparam(Strategy):
    """Rewrite only what inference cannot do without: stable sites and latent projected normal ones."""

    def configure(self, msg: Any) -> Reparam | None:
        """Choose a reparameteriser for a site record, or None."""
        fn = _inner(msg)
        if isinstance(fn, Stable) and not isinstance(fn, StableWithLogProb):
            return StableReparam() if msg["is_observed"] else LatentStableReparam()
        if not msg["is_observed"] and isinstance(fn, ProjectedNormal):
            return ProjectedNormalReparam()
        return None


class AutoReparam(Strategy):
    """Rewrite all sites that may gain from it.

    Projected normal sites are drawn unprojected, transformed distributions by their base, relaxed discrete
    ones by uniform noise; location-scale families on the real line are centered as ``centered`` says.

    :param centered: see :class:`~ember.guides.reparam.loc_scale.LocScaleReparam`; None to learn it.
    """

    def __init__(self, *, centered: float | Tensor | None = None) -> None:
        super().__init__()
        self.centered = centered
        self._minimal = MinimalReparam()

    def configure(self, msg: Any) -> Reparam | None:
        """Choose a reparameteriser for a site record, or None."""
        needed, fn = self._minimal.configure(msg), _inner(msg)
        if needed is not None:
            return needed
        if msg["is_observed"] or str(msg["name"]).endswith(("_decentered", "_base", "_normal", "_uniform")):
            return None
        if type(fn) in (RelaxedBernoulli, RelaxedOneHotCategorical):
            return GumbelSoftmaxReparam()
        if hasattr(fn, "transforms") and hasattr(fn, "base_dist"):
            return TransformReparam()
        is_loc_scale = {"loc", "scale"} <= set(getattr(fn, "arg_constraints", ()))
        if is_loc_scale and fn.event_dim == 0 and fn.support is constraints.real:
            return LocScaleReparam(self.centered)
        return None
