"""Offer MCMC: run a kernel on a model, and read the draws."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember import settings
from ember.errors import message
from ember.infer.mcmc import export
from ember.infer.mcmc.hmc import HMC
from ember.infer.mcmc.mcmc_kernel import KernelSampler, MCMCKernel, Unconstrained, layout_of
from ember.infer.mcmc.run import AfterDraw, Chain, Ending, run
from ember.infer.mcmc.sampler import Draws, Sampler
from ember.infer.mcmc.store import MemoryStore
from ember.infer.mcmc.summary import diagnostics, format_summary, select_samples, summary
from ember.infer.seed import draw_seed
from ember.model.density import Density

Hook = Callable[[Any, dict[str, Tensor], str, int], None]


class MCMC:
    """Draw from a posterior by a Markov chain kernel.

    ``ember.set_rng_seed`` determines all draws; those of a chain do not depend on the other chains.

    :param kernel: :class:`NUTS`, :class:`HMC`, or any :class:`MCMCKernel`.
    :param num_samples: number of draws to keep of each chain, at least 1.
    :param warmup_steps: number of draws to adapt with and to discard; by default ``num_samples``.
    :param initial_params: unconstrained starting values by site, with a leading dimension of size
        ``num_chains`` if there are several chains.
    :param num_chains: number of chains.
    :param hook_fn: called as ``hook_fn(kernel, unconstrained values, stage, number)`` after each draw; the
        stage is ``"Warmup"`` or ``"Sample"``, with the chain's number in brackets if there are several.
    :param mp_context: accepted for programs that give it; without effect, chains run in this process.
    :param disable_progbar: show no progress bar.
    :param disable_validation: switch validation off while sampling; the model is validated once before.
    :param transforms: maps from constrained to unconstrained values by site, for a kernel with a
        ``potential_fn``.
    :param save_params: names of the sites whose draws are offered; by default all.
    :param max_seconds: end the run after that time, but not before warmup and a first draw; then there are
        fewer draws than ``num_samples``.
    :param execution: ``"auto"``, ``"native"``, ``"inductor"`` (gradients by torch.compile) or ``"eager"``, in
        place of the setting of that name.
    :raises ValueError: for numbers of draws or chains out of range.
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
                    "MCMC needs a kernel",
                    expected="an MCMCKernel such as NUTS(model)",
                    actual=repr(kernel),
                    fix="MCMC(NUTS(model), ...)" if callable(kernel) else None,
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
        self._positions: Tensor | None = None  # [chains, draws, D]
        self._statistics: dict[str, Tensor] = {}  # [chains, draws]
        self._samples: dict[str, Tensor] = {}  # [chains, draws, ...]
        self._drawn: dict[str, Tensor] | None = None  # of discrete sites, once somebody asks
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
        stores = [MemoryStore(self.num_samples) for _ in range(self.num_chains)]
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
        self._collect(chains, stores)

    def _set_up(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int
    ) -> tuple[Sampler, AfterDraw | None]:
        kernel = self.kernel
        sampler: Sampler
        if isinstance(kernel, HMC):
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
        return sampler, self._after_draw if self.hook_fn is not None else None

    def _after_draw(self, chain: int, state: Any, draws: Draws, stage: str, number: int) -> None:
        kernel = self.kernel
        if isinstance(kernel, HMC):
            kernel.observe(state)
        else:
            kernel = self._kernels[chain]
        if self.num_chains > 1:
            stage = f"{stage} [{chain}]"
        assert self.hook_fn is not None
        self.hook_fn(kernel, self.density.layout.split(draws[0][-1]), stage, number)

    def _collect(self, chains: list[Chain], stores: list[MemoryStore]) -> None:
        draws = min(len(store) for store in stores)
        if self.ending == "interrupted":
            if draws == 0:
                raise KeyboardInterrupt(
                    "interrupted before the first draw after warmup: there is nothing to keep"
                )
            warnings.warn(
                f"sampling was interrupted: {draws} of {self.num_samples} draws of each chain are kept",
                RuntimeWarning,
            )
        views = [store.view() for store in stores]
        self._positions = torch.stack([positions[:draws] for positions, _ in views])
        self._statistics = {
            name: torch.stack([statistics[name][:draws] for _, statistics in views]) for name in views[0][1]
        }
        if isinstance(self.kernel, HMC) and chains:
            self.kernel.observe(chains[0].state)
        samples = self.density.constrain(self._positions)
        if self.save_params is not None:
            samples = {name: value for name, value in samples.items() if name in self.save_params}
        self._samples, self._drawn = samples, None

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

    # -- results -------------------------------------------------------------------------------------------

    def get_samples(
        self, num_samples: int | None = None, group_by_chain: bool = False, *, discrete: bool = False
    ) -> dict[str, Tensor]:
        """Return constrained draws by site, ``[chains * draws, ...]``, or ``[chains, draws, ...]``.

        :param num_samples: draw that many at random, with replacement.
        :param discrete: also give the sites that were summed out, each draw from their joint posterior given
            the draw of the others.
        """
        self._need_draws()
        samples = {**self._samples, **self._discrete()} if discrete else self._samples
        return select_samples(samples, num_samples, group_by_chain)

    def _discrete(self) -> dict[str, Tensor]:
        """Draw the sites that were summed out, the same at every call."""
        if self._drawn is None:
            self._drawn = {}
            assert self._positions is not None
            if isinstance(self.density, Density) and self.density.enumeration is not None:
                with torch.random.fork_rng():
                    torch.manual_seed(self._seed)
                    self._drawn = self.density.discrete(self._positions)
        return self._drawn

    @property
    def sample_stats(self) -> dict[str, Tensor]:
        """Statistics of each draw after warmup by name, ``[chains, draws]``: energy, acceptance, …"""
        self._need_draws()
        return dict(self._statistics)

    def summary(self, prob: float = 0.9) -> None:
        """Print mean, std, median, the ends of the ``prob`` interval, n_eff and r_hat of each site."""
        self._need_draws()
        print(format_summary(summary(self._samples, prob)))
        if "diverging" in self._statistics:
            print(f"Number of divergences: {int(self._statistics['diverging'].sum())}")
        if isinstance(self.density, Density) and self.density.enumeration is not None:
            text = self.density.sums.text
            print(text[0].upper() + text[1:])

    def diagnostics(self) -> dict[str, Any]:
        """Return n_eff and r_hat by site, and by chain the divergent draws and the acceptance rate."""
        self._need_draws()
        result: dict[str, Any] = dict(diagnostics(self._samples))
        for index, kernel in enumerate(self._kernels):
            for name, value in kernel.diagnostics().items():
                result.setdefault(name, {})[f"chain {index}"] = value
        if "diverging" in self._statistics:
            diverging = self._statistics["diverging"]
            result["divergences"] = {
                f"chain {chain}": row.nonzero().flatten().tolist() for chain, row in enumerate(diverging)
            }
            acceptance = self._statistics["acceptance"].mean(1)
            result["acceptance rate"] = {
                f"chain {chain}": value for chain, value in enumerate(acceptance.tolist())
            }
        return result

    def to_arviz(self) -> Any:
        """Return an ``arviz.InferenceData`` with posterior, statistics and data.

        The posterior has deterministic sites too, and the discrete ones that were summed out.
        """
        self._need_draws()
        assert self._positions is not None
        return export.to_arviz(
            self.density, self._positions, self._samples, self._statistics, self._discrete()
        )

    def _need_draws(self) -> None:
        if self._positions is None:
            raise ValueError("there are no draws yet: call run(...) first")
