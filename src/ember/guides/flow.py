"""Guide a model by a normalizing flow over the vector of all its unconstrained latent values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.distributions.transforms import Transform

from ember.distributions import TransformedDistribution
from ember.distributions.transforms import affine_autoregressive, iterated
from ember.errors import message
from ember.guides.base import CreatePlates
from ember.guides.continuous import AutoContinuous
from ember.model.initialisation import InitStrategy, init_to_feasible


class AutoNormalizingFlow(AutoContinuous):
    """Guide whose latent vector is the image of a standard normal one under a learned transform::

        guide = AutoNormalizingFlow(model, partial(iterated, 2, affine_autoregressive))

    :param model: the model.
    :param init_transform_fn: a function from the latent dimension to the transform: one of
        :mod:`ember.distributions.transforms`, or a module that returns such a transform when it is called
        without arguments (zuko's flows do).
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        init_transform_fn: Callable[[int], Any],
        *,
        create_plates: CreatePlates | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn=init_to_feasible, create_plates=create_plates)
        self.__dict__["_init_transform_fn"] = init_transform_fn

    def _make_params(self, loc: Tensor) -> None:
        transform = self._init_transform_fn(self.latent_dim)
        if isinstance(transform, nn.Module):
            self.transform = transform.to(loc.device)
        else:
            self.__dict__["transform"] = transform

    def get_transform(self, *args: Any, **kwargs: Any) -> Transform:
        """Return the transform from the base's space to the latent vector.

        :raises TypeError: if ``init_transform_fn`` made none.
        """
        transform = self.transform
        if not isinstance(transform, Transform) and callable(transform):
            transform = transform()
        if not isinstance(transform, Transform):
            raise TypeError(
                message(
                    "init_transform_fn of AutoNormalizingFlow did not make a transform",
                    expected="a transform, or a module that returns one when called",
                    actual=repr(transform),
                )
            )
        return transform

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the latent vector."""
        return TransformedDistribution(self.get_base_dist(), [self.get_transform()])


class AutoIAFNormal(AutoNormalizingFlow):
    """Flow guide of inverse autoregressive transforms (Kingma et al. 2016, arXiv 1606.04934).

    :param model: the model.
    :param hidden_dim: size (or sizes) of the networks' hidden layers; the latent dimension by default.
    :param init_loc_fn: strategy for the point at which the guide learns the sites' shapes.
    :param num_transforms: number of transforms.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    :param init_transform_kwargs: further arguments of :func:`affine_autoregressive`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        hidden_dim: Any = None,
        init_loc_fn: InitStrategy | None = None,
        num_transforms: int = 1,
        *,
        create_plates: CreatePlates | None = None,
        **init_transform_kwargs: Any,
    ) -> None:
        if isinstance(hidden_dim, int):
            hidden_dim = [hidden_dim]
        super().__init__(
            model,
            functools.partial(
                iterated,
                num_transforms,
                affine_autoregressive,
                hidden_dims=hidden_dim,
                **init_transform_kwargs,
            ),
            create_plates=create_plates,
        )
        if init_loc_fn is not None:
            self.__dict__["init_loc_fn"] = init_loc_fn
