"""Average costs over a guide's draws, so that derivatives estimate those of the expectation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.distributions.scaling import is_identically_zero
from ember.ops.plated_sums import contract_factors
from ember.ops.rings import LogRing
from ember.poutine.elimination.factors import Dim, Factor, align
from ember.poutine.trace_struct import Trace


class Dice:
    """The DiCE operator (Foerster et al. 2018) on traces with plates and enumerated sites.

    Sites that are enumerated weigh costs by their probabilities; sites that are sampled without
    reparameterisation by exp(log q - stop_gradient(log q)), which is one, and whose gradient is the score.

    :param guide_trace: a trace with score parts and packed tensors (``compute_score_parts()``, then
        ``pack_tensors()``).
    :param ordering: ordinals of the sites by name; a site weighs costs of ordinals that its own is ``<=``.
    :raises NotImplementedError: for sites with ``num_samples``.
    """

    def __init__(self, guide_trace: Trace, ordering: Mapping[str, Any]) -> None:
        self._plates: set[str] = set()
        self._weights: list[tuple[Any, Factor]] = []
        for name, site in guide_trace.nodes.items():
            if site["type"] != "sample" or type(site["fn"]).__name__ == "_Subsample":
                continue
            symbols = site["infer"]["_dim_to_symbol"]
            self._plates.update(symbols[f.dim] for f in site["cond_indep_stack"] if f.dim is not None)
            log_weight = _log_weight(site)
            if log_weight is not None:
                self._weights.append((ordering[name], self._factor(log_weight)))

    def compute_expectation(self, costs: Mapping[Any, Sequence[Tensor]]) -> Any:
        """Return the sum of the average costs.

        :param costs: packed tensors, scaled, by ordinal.
        """
        total: Any = 0.0
        for ordinal, terms in costs.items():
            weights = [factor for own, factor in self._weights if own <= ordinal]
            for term in terms:
                total = total + self._average(self._factor(term), weights)
        return total

    def _average(self, cost: Factor, weights: list[Factor]) -> Tensor:
        if not weights:
            return cost.tensor.sum()
        summed = frozenset().union(*(factor.variables for factor in weights)) - cost.variables
        weight = contract_factors(weights, summed, LogRing())
        dims = [*weight.dims, *(dim for dim in cost.dims if dim not in weight.dims)]
        probability = align(weight, dims).exp()
        # Where the guide never goes, nothing is counted, be it infinite.
        return (probability * torch.where(probability == 0, 0.0, align(cost, dims))).sum()

    def _factor(self, packed: Any) -> Factor:
        symbols = getattr(packed, "_pyro_dims", "")
        dims: tuple[Dim, ...] = tuple(d if d in self._plates else ord(d) for d in symbols)
        return Factor(dims, torch.as_tensor(packed), frozenset())


def _log_weight(site: Any) -> Any:
    """Return the logarithm of the weight that a site's values give to costs, packed; None if it is one."""
    packed, infer = site["packed"], site["infer"]
    if site["is_observed"]:
        return None
    score = packed["score_parts"].score_function
    if infer.get("enumerate") is None:
        return None if is_identically_zero(score) else _like(score - score.detach(), score)
    if infer.get("num_samples") is not None:
        raise NotImplementedError(
            f"Dice does not offer num_samples, as site '{site['name']}' has; see TraceTMC_ELBO"
        )
    return packed["unscaled_log_prob"]


def _like(tensor: Tensor, packed: Any) -> Any:
    result: Any = tensor
    result._pyro_dims = packed._pyro_dims
    return result
