"""Stand in for tensors whose values are unknown while a function is captured.

A :class:`Traced` tensor has a shape, a dtype and strides but no readable data, so nothing can be baked in
by reading it. What it stands for is a :class:`View` of a :class:`Storage`: views of one storage see each
other's writes, which is how in-place operations become pure ones. A storage that does not depend on the
inputs is *constant* and holds real numbers, until a traced value is written into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch

from ember.engine.program import Value


class Storage:
    """Memory that one or more views share: a constant tensor, or a sequence of program values."""

    __slots__ = ("frame", "is_part", "protected", "value", "version")

    def __init__(self, frame: Any, value: Value | None, protected: str | None = None) -> None:
        self.frame = frame
        self.value = value  # None as long as the storage is constant
        self.version = 0
        self.is_part = False  # of an example's larger memory
        self.protected = protected  # why it must not be written to, if it must not


class View:
    """A window on a storage: the operation that makes it from its parent view (None at the root)."""

    __slots__ = ("args", "cached", "concrete", "kwargs", "op", "parent", "storage")

    def __init__(
        self,
        storage: Storage,
        concrete: torch.Tensor,
        parent: View | None = None,
        op: str = "",
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.storage = storage
        self.parent = parent
        self.op = op
        self.args = args  # those after the tensor
        self.kwargs = kwargs or {}
        # A real tensor of the same geometry: the constant itself, or memory whose contents mean nothing.
        self.concrete = concrete
        self.cached: tuple[int, Any, Value] | None = None  # version of the storage, frame, value

    @property
    def is_constant(self) -> bool:
        return self.storage.value is None

    def root(self) -> View:
        view = self
        while view.parent is not None:
            view = view.parent
        return view


Refuse = Callable[..., NoReturn]


class Traced(torch.Tensor):
    """A tensor without data that belongs to a capture in progress."""

    view_of: View
    home: Any  # the frame in which this tensor was made
    refuse: Refuse

    @staticmethod
    def __new__(cls: type, view: View, home: Any, refuse: Refuse) -> Traced:
        concrete = view.concrete
        self: Any = torch.Tensor._make_wrapper_subclass(
            cls,
            concrete.size(),
            strides=concrete.stride(),
            storage_offset=concrete.storage_offset(),
            dtype=concrete.dtype,
            device=concrete.device,
        )
        self.view_of = view
        self.home = home
        self.refuse = refuse
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # Reached only when the recording mode is not active.
        for each in args:
            if isinstance(each, Traced):
                each.refuse("a captured value is used outside the capture", op=str(func))
        raise RuntimeError(f"a captured value reached {func} outside the capture")

    def _constant(self, action: str) -> torch.Tensor:
        if not self.view_of.is_constant:
            self.refuse(f"{action} reads a value that depends on the inputs")
        # Below the modes, so that a plain tensor comes out.
        with torch._C._DisableTorchDispatch():
            return self.view_of.concrete.clone()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        return self._constant("numpy()").numpy(*args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self._constant("conversion to a numpy array").__array__(*args, **kwargs)

    def tolist(self) -> Any:
        return self._constant("tolist()").tolist()

    def data_ptr(self) -> int:
        self.refuse("data_ptr() asks for the memory of a captured value")

    def untyped_storage(self) -> Any:
        self.refuse("untyped_storage() asks for the memory of a captured value")

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        return self._constant("conversion to DLPack").__dlpack__(*args, **kwargs)

    def __deepcopy__(self, memo: Any) -> Traced:
        return self.detach().clone()  # type: ignore[return-value]

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.refuse("a captured value cannot be pickled")

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        kind = str(self.dtype).removeprefix("torch.")
        return f"traced({kind}, shape={tuple(self.shape)})"
