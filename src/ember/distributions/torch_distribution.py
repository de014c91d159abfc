"""Give every family one shape discipline: call, expand, to_event, mask, validate, enumerate, score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .. import settings
from ..elsewhere import names_of
from ..errors import message
from .distribution import Distribution
from .shapes import broadcast_shape
from .validation import check_parameters, check_sample

_EMPTY = torch.Size()

# The wrappers that methods here return derive from the classes here; their files enter them at import.
WRAPPERS: dict[str, Callable[..., Any]] = {}


class _Validate:
    """Read the instance's own choice, else the context-local setting; a data descriptor like a property."""

    def __get__(self, instance: Any, owner: Any = None) -> bool:
        if instance is not None:
            own = instance.__dict__.get("_validate_args")
            if own is not None:
                return own
        return settings.read("validate_distributions_pyro")

    def __set__(self, instance: Any, value: bool | None) -> None:
        instance.__dict__["_validate_args"] = value


class TorchDistributionMixin(Distribution):
    """What ember adds to torch's distributions; put it after the torch class among the bases.

    A draw has shape ``sample_shape + batch_shape + event_shape``; a log probability has the shape of the
    value, broadcast with ``batch_shape + event_shape``, without the event dims.
    """

    # Number of event dims of each tensor attribute that `expand` has to stretch.
    parameter_dims: dict[str, int]

    _validate_args: Any = _Validate()
    _batch_shape: torch.Size
    _event_shape: torch.Size

    def __call__(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw ``sample_shape`` values, with gradients to the parameters if ``has_rsample``."""
        if self.has_rsample:
            return self.rsample(sample_shape)  # type: ignore[attr-defined]
        return self.sample(sample_shape)  # type: ignore[attr-defined]

    @property
    def batch_shape(self) -> torch.Size:
        """Shape over which the parameters are batched."""
        return self._batch_shape

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one draw."""
        return self._event_shape

    @property
    def event_dim(self) -> int:
        """Number of dims of one draw."""
        return len(self._event_shape)

    def shape(self, sample_shape: Sequence[int] = _EMPTY) -> torch.Size:
        """Return the shape of a draw: ``sample_shape + batch_shape + event_shape``."""
        return torch.Size(sample_shape) + self._batch_shape + self._event_shape

    @classmethod
    def infer_shapes(cls, **arg_shapes: Sequence[int]) -> tuple[torch.Size, torch.Size]:
        """Return (batch_shape, event_shape) from the shapes of the parameters, without making an instance.

        :raises NotImplementedError: for families whose event shape depends on more than that.
        """
        declared = cls.__dict__.get("arg_constraints", getattr(cls, "arg_constraints", None))
        dims = dict(getattr(cls, "parameter_dims", {}))
        if isinstance(declared, dict):
            dims.update({n: c.event_dim for n, c in declared.items() if not constraints.is_dependent(c)})
        event_dim = _static_event_dim(getattr(cls, "support", None))
        if event_dim is None or not set(arg_shapes) <= set(dims):
            raise NotImplementedError(
                message(
                    f"{cls.__name__} cannot infer its shapes from {sorted(arg_shapes)}.",
                    fix="make an instance and read its batch_shape and event_shape",
                )
            )
        batches, events = [], [_EMPTY]
        for name, shape in arg_shapes.items():
            split = len(shape) - dims[name]
            batches.append(torch.Size(shape[:split]))
            if dims[name] >= event_dim > 0:
                events.append(torch.Size(shape[len(shape) - event_dim :]))
        return broadcast_shape(*batches), broadcast_shape(*events)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        """Return the distribution with its batch dims stretched to ``batch_shape``, without copying.

        Parameters are not checked again. Families without :attr:`parameter_dims` are wrapped.
        """
        return expand_lazily(self, batch_shape)

    def expand_by(self, sample_shape: Sequence[int]) -> Any:
        """Return the distribution with ``sample_shape`` added on the left of its batch shape."""
        return self.expand(torch.Size(sample_shape) + self._batch_shape)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Any:
        """Reinterpret the ``n`` rightmost batch dims as event dims.

        :param reinterpreted_batch_ndims: None for all batch dims; 0 changes nothing; a negative number
            gives event dims back that an earlier ``to_event`` took.
        :raises ValueError: if there are too few batch (or given-up) dims.
        """
        return WRAPPERS["independent"](self, reinterpreted_batch_ndims)

    def mask(self, mask: bool | Tensor) -> Any:
        """Return the distribution with its log probability set to zero where ``mask`` is False."""
        return WRAPPERS["masked"](self, mask)

    def has_rsample_(self, value: bool) -> Any:
        """Set ``has_rsample`` on this instance, which is returned; copies made from it keep the choice."""
        return super().has_rsample_(value)

    @property
    def rv(self) -> Any:
        """The distribution as a random variable to compute with, see :mod:`ember.contrib.randomvariable`."""
        return names_of("ember.contrib")("randomvariable").RandomVariable(self)

    def _validate_sample(self, value: Tensor) -> None:
        check_sample(self, value)

    def _extended_shape(self, sample_shape: Sequence[int] = _EMPTY) -> torch.Size:
        if not isinstance(sample_shape, torch.Size):
            sample_shape = torch.Size(sample_shape)
        return torch.Size(sample_shape + self._batch_shape + self._event_shape)


class TorchDistribution(TorchDistributionMixin, torch.distributions.Distribution):
    """Base class of ember's distributions over tensors.

    A family of torch becomes ember's as ``class Name(torch.distributions.Name, TorchDistribution)``: this
    class then stands between torch's family and torch's base class, and takes the base class's place.
    Own families derive from it, set ``arg_constraints`` and ``support``, and define ``log_prob``,
    ``sample`` or ``rsample`` and, unless :func:`expand_parameters` does, ``expand``.
    """

    log_prob = torch.distributions.Distribution.log_prob  # type: ignore[assignment]
    enumerate_support = Distribution.enumerate_support

    def __init__(
        self,
        batch_shape: torch.Size = _EMPTY,
        event_shape: torch.Size = _EMPTY,
        validate_args: bool | None = None,
    ) -> None:
        state = self.__dict__
        state["_batch_shape"] = batch_shape
        state["_event_shape"] = event_shape
        if validate_args is not None:
            state["_validate_args"] = validate_args
        else:
            validate_args = settings.read("validate_distributions_pyro")
        if validate_args:
            check_parameters(self)

    def __repr__(self) -> str:
        shown = []
        for name in self.arg_constraints:
            value = self.__dict__.get(name)
            if isinstance(value, Tensor):
                shown.append(f"{name}: {value.detach() if value.numel() == 1 else value.shape}")
        return f"{type(self).__name__}({', '.join(shown)})"


def expand_parameters(self: Any, batch_shape: Sequence[int], _instance: Any = None) -> Any:
    """Stretch the tensors named in ``parameter_dims``; to be used as a family's ``expand``.

    Everything else on the instance is carried over (the choice of ``has_rsample`` and of validation
    too). A subclass with a constructor of its own gets a lazy wrapper, since what it keeps is unknown.
    """
    family = type(self)
    if family.__init__ is not _constructor_of_expand(family) and _instance is None:
        return expand_lazily(self, batch_shape)
    new = object.__new__(family) if _instance is None else _instance
    state = new.__dict__
    state.update(self.__dict__)
    batch_shape = torch.Size(batch_shape)
    state["_batch_shape"] = batch_shape
    for name, dims in family.parameter_dims.items():
        value = state.get(name)
        if value is not None:
            state[name] = value.expand(batch_shape + value.shape[-dims:] if dims else batch_shape)
    return new


def carrying(expand: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap torch's own ``expand`` so that the choices of ``has_rsample`` and validation are kept."""

    def expand_and_carry(self: Any, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        family = type(self)
        if _instance is None and family.__init__ is not _constructor_of_expand(family):
            return expand_lazily(self, batch_shape)
        new = object.__new__(family) if _instance is None else _instance
        new = expand(self, torch.Size(batch_shape), new)
        for name in ("has_rsample", "_validate_args"):
            if name in self.__dict__:
                new.__dict__[name] = self.__dict__[name]
            else:
                new.__dict__.pop(name, None)
        return new

    return expand_and_carry


def finish(distribution: Any, validate_args: bool | None) -> None:
    """Record the choice of validation and check the parameters, after torch's constructor ran unvalidated."""
    state = distribution.__dict__
    if validate_args is None:
        state.pop("_validate_args", None)
    else:
        state["_validate_args"] = validate_args
    if distribution._validate_args:
        check_parameters(distribution)


class OwnOrBase:
    """Read ``has_rsample`` from the instance's own choice, else from its ``base_dist``."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        own = instance.__dict__.get("has_rsample")
        return instance.base_dist.has_rsample if own is None else own

    def __set__(self, instance: Any, value: bool) -> None:
        instance.__dict__["has_rsample"] = value


def expand_lazily(distribution: Any, batch_shape: Sequence[int]) -> Any:
    """Stretch any distribution by drawing more of it."""
    return WRAPPERS["expanded"](distribution, torch.Size(batch_shape))


_constructors: dict[type, Any] = {}


def _constructor_of_expand(family: type) -> Any:
    """Return the constructor of the class that defines ``expand``."""
    constructor = _constructors.get(family)
    if constructor is None:
        declares = next(each for each in family.__mro__ if "expand" in each.__dict__)
        constructor = _constructors[family] = declares.__init__  # type: ignore[misc]
    return constructor


def _static_event_dim(support: Any) -> int | None:
    """Return the event dim of a class's support, or None if only an instance knows it."""
    try:
        return support.event_dim
    except (AttributeError, NotImplementedError):
        return None
