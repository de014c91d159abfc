"""Offer MCMC: run a kernel on a model, and read the draws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember.infer.mcmc import export
from ember.infer.mcmc.abstract_mcmc import AbstractMCMC
from ember.infer.mcmc.store import MemoryStore
from ember.infer.mcmc.summary import diagnostics, format_summary, select_samples, summary
from ember.model.density import Density


class MCMC(AbstractMCMC):
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

    _positions: Tensor | None = None  # [chains, draws, D]
    _statistics: dict[str, Tensor]  # [chains, draws]
    _samples: dict[str, Tensor]  # [chains, draws, ...]
    _drawn: dict[str, Tensor] | None = None  # of discrete sites, once somebody asks

    def _make_stores(self) -> list[MemoryStore]:
        return [MemoryStore(self.num_samples) for _ in range(self.num_chains)]

    def _collect(self, stores: Any) -> None:
        draws = min(len(store) for store in stores)
        views = [store.view() for store in stores]
        self._positions = torch.stack([positions[:draws] for positions, _ in views])
        self._statistics = {
            name: torch.stack([statistics[name][:draws] for _, statistics in views]) for name in views[0][1]
        }
        samples = self.density.constrain(self._positions)
        if self.save_params is not None:
            samples = {name: value for name, value in samples.items() if name in self.save_params}
        self._samples, self._drawn = samples, None

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
        if "acceptance" in self._statistics:
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
