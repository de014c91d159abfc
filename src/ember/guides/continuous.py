"""Guide a model by one distribution over the vector of all its unconstrained latent values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ember.distributions import LowRankMultivariateNormal, MultivariateNormal, Normal, constraints
from ember.distributions.transforms import AffineTransform, LowerCholeskyAffine
from ember.errors import message
from ember.guides.base import AutoGuide, CreatePlates, full_size, in_plates, minibatch
from ember.guides.image import image, normal_quantiles, unflatten
from ember.model.initialisation import InitStrategy, init_to_median
from ember.nn import PyroParam
from ember.primitives import sample


class AutoContinuous(AutoGuide):
    """Base of guides with one latent vector, at the auxiliary site ``_NAME_latent``.

    Its elements are the sites' unconstrained values, flattened and joined in order. Subclasses make
    parameters in ``_make_params`` and define ``get_posterior``. The vector holds all elements of
    subsampling plates; a draw takes those of the minibatch.

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
        parts, event_dims = [], []
        for name, site in self._latent_sites():
            value = site["value"].detach()
            free = self._transforms[name].inv(value).detach()
            # Bijections may change the number of event dims.
            event_dims.append(site["fn"].event_dim + free.ndim - value.ndim)
            parts.append(full_size(free, site, event_dims[-1]))
        if not parts:
            raise ValueError(
                f"{type(self).__name__} found no latent sites; use an empty guide for such a model"
            )
        self.__dict__["_shapes"] = [part.shape for part in parts]
        self.__dict__["_event_dims"] = event_dims
        self.__dict__["latent_dim"] = sum(part.numel() for part in parts)
        loc = torch.cat([part.reshape(-1) for part in parts])
        self.register_buffer("_prototype_loc", loc.clone(), persistent=False)
        self._make_params(loc)

    def _make_params(self, loc: Tensor) -> None:
        """Make the guide's parameters, starting at the vector ``loc``."""
        raise TypeError(f"{type(self).__name__} does not say what its parameters are")

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the latent vector, of event shape ``(latent_dim,)``."""
        raise TypeError(f"{type(self).__name__} does not say what its posterior is")

    def get_base_dist(self) -> Any:
        """Return the standard normal of event shape ``(latent_dim,)`` that :meth:`get_transform` carries."""
        return Normal(torch.zeros_like(self._prototype_loc), 1.0).to_event(1)

    def get_transform(self, *args: Any, **kwargs: Any) -> Any:
        """Return the transform from a standard normal vector to the latent one.

        :raises TypeError: for guides that have none.
        """
        raise TypeError(f"{type(self).__name__} is no transformed normal distribution")

    def sample_latent(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draw the latent vector."""
        return sample(f"_{self._pyro_name}_latent", self.get_posterior(), infer={"is_auxiliary": True})

    def _unpack(self, latent: Tensor) -> Iterator[tuple[str, Any, Tensor]]:
        """Yield (name, site, unconstrained value of full size) of each site."""
        position = 0
        for (name, site), shape in zip(self._latent_sites(), self._shapes, strict=True):
            size = shape.numel()
            yield name, site, unflatten(latent[..., position : position + size], site, shape)
            position += size

    def _draw(self, plates: dict[str, Any]) -> dict[str, Tensor]:
        values = {}
        parts = zip(self._unpack(self.sample_latent()), self._event_dims, strict=True)
        for (name, site, free), event_dim in parts:
            with in_plates(plates, site):
                free = minibatch(free, site, event_dim)
                values[name] = sample(name, image(self._transforms[name], free, site["fn"].event_dim))
        return values

    def _loc_scale(self) -> tuple[Tensor, Tensor]:
        """Return location and marginal scale of the latent vector, each of shape ``(latent_dim,)``."""
        raise TypeError(
            message(
                f"{type(self).__name__} has no medians and quantiles in closed form",
                fix="take them over draws: Predictive(model, guide=guide, num_samples=1000)(...)",
            )
        )

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the median of each site, of the full sizes of subsampled plates."""
        self._prepare(*args, **kwargs)
        with torch.no_grad():
            # A copy: medians must not move with the parameters.
            loc = self._loc_scale()[0].detach().clone()
            return {name: self._transforms[name](free) for name, _, free in self._unpack(loc)}

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return quantiles of each site.

        :param quantiles: probabilities, a list or a vector.
        :returns: tensors of shape ``(len(quantiles),) + site shape`` by site name.
        """
        self._prepare(*args, **kwargs)
        with torch.no_grad():
            loc, scale = self._loc_scale()
            result = {}
            sizes = [shape.numel() for shape in self._shapes]
            locs, scales = loc.split(sizes), scale.split(sizes)
            for (name, _), shape, part, spread in zip(
                self._latent_sites(), self._shapes, locs, scales, strict=True
            ):
                part, spread = part.reshape(shape), spread.reshape(shape)
                result[name] = normal_quantiles(quantiles, part, spread, self._transforms[name])
            return result


class ScaledNormal(AutoContinuous):
    """Base of the normal guides: a location and positive scales."""

    scale_constraint = constraints.softplus_positive
    loc: Any  # statements of the language when read
    scale: Any
    scale_tril: Any

    def __init__(
        self,
        model: Callable[..., Any],
        init_loc_fn: InitStrategy = init_to_median,
        init_scale: float = 0.1,
        *,
        create_plates: CreatePlates | None = None,
    ) -> None:
        if not init_scale > 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        super().__init__(model, init_loc_fn, create_plates=create_plates)
        self.__dict__["_init_scale"] = init_scale

    def _make_params(self, loc: Tensor) -> None:
        self.loc = nn.Parameter(loc)
        self.scale = PyroParam(torch.full_like(loc, self._init_scale), self.scale_constraint)

    def get_transform(self, *args: Any, **kwargs: Any) -> Any:
        """Return the affine transform from a standard normal vector to the latent one."""
        posterior = self.get_posterior()
        return LowerCholeskyAffine(posterior.loc, posterior.scale_tril)


class AutoDiagonalNormal(ScaledNormal):
    """Normal guide with independent elements; parameters ``loc`` and ``scale``, each ``(latent_dim,)``."""

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the latent vector."""
        return Normal(self.loc, self.scale).to_event(1)

    def get_transform(self, *args: Any, **kwargs: Any) -> Any:
        """Return the affine transform from a standard normal vector to the latent one."""
        return AffineTransform(self.loc, self.scale, event_dim=1)

    def _loc_scale(self) -> tuple[Tensor, Tensor]:
        return self.loc, self.scale


class AutoMultivariateNormal(ScaledNormal):
    """Normal guide with full covariance; its Cholesky factor is ``scale[:, None] * scale_tril``.

    ``scale_tril`` has ones on the diagonal.
    """

    def _make_params(self, loc: Tensor) -> None:
        super()._make_params(loc)
        eye = torch.eye(self.latent_dim, dtype=loc.dtype, device=loc.device)
        self.scale_tril = PyroParam(eye, constraints.unit_lower_cholesky)

    def _factor(self) -> Tensor:
        return self.scale.unsqueeze(-1) * self.scale_tril

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the latent vector."""
        return MultivariateNormal(self.loc, scale_tril=self._factor())

    def _loc_scale(self) -> tuple[Tensor, Tensor]:
        return self.loc, self._factor().norm(dim=-1)


class AutoLowRankMultivariateNormal(ScaledNormal):
    """Normal guide with covariance ``D (W Wᵀ + I) D``: D the diagonal ``scale``, W the ``cov_factor``.

    :param model: the model.
    :param init_loc_fn: strategy for starting values.
    :param init_scale: starting value of the marginal scales, about.
    :param rank: number of columns of W; by default the rounded root of the latent dimension.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    :raises ValueError: if ``rank`` is not positive.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        init_loc_fn: InitStrategy = init_to_median,
        init_scale: float = 0.1,
        rank: int | None = None,
        *,
        create_plates: CreatePlates | None = None,
    ) -> None:
        if rank is not None and not rank > 0:
            raise ValueError(f"rank must be a positive int, got {rank}")
        super().__init__(model, init_loc_fn, init_scale, create_plates=create_plates)
        self.__dict__["rank"] = rank

    def _make_params(self, loc: Tensor) -> None:
        super()._make_params(loc)
        if self.rank is None:
            self.__dict__["rank"] = max(1, round(math.sqrt(self.latent_dim)))
        # Half of the variance comes from each part.
        self.scale = PyroParam(torch.full_like(loc, self._init_scale * math.sqrt(0.5)), self.scale_constraint)
        self.cov_factor = nn.Parameter(loc.new_empty(self.latent_dim, self.rank).normal_(0, self.rank**-0.5))

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the latent vector."""
        scale = self.scale
        return LowRankMultivariateNormal(self.loc, self.cov_factor * scale.unsqueeze(-1), scale * scale)

    def _loc_scale(self) -> tuple[Tensor, Tensor]:
        return self.loc, self.scale * (self.cov_factor.square().sum(-1) + 1).sqrt()
