"""Guide a model by a normal distribution whose precision has the zeros that the model implies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ember.distributions import MultivariateNormal
from ember.errors import message
from ember.guides.base import CreatePlates, get_nested, set_nested
from ember.guides.continuous import ScaledNormal
from ember.model.dependence import Dependence, find_dependences
from ember.model.initialisation import InitStrategy, init_to_feasible
from ember.nn import PyroModule
from ember.poutine.runtime import CondIndepStackFrame

_OBSERVED_START = 0.1  # not zero: a square has no slope there


class AutoGaussian(ScaledNormal):
    """Normal guide whose precision matrix is sparse as the posterior's is.

    In the posterior, two latent values are independent given the rest unless some site's density depends on
    both. The precision is therefore a sum of small matrices ``R Rᵀ``, one for each site and each element of
    its plates, over the values that this density depends on: often far fewer parameters than those of
    :class:`~ember.infer.autoguide.AutoMultivariateNormal`, and as expressive for linear normal models.
    Parameters are ``loc`` and ``scale``, of shape ``(latent_dim,)``, and ``factors.SITE``, the matrices R.

    :param model: the model.
    :param init_loc_fn: strategy for starting values.
    :param init_scale: starting value of the scales, about.
    :param backend: "dense" or "funsor": Pyro's names for two ways to one guide; here the whole precision
        matrix is factorised for both.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    :raises ValueError: for another backend.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: InitStrategy = init_to_feasible,
        init_scale: float = 0.1,
        backend: str | None = None,
        create_plates: CreatePlates | None = None,
    ) -> None:
        if backend not in (None, "dense", "funsor"):
            raise ValueError(
                message(
                    f"AutoGaussian has no backend {backend!r}",
                    expected="backend='dense' or 'funsor'",
                    fix="leave backend out: the dense one gives the same guide",
                )
            )
        super().__init__(model, init_loc_fn, init_scale, create_plates=create_plates)
        self.factors = PyroModule()
        self.__dict__["_places"] = {}

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        latent = {name: site["value"] for name, site in self._latent_sites()}
        for dependence in find_dependences(self.model, latent, args, kwargs):
            self._make_factor(dependence)

    def _make_factor(self, dependence: Dependence) -> None:
        name = dependence.site
        if name in self._transforms:
            # As a conditional density of the site: its own block has the scales as diagonal.
            places = self._places_of((name, *dependence.upstream), dependence.plates)
            own = self._places_of((name,), dependence.plates).shape[1]
            start = self.loc.new_zeros((*places.shape, own))
        elif dependence.upstream:
            places = self._places_of(dependence.upstream, dependence.plates)
            if any(torch.equal(places, other) for other in self._observed_places()):
                return  # another observed site depends on the same values
            start = _OBSERVED_START * torch.eye(places.shape[1]).to(self.loc).repeat(len(places), 1, 1)
        else:
            return
        self._places[name] = places
        set_nested(self.factors, name, nn.Parameter(start))

    def _observed_places(self) -> list[Tensor]:
        return [places for name, places in self._places.items() if name not in self._transforms]

    def _places_of(self, names: Iterable[str], plates: tuple[CondIndepStackFrame, ...]) -> Tensor:
        """Return where the values of some sites are in the latent vector, ``(plate elements, values)``.

        Only plates that one of the sites is in count; a site that is not in all of them is repeated.
        """
        place = 0
        positions, inside = {}, {}
        for (name, site), shape in zip(self._latent_sites(), self._shapes, strict=True):
            positions[name] = torch.arange(place, place + shape.numel()).reshape(shape)
            inside[name] = {frame.name: frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}
            place += shape.numel()
        names = tuple(names)
        shared = [frame for frame in plates if any(frame.name in inside[name] for name in names)]
        sizes = [_full(frame) for frame in shared]
        columns = []
        for name in names:
            free_event = positions[name].ndim - len(self.prototype_trace.nodes[name]["fn"].batch_shape)
            own = [inside[name][frame.name] - free_event for frame in shared if frame.name in inside[name]]
            value = positions[name].movedim(own, list(range(len(own))))
            lead = [_full(frame) if frame.name in inside[name] else 1 for frame in shared]
            columns.append(value.reshape(*lead, -1).expand(*sizes, -1))
        return torch.cat(columns, -1).reshape(-1, sum(column.shape[-1] for column in columns))

    def _precision(self) -> Tensor:
        """Return the precision matrix of the latent vector."""
        size, scale = self.latent_dim, self.scale
        total = torch.zeros(size * size, dtype=scale.dtype, device=scale.device)
        for name, places in self._places.items():
            free = get_nested(self.factors, name)
            if name in self._transforms:
                root = free.tril(-1) + torch.eye(*free.shape[1:], dtype=free.dtype, device=free.device)
            else:
                root = free.tril()
            root = root / scale[places].unsqueeze(-1)
            entries = places.unsqueeze(-1) * size + places.unsqueeze(-2)
            total = total.index_add(0, entries.reshape(-1), (root @ root.mT).reshape(-1))
        return total.reshape(size, size)

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the latent vector."""
        return MultivariateNormal(self.loc, precision_matrix=self._precision())

    def _loc_scale(self) -> tuple[Tensor, Tensor]:
        return self.loc, self.get_posterior().variance.sqrt()


def _full(frame: CondIndepStackFrame) -> int:
    return int(frame.size if frame.full_size is None else frame.full_size)
