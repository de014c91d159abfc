"""Lower draws by rejection, attempt for attempt those of :mod:`ember.engine.randomness.rejection`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ember.engine.randomness.rejection import INVERTED

from .. import mathematics, rejection
from ..builder import Builder, operation
from ..elements import Reg
from ..foreign import LIBM, external
from ..index import ravel
from ..kernel import Kernel
from ..mathematics import f64, i64
from ..rejection import Blocks
from ..tensors import ANYWHERE, SAME_PLACE, Index, Tensor, broadcast_index
from ..text import Text
from .random_bits import key_words

_COST = 400


def _within(t: Text, x: Reg, low: str) -> Reg:
    """Say whether ``x`` is finite and ``low`` (``gt`` or ``ge``) zero."""
    return t.binary("and", t.compare(low, x, f64(0.0)), t.compare("lt", x, f64(math.inf)))


def _log(t: Text, x: Reg) -> Reg:
    return mathematics.call(t, "log", x)


def _lgamma1(t: Text, x: Reg) -> Reg:
    return mathematics.call(t, "lgamma", t.add(x, f64(1.0)))


def _log_gamma(t: Text, blocks: Blocks, given: Sequence[Reg]) -> Reg:
    (a,) = given
    low = t.compare("lt", a, f64(1.0))
    shape = t.select(low, t.add(a, f64(1.0)), a)
    d = t.sub(shape, f64(1.0 / 3.0))
    c = t.div(f64(1.0), t.unary("sqrt", t.mul(f64(9.0), d)))

    def once(u: Reg, v: Reg) -> tuple[Reg, Reg]:
        z = mathematics.call(t, "ndtri", u)
        root = t.add(f64(1.0), t.mul(c, z))
        log_v = t.mul(f64(3.0), _log(t, root))
        cube = t.mul(t.mul(root, root), root)
        bound = t.mul(d, t.add(t.sub(f64(1.0), cube), log_v))
        bound = t.add(t.mul(t.mul(f64(0.5), z), z), bound)
        return log_v, t.binary("and", t.compare("gt", root, f64(0.0)), t.compare("lt", _log(t, v), bound))

    log_v = rejection.attempt(t, blocks, _within(t, a, "gt"), f64(0.0), once)
    boost, _ = blocks.uniforms(t, i64(0))
    extra = t.select(low, t.div(_log(t, boost), a), f64(0.0))
    result = t.add(t.add(_log(t, d), log_v), extra)
    return t.select(t.compare("ge", a, f64(0.0)), result, f64(math.nan))


def _inverted(t: Text, pending: Reg, u: Reg, first: Reg, scale: Reg, count: Reg | None) -> Reg:
    """Return the smallest k with F(k) >= u; probabilities have the ratio ``scale (count - k + 1) / k``."""

    def body(turn: Reg, flags: Reg, values: list[Reg]) -> tuple[Reg, list[Reg]]:
        probability, total, result = values
        k = t.convert(turn, "f64")
        factor = scale if count is None else t.mul(scale, t.sub(count, t.sub(k, f64(1.0))))
        following = t.select(flags, t.mul(probability, t.div(factor, k)), probability)
        total = t.select(flags, t.add(total, following), total)
        # Far out, rounding may keep the sum below u for ever.
        more = t.binary("and", t.compare("gt", u, total), t.compare("lt", k, f64(200.0)))
        return t.binary("and", flags, more), [following, total, t.select(flags, k, result)]

    start = t.binary("and", pending, t.compare("gt", u, first))
    return rejection.repeat(t, start, [first, first, f64(0.0)], body)[2]


def _poisson(t: Text, blocks: Blocks, given: Sequence[Reg]) -> Reg:
    (mu,) = given
    small, valid = t.compare("lt", mu, f64(INVERTED)), _within(t, mu, "ge")
    u, _ = blocks.uniforms(t, i64(0))
    none = mathematics.call(t, "exp", t.neg(mu))
    result = _inverted(t, t.binary("and", small, valid), u, none, mu, None)
    log_mu = _log(t, mu)
    b = t.add(f64(0.931), t.mul(f64(2.53), t.unary("sqrt", mu)))
    a = t.add(f64(-0.059), t.mul(f64(0.02483), b))
    log_alpha = _log(t, t.add(f64(1.1239), t.div(f64(1.1328), t.sub(b, f64(3.4)))))
    easy = t.sub(f64(0.9277), t.div(f64(3.6224), t.sub(b, f64(2.0))))

    def once(u: Reg, v: Reg) -> tuple[Reg, Reg]:
        us, k = _transformed(t, u, a, b, t.add(mu, f64(0.43)))
        left = t.sub(t.add(_log(t, v), log_alpha), _log(t, _hat(t, us, a, b)))
        negative = t.compare("lt", k, f64(0.0))
        right = t.sub(t.sub(t.mul(k, log_mu), mu), _lgamma1(t, t.select(negative, f64(0.0), k)))
        corner = t.binary("and", t.compare("lt", us, f64(0.013)), t.compare("gt", v, us))
        return k, _accepted(t, us, v, easy, t.binary("or", negative, corner), t.compare("le", left, right))

    result = rejection.attempt(t, blocks, t.binary("and", t.invert(small), valid), result, once)
    return t.select(valid, result, f64(math.nan))


def _transformed(t: Text, u: Reg, a: Reg, b: Reg, centre: Reg) -> tuple[Reg, Reg]:
    """Return the distance from the edges, and the candidate."""
    u = t.sub(u, f64(0.5))
    us = t.sub(f64(0.5), t.unary("fabs", u))
    k = t.add(t.mul(t.add(t.div(t.mul(f64(2.0), a), us), b), u), centre)
    return us, t.unary("floor", k)


def _hat(t: Text, us: Reg, a: Reg, b: Reg) -> Reg:
    return t.add(t.div(a, t.mul(us, us)), b)


def _accepted(t: Text, us: Reg, v: Reg, easy: Reg, outside: Reg, fits: Reg) -> Reg:
    at_once = t.binary("and", t.compare("ge", us, f64(0.07)), t.compare("le", v, easy))
    return t.binary("or", at_once, t.binary("and", t.invert(outside), fits))


def _binomial(t: Text, blocks: Blocks, given: Sequence[Reg]) -> Reg:
    n, prob = given
    valid = t.binary("and", _within(t, n, "ge"), t.compare("ge", prob, f64(0.0)))
    valid = t.binary("and", valid, t.compare("le", prob, f64(1.0)))
    flipped = t.compare("gt", prob, f64(0.5))
    p = t.select(flipped, t.sub(f64(1.0), prob), prob)
    q = t.sub(f64(1.0), p)
    odds, mean = t.div(p, q), t.mul(n, p)
    small = t.compare("lt", mean, f64(INVERTED))
    u, _ = blocks.uniforms(t, i64(0))
    none = mathematics.call(t, "exp", t.mul(n, mathematics.call(t, "log1p", t.neg(p))))
    result = _inverted(t, t.binary("and", small, valid), u, none, odds, n)
    spread = t.unary("sqrt", t.mul(mean, q))
    b = t.add(f64(1.15), t.mul(f64(2.53), spread))
    a = t.add(t.add(f64(-0.0873), t.mul(f64(0.0248), b)), t.mul(f64(0.01), p))
    easy = t.sub(f64(0.92), t.div(f64(4.2), b))
    alpha = t.mul(t.add(f64(2.83), t.div(f64(5.1), b)), spread)
    mode = t.unary("floor", t.mul(t.add(n, f64(1.0)), p))
    peak = t.add(_lgamma1(t, mode), _lgamma1(t, t.sub(n, mode)))
    log_odds = _log(t, odds)

    def once(u: Reg, v: Reg) -> tuple[Reg, Reg]:
        us, k = _transformed(t, u, a, b, t.add(mean, f64(0.5)))
        outside = t.binary("or", t.compare("lt", k, f64(0.0)), t.compare("gt", k, n))
        inside = t.select(outside, f64(0.0), k)
        left = _log(t, t.div(t.mul(v, alpha), _hat(t, us, a, b)))
        ways = t.add(_lgamma1(t, inside), _lgamma1(t, t.sub(n, inside)))
        right = t.add(t.sub(peak, ways), t.mul(t.sub(inside, mode), log_odds))
        return k, _accepted(t, us, v, easy, outside, t.compare("le", left, right))

    result = rejection.attempt(t, blocks, t.binary("and", t.invert(small), valid), result, once)
    result = t.select(flipped, t.sub(n, result), result)
    return t.select(valid, result, f64(math.nan))


def _von_mises(t: Text, blocks: Blocks, given: Sequence[Reg]) -> Reg:
    (kappa,) = given
    valid = _within(t, kappa, "ge")
    square = t.mul(t.mul(f64(4.0), kappa), kappa)
    tau = t.add(f64(1.0), t.unary("sqrt", t.add(f64(1.0), square)))
    width = t.add(tau, t.unary("sqrt", t.mul(f64(2.0), tau)))
    rho = t.div(t.mul(f64(2.0), kappa), width)
    rest = t.sub(f64(1.0), t.mul(rho, rho))
    height = t.mul(t.mul(f64(0.25), width), t.mul(rest, rest))
    narrowing = t.div(t.sub(f64(1.0), rho), t.add(f64(1.0), rho))

    def once(u: Reg, v: Reg) -> tuple[Reg, Reg]:
        half = external(t, LIBM, "tan", t.mul(f64(math.pi), u))
        squared = t.mul(half, half)
        z = t.div(t.sub(f64(1.0), squared), t.add(f64(1.0), squared))
        nearness = t.add(t.add(f64(1.0), t.mul(rho, rho)), t.mul(t.mul(f64(2.0), rho), z))
        c = t.div(height, nearness)
        angle = t.mul(f64(2.0), external(t, LIBM, "atan", t.mul(narrowing, half)))
        left = t.sub(t.add(_log(t, t.div(c, v)), f64(1.0)), c)
        return angle, t.compare("ge", left, f64(0.0))

    result = rejection.attempt(t, blocks, valid, f64(0.0), once)
    return t.select(valid, result, f64(math.nan))


def _register(name: str, draw: rejection.Draw, arity: int) -> None:
    @operation(f"ember.{name}.default")
    def lower(b: Builder, key: Tensor, *given: Any) -> Tensor:
        parameters: Sequence[Tensor] = given[:arity]
        stream = given[arity] if len(given) > arity else 0
        shape = b.out().shape

        def emit(k: Kernel, index: Index) -> Reg:
            place = k.index_value(ravel(index, shape))
            regs = [
                k.convert(k.read(each, broadcast_index(each, index, shape)), "f64") for each in parameters
            ]
            return rejection.call(k, name, draw, key_words(k, key), stream, place, *regs)

        reads = [(each, SAME_PLACE if each.shape == shape else ANYWHERE) for each in parameters]
        return b.map(shape, "f64", [(key, ANYWHERE), *reads], emit, _COST)


_register("log_gamma", _log_gamma, 1)
_register("poisson", _poisson, 1)
_register("binomial", _binomial, 2)
_register("von_mises_from_key", _von_mises, 1)
