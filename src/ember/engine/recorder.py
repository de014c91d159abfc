"""Record the ATen operations of a running function as the nodes of a program."""

from __future__ import annotations

import sys
import weakref
from contextvars import ContextVar
from types import CodeType, FrameType, TracebackType
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ember.engine import aliasing, masks
from ember.engine.decompositions import DECOMPOSITIONS
from ember.engine.operations import Operation, classify
from ember.engine.program import Node, Program, Value
from ember.engine.refusal import NotCapturable
from ember.engine.traced import Storage, Traced, View
from ember.errors import _PACKAGE, user_location

_TORCH = torch.__path__[0]
current_site: ContextVar[str | None] = ContextVar("ember_recording_site", default=None)


def users_line(traceback: TracebackType | None) -> str | None:
    """Return file and line of the innermost frame of a traceback outside ember and torch."""
    found = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith((_PACKAGE, _TORCH, "<frozen")):
            found = f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}"
        traceback = traceback.tb_next
    return found


def make_harmless(tensor: torch.Tensor) -> None:
    """Fill a stand-in with numbers that every operation takes: valid indices, and in most functions' domains."""
    tensor.fill_(0.5 if tensor.dtype.is_floating_point else 0)


class Frame:
    """A program or region under construction."""

    __slots__ = (
        "active",
        "closed",
        "constants",
        "differentiable",
        "inputs",
        "leaves",
        "nodes",
        "outer",
        "parent",
    )

    def __init__(self, parent: Frame | None, differentiable: bool = False) -> None:
        self.parent = parent
        self.differentiable = differentiable
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[Value, torch.Tensor] = {}
        self.outer: dict[Value, Value] = {}  # value of the parent frame → input here
        # Tensors from outside that require a gradient, by id: with the leaf that stands for each in here ...
        self.leaves: dict[int, tuple[torch.Tensor, Traced]] = {}
        # ... and those that were used as they are.
        self.closed: dict[int, torch.Tensor] = {}
        self.active = True

    def program(self, outputs: list[Value]) -> Program:
        return Program(self.inputs + list(self.outer.values()), self.constants, self.nodes, outputs)


class DispatchRecorder(TorchDispatchMode):
    """Sees every operation below autograd; folds the constant ones and records the others."""

    def __init__(self, where: bool = True, constant_closures: bool = False) -> None:
        super().__init__()
        self.frame = Frame(None)
        self.owner: dict[Value, Frame] = {}
        self.failure: NotCapturable | None = None
        self.root = self.frame
        self.outside: dict[int, tuple[torch.Tensor, View]] = {}
        self.lifted: set[int] = set()
        self.gradients: dict[int, torch.Tensor | None] = {}  # .grad of tensors from outside, before
        self.grad_leaves: list[weakref.ref[torch.Tensor]] = []
        self.constant_closures = constant_closures
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

    def traced(self, view: View) -> Traced:
        return Traced(view, self.frame, self.refuse)

    def new_input(self, example: torch.Tensor) -> Traced:
        """Add an input to the current frame, with the geometry of ``example``."""
        return self.traced(self._input_view(example))

    def _input_view(self, example: torch.Tensor) -> View:
        # Below the modes, since this is not an operation of the function under capture.
        with torch._C._DisableTorchDispatch():
            offset = example.storage_offset()
            reach = sum((size - 1) * stride for size, stride in zip(example.shape, example.stride(), strict=True))
            memory = torch.empty(offset + max(reach, 0) + 1, dtype=example.dtype)
            make_harmless(memory)
            concrete = memory.as_strided(example.size(), example.stride(), offset)
        value = self.new_value(concrete)
        self.frame.inputs.append(value)
        return View(Storage(self.frame, value, "an input of the function is written to in place"), concrete)

    def lift(self, tensor: torch.Tensor) -> None:
        """Make a tensor from outside an input of the program."""
        self.outside[id(tensor)] = tensor, self._input_view(tensor)
        self.lifted.add(id(tensor))

    def constant(self, tensor: torch.Tensor) -> Value:
        """Add a copy of a tensor to the current frame's constants."""
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
            self.refuse(
                "a value computed inside a loop or branch is used outside of it, not through its result"
            )
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
        if storage.value is not None and view.parent is None:
            return self.localise(storage.value)
        # Regions read their results outside of any dispatch, so that the modes may be active here.
        with torch._C._DisableTorchDispatch():
            value = self.constant(view.concrete) if storage.value is None else aliasing.read(self, view)
        view.cached = (version, frame, value)
        return value

    def view_outside(self, tensor: torch.Tensor) -> View:
        known = self.outside.get(id(tensor))
        if known is None:
            self._check_outside(tensor)
            protected = "a tensor from outside the function is written to in place"
            # Regions come here outside of any dispatch, where detaching would give a tensor without data.
            with torch._C._DisableTorchDispatch():
                numbers = tensor.detach()
            known = self.outside[id(tensor)] = tensor, View(Storage(self.root, None, protected), numbers)
            self.watch_gradient(tensor)
        return known[1]

    def view_of(self, tensor: torch.Tensor) -> View:
        return tensor.view_of if type(tensor) is Traced else self.view_outside(tensor)

    def watch_gradient(self, tensor: torch.Tensor) -> None:
        """Remember the ``.grad`` of a tensor from outside, to see whether the function changes it."""
        if tensor.requires_grad and tensor.is_leaf:
            self.gradients[id(tensor)] = tensor.grad

    def restore_gradients(self) -> bool:
        """Undo changes of ``.grad`` outside, and say whether there were any."""
        changed = False
        for identity, before in self.gradients.items():
            tensor = self.outside[identity][0]
            if tensor.grad is not before:
                tensor.grad = before
                changed = True
        return changed

    def _check_outside(self, tensor: torch.Tensor) -> None:
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            self.refuse("only dense tensors on the CPU can be captured")
        if tensor.requires_grad and not self.constant_closures:
            self.refuse(
                "a tensor from outside that requires a gradient is neither an input nor declared constant"
            )
        memory = tensor.untyped_storage().data_ptr()
        for each in self.lifted:
            lifted = self.outside[each][0]
            if memory and lifted.untyped_storage().data_ptr() == memory:
                self.refuse("a view, made outside, of a tensor that is an input is used")

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
        is_constant = all(view.storage.value is None for view in views)
        if op.base in masks.INDEXING and not is_constant and masks.has_mask(args[1]):
            args = (args[0], masks.without_constant_masks(self, args[1]), *args[2:])
            if not op.mutated and masks.has_mask(args[1]):
                if op.base in ("index", "_unsafe_index"):
                    self.refuse("the result's shape depends on a value that depends on the inputs", op.name)
                with self:
                    return masks.put_by_mask(self, op.name, args[0], args[1], args[2], any(args[3:]))
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
        decomposition = DECOMPOSITIONS.get(func)
        if decomposition is not None:
            with self:
                return decomposition(*args, **kwargs)
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
                if self.frame.parent is not None and item.requires_grad:
                    self._note_closure(item)
            elif type(item) in (list, tuple):
                self._collect(item, found)

    def home(self, tensor: torch.Tensor) -> Frame:
        return tensor.home if type(tensor) is Traced else self.root

    def _note_closure(self, tensor: torch.Tensor) -> None:
        home, frame = self.home(tensor), self.frame
        while frame is not home and frame.parent is not None:
            frame.closed[id(tensor)] = tensor
            frame = frame.parent

    def substitute(self, tensor: torch.Tensor, frame: Frame | None = None) -> torch.Tensor:
        """Return the tensor that stands for one from outside in a differentiable region, or itself.

        The gradient of a region is the partial derivative by what it closes over, so that these must be
        leaves of the region's own graph.
        """
        frame = frame or self.frame
        if frame.parent is None or not tensor.requires_grad or self.home(tensor) is frame:
            return tensor
        tensor = self.substitute(tensor, frame.parent)
        if not frame.differentiable or not tensor.is_floating_point():
            return tensor
        known = frame.leaves.get(id(tensor))
        if known is None:
            view = self.view_of(tensor)
            if view.is_constant:
                return tensor
            leaf = Traced(view, frame, self.refuse).requires_grad_()
            known = frame.leaves[id(tensor)] = tensor, leaf  # type: ignore[assignment]
        return known[1]

    def has_live_gradients(self) -> bool:
        """Say whether a tensor that was made to require a gradient is still alive."""
        self.grad_leaves = [ref for ref in self.grad_leaves if ref() is not None]
        return bool(self.grad_leaves)

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
        if concrete.layout != torch.strided:
            self.refuse("only dense tensors on the CPU can be captured")
        if value is not None:
            with torch._C._DisableTorchDispatch():
                make_harmless(concrete)
        return self.traced(View(Storage(self.frame, value), concrete))

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
            return type(result)(
                self.wrap(None, each) if isinstance(each, torch.Tensor) else each for each in result
            )
        return result

    def _record(self, op: Operation, args: Any, kwargs: Any, result: Any) -> Any:
        flat = [result] if isinstance(result, torch.Tensor) else result
        if not isinstance(flat, (tuple, list)) or not all(isinstance(each, torch.Tensor) for each in flat):
            self.refuse("the operation returns something other than tensors", op.name)
        outputs = self.emit(
            op.name,
            tuple(self.symbolic(each) for each in args),
            {name: self.symbolic(each) for name, each in kwargs.items()},
            list(flat),
        )
        wrapped = [self.wrap(value, each) for value, each in zip(outputs, flat, strict=True)]
        if "linalg" in op.base:
            for each in flat:
                if each.dtype == torch.int32:
                    each.fill_(1)  # a pivot
        return wrapped[0] if isinstance(result, torch.Tensor) else type(result)(wrapped)

    def _mutate(self, op: Operation, func: Any, args: Any, kwargs: Any, is_constant: bool) -> Any:
        if op.mutates_metadata:
            self.refuse("a tensor's own shape or storage is changed in place", op.name)
        if op.mutated_positions != (0,):
            self.refuse("the operation writes to its arguments and has no pure form", op.name)
        if op.base == "detach_":
            return args[0]
        target = self.view_of(args[0])
        if target.storage.protected is not None:
            self.refuse(target.storage.protected, op.name)
        if target.storage.frame is not self.frame:
            self.refuse("a loop or branch writes to a tensor from outside of it", op.name)
        if op.is_reshaping:
            return aliasing.reshape_in_place(self, op, func, args, kwargs)
        if is_constant:
            func(*self._concrete(args), **{name: self._concrete(each) for name, each in kwargs.items()})
            return args[0]
        aliasing.write_in_place(self, op, args, kwargs)
        return args[0]
