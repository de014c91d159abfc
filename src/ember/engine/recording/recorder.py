"""Record the ATen operations of a running function as the nodes of a program."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ember.engine.decompositions.table import DECOMPOSITIONS
from ember.engine.operations import Operation, classify
from ember.engine.randomness.draws import DRAWS, NAMED_DRAWS, options
from ember.engine.randomness.streams import new_stream
from ember.engine.recording import aliasing, masks
from ember.engine.recording.state import Recording
from ember.engine.recording.traced import View

aten = torch.ops.aten


class DispatchRecorder(Recording, TorchDispatchMode):
    """Sees every operation below autograd; folds the constant ones and records the others."""

    def __init__(
        self, where: bool = True, constant_closures: bool = False, for_kernels: bool = False
    ) -> None:
        Recording.__init__(self, where, constant_closures)
        TorchDispatchMode.__init__(self)
        self.for_kernels = for_kernels

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps __torch_dispatch__ so that its first call imports torch._dynamo (1.4 s).
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        op = classify(func)
        kwargs = kwargs or {}
        if op.is_random:
            return self._draw(op, func, args, kwargs)
        views: list[View] = []
        self._collect(args, views)
        self._collect(tuple(kwargs.values()), views)
        is_constant = all(view.storage.value is None for view in views)
        if op.base in masks.INDEXING and not is_constant and masks.has_mask(args[1]):
            args = (args[0], masks.without_constant_masks(self, args[1]), *args[2:])
            if not op.mutated and masks.has_mask(args[1]):
                if op.base in ("index", "_unsafe_index"):
                    self.refuse("the result's shape depends on a value that depends on the inputs", op.name)
                with self:
                    return masks.put_by_mask(self, op.name, args[0], args[1], args[2], any(args[3:]))
        if func is aten.native_batch_norm.default and args[5] and args[3] is not None:
            return self._batch_norm(op, args)
        if op.mutated:
            return self._mutate(op, func, args, kwargs, is_constant)
        if is_constant:
            return self._fold(op, func, args, kwargs)
        if op.is_check:
            return None
        if op.is_data_dependent:
            self.refuse(
                "the result's shape or a Python value depends on a value that depends on the inputs", op.name
            )
        decomposition = None if self.for_kernels else DECOMPOSITIONS.get(func)
        if decomposition is not None:
            with self:
                return decomposition(*args, **kwargs)
        if op.is_shape_only:
            return self._fold(op, func, args, kwargs)
        if op.name.startswith("ember."):
            # Drawing would cost time, and what is drawn means nothing here.
            shapes = [
                each.to("meta") if isinstance(each, torch.Tensor) else each for each in self.concrete(args)
            ]
            blank = func(*shapes)
            result = torch.empty(tuple(blank.shape), dtype=blank.dtype)
        else:
            named = {name: self.concrete(each) for name, each in kwargs.items()}
            result = func(*self.concrete(args), **named)
        if op.is_metadata:
            return result
        if op.is_view:
            return aliasing.wrap_view(self, op, args, kwargs, result)
        return self._record(op, args, kwargs, result, views)

    def _collect(self, items: Any, found: list[View]) -> None:
        for item in items:
            if isinstance(item, torch.Tensor):
                found.append(self.view_of(item))
                if self.frame.parent is not None and item.requires_grad:
                    self.note_closure(item)
            elif type(item) in (list, tuple):
                self._collect(item, found)

    def _fold(self, op: Operation, func: Any, args: Any, kwargs: Any) -> Any:
        """Execute an operation whose result does not depend on the inputs."""
        result = func(*self.concrete(args), **{name: self.concrete(each) for name, each in kwargs.items()})
        if op.is_view:
            if op.base == "lift_fresh":
                return self.wrap(None, result)
            return aliasing.wrap_view(self, op, args, kwargs, result)
        if isinstance(result, torch.Tensor):
            if op.is_uninitialised:
                result.zero_()
            return self.wrap(None, result)
        if isinstance(result, (tuple, list)):
            return type(result)(
                self.wrap(None, each) if isinstance(each, torch.Tensor) else each for each in result
            )
        return result

    def _record(
        self,
        op: Operation,
        args: Any,
        kwargs: Any,
        result: Any,
        views: list[View],
        attributes: dict[str, Any] | None = None,
    ) -> Any:
        flat = [result] if isinstance(result, torch.Tensor) else result
        if not isinstance(flat, (tuple, list)) or not all(
            each is None or isinstance(each, torch.Tensor) for each in flat
        ):
            self.refuse("the operation returns something other than tensors", op.name)
        # Gradients that nobody asked for; a value that nobody reads stands in their place.
        absent = [each is None for each in flat]
        flat = [torch.empty(0) if each is None else each for each in flat]
        # Results are overwritten, so that none may share its memory with an argument, which may be real.
        memory = {view.concrete.untyped_storage().data_ptr() for view in views}
        flat = [each.clone() if each.untyped_storage().data_ptr() in memory else each for each in flat]
        outputs = self.emit(
            op.name,
            tuple(self.symbolic(each) for each in args),
            {name: self.symbolic(each) for name, each in kwargs.items()},
            list(flat),
            attributes,
        )
        wrapped = [
            None if missing else self.wrap(value, each)
            for value, each, missing in zip(outputs, flat, absent, strict=True)
        ]
        if "linalg" in op.base:
            for each in flat:
                if each.dtype == torch.int32:
                    each.fill_(1)  # a pivot
        return wrapped[0] if isinstance(result, torch.Tensor) else type(result)(wrapped)

    def _mutate(self, op: Operation, func: Any, args: Any, kwargs: Any, is_constant: bool) -> Any:
        if op.mutates_metadata:
            self.refuse("a tensor's own shape or storage is changed in place", op.name)
        if op.mutated == ("out",) and op.functional is not None and "out" in kwargs:
            return self._fill_out(op, args, dict(kwargs))
        if op.mutated_positions != (0,):
            self.refuse("the operation writes to its arguments and has no pure form", op.name)
        if op.base == "detach_":
            return args[0]
        self._check_writable(op, args[0])
        if op.is_reshaping:
            return aliasing.reshape_in_place(self, op, func, args, kwargs)
        if is_constant:
            func(*self.concrete(args), **{name: self.concrete(each) for name, each in kwargs.items()})
            return args[0]
        aliasing.write_in_place(self, op, args, kwargs)
        return args[0]

    def _fill_out(self, op: Operation, args: Any, kwargs: dict[str, Any]) -> Any:
        """Record an operation that writes its result to a tensor given as ``out``."""
        target = kwargs.pop("out")
        self._check_writable(op, target)
        with self:
            result = op.functional(*args, **kwargs)
        if result.shape != target.shape:
            self.refuse("the tensor given as out has another shape than the result", op.name)
        aliasing.assign(self, target, result)
        return target

    def _batch_norm(self, op: Operation, args: Any) -> Any:
        """Record a batch normalisation, which writes its running statistics though its schema hides it."""
        means, variances = args[3:5]
        for each in (means, variances):
            self._check_writable(op, each)
        with self:
            *results, mean, variance = aten._native_batch_norm_legit_functional.default(*args)
        aliasing.assign(self, means, mean)
        aliasing.assign(self, variances, variance)
        return tuple(results)

    def _check_writable(self, op: Operation, tensor: torch.Tensor) -> None:
        storage = self.view_of(tensor).storage
        if storage.protected is not None:
            self.refuse(storage.protected, op.name)
        if storage.frame is not self.frame:
            self.refuse("a loop or branch writes to a tensor from outside of it", op.name)

    def _draw(self, op: Operation, func: Any, args: Any, kwargs: Any) -> Any:
        """Record a random operation as one that draws from a stream of its own."""
        if self.for_kernels:
            return self._draw_from_generator(op, func, args, kwargs)
        if self.root.key is None:
            self.refuse("random numbers from torch's generator change from call to call", op.name)
        draw = DRAWS.get(func) or NAMED_DRAWS.get(op.name)
        if draw is None:
            self.refuse("the random operation has no form that draws from a key", op.name)
        self._check_generator(op, args, kwargs)
        if op.mutated:
            self._check_writable(op, args[0])
        stream = new_stream(self)
        with self:
            result = draw(stream, *args, **options(kwargs))
        if not op.mutated:
            return result
        aliasing.assign(self, args[0], result)
        return args[0]

    def _draw_from_generator(self, op: Operation, func: Any, args: Any, kwargs: Any) -> Any:
        """Record a random operation as it is."""
        self._check_generator(op, args, kwargs)
        if op.mutated:
            self._check_writable(op, args[0])
            if op.functional is None:
                self.refuse("the random operation has no pure form", op.name)
            pure = classify(op.functional)
            drawn = self._draw_from_generator(pure, op.functional, args, kwargs)
            aliasing.assign(self, args[0], drawn)
            return args[0]
        views: list[View] = []
        self._collect(args, views)
        named = {name: self.concrete(each) for name, each in kwargs.items()}
        before = torch.get_rng_state()
        result = func(*self.concrete(args), **named)
        torch.set_rng_state(before)
        self.num_draws += 1
        return self._record(op, args, kwargs, result, views, {"draw": self.num_draws})

    def _check_generator(self, op: Operation, args: Any, kwargs: Any) -> None:
        if any(isinstance(each, torch.Generator) for each in (*args, *kwargs.values())):
            self.refuse("a generator of the function's own stands outside the program", op.name)
