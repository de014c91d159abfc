"""Offer Hamiltonian Monte Carlo in Pyro's calling form."""

from __future__ import annotations

import functools
import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.engine import random
from ember.errors import message
from ember.infer.mcmc.execution import make_sampler
from ember.infer.mcmc.mcmc_kernel import MCMCKernel
from ember.infer.mcmc.native import NativeSampler
from ember.infer.mcmc.potential import PotentialDensity
from ember.infer.mcmc.preparation import coordinates, first_positions, from_potential, require, unconstraining
from ember.infer.mcmc.sampler import HamiltonianSampler, Plan
from ember.infer.mcmc.starting import StartingDensity
from ember.infer.seed import draw_seed
from ember.kernels import hmc as hmc_kernel
from ember.kernels.chain import ChainState, Transition
from ember.kernels.metric import Diagonal, LowRank
from ember.kernels.warmup import Adaptation, MetricName, SchemeName
from ember.model.density import Density
from ember.model.initialisation import InitStrategy


class HMC(MCMCKernel):
    """Hamiltonian Monte Carlo with trajectories of fixed length.

    Give a model, or a potential function (then with ``initial_params`` to :class:`MCMC`).

    :param model: callable with sample statements; discrete latent ones of finite support are summed out.
    :param potential_fn: unconstrained values by site → negative log density.
    :param step_size: first step size.
    :param trajectory_length: time to integrate for; by default ``step_size * num_steps``, and 2π without
        ``num_steps``.
    :param num_steps: number of leapfrog steps at the first step size.
    :param adapt_step_size: adapt the step size in warmup, by dual averaging.
    :param adapt_mass_matrix: adapt the inverse mass matrix in warmup.
    :param full_mass: whether it is dense; or a list of tuples of site names, each with a dense block of its
        own.
    :param transforms: maps from constrained to unconstrained values by site, in place of those of the
        supports.
    :param max_plate_nesting: accepted for programs that give it; found by a run.
    :param jit_compile: without effect, warns. So are ``jit_options`` and ``ignore_jit_warnings``.
    :param target_accept_prob: acceptance that step size adaptation aims at.
    :param init_strategy: starting values, site record → value; by default uniform on (−2, 2) in unconstrained
        space.
    :param min_stepsize: the step size never falls below.
    :param max_stepsize: accepted for programs that give it; without effect.
    :param metric: form of the inverse mass matrix: ``"diagonal"``, ``"dense"`` or ``"low_rank"`` (a few
        directions beside a diagonal); by default as ``full_mass`` says.
    :param scheme: how warmup estimates it: ``"fisher"`` from draws and gradients in overlapping windows,
        from the first draws on, or ``"stan"`` from draws in windows that double.
    :param sum_discrete: sum discrete latent sites of finite support out; False refuses them.
    :raises ValueError: for options out of range.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        potential_fn: Callable[..., Tensor] | None = None,
        step_size: float = 1,
        trajectory_length: float | None = None,
        num_steps: int | None = None,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: bool | Sequence[Sequence[str]] = False,
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        jit_compile: bool = False,
        jit_options: Mapping[str, Any] | None = None,
        ignore_jit_warnings: bool = False,
        target_accept_prob: float = 0.8,
        init_strategy: InitStrategy | None = None,
        *,
        min_stepsize: float = 1e-10,
        max_stepsize: float = 1e10,
        metric: MetricName | None = None,
        scheme: SchemeName = "fisher",
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
        require(0 < target_accept_prob < 1, "target_accept_prob", "a number in (0, 1)", target_accept_prob)
        require(num_steps is None or num_steps >= 1, "num_steps", "at least 1", num_steps)
        if trajectory_length is None:
            trajectory_length = 2 * math.pi if num_steps is None else step_size * num_steps
        require(trajectory_length > 0, "trajectory_length", "a positive number", trajectory_length)
        if jit_compile:
            warnings.warn(
                "jit_compile has no effect: ember chooses how to execute a model (see settings.execution)"
            )
        self.model = model
        self.potential_fn = potential_fn
        self.given_transforms = None if transforms is None else dict(transforms)
        self.trajectory_length = trajectory_length
        self.init_strategy = init_strategy
        self.sum_discrete = sum_discrete
        self.density: Density | PotentialDensity | None = None
        self._starting: StartingDensity | None = None
        self._first_step_size = float(step_size)
        self._adapt = (adapt_step_size, adapt_mass_matrix)
        self._full_mass = full_mass
        require(
            metric is None or not full_mass or metric == "dense", "metric", "none beside full_mass", metric
        )
        self._metric: MetricName = metric or ("dense" if full_mass else "diagonal")
        self._scheme = scheme
        # Says at once what does not fit together.
        Adaptation(metric=self._metric, scheme=scheme, adapt_metric=adapt_mass_matrix)
        self._target = target_accept_prob
        self._min_step_size = min_stepsize
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
            self._adaptation(density),
            num_warmup,
            random.key(seed),
            starts,
            self._first_step_size,
            self._starting,
        )
        return make_sampler(plan, type(self).__name__)

    def transition(self) -> Transition:
        """Return the pure kernel with this object's options."""
        return functools.partial(hmc_kernel.step, trajectory_length=float(self.trajectory_length))

    def _adaptation(self, density: Density | PotentialDensity) -> Adaptation:
        adapt_step_size, adapt_metric = self._adapt
        groups = self._full_mass
        blocks = None if isinstance(groups, bool) else tuple(coordinates(density, each) for each in groups)
        return Adaptation(
            metric=self._metric,
            scheme=self._scheme,
            target_acceptance=self._target,
            adapt_step_size=adapt_step_size,
            adapt_metric=adapt_metric,
            blocks=blocks,
            min_step_size=self._min_step_size,
        )

    def observe(self, chain: ChainState) -> None:
        """Show a chain's state through this object's attributes, for hooks."""
        self._chain = chain

    # -- what users read -----------------------------------------------------------------------------------

    @property
    def step_size(self) -> float:
        """The present step size."""
        return self._first_step_size if self._chain is None else float(self._chain.step_size)

    @property
    def num_steps(self) -> int:
        """Number of leapfrog steps of a trajectory at the present step size."""
        return max(1, int(self.trajectory_length / self.step_size + 1e-9))

    @property
    def inverse_mass_matrix(self) -> dict[tuple[str, ...], Tensor]:
        """The present inverse mass matrix, by the names of the sites: a vector if diagonal, else a matrix."""
        if self._chain is None or self.density is None:
            return {}
        metric: Any = self._chain.metric
        if isinstance(metric, LowRank):
            value = metric.matrix()
        else:
            value = metric.variance if isinstance(metric, Diagonal) else metric.covariance
        return {tuple(self.density.layout.blocks): value}

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
            if bool(self._statistics["diverging"]):
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
        """Return the indices of divergent draws and the mean acceptance since warmup."""
        acceptance = self._acceptance
        return {
            "divergences": list(self._divergences),
            "acceptance rate": sum(acceptance) / len(acceptance) if acceptance else math.nan,
        }
