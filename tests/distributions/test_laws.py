"""Check the laws that every family obeys, over one example of each."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings

import pytest
import torch
from families import FAMILIES, Family
from torch.distributions import biject_to, constraints

import ember.distributions as dist

POINT_MASSES = ("Delta",)


def each(select=lambda family: True):
    chosen = [family for family in FAMILIES if select(family)]
    return pytest.mark.parametrize("family", chosen, ids=lambda family: family.id)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20240917)


def draw(d, sample_shape=()):
    with torch.no_grad():
        return d.sample(torch.Size(sample_shape))


def is_continuous(family: Family) -> bool:
    d = family.make()
    if family.name in ("Empirical", *POINT_MASSES):
        return False
    return draw(d).dtype.is_floating_point and not d.support.is_discrete and "Extended" not in family.name


def differentiable(family: Family) -> list[str]:
    return [name for name, value in family.params.items() if value.dtype.is_floating_point]


def test_every_family_has_an_example():
    named = {family.name for family in FAMILIES}
    elsewhere = {
        "Distribution", "TorchDistribution", "TorchDistributionMixin", "ExponentialFamily", "ScoreParts",
        "MaskedDistribution", "Unit", "ImproperUniform", "RelaxedBernoulliStraightThrough",
        "RelaxedOneHotCategoricalStraightThrough", "HiddenMarkovModel", "Stable", "GaussianMRF",
        "LinearHMM", "Rejector", "AVFMultivariateNormal",
        "TruncatedPolyaGamma", "CoalescentTimes", "CoalescentTimesWithRate", "CoalescentRateLikelihood",
        "GroupedNormalNormal", "SpanningTree", "OneOneMatching", "OneTwoMatching",
        "ConditionalDistribution", "ConditionalTransform", "ConditionalTransformModule",
        "ConditionalTransformedDistribution", "ConstantConditionalDistribution",
    }  # fmt: skip
    families = {name for name in dist.__all__ if isinstance(getattr(dist, name), type)}
    assert families - named - elsewhere == set()


@each()
def test_shapes(family):
    d = family.make()
    assert d.batch_shape == family.batch_shape
    assert d.event_shape == family.event_shape
    assert d.event_dim == len(family.event_shape)
    assert isinstance(d.batch_shape, torch.Size)
    for sample_shape in [(), (4,), (2, 1)]:
        x = d(torch.Size(sample_shape))
        assert x.shape == d.shape(sample_shape) == (*sample_shape, *d.batch_shape, *d.event_shape)
        assert d.log_prob(x).shape == (*sample_shape, *d.batch_shape)


@each()
def test_subclasses_torch(family):
    d = family.make()
    assert isinstance(d, torch.distributions.Distribution)
    assert isinstance(d, dist.Distribution)
    torch_family = getattr(torch.distributions, family.name, None)
    if torch_family is not None:
        assert isinstance(d, torch_family)


@each(lambda family: family.reference is not None)
def test_log_prob_against_independent_formula(family):
    d = family.make()
    x = draw(d, (5,))
    torch.testing.assert_close(d.log_prob(x), family.expected_log_prob(x), rtol=1e-6, atol=1e-7)


@each(lambda family: family.name not in POINT_MASSES)
def test_log_prob_in_single_precision(family):
    exact, d = family.make(), family.make(torch.float32)
    x = draw(d, (5,))
    wide = x.double() if x.dtype.is_floating_point else x
    if family.name == "Empirical":
        wide = draw(exact, (5,))
        x = wide.float()
    actual = d.log_prob(x)
    if family.params and "fixed temperature" not in family.id and family.name != "RelaxedOneHotCategorical":
        assert actual.dtype == torch.float32
    with dist.validation_enabled(False):
        expected = exact.log_prob(wide)
    # Values beside a bound of the support lose digits in single precision.
    tolerance = 1e-3 if family.name not in ("LKJ", "LKJCholesky", "Wishart", "Beta", "Kumaraswamy") else 0.05
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


@each()
def test_draws_are_in_the_support(family):
    d = family.make()
    x = draw(d, (1000,))
    if family.name != "MixtureSameFamily":
        assert d.support.check(x).all()
    assert torch.isfinite(d.log_prob(x)).all()
    assert not torch.isnan(x.double()).any()


@each(lambda family: family.moments)
def test_moments_of_draws(family):
    d = family.make()
    n = 40_000
    x = draw(d, (n,)).double()
    mean, variance = d.mean.double(), d.variance.double()
    assert mean.shape == variance.shape == d.shape()
    spread = variance.sqrt()
    error = (x.mean(0) - mean).abs()
    assert (error <= 5 * spread / n**0.5 + 1e-12).all(), (x.mean(0), mean)
    deviation = (x - mean).square()
    error_of_variance = deviation.std(0) / n**0.5
    assert ((deviation.mean(0) - variance).abs() <= 6 * error_of_variance + 1e-12).all(), (
        deviation.mean(0),
        variance,
    )


@each(lambda family: family.name in ("Cauchy", "HalfCauchy", "StudentT", "VonMises", "FoldedDistribution"))
def test_draws_follow_the_density(family):
    """Compare the share of draws in bins with the density integrated over them."""
    d = family.make()
    x = draw(d, (20_000,))
    edges = torch.linspace(-3.0, 3.0, 13, dtype=torch.float64)
    for low, high in itertools.pairwise(edges):
        grid = torch.linspace(low.item(), high.item(), 501, dtype=torch.float64)[:, None].expand(501, 3)
        with dist.validation_enabled(False):
            density = d.log_prob(grid).exp()
        share = torch.trapezoid(density, grid, dim=0)
        actual = ((x >= low) & (x < high)).double().mean(0)
        assert ((actual - share).abs() <= 5 * (share / 20_000).sqrt() + 1e-3).all()


@each(is_continuous)
def test_gradient_of_log_prob_against_finite_differences(family):
    names = differentiable(family)
    d = family.make()
    x = draw(d)
    if not names:
        return

    def density(*params):
        return family.make(**dict(zip(names, params, strict=True)), validate_args=False).log_prob(x).sum()

    symmetric = ("covariance_matrix", "precision_matrix")
    inputs = [family.params[name].clone().requires_grad_() for name in names]
    if any(name in symmetric for name in names) or "scale_tril" in names:
        gradients = torch.autograd.grad(density(*inputs), inputs)
        assert all(torch.isfinite(g).all() for g in gradients)
        direction = [torch.zeros_like(i) for i in inputs]
        direction[0] = torch.ones_like(inputs[0])
        step = 1e-6
        with torch.no_grad():
            up = density(*(i + step * v for i, v in zip(inputs, direction, strict=True)))
            down = density(*(i - step * v for i, v in zip(inputs, direction, strict=True)))
        torch.testing.assert_close(gradients[0].sum(), (up - down) / (2 * step), rtol=1e-5, atol=1e-5)
    else:
        assert torch.autograd.gradcheck(density, inputs, eps=1e-6, atol=1e-4, rtol=1e-4)


def _rsample_families(family: Family) -> bool:
    d = family.make()
    return (
        bool(d.has_rsample)
        and is_continuous(family)
        and family.moments
        and "StraightThrough" not in family.name
    )


@each(_rsample_families)
def test_pathwise_gradient_of_the_mean(family):
    """Compare the averaged gradient of draws with the gradient of the mean, where that is known."""
    names = [
        name
        for name in differentiable(family)
        if name not in ("scale_tril", "covariance_matrix", "precision_matrix")
    ]
    inputs = [family.params[name].clone().requires_grad_() for name in names]
    d = family.make(**dict(zip(names, inputs, strict=True)))
    expected = torch.autograd.grad(d.mean.sum(), inputs, allow_unused=True, retain_graph=True)
    n, repeats = 500, 40
    totals = []
    for _ in range(repeats):
        x = d.rsample(torch.Size((n,)))
        totals.append(torch.autograd.grad(x.mean(0).sum(), inputs, allow_unused=True, retain_graph=True))
    for i, want in enumerate(expected):
        got = torch.stack([t[i] if t[i] is not None else torch.zeros_like(inputs[i]) for t in totals])
        want = torch.zeros_like(inputs[i]) if want is None else want
        error = got.std(0) / repeats**0.5
        assert ((got.mean(0) - want).abs() <= 5 * error + 1e-6).all(), (names[i], got.mean(0), want)


@each()
def test_expand(family):
    d = family.make()
    before = {k: v.clone() for k, v in d.__dict__.items() if isinstance(v, torch.Tensor)}
    shape = (2, *d.batch_shape)
    wide = d.expand(torch.Size(shape))
    assert isinstance(wide, type(d))
    assert wide.batch_shape == shape and wide.event_shape == d.event_shape
    assert d.batch_shape == family.batch_shape
    for name, value in before.items():
        assert torch.equal(d.__dict__[name], value), name
    x = draw(wide)
    assert x.shape == (*shape, *d.event_shape)
    torch.testing.assert_close(wide.log_prob(x), d.log_prob(x))
    one = draw(d)
    torch.testing.assert_close(wide.log_prob(one), d.log_prob(one).expand(shape))
    assert draw(wide, (3,)).shape == (3, *shape, *d.event_shape)
    by = d.expand_by(torch.Size((4, 2)))
    assert by.batch_shape == (4, 2, *d.batch_shape)
    again = wide.expand(torch.Size((3, *shape)))
    assert again.batch_shape == (3, *shape)
    assert draw(again).shape == again.shape()


@each()
def test_expand_stretches_dims_of_size_one(family):
    d = family.make().expand(torch.Size((1, *family.batch_shape)))
    wide = d.expand(torch.Size((5, *family.batch_shape)))
    x = draw(wide)
    assert x.shape == wide.shape()
    assert wide.log_prob(x).shape == wide.batch_shape
    if is_continuous(family):
        flat = x.reshape(5, -1)
        assert (flat[0] != flat[1]).any()


@each()
def test_to_event(family):
    d = family.make()
    n = len(d.batch_shape)
    assert d.to_event(0) is d
    moved = d.to_event()
    assert moved.batch_shape == () and moved.event_shape == d.batch_shape + d.event_shape
    x = draw(d)
    torch.testing.assert_close(moved.log_prob(x), d.log_prob(x).sum())
    if n:
        back = moved.to_event(-n)
        assert back.batch_shape == d.batch_shape and back.event_shape == d.event_shape
        assert moved.to_event(0) is moved
    with pytest.raises(ValueError, match="batch_shape"):
        d.to_event(n + 1)
    with pytest.raises(ValueError, match="to_event"):
        d.to_event(-100)
    wide = moved.expand(torch.Size((2,)))
    assert wide.batch_shape == (2,) and draw(wide).shape == wide.shape()
    torch.testing.assert_close(wide.log_prob(x), moved.log_prob(x).expand(2))


@each()
def test_mask(family):
    d = family.make()
    x = draw(d)
    log_prob = d.log_prob(x)
    torch.testing.assert_close(d.mask(True).log_prob(x), log_prob)
    assert (d.mask(False).log_prob(x) == torch.zeros(d.batch_shape)).all()
    assert d.mask(False).log_prob(x).shape == d.batch_shape
    mask = torch.rand(2, *d.batch_shape) > 0.5
    masked = d.mask(mask)
    assert masked.batch_shape == mask.shape
    torch.testing.assert_close(masked.log_prob(x), torch.where(mask, log_prob, 0.0))
    parts = masked.score_parts(x)
    torch.testing.assert_close(parts.log_prob, masked.log_prob(x))
    wide = masked.expand(torch.Size((3, *mask.shape)))
    torch.testing.assert_close(wide.log_prob(x), masked.log_prob(x).expand(3, *mask.shape))
    with pytest.raises(ValueError, match="mask"):
        d.mask(torch.ones(d.batch_shape))


@each()
def test_has_rsample_(family):
    d = family.make()
    had = d.has_rsample
    changed = d.has_rsample_(False)
    assert changed is d and d.has_rsample is False
    assert d.expand(torch.Size((2, *d.batch_shape))).has_rsample is False
    assert d.to_event().has_rsample is False
    assert d.mask(True).has_rsample is False
    assert family.make().has_rsample == had
    assert d().requires_grad is False
    with pytest.raises(ValueError, match="bool"):
        d.has_rsample_("no")


@each()
def test_score_parts(family):
    d = family.make()
    x = draw(d)
    log_prob, score, entropy = d.score_parts(x)
    torch.testing.assert_close(log_prob, d.log_prob(x))
    kept, dropped = (entropy, score) if d.has_rsample else (score, entropy)
    assert isinstance(dropped, int) and dropped == 0
    torch.testing.assert_close(kept, log_prob)


@each(lambda family: family.make().has_enumerate_support)
def test_enumerate_support(family):
    d = family.make()
    short, full = d.enumerate_support(expand=False), d.enumerate_support()
    k = full.shape[0]
    assert full.shape == (k, *d.batch_shape, *d.event_shape)
    if family.name != "Empirical":
        assert short.shape == (k, *(1,) * len(d.batch_shape), *d.event_shape)
    torch.testing.assert_close(full, short.expand(full.shape))
    total = d.log_prob(full).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-9)
    wide = d.expand(torch.Size((2, *d.batch_shape)))
    assert wide.enumerate_support().shape == (k, 2, *d.batch_shape, *d.event_shape)


@each(lambda family: not family.make().has_enumerate_support)
def test_enumerate_support_refused(family):
    with pytest.raises(NotImplementedError):
        family.make().enumerate_support()


@each(lambda family: family.build is None)
def test_pickle_and_copy(family):
    d = family.make()
    x = draw(d)
    for other in (pickle.loads(pickle.dumps(d)), copy.copy(d), copy.deepcopy(d)):
        assert type(other) is type(d)
        torch.testing.assert_close(other.log_prob(x), d.log_prob(x))
        assert other.batch_shape == d.batch_shape


@each(is_continuous)
def test_bijection_to_the_support(family):
    d = family.make()
    if family.name == "MixtureSameFamily" or d.support is dist.constraints.sphere:
        return
    support = d.support
    transform = biject_to(support)
    x = draw(d)
    free = transform.inv(x)
    assert torch.isfinite(free).all()
    torch.testing.assert_close(transform(free), x, rtol=1e-6, atol=1e-8)
    assert transform.bijective
    assert transform.log_abs_det_jacobian(free, x).shape[: len(d.batch_shape)] == d.batch_shape
    start = torch.zeros_like(free)
    assert torch.isfinite(d.log_prob(transform(start))).all()


@each(lambda family: family.bad is not None)
def test_bad_parameters_are_named(family):
    (name,) = family.bad
    with pytest.raises(ValueError) as caught:
        family.make(**family.bad)
    text = str(caught.value)
    assert name in text
    assert family.name in text
    assert "where:" in text and "actual:" in text
    with dist.validation_enabled(False), warnings.catch_warnings():
        if name not in ("covariance_matrix", "cov_diag"):
            family.make(**family.bad)


@each(lambda family: family.bad_value is not None)
def test_bad_values_are_named(family):
    d = family.make()
    with pytest.raises(ValueError) as caught:
        d.log_prob(family.bad_value)
    text = str(caught.value)
    assert type(d).__name__ in text and "support" in text
    assert "where:" in text and "actual:" in text
    if family.bad_value.dtype.is_floating_point:
        with dist.validation_enabled(False):
            d.log_prob(family.bad_value)


@each(lambda family: is_continuous(family) and "NanMasked" not in family.name)
def test_nan_is_refused(family):
    d = family.make()
    value = torch.full(d.shape(), float("nan"), dtype=torch.float64)
    with pytest.raises(ValueError, match="support"):
        d.log_prob(value)


@each()
def test_values_of_wrong_shape_are_refused(family):
    d = family.make()
    value = torch.zeros((7, *(each + 3 for each in d.shape())), dtype=torch.float64)
    if not d.shape() or family.name == "Empirical":
        return
    with pytest.raises(ValueError, match=r"shape|broadcastable"):
        d.log_prob(value)


@each(lambda family: family.name not in ("Empirical",))
def test_no_value_is_read_without_validation(family):
    """Count reads of tensor values while a log probability is computed: the engine captures it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    reads = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.__name__.split(".")[0] in (
                "_local_scalar_dense",
                "nonzero",
                "equal",
                "is_nonzero",
                "masked_select",
            ):
                reads.append(func.__name__)
            return func(*args, **(kwargs or {}))

    x = draw(family.make())
    flag = torch.distributions.Distribution._validate_args
    with dist.validation_enabled(False), Watch():
        d = family.make()
        d.log_prob(x)
        d.to_event().log_prob(x)
        d.expand(torch.Size((2, *d.batch_shape))).log_prob(x)
    assert torch.distributions.Distribution._validate_args == flag
    assert reads == []


def test_support_kinds_are_covered():
    kinds = {type(family.make().support).__name__ for family in FAMILIES}
    assert {"_Real", "_GreaterThanEq", "_Interval", "_Simplex", "_CorrMatrix", "_Boolean"} <= kinds
    assert constraints.is_dependent(constraints.dependent)
