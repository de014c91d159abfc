"""Put values that are computed from a trained guide's space in place of a model's sites."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from ember.distributions import Delta
from ember.poutine.plate_messenger import block_plate
from ember.poutine.reparam_messenger import ReparamResult
from ember.poutine.runtime import get_plates


@contextmanager
def outside_plates() -> Iterator[None]:
    """Switch off the plates around a site, for new sites that concern more than it."""
    with ExitStack() as stack:
        for frame in get_plates():
            if frame.vectorized:
                stack.enter_context(block_plate(name=frame.name))
        yield


def carried(prior: Any, bijection: Any, free: Tensor, extra: Any = 0.0) -> ReparamResult:
    """Fix a site at the image of its unconstrained value, scored by the density of that value.

    :param prior: the site's distribution.
    :param bijection: from unconstrained space to its support.
    :param free: the unconstrained value.
    :param extra: what the log density has more, once for the whole batch.
    """
    value = bijection(free)
    jacobian = bijection.log_abs_det_jacobian(free, value)
    batch = prior.batch_shape
    jacobian = jacobian.flatten(len(batch)).sum(-1) if jacobian.ndim > len(batch) else jacobian
    # The sum over the batch must count what belongs to the whole vector once.
    log_density = prior.log_prob(value) + jacobian + extra / max(1, batch.numel())
    return {"fn": Delta(value, log_density, prior.event_dim), "value": value, "is_observed": True}
