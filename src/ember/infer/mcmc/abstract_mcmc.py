"""Run a kernel on a model in some chains: what MCMC and StreamingMCMC share."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ember import settings
from ember.errors import message
from ember.infer.mcmc.density_kernel import DensityKernel
from ember.infer.mcmc.mcmc_kernel import KernelSampler, MCMCKernel, Unconstrained, layout_of
from ember.infer.mcmc.run import AfterDraw, Ending, run
from ember.infer.mcmc.sampler import Draws, Sampler
from ember.infer.mcmc.store import Store
from ember.infer.seed import draw_seed

Hook = Callable[[Any, dict[str, Tensor], str, int], None]


class AbstractMCMC(ABC):
    """Base of what runs chains; subclasses say where draws go, and what becomes of them.

    The parameters are those of :class:`~ember.infer.MCMC`.
    """

    def __init__(
        self,
        kernel: MCMCKernel,
        num_samples: int,
        warmup_steps: int | None = None,
        initial_params: Mapping[str, Tensor] | None = None,
        num_chains: int = 1,
        hook_fn: Hook | None = None,
        mp_context: str | None = None,
        disable_progbar: bool = False,
        disable_validation: bool = True,
        transforms: Mapping[str, Any] | None = None,
        save_params: Sequence[str] | None = None,
        *,
        max_seconds: float | None = None,
        execution: str | None = None,
    ) -> None:
        warmup_steps = num_samples if warmup_steps is None else warmup_steps
        for name, value, least in (
            ("num_samples", num_samples, 1),
            ("num_chains", num_chains, 1),
            ("warmup_steps", warmup_steps, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    message(
                        f"invalid {name}", expected=f"an int, at least {least}", actual=f"{name}={value!r}"
                    )
                )
        if not isinstance(kernel, MCMCKernel):
            raise TypeError(
                message(
                    f"{type(self).__name__} needs a kernel",
                    expected="an MCMCKernel such as NUTS(model)",
                    actual=repr(kernel),
                    fix=f"{type(self).__name__}(NUTS(model), ...)" if callable(kernel) else None,
                )
            )
        self.kernel = kernel
        self.num_samples = num_samples
        self.warmup_steps = warmup_steps
        self.num_chains = num_chains
        self.initial_params = None if initial_params is None else dict(initial_params)
        self.hook_fn = hook_fn
        self.disable_progbar = disable_progbar
        self.disable_validation = disable_validation
        self.transforms = transforms
        self.save_params = None if save_params is None else list(save_params)
        self.density: Any = None
        self.max_seconds = max_seconds
        self.execution = {} if execution is None else {"execution": execution}
        settings.check(**self.execution)
        self.ending: Ending = "complete"
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._seed = 0
        self._kernels: list[MCMCKernel] = []
        self.timing: dict[str, float] = {}
        """Seconds of the last run (preparation, its capture and compile; sampling), and leapfrogs."""

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Sample, given the arguments of the model.

        A KeyboardInterrupt ends the run; the draws made so far are kept and a warning says so. Before the
        first draw after warmup there is nothing to keep, and the interrupt is raised again.

        :raises InitialisationError: if no starting point has a finite density and gradient.
        :raises ValueError: for discrete latent sites without finite support, and as validation does.
        """
        self._check_initial_params()
        self._arguments = (args, kwargs)
        self._seed = seed = draw_seed()
        started = time.perf_counter()
        with settings.context(**self.execution):
            sampler, after_draw = self._set_up(args, kwargs, seed)
        prepared = time.perf_counter()
        stores = self._make_stores()
        chains, self.ending = run(
            sampler,
            stores,
            self.warmup_steps,
            self.num_samples,
            self.disable_progbar,
            after_draw,
            self.max_seconds,
        )
        self.timing = {
            "preparation": prepared - started,
            **getattr(sampler, "seconds", {}),
            "sampling": time.perf_counter() - prepared,
            "leapfrogs": sum(chain.leapfrogs for chain in chains),
        }
        self._check_ending(min(len(store) for store in stores))
        self._collect(stores)
        if isinstance(self.kernel, DensityKernel) and chains:
            self.kernel.observe(chains[0].state)

    @abstractmethod
    def _make_stores(self) -> Sequence[Store]:
        """Return where the draws of each chain go."""

    @abstractmethod
    def _collect(self, stores: Sequence[Any]) -> None:
        """Make something of the draws, once the run is over."""

    def _set_up(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int
    ) -> tuple[Sampler, AfterDraw | None]:
        kernel = self.kernel
        sampler: Sampler
        if isinstance(kernel, DensityKernel):
            if self.transforms is not None and kernel.given_transforms is None:
                kernel.given_transforms = dict(self.transforms)
            self.density, starts = kernel.prepare(
                args, kwargs, self.initial_params, self.num_chains, seed, not self.disable_validation
            )
            sampler = kernel.sampler(self.density, starts, self.warmup_steps, seed)
            self._kernels = []
        else:
            if self.initial_params is not None:
                kernel.initial_params = self.initial_params
            kernel.setup(self.warmup_steps, *args, **kwargs)
            params = kernel.initial_params
            single = params if self.num_chains == 1 or self.initial_params is None else None
            layout = layout_of(params if single is not None else {n: v[0] for n, v in params.items()})
            starts = layout.join(params).reshape(-1, layout.size).expand(self.num_chains, -1)
            own = KernelSampler(kernel, layout, starts)
            self.density = Unconstrained(layout, kernel, self.transforms)
            self._kernels = own.kernels
            sampler = own
        self._check_save_params()
        return sampler, self._after_draw if self.hook_fn is not None else None

    def _after_draw(self, chain: int, state: Any, draws: Draws, stage: str, number: int) -> None:
        kernel = self.kernel
        if isinstance(kernel, DensityKernel):
            kernel.observe(state)
        else:
            kernel = self._kernels[chain]
        if self.num_chains > 1:
            stage = f"{stage} [{chain}]"
        assert self.hook_fn is not None
        self.hook_fn(kernel, self.density.layout.split(draws[0][-1]), stage, number)

    def _check_initial_params(self) -> None:
        if self.initial_params is None or self.num_chains == 1:
            return
        for name, value in self.initial_params.items():
            size = value.shape[0] if value.ndim else None
            if size != self.num_chains:
                raise ValueError(
                    message(
                        f"initial_params['{name}'] does not have a starting value for each chain",
                        site=name,
                        expected=f"a leading dimension of size {self.num_chains}, the number of chains",
                        actual=f"shape {tuple(value.shape)}",
                    )
                )

    def _check_ending(self, draws: int) -> None:
        if self.ending != "interrupted":
            return
        if draws == 0:
            raise KeyboardInterrupt(
                "interrupted before the first draw after warmup: there is nothing to keep"
            )
        warnings.warn(
            f"sampling was interrupted: {draws} of {self.num_samples} draws of each chain are kept",
            RuntimeWarning,
        )

    def _check_save_params(self) -> None:
        known = list(self.density.layout.blocks)
        unknown = [name for name in self.save_params or () if name not in known]
        if unknown:
            raise ValueError(
                message(
                    f"save_params names '{unknown[0]}', which is not a latent site",
                    expected=f"some of: {', '.join(known)}",
                    actual=self.save_params,
                )
            )
