"""Sum the entropies of a mean-field guide's sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from ember import poutine
from ember.distributions.scaling import scale_and_mask


def mean_field_entropy(
    model: Callable[..., Any], args: Iterable[Any], whitelist: Iterable[str] | None = None
) -> Tensor:
    """Return the sum of the closed-form entropies of the latent sites, given one draw of what they depend on.

    :param model: a guide or model.
    :param args: its positional arguments.
    :param whitelist: names of the sites to count; all latent ones by default.
    :raises NotImplementedError: if a site's family has no closed form.
    """
    trace = poutine.trace(model).get_trace(*args)
    chosen = None if whitelist is None else set(whitelist)
    total: Any = 0.0
    for name, site in trace.iter_stochastic_nodes():
        if type(site["fn"]).__name__ == "_Subsample" or (chosen is not None and name not in chosen):
            continue
        total = total + scale_and_mask(site["fn"].entropy(), site["scale"], site["mask"]).sum()
    return total
