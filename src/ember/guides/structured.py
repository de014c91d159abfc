"""Guide a model by a distribution for each site that depends on the guide's draws of other sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ember.distributions import MultivariateNormal, Normal, constraints
from ember.errors import message
from ember.guides.base import (
    AutoGuide,
    CreatePlates,
    full_size,
    get_nested,
    in_plates,
    minibatch,
    set_nested,
)
from ember.guides.image import image, normal_quantiles, unflatten
from ember.model.dependencies import get_dependencies
from ember.model.initialisation import InitStrategy, init_to_feasible
from ember.nn import PyroModule, PyroParam
from ember.primitives import sample

_CONDITIONALS = ("delta", "normal", "mvn")


class AutoStructured(AutoGuide):
    """Guide whose sites have chosen conditional distributions and chosen dependences on each other::

        guide = AutoStructured(model)  # all sites, fully dependent
        guide = AutoStructured(
            model, conditionals={"x": "normal", "y": "delta"}, dependencies={"x": {"y": "linear"}}
        )

    In unconstrained space a site is ``locs.SITE`` plus a perturbation: noise of mean zero, plus functions of
    the perturbations of its upstream sites. All of these are flat vectors, of size 1 for scalars.

    Parameters are ``locs.SITE``, ``scales.SITE`` ("normal" and "mvn"), ``scale_trils.SITE`` ("mvn"), the
    matrices ``deps.SITE.UPSTREAM`` of linear dependences, and those of given modules.

    :param model: the model.
    :param conditionals: where a site's noise comes from, by site name, or one for all: "normal", "mvn" (a
        multivariate normal), "delta" (no noise), or a function without arguments that returns a draw, a
        vector, and may have parameters and auxiliary sample sites of its own.
    :param dependencies: by site name, upstream sites by name, each with "linear" (a matrix) or a function
        from the upstream perturbation to a term of the site's own. "linear" alone makes each site depend on
        those before it that it depends on in the posterior, by the model's structure.
    :param init_loc_fn: strategy for starting values.
    :param init_scale: starting value of the scales.
    :param create_plates: see :class:`~ember.guides.base.AutoGuide`.
    :raises ValueError: for values other than these; at the first call, for names that are no latent sites
        and for cycles.
    """

    scale_constraint = constraints.softplus_positive
    scale_tril_constraint = constraints.unit_lower_cholesky

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        conditionals: Any = "mvn",
        dependencies: Any = "linear",
        init_loc_fn: InitStrategy = init_to_feasible,
        init_scale: float = 0.1,
        create_plates: CreatePlates | None = None,
    ) -> None:
        if not init_scale > 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        for kind in conditionals.values() if isinstance(conditionals, Mapping) else [conditionals]:
            if not callable(kind) and kind not in _CONDITIONALS:
                _refuse("a conditional", "'delta', 'normal', 'mvn', or a function", kind)
        if isinstance(dependencies, Mapping):
            for kind in (kind for upstream in dependencies.values() for kind in upstream.values()):
                if not callable(kind) and kind != "linear":
                    _refuse("a dependency", "'linear', or a function", kind)
        elif dependencies != "linear":
            _refuse("dependencies", "'linear', or a dict by site name", dependencies)
        super().__init__(model, create_plates=create_plates)
        self.__dict__["init_loc_fn"] = init_loc_fn
        self.__dict__["_init_scale"] = init_scale
        self.__dict__["conditionals"] = conditionals
        self.__dict__["dependencies"] = dependencies
        for part in ("locs", "scales", "scale_trils", "conds", "deps"):
            setattr(self, part, PyroModule())

    # -- set-up --------------------------------------------------------------------------------------------

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        names = [name for name, _ in self._latent_sites()]
        kinds = self.conditionals
        kinds = dict(kinds) if isinstance(kinds, Mapping) else dict.fromkeys(names, kinds)
        given = self.dependencies
        if given == "linear":
            found = get_dependencies(self.model, args, kwargs)["posterior_dependencies"]
            given = {
                name: dict.fromkeys(upstream, "linear") for name, upstream in _joined(names, found).items()
            }
        given = {name: dict(upstream) for name, upstream in given.items()}
        mentioned = {*kinds, *given, *(each for upstream in given.values() for each in upstream)}
        for name in sorted(mentioned - set(names)):
            _refuse(f"'{name}' in AutoStructured", f"latent sites: {', '.join(names)}", f"'{name}'")
        for name in names:
            if name not in kinds:
                _refuse(f"the conditional of site '{name}'", "one for each latent site", f"{list(kinds)}")
        self.__dict__["_kinds"] = kinds
        self.__dict__["_upstream"] = {name: given.get(name, {}) for name in names}
        self.__dict__["_order"] = _sorted(self._upstream)
        self.__dict__["_shapes"] = {}
        self.__dict__["_event_dims"] = {}
        for name, site in self._latent_sites():
            self._make_site(name, site)
        for name in names:
            self._make_dependences(name)

    def _make_site(self, name: str, site: Any) -> None:
        value = site["value"].detach()
        loc = self._transforms[name].inv(value).detach()
        self._event_dims[name] = site["fn"].event_dim + loc.ndim - value.ndim
        loc = full_size(loc, site, self._event_dims[name])
        self._shapes[name] = loc.shape
        loc = loc.reshape(-1)
        set_nested(self.locs, name, nn.Parameter(loc.clone()))
        kind = self._kinds[name]
        if kind in ("normal", "mvn"):
            scale = torch.full_like(loc, self._init_scale)
            set_nested(self.scales, name, PyroParam(scale, self.scale_constraint))
        if kind == "mvn":
            eye = torch.eye(loc.numel(), dtype=loc.dtype, device=loc.device)
            set_nested(self.scale_trils, name, PyroParam(eye, self.scale_tril_constraint))
        if isinstance(kind, nn.Module):
            set_nested(self.conds, name, kind)

    def _make_dependences(self, name: str) -> None:
        own = get_nested(self.locs, name)
        for upstream, kind in self._upstream[name].items():
            if kind == "linear":
                matrix = own.new_zeros(self._shapes[name].numel(), self._shapes[upstream].numel())
                set_nested(self.deps, f"{name}.{upstream}", nn.Parameter(matrix))
            elif isinstance(kind, nn.Module):
                set_nested(self.deps, f"{name}.{upstream}", kind)

    # -- draws ---------------------------------------------------------------------------------------------

    def _draw(self, plates: dict[str, Any]) -> dict[str, Tensor]:
        sites = dict(self._latent_sites())
        values = {}
        for name, free in self._walk(self._noise).items():
            with in_plates(plates, sites[name]):
                free = minibatch(free, sites[name], self._event_dims[name])
                point = image(self._transforms[name], free, sites[name]["fn"].event_dim)
                values[name] = sample(name, point)
        return values

    def _walk(self, noise: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """Return the sites' unconstrained values, upstream ones first."""
        sites = dict(self._latent_sites())
        return {
            name: unflatten(flat, sites[name], self._shapes[name])
            for name, flat in self._vectors(noise).items()
        }

    def _vectors(self, noise: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """Return the sites' unconstrained values as vectors along the last dim."""
        perturbations: dict[str, Tensor] = {}
        for name in self._order:
            total = noise(name)
            for upstream, kind in self._upstream[name].items():
                total = total + self._term(name, upstream, kind, perturbations[upstream])
            perturbations[name] = total
        return {name: get_nested(self.locs, name) + each for name, each in perturbations.items()}

    def _term(self, name: str, upstream: str, kind: Any, perturbation: Tensor) -> Tensor:
        if kind == "linear":
            return perturbation @ get_nested(self.deps, f"{name}.{upstream}").mT
        module = isinstance(kind, nn.Module)
        term = (get_nested(self.deps, f"{name}.{upstream}") if module else kind)(perturbation)
        return self._checked(term, name, f"the dependency of site '{name}' on '{upstream}'")

    def _noise(self, name: str) -> Tensor:
        kind = self._kinds[name]
        if kind == "delta":
            return self._no_noise(name)
        if callable(kind):
            draw = (get_nested(self.conds, name) if isinstance(kind, nn.Module) else kind)()
            return self._checked(draw, name, f"the conditional of site '{name}'")
        zero = self._no_noise(name)
        normal: Any
        if kind == "mvn":
            normal = MultivariateNormal(zero, scale_tril=self._factor(name))
        else:
            normal = Normal(zero, get_nested(self.scales, name)).to_event(1)
        return sample(f"{name}_aux", normal, infer={"is_auxiliary": True})

    def _factor(self, name: str) -> Tensor:
        """Return the Cholesky factor of the noise of a site whose conditional is "mvn"."""
        scale: Tensor = get_nested(self.scales, name)
        return scale.unsqueeze(-1) * get_nested(self.scale_trils, name)

    def _no_noise(self, name: str) -> Tensor:
        return torch.zeros_like(get_nested(self.locs, name))

    def _checked(self, value: Tensor, name: str, what: str) -> Tensor:
        size = self._shapes[name].numel()
        if not value.shape or value.shape[-1] != size:
            _refuse(what, f"a tensor whose last dim has size {size}", tuple(value.shape))
        return value

    # -- summaries -----------------------------------------------------------------------------------------

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return the site's values without noise: the medians, if dependences are linear."""
        self._prepare(*args, **kwargs)
        with torch.no_grad():
            free = self._walk(self._no_noise)
            return {name: self._transforms[name](free[name]) for name, _ in self._latent_sites()}

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return quantiles of each site.

        :param quantiles: probabilities, a list or a vector.
        :returns: tensors of shape ``(len(quantiles),) + site shape`` by site name.
        :raises ValueError: if a conditional or dependency is a function: then the guide is not normal.
        """
        self._prepare(*args, **kwargs)
        result = {}
        with torch.no_grad():
            for name, scale in self._marginal_scales().items():
                loc = get_nested(self.locs, name).reshape(self._shapes[name])
                scale = scale.reshape(self._shapes[name])
                result[name] = normal_quantiles(quantiles, loc, scale, self._transforms[name])
        return result

    def _marginal_scales(self) -> dict[str, Tensor]:
        # A perturbation is a sum of matrices times the standard normal noise of the sites upstream.
        roots: dict[str, dict[str, Tensor]] = {}
        for name in self._order:
            kind = self._kinds[name]
            terms = [kind, *self._upstream[name].values()]
            if any(callable(each) for each in terms):
                _refuse("quantiles of AutoStructured", "'normal', 'mvn', 'delta' and 'linear'", f"{terms}")
            roots[name] = {}
            if kind == "normal":
                roots[name][name] = get_nested(self.scales, name).diag_embed()
            if kind == "mvn":
                roots[name][name] = self._factor(name)
            for upstream in self._upstream[name]:
                matrix = get_nested(self.deps, f"{name}.{upstream}")
                for source, root in roots[upstream].items():
                    roots[name][source] = roots[name].get(source, 0.0) + matrix @ root
        return {
            name: sum((root.square().sum(-1) for root in roots[name].values()), self._no_noise(name)).sqrt()
            for name, _ in self._latent_sites()
        }


def _joined(names: list[str], later: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the earlier sites that each site depends on once all later ones are summed out.

    :param later: by site, the later ones that share a term of the joint density with it.
    """
    earlier = {name: [each for each in names[:i] if name in later[each]] for i, name in enumerate(names)}
    for name in reversed(names):
        # Summing a site out joins all that it depends on.
        for place, each in enumerate(earlier[name]):
            earlier[each] = [other for other in names if other in {*earlier[each], *earlier[name][:place]}]
    return earlier


def _sorted(upstream: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List sites so that upstream ones come first.

    :raises ValueError: if there is a cycle.
    """
    order: list[str] = []
    left = list(upstream)
    while left:
        ready = [name for name in left if not set(upstream[name]) - set(order)]
        if not ready:
            _refuse("dependencies of AutoStructured", "no cycles", f"a cycle among {', '.join(left)}")
        order += ready
        left = [name for name in left if name not in ready]
    return order


def _refuse(what: str, expected: str, actual: Any) -> None:
    raise ValueError(message(f"{what} is not as expected", expected=expected, actual=str(actual)))
