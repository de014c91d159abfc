"""Draw from prior and posterior predictive distributions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ember import settings
from ember.engine.policy import native_or_eager
from ember.infer.prediction.native import WORTH_COMPILING, run_natively
from ember.infer.prediction.shapes import (
    chunks,
    common_lead,
    fit_to_site,
    join_chunks,
    missing_dims,
    plate_nesting,
    run_prototype,
    sample_sites,
    stack_draws,
    tensor_value,
    vectorized,
    with_draws,
    without_minibatches,
)
from ember.poutine import condition, mask, trace
from ember.poutine.trace_struct import Trace


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
        broadcast. Otherwise many draws are made in a loop of machine code, if the model can be captured.
    :param batch_size: the largest number of draws in one run, to bound memory; by default all of them. Of use
        with ``parallel`` only.
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
        *,
        batch_size: int | None = None,
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
        shape = common_lead(samples, batch_ndims)
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
        for name, number in (("num_samples", num_samples), ("batch_size", batch_size)):
            if number is not None and not number > 0:
                raise ValueError(f"{name} must be positive, got {number}")
        self.model = model
        self.guide = guide
        self.num_samples = int(num_samples)
        self.return_sites = return_sites
        self.parallel = parallel
        self.batch_size = batch_size
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
        prototype = run_prototype(self.model, args, kwargs)
        with torch.no_grad():
            if self.parallel:
                found = join_chunks(
                    self._collect(self._vectorized(chunk, count, prototype, args, kwargs), count, prototype)
                    for count, chunk in chunks(samples, self.num_samples, self.batch_size)
                )
            else:
                found = self._sequential(samples, prototype, args, kwargs)
        return {name: value.reshape(self._lead + value.shape[1:]) for name, value in found.items()}

    def get_samples(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Do what calling does; the older name."""
        return self.forward(*args, **kwargs)

    def get_vectorized_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Return the trace of one run of the model under an outermost plate over the draws."""
        samples = self._latents(args, kwargs)
        prototype = run_prototype(self.model, args, kwargs)
        return self._vectorized(samples, self.num_samples, prototype, args, kwargs)

    def _latents(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
        if self.guide is None:
            return self.posterior_samples
        drawn = Predictive(
            self.guide,
            num_samples=self.num_samples,
            return_sites=None,
            parallel=self.parallel,
            batch_size=self.batch_size,
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

        def run(values: dict[str, Tensor]) -> dict[str, Tensor]:
            fitted = {name: fit_to_site(value, prototype.nodes.get(name)) for name, value in values.items()}
            found = without_minibatches(trace(condition(model, data=fitted)).get_trace(*args, **kwargs))
            return {name: tensor_value(found, name) for name in self._names(found)}

        def one_by_one() -> dict[str, Tensor]:
            columns: dict[str, list[Tensor]] = {}
            for index in range(self.num_samples):
                for name, value in run({name: each[index] for name, each in samples.items()}).items():
                    columns.setdefault(name, []).append(value)
            return {name: stack_draws(name, values) for name, values in columns.items()}

        if self.num_samples < WORTH_COMPILING and settings.read("execution") != "native":
            stacked = one_by_one()
        else:
            natively = partial(run_natively, run, samples, self.num_samples)
            stacked = native_or_eager(natively, one_by_one, "prediction, draw by draw,")
        nesting = plate_nesting(prototype)
        return {
            name: value.reshape(
                value.shape[:1] + (1,) * missing_dims(prototype, name, nesting) + value.shape[1:]
            )
            for name, value in stacked.items()
        }

    def _vectorized(
        self,
        samples: dict[str, Tensor],
        count: int,
        prototype: Trace,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Trace:
        model = mask(vectorized(self.model, samples, count, prototype), mask=False)
        return without_minibatches(trace(model).get_trace(*args, **kwargs))

    def _collect(self, run: Trace, count: int, prototype: Trace) -> dict[str, Tensor]:
        """Bring each site's value of a vectorised run to ``[draws, ...]``."""
        nesting = plate_nesting(prototype)
        found = {}
        for name in self._names(run):
            value = tensor_value(run, name)
            shape = tensor_value(prototype, name).shape
            lead = (count, *(1,) * missing_dims(prototype, name, nesting))
            found[name] = with_draws(value, lead, shape)
        return found

    def _names(self, run: Trace) -> list[str]:
        """Return the names of the sites to return, in the order of the run."""
        chosen = self.return_sites
        if chosen is None:
            return list(sample_sites(run))
        if len(chosen):
            return [name for name in run.nodes if name in chosen and name != "_INPUT"]
        return [name for name in sample_sites(run) if name not in self.posterior_samples]


def predictive(
    model: Callable[..., Any], posterior_samples: Mapping[str, Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Draw from the posterior predictive distribution: the older function form of :class:`Predictive`.

    ``num_samples``, ``return_sites``, ``parallel`` and ``return_trace`` are taken out of ``kwargs``.
    """
    return_trace = kwargs.pop("return_trace", False)
    options = {
        name: kwargs.pop(name) for name in ("num_samples", "return_sites", "parallel") if name in kwargs
    }
    sampler = Predictive(model, posterior_samples, **options)
    return sampler.get_vectorized_trace(*args, **kwargs) if return_trace else sampler(*args, **kwargs)
