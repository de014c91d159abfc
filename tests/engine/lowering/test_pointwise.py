"""Check pointwise operations against eager torch: shapes, dtypes, promotion and edge values."""

import math

import pytest
import torch
from lowering_checks import EDGES, SHAPES, agree, agree_on_operations, gradient_of, tensor

from ember.engine.compile import compile
from ember.engine.program import Node, Program, Value

FLOATS = [torch.float64, torch.float32]
ANY = [torch.float64, torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool]

UNARY_FLOAT = [
    torch.exp, torch.expm1, torch.log, torch.log1p, torch.sigmoid, torch.tanh, torch.sqrt, torch.rsqrt,
    torch.reciprocal, torch.floor, torch.ceil, torch.trunc, torch.round, torch.frac, torch.square, torch.sin,
    torch.cos, torch.tan, torch.atan, torch.asinh, torch.sinh, torch.cosh, torch.exp2, torch.log2,
    torch.log10,
    torch.erf, torch.erfc, torch.special.ndtr, torch.special.log_ndtr, torch.special.i0, torch.special.i0e,
    torch.special.i1, torch.special.i1e, torch.special.erfcx, torch.nn.functional.softplus,
    torch.nn.functional.logsigmoid, torch.sinc, torch.special.entr,
]  # fmt: skip
ON_UNIT = [torch.asin, torch.acos, torch.erfinv, torch.special.ndtri, torch.logit, torch.atanh]
UNARY_ANY = [
    torch.neg,
    torch.abs,
    torch.sign,
    torch.isnan,
    torch.isinf,
    torch.isfinite,
    torch.logical_not,
    torch.signbit,
]
BINARY = [
    torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum, torch.eq, torch.ne, torch.lt,
    torch.le, torch.gt,
    torch.ge, torch.logical_and, torch.logical_or, torch.logical_xor,
]  # fmt: skip
BINARY_FLOAT = [
    torch.div, torch.remainder, torch.fmod, torch.floor_divide, torch.pow, torch.atan2, torch.copysign,
    torch.fmax,
    torch.fmin, torch.logaddexp, torch.xlogy, torch.special.xlog1py, torch.hypot,
]  # fmt: skip


def name(function):
    return function.__name__


@pytest.mark.parametrize("function", UNARY_FLOAT, ids=name)
def test_unary_functions_of_floats(function):
    def several(a, b, c):
        return [function(a), function(b), function(c)]

    edges = torch.tensor(EDGES, dtype=torch.float64)
    if function in (torch.sin, torch.cos, torch.tan):
        edges = edges[edges.abs() < 1e6]  # reductions of huge angles differ in the last digits
    agree(
        several,
        edges,
        tensor((33,), torch.float32),
        tensor(()),
        rtol=2e-13 if function is not torch.tan else 1e-9,
    )


@pytest.mark.parametrize("function", ON_UNIT, ids=name)
def test_unary_functions_on_the_unit_interval(function):
    edges = torch.tensor([0.0, 1.0, 0.5, -0.25, math.nan, 1e-300, 1 - 2**-53, 0.07, 0.93, 2.0, -2.0])
    agree(
        lambda a, b: [function(a), function(b)],
        edges.double(),
        tensor((50,), low=0.001, high=0.999),
        rtol=3e-13,
    )


@pytest.mark.parametrize("function", UNARY_ANY, ids=name)
@pytest.mark.parametrize("dtype", ANY, ids=str)
def test_unary_functions_of_any_dtype(function, dtype):
    if function in (torch.neg, torch.abs) and dtype == torch.bool:
        pytest.skip("torch does neither with bools")
    agree(function, tensor((19,), dtype))


@pytest.mark.parametrize("function", BINARY, ids=name)
def test_binary_functions_promote_dtypes(function):
    pairs = [(a, b) for a in ANY for b in ANY if not (function is torch.sub and torch.bool in (a, b))]

    def all_pairs(*xs):
        return [function(xs[2 * i], xs[2 * i + 1]) for i in range(len(pairs))]

    flat = [tensor((9,), dtype, seed) for pair in pairs for seed, dtype in enumerate(pair)]
    agree(all_pairs, *flat)


@pytest.mark.parametrize("function", BINARY_FLOAT, ids=name)
def test_binary_functions_at_edges(function):
    edges = torch.tensor(EDGES, dtype=torch.float64)
    if function in (torch.fmod, torch.remainder):
        edges = edges[(edges.abs() < 1e300) & ((edges == 0) | (edges.abs() > 1e-300)) | edges.isinf()]
    first, second = torch.cartesian_prod(edges, edges).unbind(1)
    agree(function, first.contiguous(), second.contiguous(), rtol=1e-12)


def test_scalars_promote_as_torch_does():
    def several(x, i, f):
        return [
            x + 1,
            i + 1.5,
            i * 2,
            f * 2.0,
            i / 2,
            3 - x,
            2**f,
            i // 2,
            i % 3,
            f > 1,
            i == 2,
            True + i,
            f + i,
        ]

    agree(several, tensor((7,)), tensor((7,), torch.int64), tensor((), torch.float32))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_broadcast(shape):
    x = tensor(shape)
    others = [tensor(())]
    if shape:
        others += [tensor(shape[-1:]), tensor((*shape[:-1], 1))]
    for other in others:
        agree(lambda a, b: [a * b + 1, torch.exp(a) - b, (a > b).double()], x, other)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8], ids=str)
def test_integer_division_and_bits(dtype):
    x, y = tensor((60,), dtype, 1), tensor((60,), dtype, 2)
    y = torch.where(y == 0, 3, y).to(dtype)
    agree_on_operations(
        [
            ("aten.div.Tensor_mode", {"rounding_mode": "floor"}),
            ("aten.div.Tensor_mode", {"rounding_mode": "trunc"}),
            ("aten.floor_divide.default",),
            ("aten.remainder.Tensor",),
            ("aten.fmod.Tensor",),
            ("aten.div.Tensor",),
            ("aten.bitwise_and.Tensor",),
            ("aten.bitwise_or.Tensor",),
            ("aten.bitwise_xor.Tensor",),
        ],
        x,
        y,
    )
    agree(lambda a: [~a, a << 3, a >> 1, a << 40, a >> 40, a**2, a**0, a // 3, a % 5], x)


def test_division_by_zero_and_of_the_smallest_integer_does_not_trap():
    x = torch.tensor([-(2**63), 5, -7, 4], dtype=torch.int64)
    y = torch.tensor([-1, -1, 3, 0], dtype=torch.int64)
    inputs = [Value((4,), torch.int64), Value((4,), torch.int64)]
    output = Value((4,), torch.int64)
    node = Node("aten.div.Tensor_mode", tuple(inputs), {"rounding_mode": "floor"}, (output,))
    program = Program(inputs, {}, [node], [output])
    assert compile(program, use_disk=False)(x, y)[0].tolist()[:3] == [-(2**63), -5, -3]


def test_casts_between_all_dtypes():
    values = torch.tensor([0.0, 1.0, -1.0, 2.7, -2.7, 100.4, 0.3])

    def casts(*xs):
        return [x.to(dtype) for x in xs for dtype in ANY]

    agree(casts, *(values.abs().to(dtype) if dtype == torch.uint8 else values.to(dtype) for dtype in ANY))


def test_selections_and_clamps():
    x, y = tensor((21,)), tensor((21,), seed=3)
    edges = torch.tensor(EDGES, dtype=torch.float64)

    def several(x, y, e):
        return [
            torch.where(x > y, x, y * 2),
            torch.where(x > 0, 1.0, x),
            x.clamp(-1, 1),
            x.clamp(min=0.5),
            x.clamp(max=y),
            e.clamp(-1.5, 2.0),
            x.masked_fill(x > 0, 7.0),
            torch.nan_to_num(e),
            torch.heaviside(x, y),
            torch.lerp(x, y, 0.3),
            torch.addcmul(x, y, y, value=0.5),
        ]

    agree(several, x, y, edges)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -0.5, -1, -2, 2.5, 4, -3])
def test_powers(exponent):
    agree(lambda x: [x**exponent, torch.pow(x.float(), exponent)], torch.tensor(EDGES, dtype=torch.float64))


@pytest.mark.parametrize(
    "function", [torch.exp, torch.log1p, torch.tanh, torch.sqrt, torch.lgamma, torch.erf], ids=name
)
def test_gradients(function):
    agree(gradient_of(function), tensor((20,), low=0.2, high=3.0))
