"""Write functions that draw by rejection: every lane makes attempts until its own is accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import functions, joining
from .elements import Reg, const
from .mathematics import i64
from .text import Text
from .threefry import threefry, uniform


class Blocks:
    """The uniform numbers of one stream, for the elements in the lanes."""

    def __init__(self, key: tuple[Reg, Reg], stream: Reg, places: Reg) -> None:
        self.key, self.stream, self.places = key, stream, places

    def uniforms(self, t: Text, attempt: Reg) -> tuple[Reg, Reg]:
        """Emit two uniform numbers."""
        word = t.add(self.stream, t.binary("shl", attempt, i64(32)))
        first, second = threefry(t, self.key, self.places, word)
        return uniform(t, first), uniform(t, second)


Draw = Callable[[Text, Blocks, Sequence[Reg]], Reg]
Body = Callable[[Reg, Reg, list[Reg]], tuple[Reg, list[Reg]]]


def repeat(t: Text, pending: Reg, values: Sequence[Reg], body: Body) -> list[Reg]:
    """Run ``body(turn, pending, values) -> (pending, values)`` while some lane is pending.

    Turns count from 1.
    """
    lanes = pending.lanes
    head, inside, done = t.label("attempts"), t.label("attempt"), t.label("drawn")
    before = t.block
    wide = [t.splat(each, lanes) for each in values]
    t.jump(head)
    t.start(head)
    turn, turn_next = joining.open_phi(t, const(1, "i64"), before)
    flags, flags_next = joining.open_phi(t, pending, before)
    phis = [joining.open_phi(t, each, before) for each in wide]
    t.branch(joining.any_lane(t, flags), inside, done)
    t.start(inside)
    with t.scope():
        more, following = body(turn, flags, [reg for reg, _ in phis])
        joining.close_phi(t, turn_next, t.add(turn, i64(1)), head)
        joining.close_phi(t, flags_next, more, head)
        for (_, name), value in zip(phis, following, strict=True):
            joining.close_phi(t, name, t.splat(value, lanes), head)
    t.jump(head)
    t.start(done)
    return [reg for reg, _ in phis]


def attempt(
    t: Text, blocks: Blocks, pending: Reg, start: Reg, once: Callable[[Reg, Reg], tuple[Reg, Reg]]
) -> Reg:
    """Give pending lanes the first value of ``once(u, v) -> (value, accepted)`` that is accepted."""

    def body(turn: Reg, flags: Reg, values: list[Reg]) -> tuple[Reg, list[Reg]]:
        value, accepted = once(*blocks.uniforms(t, turn))
        taken = t.binary("and", flags, accepted)
        return t.binary("and", flags, t.invert(accepted)), [t.select(taken, value, values[0])]

    return repeat(t, pending, [start], body)[0]


def call(t: Text, name: str, draw: Draw, key: tuple[Reg, Reg], stream: int, place: Reg, *given: Reg) -> Reg:
    """Call a drawing function of float64 parameters."""

    def emit(body: Text, uniform: Sequence[Reg], varying: Sequence[Reg]) -> Reg:
        first, second, word = uniform
        return draw(body, Blocks((first, second), word, varying[0]), varying[1:])

    return functions.call(t, name, emit, [*key, const(stream, "i64")], [place, *given])
