"""Check layers with random weights by the moments of their outputs."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember.contrib.bnn import HiddenLayer
from ember.infer import SVI, Trace_ELBO


@pytest.mark.parametrize("weight_space", [False, True])
def test_moments(weight_space):
    X, mean, scale = torch.randn(4, 3), torch.randn(3, 2), torch.rand(3, 2)
    layer = HiddenLayer(
        X,
        mean,
        scale,
        non_linearity=lambda x: x,
        weight_space_sampling=weight_space,
        include_hidden_bias=False,
    )
    draws = layer.rsample((4000,))
    assert draws.shape == (4000, 4, 2)
    torch.testing.assert_close(draws.mean(0), X @ mean, atol=0.15, rtol=0)
    spread = (X.square() @ scale.square()).sqrt()
    torch.testing.assert_close(draws.std(0), spread, atol=0.1, rtol=0)


def test_divergence_and_bias():
    X, mean, scale = torch.randn(4, 3), torch.randn(3, 2), torch.rand(3, 2)
    layer = HiddenLayer(X, mean, scale, KL_factor=0.5, A_prior_scale=2.0)
    expected = torch.distributions.kl_divergence(dist.Normal(mean, scale), dist.Normal(0.0, 2.0)).sum()
    torch.testing.assert_close(layer.KL, expected)
    value = layer.sample()
    torch.testing.assert_close(layer.log_prob(value), -0.5 * expected)
    assert value.shape == layer.event_shape == (4, 3)
    assert torch.equal(value[:, -1], torch.ones(4)) and value.min() >= 0


def test_a_layer_is_trained():
    X = torch.randn(60, 2)
    y = X @ torch.tensor([[1.0], [-1.0]]) + 0.1 * torch.randn(60, 1)

    def layer(factor):
        mean = ember.param("mean", torch.zeros(2, 1))
        scale = ember.param("scale", 0.1 * torch.ones(2, 1), constraint=dist.constraints.positive)
        made = HiddenLayer(X, mean, scale, lambda x: x, KL_factor=factor, include_hidden_bias=False)
        return ember.sample("hidden", made)

    def model():
        hidden = layer(1.0)
        ember.sample("y", dist.Normal(hidden, 0.1).to_event(2), obs=y)

    svi = SVI(model, lambda: layer(0.0), ember.optim.Adam({"lr": 0.02}), Trace_ELBO())
    for _ in range(500):
        svi.step()
    torch.testing.assert_close(ember.param("mean").detach(), torch.tensor([[1.0], [-1.0]]), atol=0.1, rtol=0)
