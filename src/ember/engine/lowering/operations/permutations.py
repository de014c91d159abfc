"""Lower random permutations: the shuffle of Fisher and Yates, on a table of the places that it moved."""

from __future__ import annotations

from .. import loops
from ..builder import Builder, operation
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..stages import Extern
from ..tensors import Index, Tensor
from .random_bits import random_bits

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio spreads keys evenly (Knuth, volume 3, 6.4)
_FREE = -1


@operation("ember.permutation.default")
def _permutation(b: Builder, key: Tensor, n: int, count: int, stream: int = 0) -> Tensor:
    out = b.new((count,), "i64")
    if count == 0:
        return out
    words = random_bits(b, key, 2 * count, stream)  # of which the first half is used
    size = 1 << max(2 * count - 1, 1).bit_length()
    direct = size >= n or n <= 4 * size  # then every place has an entry of its own
    if direct:
        size = 1 << max(n - 1, 1).bit_length()
    places, contents = b.new((size,), "i64"), b.new((size,), "i64")
    table = _Table(places, contents, size, direct)

    def run(k: Kernel) -> None:
        def clear(index: Index) -> None:
            k.write(places, index, k.splat(const(_FREE, "i64"), max(v.lanes for v, _ in index[0].terms)))

        loops.pointwise_loop(k, (size,), clear)
        loops.counted(k, 0, count, 1, 1, lambda turn: step(k, turn), count)

    def step(k: Kernel, turn: Linear) -> None:
        place = k.index_value(turn)
        left = k.sub(const(n, "i64"), place)
        other = k.add(place, _high_word(k, k.load_element(words, (turn,)), left))
        slot, drawn = table.find(k, other)
        _, moved = table.find(k, place)
        k.write(out, (turn,), drawn)
        k.write(places, (slot,), other)
        k.write(contents, (slot,), moved)

    b.add(Extern([], [words], [out, places, contents], run))
    return out


def _high_word(k: Kernel, word: Reg, factor: Reg) -> Reg:
    """Return the high 64 bits of a product of which one factor has 32 bits at most."""
    half = const(32, "i64")
    low = k.binary("lshr", k.mul(k.binary("and", word, const(0xFFFFFFFF, "i64")), factor), half)
    return k.binary("lshr", k.add(k.mul(k.binary("lshr", word, half), factor), low), half)


class _Table:
    """A hash table in memory, from places to what was moved there."""

    def __init__(self, places: Tensor, contents: Tensor, size: int, direct: bool) -> None:
        self.places, self.contents = places, contents
        self.size, self.direct = size, direct

    def find(self, k: Kernel, place: Reg) -> tuple[Linear, Reg]:
        """Return the entry of a place, or the free one for it, and what is at the place."""
        start = place
        if not self.direct:
            spread = k.mul(place, const(_GOLDEN, "i64"))
            start = k.binary("lshr", spread, const(64 - self.size.bit_length() + 1, "i64"))
        head, on, found = k.label("probe"), k.label("next"), k.label("found")
        slot, following, before = k.name(), k.name(), k.block
        k.jump(head)
        k.start(head)
        k.lines.append(f"  {slot} = phi i64 [ {start.text}, %{before} ], [ {following}, %{on} ]")
        entry = k.opaque(Reg(slot, "i64"), 0, self.size - 1)
        there = k.load_element(self.places, (entry,))
        same = k.compare("eq", there, place)
        k.branch(k.binary("or", same, k.compare("eq", there, const(_FREE, "i64"))), found, on)
        k.start(on)
        k.line(f"{following}.up = add i64 {slot}, 1")
        k.line(f"{following} = and i64 {following}.up, {self.size - 1}")
        k.jump(head)
        k.start(found)
        moved = k.load_element(self.contents, (entry,))
        return entry, k.select(same, moved, place)
