"""Give sites several draws along an enumeration dim, in place of all their values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.errors import message
from ember.poutine.enum_messenger import EnumMessenger
from ember.poutine.runtime import Message


class Proposal(NamedTuple):
    """How the draws of a site came about; both tensors vary along its own dim, not along those of parents."""

    num_samples: int
    log_density: Tensor  # of each draw, as its importance weight divides by it
    log_picked: Tensor  # of each draw given the parents that it was drawn from


class MonteCarloMessenger(EnumMessenger):
    """Enumerate sites in parallel; those with ``num_samples`` hold that many draws instead of their support.

    The K draws of a site whose parents have several values themselves come from one combination of these
    each (Aitchison 2019, arXiv 1806.08593, section 3): with ``tmc`` "diagonal" the k-th from the k-th, with
    "mixture" from a random one, and then the draws' density is that of the mixture over all combinations.
    ``infer["_proposal"]`` says how they came about.
    """

    def _values(self, msg: Message, dim: int, scope: dict[int, int]) -> Tensor:
        count = _count(msg)
        if count is None:
            return super()._values(msg, dim, scope)
        value, proposal = draw(msg["fn"], count, dim, list(scope), msg["infer"].get("tmc") == "mixture")
        msg["infer"]["_proposal"] = proposal
        return value


class LocalDrawsMessenger(EnumMessenger):
    """Enumerate sites in parallel; those with ``num_samples`` hold that many draws.

    Given each combination of its parents' values, a site has draws of its own: so a mean over all is a nested
    mean, each draw counting alike, which estimates expectations without bias.
    """

    def _values(self, msg: Message, dim: int, scope: dict[int, int]) -> Tensor:
        count = _count(msg)
        if count is None:
            return super()._values(msg, dim, scope)
        fn = msg["fn"]
        draws = fn.rsample((count,)) if fn.has_rsample else fn.sample((count,))
        return _moved(draws, dim, len(fn.event_shape))


def _count(msg: Message) -> int | None:
    """Return how many draws a site asks for, if it does."""
    count = msg["infer"].get("num_samples")
    if count is not None and not (isinstance(count, int) and count > 0):
        raise ValueError(
            message(
                f"num_samples at site '{msg['name']}' must be a positive int",
                site=msg["name"],
                plates=msg["cond_indep_stack"],
                actual=repr(count),
            )
        )
    return count


def draw(fn: Any, count: int, dim: int, scope: list[int], mixture: bool) -> tuple[Tensor, Proposal]:
    """Draw along ``dim`` from a distribution that may vary along the dims of its parents.

    :param scope: enumeration dims that parents may have.
    :param mixture: weigh by the mixture over all values of the parents.
    """
    batch = tuple(fn.batch_shape)
    parents = [each for each in scope if -each <= len(batch) and batch[each] > 1]
    # A draw for each combination of the parents' values, of which one is picked.
    draws = fn.rsample((count,)) if fn.has_rsample else fn.sample((count,))
    density = fn.log_prob(draws)
    if parents:
        places = _places([batch[each] for each in parents], count, _without(batch, parents), mixture)
        draws = _pick(draws, places, parents, len(batch), len(fn.event_shape))
        density = _pick(density, places, parents, len(batch), 0)
    value = _moved(draws, dim, len(fn.event_shape))
    picked = _moved(density, dim, 0)
    if not (mixture and parents):
        return value, Proposal(count, picked, picked)
    each_parent = fn.log_prob(value)
    combinations = math.prod(batch[parent] for parent in parents)
    mixed = each_parent.logsumexp(parents, keepdim=True) - math.log(combinations)
    return value, Proposal(count, mixed.reshape(mixed.shape[mixed.ndim - picked.ndim :]), picked)


def _without(batch: tuple[int, ...], parents: list[int]) -> list[int]:
    return [1 if axis - len(batch) in parents else size for axis, size in enumerate(batch)]


def _places(sizes: list[int], count: int, rest: list[int], mixture: bool) -> Tensor:
    """Return which combination of the parents' values each draw takes: ``[count, *rest]``."""
    total: Any = 0
    for size in sizes:
        if not mixture and size == count:
            index = torch.arange(count).reshape((-1,) + (1,) * len(rest)).expand([count, *rest])
        elif count <= size:
            # No value twice, in an order of its own for each element of the plates: so the elements of a
            # plate stay independent, and one parent is covered evenly.
            index = torch.rand([size, *rest]).argsort(0)[:count]
        else:
            index = torch.randint(size, [count, *rest])
        total = total * size + index
    return total


def _pick(tensor: Tensor, places: Tensor, parents: list[int], batch_dim: int, event_dim: int) -> Tensor:
    """Index the dims of the parents, ``[count, *batch, *event]``, by flat places; they keep size one."""
    axes = [1 + batch_dim + parent for parent in parents]
    others = [axis for axis in range(1, tensor.ndim) if axis not in axes]
    flat = tensor.permute([0, *axes, *others]).flatten(1, len(axes))
    index = places.reshape((*places.shape[:1], 1, *tuple(tensor.shape[a] for a in others if a <= batch_dim)))
    index = index.reshape(index.shape + (1,) * event_dim)
    picked = flat.gather(1, index.expand((*flat.shape[:1], 1, *flat.shape[2:])))
    shape = [1 if axis in axes else size for axis, size in enumerate(tensor.shape)]
    return picked.reshape(shape)


def _moved(tensor: Tensor, dim: int, event_dim: int) -> Tensor:
    """Move the leading dim of draws to a batch dim that is free."""
    batch_dim = tensor.ndim - 1 - event_dim
    padded = tensor.reshape(tensor.shape[:1] + (1,) * max(0, -dim - batch_dim) + tensor.shape[1:])
    axis = padded.ndim - event_dim + dim
    return padded.transpose(0, axis).squeeze(0)
