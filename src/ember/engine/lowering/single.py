"""Write elementary functions of float32 as float64 instructions with polynomials of nine digits.

Float64 leaves no room for overflow, subnormal numbers or cancellation to matter, and short polynomials cost
less than those of :mod:`.mathematics`. They are minimax fits, with errors relative to the function of

* ``exp(r) = 1 + r + r**2 q(r)`` for ``|r| <= log(2)/2``, error 1e-9,
* ``log(1+f) = f + f**2 p(f)`` for ``sqrt(1/2) <= 1+f <= sqrt(2)``, error 8e-10,
* ``ndtri(u) = (2u-1) c(w)`` with ``w = -log(4u(1-u)) <= 6``, error 3e-9 (the variable of Giles 2012,
  *Approximating the erfinv function*, section 4).

Results have errors of about one unit in the last place of float32, also where they are subnormal, except that
a logistic function below 1e-38 is 0.
"""

from __future__ import annotations

from collections.abc import Callable

from . import joining
from .elements import Reg, const
from .mathematics import FUNCTIONS, WIDEST, call, clamp, f64, i64, polynomial, power_of_two, split
from .text import Text

_LN2 = 0.6931471805599453
_LOG2_E = 1.4426950408889634074
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer in the low bits
_EXP_Q = (
    0.5000000075994525, 0.16666666853562936, 0.041666274583172805, 0.008333265862766158,
    0.0013945811211050756, 0.0001991761462202302,
)  # fmt: skip
_LOG_P = (
    -0.5000000001148566, 0.3333331128590724, -0.24999985325958912, 0.20002178868402112,
    -0.16669269048123456, 0.1421951112217732, -0.1238456442941949, 0.11867508631181996,
    -0.11786588262442445, 0.06922936062915434,
)  # fmt: skip
_NDTRI_C = (
    1.25331414063345, 0.3281166970426524, 0.016334767845510096, -0.0033074437987824254,
    -0.00017241586628819386, 5.7427713679058306e-05, 7.976168434263874e-06, -3.360003467828061e-06,
    3.7971205023818845e-07, -1.3010978126382291e-08, -6.880173993061165e-10, 4.997071011311105e-11,
)  # fmt: skip
_CENTRE = 6.0  # one draw in 800 is farther out


def _powers(t: Text, x: Reg) -> tuple[Reg, Reg, Reg]:
    """Write ``exp(x) = 2**n (1 + p)``; return p, n as a float, and n as an integer."""
    shifted = t.fma(x, f64(_LOG2_E), f64(_ROUND))
    whole = t.sub(shifted, f64(_ROUND))
    r = t.fma(whole, f64(-_LN2), x)
    p = t.fma(t.mul(r, r), polynomial(t, r, _EXP_Q), r)
    return p, whole, t.binary("sub", t.bitcast(shifted, "i64"), i64(0x4338000000000000))


def _exp(t: Text, x: Reg) -> Reg:
    p, whole, n = _powers(t, clamp(t, x, -150.0, 130.0))
    value = t.add(f64(1.0), p)
    return t.scale(value, whole) if x.lanes == WIDEST else t.mul(value, power_of_two(t, n))


def _expm1(t: Text, x: Reg) -> Reg:
    p, _, n = _powers(t, clamp(t, x, -150.0, 130.0))
    scale = power_of_two(t, n)
    return t.fma(scale, p, t.sub(scale, f64(1.0)))


def _sum_of_logs(t: Text, k: Reg, f: Reg) -> Reg:
    """Return k*log(2) + log(1+f)."""
    small = t.fma(t.mul(f, f), polynomial(t, f, _LOG_P), f)
    return t.fma(t.convert(k, "f64"), f64(_LN2), small)


def _positive_log(t: Text, x: Reg) -> Reg:
    k, m = split(t, x)
    return _sum_of_logs(t, k, t.sub(m, f64(1.0)))


def _at_the_edges(t: Text, x: Reg, zero: float, value: Reg) -> Reg:
    """Put in what a logarithm is from its pole downwards, at infinity, and for NaN."""
    pole = t.select(t.compare("eq", x, f64(zero)), f64(float("-inf")), f64(float("nan")))
    value = t.select(t.compare("gt", x, f64(zero)), value, pole)
    return t.select(t.compare("eq", x, f64(float("inf"))), x, value)


def _log(t: Text, x: Reg) -> Reg:
    return _at_the_edges(t, x, 0.0, _positive_log(t, x))


def _log1p(t: Text, x: Reg) -> Reg:
    k, m = split(t, t.add(f64(1.0), x))
    f = t.select(t.compare("eq", k, i64(0)), x, t.sub(m, f64(1.0)))
    return _at_the_edges(t, x, -1.0, _sum_of_logs(t, k, f))


def _sigmoid(t: Text, x: Reg) -> Reg:
    one_and_more = t.add(f64(1.0), _exp(t, t.neg(x)))
    return t.div(const(1.0, "f32"), t.convert(one_and_more, "f32"))


def _tanh(t: Text, x: Reg) -> Reg:
    size = t.unary("fabs", x)
    e = _expm1(t, t.mul(clamp(t, size, 0.0, 10.0), f64(2.0)))
    ratio = t.div(t.convert(e, "f32"), t.convert(t.add(e, f64(2.0)), "f32"))
    lanes, texts = t.align(ratio, t.convert(x, "f32"))
    return t.intrinsic("copysign", "f32", lanes, texts)


def _ndtri(t: Text, u: Reg) -> Reg:
    """Quantile of the standard normal distribution as float32, for a float64 in the open interval (0, 1)."""
    w = t.neg(_positive_log(t, t.mul(t.mul(u, f64(4.0)), t.sub(f64(1.0), u))))
    value = t.mul(t.fma(u, f64(2.0), f64(-1.0)), polynomial(t, w, _NDTRI_C))
    far = t.compare("gt", w, f64(_CENTRE))
    slow, done, before = t.label("tail"), t.label("quantile"), t.block
    t.branch(joining.any_lane(t, far), slow, done)
    t.start(slow)
    with t.scope():
        merged = t.select(far, call(t, "ndtri", u), value)
        after = t.block
    t.jump(done)
    t.start(done)
    return t.convert(joining.phi(t, [(value, before), (merged, after)]), "f32")


def _of_float32(function: Callable[[Text, Reg], Reg]) -> Callable[[Text, Reg], Reg]:
    return lambda t, x: t.convert(function(t, t.convert(x, "f64")), "f32")


FUNCTIONS.update(
    {
        "exp.f32": _of_float32(_exp),
        "expm1.f32": _of_float32(_expm1),
        "log.f32": _of_float32(_log),
        "log1p.f32": _of_float32(_log1p),
        "sigmoid.f32": _of_float32(_sigmoid),
        "tanh.f32": _of_float32(_tanh),
        "ndtri.f32": _ndtri,
    }
)
