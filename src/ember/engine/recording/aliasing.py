"""Turn views and in-place operations into pure operations on whole values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ember.engine.operations import Operation, classify
from ember.engine.program import Value
from ember.engine.recording.traced import View

if TYPE_CHECKING:
    from ember.engine.recording.recorder import DispatchRecorder
    from ember.engine.recording.state import Recording

_IDENTITIES = {"detach", "alias", "lift_fresh", "_conj", "_neg_view", "view_as_real"} - {
    "view_as_real",
    "_conj",
    "_neg_view",
}
_RESHAPES = {"view", "_unsafe_view", "_reshape_alias", "squeeze", "unsqueeze"}


def wrap_view(recorder: Recording, op: Operation, args: Any, kwargs: Any, result: Any) -> Any:
    """Make the traced tensor, or list of tensors, that a view operation returns."""
    base, rest = args[0], tuple(args[1:])
    parent = recorder.view_of(base)
    if isinstance(result, torch.Tensor):
        return recorder.traced(_view(recorder, parent, op, rest, kwargs, result))
    dim = _split_dim(op, rest, kwargs) % max(base.dim(), 1)
    views, start = [], 0
    for index, each in enumerate(result):
        if op.base == "unbind":
            view = View(parent.storage, each, parent, "aten.select.int", (dim, index))
        else:
            stop = start + each.shape[dim]
            view = View(parent.storage, each, parent, "aten.slice.Tensor", (dim, start, stop, 1))
            start = stop
        views.append(recorder.traced(view))
    return type(result)(views)


def reshape_in_place(recorder: Recording, op: Operation, func: Any, args: Any, kwargs: Any) -> Any:
    """Change a traced tensor's own shape, as ``squeeze_`` and the like do."""
    target, rest = args[0], tuple(args[1:])
    if op.functional is None:
        recorder.refuse("a tensor's own shape is changed in place", op.name)
    parent = recorder.view_of(target)
    result = op.functional(parent.concrete, *rest, **kwargs)
    target.view_of = _view(recorder, parent, classify(op.functional), rest, kwargs, result)
    with torch._C._DisableTorchDispatch():
        func(target, *rest, **kwargs)
    return target


def _split_dim(op: Operation, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    position = 0 if op.base == "unbind" else 1
    return int(rest[position] if len(rest) > position else kwargs.get("dim", 0))


def _view(
    recorder: Recording,
    parent: View,
    op: Operation,
    rest: tuple[Any, ...],
    kwargs: Any,
    result: torch.Tensor,
) -> View:
    if op.base in _IDENTITIES:
        return parent
    if op.base == "as_strided":
        root = parent.root()
        for known in (parent, root):
            if _geometry(known.concrete) == _geometry(result):
                return known
        if parent.storage.is_part:
            recorder.refuse("as_strided looks at the memory around an input that is a view", op.name)
        geometry = (list(result.size()), list(result.stride()), result.storage_offset())
        return View(parent.storage, result, root, "aten.as_strided.default", geometry)
    return View(parent.storage, result, parent, op.name, rest, kwargs)


def _geometry(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.size(), tensor.stride(), tensor.storage_offset(), tensor.dtype


def read(recorder: Recording, view: View) -> Value:
    """Emit the operation that makes a view's value from its parent's."""
    parent = view.parent
    assert parent is not None
    value = recorder.read(parent)
    if view.op == "aten.as_strided.default":
        value = _flat(recorder, value, parent.concrete)
    return recorder.emit(view.op, (value, *view.args), view.kwargs, [view.concrete])[0]


def _order_of_memory(concrete: torch.Tensor) -> list[int]:
    strides = concrete.stride()
    return sorted(range(concrete.dim()), key=lambda dim: (-strides[dim], dim))


def _flat(recorder: Recording, value: Value, concrete: torch.Tensor) -> Value:
    """Emit the storage's elements in the order of memory, as a vector."""
    order = _order_of_memory(concrete)
    permuted = concrete.permute(order)
    if not permuted.is_contiguous() or concrete.storage_offset():
        recorder.refuse("as_strided looks at a storage with gaps", "aten.as_strided.default")
    if order != list(range(concrete.dim())):
        value = recorder.emit("aten.permute.default", (value, order), {}, [permuted])[0]
    return recorder.emit("aten.view.default", (value, [concrete.numel()]), {}, [permuted.reshape(-1)])[0]


def write_in_place(recorder: DispatchRecorder, op: Operation, args: Any, kwargs: Any) -> None:
    """Record the pure form of an in-place operation and store its result through the target."""
    target = args[0]
    with recorder:
        if op.base == "copy_":
            result = args[1]
        elif op.functional is None:
            recorder.refuse("the in-place operation has no pure form", op.name)
        else:
            # _index_put_impl_ has one argument more than index_put.
            result = op.functional(*(args[:4] if op.base == "_index_put_impl_" else args), **kwargs)
    assign(recorder, target, result)


def assign(recorder: DispatchRecorder, target: torch.Tensor, result: torch.Tensor) -> None:
    """Give the elements of a tensor, and with them the part of its storage, new values."""
    with recorder:
        if result.dtype != target.dtype:
            result = result.to(target.dtype)
        if result.shape != target.shape:
            result = result.expand(target.shape)
    write(recorder, recorder.view_of(target), recorder.read(recorder.view_of(result)))


def write(recorder: Recording, view: View, value: Value) -> None:
    """Replace what a view shows, and with it the part of its storage that it covers."""
    storage = view.storage
    if storage.value is None:
        storage.value = recorder.constant(view.root().concrete)
    written = [(view, value)]
    while view.parent is not None:
        value = _scatter(recorder, view, value)
        view = view.parent
        written.append((view, value))
    storage.value = value
    storage.version += 1
    for each, its_value in written:
        each.cached = (storage.version, recorder.frame, its_value)


def _scatter(recorder: Recording, view: View, value: Value) -> Value:
    """Emit the parent's value with the part that ``view`` covers replaced."""
    parent = view.parent
    assert parent is not None
    base, args = view.op.split(".")[1], view.args
    like = parent.concrete
    shape = list(like.shape)
    if base in _RESHAPES or (base == "expand" and view.concrete.numel() == like.numel()):
        return recorder.emit("aten.view.default", (value, shape), {}, [like])[0]
    if base == "permute":
        dims = [dim % len(shape) for dim in args[0]]
        inverse = sorted(range(len(dims)), key=dims.__getitem__)
        return recorder.emit("aten.permute.default", (value, inverse), {}, [like])[0]
    if base in ("transpose", "t"):
        return recorder.emit(view.op, (value, *args), {}, [like])[0]
    if base in ("select", "slice", "diagonal"):
        old = recorder.read(parent)
        op = {
            "select": "aten.select_scatter.default",
            "slice": "aten.slice_scatter.default",
            "diagonal": "aten.diagonal_scatter.default",
        }[base]
        return recorder.emit(op, (old, value, *args), view.kwargs, [like])[0]
    if base == "as_strided":
        flat = _flat(recorder, recorder.read(parent), like)
        vector = torch.empty(like.numel(), dtype=like.dtype)
        new = recorder.emit("aten.as_strided_scatter.default", (flat, value, *args), {}, [vector])[0]
        order = _order_of_memory(like)
        permuted = like.permute(order)
        new = recorder.emit("aten.view.default", (new, list(permuted.shape)), {}, [permuted])[0]
        if order == list(range(like.dim())):
            return new
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return recorder.emit("aten.permute.default", (new, inverse), {}, [like])[0]
    return recorder.refuse("a write through this kind of view has no pure form", view.op)
