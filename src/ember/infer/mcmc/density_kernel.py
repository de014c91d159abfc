"""Run a kernel of the engine on a model or a potential function: what HMC and other such kernels share."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.engine import random
from ember.errors import message
from ember.infer.mcmc.execution import make_sampler
from ember.infer.mcmc.mcmc_kernel import MCMCKernel
from ember.infer.mcmc.native import NativeSampler
from ember.infer.mcmc.potential import PotentialDensity
from ember.infer.mcmc.preparation import first_positions, from_potential, require, unconstraining
from ember.infer.mcmc.sampler import HamiltonianSampler, Plan
from ember.infer.mcmc.starting import StartingDensity
from ember.infer.seed import draw_seed
from ember.kernels import hmc as hmc_kernel
from ember.kernels.chain import ChainState, Transition
from ember.kernels.warmup import Adaptation
from ember.model.density import Density
from ember.model.initialisation import InitStrategy


class DensityKernel(MCMCKernel):
    """Base of kernels that move on a log density, as machine code where that is possible.

    :param model: callable with sample statements; discrete latent ones of finite support are summed out.
    :param potential_fn: unconstrained values by site → negative log density.
    :param step_size: first step size.
    :param transforms: maps from constrained to unconstrained values by site.
    :param init_strategy: starting values, site record → value.
    :param sum_discrete: sum discrete latent sites of finite support out; False refuses them.
    :raises ValueError: unless exactly one of ``model`` and ``potential_fn`` is given.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None,
        potential_fn: Callable[..., Tensor] | None,
        step_size: float,
        transforms: Mapping[str, Any] | None = None,
        init_strategy: InitStrategy | None = None,
        sum_discrete: bool = True,
    ) -> None:
        if (model is None) == (potential_fn is None):
            raise ValueError(
                message(
                    f"{type(self).__name__} needs either a model or a potential_fn",
                    expected="exactly one of model and potential_fn",
                    actual="both" if model is not None else "neither",
                )
            )
        require(step_size > 0, "step_size", "a positive number", step_size)
        self.model = model
        self.potential_fn = potential_fn
        self.given_transforms = None if transforms is None else dict(transforms)
        self.init_strategy = init_strategy
        self.sum_discrete = sum_discrete
        self.density: Density | PotentialDensity | None = None
        self._starting: StartingDensity | None = None
        self._first_step_size = float(step_size)
        self._chain: ChainState | None = None
        self._initial_params: dict[str, Tensor] | None = None
        self._sampler: HamiltonianSampler | NativeSampler | None = None
        self._statistics: dict[str, Tensor] = {}
        self._warmup_left = 0
        self._num_warmup = 0
        self._acceptance: list[float] = []
        self._divergences: list[int] = []

    # -- what MCMC asks for --------------------------------------------------------------------------------

    def prepare(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        initial_params: Mapping[str, Tensor] | None,
        num_chains: int,
        seed: int,
        validate: bool = False,
    ) -> tuple[Density | PotentialDensity, Tensor]:
        """Return the density and first positions ``[num_chains, D]``.

        :raises InitialisationError: if no starting point is found.
        """
        if self.potential_fn is not None:
            prepared = from_potential(self.potential_fn, self.given_transforms, initial_params, num_chains)
            self.density, self._starting = prepared[0], StartingDensity(prepared[0])
            return prepared
        assert self.model is not None
        density = Density(
            self.model,
            args,
            kwargs,
            transforms=self.given_transforms,
            init_strategy=self.init_strategy,
            seed=seed,
            validate=validate,
            sum_discrete=self.sum_discrete,
        )
        self.density, self._starting = density, StartingDensity(density)
        given = (initial_params, self.init_strategy, num_chains, seed)
        return density, first_positions(density, self._starting, *given)

    def sampler(
        self, density: Density | PotentialDensity, starts: Tensor, num_warmup: int, seed: int
    ) -> HamiltonianSampler | NativeSampler:
        """Return what advances chains of this kernel, as ``settings.execution`` says."""
        plan = Plan(
            density,
            self.transition(),
            self.adaptation(density),
            num_warmup,
            random.key(seed),
            starts,
            self._first_step_size,
            self._starting,
        )
        return make_sampler(plan, type(self).__name__)

    def transition(self) -> Transition:
        """Return the pure kernel with this object's options."""
        raise TypeError(f"{type(self).__name__} does not say what its transition is")

    def adaptation(self, density: Density | PotentialDensity) -> Adaptation:
        """Return what warmup adapts."""
        raise TypeError(f"{type(self).__name__} does not say what its warmup adapts")

    def observe(self, chain: ChainState) -> None:
        """Show a chain's state through this object's attributes, for hooks."""
        self._chain = chain

    # -- what users read -----------------------------------------------------------------------------------

    @property
    def step_size(self) -> float:
        """The present step size."""
        return self._first_step_size if self._chain is None else float(self._chain.step_size)

    @property
    def transforms(self) -> dict[str, Any] | None:
        """Maps from constrained to unconstrained values by site: those given, and all once it is set up."""
        return self.given_transforms if self.density is None else unconstraining(self.density)

    # -- the stateful form: setup and sample ---------------------------------------------------------------

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Prepare one chain for use through :meth:`sample`."""
        seed = draw_seed()
        density, starts = self.prepare(args, kwargs, self._initial_params, 1, seed)
        self._sampler = self.sampler(density, starts, warmup_steps, seed)
        self._chain = self._sampler.start(0)
        self._initial_params = density.layout.split(starts[0])
        self._num_warmup = self._warmup_left = warmup_steps
        self._acceptance, self._divergences = [], []

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """Unconstrained values to start from, by site."""
        return self._initial_params or {}

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        self._initial_params = dict(params)

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make one transition from unconstrained ``params``; needs :meth:`setup` first."""
        if self._sampler is None or self._chain is None or self.density is None:
            raise ValueError(f"{type(self).__name__}.sample needs setup(warmup_steps, *args, **kwargs) first")
        layout = self.density.layout
        position = layout.join(params)
        if not torch.equal(position, self._chain.state.position):
            self._chain = self._chain._replace(state=hmc_kernel.init(self.density, position))
        if self._warmup_left:
            done = self._num_warmup - self._warmup_left
            self._chain, (positions, self._statistics) = self._sampler.warmup(self._chain, 0, done, done + 1)
            self._warmup_left -= 1
        else:
            self._chain, (positions, self._statistics) = self._sampler.sample(self._chain, 0, 1)
            if bool(self._statistics.get("diverging", False)):
                self._divergences.append(len(self._acceptance))
            self._acceptance.append(float(self._statistics["acceptance"]))
        return layout.split(positions[0])

    def end_warmup(self) -> None:
        """Stop adapting."""
        self._warmup_left = 0

    def cleanup(self) -> None:
        """Let go of the density."""
        self._sampler = None
        self.density = self._starting = None

    def logging(self) -> OrderedDict[str, str]:
        """Return step size and acceptance for a progress bar."""
        acceptance = self._statistics.get("acceptance")
        shown = OrderedDict([("step size", f"{self.step_size:.2e}")])
        if acceptance is not None:
            shown["acc. prob"] = f"{float(acceptance):.3f}"
        return shown

    def diagnostics(self) -> dict[str, Any]:
        """Return the mean acceptance since warmup."""
        acceptance = self._acceptance
        return {"acceptance rate": sum(acceptance) / len(acceptance) if acceptance else math.nan}
