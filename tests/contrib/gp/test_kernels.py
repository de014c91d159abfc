"""Check covariance functions against their formulas, and the ways to combine them."""

import math

import numpy as np
import pytest
import torch

from ember.contrib.gp import kernels

F64 = torch.float64
X = torch.tensor([[0.3, -1.0], [2.0, 0.5], [-0.7, 1.1]], dtype=F64)
Z = torch.tensor([[0.3, -1.0], [1.0, 1.0]], dtype=F64)
VARIANCE, SCALES = torch.tensor(1.7, dtype=F64), torch.tensor([0.6, 1.3], dtype=F64)
OTHER = torch.tensor(0.8, dtype=F64)


def pairs(function, left=X, right=Z):
    return torch.tensor([[float(function(x.numpy(), z.numpy())) for z in right] for x in left], dtype=F64)


def radius(x, z):
    return np.linalg.norm((x - z) / SCALES.numpy())


V, S, A = VARIANCE.item(), SCALES.numpy(), OTHER.item()
R3, R5 = math.sqrt(3), math.sqrt(5)
COREGIONALISED = np.array([[1.0, 2.0], [0.0, 1.0]]) @ np.array([[1.0, 2.0], [0.0, 1.0]]).T + np.diag(
    [0.5, 0.6]
)
CASES = {
    "RBF": (lambda: kernels.RBF(2, VARIANCE, SCALES), lambda x, z: V * math.exp(-(radius(x, z) ** 2) / 2)),
    "Exponential": (
        lambda: kernels.Exponential(2, VARIANCE, SCALES),
        lambda x, z: V * math.exp(-radius(x, z)),
    ),
    "Matern32": (
        lambda: kernels.Matern32(2, VARIANCE, SCALES),
        lambda x, z: V * (1 + R3 * radius(x, z)) * math.exp(-R3 * radius(x, z)),
    ),
    "Matern52": (
        lambda: kernels.Matern52(2, VARIANCE, SCALES),
        lambda x, z: V * (1 + R5 * radius(x, z) + 5 / 3 * radius(x, z) ** 2) * math.exp(-R5 * radius(x, z)),
    ),
    "RationalQuadratic": (
        lambda: kernels.RationalQuadratic(2, VARIANCE, SCALES, OTHER),
        lambda x, z: V * (1 + radius(x, z) ** 2 / (2 * A)) ** -A,
    ),
    "Cosine": (lambda: kernels.Cosine(2, VARIANCE, SCALES), lambda x, z: V * math.cos(radius(x, z))),
    "Periodic": (
        lambda: kernels.Periodic(2, VARIANCE, SCALES, OTHER),
        lambda x, z: V * math.exp(-2 * np.sum((np.sin(math.pi * (x - z) / A) / S) ** 2)),
    ),
    "Linear": (lambda: kernels.Linear(2, SCALES), lambda x, z: x @ (S * z)),
    "Polynomial": (lambda: kernels.Polynomial(2, VARIANCE, OTHER, 3), lambda x, z: V * (A + x @ z) ** 3),
    "Constant": (lambda: kernels.Constant(2, VARIANCE), lambda x, z: V),
    "Brownian": (
        lambda: kernels.Brownian(1, VARIANCE, active_dims=[1]),
        lambda x, z: V * (x[1] * z[1] > 0) * min(abs(x[1]), abs(z[1])),
    ),
    "Coregionalize": (
        lambda: kernels.Coregionalize(
            2,
            components=torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=F64),
            diagonal=torch.tensor([0.5, 0.6], dtype=F64),
        ),
        lambda x, z: x @ COREGIONALISED @ z,
    ),
    "Exponent": (lambda: kernels.Exponent(kernels.Linear(2, SCALES)), lambda x, z: math.exp(x @ (S * z))),
    "VerticalScaling": (
        lambda: kernels.VerticalScaling(kernels.Linear(2, SCALES), lambda x: x.sum(-1)),
        lambda x, z: x.sum() * (x @ (S * z)) * z.sum(),
    ),
    "Warping": (
        lambda: kernels.Warping(kernels.Linear(2, SCALES), lambda x: 2 * x, [1, 0, 3]),
        lambda x, z: 1 + 3 * (4 * x @ (S * z)) ** 2,
    ),
    "Sum": (
        lambda: kernels.Sum(kernels.Linear(1, OTHER, active_dims=[1]), kernels.Constant(2, VARIANCE)),
        lambda x, z: A * x[1] * z[1] + V,
    ),
    "Product": (lambda: kernels.Product(kernels.Linear(2, SCALES), 3.0), lambda x, z: 3 * (x @ (S * z))),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_covariances_follow_the_formula(case):
    kernel, formula = case[0](), case[1]
    torch.testing.assert_close(kernel(X, Z), pairs(formula))
    torch.testing.assert_close(kernel(X), pairs(formula, X, X))
    torch.testing.assert_close(kernel(X, diag=True), pairs(formula, X, X).diagonal())


def test_gradients_at_equal_inputs_are_finite():
    inputs = X.clone().requires_grad_()
    for kernel in (kernels.Exponential, kernels.Matern32, kernels.Matern52, kernels.Cosine):
        (gradient,) = torch.autograd.grad(kernel(2)(inputs).sum(), inputs)
        assert torch.isfinite(gradient).all()


def test_white_noise_belongs_to_single_points():
    noise = kernels.WhiteNoise(2, VARIANCE)
    assert torch.equal(noise(X), V * torch.eye(3, dtype=F64))
    assert torch.equal(noise(X, X), torch.zeros(3, 3, dtype=F64))
    assert torch.equal(noise(X, diag=True), torch.full((3,), V, dtype=F64))


def test_combinations_know_their_dims():
    both = kernels.Sum(kernels.RBF(1, active_dims=[2]), kernels.RBF(2))
    assert (both.input_dim, both.active_dims) == (3, [0, 1, 2])
    assert {name for name, _ in both.named_pyro_params()} == {
        f"kern{i}.{name}" for i in (0, 1) for name in ("variance", "lengthscale")
    }


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: kernels.RBF(2, active_dims=[1]), ValueError, "do not agree"),
        (lambda: kernels.RBF(1)(torch.zeros(2, 1, 1)), ValueError, "wrong shape"),
        (lambda: kernels.RBF(2)(torch.zeros(2, 2), torch.zeros(2)), ValueError, "number of features"),
        (lambda: kernels.Brownian(2), ValueError, "one input feature"),
        (lambda: kernels.Sum(1.0, kernels.RBF(1)), TypeError, "cannot combine"),
        (lambda: kernels.Product(kernels.RBF(1), "x"), TypeError, "cannot combine"),
        (lambda: kernels.Polynomial(1, degree=0), ValueError, "degree"),
        (lambda: kernels.Coregionalize(2, components=torch.ones(3, 1)), ValueError, "components"),
        (lambda: kernels.Warping(kernels.RBF(1), None, [1, -1]), ValueError, "nonnegative"),
    ],
)
def test_mistakes_are_named(make, error, text):
    with pytest.raises(error, match=text):
        make()
