"""Offer Hamiltonian Monte Carlo in Pyro's calling form."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.errors import message
from ember.infer.mcmc.density_kernel import DensityKernel
from ember.infer.mcmc.mass_matrix import ArrowheadMassMatrix, BlockMassMatrix
from ember.infer.mcmc.potential import PotentialDensity
from ember.infer.mcmc.preparation import coordinates, require
from ember.kernels import hmc as hmc_kernel
from ember.kernels.chain import Transition
from ember.kernels.metric import Diagonal, LowRank
from ember.kernels.warmup import Adaptation, MetricName, SchemeName
from ember.model.density import Density
from ember.model.initialisation import InitStrategy


class HMC(DensityKernel):
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
    :param scheme: how warmup estimates it: ``"mixed"``, ``"fisher"`` or ``"stan"``, see
        :class:`~ember.kernels.warmup.Adaptation`.
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
        scheme: SchemeName = "mixed",
        sum_discrete: bool = True,
    ) -> None:
        super().__init__(model, potential_fn, step_size, transforms, init_strategy, sum_discrete)
        require(0 < target_accept_prob < 1, "target_accept_prob", "a number in (0, 1)", target_accept_prob)
        require(num_steps is None or num_steps >= 1, "num_steps", "at least 1", num_steps)
        if trajectory_length is None:
            trajectory_length = 2 * math.pi if num_steps is None else step_size * num_steps
        require(trajectory_length > 0, "trajectory_length", "a positive number", trajectory_length)
        if jit_compile:
            warnings.warn(
                "jit_compile has no effect: ember chooses how to execute a model (see settings.execution)"
            )
        self.trajectory_length = trajectory_length
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
        self._adapter: BlockMassMatrix | ArrowheadMassMatrix = BlockMassMatrix()

    def transition(self) -> Transition:
        """Return the pure kernel with this object's options."""
        return functools.partial(hmc_kernel.step, trajectory_length=float(self.trajectory_length))

    def adaptation(self, density: Density | PotentialDensity) -> Adaptation:
        """Return what warmup adapts."""
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

    @property
    def num_steps(self) -> int:
        """Number of leapfrog steps of a trajectory at the present step size."""
        return max(1, int(self.trajectory_length / self.step_size + 1e-9))

    @property
    def inverse_mass_matrix(self) -> dict[tuple[str, ...], Tensor]:
        """The present inverse mass matrix, by the names of sites: a vector if diagonal, else a matrix.

        With a list as ``full_mass``, the groups of sites in it come first, and then all others.
        """
        if self._chain is None or self.density is None:
            return {}
        metric: Any = self._chain.metric
        if isinstance(metric, LowRank):
            value = metric.matrix()
        else:
            value = metric.variance if isinstance(metric, Diagonal) else metric.covariance
        names = tuple(self.density.layout.blocks)
        groups = [] if isinstance(self._full_mass, bool) else [tuple(each) for each in self._full_mass]
        if not groups:
            return {names: value}
        rest = tuple(name for name in names if not any(name in group for group in groups))
        result = {}
        for group in (*groups, *([rest] if rest else [])):
            places = torch.tensor(coordinates(self.density, group))
            result[group] = value.diagonal()[places] if group == rest else value[places][:, places]
        return result

    @property
    def mass_matrix_adapter(self) -> BlockMassMatrix | ArrowheadMassMatrix:
        """The form of the mass matrix, in Pyro's terms, with its present value.

        Set it to an :class:`~ember.infer.mcmc.ArrowheadMassMatrix` before a run for a form whose cost is
        linear in the number of coordinates; ember then takes its low-rank one.
        """
        if isinstance(self._adapter, BlockMassMatrix):
            self._adapter.inverse_mass_matrix = self.inverse_mass_matrix
        return self._adapter

    @mass_matrix_adapter.setter
    def mass_matrix_adapter(self, adapter: BlockMassMatrix | ArrowheadMassMatrix) -> None:
        if type(adapter) not in (BlockMassMatrix, ArrowheadMassMatrix):
            raise TypeError(
                message(
                    f"{type(self).__name__} cannot adapt by a {type(adapter).__name__}",
                    expected="a BlockMassMatrix or an ArrowheadMassMatrix",
                    actual=repr(adapter),
                    fix="choose the form by full_mass or metric, or write a kernel of your own",
                )
            )
        self._adapter = adapter
        if isinstance(adapter, ArrowheadMassMatrix):
            self._full_mass, self._metric, self._scheme = False, "low_rank", "fisher"

    def diagnostics(self) -> dict[str, Any]:
        """Return the indices of divergent draws and the mean acceptance since warmup."""
        return {"divergences": list(self._divergences), **super().diagnostics()}
