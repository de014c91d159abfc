"""Emit the rounds of the counter-based generator of :mod:`ember.engine.random`."""

from __future__ import annotations

from .elements import Reg, const
from .text import Text

_ROTATIONS = (16, 42, 12, 31, 16, 32, 24, 21)
_PARITY = 0x1BD11BDAA9FC1A22


def _rotate(t: Text, x: Reg, amount: int) -> Reg:
    left = t.binary("shl", x, const(amount, "i64"))
    return t.binary("or", left, t.binary("lshr", x, const(64 - amount, "i64")))


def uniform(t: Text, word: Reg, digits: int = 52) -> Reg:
    """Turn the first ``digits`` of 64 bits into a number of the open interval (0, 1)."""
    # As the digits of a number between 1 and 2.
    kept = t.binary("lshr", word, const(64 - digits, "i64"))
    kept = t.binary("shl", kept, const(52 - digits, "i64")) if digits < 52 else kept
    number = t.bitcast(t.binary("or", kept, const(0x3FF0000000000000, "i64")), "f64")
    return t.add(t.sub(number, const(1.0, "f64")), const(0.5 * 2.0**-digits, "f64"))


def threefry(t: Text, key: tuple[Reg, Reg], counter: Reg, word: Reg) -> tuple[Reg, Reg]:
    """Encrypt the block ``(counter, word)`` under ``key``."""
    k0, k1 = key
    k2 = t.binary("xor", t.binary("xor", k0, k1), const(_PARITY, "i64"))
    schedule = (k0, k1, k2)
    x0, x1 = t.add(counter, k0), t.add(k1, word)
    for group in range(5):
        for rotation in _ROTATIONS[:4] if group % 2 == 0 else _ROTATIONS[4:]:
            x0 = t.add(x0, x1)
            x1 = t.binary("xor", _rotate(t, x1, rotation), x0)
        x0 = t.add(x0, schedule[(group + 1) % 3])
        x1 = t.add(x1, t.add(schedule[(group + 2) % 3], const(group + 1, "i64")))
    return x0, x1
