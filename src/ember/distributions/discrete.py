"""Define families on finitely many numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import clamp_probs, logits_to_probs
from torch.nn.functional import logsigmoid

from ..errors import message
from .conjugacy import log_overlap
from .parameters import ONE, Parameter, one, table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution, expand_parameters
from .validation import check_parameter

_EMPTY = torch.Size()
_NOT_REDUCED = 0  # torch's number for it


def either(family: str, probs: Any, logits: Any) -> tuple[str, Any]:
    """Return the name and value of the one parameter that was given.

    :raises ValueError: if both or none are given.
    """
    if (probs is None) == (logits is None):
        raise ValueError(
            message(
                f"{family}: either `probs` or `logits` must be specified, but not both.",
                actual="none of them" if probs is None else "both of them",
                fix=f"write {family}(probs=...) or {family}(logits=...)",
            )
        )
    return ("probs", probs) if probs is not None else ("logits", logits)


class Bernoulli(torch.distributions.Bernoulli, TorchDistribution):
    """A binary variable, by the probability ``probs`` of one or by its log odds ``logits``."""

    parameter_dims = table(probs=0, logits=0, _param=0)
    expand = expand_parameters

    def __init__(
        self,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = either("Bernoulli", probs, logits)
        state = self.__dict__
        state[name] = state["_param"] = value = one(value)
        TorchDistribution.__init__(self, value.shape, _EMPTY, validate_args)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        probs = self.probs.detach()
        if sample_shape:
            probs = probs.expand(self._extended_shape(sample_shape))
        return torch.bernoulli(probs)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if "logits" not in self.__dict__:
            probs = clamp_probs(self.probs)
            failure = ONE[probs.dtype] - value
            return probs.log() * value + (-probs).log1p() * failure
        logits = self.logits
        if logits.shape == value.shape and logits.dtype is value.dtype:
            # One operation, whose gradient passes over the numbers half as often.
            return -torch.binary_cross_entropy_with_logits(logits, value, reduction=_NOT_REDUCED)
        return logsigmoid(logits) - logits * (ONE[logits.dtype] - value)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = torch.arange(2, dtype=self._param.dtype, device=self._param.device)
        return along_new_dim(self, values, expand)


class Categorical(torch.distributions.Categorical, TorchDistribution):
    """An index from 0 to K - 1, by ``probs`` (normalised here) or ``logits`` along the last dim of size K."""

    parameter_dims = table(probs=1, logits=1, _param=1)

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = either("Categorical", probs, logits)
        if value.dim() < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        normal = value / value.sum(-1, keepdim=True) if name == "probs" else value.log_softmax(-1)
        state = self.__dict__
        state[name] = state["_param"] = normal
        state["_num_events"] = value.shape[-1]
        if not (self._validate_args if validate_args is None else validate_args):
            TorchDistribution.__init__(self, value.shape[:-1], _EMPTY, validate_args)
            return
        # The user's own numbers are checked: normalising would hide a zero or negative total.
        state[name] = value
        TorchDistribution.__init__(self, value.shape[:-1], _EMPTY, validate_args)
        state[name] = normal

    arg_constraints = table(
        probs=constraints.independent(constraints.nonnegative, 1),
        logits=constraints.real_vector,
    )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = expand_parameters(self, batch_shape, _instance)
        # Densities are computed from the table as it was: its copies would all have gradients of their own.
        new.__dict__.setdefault("_unexpanded", self)
        return new

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return draw_index(self.probs.detach(), sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        unexpanded = self.__dict__.get("_unexpanded")
        if unexpanded is None:
            return pick(self.logits, value)
        picked = pick(unexpanded.logits, value)
        shape = broadcast_shape(value.shape, self._batch_shape)
        return picked if picked.shape == shape else picked.expand(shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = torch.arange(self._num_events, dtype=torch.long, device=self._param.device)
        return along_new_dim(self, values, expand)

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        if not isinstance(other, Categorical):
            return super().conjugate_update(other)
        updated = Categorical(logits=self.logits + other.logits)
        return updated, log_overlap(self, other, updated, updated.logits.argmax(-1))


def categorical_of(
    owner: Any, probs: Tensor | None, logits: Tensor | None, validate_args: bool | None
) -> Categorical:
    """Return the Categorical inside a family on one-hot vectors, with errors that name the family."""
    family = type(owner).__name__
    name, value = either(family, probs, logits)
    if validate_args is not None:
        owner._validate_args = validate_args
    if owner._validate_args:
        check_parameter(family, name, Categorical.arg_constraints[name], value)
    return Categorical(probs, logits, validate_args=False)


def draw_index(probs: Tensor, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
    """Draw indices of the last dim with probability proportional to ``probs``; returns longs."""
    if not sample_shape:
        # The first of K independent exponential clocks; as torch.multinomial does for a single draw.
        return (probs / torch.empty_like(probs).exponential_()).argmax(-1)
    sample_shape = torch.Size(sample_shape)
    rows = probs.reshape(-1, probs.shape[-1])
    if rows.numel() == 0 or sample_shape.numel() == 0:
        return torch.empty(sample_shape + probs.shape[:-1], dtype=torch.long, device=probs.device)
    drawn = torch.multinomial(rows, sample_shape.numel(), replacement=True)
    return drawn.T.reshape(sample_shape + probs.shape[:-1])


def pick(table_: Tensor, index: Tensor) -> Tensor:
    """Return ``table[..., index]``, with the shape of ``index`` broadcast with the table's batch shape."""
    index = index.long()
    batch = table_.shape[:-1]
    if index.shape == batch:
        return table_.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    if not batch:
        return table_.index_select(0, index.reshape(-1)).reshape(index.shape)
    shape = broadcast_shape(index.shape, batch)
    free = 0  # how many of the rightmost batch dims of the table have size one
    while free < len(batch) and batch[-1 - free] == 1:
        free += 1
    if index.numel() == index.shape[max(0, index.ndim - free) :].numel():
        # As where an enumerated site chooses among tables: their dims lie left of those of the index, and
        # neither the tables nor their gradients need be expanded.
        rows = table_.reshape(-1, table_.shape[-1])
        return rows.index_select(-1, index.reshape(-1)).reshape(shape)
    index = index.expand(shape).unsqueeze(-1)
    return table_.expand(shape + table_.shape[-1:]).gather(-1, index).squeeze(-1)


def along_new_dim(distribution: Any, values: Tensor, expand: bool) -> Tensor:
    """Put K values along a new leftmost dim, over batch dims of size 1 or, expanded, of full size."""
    batch = distribution.batch_shape
    values = values.reshape(values.shape[:1] + (1,) * len(batch) + values.shape[1:])
    return values.expand(values.shape[:1] + batch + values.shape[1 + len(batch) :]) if expand else values


class OrderedLogistic(Categorical):
    """Ordinal outcomes 0 … K - 1: the interval between ``cutpoints`` into which a logistic variable falls.

    :param predictor: location of the logistic variable, real, of the batch shape.
    :param cutpoints: increasing vector of K - 1 cut points along the last dim.
    """

    parameter_dims = table(predictor=0, cutpoints=1, probs=1, logits=1, _param=1)
    arg_constraints = table(predictor=constraints.real, cutpoints=constraints.real_vector)
    expand = expand_parameters

    def __init__(self, predictor: Parameter, cutpoints: Tensor, validate_args: bool | None = None) -> None:
        predictor = one(predictor)
        if (self._validate_args if validate_args is None else validate_args) and not bool(
            (cutpoints[..., 1:] > cutpoints[..., :-1]).all()
        ):
            raise ValueError(
                message(
                    "The cutpoints of OrderedLogistic must increase along the last dim.",
                    expected="a strictly increasing vector",
                    actual=" ".join(str(cutpoints.detach()).split()),
                    fix="give them a prior with an ordered support, e.g. through transforms.OrderedTransform",
                )
            )
        batch = broadcast_shape(predictor.shape, cutpoints.shape[:-1])
        predictor = predictor.expand(batch)
        cutpoints = cutpoints.expand(batch + cutpoints.shape[-1:])
        above = cutpoints - predictor.unsqueeze(-1)
        # P(k) = sigmoid(c_k) - sigmoid(c_{k-1}), as a product of three factors that cannot cancel.
        upper, lower = above[..., 1:], above[..., :-1]
        middle = logsigmoid(upper) + logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        logits = torch.cat([logsigmoid(above[..., :1]), middle, logsigmoid(-above[..., -1:])], -1)
        state = self.__dict__
        state["predictor"], state["cutpoints"] = predictor, cutpoints
        state["logits"] = state["_param"] = logits
        state["_num_events"] = logits.shape[-1]
        TorchDistribution.__init__(self, batch, _EMPTY, validate_args)

    @property
    def probs(self) -> Tensor:
        """Probability of each outcome, along the last dim."""
        return logits_to_probs(self.logits)
