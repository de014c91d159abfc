"""Turn a model into a pure log density over a flat unconstrained vector."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ember.model.checks import inspect_in_any_precision, split_latents
from ember.model.discrete_draws import DrawMessenger, SumReport, report_of
from ember.model.enumeration import EnumeratedScoreMessenger, EnumerationPlan
from ember.model.evaluation import double_precision, to_double
from ember.model.initialisation import InitStrategy
from ember.model.inspection import Site, SiteTable
from ember.model.layout import Block, Layout
from ember.model.scoring import RecordMessenger, ScoreMessenger
from ember.model.substitution import (
    DeterministicMessenger,
    SubstituteMessenger,
    SubstituteMinibatches,
    UnconstrainMessenger,
)
from ember.model.support_search import find_supports
from ember.poutine.messenger import Messenger

Handler = TypeVar("Handler", bound=SubstituteMessenger)

_MOST_AT_ONCE = (
    2**24
)  # numbers in the tables of the posterior draws for which discrete sites are drawn at once


class Density:
    """The log density of a model given its arguments, over the latent sites in unconstrained space.

    It counts what a trace counts: every sample site under its plates, scales and masks, and factors; plus
    log|det J| of the maps onto the supports. Discrete latent sites of finite support are summed out (see
    :mod:`ember.model.enumeration`). Minibatches of subsampling plates are drawn once and kept; params are
    constants. Everything is computed in float64. Evaluations read no values in Python, unless the model does.

    :param model: callable with sample statements.
    :param args: its positional arguments.
    :param kwargs: its keyword arguments.
    :param transforms: maps from the support of a site to unconstrained space, by name, in place of the
        inverse of ``biject_to(support)``.
    :param init_strategy: values for the first execution, site record → value.
    :param seed: of the random numbers of the first execution; by default torch's generator gives them.
    :param validate: keep validation on in evaluations.
    :param sum_discrete: False to refuse discrete latent sites.
    :raises ValueError: for a discrete latent site of infinite support, a model without continuous
        ones, or a support without bijection.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        transforms: Mapping[str, Any] | None = None,
        init_strategy: InitStrategy | None = None,
        seed: int | None = None,
        validate: bool = False,
        sum_discrete: bool = True,
    ) -> None:
        self.model = model
        self.validate = validate
        self.sites: SiteTable = inspect_in_any_precision(model, args, dict(kwargs or {}), init_strategy, seed)
        latents, discrete = split_latents(self.sites, sum_discrete)
        self.enumeration = EnumerationPlan(self.sites, [site.name for site in discrete]) if discrete else None
        leaves, self._structure = tree_flatten((args, dict(kwargs or {})))
        self._leaves = [to_double(leaf) for leaf in leaves]
        self._doubled = tree_unflatten(self._leaves, self._structure)
        self._positions = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.minibatches = {site.name: site.value for site in self.sites.of_kind("subsample")}
        # Values of discrete sites for executions that want one of them: the first execution's.
        self._fixed = {**self.minibatches, **{site.name: to_double(site.value) for site in discrete}}
        self._promote = False
        self.layout = self._lay_out(latents, dict(transforms or {}))

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.layout.size

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors among the model's arguments, floating ones as float64."""
        return tuple(self._leaves[i] for i in self._positions)

    # -- evaluation ----------------------------------------------------------------------------------------

    def log_density(self, z: Tensor, inputs: tuple[Tensor, ...] | None = None) -> Tensor:
        """Return the log density at ``z``, float64 ``[size]``, with ``inputs`` as the tensor arguments."""
        blocks, values = self.layout.blocks, self.layout.split(z)
        if self.enumeration is None:
            return self._run(ScoreMessenger(blocks, values, self.minibatches), inputs).total()
        summing = EnumeratedScoreMessenger(blocks, values, self.minibatches)
        return self._run(summing, inputs, self.enumeration).total()

    def value_and_gradient(
        self, z: Tensor, inputs: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the log density at ``z`` and its gradient ``[size]``, both detached.

        Where the linear algebra of the model fails, e.g. at a matrix that is not positive definite, the
        density is zero.
        """
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            try:
                value = self.log_density(z, inputs)
            except torch.linalg.LinAlgError:
                return z.new_full((), -torch.inf), torch.zeros_like(z).detach()
            if not value.requires_grad:
                return value, torch.zeros_like(z).detach()
            (gradient,) = torch.autograd.grad(value, z)
        return value.detach(), gradient

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and gradient for the model's own arguments, as kernels call it."""
        return self.value_and_gradient(z)

    def record(self, z: Tensor) -> list[tuple[str, Any, Any, float]]:
        """Return (name, distribution, value, log density) of each site that counts, in order."""
        handler = RecordMessenger(self.layout.blocks, self.layout.split(z), self._fixed)
        with torch.no_grad():
            self._run(handler, None)
        return handler.records

    def _run(
        self, handler: Handler, inputs: tuple[Tensor, ...] | None, plan: EnumerationPlan | None = None
    ) -> Handler:
        """Execute the model under a handler, with its discrete sites enumerated if there is a plan."""
        args, kwargs = self._arguments(inputs)
        model = self.model if plan is None else plan.enumerated(self.model)
        with double_precision(self._promote, self.validate):
            with handler:
                model(*args, **kwargs)
            handler.finish()
        return handler

    def _arguments(self, inputs: tuple[Tensor, ...] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if inputs is None:
            return self._doubled
        leaves = list(self._leaves)
        for position, value in zip(self._positions, inputs, strict=True):
            leaves[position] = value
        args, kwargs = tree_unflatten(leaves, self._structure)
        return args, kwargs

    # -- coordinates ---------------------------------------------------------------------------------------

    def constrain(self, z: Tensor, chunk: int = 1024) -> dict[str, Tensor]:
        """Map vectors ``[..., size]`` to values by site, ``[..., *shape]``, in the model's dtypes."""
        if self.layout.dynamic:
            values = self._map_rows(z, self._constrain_row, chunk)
        else:
            with torch.no_grad():
                values = self.layout.transform_static(z)
        return self.layout.cast(values)

    def discrete(self, z: Tensor) -> dict[str, Tensor]:
        """Draw the discrete sites given vectors ``[..., size]``: values by site, ``[..., *shape]``.

        They are drawn jointly from their posterior, by torch's generator.
        """
        if self.enumeration is None:
            return {}
        # As many at a time as keep the tables within bounds.
        chunk = max(1, min(1024, _MOST_AT_ONCE // max(self.sums.largest, 1)))
        values = self._map_rows(z, self._draw_row, chunk)
        return {name: value.to(self.sites[name].value.dtype) for name, value in values.items()}

    @functools.cached_property
    def sums(self) -> SumReport:
        """What is summed out, and what it costs."""
        if self.enumeration is None:
            return SumReport((), 0, 0, 0, "nothing is summed out")
        z = torch.zeros(self.size, dtype=torch.float64)
        handler = DrawMessenger(self.layout.blocks, self.layout.split(z), self.minibatches)
        with torch.no_grad(), torch.random.fork_rng():
            self._run(handler, None, self.enumeration)
        return report_of(self.sites, self.enumeration.names, handler.steps)

    def deterministics(
        self, z: Tensor, chunk: int = 1024, discrete: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compute the deterministic sites at vectors ``[..., size]``: values by site, ``[..., *shape]``.

        :param discrete: values of the discrete sites, as :meth:`discrete` gives them; drawn by default.
        """
        sites = self.sites.of_kind("deterministic")
        if not sites:
            return {}
        if discrete is None:
            discrete = self.discrete(z)
        values = self._map_rows(z, self._deterministic_row, chunk, discrete)
        return {site.name: values[site.name].to(site.value.dtype) for site in sites}

    def _constrain_row(self, z: Tensor) -> dict[str, Tensor]:
        handler = SubstituteMessenger(self.layout.blocks, self.layout.split(z), self._fixed)
        self._run(handler, None)
        return handler.values

    def _draw_row(self, z: Tensor) -> dict[str, Tensor]:
        handler = DrawMessenger(self.layout.blocks, self.layout.split(z), self.minibatches)
        drawn = self._run(handler, None, self.enumeration).drawn
        return {name: value.expand(self.sites[name].shape) for name, value in drawn.items()}

    def _deterministic_row(self, z: Tensor, discrete: dict[str, Tensor]) -> dict[str, Tensor]:
        fixed = {**self.minibatches, **{name: to_double(value) for name, value in discrete.items()}}
        handler = DeterministicMessenger(self.layout.blocks, self.layout.split(z), fixed)
        return self._run(handler, None).deterministics

    def _map_rows(
        self,
        z: Tensor,
        function: Callable[..., dict[str, Tensor]],
        chunk: int,
        *others: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Apply a function of one vector, and of a row of ``others``, to many, vectorised if possible."""
        lead = z.ndim - 1
        rows = [z.reshape(-1, self.size)]
        rows += [each.reshape(-1, *each.shape[lead:]) for other in others for each in other.values()]

        def call(row: Tensor, *rest: Tensor) -> dict[str, Tensor]:
            left = iter(rest)
            return function(row, *({name: next(left) for name in other} for other in others))

        with torch.no_grad():
            chunks = list(zip(*(each.split(chunk) for each in rows), strict=True))
            try:
                parts = [torch.vmap(call, randomness="different")(*part) for part in chunks]
                joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            except RuntimeError:  # the model reads values, draws, or writes in place
                found = [call(*row) for row in zip(*rows, strict=True)]
                joined = {name: torch.stack([each[name] for each in found]) for name in found[0]}
        return {name: value.reshape(z.shape[:-1] + value.shape[1:]) for name, value in joined.items()}

    def unconstrain(self, values: Mapping[str, Any]) -> Tensor:
        """Map constrained values by site to a vector ``[size]``.

        :raises ValueError: for missing or unknown sites.
        """
        self.layout._check_names(values)
        handler = UnconstrainMessenger(values, dict(self.layout.blocks))
        with torch.no_grad(), double_precision(self._promote):
            args, kwargs = self._arguments(None)
            with SubstituteMinibatches(self._fixed), handler:
                self.model(*args, **kwargs)
        return self.layout.join(handler.unconstrained)

    def _lay_out(self, latents: list[Site], transforms: dict[str, Any]) -> Layout:
        values = {site.name: site.value.detach() for site in latents}

        def run(handler: Messenger) -> None:
            args, kwargs = self._arguments(None)
            with torch.enable_grad(), double_precision(self._promote):
                with SubstituteMinibatches(self._fixed), handler:
                    self.model(*args, **kwargs)

        try:
            found, dynamic = find_supports(run, values, transforms)
        except torch.linalg.LinAlgError:
            raise
        except RuntimeError as error:
            # Perhaps the model multiplies its own float32 tensors with float64 values.
            self._promote = True
            try:
                found, dynamic = find_supports(run, values, transforms)
            except Exception:
                raise error from None
        blocks = []
        start = 0
        for site in latents:
            block = Block(
                name=site.name,
                start=start,
                shape=found[site.name].unconstrained.shape,
                constrained_shape=site.shape,
                transform=found[site.name].transform,
                dynamic=site.name in dynamic,
                dtype=site.value.dtype,
                dims=tuple(site.dims),
            )
            blocks.append(block)
            start = block.stop
        return Layout(blocks)
