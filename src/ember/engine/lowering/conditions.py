"""Emit conditions on indices, decided at once where the ranges of the indices allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .elements import Reg, const
from .index import Linear

if TYPE_CHECKING:
    from .kernel import Kernel


def at_least(k: Kernel, form: Linear, bound: int) -> Reg:
    """Emit ``form >= bound``, decided at once where the ranges allow."""
    low, high = form.range()
    if low >= bound:
        return const(True, "i1")
    if high < bound:
        return const(False, "i1")
    return k.compare("ge", k.index_value(form), const(bound, "i64"))


def within(k: Kernel, form: Linear, low: int, high: int) -> Reg:
    """Emit ``low <= form < high``."""
    return conjunction(k, at_least(k, form, low), negation(k, at_least(k, form, high)))


def negation(k: Kernel, a: Reg) -> Reg:
    """Negate a bool, known ones at once."""
    return const(not a.const, "i1") if a.const is not None else k.invert(a)


def conjunction(k: Kernel, a: Reg, b: Reg) -> Reg:
    """Emit ``a and b``, known ones at once."""
    if a.const is not None:
        return b if a.const else a
    if b.const is not None:
        return a if b.const else b
    return k.binary("and", a, b)
