"""Ask for memory before it is read, so that it comes while other things are computed."""

from __future__ import annotations

from . import access
from .elements import BYTES
from .index import Linear
from .kernel import Kernel
from .tensors import Tensor

LINE = 64  # bytes that memory delivers at once
MOST_LINES = 128  # the machine keeps track of no more


def prefetch_rows(k: Kernel, tensor: Tensor, row: Linear, count: int) -> None:
    """Ask for ``count`` rows of a tensor, from the first lane's on; they need not exist."""
    width = tensor.numel // tensor.shape[0]
    _, first, _ = k.pattern(row) if count > 1 else (False, row, 1)
    num_bytes = count * width * BYTES[tensor.kind]
    if num_bytes > MOST_LINES * LINE:
        return
    place = access.address(k, k.pointer(tensor), tensor.kind, k.index_value(first.scale(width)))
    name = k.module.declare("llvm.prefetch.p0", "void %s(ptr, i32, i32, i32)")
    for line in range(0, num_bytes, LINE):
        address = k.pure(f"getelementptr i8, ptr {place}, i64 {line}", "i64").text
        k.line(f"call void @{name}(ptr {address}, i32 0, i32 3, i32 1)")
