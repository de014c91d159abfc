"""Compute the evidence lower bound of traces whose discrete sites are enumerated."""

from __future__ import annotations

import math
import warnings
from collections.abc import Container
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember import settings
from ember.distributions.scaling import is_identically_zero
from ember.errors import message
from ember.model.enumeration import LOOPS
from ember.poutine.elimination.contraction import sum_out
from ember.poutine.elimination.factors import (
    Factor,
    Variable,
    align,
    joined_dims,
    log_sum_exp,
    pack,
    variable_of,
)
from ember.poutine.elimination.like_sites import LikeSites
from ember.poutine.elimination.provenance import Provenance
from ember.poutine.elimination.rows import Rows
from ember.poutine.elimination.sum_product import MANY, eliminate
from ember.poutine.shape_table import shapes_in_errors
from ember.poutine.site_density import score_site
from ember.poutine.trace_struct import Trace


class Cost(NamedTuple):
    """A term of log p − log q, scaled, which depends on no draw of guide sites after the ``order``-th."""

    factor: Factor
    order: float


def sample_sites(trace: Trace) -> list[Any]:
    """Return the records of the sample sites that count, enumerated ones in any case."""
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample"
        and not site["infer"].get("_deterministic")
        and (site["mask"] is not False or site["infer"].get("_enumerate_dim") is not None)
    ]


def variables_of(trace: Trace) -> dict[int, Variable]:
    """Return the enumerated sites of a trace by id."""
    found = [variable_of(site) for site in trace.nodes.values() if site["type"] == "sample"]
    return {variable.id: variable for variable in found if variable is not None}


def warn_if_none_marked(who: str, *traces: Trace) -> None:
    """Warn if no sample site of the traces is marked for enumeration.

    :param who: what would have enumerated it.
    """
    sites = (site for trace in traces for site in trace.nodes.values() if site["type"] == "sample")
    if any(site["infer"].get("enumerate") is not None for site in sites):
        return
    warnings.warn(
        message(
            f"{who} found no sample sites configured for enumeration",
            fix="mark them by config_enumerate or infer={'enumerate': 'parallel'}, or do without it",
        ),
        UserWarning,
        stacklevel=6,
    )


def group_like_sites(trace: Trace, provenance: Provenance | None) -> None:
    """Set ``trace.like_sites`` if many sites are enumerated, so that like ones are scored together.

    :param provenance: what is known about how the trace's tensors were computed.
    """
    if sum("_enumerate_dim" in site["infer"] for site in sample_sites(trace)) >= MANY:
        trace.like_sites = LikeSites(sample_sites(trace), provenance)


def model_factors(trace: Trace, summed: Container[int], best: bool = False) -> list[Factor | Rows]:
    """Return the factors of the sites that count.

    :param summed: ids of the variables that are summed out.
    :param best: whether the most probable values are looked for, and not sums.
    """
    like_sites = trace.like_sites or LikeSites(sample_sites(trace), grouped=False)
    return like_sites.factors(summed, log_prob_of, best)


def log_prob_of(site: Any) -> Any:
    """Return a site's log probability, neither scaled nor masked."""
    if "unscaled_log_prob" not in site:
        score_site(str(site["name"]), site, settings.read("validate_poutine"))
    return site["unscaled_log_prob"]


def eliminated(
    model_trace: Trace, guide_variables: dict[int, Variable], probes: list[Factor] | None = None
) -> tuple[list[Factor], list[Factor | Rows]]:
    """Sum the model's own enumerated sites out of its density; returns what is left, and what went in."""
    own = {v: each for v, each in variables_of(model_trace).items() if v not in guide_variables}
    kept = {v: each.plates for v, each in guide_variables.items()}
    with shapes_in_errors(model_trace.nodes):
        factors = model_factors(model_trace, own)
        left, _ = eliminate([*factors, *(probes or [])], own, kept, loops=LOOPS)
        return left, factors


def _orders(model_trace: Trace, guide_trace: Trace, factors: list[Factor | Rows]) -> dict[int, int]:
    """Return the last guide site that each factor of the model may depend on, by the factor's identity.

    It is among those whose values the model had read by then. Sites that are scored together are left out.
    """
    if model_trace.like_sites is not None:
        return {}
    places = {site["name"]: order for order, site in enumerate(sample_sites(guide_trace))}
    scored = iter(factors)
    counted = {site["name"] for site in sample_sites(model_trace)}
    latest, orders = -1, {}
    for name, site in model_trace.nodes.items():
        if site["type"] == "sample":
            latest = max(latest, places.get(name, -1))
            if name in counted:
                orders[id(next(scored))] = latest
    return orders


def enumerated_bound(model_trace: Trace, guide_trace: Trace) -> tuple[Any, Any]:
    """Return the bound and a surrogate with its gradient; both scalars.

    Each term of log p − log q is averaged exactly over the guide's enumerated sites that it depends on.
    Of several draws of a site each counts alike. Sampled sites, also those with several draws, get
    score-function terms where they are not reparameterised, averaged in the same way; of the costs, those
    count that may depend on the draw, as others have no expectation times its score.
    """
    variables = variables_of(guide_trace)
    left, factors = eliminated(model_trace, variables)
    orders = _orders(model_trace, guide_trace, factors)
    costs = [Cost(_scaled(factor), orders.get(id(factor), math.inf)) for factor in left]
    direct = list(costs)
    proposals: dict[int, Factor] = {}
    scores: list[tuple[Factor, int]] = []
    sequential: list[Factor] = []
    for order, site in enumerate(sample_sites(guide_trace)):
        plain = {**site, "scale": 1.0}
        cost = Cost(_negated(pack(plain, site["log_prob"])), order)
        costs.append(cost)
        parts = site["score_parts"]
        variable = variable_of(site)
        count = site["infer"].get("num_samples")
        if variable is not None and count is not None:
            weights = site["unscaled_log_prob"].new_full((count,), -math.log(count))
            proposals[variable.id] = Factor((variable.id,), weights, frozenset())
        if variable is not None and count is None:
            proposals[variable.id] = pack(plain, site["unscaled_log_prob"])
            direct.append(cost)
        elif site["infer"].get("enumerate") == "sequential" and not site["is_observed"]:
            sequential.append(pack(plain, site["unscaled_log_prob"]))
            direct.append(cost)
        else:
            if not is_identically_zero(parts.score_function):
                scores.append((pack(plain, parts.score_function), order))
            if not is_identically_zero(parts.entropy_term):
                direct.append(Cost(_negated(pack(plain, parts.entropy_term)), order))
            else:  # the weights of what the guide enumerates have derivatives in any case
                held = cost.factor._replace(tensor=cost.factor.tensor.detach())
                direct.append(Cost(held, order))
    average = _Average(proposals, sequential)
    bound = sum((average(cost.factor) for cost in costs), start=torch.zeros(()))
    if not scores:
        return bound, bound
    surrogate = sum((average(cost.factor) for cost in direct), start=torch.zeros(()))
    for score, order in scores:
        for cost in costs:
            if cost.order >= order:
                surrogate = surrogate + average(cost.factor, score)
    return bound, surrogate


class _Average:
    """Average terms over the guide's enumerated sites.

    :param proposals: the guide's factor of each enumerated site, by id.
    :param sequential: probabilities of the values that are enumerated sequentially, which weigh every term.
    """

    def __init__(self, proposals: dict[int, Factor], sequential: list[Factor]) -> None:
        self._proposals = proposals
        self._sequential = sequential
        self._marginals: dict[frozenset[int], Factor] = {}

    def __call__(self, cost: Factor, score: Factor | None = None) -> Tensor:
        """Return the average of a cost, summed over plates; times a score, with the cost held fixed."""
        terms = [cost] if score is None else [cost, score]
        variables = frozenset().union(*(term.variables for term in terms))
        weighted = bool(variables or self._sequential)
        if not weighted and score is None:
            return cost.tensor.sum()
        marginal = self._marginal(variables) if weighted else None
        dims = joined_dims([*terms, marginal] if marginal is not None else terms)
        value = align(cost, dims)
        if marginal is not None:
            weight = align(marginal, dims).exp()
            # Where the guide never goes, nothing is counted, be it infinite.
            value = torch.where(weight == 0, 0.0, value) * weight
        if score is not None:
            value = value.detach() * align(score, dims)
        return value.sum()

    def _marginal(self, variables: frozenset[int]) -> Factor:
        """Return the log probability of some variables in the guide, with its other variables summed out."""
        known = self._marginals.get(variables)
        if known is None:
            needed: dict[int, None] = {}
            waiting = sorted(variables.union(*(each.variables for each in self._sequential)))
            while waiting:
                variable = waiting.pop()
                if variable not in needed:
                    needed[variable] = None
                    waiting.extend(self._proposals[variable].variables)
            others = [v for v in needed if v not in variables]
            factors = [*(self._proposals[v] for v in needed), *self._sequential]
            ones = {v: Variable(v, "", frozenset()) for v in needed}
            if others:
                known = sum_out(factors, others, ones, log_sum_exp, [])
            else:
                dims = joined_dims(factors)
                joint = sum((align(each, dims) for each in factors), start=torch.zeros(()))
                known = Factor(dims, joint, frozenset())
            self._marginals[variables] = known
        return known


def _scaled(factor: Factor) -> Factor:
    if isinstance(factor.scale, (int, float)) and factor.scale == 1:
        return factor
    return factor._replace(tensor=factor.tensor * factor.scale, scale=1.0)


def _negated(factor: Factor) -> Factor:
    return factor._replace(tensor=-factor.tensor)
