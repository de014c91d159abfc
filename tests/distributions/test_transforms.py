"""Check every transform and every bijection onto a constraint: inverse, determinant, shapes."""

# ruff: noqa: E501  (one example a line reads as a table)

import pickle

import pytest
import torch
from scipy.fft import dct
from torch.distributions import biject_to, transform_to
from torch.distributions.transforms import Transform
from torch.utils._python_dispatch import TorchDispatchMode

import ember.distributions as dist
from ember.distributions import constraints, transforms

DOUBLE = torch.float64
LOW, HIGH = torch.tensor([-1.0, 0.5, 2.0], dtype=DOUBLE), torch.tensor([0.0, 3.0, 7.0], dtype=DOUBLE)
INFINITE = (
    torch.tensor([-torch.inf, -2.0, -torch.inf], dtype=DOUBLE),
    torch.tensor([1.0, torch.inf, torch.inf], dtype=DOUBLE),
)
TRIL = torch.tensor([[1.2, 0.0, 0.0], [0.3, 0.7, 0.0], [-0.5, 0.2, 2.0]], dtype=DOUBLE)

# Name, constraint, shape of the free value.
CONSTRAINTS = [
    ("real", constraints.real, (4, 3)),
    ("real_vector", constraints.real_vector, (4, 3)),
    ("positive", constraints.positive, (4, 3)),
    ("nonnegative", constraints.nonnegative, (4, 3)),
    ("softplus_positive", constraints.softplus_positive, (4, 3)),
    ("greater_than", constraints.greater_than(LOW), (4, 3)),
    ("greater_than_eq", constraints.greater_than_eq(1.5), (4, 3)),
    ("less_than", constraints.less_than(HIGH), (4, 3)),
    ("unit_interval", constraints.unit_interval, (4, 3)),
    ("interval", constraints.interval(LOW, HIGH), (4, 3)),
    ("half_open_interval", constraints.half_open_interval(-1.0, 2.0), (4, 3)),
    ("extended_interval", constraints.extended_interval(*INFINITE), (4, 3)),
    ("extended_interval_finite", constraints.extended_interval(LOW, HIGH), (4, 3)),
    ("simplex", constraints.simplex, (4, 3)),
    ("ordered_vector", constraints.ordered_vector, (4, 3)),
    ("positive_ordered_vector", constraints.positive_ordered_vector, (4, 3)),
    ("lower_cholesky", constraints.lower_cholesky, (4, 6)),
    ("softplus_lower_cholesky", constraints.softplus_lower_cholesky, (4, 6)),
    ("unit_lower_cholesky", constraints.unit_lower_cholesky, (4, 6)),
    ("positive_definite", constraints.positive_definite, (4, 6)),
    ("corr_cholesky", constraints.corr_cholesky, (4, 6)),
    ("corr_matrix", constraints.corr_matrix, (4, 6)),
    ("mixture", constraints.MixtureSameFamilyConstraint(constraints.positive), (4, 3)),
    ("independent", constraints.independent(constraints.positive, 1), (4, 3)),
    ("stack", constraints.stack([constraints.positive, constraints.real, constraints.unit_interval], -1), (4, 3)),
    ("cat", constraints.cat([constraints.positive, constraints.real], -1, [2, 1]), (4, 3)),
]  # fmt: skip

# Name, transform, shape of an input; one that lies in the domain is made from free numbers.
TRANSFORMS = [
    ("ELUTransform", transforms.ELUTransform(), (4, 3)),
    ("LeakyReLUTransform", transforms.LeakyReLUTransform(), (4, 3)),
    ("PositivePowerTransform", transforms.PositivePowerTransform(LOW.abs()), (4, 3)),
    ("OrderedTransform", transforms.OrderedTransform(), (4, 3)),
    ("SimplexToOrderedTransform", transforms.SimplexToOrderedTransform(torch.tensor(0.3, dtype=DOUBLE)), (4, 3)),
    ("SoftplusTransform", transforms.SoftplusTransform(), (4, 3)),
    ("LowerCholeskyAffine", transforms.LowerCholeskyAffine(LOW, TRIL), (4, 3)),
    ("Permute", transforms.Permute(torch.tensor([2, 0, 1])), (4, 3)),
    ("Permute-2", transforms.Permute(torch.tensor([2, 0, 1]), dim=-2), (2, 3, 2)),
    ("DiscreteCosineTransform", transforms.DiscreteCosineTransform(), (4, 5)),
    ("DiscreteCosineTransform-smooth", transforms.DiscreteCosineTransform(dim=-2, smooth=1.0), (2, 4, 2)),
    ("HaarTransform", transforms.HaarTransform(), (4, 7)),
    ("HaarTransform-flip", transforms.HaarTransform(dim=-2, flip=True), (2, 4, 2)),
    ("CholeskyTransform", transforms.CholeskyTransform(), (4, 6)),
    ("CorrMatrixCholeskyTransform", transforms.CorrMatrixCholeskyTransform(), (4, 6)),
    ("CorrCholeskyTransform", transforms.CorrCholeskyTransform(), (4, 6)),
    ("VectorToLowerCholeskyTransform", transforms.VectorToLowerCholeskyTransform(), (4, 6)),
]  # fmt: skip
names = pytest.mark.parametrize


def free_coordinates(constraint, value):
    """Return independent coordinates of a constrained value: the entries that determine the others."""
    base = constraint
    while isinstance(base, type(constraints.real_vector)):
        base = base.base_constraint
    kind = type(base)
    if kind is type(constraints.simplex):
        return value[..., :-1]
    lower = (constraints.lower_cholesky, constraints.softplus_lower_cholesky, constraints.positive_definite)
    strict = (constraints.unit_lower_cholesky, constraints.corr_cholesky, constraints.corr_matrix)
    for group, diagonal in ((lower, 0), (strict, -1)):
        if kind in [type(each) for each in group]:
            rows, columns = torch.tril_indices(value.shape[-1], value.shape[-1], diagonal)
            return value[..., rows, columns]
    return value


def log_determinants(function, x, event_dim):
    """Return log |det| of the Jacobian of ``function`` at each batch entry, by automatic differentiation."""
    flat = x.reshape(-1, *x.shape[x.dim() - event_dim :]) if event_dim else x.reshape(-1)
    results = []
    for i in range(len(flat)):
        j = torch.autograd.functional.jacobian(lambda row, i=i: function(row, i), flat[i])
        size = flat[i].numel()
        results.append(torch.linalg.slogdet(j.reshape(-1, size))[1])
    return torch.stack(results).reshape(x.shape[: x.dim() - event_dim])


@names(("name", "constraint", "shape"), CONSTRAINTS, ids=[each[0] for each in CONSTRAINTS])
def test_bijection(name, constraint, shape):
    torch.manual_seed(3)
    transform = biject_to(constraint)
    free = torch.randn(shape, dtype=DOUBLE) * 1.5
    value = transform(free)
    assert transform.bijective
    assert constraint.check(value).all()
    assert value.shape == transform.forward_shape(shape)
    assert torch.Size(shape) == transform.inverse_shape(value.shape)
    torch.testing.assert_close(transform.inv(value), free, rtol=1e-7, atol=1e-8)
    actual = transform.log_abs_det_jacobian(free, value)
    n = transform.domain.event_dim
    assert actual.shape == shape[: len(shape) - n]
    if n:
        expected = log_determinants(lambda row, i: free_coordinates(constraint, transform(row)), free, n)
    else:
        free.requires_grad_()
        (slope,) = torch.autograd.grad(transform(free).sum(), free)
        expected = slope.abs().log()
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)


@names(("name", "constraint", "shape"), CONSTRAINTS, ids=[each[0] for each in CONSTRAINTS])
def test_transform_to(name, constraint, shape):
    transform = transform_to(constraint)
    if ("cholesky" in name and "corr" not in name) or name == "positive_definite":
        shape = (4, 3, 3)
    value = transform(torch.randn(shape, dtype=DOUBLE))
    assert constraint.check(value).all()


@names(("name", "constraint", "shape"), CONSTRAINTS, ids=[each[0] for each in CONSTRAINTS])
def test_bijections_read_no_values(name, constraint, shape):
    reads = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.__name__.split(".")[0] in ("_local_scalar_dense", "nonzero", "equal", "masked_select"):
                reads.append(func.__name__)
            return func(*args, **(kwargs or {}))

    flag = torch.distributions.Distribution._validate_args
    with Watch():
        transform = biject_to(constraint)
        free = torch.zeros(shape, dtype=DOUBLE)
        value = transform(free)
        transform.log_abs_det_jacobian(free, value)
    assert flag == torch.distributions.Distribution._validate_args
    assert reads == []


@names(("name", "constraint", "shape"), CONSTRAINTS, ids=[each[0] for each in CONSTRAINTS])
def test_gradients_are_finite_far_out(name, constraint, shape):
    # Sums of exponentials that are exponentiated again overflow for good reason.
    far = 2.0 if name == "positive_ordered_vector" else 12.0
    for size in (-far, far):
        free = torch.full(shape, size, dtype=DOUBLE).requires_grad_()
        transform = biject_to(constraint)
        value = transform(free)
        total = value.sum() + transform.log_abs_det_jacobian(free, value).sum()
        assert torch.isfinite(total)
        (gradient,) = torch.autograd.grad(total, free)
        assert torch.isfinite(gradient).all()


@names(("name", "transform", "shape"), TRANSFORMS, ids=[each[0] for each in TRANSFORMS])
def test_transform(name, transform: Transform, shape):
    torch.manual_seed(4)
    domain = transform.domain
    outer = biject_to(domain)
    free = torch.randn((*shape[:-1], shape[-1] - 1) if domain is constraints.simplex else shape, dtype=DOUBLE)
    x = outer(free)
    y = transform(x)
    assert transform.codomain.check(y).all()
    assert y.shape == transform.forward_shape(x.shape)
    assert transform.inverse_shape(y.shape) == x.shape
    torch.testing.assert_close(transform.inv(y), x, rtol=1e-7, atol=1e-9)
    actual = transform.log_abs_det_jacobian(x, y)
    n = domain.event_dim
    assert actual.shape == x.shape[: x.dim() - n]
    # The chain rule: from free coordinates to the image, minus from free coordinates to the argument.
    m = outer.domain.event_dim
    if m:
        image = log_determinants(
            lambda row, i: free_coordinates(transform.codomain, transform(outer(row))), free, m
        )
        argument = log_determinants(lambda row, i: free_coordinates(domain, outer(row)), free, m)
        torch.testing.assert_close(actual, image - argument, rtol=1e-6, atol=1e-8)
    else:
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(transform(x).sum(), x)
        torch.testing.assert_close(actual, slope.abs().log(), rtol=1e-6, atol=1e-8)


@names(("name", "transform", "shape"), TRANSFORMS, ids=[each[0] for each in TRANSFORMS])
def test_transforms_pickle_and_cache(name, transform, shape):
    other = pickle.loads(pickle.dumps(transform))
    cached = transform.with_cache(1)
    free = torch.randn(
        (*shape[:-1], shape[-1] - 1) if transform.domain is constraints.simplex else shape, dtype=DOUBLE
    )
    x = biject_to(transform.domain)(free)
    torch.testing.assert_close(other(x), transform(x))
    y = cached(x)
    assert cached.inv(y) is x
    torch.testing.assert_close(y, transform(x))


@pytest.mark.parametrize("n", [1, 2, 5, 513, 600])
def test_cosine_transform_against_scipy(n):
    x = torch.randn(3, n, dtype=DOUBLE)
    transform = transforms.DiscreteCosineTransform()
    y = transform(x)
    torch.testing.assert_close(y, torch.as_tensor(dct(x.numpy(), norm="ortho")))
    torch.testing.assert_close(transform.inv(y), x)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 8])
def test_haar_transform_is_orthogonal(n):
    matrix = transforms.HaarTransform()(torch.eye(n, dtype=DOUBLE))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(n, dtype=DOUBLE))
    if n in (2, 4, 8):
        torch.testing.assert_close(matrix[:, 0], torch.full((n,), n**-0.5, dtype=DOUBLE))


def test_simplex_to_ordered_gives_the_probabilities_back():
    p = torch.tensor([0.2, 0.3, 0.5], dtype=DOUBLE)
    predictor = torch.tensor(0.7, dtype=DOUBLE)
    cutpoints = transforms.SimplexToOrderedTransform(predictor)(p)
    torch.testing.assert_close(dist.OrderedLogistic(predictor, cutpoints).probs, p)


@pytest.mark.parametrize("p", [1, 2])
def test_normalize(p):
    x = torch.randn(5, 3, dtype=DOUBLE)
    y = transforms.Normalize(p)(x)
    torch.testing.assert_close(y.norm(p=p, dim=-1), torch.ones(5, dtype=DOUBLE))
    torch.testing.assert_close(transforms.Normalize(p).inv(y), y)
    if p == 2:
        assert constraints.sphere.check(y).all()
        assert not constraints.sphere.check(1.1 * y).any()
    with pytest.raises(ValueError, match="order"):
        transforms.Normalize(-1)


CHECKS = [
    (constraints.integer, [-2.0, 0.0, 3.0], [0.5, float("nan")]),
    (constraints.ordered_vector, [[0.0, 1.0], [-3.0, 2.0]], [[1.0, 1.0], [2.0, 0.0], [float("nan"), 1.0]]),
    (constraints.positive_ordered_vector, [[0.5, 1.0]], [[-0.5, 1.0], [2.0, 1.0]]),
    (constraints.sphere, [[0.6, 0.8]], [[1.0, 1.0], [float("nan"), 0.0]]),
    (constraints.corr_matrix, [[[1.0, 0.5], [0.5, 1.0]]], [[[1.0, 2.0], [2.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]]),
    (constraints.unit_lower_cholesky, [[[1.0, 0.0], [3.0, 1.0]]], [[[2.0, 0.0], [3.0, 1.0]]]),
    (constraints.softplus_positive, [0.1, 3.0], [0.0, -1.0, float("nan")]),
    (constraints.softplus_lower_cholesky, [[[1.0, 0.0], [3.0, 2.0]]], [[[-2.0, 0.0], [3.0, 1.0]]]),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "good", "bad"), CHECKS, ids=lambda each: repr(each)[:24])
def test_checks_of_own_constraints(constraint, good, bad):
    assert constraint.check(torch.tensor(good, dtype=DOUBLE)).all()
    assert not constraint.check(torch.tensor(bad, dtype=DOUBLE)).any()


def test_names_are_importable_as_modules():
    import ember.distributions.constraints as as_module
    import ember.distributions.transforms as transforms_module

    assert as_module.positive is torch.distributions.constraints.positive
    assert transforms_module.ExpTransform is torch.distributions.transforms.ExpTransform
    assert set(torch.distributions.transforms.__all__) <= set(transforms_module.__all__)
    for name in torch.distributions.constraints.__all__:
        assert hasattr(as_module, name)


@pytest.mark.parametrize("bad", [lambda: transforms.Permute(torch.tensor([0]), dim=0),
                                 lambda: transforms.HaarTransform(dim=1),
                                 lambda: transforms.VectorToLowerCholeskyTransform("square"),
                                 lambda: transforms.LowerCholeskyAffine(LOW, torch.eye(2)),
                                 lambda: transforms.PositivePowerTransform(-1.0),
                                 lambda: transforms.CorrCholeskyTransform()(torch.zeros(4))])  # fmt: skip
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError):
        bad()
