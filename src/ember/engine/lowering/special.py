"""Lower powers, trigonometric and special functions, mostly by calling libm's and SciPy's scalar functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import mathematics
from .builder import Builder, Number, operation
from .elements import Reg, const, is_float
from .foreign import LIBM, SCIPY, external
from .gamma_functions import polygamma
from .kernel import Kernel
from .pointwise import elementary, mixed
from .tensors import Map, Tensor


def _register_external(op: str, library: str, name: str, cost: int = 100) -> None:
    def lower(b: Builder, *xs: Tensor) -> Map:
        return b.pointwise(
            lambda k, *regs: external(k, library, name, *regs), *xs, compute=b.out_kind(), cost=cost
        )

    operation(f"aten.{op}.default")(lower)


for _op in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "atan2"):
    _register_external(_op, LIBM, _op)
_register_external("hypot", LIBM, "hypot")
_register_external("nextafter", LIBM, "nextafter")

# torch's name → SciPy's.
_SPECIAL = {
    "erf": "erf",
    "special_erf": "erf",
    "erfc": "erfc",
    "special_erfc": "erfc",
    "erfinv": "erfinv",
    "special_erfinv": "erfinv",
    "special_erfcx": "erfcx",
    "special_ndtr": "ndtr",
    "special_log_ndtr": "log_ndtr",
    "special_i0": "i0",
    "i0": "i0",
    "special_i0e": "i0e",
    "special_i1": "i1",
    "special_i1e": "i1e",
    "special_bessel_j0": "j0",
    "special_bessel_j1": "j1",
    "special_bessel_y0": "y0",
    "special_bessel_y1": "y1",
    "special_modified_bessel_i0": "i0",
    "special_modified_bessel_i1": "i1",
    "special_modified_bessel_k0": "k0",
    "special_modified_bessel_k1": "k1",
    "special_scaled_modified_bessel_k0": "k0e",
    "special_scaled_modified_bessel_k1": "k1e",
}
for _op, _name in _SPECIAL.items():
    _register_external(_op, SCIPY, _name)
_register_external("special_gammainc", SCIPY, "gammainc")
_register_external("special_gammaincc", SCIPY, "gammaincc")
_register_external("igamma", SCIPY, "gammainc")
_register_external("igammac", SCIPY, "gammaincc")


def _register_vector(op: str, name: str, cost: int) -> None:
    function = elementary(name)
    operation(f"aten.{op}.default")(
        lambda b, x: b.pointwise(function, x, compute=b.out_kind(), cost=cost)
    )


for _op in ("lgamma", "special_gammaln"):
    _register_vector(_op, "lgamma", 110)
for _op in ("digamma", "special_digamma"):
    _register_vector(_op, "digamma", 110)
_register_vector("special_ndtri", "ndtri", 110)


@operation("aten.polygamma.default", "aten.special_polygamma.default")
def _polygamma(b: Builder, order: int, x: Tensor) -> Map:
    function = elementary("digamma" if order == 0 else polygamma(order))
    return b.pointwise(function, x, compute=b.out_kind(), cost=120)


@operation("aten.mvlgamma.default")
def _mvlgamma(b: Builder, x: Tensor, p: int) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        total = const(p * (p - 1) / 4 * math.log(math.pi), u.kind)
        for position in range(p):
            total = k.add(total, elementary("lgamma")(k, k.sub(u, const(position / 2, u.kind))))
        return total

    return b.pointwise(apply, x, compute=b.out_kind(), cost=110 * p)


def _register_sinc() -> None:
    def apply(k: Kernel, x: Reg) -> Reg:
        scaled = k.mul(x, const(math.pi, x.kind))
        value = k.div(external(k, LIBM, "sin", scaled), scaled)
        return k.select(k.compare("eq", x, const(0.0, x.kind)), const(1.0, x.kind), value)

    operation("aten.sinc.default", "aten.special_sinc.default")(
        lambda b, x: b.pointwise(apply, x, compute=b.out_kind(), cost=110)
    )


_register_sinc()


# Powers ---------------------------------------------------------------------------------------------------
def power(k: Kernel, x: Reg, exponent: float) -> Reg:
    """Raise floats to a known power, by multiplication where that is as exact as torch's."""
    one = const(1.0, x.kind)
    if exponent == 0:
        return one
    if exponent == 1:
        return x
    if exponent == 2:
        return k.mul(x, x)
    if exponent == 3:
        return k.mul(k.mul(x, x), x)
    if exponent == 0.5:
        return k.unary("sqrt", x)
    if exponent == -0.5:
        return k.div(one, k.unary("sqrt", x))
    if exponent == -1:
        return k.div(one, x)
    if exponent == -2:
        return k.div(one, k.mul(x, x))
    return external(k, LIBM, "pow", x, const(exponent, x.kind))


def _integer_power(k: Kernel, x: Reg, exponent: int) -> Reg:
    result = const(1, x.kind)
    base = x
    while exponent:
        if exponent & 1:
            result = k.mul(result, base)
        base = k.mul(base, base)
        exponent >>= 1
    return result


@operation("aten.pow.Tensor_Scalar")
def _pow_scalar(b: Builder, x: Tensor, exponent: Number) -> Map:
    kind = b.out_kind()
    if is_float(kind):
        cheap = exponent in (0, 1, 2, 3, 0.5, -0.5, -1, -2)
        return b.pointwise(lambda k, u: power(k, u, float(exponent)), x, cost=5 if cheap else 100)
    if kind == "i1" or exponent < 0:
        raise b.refuse(f"the power {exponent} of {kind} elements is not supported")
    return b.pointwise(lambda k, u: _integer_power(k, u, int(exponent)), x, cost=8)


@operation("aten.pow.Tensor_Tensor", "aten.pow.Scalar", "aten.float_power.Tensor_Tensor")
def _pow(b: Builder, x: Tensor | Number, y: Tensor | Number) -> Map:
    if is_float(b.out_kind()):
        return b.pointwise(lambda k, u, v: external(k, LIBM, "pow", u, v), x, y, cost=100)
    raise b.refuse("integer powers with varying exponents are not supported")


@operation("aten.ldexp.Tensor")
def _ldexp(b: Builder, x: Tensor, exponent: Tensor) -> Map:
    return b.pointwise(
        lambda k, u, v: k.mul(u, external(k, LIBM, "exp2", v)), x, exponent, compute=b.out_kind(), cost=30
    )


@operation("aten.round.decimals")
def _round_decimals(b: Builder, x: Tensor, decimals: int) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        if not is_float(u.kind):
            return u
        scale = const(10.0 ** abs(decimals), u.kind)
        if decimals >= 0:
            return k.div(k.unary("roundeven", k.mul(u, scale)), scale)
        return k.mul(k.unary("roundeven", k.div(u, scale)), scale)

    return b.pointwise(apply, x, cost=6)


# Products with logarithms ---------------------------------------------------------------------------------
def _register_log_product(names: list[str], which: str) -> None:
    @operation(*names)
    def lower(b: Builder, x: Tensor | Number, y: Tensor | Number) -> Map:
        def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
            value = k.mul(u, elementary(which)(k, v))
            zero = k.conjunction(k.compare("eq", u, const(0.0, u.kind)), k.invert(k.isnan(v)))
            return k.select(zero, const(0.0, u.kind), value)

        return b.pointwise(apply, x, y, compute=b.out_kind(), cost=35)


_register_log_product(
    [f"aten.{name}.{form}" for name, forms in (
        ("xlogy", ("Tensor", "Scalar_Self", "Scalar_Other")),
        ("special_xlogy", ("default", "self_scalar", "other_scalar")),
    ) for form in forms],
    "log",
)  # fmt: skip
_register_log_product(
    [f"aten.special_xlog1py.{f}" for f in ("default", "self_scalar", "other_scalar")], "log1p"
)


@operation("aten.special_entr.default")
def _entr(b: Builder, x: Tensor) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        value = k.neg(k.mul(u, elementary("log")(k, u)))
        value = k.select(k.compare("eq", u, const(0.0, u.kind)), const(0.0, u.kind), value)
        return k.select(k.compare("lt", u, const(0.0, u.kind)), const(-math.inf, u.kind), value)

    return b.pointwise(apply, x, compute=b.out_kind(), cost=35)


def log_add(k: Kernel, u: Reg, v: Reg) -> Reg:
    """log(exp(u) + exp(v))."""
    larger = k.compare("gt", u, v)
    top, low = k.select(larger, u, v), k.select(larger, v, u)
    value = k.add(top, elementary("log1p")(k, elementary("exp")(k, k.sub(low, top))))
    infinite = k.compare("eq", k.unary("fabs", u), const(math.inf, u.kind))
    value = k.select(k.binary("and", infinite, k.compare("eq", u, v)), u, value)
    return k.select(k.isnan(u), u, value)


@operation("aten.logaddexp.default")
def _logaddexp(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(log_add, x, y, compute=b.out_kind(), cost=60)


# Activations ----------------------------------------------------------------------------------------------
@operation("aten.softplus.default")
def _softplus(b: Builder, x: Tensor, beta: Number = 1, threshold: Number = 20) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        scaled = u if beta == 1 else k.mul(u, const(beta, u.kind))
        soft = elementary("log1p")(k, elementary("exp")(k, scaled))
        soft = soft if beta == 1 else k.div(soft, const(beta, u.kind))
        return k.select(k.compare("gt", scaled, const(threshold, u.kind)), u, soft)

    return b.pointwise(apply, x, cost=60)


@operation("aten.softplus_backward.default")
def _softplus_backward(b: Builder, grad: Tensor, x: Tensor, beta: Number, threshold: Number) -> Map:
    def apply(k: Kernel, g: Reg, u: Reg) -> Reg:
        scaled = k.mul(u, const(beta, u.kind))
        z = elementary("exp")(k, scaled)
        soft = k.div(k.mul(g, z), k.add(z, const(1.0, u.kind)))
        return k.select(k.compare("gt", scaled, const(threshold, u.kind)), g, soft)

    return b.pointwise(apply, grad, x, cost=35)


@operation("aten.log_sigmoid_forward.default")
def _log_sigmoid(b: Builder, x: Tensor) -> list[Tensor | None]:
    return [_log_sigmoid_value(b, x), b.full(b.out(1).shape, 0, b.out_kind(1))]


def _log_sigmoid_value(b: Builder, x: Tensor) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        zero = const(0.0, u.kind)
        negative = k.select(k.compare("lt", u, zero), u, k.select(k.isnan(u), u, zero))
        z = elementary("exp")(k, k.neg(k.unary("fabs", u)))
        return k.sub(negative, elementary("log1p")(k, z))

    return b.pointwise(apply, x, cost=60)


@operation("aten.log_sigmoid.default")
def _log_sigmoid_only(b: Builder, x: Tensor) -> Map:
    return _log_sigmoid_value(b, x)


@operation("aten.log_sigmoid_backward.default")
def _log_sigmoid_backward(b: Builder, grad: Tensor, x: Tensor, buffer: Tensor) -> Map:
    return b.pointwise(lambda k, g, u: k.mul(g, elementary("sigmoid")(k, k.neg(u))), grad, x, cost=36)


@operation("aten.sigmoid_backward.default")
def _sigmoid_backward(b: Builder, grad: Tensor, output: Tensor) -> Map:
    return b.pointwise(lambda k, g, y: k.mul(g, k.mul(k.sub(const(1.0, y.kind), y), y)), grad, output, cost=3)


@operation("aten.tanh_backward.default")
def _tanh_backward(b: Builder, grad: Tensor, output: Tensor) -> Map:
    return b.pointwise(lambda k, g, y: k.mul(g, k.sub(const(1.0, y.kind), k.mul(y, y))), grad, output, cost=3)


@operation("aten.logit_backward.default")
def _logit_backward(b: Builder, grad: Tensor, x: Tensor, eps: float | None = None) -> Map:
    def apply(k: Kernel, g: Reg, u: Reg) -> Reg:
        one, zero = const(1.0, u.kind), const(0.0, u.kind)
        value = k.div(g, k.mul(u, k.sub(one, u)))
        low, high = (0.0, 1.0) if eps is None else (eps, 1.0 - eps)
        outside = k.binary(
            "or", k.compare("lt", u, const(low, u.kind)), k.compare("gt", u, const(high, u.kind))
        )
        return k.select(outside, const(math.nan, u.kind) if eps is None else zero, value)

    return b.pointwise(apply, grad, x, cost=8)


@operation("aten.relu.default")
def _relu(b: Builder, x: Tensor) -> Map:
    return b.pointwise(
        lambda k, u: k.select(k.compare("le", u, const(0, u.kind)), const(0, u.kind), u), x, cost=2
    )


@operation("aten.threshold_backward.default")
def _threshold_backward(b: Builder, grad: Tensor, x: Tensor, threshold: Number) -> Map:
    return b.pointwise(
        lambda k, g, u: k.select(k.compare("le", u, const(threshold, u.kind)), const(0, u.kind), g),
        grad,
        x,
        cost=2,
    )


@operation("aten.threshold.default")
def _threshold(b: Builder, x: Tensor, threshold: Number, value: Number) -> Map:
    return b.pointwise(
        lambda k, u: k.select(k.compare("le", u, const(threshold, u.kind)), const(value, u.kind), u),
        x,
        cost=2,
    )


@operation("aten.leaky_relu.default")
def _leaky_relu(b: Builder, x: Tensor, negative_slope: Number = 0.01) -> Map:
    return b.pointwise(
        lambda k, u: k.select(
            k.compare("gt", u, const(0.0, u.kind)), u, k.mul(u, const(negative_slope, u.kind))
        ),
        x,
        cost=3,
    )


@operation("aten.leaky_relu_backward.default")
def _leaky_relu_backward(b: Builder, grad: Tensor, x: Tensor, negative_slope: Number, is_result: bool) -> Map:
    return b.pointwise(
        lambda k, g, u: k.select(
            k.compare("gt", u, const(0.0, u.kind)), g, k.mul(g, const(negative_slope, u.kind))
        ),
        grad,
        x,
        cost=3,
    )


@operation("aten.elu.default")
def _elu(b: Builder, x: Tensor, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        low = elementary("expm1")(k, k.mul(u, const(input_scale, u.kind)))
        low = k.mul(low, const(alpha * scale, u.kind))
        return k.select(k.compare("gt", u, const(0.0, u.kind)), k.mul(u, const(scale, u.kind)), low)

    return b.pointwise(apply, x, cost=35)


@operation("aten.elu_backward.default")
def _elu_backward(
    b: Builder, grad: Tensor, alpha: Number, scale: Number, input_scale: Number, is_result: bool, x: Tensor
) -> Map:
    def apply(k: Kernel, g: Reg, u: Reg) -> Reg:
        if is_result:
            slope = k.mul(k.add(u, const(alpha * scale, u.kind)), const(input_scale, u.kind))
        else:
            low = elementary("exp")(k, k.mul(u, const(input_scale, u.kind)))
            slope = k.mul(low, const(alpha * scale * input_scale, u.kind))
        return k.mul(g, k.select(k.compare("gt", u, const(0.0, u.kind)), const(scale, u.kind), slope))

    return b.pointwise(apply, grad, x, cost=35)


@operation("aten.silu.default")
def _silu(b: Builder, x: Tensor) -> Map:
    return b.pointwise(lambda k, u: k.mul(u, elementary("sigmoid")(k, u)), x, cost=36)


@operation("aten.silu_backward.default")
def _silu_backward(b: Builder, grad: Tensor, x: Tensor) -> Map:
    def apply(k: Kernel, g: Reg, u: Reg) -> Reg:
        one = const(1.0, u.kind)
        s = elementary("sigmoid")(k, u)
        return k.mul(k.mul(g, s), k.add(one, k.mul(u, k.sub(one, s))))

    return b.pointwise(apply, grad, x, cost=40)


@operation("aten.gelu.default")
def _gelu(b: Builder, x: Tensor, approximate: str = "none") -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        half = k.mul(u, const(0.5, u.kind))
        if approximate == "none":
            inner = external(k, SCIPY, "erf", k.mul(u, const(math.sqrt(0.5), u.kind)))
        else:
            inner = elementary("tanh")(k, _gelu_argument(k, u))
        return k.mul(half, k.add(const(1.0, u.kind), inner))

    return b.pointwise(apply, x, cost=100)


def _gelu_argument(k: Kernel, u: Reg) -> Reg:
    cubic = k.mul(k.mul(k.mul(u, u), u), const(0.044715, u.kind))
    return k.mul(k.add(u, cubic), const(math.sqrt(2 / math.pi), u.kind))


@operation("aten.gelu_backward.default")
def _gelu_backward(b: Builder, grad: Tensor, x: Tensor, approximate: str = "none") -> Map:
    def apply(k: Kernel, g: Reg, u: Reg) -> Reg:
        one, half = const(1.0, u.kind), const(0.5, u.kind)
        if approximate == "none":
            cdf = k.mul(half, k.add(one, external(k, SCIPY, "erf", k.mul(u, const(math.sqrt(0.5), u.kind)))))
            pdf = k.mul(
                elementary("exp")(k, k.mul(k.mul(u, u), const(-0.5, u.kind))),
                const(1 / math.sqrt(2 * math.pi), u.kind),
            )
            return k.mul(g, k.add(cdf, k.mul(u, pdf)))
        t = elementary("tanh")(k, _gelu_argument(k, u))
        slope = k.mul(
            k.add(one, k.mul(k.mul(u, u), const(3 * 0.044715, u.kind))),
            const(math.sqrt(2 / math.pi), u.kind),
        )
        left = k.mul(half, k.add(one, t))
        right = k.mul(k.mul(half, u), k.mul(k.sub(one, k.mul(t, t)), slope))
        return k.mul(g, k.add(left, right))

    return b.pointwise(apply, grad, x, cost=130)


@operation("aten.hardtanh.default")
def _hardtanh(b: Builder, x: Tensor, min_val: Number = -1, max_val: Number = 1) -> Map:
    from .pointwise import _clip

    return b.pointwise(lambda k, u: _clip(k, u, const(min_val, u.kind), const(max_val, u.kind)), x, cost=2)


# Rational combinations ------------------------------------------------------------------------------------
@operation("aten.addcmul.default")
def _addcmul(b: Builder, x: Tensor, y: Tensor, z: Tensor, value: Number = 1) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg, w: Reg) -> Reg:
        product = k.mul(v, w)
        return k.add(u, product if value == 1 else k.mul(product, const(value, u.kind)))

    return b.pointwise(apply, x, y, z, cost=2)


@operation("aten.addcdiv.default")
def _addcdiv(b: Builder, x: Tensor, y: Tensor, z: Tensor, value: Number = 1) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg, w: Reg) -> Reg:
        scaled = v if value == 1 else k.mul(v, const(value, u.kind))
        return k.add(u, k.div(scaled, w))

    return b.pointwise(apply, x, y, z, cost=5)


@operation("aten.lerp.Scalar", "aten.lerp.Tensor")
def _lerp(b: Builder, x: Tensor, y: Tensor, weight: Tensor | Number) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg, w: Reg) -> Reg:
        one = const(1.0, u.kind)
        gap = k.sub(v, u)
        near = k.add(u, k.mul(w, gap))
        far = k.sub(v, k.mul(gap, k.sub(one, w)))
        return k.select(k.compare("lt", k.unary("fabs", w), const(0.5, u.kind)), near, far)

    return b.pointwise(apply, x, y, weight, cost=6)


@operation("aten.nan_to_num.default")
def _nan_to_num(
    b: Builder, x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    if not is_float(x.kind):
        return x
    largest = 1.7976931348623157e308 if x.kind == "f64" else 3.4028234663852886e38

    def apply(k: Kernel, u: Reg) -> Reg:
        value = k.select(k.isnan(u), const(nan or 0.0, u.kind), u)
        inf = const(math.inf, u.kind)
        high = const(largest if posinf is None else posinf, u.kind)
        low = const(-largest if neginf is None else neginf, u.kind)
        value = k.select(k.compare("eq", u, inf), high, value)
        return k.select(k.compare("eq", u, const(-math.inf, u.kind)), low, value)

    return b.pointwise(apply, x, cost=5)


@operation("aten.heaviside.default")
def _heaviside(b: Builder, x: Tensor, values: Tensor) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
        step = k.convert(k.compare("gt", u, const(0, u.kind)), u.kind)
        if is_float(u.kind):
            step = k.select(k.isnan(u), const(0.0, u.kind), step)
        return k.select(k.compare("eq", u, const(0, u.kind)), v, step)

    return b.pointwise(apply, x, values, cost=4)


__all__ = ["Any", "Callable", "external", "mathematics", "mixed", "power"]
