"""Emit updates of memory at computed places."""

from __future__ import annotations

from . import access
from . import index as ix
from .elements import Reg
from .index import Linear
from .kernel import Kernel
from .loops import pointwise_loop
from .stages import Scatter
from .tensors import Index, Tensor, memory_of


def copy_base(k: Kernel, stage: Scatter) -> None:
    output, base = stage.outputs[0], stage.base
    if memory_of(output) is memory_of(base):
        return
    members, k.members = k.members, set()
    with k.scope():
        pointwise_loop(k, output.shape, lambda index: k.write(output, index, k.read(base, index)))
    k.members = members


def load_now(k: Kernel, tensor: Tensor, index: Index) -> Reg:
    """Load from memory that changes, without remembering the value."""
    return k.load_element(tensor, index)


def scatter_element(k: Kernel, stage: Scatter, index: Index) -> None:
    """Emit the update of one iteration, lane by lane where places may coincide."""
    output = stage.outputs[0]
    place, value, valid = stage.place(k, index)
    position = ix.ravel(place, output.shape)
    lane_terms = [(var, c) for var, c in position.terms if var.lanes > 1]
    consecutive, _, _ = k.pattern(position)
    iteration_lanes = max((var.lanes for form in index for var, _ in form.terms), default=1)
    mask, guard = k.mask, k.guard
    if valid is not None and valid.const is None and valid.lanes > 1:
        k.mask = k.both(mask, valid)
    uniform_skip = valid is not None and valid.const is None and valid.lanes == 1
    if valid is not None and valid.const is False:
        return
    done = None
    if uniform_skip and valid is not None:
        inside, done = k.label("valid"), k.label("after")
        k.branch(valid, inside, done)
        k.start(inside)
    with k.scope():
        if consecutive or (iteration_lanes == 1 and not lane_terms):
            if stage.combine is not None:
                value = stage.combine(k, load_now(k, output, place), value)
            k.write(output, place, value)
        else:
            _scatter_lanes(k, stage, position, value, iteration_lanes)
    k.mask, k.guard = mask, guard
    if done is not None:
        k.jump(done)
        k.start(done)


def _scatter_lanes(k: Kernel, stage: Scatter, position: Linear, value: Reg, lanes: int) -> None:
    """Update one lane after another; inactive lanes write to a spare cell on the stack."""
    output = stage.outputs[0]
    places = k.splat(k.index_value(position), lanes)
    values = k.splat(value, lanes)
    base = k.pointer(output)
    addresses = access.address(k, base, output.kind, places)
    full = f"<{lanes} x ptr>"
    if k.mask is not None:
        spare = k.alloca(output.kind)
        splat = k.pure(f"insertelement {full} poison, ptr {spare}, i64 0", "i64", lanes).text
        splat = k.pure(
            f"shufflevector {full} {splat}, {full} poison, <{lanes} x i32> zeroinitializer", "i64", lanes
        ).text
        mask = k.splat(k.mask, lanes).text
        addresses = k.pure(
            f"select <{lanes} x i1> {mask}, {full} {addresses}, {full} {splat}", "i64", lanes
        ).text
    for lane in range(lanes):
        address = k.pure(f"extractelement {full} {addresses}, i64 {lane}", "i64").text
        element = k.extract(values, lane)
        if stage.combine is not None:
            element = stage.combine(k, access.load(k, address, output.kind, 1, None, False), element)
        access.store(k, address, element, 1, None)
