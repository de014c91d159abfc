"""Score sites that differ only in their numbers all at once, as one set of factors."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ember.poutine.elimination.factors import Factor, factor_of, variable_of
from ember.poutine.elimination.provenance import Provenance
from ember.poutine.elimination.rows import Rows, rows_of
from ember.poutine.elimination.unexpanded import unexpanded
from ember.poutine.enum_messenger import CONFLICT

_FEWEST = 8  # like sites; fewer are scored one by one
_PLAIN = (bool, int, float, str, type(None), torch.Size, torch.dtype, torch.device)

Score = Callable[[Any], Tensor]


class _Form(NamedTuple):
    """What like sites have in common, and the tensors in which they differ."""

    key: Any
    leaves: tuple[Tensor, ...]


class LikeSites:
    """The sites of one execution by what they have in common.

    :param sites: records of sample sites.
    :param provenance: what is known about how their tensors were computed.
    :param grouped: False to take each by itself.
    """

    def __init__(
        self, sites: Iterable[Any], provenance: Provenance | None = None, grouped: bool = True
    ) -> None:
        self._provenance = provenance
        groups: dict[Any, list[tuple[Any, _Form]]] = {}
        for number, site in enumerate(sites):
            form = _form_of(site) if grouped else None
            key = ("alone", number) if form is None else form.key
            groups.setdefault(key, []).append((site, form or _Form(key, ())))
        self._groups = list(groups.values())

    @property
    def others(self) -> set[str]:
        """Names of the sites that are scored together with others, all but the first of each form."""
        return {str(site["name"]) for group in self._groups if _is_large(group) for site, _ in group[1:]}

    def factors(self, summed: Container[int], score: Score, best: bool = False) -> list[Factor | Rows]:
        """Return the factors of all sites.

        :param summed: ids of the variables that are summed out.
        :param score: a site's record → its log probability, neither scaled nor masked.
        :param best: whether the most probable values are looked for, and not sums.
        """
        found: list[Factor | Rows] = []
        for group in self._groups:
            masked = [_is_masked(site, summed, best) for site, _ in group]
            alike = _is_large(group) and len(set(masked)) == 1
            rows = _together(group, masked[0], self._provenance) if alike else None
            if rows is None:
                sites = (site for site, _ in group)
                found.extend(factor_of(s, score(s), m) for s, m in zip(sites, masked, strict=True))
            else:
                found.append(rows)
        return found


def _is_large(group: Sequence[Any]) -> bool:
    return len(group) >= _FEWEST


def _is_masked(site: Any, summed: Container[int], best: bool) -> bool:
    """Say whether a site's mask counts.

    At sites that are summed out it does not: where such a site is masked out, its prior weighs its values,
    and sums to one if nothing depends on it. So does the latent twin of what is observed of a partly observed
    site, which nothing reads; but the maximum of its prior must not count.
    """
    if str(site["name"]).endswith("_unobserved"):
        return best
    variable = variable_of(site)
    return variable is None or variable.id not in summed


def _together(group: Sequence[tuple[Any, _Form]], masked: bool, provenance: Provenance | None) -> Rows | None:
    """Return the factors of like sites, or None if they cannot be scored together."""
    first, form = group[0]
    columns = list(zip(*(each.leaves for _, each in group), strict=True))
    stacked = [_stack(column, provenance) for column in columns]
    varies = [each for _, each in stacked]
    template: list[Rows] = []

    def score_row(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        renewed = _renewed(first, form, leaves)
        factor = factor_of(renewed, unexpanded(renewed).log_prob(renewed["value"]), masked)
        template.append(rows_of(factor))
        return template[-1].tensor.squeeze(-1), _is_fine(renewed)

    tensors = [tensor for tensor, _ in stacked]
    try:
        if any(varies):
            in_dims = tuple(0 if each else None for each in varies)
            tensor, fine = torch.vmap(score_row, in_dims)(*tensors)
            tensor = tensor.movedim(0, -1)
        else:
            tensor, fine = score_row(*tensors)
            tensor = tensor.unsqueeze(-1)
    except RuntimeError:  # a family whose log probability cannot be batched
        return None
    if _is_validated(first) and not bool(fine.all()):
        return None  # then the site to blame speaks for itself
    places = {variable: dim for dim, variable in first["infer"].get("_dim_to_id", {}).items()}
    dims = [places[variable] for variable in template[0].variables[0]]
    variables = tuple(tuple(site["infer"]["_dim_to_id"][dim] for dim in dims) for site, _ in group)
    return template[0]._replace(tensor=tensor, variables=variables)


def _stack(column: Sequence[Tensor], provenance: Provenance | None) -> tuple[Tensor, bool]:
    if provenance is not None:
        return provenance.stack(column)
    if all(each is column[0] for each in column):
        return column[0], False
    return torch.stack(list(column)), True


def _form_of(site: Any) -> _Form | None:
    """Return the form of a site, or None if it is not one that can be scored together with others."""
    value, mask, scale, infer = site["value"], site["mask"], site["scale"], site["infer"]
    if site["args"] or site["kwargs"] or not isinstance(value, Tensor) or isinstance(scale, Tensor):
        return None
    if not isinstance(site["fn"], Distribution):
        return None
    leaves: dict[int, Tensor] = {}
    scope = infer.get("_dim_to_id", {})
    key = (
        _described(site["fn"], leaves),
        _described(value, leaves),
        _described(mask, leaves),
        float(scale),
        tuple((f.name, f.dim, f.size) for f in site["cond_indep_stack"] if f.dim is not None),
        infer.get("_enumerate_dim"),
        infer.get("_first_enumerate_dim"),
        tuple((dim, scope[dim] == CONFLICT) for dim in sorted(scope, key=scope.__getitem__)),
        site["is_observed"],
        str(site["name"]).endswith("_unobserved"),
    )
    return _Form(key, tuple(leaves.values()))


def _described(item: Any, leaves: dict[int, Tensor]) -> Any:
    """Return what must be equal for two objects to differ in tensors only; collects these by identity."""
    if isinstance(item, Tensor):
        known = len(leaves)
        leaves.setdefault(id(item), item)
        return Tensor, list(leaves).index(id(item)) if len(leaves) == known else known, item.shape, item.dtype
    if isinstance(item, _PLAIN):
        return type(item), item
    if isinstance(item, Distribution):
        return type(item), _described(item.__dict__, leaves)
    if isinstance(item, dict):
        return tuple((name, _described(each, leaves)) for name, each in item.items())
    if isinstance(item, (tuple, list)):
        return type(item), tuple(_described(each, leaves) for each in item)
    return "identity", id(item)


def _renewed(site: Any, form: _Form, leaves: Sequence[Tensor]) -> dict[str, Any]:
    """Return the record with other tensors in place of its own, its distribution without validation."""
    new = {id(old): leaf for old, leaf in zip(form.leaves, leaves, strict=True)}
    return {**site, **{key: _replaced(site[key], new) for key in ("fn", "value", "mask")}}


def _replaced(item: Any, new: dict[int, Tensor]) -> Any:
    if isinstance(item, Tensor):
        return new[id(item)]
    if isinstance(item, Distribution):
        copy = object.__new__(type(item))
        # What was computed and kept since the form was taken is computed anew.
        known = {k: v for k, v in item.__dict__.items() if not isinstance(v, Tensor) or id(v) in new}
        copy.__dict__.update(_replaced(known, new))
        copy.__dict__["_validate_args"] = False
        return copy
    if isinstance(item, dict):
        return {name: _replaced(each, new) for name, each in item.items()}
    if isinstance(item, (tuple, list)) and not isinstance(item, torch.Size):
        return type(item)([_replaced(each, new) for each in item])
    return item


def _is_validated(site: Any) -> bool:
    return bool(getattr(site["fn"], "_validate_args", False))


def _is_fine(site: dict[str, Any]) -> Tensor:
    """Say whether an observed value is in the support; values that are enumerated are."""
    support = getattr(site["fn"], "support", None)
    if (
        site["infer"].get("_enumerate_dim") is not None
        or support is None
        or constraints.is_dependent(support)
    ):
        return torch.tensor(True)
    return torch.as_tensor(support.check(site["value"])).all()
