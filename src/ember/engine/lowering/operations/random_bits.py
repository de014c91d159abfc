"""Lower the counter-based generator of :mod:`ember.engine.random`, bit for bit the same."""

from __future__ import annotations

from .. import conditions
from ..builder import Builder, operation
from ..elements import Reg, const
from ..index import ZERO, Linear
from ..kernel import Kernel
from ..tensors import Index, Tensor

_ROTATIONS = (16, 42, 12, 31, 16, 32, 24, 21)
_PARITY = 0x1BD11BDAA9FC1A22
_FOLD = 1


def _rotate(k: Kernel, x: Reg, amount: int) -> Reg:
    left = k.binary("shl", x, const(amount, "i64"))
    return k.binary("or", left, k.binary("lshr", x, const(64 - amount, "i64")))


def threefry(k: Kernel, key: tuple[Reg, Reg], counter: Reg, word: int) -> tuple[Reg, Reg]:
    """Encrypt the block ``(counter, word)`` under ``key``."""
    k0, k1 = key
    k2 = k.binary("xor", k.binary("xor", k0, k1), const(_PARITY, "i64"))
    schedule = (k0, k1, k2)
    x0, x1 = k.add(counter, k0), k.add(k1, const(word, "i64"))
    for group in range(5):
        for rotation in _ROTATIONS[:4] if group % 2 == 0 else _ROTATIONS[4:]:
            x0 = k.add(x0, x1)
            x1 = k.binary("xor", _rotate(k, x1, rotation), x0)
        x0 = k.add(x0, schedule[(group + 1) % 3])
        x1 = k.add(x1, k.add(schedule[(group + 2) % 3], const(group + 1, "i64")))
    return x0, x1


def _words(k: Kernel, key: Tensor) -> tuple[Reg, Reg]:
    return k.read(key, (ZERO,)), k.read(key, (Linear(1),))


@operation("ember.random_bits.default")
def random_bits(b: Builder, key: Tensor, num: int, stream: int = 0) -> Tensor:
    """Make ``num`` words of a stream."""
    half = (num + 1) // 2
    # Both words of a block are computed for each element; for larger requests once, into memory.
    if num <= 16:
        return b.map(
            (num,), "i64", [(key, False)], lambda k, index: _element(k, key, index, half, stream), 150
        )
    words = b.map((2, half), "i64", [(key, False)], lambda k, index: _block_word(k, key, index, stream), 150)
    flat = b.reshape(words, (2 * half,))
    return flat if num == 2 * half else b.view(flat, (num,), lambda index: index)


def _block_word(k: Kernel, key: Tensor, index: Index, stream: int) -> Reg:
    row, column = index
    x0, x1 = threefry(k, _words(k, key), k.index_value(column), stream)
    return k.select(conditions.at_least(k, row, 1), x1, x0)


def _element(k: Kernel, key: Tensor, index: Index, half: int, stream: int) -> Reg:
    second = conditions.at_least(k, index[0], half)
    place = k.index_value(index[0])
    counter = k.select(second, k.sub(place, const(half, "i64")), place)
    x0, x1 = threefry(k, _words(k, key), counter, stream)
    return k.select(second, x1, x0)


@operation("ember.fold_in.default")
def _fold_in(b: Builder, key: Tensor, data: Tensor) -> Tensor:
    def emit(k: Kernel, index: Index) -> Reg:
        counter = k.convert(k.read(data, tuple(ZERO for _ in data.shape)), "i64")
        x0, x1 = threefry(k, _words(k, key), counter, _FOLD)
        return k.select(conditions.at_least(k, index[0], 1), x1, x0)

    return b.map((2,), "i64", [(key, False), (data, False)], emit, 150)
