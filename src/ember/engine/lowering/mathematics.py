"""Write elementary functions as branch-free instructions that run in every lane.

Range reduction is Cody and Waite's (1980); the polynomials are fits on Chebyshev nodes (60 digits) of

* ``exp(r) = 1 + r + r**2 q(r)`` for ``|r| <= log(2)/2``, error 2e-18,
* ``log(1+f) = f - f**2/2 + s (f**2/2 + R(s**2))`` with ``s = f / (2+f)`` for ``sqrt(1/2) <= 1+f <= sqrt(2)``
  (the form that Tang's and Sun's implementations share).

Errors are about one unit in the last place of float64, over the whole range, subnormal numbers included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .elements import Reg, const, type_name
from .text import Text

WIDEST = 8  # lanes of float64 of AVX-512, which has an instruction to scale by powers of two
_LN2_HIGH = 6.93147180369123816490e-01  # the last 32 bits are zero: products with exponents are exact
_LN2_LOW = 1.90821492927058770002e-10
_LOG2_E = 1.4426950408889634074
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer in the low bits
_EXP_Q = (
    0.5, 0.1666666666666667, 0.041666666666666685, 0.008333333333326082, 0.001388888888887429,
    0.00019841269875003868, 2.4801587347591023e-05, 2.7557255168336002e-06, 2.7557252673788055e-07,
    2.5105313336043612e-08, 2.0921668747661267e-09,
)  # fmt: skip


_LOG_R = (
    0.6666666666666666, 0.4000000000000089, 0.28571428570794766, 0.22222222393603783, 0.1818179544827098,
    0.15386249681084868, 0.13268516288443394, 0.13089219145858638,
)  # fmt: skip


def f64(value: float) -> Reg:
    """Make a float64 constant."""
    return const(value, "f64")


def i64(value: int) -> Reg:
    """Make an int64 constant."""
    return const(value, "i64")


def polynomial(t: Text, x: Reg, coefficients: Sequence[float]) -> Reg:
    """Evaluate ``sum(c[i] * x**i)`` in pairs, for instruction-level parallelism."""
    terms = [f64(c) for c in coefficients]
    power = x
    while len(terms) > 1:
        paired = []
        for position in range(0, len(terms) - 1, 2):
            paired.append(t.fma(terms[position + 1], power, terms[position]))
        if len(terms) % 2:
            paired.append(terms[-1])
        terms = paired
        if len(terms) > 1:
            power = t.mul(power, power)
    return terms[0]


def _reduce_exp(t: Text, x: Reg) -> tuple[Reg, Reg, Reg]:
    """Split ``x = n log(2) + r``; return n as int64, n as a float, and r in two parts' sum."""
    shifted = t.fma(x, f64(_LOG2_E), f64(_ROUND))
    n = t.sub(shifted, f64(_ROUND))
    integer = t.binary("sub", t.bitcast(shifted, "i64"), i64(0x4338000000000000))
    return integer, n, t.fma(t.neg(n), f64(_LN2_HIGH), x)


def power_of_two(t: Text, n: Reg) -> Reg:
    """Return 2**n, for an int64 n between -1022 and 1023."""
    return t.bitcast(t.binary("shl", t.add(n, i64(1023)), i64(52)), "f64")


def _scale(t: Text, value: Reg, n: Reg, whole: Reg) -> Reg:
    """Multiply by 2**n in two steps, so that overflow and gradual underflow come out right.

    :param whole: n as a float.
    """
    if value.lanes == WIDEST:
        return t.scale(value, whole)
    half = t.binary("ashr", n, i64(1))
    return t.mul(t.mul(value, power_of_two(t, half)), power_of_two(t, t.sub(n, half)))


def clamp(t: Text, x: Reg, low: float, high: float) -> Reg:
    """Bound a number that may be NaN."""
    x = t.select(t.compare("lt", x, f64(low)), f64(low), x)
    return t.select(t.compare("gt", x, f64(high)), f64(high), x)


def exp(t: Text, x: Reg) -> Reg:
    """Exponential."""
    x = clamp(t, x, -746.0, 710.0)
    n, whole, high = _reduce_exp(t, x)
    low = t.mul(whole, f64(_LN2_LOW))
    r = t.sub(high, low)
    q = polynomial(t, r, _EXP_Q)
    # exp(high - low) = 1 + (high - (low - r*r*q)): the large part is added last.
    tail = t.sub(low, t.mul(t.mul(r, r), q))
    return _scale(t, t.add(f64(1.0), t.sub(high, tail)), n, whole)


def expm1(t: Text, x: Reg) -> Reg:
    """exp(x) - 1 without cancellation."""
    clamped = clamp(t, x, -40.0, 710.0)
    n, whole, high = _reduce_exp(t, clamped)
    low = t.mul(whole, f64(_LN2_LOW))
    r = t.sub(high, low)
    lost = t.sub(t.sub(high, r), low)
    tail = t.add(t.mul(t.mul(r, r), polynomial(t, r, _EXP_Q)), lost)
    constant = t.sub(f64(1.0), power_of_two(t, t.sub(i64(0), n)))
    constant = t.select(t.compare("gt", n, i64(1000)), f64(1.0), constant)
    total = t.add(constant, r)
    # The rounding error of the sum (two-sum of Knuth), returned to the small part.
    back = t.sub(total, constant)
    error = t.add(t.sub(constant, t.sub(total, back)), t.sub(r, back))
    result = _scale(t, t.add(total, t.add(error, tail)), n, whole)
    tiny = t.compare("lt", t.unary("fabs", x), f64(2.0**-54))
    return t.select(tiny, x, result)


def _log_parts(t: Text, f: Reg, k: Reg, correction: Reg | None) -> Reg:
    """Return k*log(2) + log(1+f) + correction."""
    s = t.div(f, t.add(f, f64(2.0)))
    z = t.mul(s, s)
    series = t.mul(z, polynomial(t, z, _LOG_R))
    half_square = t.mul(t.mul(f, f), f64(0.5))
    low = t.mul(k, f64(_LN2_LOW))
    if correction is not None:
        low = t.add(low, correction)
    inner = t.fma(s, t.add(half_square, series), low)
    return t.sub(t.mul(k, f64(_LN2_HIGH)), t.sub(t.sub(half_square, inner), f))


def split(t: Text, x: Reg) -> tuple[Reg, Reg]:
    """Write a positive normal ``x = 2**k m`` with m between sqrt(1/2) and sqrt(2); k as int64."""
    bits = t.bitcast(x, "i64")
    k = t.binary("ashr", t.sub(bits, i64(0x3FE6A09E667F3BCD)), i64(52))
    return k, t.bitcast(t.sub(bits, t.binary("shl", k, i64(52))), "f64")


def log(t: Text, x: Reg) -> Reg:
    """Natural logarithm."""
    subnormal = t.compare("lt", x, f64(2.0**-1022))
    scaled = t.select(subnormal, t.mul(x, f64(2.0**54)), x)
    k, m = split(t, scaled)
    k = t.select(subnormal, t.sub(k, i64(54)), k)
    value = _log_parts(t, t.sub(m, f64(1.0)), t.convert(k, "f64"), None)
    value = t.select(t.compare("eq", x, f64(0.0)), f64(float("-inf")), value)
    value = t.select(t.compare("lt", x, f64(0.0)), f64(float("nan")), value)
    special = t.binary("or", t.isnan(x), t.compare("eq", x, f64(float("inf"))))
    return t.select(special, x, value)


def log1p(t: Text, x: Reg) -> Reg:
    """log(1 + x) without cancellation."""
    u = t.add(f64(1.0), x)
    k, m = split(t, u)
    near = t.compare("eq", k, i64(0))
    large = t.sub(f64(1.0), t.sub(u, x))
    small = t.sub(x, t.sub(u, f64(1.0)))
    lost = t.select(t.compare("gt", x, f64(1.0)), large, small)
    f = t.select(near, x, t.sub(m, f64(1.0)))
    # What rounding 1 + x lost, at the scale of m, times 1/m to a tenth; far beyond 1 it does not matter.
    bounded = t.select(t.compare("lt", k, i64(1000)), k, i64(1000))
    lost = t.mul(lost, power_of_two(t, t.sub(i64(0), bounded)))
    correction = t.select(near, f64(0.0), t.mul(lost, t.sub(f64(2.0), m)))
    value = _log_parts(t, f, t.convert(k, "f64"), correction)
    value = t.select(t.compare("eq", x, f64(-1.0)), f64(float("-inf")), value)
    value = t.select(t.compare("lt", x, f64(-1.0)), f64(float("nan")), value)
    special = t.binary("or", t.isnan(x), t.compare("eq", x, f64(float("inf"))))
    tiny = t.compare("lt", t.unary("fabs", x), f64(2.0**-54))
    return t.select(t.binary("or", special, tiny), x, value)


def sigmoid(t: Text, x: Reg) -> Reg:
    """1 / (1 + exp(-x))."""
    return t.div(f64(1.0), t.add(f64(1.0), exp(t, t.neg(x))))


def tanh(t: Text, x: Reg) -> Reg:
    """Hyperbolic tangent."""
    size = t.unary("fabs", x)
    doubled = t.mul(clamp(t, size, 0.0, 22.0), f64(2.0))
    e = expm1(t, doubled)
    ratio = t.div(e, t.add(e, f64(2.0)))
    lanes, texts = t.align(ratio, x)
    return t.intrinsic("copysign", "f64", lanes, texts)


FUNCTIONS: dict[str, Callable[[Text, Reg], Reg]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "sigmoid": sigmoid,
    "tanh": tanh,
}


def call(t: Text, which: str, x: Reg, kind: str = "f64") -> Reg:
    """Call one of :data:`FUNCTIONS`, writing it into the module once per number of lanes.

    :param x: a float64, or a float32 for a function that takes one.
    :param kind: of the result.
    """
    symbol = f"@m.{which}.v{x.lanes}"
    given, full = type_name(x.kind, x.lanes), type_name(kind, x.lanes)
    if symbol not in t.module.mathematics:
        body = Text(t.module, "m")
        result = FUNCTIONS[which](body, Reg("%x", x.kind, x.lanes))
        head = f"define internal {full} {symbol}({given} %x) #1 {{"
        t.module.mathematics[symbol] = "\n".join(
            [head, "entry:", *body.lines, f"  ret {full} {result.text}", "}"]
        )
    t.module.num_calls += 1
    return t.pure(f"call {full} {symbol}({given} {t.splat(x, x.lanes).text})", kind, x.lanes)
