"""Define random matchings of sources with destinations, weighted by pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import message
from . import constraints
from .parameters import table
from .torch_distribution import TorchDistribution

_EMPTY = torch.Size()
_LARGEST_TABLE = 1 << 18  # states that exact sums go through
_LOUDEST = 1e100  # message of belief propagation


class _Matchings(constraints.Constraint):
    """Hold vectors of destinations in which each occurs equally often."""

    event_dim = 1
    is_discrete = True

    def __init__(self, num_destinations: int, capacity: int) -> None:
        self.num_destinations = num_destinations
        self.capacity = capacity

    def check(self, value: Tensor) -> Tensor:
        places = torch.arange(self.num_destinations, device=value.device)
        counts = (value.unsqueeze(-1) == places).sum(-2)
        return (counts == self.capacity).all(-1) & (value.shape[-1] == self.num_destinations * self.capacity)


class _Matching(TorchDistribution):
    """A matching in which each destination takes ``capacity`` sources; values list destinations by source."""

    arg_constraints = table(logits=constraints.real)
    has_enumerate_support = True
    capacity: int

    def __init__(
        self, logits: Tensor, *, bp_iters: int | None = None, validate_args: bool | None = None
    ) -> None:
        name = type(self).__name__
        if logits.dim() != 2 or logits.shape[0] != self.capacity * logits.shape[1]:
            raise ValueError(
                message(
                    f"{name} takes one logit for each pair of source and destination.",
                    expected=f"({self.capacity} n, n)" if self.capacity > 1 else "(n, n)",
                    actual=tuple(logits.shape),
                )
            )
        if bp_iters is not None and bp_iters < 1:
            raise ValueError(f"bp_iters must be a positive int or None, got {bp_iters}")
        self.num_sources, self.num_destinations = logits.shape
        self.logits = logits
        self.bp_iters = bp_iters
        TorchDistribution.__init__(self, _EMPTY, logits.shape[:1], validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors in which each destination occurs ``capacity`` times."""
        return _Matchings(self.num_destinations, self.capacity)

    @property
    def log_partition_function(self) -> Tensor:
        """Logarithm of the sum over all matchings; approximate with ``bp_iters``."""
        if self.bp_iters is not None:
            return _bethe(self.logits, self.capacity, self.bp_iters)
        return self._tables()[-1].reshape(-1)[-1]

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        sources = torch.arange(self.num_sources, device=self.logits.device)
        return self.logits[sources, value].sum(-1) - self.log_partition_function

    def _tables(self) -> list[Tensor]:
        """Return log sums over the ways to match the first sources, by the numbers that destinations hold."""
        size = self.capacity + 1
        if size**self.num_destinations > _LARGEST_TABLE:
            raise NotImplementedError(
                message(
                    f"{type(self).__name__} is too large for exact sums.",
                    expected=f"at most {_LARGEST_TABLE} states",
                    actual=f"{size}^{self.num_destinations}",
                    fix="give bp_iters for an approximation by belief propagation",
                )
            )
        current = self.logits.new_full((size,) * self.num_destinations, -torch.inf)
        current[(0,) * self.num_destinations] = 0.0
        tables = [current]
        for row in self.logits:
            added = [_one_more(current, j) + logit for j, logit in enumerate(row)]
            current = _log_sum_exp(torch.stack(added))
            tables.append(current)
        return tables

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw exactly: from the last source to the first, each by the weight of what is left."""
        tables = self._tables()
        shape = torch.Size(sample_shape)
        drawn = [self._draw(tables) for _ in range(shape.numel())]
        return torch.tensor(drawn, dtype=torch.long).reshape(shape + self._event_shape)

    def _draw(self, tables: list[Tensor]) -> list[int]:
        held = [self.capacity] * self.num_destinations
        result = [0] * self.num_sources
        for i in range(self.num_sources - 1, -1, -1):
            logits = self.logits[i].clone()
            for j, count in enumerate(held):
                before = tuple(c - (k == j) for k, c in enumerate(held))
                logits[j] = logits[j] + tables[i][before] if count else -torch.inf
            result[i] = int(torch.multinomial(logits.softmax(-1), 1))
            held[result[i]] -= 1
        return result

    def enumerate_support(self, expand: bool = True) -> Tensor:
        places = [j for j in range(self.num_destinations) for _ in range(self.capacity)]
        return torch.tensor(sorted(set(itertools.permutations(places))))


class OneOneMatching(_Matching):
    """A random perfect matching of n sources with n destinations: a permutation.

    The probability is proportional to the exponential of the sum of the chosen logits. The normaliser, a
    permanent, is summed exactly over subsets of destinations.

    :param logits: ``(n, n)``, sources by destinations.
    :param bp_iters: number of iterations of belief propagation, which approximates the normaliser by that of
        Bethe (Huang & Jebara 2009, Approximating the permanent with belief propagation); None for exact sums.
    """

    capacity = 1


class OneTwoMatching(_Matching):
    """A random matching of 2 n sources with n destinations that take two each.

    :param logits: ``(2 n, n)``, sources by destinations.
    :param bp_iters: as for :class:`OneOneMatching`.
    """

    capacity = 2


def _one_more(table: Tensor, dim: int) -> Tensor:
    """Shift a table of log sums by one place along a dim."""
    kept = table.narrow(dim, 0, table.shape[dim] - 1)
    return torch.cat([torch.full_like(table.narrow(dim, 0, 1), -torch.inf), kept], dim)


def _log_sum_exp(x: Tensor) -> Tensor:
    """Return the logarithm of the sum of exponentials along the first dim, with no gradient at -inf."""
    top = x.detach().amax(0)
    top = torch.where(torch.isfinite(top), top, 0.0)
    total = (x - top).exp().sum(0)
    possible = total > 0
    return torch.where(possible, torch.where(possible, total, 1.0).log() + top, -torch.inf)


def _bethe(logits: Tensor, capacity: int, iterations: int) -> Tensor:
    """Approximate the log normaliser at a fixed point of belief propagation.

    Messages are ratios of the belief that a pair is matched to that it is not: one over the sum of the other
    weights from a source, and, from a destination of two, a ratio of elementary symmetric sums.
    """
    top = logits.detach().amax(-1, keepdim=True)
    weights = (logits - top).double().exp()
    sources, destinations = (_others(size).to(weights) for size in weights.shape)
    pairs = sources.unsqueeze(-1) * sources.unsqueeze(-2) * sources
    tiny = torch.finfo(weights.dtype).tiny
    from_source = from_destination = torch.ones_like(weights)
    for _ in range(iterations):
        others = (weights * from_destination) @ destinations
        from_source = others.clamp(min=1.0 / _LOUDEST).reciprocal()
        seen = weights * from_source
        ways = torch.ones_like(seen) if capacity == 1 else sources @ seen
        more = sources @ seen
        if capacity == 2:
            more = 0.5 * torch.einsum("ipq,pj,qj->ij", pairs, seen, seen)
        from_destination = (ways / more.clamp(min=tiny)).clamp(max=_LOUDEST)
    by_source = (weights * from_destination).sum(-1)
    seen = weights * from_source
    by_destination = seen.sum(0) if capacity == 1 else 0.5 * (seen * (sources @ seen)).sum(0)
    both = (weights * from_source * from_destination).log1p().sum()
    total = by_source.clamp(min=tiny).log().sum() + by_destination.clamp(min=tiny).log().sum() - both
    return total.to(logits.dtype) + top.sum()


def _others(size: int) -> Tensor:
    """Return the matrix that adds up everything but one's own."""
    return 1.0 - torch.eye(size, dtype=torch.double)
