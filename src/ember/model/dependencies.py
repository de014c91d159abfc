"""Find which sites of a model depend on which, by following tensors through its operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ember.poutine import block
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import CondIndepStackFrame, Message


class SiteRelation(NamedTuple):
    """A site of a model, and what its distribution depends on directly."""

    name: str
    kind: str  # "latent", "observed", "deterministic" or "param"
    fn: Any  # the distribution, or a param's constraint
    parents: tuple[str, ...]
    plates: tuple[CondIndepStackFrame, ...]  # outermost first


class Ancestry(TorchFunctionMode):
    """Follow through all operations of torch which named tensors each tensor was computed from."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, tuple[Tensor, frozenset[str]]] = {}  # with the tensor, so that ids stay unique

    def mark(self, tensor: Tensor, names: frozenset[str]) -> None:
        """Say what a tensor comes from."""
        self._names[id(tensor)] = (tensor, names)

    def of(self, *values: Any) -> frozenset[str]:
        """Return what some values come from, also nests of tensors."""
        known = (self._names.get(id(leaf)) for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
        return frozenset().union(*(entry[1] for entry in known if entry is not None))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and let its results come from what its arguments come from."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        names = self.of(args, kwargs)
        if names:
            name = getattr(func, "__name__", "")
            changed = args[:1] if name == "__setitem__" or name.endswith("_") else ()
            for leaf in tree_leaves((result, changed)):
                if isinstance(leaf, Tensor):
                    self.mark(leaf, names | self.of(leaf))
        return result


class _Follower(Messenger):
    """Record the sites of a run with what they depend on."""

    def __init__(self, ancestry: Ancestry, with_deterministic: bool) -> None:
        self.ancestry = ancestry
        self.with_deterministic = with_deterministic
        self.sites: dict[str, SiteRelation] = {}

    def _pyro_post_sample(self, msg: Message) -> None:
        fn: Any = msg["fn"]
        if type(fn).__name__ == "_Subsample":
            return
        name, value = str(msg["name"]), msg["value"]
        if msg["infer"].get("_deterministic"):
            if self.with_deterministic:
                self._add(name, "deterministic", fn, self.ancestry.of(value), msg)
            return
        # The distribution's parents show in its density at a value that comes from nowhere.
        clean = torch.empty_like(value).copy_(value) if isinstance(value, Tensor) else value
        if isinstance(clean, Tensor):
            self.ancestry.mark(clean, frozenset())
        parents = self.ancestry.of(fn.log_prob(clean, *msg["args"], **msg["kwargs"]))
        self._add(name, "observed" if msg["is_observed"] else "latent", fn, parents, msg)

    def _pyro_post_param(self, msg: Message) -> None:
        constraint = msg["kwargs"].get("constraint")
        if str(msg["name"]) not in self.sites:
            self._add(str(msg["name"]), "param", constraint, frozenset(), msg)

    def _add(self, name: str, kind: str, fn: Any, parents: frozenset[str], msg: Message) -> None:
        known = tuple(each for each in self.sites if each in parents)
        self.sites[name] = SiteRelation(name, kind, fn, known, msg["cond_indep_stack"])
        if isinstance(msg["value"], Tensor) and kind != "observed":
            # Another tensor: an upstream value may be the same object.
            msg["value"] = msg["value"].view_as(msg["value"])
            self.ancestry.mark(msg["value"], frozenset([name]))


def follow(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    with_deterministic: bool = False,
) -> dict[str, SiteRelation]:
    """Run a model once and return its sites, in order, with the sites that each depends on directly.

    What passes through plain numbers (``.item()``, numpy) is not seen.

    :param with_deterministic: list deterministic sites, rather than look through them.
    """
    ancestry = Ancestry()
    follower = _Follower(ancestry, with_deterministic)
    with block(), torch.no_grad(), torch.random.fork_rng(), ancestry, follower:
        model(*args, **(kwargs or {}))
    return follower.sites


def get_dependencies(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] | None = None,
    model_kwargs: dict[str, Any] | None = None,
    include_obs: bool = False,
) -> dict[str, dict[str, dict[str, set[str]]]]:
    """Return which sites depend on which, in the prior and in the posterior.

    ``prior_dependencies`` maps each site to the latent sites upstream that its distribution depends on, and
    to itself. ``posterior_dependencies`` maps each latent site to the later ones that depend on it given the
    data: those downstream, observed ones too, and those that share a site downstream (moralisation; Koller &
    Friedman 2009, section 4.5). Each dependency comes with the set of plates whose elements it joins, all
    with all.

    :param model_args: positional arguments of the model.
    :param model_kwargs: keyword arguments of the model.
    :param include_obs: list observed sites in the posterior as if they were latent.
    """
    sites = follow(model, model_args or (), model_kwargs)
    kept = {name: each for name, each in sites.items() if each.kind in ("latent", "observed")}
    order = {name: position for position, name in enumerate(kept)}
    plates = {name: {frame.name for frame in each.plates if frame.vectorized} for name, each in kept.items()}
    prior: dict[str, dict[str, set[str]]] = {}
    posterior: dict[str, dict[str, set[str]]] = {
        name: {} for name, each in kept.items() if include_obs or each.kind == "latent"
    }
    for name, each in kept.items():
        parents = [parent for parent in each.parents if parent in kept]
        prior[name] = {**{parent: set() for parent in parents}, name: set()}
        family = (*parents, name)
        for first in (member for member in family if member in posterior):
            for second in family:
                if order[first] <= order[second]:
                    joined = (plates[first] & plates[second]) - plates[name]
                    posterior[first].setdefault(second, set()).update(joined)
    return {"prior_dependencies": prior, "posterior_dependencies": posterior}


def get_model_relations(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] | None = None,
    model_kwargs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the structure of a model in plain lists and texts, for drawing and reports.

    :returns: a dict of ``sample_sample`` and ``sample_param`` (site → sites and params that it depends on
        directly), ``sample_dist`` (site → name of its distribution), ``param_constraint`` (param → text),
        ``plate_sample`` (plate → its sites) and ``observed`` (sites with a value given or computed).
    """
    sites = follow(model, model_args or (), model_kwargs, with_deterministic=True)
    params = {name: each for name, each in sites.items() if each.kind == "param"}
    samples = {name: each for name, each in sites.items() if each.kind != "param"}
    plates: dict[str, list[str]] = {}
    for name, each in samples.items():
        for frame in each.plates:
            plates.setdefault(frame.name, []).append(name)
    return {
        "sample_sample": {
            name: [parent for parent in each.parents if parent in samples] for name, each in samples.items()
        },
        "sample_param": {
            name: [parent for parent in each.parents if parent in params] for name, each in samples.items()
        },
        "sample_dist": {
            name: "Deterministic" if each.kind == "deterministic" else type(innermost(each.fn)).__name__
            for name, each in samples.items()
        },
        "param_constraint": {name: str(each.fn) for name, each in params.items()},
        "plate_sample": plates,
        "observed": [name for name, each in samples.items() if each.kind != "latent"],
    }


def innermost(fn: Any) -> Any:
    """Return the distribution inside what plates, masks and ``to_event`` wrap around it."""
    while type(fn).__name__ in ("Independent", "ExpandedDistribution", "MaskedDistribution"):
        fn = fn.base_dist
    return fn
