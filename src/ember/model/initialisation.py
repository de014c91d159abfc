"""Choose starting values of latent sites: strategies, and the handler that applies one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.distributions.constraints import biject_to, transform_to
from ember.errors import message
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message

InitStrategy = Callable[[Any], Any]  # site record → value, or None to leave the site to its own draw


def _is_outside(support: Any, value: Tensor) -> bool:
    """Whether a value has no place in free space; exact tests of sums to one and the like are too strict."""
    try:
        return bool(torch.isnan(biject_to(support).inv(value)).any())
    except NotImplementedError:  # a support without a transform, such as a discrete one
        return False


def _is_subsample(site: Any) -> bool:
    return type(site["fn"]).__name__ == "_Subsample"


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def init_to_sample(site: Any = None) -> Any:
    """Start from a draw from the prior.

    :param site: a site record; without one, the strategy itself is returned (so for all strategies here).
    """
    if site is None:
        return init_to_sample
    return site["fn"].sample().detach()


def _unconstrained_zero(site: Any) -> Tensor | None:
    """Return zeros in the site's unconstrained space, or None for a discrete site."""
    fn = site["fn"]
    if getattr(fn.support, "is_discrete", False):
        return None
    shape = transform_to(fn.support).inverse_shape(tuple(fn.batch_shape) + tuple(fn.event_shape))
    return torch.zeros(shape, dtype=_dtype(fn), device=_device(fn))


def _dtype(fn: Any) -> torch.dtype:
    found = _first_tensor(fn)
    return torch.get_default_dtype() if found is None else found.dtype


def _device(fn: Any) -> torch.device | None:
    found = _first_tensor(fn)
    return None if found is None else found.device


def _first_tensor(fn: Any) -> Tensor | None:
    """Find a floating point parameter of a distribution, looking into the distributions that it wraps."""
    while fn is not None:
        for value in fn.__dict__.values():
            if isinstance(value, Tensor) and value.dtype.is_floating_point:
                return value
        fn = fn.__dict__.get("base_dist")
    return None


def init_to_feasible(site: Any = None) -> Any:
    """Start from the point that zero in unconstrained space stands for; discrete sites draw."""
    if site is None:
        return init_to_feasible
    zero = _unconstrained_zero(site)
    return init_to_sample(site) if zero is None else transform_to(site["fn"].support)(zero)


def init_to_uniform(site: Any = None, radius: float = 2.0) -> Any:
    """Start uniformly between ``-radius`` and ``radius`` in unconstrained space; discrete sites draw."""
    if site is None:
        return functools.partial(init_to_uniform, radius=radius)
    zero = _unconstrained_zero(site)
    if zero is None:
        return init_to_sample(site)
    return transform_to(site["fn"].support)(zero.uniform_(-radius, radius))


def init_to_median(
    site: Any = None, num_samples: int = 15, *, fallback: InitStrategy | None = init_to_feasible
) -> Any:
    """Start from the median of prior draws.

    :param num_samples: number of draws.
    :param fallback: strategy for sites that cannot be drawn from, or whose median leaves the support.
    """
    if site is None:
        return functools.partial(init_to_median, num_samples=num_samples, fallback=fallback)
    try:
        draws = site["fn"].sample((num_samples,))
        value = draws.median(dim=0)[0]
    except (NotImplementedError, RuntimeError, ValueError):
        return _fall_back(site, fallback, "its prior cannot be drawn from")
    if not _feasible(site, value):
        return _fall_back(site, fallback, "the median of its draws is outside the support")
    return value


def init_to_mean(site: Any = None, *, fallback: InitStrategy | None = init_to_median) -> Any:
    """Start from the prior mean.

    :param fallback: strategy for sites without a finite mean inside the support.
    """
    if site is None:
        return functools.partial(init_to_mean, fallback=fallback)
    try:
        value = site["fn"].mean.detach()
    except (NotImplementedError, AttributeError, ValueError):
        return _fall_back(site, fallback, "its prior has no mean")
    if not _feasible(site, value):
        return _fall_back(site, fallback, "its prior mean is not finite or outside the support")
    return value


def init_to_value(
    site: Any = None,
    values: Mapping[str, Any] | None = None,
    *,
    fallback: InitStrategy | None = init_to_uniform,
) -> Any:
    """Start from given values.

    :param values: values by site name.
    :param fallback: strategy for the other sites.
    """
    values = {} if values is None else values
    if site is None:
        return functools.partial(init_to_value, values=values, fallback=fallback)
    if site["name"] in values:
        return values[site["name"]]
    return _fall_back(site, fallback, "no value was given for it")


def init_to_generated(
    site: Any = None, generate: Callable[[], InitStrategy] = lambda: init_to_uniform
) -> Any:
    """Start by a strategy that ``generate`` makes anew for each initialisation."""
    if site is None:
        return _Generated(generate)
    return generate()(site)


class _Generated:
    """Make one strategy for each run of the model: ``InitMessenger`` asks for it on entry."""

    def __init__(self, generate: Callable[[], InitStrategy]) -> None:
        self.generate = generate
        self.current: InitStrategy | None = None

    def begin(self) -> InitStrategy:
        self.current = self.generate()
        return self.current

    def __call__(self, site: Any) -> Any:
        return (self.current or self.begin())(site)


def _feasible(site: Any, value: Tensor) -> bool:
    support = site["fn"].support
    return _is_finite(value) and bool(torch.as_tensor(support.check(value)).all())


def _fall_back(site: Any, fallback: InitStrategy | None, reason: str) -> Any:
    if fallback is None:
        raise ValueError(
            message(
                f"cannot initialise site '{site['name']}': {reason}",
                site=site["name"],
                fix="give the strategy a fallback, or a value by init_to_value",
            )
        )
    return fallback(site)


class InitMessenger(Messenger):
    """Give each latent sample site a starting value.

    :param init_fn: a strategy; where it returns None the site draws as usual.
    :raises ValueError: if a strategy's value does not have the site's shape.
    """

    def __init__(self, init_fn: InitStrategy) -> None:
        self.init_fn = init_fn

    def __enter__(self) -> Any:
        if isinstance(self.init_fn, _Generated):
            self.init_fn.begin()
        return super().__enter__()

    def _pyro_sample(self, msg: Message) -> None:
        if msg["done"] or msg["is_observed"] or msg["value"] is not None or _is_subsample(msg):
            return
        if not hasattr(msg["fn"], "support"):
            return  # a plain function: only its own draw is known to be valid
        with torch.no_grad():
            value = self.init_fn(msg)
        if value is None:
            return
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=_dtype(msg["fn"]))
        expected = tuple(msg["fn"].batch_shape) + tuple(msg["fn"].event_shape)
        if tuple(value.shape) != expected:
            raise ValueError(
                message(
                    f"the starting value of site '{msg['name']}' has the wrong shape",
                    site=msg["name"],
                    plates=msg["cond_indep_stack"],
                    expected=expected,
                    actual=tuple(value.shape),
                    fix="give a value of the site's batch shape plus event shape",
                )
            )
        if _is_outside(msg["fn"].support, value):
            raise ValueError(
                message(
                    f"the starting value of site '{msg['name']}' lies outside of its support",
                    site=msg["name"],
                    plates=msg["cond_indep_stack"],
                    expected=f"a value in {msg['fn'].support}",
                    actual=value,
                )
            )
        msg["value"] = value
        msg["done"] = True
