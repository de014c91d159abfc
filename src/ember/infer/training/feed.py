"""Give each step its model arguments: always the same, or a source's batches in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.errors import DataError, message
from ember.infer.training.sharing import share

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_NONE = object()


class Constant:
    """The same arguments at every step."""

    changes = False

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._arguments = args, kwargs

    def share(self, rank: int, world: int) -> None:
        """Give every process the same arguments."""

    def current(self) -> Arguments:
        """Return the next step's arguments."""
        return self._arguments

    def consume(self) -> None:
        """Go on to the next arguments, once a step with the present ones was taken."""

    def state(self) -> dict[str, Any]:
        """Return the place in the data."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a place in the data."""

    def notes(self) -> list[str]:
        """Say what is remarkable about the present arguments, for an error."""
        return _nan_notes("the model's arguments", _named(*self._arguments))


class Batches:
    """The batches of an iterable, over and over.

    A batch that is a mapping gives keyword arguments, a tuple or list positional ones after the fixed ones,
    and anything else one positional argument.

    Where the source has ``state_dict`` and ``load_state_dict``, those are its place. Otherwise an epoch is
    replayed: its iterator is made again from the generator's state at the epoch's start, and batches
    that were used are passed over.

    :param source: an iterable, e.g. a ``torch.utils.data.DataLoader`` or a
        :class:`~ember.data.ParquetBatches`. An iterator (such as a generator) can be gone through only
        once.
    """

    changes = True

    def __init__(self, source: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not hasattr(source, "__iter__"):
            raise TypeError(
                message(
                    "batches must be an iterable",
                    expected="e.g. a DataLoader, a list of batches, or ember.data.ParquetBatches",
                    actual=repr(source),
                )
            )
        self.name = getattr(source, "name", None) or type(source).__name__  # what errors call it
        self._once = isinstance(source, Iterator)
        self._source = source
        self._args, self._kwargs = args, kwargs
        self._iterator: Iterator[Any] | None = None
        self._pending: Arguments | None = None
        self._start: dict[str, Tensor] = {}  # generators at the start of the epoch
        self._place: Any = None  # a stateful source's, before the pending batch
        self._epoch = 0  # number of epochs begun
        self._used = 0  # batches of this epoch
        self._total = 0
        self._first: dict[str, Any] | None = None  # the first batch's form, by argument

    def share(self, rank: int, world: int) -> None:
        """Take only this process's part of the source.

        :param rank: number of this process among those that share it.
        :param world: number of those processes.
        :raises DataError: for a ``DataLoader`` that draws its own order in every process.
        """
        if world > 1:
            self._source = share(self._source, rank, world)

    def current(self) -> Arguments:
        """Return the next step's arguments.

        :raises DataError: if the source has no more, or if they are of another form than the first.
        """
        if self._pending is None:
            if self._stateful:
                self._place = self._source.state_dict()
            self._pending = self._arguments(self._fetch())
            self._check_form(self._pending)
        return self._pending

    @property
    def _stateful(self) -> bool:
        return hasattr(self._source, "state_dict") and hasattr(self._source, "load_state_dict")

    def consume(self) -> None:
        """Go on to the next batch."""
        self._pending = None
        self._used += 1
        self._total += 1

    def _fetch(self) -> Any:
        batch = _NONE if self._iterator is None else next(self._iterator, _NONE)
        if batch is _NONE and self._iterator is not None and self._once:
            raise self._ended("and cannot begin anew")
        # A stateful source may be at the end of an epoch that it was told to go on with.
        for _ in range(2 if self._stateful else 1):
            if batch is _NONE:
                batch = next(self._begin_epoch(), _NONE)
        if batch is _NONE:
            raise self._ended("")
        return batch

    def _begin_epoch(self) -> Iterator[Any]:
        self._start = {"torch": torch.get_rng_state()}
        own = getattr(self._source, "generator", None)
        if isinstance(own, torch.Generator):
            self._start["own"] = own.get_state()
        sampler = getattr(self._source, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):  # torch's DistributedSampler
            sampler.set_epoch(self._epoch)
        self._iterator = iter(self._source)
        self._epoch += 1
        self._used = 0
        return self._iterator

    def _ended(self, more: str) -> DataError:
        if self._total == 0:
            what, fix = f"the source {self.name} gave no batch", "check its size, and that it was not used up"
        else:
            what = f"the source {self.name} ended after {self._total} batches {more}".rstrip()
            fix = "give an iterable that can be gone through again, such as a list or a DataLoader"
        return DataError(message(what, expected="a batch for each step of the run", fix=fix))

    def _arguments(self, batch: Any) -> Arguments:
        if isinstance(batch, Mapping):
            twice = sorted(set(batch) & set(self._kwargs))
            if twice:
                raise DataError(f"{', '.join(twice)}: given by {self.name} and as an argument of the run")
            return self._args, {**self._kwargs, **batch}
        if isinstance(batch, (tuple, list)):
            return (*self._args, *batch), self._kwargs
        return (*self._args, batch), self._kwargs

    def _check_form(self, arguments: Arguments) -> None:
        """Refuse names, dtypes and numbers of dimensions that differ from the first batch's; sizes may."""
        found = {
            name: (each.dtype, each.ndim) for name, each in _named(*arguments) if isinstance(each, Tensor)
        }
        if self._first is None:
            self._first = found
        if found == self._first:
            return
        before = self._first
        name = next(each for each in (*before, *found) if before.get(each) != found.get(each))
        raise DataError(
            message(
                f"'{name}' in batch {self._total + 1} of {self.name} has another form than in the first",
                expected=_form(before.get(name)),
                actual=_form(found.get(name)),
                fix="give every batch the same columns, of the same dtypes and numbers of dimensions",
            )
        )

    def state(self) -> dict[str, Any]:
        """Return the place of the first batch that was not used."""
        state: dict[str, Any] = {"total": self._total}
        if self._stateful:
            place = self._place if self._pending is not None else self._source.state_dict()
            return {**state, "source": place}
        if self._iterator is None:
            return state
        pending = self._pending is not None
        return {**state, "epoch": self._epoch, "start": self._start, "used": self._used, "pending": pending}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to the place that :meth:`state` gave; torch's generator is then in some other state.

        :raises DataError: if the source has fewer batches than were used.
        """
        self._pending = self._iterator = None
        self._total = state["total"]
        if self._stateful:
            self._source.load_state_dict(state["source"])
        elif "start" in state:
            torch.set_rng_state(state["start"]["torch"])
            if "own" in state["start"]:
                self._source.generator.set_state(state["start"]["own"])
            self._epoch = state["epoch"] - 1
            iterator = self._begin_epoch()
            self._used = self._total if self._once else state["used"]
            for _ in range(self._used):
                if next(iterator, _NONE) is _NONE:
                    raise self._ended("that the run had used before, too early to go on with it")
            if state["pending"]:
                self.current()

    def notes(self) -> list[str]:
        """Say what is remarkable about the present batch, for an error."""
        if self._pending is None:
            return []
        where = f"batch {self._total + 1} of {self.name}"
        return [f"the step used {where}", *_nan_notes(where, _named(*self._pending))]


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"argument {index + 1}", each) for index, each in enumerate(args)] + list(kwargs.items())


def _form(form: tuple[torch.dtype, int] | None) -> str:
    return "no tensor of this name" if form is None else f"{form[0]} of {form[1]} dimensions"


def _nan_notes(where: str, arguments: list[tuple[str, Any]]) -> list[str]:
    notes = []
    for name, value in arguments:
        if isinstance(value, Tensor) and value.is_floating_point():
            bad = (~value.detach().isfinite()).nonzero()
            if len(bad):
                at = f" (first at index {tuple(bad[0].tolist())})" if value.ndim else ""
                notes.append(f"in {where}, '{name}' has {len(bad)} values that are NaN or infinite{at}")
    return notes
