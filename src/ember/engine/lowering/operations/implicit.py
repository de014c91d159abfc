"""Lower the derivatives of gamma and beta draws, as in :mod:`ember.engine.randomness.implicit`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ember.engine.randomness.implicit import LARGE, MOST_TERMS, PRECISION

from .. import functions, mathematics, rejection
from ..builder import Builder, operation
from ..elements import Reg
from ..kernel import Kernel
from ..mathematics import f64
from ..tensors import Tensor
from ..text import Text


def _log(t: Text, x: Reg) -> Reg:
    return mathematics.call(t, "log", x)


def _digamma(t: Text, x: Reg) -> Reg:
    return mathematics.call(t, "digamma", x)


def _plus(t: Text, x: Reg, number: float) -> Reg:
    return t.add(x, f64(number))


def _times(t: Text, x: Reg, number: float) -> Reg:
    return t.mul(x, f64(number))


def _sum_series(
    t: Text,
    factor: Reg,
    step: Callable[[Reg, Reg, Reg], tuple[Reg, Reg]],
    shrinks: Callable[[Reg], Reg],
) -> Reg:
    """Add up terms times factors, from 1 times ``factor``, until they no longer count.

    :param step: (number of the term, term, factor) → the next term and factor.
    :param shrinks: number of the term → whether terms become smaller from there on.
    """

    def body(turn: Reg, flags: Reg, values: list[Reg]) -> tuple[Reg, list[Reg]]:
        n = t.convert(turn, "f64")
        term, factor = step(n, values[0], values[1])
        total = t.select(flags, t.add(values[2], t.mul(term, factor)), values[2])
        size = t.mul(term, _plus(t, t.unary("fabs", factor), 1.0))
        small = t.compare("le", size, _times(t, t.unary("fabs", total), PRECISION))
        done = t.binary("and", small, shrinks(n))
        more = t.binary("and", t.invert(done), t.compare("lt", n, f64(MOST_TERMS)))
        return t.binary("and", flags, more), [term, factor, total]

    finite = t.compare("lt", t.unary("fabs", factor), f64(math.inf))
    return rejection.repeat(t, finite, [f64(1.0), factor, factor], body)[2]


def _gamma_grad(t: Text, _: Sequence[Reg], given: Sequence[Reg]) -> Reg:
    large = t.compare("ge", given[0], f64(LARGE))
    a, x = (t.select(large, f64(1.0), each) for each in given)
    edge = t.add(_plus(t, a, 20.0), _times(t, t.unary("sqrt", a), 9.0))
    far = t.compare("gt", x, edge)
    distance = t.sub(f64(1.0), t.div(_plus(t, a, -1.0), x))
    tail = t.div(t.sub(_log(t, x), _digamma(t, a)), distance)
    tail = t.add(tail, t.div(f64(1.0), t.mul(t.mul(x, distance), distance)))
    x = t.select(far, a, x)

    def step(n: Reg, term: Reg, factor: Reg) -> tuple[Reg, Reg]:
        inverse = t.div(f64(1.0), t.add(a, n))
        return t.mul(t.mul(term, x), inverse), t.add(factor, inverse)

    factor = t.sub(_digamma(t, _plus(t, a, 1.0)), _log(t, x))
    total = _sum_series(t, factor, step, lambda n: t.compare("lt", x, t.add(a, n)))
    result = t.select(far, tail, t.mul(t.div(x, a), total))
    return t.select(large, _expansion(t, *given), result)


def _expansion(t: Text, a: Reg, x: Reg) -> Reg:
    root = t.unary("sqrt", a)
    target = t.div(t.sub(x, a), root)

    def quartic(square: Reg) -> Reg:
        return _plus(t, t.mul(square, _plus(t, _times(t, square, 3.0), 7.0)), -16.0)

    z = target
    for _ in range(3):
        square = t.mul(z, z)
        value = t.add(z, t.div(_plus(t, square, -1.0), _times(t, root, 3.0)))
        value = t.add(value, t.div(t.mul(z, _plus(t, square, -7.0)), _times(t, a, 36.0)))
        value = t.sub(value, t.div(quartic(square), t.mul(_times(t, a, 810.0), root)))
        slope = t.add(f64(1.0), t.div(_times(t, z, 2.0 / 3.0), root))
        slope = t.add(slope, t.div(_plus(t, square, -7.0 / 3.0), _times(t, a, 12.0)))
        z = t.sub(z, t.div(t.sub(value, target), slope))
    square = t.mul(z, z)
    result = t.add(f64(1.0), t.div(z, _times(t, root, 2.0)))
    result = t.sub(result, t.div(t.mul(z, _plus(t, square, -7.0)), t.mul(_times(t, a, 72.0), root)))
    return t.add(result, t.div(quartic(square), t.mul(_times(t, a, 810.0), a)))


def _dirichlet_grad(t: Text, _: Sequence[Reg], given: Sequence[Reg]) -> Reg:
    x, a, s = given
    low = t.compare("le", x, f64(0.5))
    z = t.select(low, x, t.sub(f64(1.0), x))
    lead = t.select(low, a, t.sub(s, a))
    log_x, psi = _log(t, x), _digamma(t, s)
    # At a or a + 1, so that one digamma does for both series.
    own = _digamma(t, t.select(low, _plus(t, a, 1.0), a))
    difference = t.sub(t.sub(own, psi), log_x)
    factor = t.select(low, difference, t.neg(difference))
    sign, keep = t.select(low, f64(-1.0), f64(1.0)), t.select(low, f64(1.0), f64(0.0))

    def step(n: Reg, term: Reg, factor: Reg) -> tuple[Reg, Reg]:
        inverse = t.div(f64(1.0), t.add(lead, n))
        before = t.add(s, _plus(t, n, -1.0))
        change = t.add(t.mul(keep, inverse), t.div(sign, before))
        return t.mul(t.mul(t.mul(term, z), before), inverse), t.add(factor, change)

    def shrinks(n: Reg) -> Reg:
        return t.compare("lt", t.mul(z, t.add(s, n)), _plus(t, t.add(lead, n), 1.0))

    return t.mul(t.div(x, lead), _sum_series(t, factor, step, shrinks))


def _register(name: str, emit: functions.Emit) -> None:
    def apply(k: Kernel, *given: Reg) -> Reg:
        wide = [k.convert(each, "f64") for each in given]
        return k.convert(functions.call(k, name, emit, [], wide), given[0].kind)

    @operation(f"ember.{name}.default")
    def lower(b: Builder, *given: Tensor) -> Tensor:
        return b.pointwise(apply, *given, compute=b.out_kind(), cost=600)


_register("gamma_grad", _gamma_grad)
_register("dirichlet_grad", _dirichlet_grad)
