"""Neural transport keeps the posterior, in the space of a guide."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer import MCMC, NUTS
from ember.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoIAFNormal, AutoMultivariateNormal
from ember.infer.reparam import NeuTraReparam


def model():
    a = ember.sample("a", dist.LogNormal(0.0, 0.5))
    with ember.plate("data", 3):
        p = ember.sample("p", dist.Dirichlet(torch.tensor([2.0, 1.0, 3.0])))
        ember.sample("x", dist.Normal(a * p[..., 0], 1.0), obs=torch.tensor([0.3, -0.2, 2.0]))


@pytest.mark.parametrize("guide_class", [AutoDiagonalNormal, AutoMultivariateNormal, AutoIAFNormal])
def test_density_is_the_model_s_by_change_of_variables(guide_class):
    guide = guide_class(model)
    guide()
    neutra = NeuTraReparam(guide)
    trace = poutine.trace(neutra.reparam(model)).get_trace()
    x = trace.nodes["a_shared_latent"]["value"]
    values = neutra.transform_sample(x)
    torch.testing.assert_close(values["a"], trace.nodes["a"]["value"])
    torch.testing.assert_close(values["p"], trace.nodes["p"]["value"])
    density = poutine.trace(poutine.condition(model, data=values)).get_trace().log_prob_sum()

    def flat(x):
        y = neutra.transform(x)
        free_p = y[1:].reshape(3, 2)
        parts = [y[:1].exp(), guide._transforms["p"](free_p)[:, :2].reshape(-1)]
        return torch.cat(parts)

    jacobian = torch.linalg.slogdet(torch.autograd.functional.jacobian(flat, x)).logabsdet
    torch.testing.assert_close(trace.log_prob_sum().detach(), density + jacobian, atol=1e-3, rtol=1e-4)


def test_nuts_in_the_guide_s_space():
    def correlated():
        a = ember.sample("a", dist.Normal(0.0, 1.0))
        b = ember.sample("b", dist.Normal(2.0 * a, 0.5))
        ember.sample("y", dist.Normal(b, 1.0), obs=torch.tensor(1.5))

    guide = AutoMultivariateNormal(correlated)
    guide()
    neutra = NeuTraReparam(guide)
    mcmc = MCMC(NUTS(neutra.reparam(correlated)), num_samples=1000, warmup_steps=300, disable_progbar=True)
    mcmc.run()
    values = neutra.transform_sample(mcmc.get_samples()["a_shared_latent"])
    # Variance of b before the data 4.25, after it 4.25 / 5.25; a follows b.
    mean_b = 1.5 * 4.25 / 5.25
    assert values["b"].mean().item() == pytest.approx(mean_b, abs=0.15)
    assert values["a"].mean().item() == pytest.approx(mean_b * 2 / 4.25, abs=0.1)
    assert values["b"].var().item() == pytest.approx(4.25 / 5.25, rel=0.25)


def test_guides_that_cannot_serve():
    with pytest.raises(ValueError, match="has not been run"):
        NeuTraReparam(AutoDiagonalNormal(model))
    with pytest.raises(TypeError, match="one latent vector"):
        NeuTraReparam(AutoDelta(model))
