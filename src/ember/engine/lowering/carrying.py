"""Move the state of a loop: into its memory at the start, and from one iteration to the next."""

from __future__ import annotations

from collections.abc import Sequence

from . import index as ix
from .block import Block
from .kernel import Kernel
from .loops import pointwise_loop
from .tensors import Map, Tensor, memory_of


def copy(k: Kernel, source: Tensor, target: Tensor) -> None:
    """Copy a tensor's elements into the memory of another of the same shape."""
    with k.scope():
        if source.numel == 1:
            zeros = tuple(ix.ZERO for _ in source.shape)
            k.write(target, zeros, k.read(source, zeros))
        else:
            pointwise_loop(k, source.shape, lambda index: k.write(target, index, k.read(source, index)))


def write_carry(k: Kernel, body: Block, targets: Sequence[Tensor]) -> None:
    """Write the block's results to the carry, unless they are there already."""
    enter(k, body.outputs[: len(targets)], targets)


def enter(k: Kernel, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Copy tensors to where they have to be, if they are elsewhere."""
    for source, target in zip(sources, targets, strict=True):
        undefined = isinstance(source, Map) and source.undefined
        if memory_of(source) is memory_of(target) or undefined:
            continue
        if _is_given(source) and _is_given(target):
            _copy_unless_same(k, source, target)
        else:
            copy(k, source, target)


def _is_given(tensor: Tensor) -> bool:
    """Say whether a tensor's memory is the caller's."""
    return not isinstance(tensor, Map) and (memory_of(tensor).storage or ("",))[0] == "table"


def _copy_unless_same(k: Kernel, source: Tensor, target: Tensor) -> None:
    """Copy, unless the caller has given the same memory for both."""
    other, done = k.label("copy"), k.label("entered")
    differ = k.fresh(f"icmp ne ptr {k.pointer(source)}, {k.pointer(target)}", "i1")
    k.branch(differ, other, done)
    k.start(other)
    copy(k, source, target)
    k.jump(done)
    k.start(done)
