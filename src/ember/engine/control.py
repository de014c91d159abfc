"""Give control flow to functions of tensors: Python loops when run eagerly, regions when captured.

Carries, operands and results are nested tuples, named tuples, lists or dicts of tensors. Shapes and dtypes of
a carry must not change from one iteration to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

Carry = TypeVar("Carry")
Result = TypeVar("Result")


class Recorder(Protocol):
    """What a capture in progress offers to these functions."""

    def while_loop(
        self, condition: Callable[[Any], torch.Tensor], body: Callable[[Any], Any], init: Any
    ) -> Any: ...

    def cond(
        self,
        predicate: torch.Tensor,
        if_true: Callable[..., Any],
        if_false: Callable[..., Any],
        operands: tuple[Any, ...],
    ) -> Any: ...

    def scan(
        self,
        step: Callable[[Any, Any], tuple[Any, Any]],
        init: Any,
        xs: Any,
        length: int | None,
        reverse: bool,
    ) -> tuple[Any, Any]: ...


active_recorder: ContextVar[Recorder | None] = ContextVar("ember_recorder", default=None)


def capturing() -> bool:
    """Return whether a function is being captured, so that the values of its tensors cannot be read."""
    return active_recorder.get() is not None


def number(tensor: torch.Tensor) -> Any:
    """Return the value of a scalar tensor, or the detached scalar itself if it cannot be read."""
    return tensor.detach() if capturing() else tensor.item()


def while_loop(
    condition: Callable[[Carry], torch.Tensor], body: Callable[[Carry], Carry], init: Carry
) -> Carry:
    """Apply ``body`` to the carry while ``condition`` of it holds, and return the last carry.

    :param condition: carry → bool scalar tensor.
    :param body: carry → carry of the same structure, shapes and dtypes.
    :param init: the first carry; numbers in it become tensors.

    >>> count, power = while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, 1.0))
    >>> float(power)
    8.0
    """
    recorder = active_recorder.get()
    if recorder is not None:
        return recorder.while_loop(condition, body, init)
    carry = _as_tensors(init)
    while bool(condition(carry)):
        carry = body(carry)
    return carry


def cond(
    predicate: torch.Tensor,
    if_true: Callable[..., Result],
    if_false: Callable[..., Result],
    *operands: Any,
) -> Result:
    """Apply ``if_true`` or ``if_false`` to the operands, as the bool scalar ``predicate`` says.

    Both must return the same structure, shapes and dtypes. Only the branch taken is executed.
    """
    recorder = active_recorder.get()
    if recorder is not None:
        return recorder.cond(predicate, if_true, if_false, operands)
    return if_true(*operands) if bool(predicate) else if_false(*operands)


def scan(
    step: Callable[[Carry, Any], tuple[Carry, Any]],
    init: Carry,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Carry, Any]:
    """Carry a value through a sequence: ``carry, y = step(carry, x)`` for each slice ``x`` of ``xs``.

    :param step: (carry, slice of xs) → (carry, y). ``y`` may be None or a nest of tensors.
    :param init: the first carry; numbers in it become tensors.
    :param xs: nest of tensors with one common leading size, or None (then give ``length``).
    :param length: number of steps; needed only without ``xs``.
    :param reverse: run from the last slice to the first; ``ys`` keep the order of ``xs``.
    :returns: the last carry, and the ``ys`` stacked along a new leading dimension.
    :raises ValueError: if neither ``xs`` nor ``length`` says how many steps to take, or they disagree.
    """
    steps = _number_of_steps(xs, length)
    recorder = active_recorder.get()
    if recorder is not None:
        return recorder.scan(step, init, xs, steps, reverse)
    carry = _as_tensors(init)
    ys: list[list[torch.Tensor]] = []
    structure = None
    sequences, nested = tree_flatten(xs)
    # The gradient of all slices at once is one tensor; slice by slice it would be as many of full size.
    slices = [None if each is None else each.unbind(0) for each in sequences]
    for index in reversed(range(steps)) if reverse else range(steps):
        x = tree_unflatten([None if each is None else each[index] for each in slices], nested)
        carry, y = step(carry, x)
        leaves, structure = tree_flatten(y)
        ys.append(leaves)
    if structure is None:
        raise ValueError("engine.scan needs at least one step, got an empty sequence")
    if reverse:
        ys.reverse()
    stacked = [None if column[0] is None else torch.stack(column) for column in zip(*ys, strict=True)]
    return carry, tree_unflatten(stacked, structure)


def _as_tensors(nest: Any) -> Any:
    """Turn the numbers in a carry into tensors, as a capture does."""
    return tree_map(lambda leaf: torch.tensor(leaf) if isinstance(leaf, (bool, int, float)) else leaf, nest)


def _number_of_steps(xs: Any, length: int | None) -> int:
    sizes = {leaf.shape[0] for leaf in tree_flatten(xs)[0] if isinstance(leaf, torch.Tensor)}
    if length is not None:
        sizes.add(length)
    if len(sizes) != 1:
        raise ValueError(
            "engine.scan needs one number of steps, from the leading sizes of xs or from length; "
            f"got {sorted(sizes)}"
        )
    return sizes.pop()
