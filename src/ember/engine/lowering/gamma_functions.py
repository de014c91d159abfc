"""Write the gamma function's logarithm and its derivatives, and the normal quantile, for every lane.

* ``log Γ``: above 8 Stirling's series; below, the recurrence leads to [3/2, 5/2), where
  ``log Γ(2+t) = t P(t)`` with a polynomial fitted on Chebyshev nodes (60 digits, error 6e-19).
* ``ψ`` and the polygamma functions: the recurrence up to 10, then the asymptotic series
  (Abramowitz & Stegun 6.3.18, 6.4.11; for the latter as the Euler–Maclaurin sum of Hurwitz's zeta function).
* The normal quantile: Wichura's rational functions (1988, algorithm AS 241, PPND16).

Arguments of ``log Γ`` and ``ψ`` below zero are rare; SciPy's scalar functions take care of them.
"""

from __future__ import annotations

import math

from . import joining
from .elements import Reg, const
from .foreign import SCIPY, external
from .mathematics import FUNCTIONS, f64, log, polynomial
from .text import Text

_LGAMMA_P = (
    0.42278433509846713, 0.32246703342411326, -0.0673523010531981, 0.02058080842778038,
    -0.0073855510286719986, 0.002890510331034267, -0.0011927539118428156, 0.0005096695154115458,
    -0.00022315475400520507, 9.945767355819498e-05, -4.49263133791557e-05, 2.0505590755833454e-05,
    -9.438715099211532e-06, 4.38470440459836e-06, -2.0439048107029907e-06, 9.200527894968101e-07,
    -4.3252393445604814e-07, 2.78740805211359e-07, -1.3219945666117874e-07,
)  # fmt: skip


# Bernoulli numbers: B(2k) / (2k (2k-1)) of Stirling's series, B(2k) / 2k of the digamma function's.
_STIRLING = (
    0.08333333333333333, -0.002777777777777778, 0.0007936507936507937, -0.0005952380952380953,
    0.0008417508417508417, -0.0019175269175269176, 0.00641025641025641, -0.029550653594771242,
)  # fmt: skip


_DIGAMMA = (
    0.08333333333333333, -0.008333333333333333, 0.003968253968253968, -0.004166666666666667,
    0.007575757575757576, -0.021092796092796094, 0.08333333333333333, -0.4432598039215686,
)  # fmt: skip


# B(2k) / (2k)! of the Euler–Maclaurin sum.
_MACLAURIN = (
    0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07,
    2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13,
    8.586062056277845e-15, -2.174868698558062e-16, 5.5090028283602295e-18, -1.3954464685812522e-19,
)  # fmt: skip


def _with_slow_path(t: Text, rare: Reg, slow: str, x: Reg, fast: Reg) -> Reg:
    """Return ``fast``, but where any lane is ``rare`` call SciPy's function ``slow`` for the rare ones."""
    some = joining.any_lane(t, rare)
    scalar, done = t.label("slow"), t.label("done")
    before = t.block
    t.branch(some, scalar, done)
    t.start(scalar)
    with t.scope():
        merged = t.select(rare, external(t, SCIPY, slow, x), fast)
        after = t.block
    t.jump(done)
    t.start(done)
    return joining.phi(t, [(fast, before), (merged, after)])


def lgamma(t: Text, x: Reg) -> Reg:
    """Logarithm of the absolute value of the gamma function."""
    one = f64(1.0)
    small = t.compare("lt", x, f64(8.0))
    # Up: Γ(x) = Γ(x+1) / x, at most twice; down: Γ(x) = (x-1) Γ(x-1), at most six times.
    below = t.compare("lt", x, f64(1.5))
    far_below = t.compare("lt", x, f64(0.5))
    product = t.select(below, x, one)
    product = t.select(far_below, t.mul(x, t.add(x, one)), product)
    # The distance from 2 of the argument thus reached, exactly.
    shift = t.select(far_below, x, t.select(below, t.sub(x, one), t.sub(x, f64(2.0))))
    for step in range(1, 7):
        more = t.compare("ge", x, f64(step + 1.5))
        smaller = t.sub(x, f64(float(step)))
        product = t.select(more, t.mul(product, smaller), product)
        shift = t.select(more, t.sub(smaller, f64(2.0)), shift)
    near = t.mul(shift, polynomial(t, shift, _LGAMMA_P))
    logged = log(t, t.unary("fabs", t.select(small, product, x)))
    near = t.add(near, t.select(below, t.neg(logged), logged))
    inverse = t.div(one, x)
    series = t.mul(inverse, polynomial(t, t.mul(inverse, inverse), _STIRLING))
    half_log = f64(0.5 * math.log(2 * math.pi))
    far = t.add(t.sub(t.mul(t.sub(x, f64(0.5)), t.sub(logged, one)), f64(0.5)), t.add(half_log, series))
    value = t.select(small, near, far)
    value = t.select(t.compare("eq", t.unary("fabs", x), f64(math.inf)), f64(math.inf), value)
    value = t.select(t.isnan(x), x, value)
    negative = t.binary("and", t.compare("lt", x, f64(-1e-15)), t.compare("gt", x, f64(-math.inf)))
    return _with_slow_path(t, negative, "gammaln", x, value)


def digamma(t: Text, x: Reg) -> Reg:
    """Derivative of log Γ."""
    one, zero, z = f64(1.0), f64(0.0), x
    numerator, denominator = zero, one
    # Sum of 1 / (x+i) as one fraction.
    for step in range(10):
        factor = t.add(x, f64(float(step)))
        more = t.compare("lt", factor, f64(10.0))
        joined = t.add(t.mul(numerator, factor), denominator)
        numerator = t.select(more, joined, numerator)
        denominator = t.select(more, t.mul(denominator, factor), denominator)
        z = t.select(more, t.add(factor, one), z)
    inverse = t.div(one, z)
    square = t.mul(inverse, inverse)
    series = t.mul(square, polynomial(t, square, _DIGAMMA))
    value = t.sub(t.sub(log(t, z), t.mul(inverse, f64(0.5))), series)
    value = t.sub(value, t.div(numerator, denominator))
    value = t.select(t.compare("eq", x, f64(math.inf)), x, value)
    value = t.select(t.compare("eq", x, zero), t.div(f64(-1.0), x), value)
    return _with_slow_path(t, t.compare("lt", x, zero), "psi", x, value)


def polygamma(order: int) -> str:
    """Return the name of the derivative of ``order`` (1, 2, …) of the digamma function."""
    name = f"polygamma{order}"

    def apply(t: Text, x: Reg) -> Reg:
        return _polygamma(t, x, order)

    FUNCTIONS.setdefault(name, apply)
    return name


def _polygamma(t: Text, x: Reg, order: int) -> Reg:
    """(-1)**(n+1) n! zeta(n+1, x), by Euler and Maclaurin after summing terms up to 10."""
    exponent = order + 1
    one, limit = f64(1.0), f64(12.0)
    head, body, done = t.label("terms"), t.label("term"), t.label("rest")
    before = t.block
    start = t.splat(f64(0.0), x.lanes)
    # Lanes far below zero would take too many terms; they become NaN.
    hopeless = t.compare("lt", x, f64(-1e6))
    first = t.select(hopeless, f64(math.nan), t.add(x, f64(0.0)))
    t.jump(head)
    t.start(head)
    z, z_next = joining.open_phi(t, first, before)
    total, total_next = joining.open_phi(t, start, before)
    more = t.compare("lt", z, limit)
    t.branch(joining.any_lane(t, more), body, done)
    t.start(body)
    with t.scope():
        term = t.div(one, _integer_power(t, z, exponent))
        joining.close_phi(t, total_next, t.select(more, t.add(total, term), total), head)
        joining.close_phi(t, z_next, t.select(more, t.add(z, one), z), head)
    t.jump(head)
    t.start(done)
    inverse = t.div(one, z)
    square = t.mul(inverse, inverse)
    coefficients = []
    rising = float(exponent)
    for position, number in enumerate(_MACLAURIN):
        coefficients.append(number * rising)
        rising *= (exponent + 2 * position + 1) * (exponent + 2 * position + 2)
    power = _integer_power(t, inverse, exponent)
    tail = t.mul(t.mul(power, inverse), polynomial(t, square, coefficients))
    integral = t.mul(t.mul(power, z), f64(1.0 / order))
    value = t.add(total, t.add(integral, t.add(t.mul(power, f64(0.5)), tail)))
    value = t.select(t.compare("eq", x, f64(math.inf)), f64(0.0), value)
    sign = 1.0 if order % 2 else -1.0
    return t.mul(value, f64(sign * math.factorial(order)))


def _integer_power(t: Text, x: Reg, exponent: int) -> Reg:
    result: Reg | None = None
    base = x
    while exponent:
        if exponent & 1:
            result = base if result is None else t.mul(result, base)
        exponent >>= 1
        if exponent:
            base = t.mul(base, base)
    return result if result is not None else const(1.0, "f64")


_CENTRE = (
    (
        3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
        1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
        3.3430575583588128105e4, 2.5090809287301226727e3,
    ),
    (
        1.0, 4.2313330701600911252e1, 6.8718700749205790830e2,
        5.3941960214247511077e3, 2.1213794301586595867e4, 3.9307895800092710610e4,
        2.8729085735721942674e4, 5.2264952788528545610e3,
    ),
)  # fmt: skip


_SIDE = (
    (
        1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
        3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
        2.27238449892691845833e-2, 7.74545014278341407640e-4,
    ),
    (
        1.0, 2.05319162663775882187e0, 1.67638483018380384940e0,
        6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
        5.47593808499534494600e-4, 1.05075007164441684324e-9,
    ),
)  # fmt: skip


_TAIL = (
    (
        6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
        2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
        2.71155556874348757815e-5, 2.01033439929228813265e-7,
    ),
    (
        1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1,
        1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5,
        1.42151175831644588870e-7, 2.04426310338993978564e-15,
    ),
)  # fmt: skip


def _with_tail(t: Text, depth: Reg, ratio: Reg) -> Reg:
    """Replace the quantiles so far out that hardly any draw is there."""
    rare = t.compare("gt", depth, f64(5.0))
    slow, done, before = t.label("tail"), t.label("quantile"), t.block
    t.branch(joining.any_lane(t, rare), slow, done)
    t.start(slow)
    with t.scope():
        far = t.sub(depth, f64(5.0))
        value = t.div(polynomial(t, far, _TAIL[0]), polynomial(t, far, _TAIL[1]))
        merged = t.select(rare, value, ratio)
        after = t.block
    t.jump(done)
    t.start(done)
    return joining.phi(t, [(ratio, before), (merged, after)])


def ndtri(t: Text, p: Reg) -> Reg:
    """Quantile of the standard normal distribution."""
    q = t.sub(p, f64(0.5))
    below = t.compare("lt", q, f64(0.0))
    middle = t.compare("le", t.unary("fabs", q), f64(0.425))
    away = t.sub(f64(0.180625), t.mul(q, q))
    outer = t.select(below, p, t.sub(f64(1.0), p))
    depth = t.unary("sqrt", t.neg(log(t, outer)))
    r = t.select(middle, away, t.sub(depth, f64(1.6)))
    centre, side = ([polynomial(t, r, each) for each in table] for table in (_CENTRE, _SIDE))
    ratio = t.div(*(t.select(middle, one, other) for one, other in zip(centre, side, strict=True)))
    ratio = _with_tail(t, depth, ratio)
    signed = t.select(below, t.neg(ratio), ratio)
    result = t.select(middle, t.mul(q, ratio), signed)
    result = t.select(t.compare("eq", p, f64(0.0)), f64(-math.inf), result)
    return t.select(t.compare("eq", p, f64(1.0)), f64(math.inf), result)


FUNCTIONS.update({"lgamma": lgamma, "digamma": digamma, "ndtri": ndtri})
