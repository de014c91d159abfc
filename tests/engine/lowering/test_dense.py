"""Check matrix algorithms in register tiles against eager torch, for whole and incomplete tiles."""

import pytest
import torch
from lowering_checks import agree, tensor

from ember.engine import machine
from ember.engine.capture import capture
from ember.engine.lowering.triangles import ANY, DIAGONAL, confined, read_only, symmetric

NARROW = machine.make_target("haswell", "+avx,+avx2,+fma,+bmi,+bmi2")
TILED = [machine.host()] + ([NARROW] if "+avx2" in machine.host().features else [])
SIZES = [9, 16, 17, 24, 27, 50]


def positive(n):
    a = tensor((n, n))
    return a @ a.T + n * torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("n", SIZES)
def test_products_factors_and_solutions(n):
    def several(s, a, b, c):
        factor = torch.linalg.cholesky(s)
        outputs = [factor, torch.cholesky_inverse(factor)]
        for right in (b, c):
            outputs += [
                a @ right,
                a.T @ right,
                a @ right.T.contiguous().T,
                torch.linalg.solve_triangular(factor, right, upper=False),
                torch.linalg.solve_triangular(factor.mT, right, upper=True),
                torch.linalg.solve_triangular(factor.mT.contiguous(), right, upper=True),
                torch.linalg.solve_triangular(factor, right.T, upper=False, left=False),
                torch.linalg.solve_triangular(factor.mT, right.T, upper=True, left=False),
                torch.linalg.solve_triangular(s, right, upper=True, unitriangular=True),
            ]
        return outputs

    wide, narrow = tensor((n, 37), seed=2), tensor((n, 3), seed=3)
    agree(several, positive(n), tensor((n, n), seed=1), wide, narrow, rtol=1e-9, atol=1e-9, targets=TILED)


@pytest.mark.parametrize("n", [20, 33])
def test_triangles_of_zeros_are_skipped_and_count_as_zeros(n):
    def several(a, b, y):
        lower, upper = a.tril(), b.triu()
        diagonal = torch.diag_embed(y[:, 0])
        return [
            lower @ b,
            upper @ a,
            a @ lower.mT,
            b @ upper.T,
            (lower.mT @ lower).tril(),
            (upper @ lower).triu(1),
            (a @ b).tril(-1),
            (-lower + 2 * lower) @ upper,
            (diagonal @ a) + (lower + diagonal) @ b,
            torch.linalg.solve_triangular(lower, b.tril(), upper=False),
            torch.linalg.solve_triangular(upper, b.tril(), upper=True),
            torch.linalg.solve_triangular(lower.mT, b.triu(), upper=True, left=False),
        ]

    scaled = tensor((n, n)) * 0.3 / n + torch.eye(n, dtype=torch.float64)
    agree(several, scaled, scaled.T + 0.1 / n, tensor((n, 2)), rtol=1e-9, atol=1e-10, targets=TILED)


@pytest.mark.parametrize("bad", [0, 3, 8, 15, 17])
def test_the_first_bad_pivot_is_named(bad):
    s = positive(18)
    s[bad, bad] = -1.0
    found = agree(lambda a: torch.linalg.cholesky_ex(a)[1], s, targets=TILED)(s)[0]
    assert found == bad + 1
    s[bad, bad] = float("nan")
    assert torch.isnan(torch.linalg.cholesky_ex(s)[0]).any()
    assert agree(lambda a: torch.linalg.cholesky_ex(a)[1] > 0, s, targets=TILED)(s)[0]


def test_only_the_lower_triangle_is_factored():
    s = positive(19)
    lopsided = s.tril() + tensor((19, 19)).triu(1)
    agree(lambda a: torch.linalg.cholesky(a), lopsided, rtol=1e-10, atol=1e-10, targets=TILED)


def structure(function, *tensors):
    program = capture(function, *tensors)
    return confined(program).get(program.outputs[0], ANY)


def test_what_is_known_of_triangles():
    a, y = tensor((6, 6)), tensor((6,))
    assert structure(lambda a: a.tril(), a) == {"lower"}
    assert structure(lambda a: a.tril(1), a) == ANY
    assert structure(lambda a: a.tril().triu(), a) == DIAGONAL
    assert structure(lambda a: a.tril().T, a) == {"upper"}
    assert structure(lambda a: (a.tril().mT * a).mT / 2, a) == {"lower"}
    assert structure(lambda a: 2 / a.tril(), a) == ANY
    assert structure(lambda a: a.tril() + a.triu(), a) == ANY
    assert structure(lambda a: a.tril() + 1.0, a) == ANY
    assert structure(lambda a: a.tril() * torch.ones(2, 1, 1, dtype=a.dtype), a) == ANY
    assert structure(lambda a, y: a.tril() - torch.diag_embed(y), a, y) == {"lower"}
    assert structure(lambda a, y: torch.diag_embed(y, 1), a, y) == ANY
    assert structure(lambda a: a.tril() @ a.tril(), a) == {"lower"}
    assert structure(lambda a: a.tril() @ a.triu(), a) == ANY
    assert structure(lambda a: a @ torch.eye(6, dtype=a.dtype), a) == ANY


def test_what_is_known_of_reading():
    def partly(a, b):
        product = a @ b
        return product.tril() + product.tril(-1).T

    def wholly(a, b):
        product = a @ b
        return product.tril() + product

    for function, expected in ((partly, "lower"), (wholly, None)):
        program = capture(function, tensor((6, 6)), tensor((6, 6), seed=1))
        product = next(node for node in program.nodes if node.op == "aten.mm.default")
        assert read_only(program).get(product.outputs[0]) == expected


def test_gradients_of_factors_are_symmetric():
    def gradient(s, y):
        with torch.enable_grad():
            s = s.detach().requires_grad_()
            factor = torch.linalg.cholesky(s)
            value = torch.linalg.solve_triangular(factor, y, upper=False).square().sum()
            return torch.autograd.grad(value + factor.diagonal().log().sum(), s)[0]

    s, y = positive(27), tensor((27, 2), seed=1)
    program = capture(gradient, s, y)
    assert program.outputs[0] in symmetric(program)
    agree(gradient, s, y, rtol=1e-9, atol=1e-9, targets=TILED)


def test_what_is_known_of_symmetry():
    a, y = tensor((6, 6)), tensor((6, 6), seed=1)

    def known(function):
        program = capture(function, a, y)
        return program.outputs[0] in symmetric(program)

    assert known(lambda a, y: a.tril() + a.tril(-1).T)
    assert known(lambda a, y: a.triu(1).T + a.triu())
    assert not known(lambda a, y: a.tril() + a.tril().T)
    assert not known(lambda a, y: a.tril() + y.tril(-1).T)
    assert not known(lambda a, y: a.tril() + a.triu(1).T)

    def solved(a, y, right):
        half = torch.linalg.solve_triangular(y.mT, a.tril() + a.tril(-1).T, upper=True)
        return torch.linalg.solve_triangular(right, half, upper=False, left=False)

    assert known(lambda a, y: solved(a, y, y) * 2)
    assert not known(lambda a, y: solved(a, y, a))


def test_transposed_numbers_and_vectors_are_no_matrices():
    agree(lambda x: x.sum().transpose(0, 0) + x.transpose(0, -1).permute(0), tensor((6,)))
