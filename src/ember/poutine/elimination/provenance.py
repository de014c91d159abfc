"""Remember how tensors were computed, so that like computations can be done again all at once.

A loop computes ``f(x[0]), f(x[1]), …`` one by one. Where the results are needed together, they are the rows
of one batched ``f`` of stacked arguments: a program of constant size, with a gradient of constant size. What
is the same in all of them is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ember.poutine.elimination.rows import take

# Functions that draw, or whose results hold no numbers yet; no call of theirs equals another.
_OPAQUE = (
    "rand", "dropout", "bernoulli", "multinomial", "normal", "poisson", "sample", "_gamma", "dirichlet",
    "empty",
)  # fmt: skip
# Functions in which numbers that differ from call to call may as well be a tensor.
_OF_NUMBERS = {
    "lt", "le", "gt", "ge", "eq", "ne", "add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv",
}  # fmt: skip
_RESHAPING = {"reshape", "view"}
_PLAIN = (
    bool, int, float, str, type(None), type(...), torch.dtype, torch.device, torch.layout,
    torch.memory_format,
)  # fmt: skip


class _Number(NamedTuple):
    """A number, bool or other plain object among the arguments of a call."""

    kind: type  # which keeps 1, 1.0 and True apart
    value: Any


class _Operand(NamedTuple):
    """A tensor among the arguments of a call, by its number."""

    number: int


class _Nest(NamedTuple):
    """A tuple, list or slice among the arguments of a call."""

    kind: type
    items: tuple[Any, ...]


class _Call(NamedTuple):
    """A call of a torch function, with its tensors and the versions in which it read them."""

    func: Callable[..., Any]
    arguments: _Nest  # (args, sorted items of kwargs)
    output: int | None  # which of several results
    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]

    def apply(self, arguments: Any, tensors: Iterator[Tensor]) -> Any:
        """Call the function with other arguments of the same structure."""
        args, kwargs = _filled(arguments, tensors)
        result = self.func(*args, **dict(kwargs))
        return result if self.output is None else result[self.output]


class Provenance(TorchFunctionMode):
    """Number the tensors that pass through torch functions; equal calls get equal numbers.

    What the program computes does not change. Tensors written to in place, and results of functions that
    draw, count as coming from outside.
    """

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[Any, int] = {}
        self._calls: dict[int, _Call] = {}
        self._known: dict[int, tuple[Tensor, int, int]] = {}  # by identity: the tensor, version and number
        self._stacks: dict[tuple[int, ...], tuple[Tensor, bool]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            results: Sequence[Any] = (result,)
        elif type(result) in (tuple, list):
            results = result
        else:
            return result
        name = func.__name__
        if name in _RESHAPING and isinstance(result, Tensor) and result.dtype == args[0].dtype:
            func, args, kwargs = Tensor.reshape, (self._unreshaped(args[0]), tuple(result.shape)), {}
        in_place = "out" in kwargs or (name[-1] == "_" and name[-2:] != "__")
        if not (in_place or name == "__get__" or any(each in name for each in _OPAQUE)):
            self._record(func, args, kwargs, results, isinstance(result, Tensor))
        return result

    def _record(self, func: Any, args: Any, kwargs: Any, results: Sequence[Any], is_one: bool) -> None:
        tensors: list[Tensor] = []
        described = self._described((args, tuple(sorted(kwargs.items()))), tensors)
        if described is None:
            return
        versions = tuple(each._version for each in tensors)
        for position, result in enumerate(results):
            if not isinstance(result, Tensor) or any(result is each for each in tensors):
                continue
            output = None if is_one else position
            number = self._numbers.setdefault((func, described, output), len(self._numbers))
            self._known[id(result)] = result, result._version, number
            if number not in self._calls:
                self._calls[number] = _Call(func, described, output, tuple(tensors), versions)

    def _unreshaped(self, tensor: Tensor) -> Tensor:
        """Return what a tensor was reshaped from, so that what equals it after detours counts as equal."""
        call = self._calls.get(self.number(tensor))
        if call is None or call.func is not Tensor.reshape or call.tensors[0]._version != call.versions[0]:
            return tensor
        return call.tensors[0]

    def _described(self, item: Any, tensors: list[Tensor]) -> Any:
        """Return arguments as something hashable, or None if they hold other objects; collects tensors."""
        if isinstance(item, Tensor):
            tensors.append(item)
            return _Operand(self.number(item))
        if isinstance(item, slice):
            items: Any = (item.start, item.stop, item.step)
        elif isinstance(item, (tuple, list)):
            items = item
        else:
            return _Number(type(item), item) if isinstance(item, _PLAIN) else None
        found = tuple([self._described(each, tensors) for each in items])
        return None if None in found else _Nest(type(item), found)

    def number(self, tensor: Tensor) -> int:
        """Return a number that tensors of equal provenance have in common."""
        known = self._known.get(id(tensor))
        if known is None or known[1] != tensor._version:
            number = self._numbers.setdefault((id(tensor), tensor._version), len(self._numbers))
            known = self._known[id(tensor)] = tensor, tensor._version, number
        return known[2]

    # -- stacking ------------------------------------------------------------------------------------------

    def stack(self, tensors: Sequence[Tensor]) -> tuple[Tensor, bool]:
        """Return tensors of one shape stacked along a new first dim; one and False, if all are the same."""
        numbers = tuple(map(self.number, tensors))
        known = self._stacks.get(numbers)
        if known is None:
            known = self._stacks[numbers] = self._stack(tensors, numbers)
        return known

    def _stack(self, tensors: Sequence[Tensor], numbers: tuple[int, ...]) -> tuple[Tensor, bool]:
        first = {number: position for position, number in reversed(list(enumerate(numbers)))}
        if len(first) == 1:
            return tensors[0], False
        distinct = sorted(first.values())
        if 2 * len(distinct) <= len(numbers):
            few, _ = self.stack([tensors[position] for position in distinct])
            row = {numbers[position]: row for row, position in enumerate(distinct)}
            return take(few, [row[number] for number in numbers], 0), True
        again = self._all_again(numbers)
        if again is None or again.shape[1:] != tensors[0].shape or again.dtype != tensors[0].dtype:
            again = torch.stack(list(tensors))
        # What was computed without gradient, or detached, stays so.
        return (again if any(each.requires_grad for each in tensors) else again.detach()), True

    def _all_again(self, numbers: Sequence[int]) -> Tensor | None:
        """Do like calls again, all at once; returns None if they are not alike."""
        calls = [self._calls[number] for number in numbers if number in self._calls]
        if len(calls) < len(numbers) or len({(call.func, call.output) for call in calls}) > 1:
            return None
        if any(tuple(each._version for each in call.tensors) != call.versions for call in calls):
            return None
        if len({len(call.tensors) for call in calls}) > 1:
            return None
        columns = list(zip(*(call.tensors for call in calls), strict=True))
        if any(len({(each.shape, each.dtype) for each in column}) > 1 for column in columns):
            return None
        different = _different([call.arguments for call in calls])
        try:
            if not different:
                return self._batched(calls[0], calls[0].arguments, columns)
            if calls[0].func is Tensor.__getitem__ and len(different) == 1:
                return self._rows_indexed(calls, columns, *different[0])
            if calls[0].func.__name__.strip("_") in _OF_NUMBERS and len(different) == 1:
                return self._with_numbers(calls, columns, *different[0])
        except RuntimeError:  # torch cannot batch the function
            return None
        return None

    def _batched(self, call: _Call, arguments: Any, columns: Sequence[Sequence[Tensor]]) -> Tensor:
        return _batch(call, arguments, [self.stack(column) for column in columns])

    def _with_numbers(
        self,
        calls: list[_Call],
        columns: Sequence[Sequence[Tensor]],
        path: tuple[int, ...],
        values: list[Any],
    ) -> Tensor | None:
        """Call a function of numbers that differ, with a tensor in their place."""
        if not columns or path[:1] != (0,):
            return None
        first = columns[0][0]
        dtype = first.dtype if first.is_floating_point() or isinstance(values[0], int) else None
        row = torch.tensor(values, dtype=dtype, device=first.device), True
        stacked = [self.stack(column) for column in columns]
        stacked.insert(min(path[1], len(stacked)), row)
        return _batch(calls[0], _replaced(calls[0].arguments, path, _Operand(-1)), stacked)

    def _rows_indexed(
        self,
        calls: list[_Call],
        columns: Sequence[Sequence[Tensor]],
        path: tuple[int, ...],
        values: list[Any],
    ) -> Tensor | None:
        """Index with ints that differ: select the rows by them first, then index each by the rest."""
        source, varies = self.stack(columns[0])
        index = calls[0].arguments.items[0].items[1]
        items = index.items if isinstance(index, _Nest) and index.kind is tuple else (index,)
        at = path[2] if len(path) > 2 else 0
        if varies or path[:2] != (0, 1) or len(path) > 3 or _uses_masks(columns):
            return None
        before, after = items[:at], items[at + 1 :]
        if _Number(type(...), ...) in before:
            dim = source.ndim - 1 - sum(map(_takes_dim, after))
        else:
            dim = sum(map(_takes_dim, before))
        size = source.shape[dim]
        rows = take(source.movedim(dim, 0), [value % size for value in values], 0)
        full = _Nest(slice, (_Number(type(None), None),) * 3)
        rest = (*before, *after)
        if all(item == full for item in rest):
            return rows
        arguments = _Nest(tuple, (_Nest(tuple, (_Operand(-1), _Nest(tuple, rest))), _Nest(tuple, ())))
        others = [self.stack(column) for column in columns[1:]]
        return _batch(calls[0], arguments, [(rows, True), *others])


def _batch(call: _Call, arguments: Any, stacked: Sequence[tuple[Tensor, bool]]) -> Tensor:
    """Apply a call to each row of the tensors that vary."""
    dims = tuple(0 if varies else None for _, varies in stacked)
    result: Tensor = torch.vmap(lambda *leaves: call.apply(arguments, iter(leaves)), dims)(
        *(tensor for tensor, _ in stacked)
    )
    return result


def _filled(described: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(described, _Operand):
        return next(tensors)
    if isinstance(described, _Number):
        return described.value
    items = [_filled(each, tensors) for each in described.items]
    return slice(*items) if described.kind is slice else described.kind(items)


def _different(
    described: Sequence[Any], path: tuple[int, ...] = ()
) -> list[tuple[tuple[int, ...], list[Any]]]:
    """Return where arguments hold different numbers, and these; a place twice where they differ otherwise."""
    first = described[0]
    if len({type(each) for each in described}) > 1:
        return [(path, []), (path, [])]
    if isinstance(first, _Operand):
        return []
    if isinstance(first, _Number):
        values = [each.value for each in described]
        if len({(each.kind, each.value) for each in described}) == 1:
            return []
        plain = all(each.kind in (int, float) for each in described)
        return [(path, values)] if plain else [(path, []), (path, [])]
    if len({(each.kind, len(each.items)) for each in described}) > 1:
        return [(path, []), (path, [])]
    columns = zip(*(each.items for each in described), strict=True)
    return [found for at, column in enumerate(columns) for found in _different(column, (*path, at))]


def _replaced(described: Any, path: tuple[int, ...], new: Any) -> Any:
    if not path:
        return new
    items = list(described.items)
    items[path[0]] = _replaced(items[path[0]], path[1:], new)
    return described._replace(items=tuple(items))


def _takes_dim(item: Any) -> bool:
    """Say whether an index takes a dim of what it indexes; masks, which take several, are not asked about."""
    return not (isinstance(item, _Number) and item.value in (None, ...))


def _uses_masks(columns: Sequence[Sequence[Tensor]]) -> bool:
    return any(each.dtype in (torch.bool, torch.uint8) for column in columns[1:] for each in column)
