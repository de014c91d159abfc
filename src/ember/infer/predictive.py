"""Draw from prior and posterior predictive distributions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.errors import message
from ember.poutine import condition, mask, trace
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.trace_struct import Trace

_PLATE = "_num_predictive_samples"


class Predictive(torch.nn.Module):
    """Run a model with latent values from the prior, from posterior draws, or from a guide.

    Calling it with the model's arguments returns a dict of values by site, each with a leading dimension of
    draws. A site's batch shape is filled up with ones on the left to the number of plate dimensions of the
    model.

    :param model: callable with sample statements.
    :param posterior_samples: draws by site, ``[draws, ...]``; latent sites that are not among them are drawn.
    :param guide: where latent values come from, instead of ``posterior_samples``.
    :param num_samples: number of draws, needed without ``posterior_samples``.
    :param return_sites: names of the sites to return, ``"_RETURN"`` for the model's own result. By default
        all sample sites that are not in ``posterior_samples``, observed and deterministic ones included; None
        for all.
    :param parallel: run the model once, under an outermost plate, rather than once per draw. The model must
        broadcast.
    :param batch_ndims: number of leading dimensions of ``posterior_samples`` that count draws, e.g. 2 for
        chains by draws.
    :raises ValueError: if the number of draws is not known or not one.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        posterior_samples: Mapping[str, Tensor] | None = None,
        guide: Callable[..., Any] | None = None,
        num_samples: int | None = None,
        return_sites: Sequence[str] | None = (),
        parallel: bool = False,
        batch_ndims: int = 1,
    ) -> None:
        super().__init__()
        if posterior_samples is None and num_samples is None:
            raise ValueError("Either posterior_samples or num_samples must be specified.")
        if guide is not None and posterior_samples is not None:
            raise ValueError("`posterior_samples` cannot be provided with the `guide` argument.")
        if return_sites is not None and (
            isinstance(return_sites, str) or not hasattr(return_sites, "__iter__")
        ):
            raise ValueError(f"return_sites must be a sequence of names, got {return_sites!r}")
        samples = dict(posterior_samples or {})
        shape = _batch_shape(samples, batch_ndims)
        if shape is not None:
            count = shape.numel()
            if num_samples is not None and num_samples != count:
                warnings.warn(
                    f"posterior_samples holds {count} draws, which is different from the provided "
                    f"num_samples argument {num_samples}. Defaulting to {count}."
                )
            num_samples = count
        elif num_samples is None:
            raise ValueError("posterior_samples is empty: give num_samples to draw from the prior")
        if not num_samples > 0:
            raise ValueError(f"num_samples must be positive, got {num_samples}")
        self.model = model
        self.guide = guide
        self.num_samples = int(num_samples)
        self.return_sites = return_sites
        self.parallel = parallel
        self._lead = torch.Size([self.num_samples]) if shape is None else shape
        self.posterior_samples = {
            name: value.reshape(self.num_samples, *value.shape[len(self._lead) :])
            for name, value in samples.items()
        }

    def call(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Run as :meth:`forward` does, with any arguments."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return values by site, each ``[draws, ...]``, for the given arguments of the model."""
        samples = self._latents(args, kwargs)
        prototype = _prototype(self.model, args, kwargs)
        with torch.no_grad():
            if self.parallel:
                found = self._collect(self._vectorized(samples, prototype, args, kwargs), prototype)
            else:
                found = self._sequential(samples, prototype, args, kwargs)
        return {name: value.reshape(self._lead + value.shape[1:]) for name, value in found.items()}

    def get_samples(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Do what calling does; the older name."""
        return self.forward(*args, **kwargs)

    def get_vectorized_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Return the trace of one run of the model under an outermost plate over the draws."""
        samples = self._latents(args, kwargs)
        return self._vectorized(samples, _prototype(self.model, args, kwargs), args, kwargs)

    def _latents(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
        if self.guide is None:
            return self.posterior_samples
        drawn = Predictive(
            self.guide, num_samples=self.num_samples, return_sites=None, parallel=self.parallel
        )
        return drawn.forward(*args, **kwargs)

    def _sequential(
        self,
        samples: dict[str, Tensor],
        prototype: Trace,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> dict[str, Tensor]:
        model = mask(self.model, mask=False)
        columns: dict[str, list[Tensor]] = {}
        for index in range(self.num_samples):
            values = {name: _fit(value[index], prototype.nodes.get(name)) for name, value in samples.items()}
            run = _without_minibatches(trace(condition(model, data=values)).get_trace(*args, **kwargs))
            for name in self._names(run):
                columns.setdefault(name, []).append(_value(run, name))
        nesting = _nesting(prototype)
        return {
            name: _stack(name, values, (1,) * _missing_dims(prototype, name, nesting))
            for name, values in columns.items()
        }

    def _vectorized(
        self,
        samples: dict[str, Tensor],
        prototype: Trace,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Trace:
        dim = max([_nesting(prototype), *(len(_batch(site)) for site in _sites(prototype).values())])
        values = {}
        for name, value in samples.items():
            site = prototype.nodes.get(name)
            if site is None:
                values[name] = value
                continue
            shape = tuple(site["value"].shape)
            ones = (1,) * max(dim - len(_batch(site)), 0)
            whole = (self.num_samples, *ones, *shape)
            values[name] = value.reshape(whole) if value.numel() == torch.Size(whole).numel() else value
        plate = PlateMessenger(_PLATE, self.num_samples, dim=-dim - 1)

        def vectorized(*args: Any, **kwargs: Any) -> Any:
            with plate:
                return self.model(*args, **kwargs)

        model = mask(condition(vectorized, data=values), mask=False)
        return _without_minibatches(trace(model).get_trace(*args, **kwargs))

    def _collect(self, run: Trace, prototype: Trace) -> dict[str, Tensor]:
        """Bring each site's value of a vectorised run to ``[draws, ...]``."""
        nesting = _nesting(prototype)
        found = {}
        for name in self._names(run):
            value = _value(run, name)
            expected = _value(prototype, name).shape
            shape = torch.Size((self.num_samples, *(1,) * _missing_dims(prototype, name, nesting), *expected))
            if value.numel() == shape.numel():
                found[name] = value.reshape(shape)
            else:
                found[name] = value.reshape(expected).expand(shape)
        return found

    def _names(self, run: Trace) -> list[str]:
        """Return the names of the sites to return, in the order of the run."""
        chosen = self.return_sites
        if chosen is None:
            return list(_sites(run))
        if len(chosen):
            return [name for name in run.nodes if name in chosen and name != "_INPUT"]
        return [name for name in _sites(run) if name not in self.posterior_samples]


def _batch_shape(samples: dict[str, Any], batch_ndims: int) -> torch.Size | None:
    """Return the common leading shape of posterior draws, None if there are none."""
    shape: torch.Size | None = None
    first = ""
    for name, value in samples.items():
        if not isinstance(value, Tensor) or value.ndim < batch_ndims:
            raise ValueError(
                message(
                    f"posterior_samples['{name}'] has no dimension of draws",
                    site=name,
                    expected=f"a tensor with {batch_ndims} leading dimension(s) of draws",
                    actual=f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value),
                )
            )
        if shape is None:
            shape, first = value.shape[:batch_ndims], name
        elif value.shape[:batch_ndims] != shape:
            raise ValueError(
                message(
                    f"posterior_samples disagree about the number of draws: '{first}' and '{name}'",
                    site=name,
                    expected=f"leading shape {tuple(shape)}, as '{first}' has",
                    actual=f"leading shape {tuple(value.shape[:batch_ndims])}",
                )
            )
    return shape


def _prototype(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Run the model once for the shapes of its sites."""
    with torch.no_grad():
        return _without_minibatches(trace(mask(model, mask=False)).get_trace(*args, **kwargs))


def _without_minibatches(run: Trace) -> Trace:
    for name, site in list(run.nodes.items()):
        if site["type"] == "sample" and type(site["fn"]).__name__ == "_Subsample":
            run.remove_node(name)
    return run


def _sites(run: Trace) -> dict[str, Any]:
    return {name: site for name, site in run.nodes.items() if site["type"] == "sample"}


def _batch(site: Any) -> torch.Size:
    """Return the batch shape of a site."""
    return torch.Size(getattr(site["fn"], "batch_shape", ()))


def _nesting(prototype: Trace) -> int:
    """Return the number of dimensions that the model's plates take."""
    dims = [
        -frame.dim
        for site in _sites(prototype).values()
        for frame in site["cond_indep_stack"]
        if frame.dim is not None
    ]
    return max(dims, default=0)


def _missing_dims(prototype: Trace, name: str, nesting: int) -> int:
    site = prototype.nodes.get(name)
    if site is None or site["type"] != "sample":
        return 0
    return max(nesting - len(_batch(site)), 0)


def _fit(value: Tensor, site: Any) -> Tensor:
    """Take off (or add) dimensions of size one, so that a draw has the shape of its site."""
    shape = getattr(site["value"], "shape", None) if site is not None else None
    if shape is not None and value.shape != shape and value.numel() == shape.numel():
        return value.reshape(shape)
    return value


def _value(run: Trace, name: str) -> Tensor:
    value = run.nodes[name]["value"]
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _stack(name: str, values: list[Tensor], ones: tuple[int, ...]) -> Tensor:
    shapes = {tuple(value.shape) for value in values}
    if len(shapes) != 1:
        raise ValueError(
            message(
                f"site '{name}' has different shapes in different draws, so that they cannot be stacked",
                site=name,
                expected="one shape",
                actual=", ".join(map(str, sorted(shapes))),
                fix="leave the site out by return_sites",
            )
        )
    stacked = torch.stack(values)
    return stacked.reshape(stacked.shape[:1] + ones + stacked.shape[1:])
