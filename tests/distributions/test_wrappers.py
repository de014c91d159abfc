"""Check points, factors, masks, wrappers and the shape rules that they share."""

import copy
import math
import pickle

import pytest
import torch

import ember.distributions as dist

INF = math.inf


def test_unit_shapes_and_rsample():
    factor = torch.tensor([0.5, -1.0])
    d = dist.Unit(factor)
    assert d.batch_shape == (2,) and d.event_shape == (0,) and d().shape == (2, 0)
    assert d().numel() == 0
    torch.testing.assert_close(d.log_prob(d()), factor)
    wide = d.expand((3, 2))
    torch.testing.assert_close(wide.log_prob(wide()), factor.expand(3, 2))
    assert d.log_prob(torch.empty(4, 1, 0)).shape == (4, 2)
    assert "has_rsample" not in d.__dict__
    for value in (True, False):
        given = dist.Unit(factor, has_rsample=value)
        assert given.__dict__["has_rsample"] is value and given.has_rsample is value
        assert given.expand((3, 2)).__dict__["has_rsample"] is value
        assert pickle.loads(pickle.dumps(given)).has_rsample is value


def test_delta():
    d = dist.Delta(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, -0.5]), event_dim=1)
    assert d.batch_shape == (2,) and d.event_shape == (2,)
    value = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    torch.testing.assert_close(d.log_prob(value), torch.tensor([0.5, -INF]))
    assert d.log_prob(value[0]).shape == (2,)
    torch.testing.assert_close(d.log_density, torch.tensor([0.5, -0.5]))
    v = torch.tensor(0.3, requires_grad=True)
    assert dist.Delta(v)().requires_grad
    assert dist.Delta(v)() is v
    assert dist.Delta(torch.tensor(3)).log_prob(torch.tensor(3)) == 0.0
    assert dist.Delta(torch.zeros(2)).log_density.shape == (2,)


def test_delta_passes_gradients_to_its_log_density():
    density = torch.tensor(0.2, requires_grad=True)
    dist.Delta(torch.tensor(1.0), density).log_prob(torch.tensor(1.0)).backward()
    assert density.grad == 1.0


@pytest.mark.parametrize("shapes", [((), ()), ((2, 1), (3,)), ((3, 2, 1), (1, 2, 5), (5,))])
def test_broadcast_shape_agrees_with_torch(shapes):
    assert dist.broadcast_shape(*shapes) == torch.broadcast_shapes(*shapes)


def test_broadcast_shape_refuses():
    with pytest.raises(ValueError, match="mismatch"):
        dist.broadcast_shape((2,), (3,))
    with pytest.raises(ValueError, match="mismatch"):
        dist.broadcast_shape((1,), (3,), strict=True)
    assert dist.broadcast_shape((4, 3), (3,), strict=True) == (4, 3)


def test_sums():
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(dist.sum_rightmost(x, 2), x.sum((1, 2)))
    torch.testing.assert_close(dist.sum_rightmost(x, -1), x.sum((1, 2)))
    torch.testing.assert_close(dist.sum_leftmost(x, 2), x.sum((0, 1)))
    torch.testing.assert_close(dist.sum_leftmost(x, -1), x.sum((0, 1)))
    assert dist.sum_rightmost(x, 0) is x and dist.sum_leftmost(x, 0) is x
    assert dist.sum_rightmost(2.0, 3) == 2.0


def test_scale_and_mask():
    x, mask = torch.tensor([1.0, INF, -2.0]), torch.tensor([True, False, True])
    assert dist.scale_and_mask(x) is x
    torch.testing.assert_close(dist.scale_and_mask(x, 2.0, mask), torch.tensor([2.0, 0.0, -4.0]))
    assert (dist.scale_and_mask(x, 2.0, False) == 0).all()
    torch.testing.assert_close(dist.scale_and_mask(x, torch.tensor(2.0), True), 2 * x)
    assert dist.scale_and_mask(0, 2.0, mask) == 0
    torch.testing.assert_close(dist.scale_and_mask(1.5, 2.0, mask), torch.tensor([3.0, 0.0, 3.0]))
    assert dist.is_identically_one(1) and dist.is_identically_one(1.0) and dist.is_identically_zero(0)
    assert not dist.is_identically_one(torch.tensor(1.0)) and not dist.is_identically_zero(torch.zeros(()))


def test_score_parts_scale_and_mask():
    parts = dist.Poisson(torch.tensor([2.0, 3.0])).score_parts(torch.tensor([1.0, 2.0]))
    mask = torch.tensor([True, False])
    scaled = parts.scale_and_mask(3.0, mask)
    torch.testing.assert_close(scaled.log_prob, torch.where(mask, 3.0 * parts.log_prob, 0.0))
    torch.testing.assert_close(scaled.score_function, torch.where(mask, parts.log_prob, 0.0))
    assert scaled.entropy_term == 0


def test_masked_gradients_do_not_leak():
    loc = torch.zeros(2, requires_grad=True)
    mask = torch.tensor([True, False])
    dist.Normal(loc, 1.0).mask(mask).log_prob(torch.tensor([1.0, 5.0])).sum().backward()
    torch.testing.assert_close(loc.grad, torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("d", [
    dist.Normal(torch.zeros(3), 1.0).mask(torch.tensor([True, False, True])),
    dist.Normal(torch.zeros(2, 3), 1.0).to_event(1),
    dist.Normal(torch.zeros(3), 1.0).to_event(1).mask(False).expand((4,)),
    dist.ExpandedDistribution(dist.Normal(torch.zeros(1), 1.0), (2, 3)),
    dist.TransformedDistribution(dist.Normal(0.0, 1.0), [dist.transforms.ExpTransform()]),
    dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0)),
    dist.ImproperUniform(dist.constraints.positive, (2,), (3,)),
    dist.Unit(torch.zeros(2)),
], ids=lambda d: type(d).__name__)  # fmt: skip
def test_wrappers_pickle_and_copy(d):
    x = torch.ones(d.shape())
    for other in (pickle.loads(pickle.dumps(d)), copy.deepcopy(d)):
        torch.testing.assert_close(other.log_prob(x), d.log_prob(x))


def test_independent_merges_and_undoes():
    d = dist.Normal(torch.zeros(2, 3, 4), 1.0)
    twice = d.to_event(1).to_event(1)
    assert isinstance(twice, dist.Independent) and twice.base_dist is d
    assert twice.reinterpreted_batch_ndims == 2
    assert twice.to_event(-2) is d
    assert twice.to_event(-1).event_shape == (4,)
    assert twice.has_enumerate_support is False
    with pytest.raises(NotImplementedError, match="product"):
        dist.Bernoulli(torch.ones(2) / 2).to_event(1).enumerate_support()


def test_conjugate_update_is_refused_clearly():
    with pytest.raises(NotImplementedError, match="conjugate"):
        dist.Laplace(0.0, 1.0).conjugate_update(dist.Normal(0.0, 1.0))


def test_improper_uniform():
    d = dist.ImproperUniform(dist.constraints.positive, (2,), (3,))
    assert d.support.event_dim == 1 and not d.has_rsample
    assert (d.log_prob(torch.ones(2, 3)) == 0).all() and d.log_prob(torch.ones(4, 1, 3)).shape == (4, 2)
    assert d.expand((5, 2)).log_prob(torch.ones(2, 3)).shape == (5, 2)
    with pytest.raises(NotImplementedError, match="drawn"):
        d()
    with pytest.raises(ValueError):
        d.log_prob(-torch.ones(2, 3))


def test_empirical_of_vectors():
    atoms = torch.arange(24.0).reshape(2, 3, 4)
    weights = torch.tensor([[1.0, 2.0, 1.0], [1.0, 1.0, 2.0]]).log()
    d = dist.Empirical(atoms, weights)
    assert d.batch_shape == (2,) and d.event_shape == (4,) and d.sample_size == 3
    torch.testing.assert_close(d.log_prob(atoms[:, 1]), torch.tensor([0.5, 0.25]).log())
    assert (d.log_prob(atoms[:, 1] + 0.5) == -INF).all()
    torch.testing.assert_close(d.mean[0], (atoms[0, 0] + 2 * atoms[0, 1] + atoms[0, 2]) / 4)
    draws = d.sample((1000,))
    assert draws.shape == (1000, 2, 4)
    assert ((draws[:, 0, None] == atoms[0]).all(-1).sum(-1) == 1).all()
    assert d.enumerate_support().shape == (3, 2, 4)
    with pytest.raises(ValueError, match="mean"):
        _ = dist.Empirical(torch.arange(3), torch.zeros(3)).mean


def test_infer_shapes():
    assert dist.Normal.infer_shapes(loc=(2, 1), scale=(3,)) == ((2, 3), ())
    assert dist.Categorical.infer_shapes(probs=(2, 3)) == ((2,), ())
    assert dist.MultivariateNormal.infer_shapes(loc=(3,), scale_tril=(2, 3, 3)) == ((2,), (3,))
    assert dist.Dirichlet.infer_shapes(concentration=(2, 3)) == ((2,), (3,))
    with pytest.raises(NotImplementedError, match="infer"):
        dist.Delta.infer_shapes(v=(2,))


def test_subclasses_with_their_own_constructor_expand_lazily():
    class Shifted(dist.Normal):
        def __init__(self, shift):
            super().__init__(torch.as_tensor(shift) + 1.0, 1.0)

    d = Shifted(torch.zeros(2))
    wide = d.expand((3, 2))
    assert wide.batch_shape == (3, 2) and wide().shape == (3, 2)
    torch.testing.assert_close(wide.log_prob(torch.ones(2)), d.log_prob(torch.ones(2)).expand(3, 2))


def test_family_of_a_user():
    class Flip(dist.TorchDistribution):
        arg_constraints = {"p": dist.constraints.unit_interval}  # noqa: RUF012
        support = dist.constraints.boolean
        has_enumerate_support = True

        def __init__(self, p, validate_args=None):
            self.p = p
            super().__init__(p.shape, torch.Size(), validate_args)

        def sample(self, sample_shape=()):
            return torch.bernoulli(self.p.expand(self._extended_shape(sample_shape)))

        def log_prob(self, value):
            return torch.where(value > 0, self.p, 1 - self.p).log()

        def enumerate_support(self, expand=True):
            values = torch.tensor([0.0, 1.0]).reshape((2,) + (1,) * self.p.dim())
            return values.expand((2, *self.p.shape)) if expand else values

    d = Flip(torch.tensor([0.2, 0.7])).expand((3, 2)).to_event(1).mask(torch.tensor([True, False, True]))
    assert d().shape == (3, 2) and d.log_prob(torch.ones(3, 2)).shape == (3,)
    wide = Flip(torch.tensor([0.2])).expand((3, 4))
    assert wide.enumerate_support().shape == (2, 3, 4)
    assert wide.enumerate_support(expand=False).shape == (2, 1, 1)
    assert wide.sample((5,)).shape == (5, 3, 4)
    with pytest.raises(ValueError, match="Flip"):
        Flip(torch.tensor([1.2]))


def test_straight_through_relaxations():
    probs = torch.tensor([0.3, 0.7], requires_grad=True)
    for d in (
        dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), probs=probs),
        dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.5), probs=probs),
    ):
        x = d()
        assert ((x == 0) | (x == 1)).all()
        assert torch.isfinite(d.log_prob(x)).all()
        (gradient,) = torch.autograd.grad(x[..., 0].sum(), probs)
        assert torch.isfinite(gradient).all() and (gradient != 0).any()
