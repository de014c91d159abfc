"""Emit loops whose bounds are known only when they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .elements import Reg
from .text import Text


@contextmanager
def counting(t: Text, first: Reg, stop: Reg, step: int) -> Iterator[Reg]:
    """Run what is emitted inside for first, first + step, … < stop; maybe never."""
    head, inside, latch, done = t.label("rows"), t.label("row"), t.label("latch"), t.label("done")
    counter, following = t.name(), t.name()
    before = t.block
    t.jump(head)
    t.start(head)
    t.line(f"{counter} = phi i64 [ {first.text}, %{before} ], [ {following}, %{latch} ]")
    more = t.fresh(f"icmp slt i64 {counter}, {stop.text}", "i1")
    t.branch(more, inside, done)
    t.start(inside)
    with t.scope():
        yield Reg(counter, "i64")
    t.jump(latch)
    t.start(latch)
    t.line(f"{following} = add nuw nsw i64 {counter}, {step}")
    t.jump(head)
    t.start(done)
