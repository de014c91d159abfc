"""Calculate with indices: linear forms over loop variables, simplified by the variables' ranges."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_serial = itertools.count()


class Var:
    """An integer in a loop: the loop's counter, or a value computed from other indices.

    :ivar base: an SSA register, a constant, or None while nothing has been emitted.
    :ivar low, high: inclusive range of the values of active lanes.
    :ivar lanes: number of lanes; lane ``l`` of a counter holds ``base + l``.
    :ivar origin: ``("div" | "mod", form, divisor)`` for quotients and remainders.
    :ivar vector: the register that holds all lanes of a general (non-consecutive) variable.
    """

    __slots__ = ("base", "high", "lanes", "low", "origin", "serial", "vector")

    def __init__(
        self,
        base: str | int | None,
        low: int,
        high: int,
        lanes: int = 1,
        origin: tuple[str, Linear, int] | None = None,
        vector: str | None = None,
    ) -> None:
        self.base = base
        self.low = low
        self.high = high
        self.lanes = lanes
        self.origin = origin
        self.vector = vector
        self.serial = next(_serial)


class Linear:
    """The integer ``const + sum(coefficient * variable)``; immutable, compared by value."""

    __slots__ = ("const", "key", "terms")

    def __init__(self, const: int, terms: tuple[tuple[Var, int], ...] = ()) -> None:
        self.const = const
        self.terms = terms
        self.key = (const, tuple((var.serial, coefficient) for var, coefficient in terms))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Linear) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def range(self) -> tuple[int, int]:
        """Return the smallest and largest possible values."""
        low = high = self.const
        for var, coefficient in self.terms:
            first, last = coefficient * var.low, coefficient * var.high
            low += min(first, last)
            high += max(first, last)
        return low, high

    def shift(self, amount: int) -> Linear:
        """Add a constant."""
        return self if amount == 0 else Linear(self.const + amount, self.terms)

    def scale(self, factor: int) -> Linear:
        """Multiply by a constant."""
        if factor == 1:
            return self
        if factor == 0:
            return ZERO
        return Linear(self.const * factor, tuple((var, c * factor) for var, c in self.terms))


ZERO = Linear(0)


def of(var: Var) -> Linear:
    """Return the linear form of one variable."""
    return Linear(0, ((var, 1),))


def add(*forms: Linear) -> Linear:
    """Add linear forms, joining quotients with their remainders."""
    forms = tuple(form for form in forms if form.terms or form.const)
    if not forms:
        return ZERO
    if len(forms) == 1:
        return forms[0]
    const = 0
    merged: dict[Var, int] = {}
    for form in forms:
        const += form.const
        for var, coefficient in form.terms:
            merged[var] = merged.get(var, 0) + coefficient
    for remainder in [var for var in merged if var.origin is not None and var.origin[0] == "mod"]:
        coefficient = merged.get(remainder, 0)
        if coefficient == 0 or remainder.origin is None:
            continue
        _, form, divisor = remainder.origin
        for quotient, other in list(merged.items()):
            origin = quotient.origin
            if (
                origin is not None
                and origin[0] == "div"
                and origin[2] == divisor
                and origin[1] == form
                and other == coefficient * divisor
            ):
                del merged[quotient], merged[remainder]
                rest = Linear(const, _sorted(merged))
                return add(rest, form.scale(coefficient))
    return Linear(const, _sorted(merged))


def _sorted(merged: dict[Var, int]) -> tuple[tuple[Var, int], ...]:
    return tuple(sorted(((v, c) for v, c in merged.items() if c), key=lambda term: term[0].serial))


class Divisions:
    """Divide linear forms, handing out the same variable for the same quotient."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Linear, int], Var] = {}

    def divmod(self, form: Linear, divisor: int) -> tuple[Linear, Linear]:
        """Return floor quotient and remainder by a positive constant."""
        if divisor == 1:
            return form, ZERO
        whole: list[tuple[Var, int]] = []
        rest: list[tuple[Var, int]] = []
        for var, coefficient in form.terms:
            if coefficient % divisor == 0:
                whole.append((var, coefficient // divisor))
            else:
                rest.append((var, coefficient))
        quotient, remainder = divmod(form.const, divisor)
        exact = Linear(quotient, tuple(whole))
        left = Linear(remainder, tuple(rest))
        low, high = left.range()
        if low >= 0 and high < divisor:
            return exact, left
        if low // divisor == high // divisor:
            shift = low // divisor
            return exact.shift(shift), left.shift(-shift * divisor)
        div = self._var("div", left, divisor, low // divisor, high // divisor)
        mod = self._var("mod", left, divisor, 0, divisor - 1)
        return add(exact, of(div)), of(mod)

    def _var(self, which: str, form: Linear, divisor: int, low: int, high: int) -> Var:
        key = (which, form, divisor)
        if key not in self._known:
            lanes = max((var.lanes for var, _ in form.terms), default=1)
            self._known[key] = Var(None, low, high, lanes, (which, form, divisor))
        return self._known[key]

    def unravel(self, flat: Linear, shape: Sequence[int]) -> tuple[Linear, ...]:
        """Return the indices of the element at ``flat`` in row-major order."""
        out: list[Linear] = []
        for position in range(len(shape) - 1, -1, -1):
            size = shape[position]
            if size == 1:
                out.append(ZERO)
            elif all(extent == 1 for extent in shape[:position]):
                out.append(flat)
                flat = ZERO
            else:
                flat, remainder = self.divmod(flat, size)
                out.append(remainder)
        return tuple(reversed(out))


def ravel(index: Sequence[Linear], shape: Sequence[int]) -> Linear:
    """Return the row-major position of an index."""
    flat = ZERO
    stride = 1
    for form, size in zip(reversed(index), reversed(shape), strict=True):
        if size != 1:
            flat = add(flat, form.scale(stride))
        stride *= size
    return flat


def mentions(form: Linear, var: Var) -> bool:
    """Say whether a variable occurs in a form, or in the quotients and remainders in it."""
    return any(
        each is var or (each.origin is not None and mentions(each.origin[1], var)) for each, _ in form.terms
    )
