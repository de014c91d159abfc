"""Check products, factorisations and solves against eager torch, gradients included."""

import pytest
import torch
from lowering_checks import TARGETS, agree, gradient_of, tensor

from ember.engine.capture import capture
from ember.engine.compile import compile

SIZES = [1, 3, 8, 20, 60]


def positive(n, batch=()):
    a = tensor((*batch, n, n))
    return a @ a.mT + n * torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("n", SIZES)
def test_products(n):
    def several(a, b, x):
        return [
            a @ b,
            a.mT @ b.mT.mT,
            b.mT @ a.mT,
            a @ x,
            a.T @ x,
            x @ b,
            x @ x,
            a @ x.reshape(-1, 1),
            torch.outer(x, x),
        ]

    agree(several, tensor((n, n)), tensor((n, n), seed=1), tensor((n,), seed=2), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "shapes", [((4, 7), (7, 3)), ((40, 30), (30, 50)), ((1, 9), (9, 5)), ((3, 4, 5), (3, 5, 2))], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_rectangular_and_batched_products_with_gradient(shapes, dtype):
    left, right = (tensor(shape, dtype, seed) for seed, shape in enumerate(shapes))
    agree(gradient_of(torch.matmul), left, right, rtol=1e-10 if dtype == torch.float64 else 1e-4, atol=1e-3)


def test_broadcast_products():
    agree(torch.matmul, tensor((2, 3, 4, 5)), tensor((3, 5, 6)), rtol=1e-10)
    agree(lambda a, b: torch.einsum("ij,kj->ik", a, b), tensor((4, 6)), tensor((5, 6)), rtol=1e-10)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 11)], ids=str)
def test_cholesky_and_triangular_systems(n, batch):
    def density(s, y):
        factor = torch.linalg.cholesky(s)
        half = torch.linalg.solve_triangular(factor, y, upper=False)
        return half.square().sum(-2) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)

    agree(gradient_of(density), positive(n, batch), tensor((*batch, n, 2)), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize(("n", "sides"), [(5, 3), (3, 30), (12, 3)])
def test_forms_of_triangular_systems(upper, left, unit, n, sides):
    a = tensor((2, n, n)) * 0.3 + 4 * torch.eye(n, dtype=torch.float64)
    y = tensor((n, sides)) if left else tensor((sides, n))

    def several(a, y):
        options = {"left": left, "unitriangular": unit}
        return [
            torch.linalg.solve_triangular(a, y, upper=upper, **options),
            torch.linalg.solve_triangular(a.mT, y, upper=upper, **options),
        ]

    agree(several, a, y, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
def test_solves_with_factors():
    def several(s, y):
        factor = torch.linalg.cholesky(s)
        return [
            torch.cholesky_solve(y, factor),
            torch.cholesky_solve(y, factor.mT, upper=True),
            torch.cholesky_inverse(factor),
            torch.triangular_solve(y, factor, upper=False)[0],
            torch.triangular_solve(y, factor, upper=False, transpose=True)[0],
        ]

    agree(several, positive(6), tensor((6, 2)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_general_systems_and_determinants(n):
    a = tensor((2, n, n)) + torch.eye(n, dtype=torch.float64)

    def several(a, y):
        return [
            torch.linalg.solve(a, y),
            torch.linalg.solve(a, y.mT, left=False),
            torch.linalg.inv(a),
            torch.linalg.det(a * 0.5),
            *torch.linalg.slogdet(a),
        ]

    agree(several, a, tensor((2, n, 3)), rtol=1e-7, atol=1e-9)
    agree(gradient_of(lambda a: torch.linalg.slogdet(a)[1]), a, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n", SIZES)
def test_symmetric_eigenproblems(n):
    def rebuilt(s):
        values, vectors = torch.linalg.eigh(s)
        return values, (vectors * values.unsqueeze(-2)) @ vectors.mT, torch.linalg.eigvalsh(s)

    agree(rebuilt, positive(n), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 4), (7, 3), (3, 7), (2, 5, 4)], ids=str)
def test_singular_values_and_qr(shape):
    def rebuilt(a):
        u, s, v = torch.linalg.svd(a, full_matrices=False)
        whole = torch.linalg.svd(a)
        q, r = torch.linalg.qr(a)
        full_q, full_r = torch.linalg.qr(a, mode="complete")
        return [
            s,
            (u * s.unsqueeze(-2)) @ v,
            torch.linalg.svdvals(a),
            (whole[0] @ whole[0].mT),
            whole[2] @ whole[2].mT,
            q @ r,
            q.mT @ q,
            r,
            full_q @ full_r,
            torch.linalg.qr(a, mode="r")[1],
        ]

    agree(rebuilt, tensor(shape), rtol=1e-9, atol=1e-10)


def test_cross_products():
    agree(lambda x, y: torch.linalg.cross(x, y), tensor((4, 3)), tensor((4, 3), seed=1))


@pytest.mark.parametrize("target", TARGETS, ids=["host", "plain"])
def test_failed_factorisations_give_nan_not_numbers(target):
    for n in (4, 12):
        indefinite = torch.eye(n, dtype=torch.float64)
        indefinite[2, 2] = -1.0
        program = capture(lambda s: torch.linalg.cholesky_ex(s), indefinite)
        factor, code = compile(program, target, use_disk=False)(indefinite)
        assert factor.isnan().all()
        assert code.item() == 3
    singular = torch.zeros(3, 3, dtype=torch.float64)
    program = capture(lambda a: torch.linalg.inv_ex(a).inverse, torch.eye(3, dtype=torch.float64))
    assert compile(program, target, use_disk=False)(singular)[0].isnan().all()


def test_float32():
    s = positive(8).float()
    agree(
        lambda s, y: [torch.linalg.cholesky(s), torch.linalg.solve(s, y)],
        s,
        tensor((8, 2), torch.float32),
        atol=1e-4,
    )


@pytest.mark.parametrize("flip", [False, True], ids=["contiguous", "transposed"])
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_gradients_of_solves_do_not_depend_on_strides(flip, left):
    def function(a, y):
        return (
            torch.linalg.solve(a.mT if flip else a, y, left=left)
            * torch.linalg.slogdet(a.mT if flip else a)[1]
        )

    a, y = tensor((4, 4)) + 3 * torch.eye(4, dtype=torch.float64), tensor((4, 4), seed=1)
    gradient = gradient_of(function)
    expected = gradient(a, y)
    for target in TARGETS:
        found = compile(capture(gradient, a, y), target, use_disk=False)(a, y)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    noncontiguous = a.t().contiguous().t()
    found = compile(capture(gradient, noncontiguous, y), use_disk=False)(noncontiguous, y)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (2, 3, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_exponentials_of_matrices_with_gradient(shape, dtype):
    # Small, and so large that some of a batch are scaled and squared more often than others.
    scale = torch.tensor([0.1, 12.0], dtype=dtype)[: shape[0] if len(shape) == 3 else 1, None, None]
    rtol = 1e-9 if dtype == torch.float64 else 1e-3
    for factor in (1.0, 5.0):
        a = (tensor(shape, dtype) * scale * factor).reshape(shape)
        agree(gradient_of(torch.linalg.matrix_exp), a, rtol=rtol, atol=rtol)
