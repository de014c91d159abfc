"""Record the ATen operations of a running function as the nodes of a program."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ember.engine import aliasing
from ember.engine.operations import Operation, classify
from ember.engine.program import Node, Program, Value
from ember.engine.refusal import NotCapturable
from ember.engine.traced import Storage, Traced, View
from ember.errors import _PACKAGE, user_location

_TORCH = torch.__path__[0]
current_site: ContextVar[str | None] = ContextVar("ember_recording_site", default=None)


class Frame:
    """A program or region under construction."""

    __slots__ = ("active", "constants", "inputs", "nodes", "outer", "parent")

    def __init__(self, parent: Frame | None) -> None:
        self.parent = parent
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[Value, torch.Tensor] = {}
        self.outer: dict[Value, Value] = {}  # value of the parent frame → input here
        self.active = True

    def program(self, outputs: list[Value]) -> Program:
        return Program(self.inputs + list(self.outer.values()), self.constants, self.nodes, outputs)


class DispatchRecorder(TorchDispatchMode):
    """Sees every operation below autograd; folds the constant ones and records the others."""

    def __init__(self, where: bool = True) -> None:
        super().__init__()
        self.frame = Frame(None)
        self.owner: dict[Value, Frame] = {}
        self.failure: NotCapturable | None = None
        self.outside: dict[int, tuple[torch.Tensor, View]] = {}
        self._where = where
        self._is_users: dict[CodeType, bool] = {}
        self._origin: dict[int, tuple[str | None, str | None]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps __torch_dispatch__ so that its first call imports torch._dynamo (1.4 s).
        return False

    # -- refusing ---------------------------------------------------------------------------------
    def refuse(self, reason: str, op: str | None = None) -> NoReturn:
        """Raise the reason; keep the first one, in case the function under capture swallows it."""
        error = NotCapturable(reason, op, user_location())
        if self.failure is None:
            self.failure = error
        raise error

    # -- values -----------------------------------------------------------------------------------
    def new_value(self, like: torch.Tensor) -> Value:
        value = Value(tuple(like.shape), like.dtype)
        self.owner[value] = self.frame
        return value

    def new_input(self, example: torch.Tensor) -> Traced:
        concrete = torch.empty_strided(example.size(), example.stride(), dtype=example.dtype)
        if not example.dtype.is_floating_point:
            concrete.zero_()
        value = self.new_value(concrete)
        self.frame.inputs.append(value)
        protected = "an input of the function is written to in place"
        return Traced(View(Storage(self.frame, value, protected), concrete), self.refuse)

    def constant(self, tensor: torch.Tensor) -> Value:
        value = self.new_value(tensor)
        self.frame.constants[value] = tensor.detach().clone(memory_format=torch.contiguous_format)
        return value

    def localise(self, value: Value, frame: Frame | None = None) -> Value:
        """Return what stands for ``value`` in the current frame, lifting it into regions on the way."""
        frame = frame or self.frame
        owner = self.owner[value]
        if owner is frame:
            return value
        if frame.parent is None or not owner.active:
            self.refuse("a value computed inside a loop or branch is used outside of it, not through its result")
        outer = self.localise(value, frame.parent)
        local = frame.outer.get(outer)
        if local is None:
            local = frame.outer[outer] = Value(outer.shape, outer.dtype)
            self.owner[local] = frame
        return local

    def read(self, view: View) -> Value:
        """Return the value that a view has now."""
        storage, frame = view.storage, self.frame
        version = view.concrete._version if storage.value is None else storage.version
        if view.cached is not None:
            cached_version, cached_frame, value = view.cached
            if cached_version == version and cached_frame.active:
                return self.localise(value)
        if storage.value is None:
            value = self.constant(view.concrete)
        elif view.parent is None:
            return self.localise(storage.value)
        else:
            value = aliasing.read(self, view)
        view.cached = (version, frame, value)
        return value

    def view_outside(self, tensor: torch.Tensor) -> View:
        known = self.outside.get(id(tensor))
        if known is None:
            protected = "a tensor from outside the function is written to in place"
            known = self.outside[id(tensor)] = tensor, View(Storage(self.frame, None, protected), tensor)
        return known[1]

    def view_of(self, tensor: torch.Tensor) -> View:
        return tensor.view_of if type(tensor) is Traced else self.view_outside(tensor)

    # -- origins ----------------------------------------------------------------------------------
    def origin(self) -> tuple[str | None, str | None]:
        """Return (file and line, site) of the operation being recorded; backward operations inherit."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return self._origin.get(node._sequence_nr(), (None, None))
        found = (self._users_line() if self._where else None, current_site.get())
        # The autograd node of this operation was created just before the operation was dispatched.
        self._origin[torch._C._autograd._get_sequence_nr() - 1] = found
        return found

    def _users_line(self) -> str | None:
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            code = frame.f_code
            users = self._is_users.get(code)
            if users is None:
                users = not code.co_filename.startswith((_PACKAGE, _TORCH, "<"))
                self._is_users[code] = users
            if users:
                return f"{code.co_filename}:{frame.f_lineno}"
            frame = frame.f_back
        return None

    def emit(
        self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[torch.Tensor]
    ) -> tuple[Value, ...]:
        outputs = tuple(self.new_value(result) for result in results)
        where, site = self.origin()
        self.frame.nodes.append(Node(op, args, kwargs, outputs, where=where, site=site))
        return outputs

    # -- dispatch ---------------------------------------------------------------------------------
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        op = classify(func)
        kwargs = kwargs or {}
        if op.is_random:
            self.refuse("random numbers from torch's generator change from call to call", op.name)
        views: list[View] = []
        self._collect(args, views)
        self._collect(tuple(kwargs.values()), views)
        if op.mutated:
            return self._mutate(op, func, args, kwargs, views)
        if all(view.storage.value is None for view in views):
            return self._fold(op, func, args, kwargs)
        if op.is_data_dependent:
            self.refuse("the result's shape or a Python value depends on a value that depends on the inputs", op.name)
        if op.is_shape_only:
            return self._fold(op, func, args, kwargs)
        result = func(*self._concrete(args), **{name: self._concrete(each) for name, each in kwargs.items()})
        if op.is_metadata:
            return result
        if op.is_view:
            return aliasing.wrap_view(self, op, args, kwargs, result)
        return self._record(op, args, kwargs, result)

    def _collect(self, items: Any, found: list[View]) -> None:
        for item in items:
            if isinstance(item, torch.Tensor):
                found.append(self.view_of(item))
            elif type(item) in (list, tuple):
                self._collect(item, found)

    def _concrete(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return self.view_of(item).concrete
        if type(item) in (list, tuple):
            return type(item)(self._concrete(each) for each in item)
        return item

    def symbolic(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return self.read(self.view_of(item))
        if type(item) in (list, tuple):
            return type(item)(self.symbolic(each) for each in item)
        return item

    def wrap(self, value: Value | None, concrete: torch.Tensor) -> Traced:
        return Traced(View(Storage(self.frame, value), concrete), self.refuse)

    def _fold(self, op: Operation, func: Any, args: Any, kwargs: Any) -> Any:
        """Execute an operation whose result does not depend on the inputs."""
        result = func(*self._concrete(args), **{name: self._concrete(each) for name, each in kwargs.items()})
        if op.is_view:
            if op.base == "lift_fresh":
                return self.wrap(None, result)
            return aliasing.wrap_view(self, op, args, kwargs, result)
        if isinstance(result, torch.Tensor):
            if op.is_uninitialised:
                result.zero_()
            return self.wrap(None, result)
        if isinstance(result, (tuple, list)):
            return type(result)(self.wrap(None, each) if isinstance(each, torch.Tensor) else each for each in result)
        return result

    def _record(self, op: Operation, args: Any, kwargs: Any, result: Any) -> Any:
        flat = [result] if isinstance(result, torch.Tensor) else result
        if not isinstance(flat, (tuple, list)) or not all(isinstance(each, torch.Tensor) for each in flat):
            self.refuse("the operation returns something other than tensors", op.name)
        for each in flat:
            if not each.dtype.is_floating_point and not each.dtype.is_complex:
                each.zero_()  # so that meaningless integers are valid indices
        outputs = self.emit(
            op.name,
            tuple(self.symbolic(each) for each in args),
            {name: self.symbolic(each) for name, each in kwargs.items()},
            list(flat),
        )
        wrapped = [self.wrap(value, each) for value, each in zip(outputs, flat, strict=True)]
        return wrapped[0] if isinstance(result, torch.Tensor) else type(result)(wrapped)

    def _mutate(self, op: Operation, func: Any, args: Any, kwargs: Any, views: list[View]) -> Any:
        if op.mutates_metadata:
            self.refuse("a tensor's own shape or storage is changed in place", op.name)
        if op.mutated_positions != (0,):
            self.refuse("the operation writes to its arguments and has no pure form", op.name)
        target = self.view_of(args[0])
        if target.storage.protected is not None:
            self.refuse(target.storage.protected, op.name)
        if all(view.storage.value is None for view in views):
            func(*self._concrete(args), **{name: self._concrete(each) for name, each in kwargs.items()})
            return args[0]
        if target.storage.frame is not self.frame:
            self.refuse("a loop or branch writes to a tensor from outside of it", op.name)
        aliasing.write_in_place(self, op, target, args, kwargs)
        return args[0]
