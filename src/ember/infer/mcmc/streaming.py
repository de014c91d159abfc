"""Offer MCMC that keeps statistics of the draws instead of the draws."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.infer.mcmc.abstract_mcmc import AbstractMCMC, Hook
from ember.infer.mcmc.mcmc_kernel import MCMCKernel
from ember.ops.streaming import CountMeanVarianceStats, StatsOfDict, StreamingStats


class StreamingMCMC(AbstractMCMC):
    """Draw from a posterior and update statistics at each draw, in memory that does not grow with them.

    The chains' draws are those of :class:`~ember.infer.MCMC`.

    :param statistics: what is kept of dicts from (chain, site name) to a draw: count, mean and variance of
        each element by default. See :mod:`ember.ops.streaming`; a run begins with a copy.

    The other parameters are those of :class:`~ember.infer.MCMC`.
    """

    def __init__(
        self,
        kernel: MCMCKernel,
        num_samples: int,
        warmup_steps: int | None = None,
        initial_params: Mapping[str, Tensor] | None = None,
        statistics: StreamingStats | None = None,
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
        super().__init__(
            kernel,
            num_samples,
            warmup_steps,
            initial_params,
            num_chains,
            hook_fn,
            mp_context,
            disable_progbar,
            disable_validation,
            transforms,
            save_params,
            max_seconds=max_seconds,
            execution=execution,
        )
        self._empty = StatsOfDict(default=CountMeanVarianceStats) if statistics is None else statistics
        self._parts: list[StatisticsStore] = []

    def _make_stores(self) -> list[StatisticsStore]:
        return [
            StatisticsStore(copy.deepcopy(self._empty), chain, self._constrain)
            for chain in range(self.num_chains)
        ]

    def _constrain(self, positions: Tensor) -> dict[str, Tensor]:
        values = self.density.constrain(positions)
        return {
            name: each
            for name, each in values.items()
            if self.save_params is None or name in self.save_params
        }

    def _collect(self, stores: Sequence[Any]) -> None:
        self._parts = list(stores)

    def get_statistics(self, group_by_chain: bool = True) -> dict[Any, Any]:
        """Return the statistics by (chain, site name), or merged over chains by site name."""
        merged = self._merged()
        if group_by_chain:
            found: dict[Any, Any] = merged.get()
            return found
        if not isinstance(merged, StatsOfDict):
            raise ValueError("statistics are merged over chains only if they are a StatsOfDict")
        return merged.merged_by(lambda key: key[1]).get()

    def _merged(self) -> Any:
        if not self._parts:
            raise ValueError("there are no draws yet: call run(...) first")
        merged: Any = self._parts[0].statistics
        for part in self._parts[1:]:
            merged = merged.merge(part.statistics)
        return merged

    def diagnostics(self) -> dict[str, Any]:
        """Return r_hat by site, where mean and variance are kept, and by chain divergences and acceptance."""
        found = self.get_statistics()
        result: dict[str, Any] = {}
        for name in dict.fromkeys(name for _, name in found):
            chains = [found[chain, name] for chain in range(self.num_chains)]
            if all("variance" in each for each in chains):
                result[name] = {"r_hat": _r_hat(chains)}
        for what in ("divergences", "acceptance rate"):
            values = [store.figures(what) for store in self._parts]
            if None not in values:
                result[what] = {f"chain {chain}": value for chain, value in enumerate(values)}
        return result


class StatisticsStore:
    """Update statistics by the draws of one chain, and forget the draws.

    :param statistics: without draws.
    :param chain: its number, part of the keys.
    :param constrain: positions ``[n, D]`` → values by site.
    """

    def __init__(self, statistics: Any, chain: int, constrain: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self.statistics = statistics
        self._chain = chain
        self._constrain = constrain
        self._count = 0
        self._diverging: list[int] | None = None
        self._acceptance: float | None = None

    def append(self, positions: Tensor, statistics: dict[str, Tensor]) -> None:
        """Take in draws."""
        values = self._constrain(positions)
        for index in range(len(positions)):
            self.statistics.update({(self._chain, name): each[index] for name, each in values.items()})
        if "diverging" in statistics:
            places = statistics["diverging"].nonzero().flatten().tolist()
            self._diverging = (self._diverging or []) + [self._count + place for place in places]
        if "acceptance" in statistics:
            self._acceptance = (self._acceptance or 0.0) + float(statistics["acceptance"].sum())
        self._count += len(positions)

    def view(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return no draws."""
        return torch.empty((0, 0), dtype=torch.float64), {}

    def flush(self) -> None:
        """Do nothing: memory needs no flushing."""

    def finish(self) -> None:
        """Do nothing: no room was reserved."""

    def figures(self, what: str) -> Any:
        """Return numbers of divergent draws, or the mean acceptance; None where the kernel has none."""
        if what == "divergences":
            return self._diverging
        return None if self._acceptance is None else self._acceptance / self._count

    def __len__(self) -> int:
        return self._count


def _r_hat(chains: list[dict[str, Any]]) -> Tensor:
    """Return the potential scale reduction of Gelman & Rubin (1992) from the chains' means and variances."""
    variances = torch.stack([each["variance"] for each in chains])
    within = variances.mean(0)
    if len(chains) == 1:
        return torch.ones_like(within)
    count = min(each["count"] for each in chains)
    between = torch.stack([each["mean"] for each in chains]).var(0)
    return ((count - 1) / count + between / within).sqrt()
