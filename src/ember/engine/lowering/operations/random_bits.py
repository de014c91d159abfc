"""Lower the counter-based generator of :mod:`ember.engine.random`, bit for bit the same."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .. import conditions, mathematics
from ..builder import Builder, operation
from ..elements import Reg, const
from ..index import ZERO, Linear
from ..kernel import Kernel
from ..loops import pointwise_loop
from ..stages import Extern
from ..tensors import Index, Tensor
from ..threefry import threefry, uniform

_FOLD = 1


def key_words(k: Kernel, key: Tensor) -> tuple[Reg, Reg]:
    """Read a key."""
    return k.read(key, (ZERO,)), k.read(key, (Linear(1),))


@operation("ember.random_bits.default")
def random_bits(b: Builder, key: Tensor, num: int, stream: int = 0) -> Tensor:
    """Make ``num`` words of a stream."""
    half = (num + 1) // 2
    # In small requests each element takes a block of its own; in larger ones both words of a block are kept.
    if num <= 16:
        return b.map(
            (num,), "i64", [(key, False)], lambda k, index: _element(k, key, index, half, stream), 150
        )
    words = b.new((2, half), "i64")

    def block(k: Kernel, index: Index) -> None:
        pair = threefry(k, key_words(k, key), k.index_value(index[0]), const(stream, "i64"))
        for row, word in enumerate(pair):
            k.write(words, (Linear(row), *index), word)

    b.add(Extern([key], [], [words], lambda k: pointwise_loop(k, (half,), lambda index: block(k, index))))
    flat = b.reshape(words, (2 * half,))
    return flat if num == 2 * half else b.view(flat, (num,), lambda index: index)


def _element(k: Kernel, key: Tensor, index: Index, half: int, stream: int) -> Reg:
    second = conditions.at_least(k, index[0], half)
    place = k.index_value(index[0])
    counter = k.select(second, k.sub(place, const(half, "i64")), place)
    x0, x1 = threefry(k, key_words(k, key), counter, const(stream, "i64"))
    return k.select(second, x1, x0)


@operation("ember.uniform.default")
def _uniform(b: Builder, key: Tensor, shape: Sequence[int], digits: int = 52, stream: int = 0) -> Tensor:
    words = b.reshape(random_bits(b, key, prod(shape), stream), shape)
    return b.pointwise(lambda k, word: uniform(k, word, digits), words, compute="i64", kind="f64", cost=4)


@operation("ember.single_quantile.default")
def _single_quantile(b: Builder, probability: Tensor) -> Tensor:
    def quantile(k: Kernel, u: Reg) -> Reg:
        return mathematics.call(k, "ndtri.f32", u, "f32")

    return b.pointwise(quantile, probability, compute="f64", kind="f32", cost=60)


@operation("ember.fold_in.default")
def _fold_in(b: Builder, key: Tensor, data: Tensor) -> Tensor:
    def emit(k: Kernel, index: Index) -> Reg:
        counter = k.convert(k.read(data, tuple(ZERO for _ in data.shape)), "i64")
        x0, x1 = threefry(k, key_words(k, key), counter, const(_FOLD, "i64"))
        return k.select(conditions.at_least(k, index[0], 1), x1, x0)

    return b.map((2,), "i64", [(key, False), (data, False)], emit, 150)
