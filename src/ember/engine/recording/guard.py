"""Watch the Python side of torch during a capture, for what happens above the dispatcher."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.traced import Traced

_Tensor: Any = torch.Tensor
# Ways to read a tensor's numbers that the dispatcher does not see.
_READS = {
    _Tensor.numpy, _Tensor.tolist, _Tensor.__array__, _Tensor.__dlpack__, _Tensor.__reduce_ex__,
    _Tensor.__deepcopy__, _Tensor.data_ptr, _Tensor.untyped_storage, _Tensor.storage, _Tensor._typed_storage,
    _Tensor.share_memory_,
}  # fmt: skip
# Ways to change a tensor that the dispatcher does not see.
_WRITES = {
    _Tensor.data.__set__: "its data",
    _Tensor.grad.__set__: "its gradient",
    _Tensor.requires_grad.__set__: "whether it requires a gradient",
    _Tensor.requires_grad_: "whether it requires a gradient",
}


class Guard(TorchFunctionMode):
    """Refuses hidden reads and writes, and gives regions their own leaves for what they close over."""

    def __init__(self, recorder: DispatchRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder = self._recorder
        kwargs = kwargs or {}
        if recorder.frame.differentiable:
            args = self._substitute(args)
            kwargs = {name: self._substitute(each) for name, each in kwargs.items()}
        if func in _WRITES:
            return self._write(func, args, kwargs)
        if func in _READS and type(args[0]) is not Traced:
            if id(args[0]) in recorder.lifted:
                recorder.refuse(f"{func.__name__} reads a tensor that is an input")
            # Reading detaches first, which the modes would turn into a tensor without data.
            with torch._C._DisableTorchDispatch():
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _substitute(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return self._recorder.substitute(item)
        if type(item) in (tuple, list):
            return type(item)(self._substitute(each) for each in item)
        return item

    def _write(self, func: Any, args: Any, kwargs: Any) -> Any:
        recorder, tensor = self._recorder, args[0]
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return func(*args, **kwargs)
        if type(tensor) is not Traced:
            recorder.refuse(f"a tensor from outside has {_WRITES[func]} changed")
        if func == _Tensor.data.__set__:
            recorder.refuse("assigning to .data swaps the memory of a captured tensor")
        result = func(*args, **kwargs)
        if tensor.requires_grad:
            import weakref

            recorder.grad_leaves.append(weakref.ref(tensor))
        return result
