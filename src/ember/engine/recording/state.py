"""Keep the state of a capture: frames, what tensors stand for, and what must not be touched."""

from __future__ import annotations

import weakref
from typing import Any, NoReturn

import torch

from ember.engine.program import Node, Value
from ember.engine.recording import aliasing
from ember.engine.recording.frames import Frame
from ember.engine.recording.origins import Origins
from ember.engine.recording.refusal import NotCapturable
from ember.engine.recording.traced import Storage, Traced, View
from ember.errors import user_location


def make_harmless(tensor: torch.Tensor) -> None:
    """Fill a stand-in with valid indices, or numbers in most functions' domains."""
    tensor.fill_(0.5 if tensor.dtype.is_floating_point else 0)


class Recording:
    """A capture in progress, whatever drives it."""

    def __init__(self, where: bool = True, constant_closures: bool = False) -> None:
        self.frame = Frame(None)
        self.owner: dict[Value, Frame] = {}
        self.failure: NotCapturable | None = None
        self.root = self.frame
        self.regions: list[Frame] = []
        self.num_draws = 0
        self.outside: dict[int, tuple[torch.Tensor, View]] = {}
        self.lifted: set[int] = set()
        self.gradients: dict[int, torch.Tensor | None] = {}  # .grad of tensors from outside, before
        self.collecting: set[int] = set()  # lifted tensors whose .grad the function may accumulate
        self.grad_leaves: list[weakref.ref[torch.Tensor]] = []
        self.constant_closures = constant_closures
        self.origins = Origins(where)

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
        self._check_supported(example)
        # Below the modes, since this is not an operation of the function under capture.
        with torch._C._DisableTorchDispatch():
            reach = sum(
                (size - 1) * stride for size, stride in zip(example.shape, example.stride(), strict=True)
            )
            memory = torch.empty(max(reach, 0) + 1, dtype=example.dtype)
            concrete = memory.as_strided(example.size(), example.stride())
            make_harmless(concrete)
            is_part = example.storage_offset() != 0
        value = self.new_value(concrete)
        self.frame.inputs.append(value)
        storage = Storage(self.frame, value, "an input of the function is written to in place")
        storage.is_part = is_part
        return View(storage, concrete)

    def lift(self, tensor: torch.Tensor, writable: bool = False) -> None:
        """Make a tensor from outside an input of the program."""
        view = self._input_view(tensor)
        if writable:
            view.storage.protected = None
        self.outside[id(tensor)] = tensor, view
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

    def collect_gradient(self, tensor: torch.Tensor) -> None:
        """Let the function accumulate the gradient of a lifted tensor, starting from none."""
        self.collecting.add(id(tensor))
        tensor.grad = None

    def restore_gradients(self) -> bool:
        """Undo changes of ``.grad`` outside, and say whether there were any that were not asked for."""
        changed = False
        for identity, before in self.gradients.items():
            tensor = self.outside[identity][0]
            if tensor.grad is not before:
                tensor.grad = before
                changed = changed or identity not in self.collecting
        return changed

    def _check_supported(self, tensor: torch.Tensor) -> None:
        if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
            self.refuse("only dense tensors on the CPU can be captured")
        if tensor.is_complex():
            # Conjugation is a flag that a stand-in does not carry.
            self.refuse("complex numbers are not captured")

    def _check_outside(self, tensor: torch.Tensor) -> None:
        self._check_supported(tensor)
        if tensor.requires_grad and not self.constant_closures:
            self.refuse(
                "a tensor from outside that requires a gradient is neither an input nor declared constant"
            )
        memory = tensor.untyped_storage().data_ptr()
        for each in self.lifted:
            lifted = self.outside[each][0]
            if memory and lifted.untyped_storage().data_ptr() == memory:
                self.refuse("a view, made outside, of a tensor that is an input is used")

    def emit(
        self,
        op: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        results: list[torch.Tensor],
        attributes: dict[str, Any] | None = None,
    ) -> tuple[Value, ...]:
        outputs = tuple(self.new_value(result) for result in results)
        where, site = self.origins.current()
        node = Node(op, args, kwargs, outputs, (), attributes or {}, where, site)
        self.frame.nodes.append(node)
        return outputs

    def concrete(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return self.view_of(item).concrete
        if type(item) in (list, tuple):
            return type(item)(self.concrete(each) for each in item)
        return item

    def symbolic(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return self.read(self.view_of(item))
        if type(item) in (list, tuple):
            return type(item)(self.symbolic(each) for each in item)
        return item

    def wrap(self, value: Value | None, concrete: torch.Tensor) -> Traced:
        self._check_supported(concrete)
        if value is not None:
            with torch._C._DisableTorchDispatch():
                make_harmless(concrete)
        return self.traced(View(Storage(self.frame, value), concrete))

    # -- closures ------------------------------------------------------------------------------------
    def home(self, tensor: torch.Tensor) -> Frame:
        return tensor.home if type(tensor) is Traced else self.root

    def note_closure(self, tensor: torch.Tensor) -> None:
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
            if view.is_constant and not isinstance(tensor, Traced):
                return tensor  # declared constant, so that nobody asks for its gradient
            leaf = Traced(view, frame, self.refuse).requires_grad_()
            known = frame.leaves[id(tensor)] = tensor, leaf
        return known[1]

    def forget_tensors(self) -> None:
        """Let go of all tensors, so that their memory is freed without a search for cycles."""
        for frame in self.regions:
            frame.leaves.clear()
            frame.closed.clear()
        self.outside.clear()
        self.gradients.clear()

    def is_declared_constant(self, tensor: torch.Tensor) -> bool:
        """Say whether a tensor is one from outside that is not an input."""
        return not isinstance(tensor, Traced) and id(tensor) not in self.lifted

    def has_live_gradients(self) -> bool:
        """Say whether a tensor that was made to require a gradient is still alive."""
        self.grad_leaves = [ref for ref in self.grad_leaves if ref() is not None]
        return bool(self.grad_leaves)
