"""Be the base of chains of hidden states, whose events begin with a dim of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import message
from ..parameters import table
from ..shapes import broadcast_shape
from ..torch_distribution import TorchDistribution
from ..validation import check_sample


class HiddenMarkovModel(TorchDistribution):
    """A distribution over sequences, of event shape ``(T,) + event_shape of one observation``.

    Where no parameter has a dim of time and no ``duration`` is given, the event shape shows T = 1 and
    sequences of any length can be scored.

    :param duration: T, or None to read it off ``event_shape``.
    :param event_shape: the event shape that follows from the parameters.
    :raises ValueError: if the duration is no positive int, or differs from that of the parameters.
    """

    arg_constraints: dict[str, Any] = table()

    def __init__(
        self,
        duration: int | None,
        batch_shape: torch.Size,
        event_shape: torch.Size,
        validate_args: bool | None = None,
    ) -> None:
        if duration is None:
            duration = None if event_shape[0] == 1 else event_shape[0]
        elif not isinstance(duration, int) or duration < 1 or event_shape[0] not in (1, duration):
            raise ValueError(
                message(
                    f"The duration of a {type(self).__name__} does not fit its parameters.",
                    expected="a positive int"
                    if event_shape[0] == 1
                    else f"{event_shape[0]}, the size of the parameters' dim of time",
                    actual=repr(duration),
                    fix="leave it out, or give parameters of that many time steps",
                )
            )
        self._duration = duration
        event_shape = torch.Size((duration or 1, *event_shape[1:]))
        TorchDistribution.__init__(self, batch_shape, event_shape, validate_args)

    @property
    def duration(self) -> int | None:
        """Number of time steps, or None if sequences of any length can be scored."""
        return self._duration

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        batch_shape = torch.Size(batch_shape)
        if broadcast_shape(self._batch_shape, batch_shape) != batch_shape:
            raise ValueError(
                f"cannot expand {type(self).__name__} of batch_shape {tuple(self._batch_shape)} "
                f"to {tuple(batch_shape)}"
            )
        return self._changed(_batch_shape=batch_shape)

    def _changed(self, **entries: Any) -> Any:
        """Return a copy with other entries, whose parameters are not checked again."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.__dict__.update(entries)
        return new

    def _lasting(self, duration: int) -> Any:
        """Return a copy for sequences of the given length."""
        return self._changed(_duration=duration, _event_shape=torch.Size((duration, *self._event_shape[1:])))

    def _validate_sample(self, value: Any) -> None:
        flexible = self._duration is None and isinstance(value, Tensor) and value.dim() >= self.event_dim
        check_sample(self._lasting(value.shape[-self.event_dim]) if flexible else self, value)

    def _batch_with(self, value: Tensor) -> torch.Size:
        """Return the batch shape of the distribution given a sequence."""
        return broadcast_shape(self._batch_shape, value.shape[: value.dim() - self.event_dim])

    def _known_duration(self) -> int:
        if self._duration is None:
            raise ValueError(
                message(
                    f"A {type(self).__name__} whose parameters have no dim of time has no length of its own.",
                    expected="a duration",
                    actual="duration=None",
                    fix=f"{type(self).__name__}(..., duration=T)",
                )
            )
        return self._duration

    def _check_prefix(self, value: Tensor) -> int:
        """Return the length of a prefix, after checking it."""
        duration = self._known_duration()
        length = value.shape[-self.event_dim] if value.dim() >= self.event_dim else None
        if length is None or not 0 < length < duration:
            raise ValueError(
                message(
                    f"A {type(self).__name__} can be conditioned on a prefix only.",
                    expected=f"data of 1 to {duration - 1} time steps, followed by {self._event_shape[1:]}",
                    actual=f"data of shape {tuple(value.shape)}",
                )
            )
        if self._validate_args:
            check_sample(self._lasting(length), value)
        return length
