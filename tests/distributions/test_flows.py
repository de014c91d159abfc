"""Check every learned transform, alone and given a context: inverse, determinant, gradients, copies."""

# ruff: noqa: E501  (one example a line reads as a table)

import copy
import pickle

import pytest
import torch
from torch import nn

import ember.distributions as dist
from ember.distributions import transforms as T

DOUBLE = torch.float64

# Name, maker, shape of an input, whether there is an inverse, spread of the parameters around their start.
FLOWS = [
    ("affine_autoregressive", lambda: T.affine_autoregressive(3), (4, 3), True, 0.3),
    ("affine_autoregressive-stable", lambda: T.affine_autoregressive(3, [8], stable=True), (4, 3), True, 0.3),
    ("neural_autoregressive", lambda: T.neural_autoregressive(3, width=5), (4, 3), True, 0.3),
    ("neural_autoregressive-tanh", lambda: T.neural_autoregressive(2, activation="tanh", width=1), (4, 2), True, 0.3),
    ("neural_autoregressive-ELU", lambda: T.neural_autoregressive(2, activation="ELU"), (4, 2), True, 0.3),
    ("neural_autoregressive-leaky", lambda: T.neural_autoregressive(2, activation="leaky_relu"), (4, 2), True, 0.3),
    ("block_autoregressive", lambda: T.block_autoregressive(3, hidden_factors=[4]), (4, 3), True, 0.1),
    ("block_autoregressive-normal", lambda: T.block_autoregressive(2, residual="normal", activation="ELU"), (4, 2), True, 0.1),
    ("block_autoregressive-gated", lambda: T.block_autoregressive(2, residual="gated", activation="LeakyReLU"), (4, 2), True, 0.1),
    ("block_autoregressive-sigmoid", lambda: T.block_autoregressive(1, activation="sigmoid"), (4, 1), True, 0.1),
    ("polynomial", lambda: T.polynomial(3), (4, 3), True, 0.1),
    ("spline", lambda: T.spline(3), (4, 3), True, 0.5),
    ("spline-quadratic", lambda: T.spline(3, order="quadratic", bound=2.0), (4, 3), True, 0.5),
    ("spline_autoregressive", lambda: T.spline_autoregressive(3), (4, 3), True, 0.3),
    ("spline_autoregressive-quadratic", lambda: T.spline_autoregressive(3, order="quadratic", count_bins=2), (4, 3), True, 0.3),
    ("spline_coupling", lambda: T.spline_coupling(5), (4, 5), True, 0.3),
    ("spline_coupling-identity", lambda: T.spline_coupling(3, split_dim=2, order="quadratic", identity=True), (4, 3), True, 0.3),
    ("affine_coupling", lambda: T.affine_coupling(5), (4, 5), True, 0.3),
    ("affine_coupling-2", lambda: T.affine_coupling((4, 2), dim=-2), (2, 4, 2), True, 0.1),
    ("planar", lambda: T.planar(3), (4, 3), False, 1.0),
    ("radial", lambda: T.radial(3), (4, 3), True, 1.0),
    ("sylvester", lambda: T.sylvester(4), (3, 4), False, 1.0),
    ("householder", lambda: T.householder(4), (3, 4), True, 1.0),
    ("matrix_exponential", lambda: T.matrix_exponential(3), (4, 3), True, 0.3),
    ("matrix_exponential-weight", lambda: T.matrix_exponential(3, normalization="weight", bound=0.5), (4, 3), True, 0.3),
    ("matrix_exponential-spectral", lambda: T.matrix_exponential(3, normalization="spectral"), (4, 3), True, 2.0),
    ("generalized_channel_permute", lambda: T.generalized_channel_permute(channels=2), (3, 2, 2, 2), True, 0.2),
    ("generalized_channel_permute-fixed", lambda: T.generalized_channel_permute(permutation=torch.tensor([2, 0, 1])), (2, 3, 1, 2), True, 0.2),
    ("batchnorm", lambda: T.batchnorm(3).eval(), (4, 3), True, 0.2),
    ("iterated", lambda: T.iterated(2, T.affine_coupling, 3), (4, 3), True, 0.2),
]  # fmt: skip

# Name, maker (context of size 2), size or shape of an event, whether there is an inverse.
CONDITIONAL = [
    ("affine_autoregressive", lambda: T.conditional_affine_autoregressive(3, 2), (3,), True),
    ("affine_coupling", lambda: T.conditional_affine_coupling(3, 2), (3,), True),
    ("generalized_channel_permute", lambda: T.conditional_generalized_channel_permute(2, channels=2), (2, 1, 2), True),
    ("householder", lambda: T.conditional_householder(3, 2, count_transforms=2), (3,), True),
    ("matrix_exponential", lambda: T.conditional_matrix_exponential(3, 2, normalization="spectral"), (3,), True),
    ("neural_autoregressive", lambda: T.conditional_neural_autoregressive(3, 2), (3,), True),
    ("planar", lambda: T.conditional_planar(3, 2), (3,), False),
    ("radial", lambda: T.conditional_radial(3, 2), (3,), True),
    ("spline", lambda: T.conditional_spline(3, 2), (3,), True),
    ("spline-quadratic", lambda: T.conditional_spline(3, 2, order="quadratic"), (3,), True),
    ("spline_autoregressive", lambda: T.conditional_spline_autoregressive(3, 2), (3,), True),
    ("iterated", lambda: T.iterated(2, T.conditional_affine_coupling, 3, 2), (3,), True),
]  # fmt: skip


def made(maker, spread):
    torch.manual_seed(5)
    flow = maker().double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return flow


def determinants(function, x, event_dim):
    """Return log |det| at each batch entry, and each entry's own when there are no event dims."""
    whole = torch.autograd.functional.jacobian(function, x)
    if not event_dim:
        return whole.reshape(x.numel(), x.numel()).diagonal().abs().log().reshape(x.shape)
    batch = x.shape[: x.ndim - event_dim]
    count, size = batch.numel(), x.numel() // batch.numel()
    blocks = whole.reshape(count, size, count, size)
    assert (
        torch.stack([blocks[i, :, j] for i in range(count) for j in range(count) if i != j]).abs().max() == 0
    )
    return torch.stack([torch.linalg.slogdet(blocks[i, :, i])[1] for i in range(count)]).reshape(batch)


def check(transform, x, has_inverse):
    y = transform(x)
    assert y.shape == x.shape and transform.bijective
    n = transform.domain.event_dim
    actual = transform.log_abs_det_jacobian(x, y)
    torch.testing.assert_close(actual, determinants(transform, x, n), rtol=1e-6, atol=1e-8)
    if has_inverse:
        torch.testing.assert_close(transform.inv(y.detach()), x, rtol=1e-6, atol=1e-6)
    else:
        with pytest.raises(NotImplementedError, match="score"):
            transform.inv(y.detach())


@pytest.mark.parametrize(
    ("name", "maker", "shape", "has_inverse", "spread"), FLOWS, ids=[each[0] for each in FLOWS]
)
def test_flow(name, maker, shape, has_inverse, spread):
    flow = made(maker, spread)
    x = torch.randn(shape, dtype=DOUBLE) * 1.5
    check(flow, x, has_inverse)
    # Draws keep their density without an inverse, and every parameter can learn from it.
    n = max(flow.domain.event_dim, 1)
    base = dist.Normal(torch.zeros(shape, dtype=DOUBLE), 1.0).to_event(n)
    pushed = dist.TransformedDistribution(base, [flow])
    value = pushed.rsample()
    (pushed.log_prob(value).sum() + value.square().sum()).backward()
    assert [key for key, each in flow.named_parameters() if each.grad is None] == []
    for other in (
        copy.deepcopy(flow),
        pickle.loads(pickle.dumps(flow)) if "lambda" not in repr(flow) else flow,
    ):
        torch.testing.assert_close(other(x), flow(x))
    if isinstance(flow, T.TransformModule):
        fresh = maker().double()
        fresh.load_state_dict(flow.state_dict())
        torch.testing.assert_close(fresh(x), flow(x))


@pytest.mark.parametrize(
    ("name", "maker", "event", "has_inverse"), CONDITIONAL, ids=[each[0] for each in CONDITIONAL]
)
def test_conditional_flow(name, maker, event, has_inverse):
    flow = made(maker, 0.3)
    x, context = torch.randn(4, *event, dtype=DOUBLE), torch.randn(4, 2, dtype=DOUBLE)
    transform = flow.condition(context)
    check(transform, x, has_inverse)
    # Each row depends on its own context alone, and one context may serve many rows.
    y = transform(x)
    torch.testing.assert_close(flow.condition(context[2])(x[2]), y[2])
    assert flow.condition(context[2])(x).shape == x.shape
    assert not torch.allclose(flow.condition(context + 1.0)(x), y)
    y.square().sum().backward()
    assert any(each.grad is not None for each in flow.parameters())


def test_conditional_distribution():
    torch.manual_seed(0)
    flow = T.conditional_spline(2, context_dim=3)
    given = dist.ConditionalTransformedDistribution(
        dist.Normal(torch.zeros(2), 1.0).to_event(1), [flow, T.Permute(torch.tensor([1, 0]))]
    )
    context = torch.randn(5, 3)
    law = given.condition(context)
    x = law.rsample((5,) if law.batch_shape == () else ())
    again = given.condition(context)
    torch.testing.assert_close(again.log_prob(x), law.log_prob(x))
    given.clear_cache()
    assert given.condition(context).batch_shape == again.batch_shape
    with pytest.raises(TypeError, match="how to condition"):
        dist.ConditionalDistribution().condition(context)


def test_a_flow_learns_a_density():
    torch.manual_seed(0)
    angle = torch.rand(200) * 3.0
    data = torch.stack([angle.cos(), angle.sin()], -1) * 2.0 + 0.1 * torch.randn(200, 2)
    flow = T.iterated(2, T.spline_autoregressive, 2, [16])
    law = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [flow])
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = -law.log_prob(data).mean()  # the same tensor again and again: nothing may be stale
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    normal = dist.MultivariateNormal(data.mean(0), data.T.cov()).log_prob(data).mean()
    assert losses[-1] < -normal - 0.3


def test_what_is_kept_is_dropped_when_parameters_change():
    flow = T.planar(2)
    x = torch.randn(3, 2)
    y = flow(x)
    assert flow(x) is y and flow.inv(y) is x
    with torch.no_grad():
        flow.bias.add_(1.0)
    assert not torch.equal(flow(x), y)


def test_splines_are_smooth_and_the_identity_outside():
    torch.manual_seed(1)
    for order in ("linear", "quadratic"):
        spline = T.spline(1, order=order, bound=2.0, count_bins=4).double()
        x = torch.linspace(-3, 3, 6001, dtype=DOUBLE).unsqueeze(-1)
        slope = spline.log_abs_det_jacobian(x, spline(x)).exp()
        outside = x.abs() > 2.0
        assert torch.equal(spline(x)[outside], x[outside]) and (slope[outside] == 1).all()
        rise = (spline(x)[1:] - spline(x)[:-1]) / (x[1:] - x[:-1])
        torch.testing.assert_close(rise, (slope[1:] + slope[:-1]) / 2, rtol=0.01, atol=1e-3)


def test_sylvester_flow_is_planar_in_higher_dimension():
    flow = T.sylvester(3, count_transforms=2).double()
    x = torch.randn(5, 3, dtype=DOUBLE)
    rows = torch.linalg.matrix_rank((flow(x) - x) - (flow(x) - x).mean(0))
    assert rows <= 3 and not torch.allclose(flow(x), x)


def test_batch_norm_normalises_and_remembers():
    flow = T.batchnorm(2, momentum=0.5)
    data = torch.randn(500, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([3.0, -1.0])
    x = flow.inv(data)
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0), torch.ones(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(flow.moving_mean, 0.5 * data.mean(0))
    expected = data.var(0).log().mul(0.5).expand_as(data)
    torch.testing.assert_close(flow.log_abs_det_jacobian(x, data), expected, atol=1e-3, rtol=0)
    flow.clear_cache()
    flow.eval()
    torch.testing.assert_close(flow(flow._inverse(data)), data, atol=1e-4, rtol=0)


def test_simple_builders():
    assert sorted(T.permute(4).permutation.tolist()) == [0, 1, 2, 3]
    assert T.permute(2, torch.tensor([1, 0]), dim=-2).dim == -2
    assert isinstance(T.elu(), T.ELUTransform) and isinstance(T.leaky_relu(), T.LeakyReLUTransform)
    assert isinstance(T.tanh(), T.TanhTransform)
    assert T.householder(4).volume_preserving and T.householder(5, 2).u_unnormed.shape == (2, 5)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (lambda: T.spline(2, order="cubic"), "order of a spline"),
        (lambda: T.spline(2, count_bins=1), "at least two bins"),
        (lambda: T.affine_coupling(4, dim=0), "must"),
        (lambda: T.affine_coupling(4, dim=-2), "last 2 dims"),
        (lambda: T.block_autoregressive(2, activation="relu"), "activation is"),
        (lambda: T.block_autoregressive(2, residual="sum"), "residual is"),
        (lambda: T.neural_autoregressive(2, activation="relu")(torch.zeros(2)), "activation is"),
        (lambda: T.matrix_exponential(2, normalization="l1"), "normalization is"),
        (lambda: T.householder(2, 0), "positive number"),
        (lambda: T.generalized_channel_permute(channels=2, permutation=torch.tensor([0, 0])), "a permutation of"),
        (lambda: T.iterated(0, T.planar, 2), "at least one"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(bad, text):
    with pytest.raises(ValueError, match=text):
        bad()


def test_networks_of_other_makers_fit():
    """Any module of the right outputs can condition, as in programs that bring their own."""

    class Own(nn.Module):
        def forward(self, context):
            return context[..., :1], context[..., 1:3], context[..., 3:]

    context = torch.randn(4, 5)
    planar = T.ConditionalPlanar(Own()).condition(context)
    x = torch.randn(4, 2)
    torch.testing.assert_close(
        planar.log_abs_det_jacobian(x, planar(x)), determinants(planar, x, 1), rtol=1e-4, atol=1e-4
    )
