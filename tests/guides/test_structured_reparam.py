"""Preconditioning by a structured guide keeps the posterior, and neural transport does so inside plates."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer import MCMC, NUTS
from ember.infer.autoguide import AutoDiagonalNormal, AutoNormal, AutoStructured
from ember.infer.reparam import NeuTraReparam, StructuredReparam

CONDITIONALS = {"a": "normal", "p": "mvn", "b": "normal"}


def model():
    with ember.plate("data", 3):
        p = ember.sample("p", dist.Dirichlet(torch.tensor([2.0, 1.0, 3.0])))
        a = ember.sample("a", dist.LogNormal(0.0, 0.5))
        ember.sample("x", dist.Normal(a * p[..., 0], 1.0), obs=torch.tensor([0.3, -0.2, 2.0]))
    ember.sample("b", dist.Normal(a.sum(-1), 1.0))


def trained(**options):
    guide = AutoStructured(model, **options)
    guide()
    generator = torch.Generator().manual_seed(0)
    for leaf in guide.parameters():
        leaf.data += 0.3 * torch.randn(leaf.shape, generator=generator)
    return guide


def density_of(values):
    return poutine.trace(poutine.condition(model, data=values)).get_trace().log_prob_sum()


def test_density_is_the_model_s_by_change_of_variables():
    guide = trained(conditionals=CONDITIONALS)
    structured = StructuredReparam(guide)
    trace = poutine.trace(structured.reparam(model)).get_trace()
    noise = {name: trace.nodes[name]["value"] for name in ("p_aux", "a_aux", "b_aux")}
    assert [tuple(each.shape) for each in noise.values()] == [(6,), (3,), (1,)]
    values = structured.transform_samples(noise)
    for name, value in values.items():
        torch.testing.assert_close(value, trace.nodes[name]["value"])

    def flat(x):
        parts = dict(zip(noise, x.split([6, 3, 1]), strict=True))
        free = guide._vectors(lambda name: structured._scaled(name, parts[f"{name}_aux"]))
        p = guide._transforms["p"](free["p"].reshape(3, 2))
        return torch.cat([p[:, :2].reshape(-1), free["a"].exp(), free["b"]])

    jacobian = torch.autograd.functional.jacobian(flat, torch.cat(list(noise.values())))
    expected = density_of(values) + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(trace.log_prob_sum().detach(), expected, atol=1e-3, rtol=1e-4)


def test_neural_transport_of_sites_in_plates():
    guide = AutoDiagonalNormal(model)
    guide()
    neutra = NeuTraReparam(guide)
    trace = poutine.trace(neutra.reparam(model)).get_trace()
    x = trace.nodes["p_shared_latent"]["value"]
    assert x.shape == (10,)
    values = neutra.transform_sample(x)
    free = neutra.transform(x)
    jacobian = guide.scale.log().sum().detach()
    for name, part in zip("pab", free.split([6, 3, 1]), strict=True):
        bijection = guide._transforms[name]
        part = part.reshape(guide._shapes["pab".index(name)])
        jacobian = jacobian + bijection.log_abs_det_jacobian(part, bijection(part)).sum()
    torch.testing.assert_close(trace.log_prob_sum().detach(), (density_of(values) + jacobian).detach())


def test_nuts_in_the_noise_of_the_guide():
    def correlated():
        a = ember.sample("a", dist.Normal(0.0, 1.0))
        b = ember.sample("b", dist.Normal(2.0 * a, 0.5))
        ember.sample("y", dist.Normal(b, 1.0), obs=torch.tensor(1.5))

    guide = AutoStructured(correlated, conditionals="normal")
    guide()
    structured = StructuredReparam(guide)
    ember.set_rng_seed(0)
    mcmc = MCMC(NUTS(structured.reparam(correlated)), 1000, 300, disable_progbar=True, execution="native")
    mcmc.run()
    values = structured.transform_samples(mcmc.get_samples())
    # Variance of b before the data 4.25, after it 4.25 / 5.25; a follows b.
    mean_b = 1.5 * 4.25 / 5.25
    assert values["b"].mean().item() == pytest.approx(mean_b, abs=0.15)
    assert values["a"].mean().item() == pytest.approx(mean_b * 2 / 4.25, abs=0.1)
    assert values["b"].var().item() == pytest.approx(4.25 / 5.25, rel=0.25)


def test_sites_without_noise_are_fixed():
    structured = StructuredReparam(trained(conditionals={"p": "delta", "a": "normal", "b": "normal"}))
    trace = poutine.trace(structured.reparam(model)).get_trace()
    assert "p_aux" not in trace.nodes
    samples = structured.transform_samples(
        {"a_aux": torch.zeros(5, 3), "b_aux": torch.zeros(5, 1)}, ["p", "b"]
    )
    assert {name: tuple(value.shape) for name, value in samples.items()} == {"p": (5, 3, 3), "b": (5,)}
    torch.testing.assert_close(samples["p"][0], trace.nodes["p"]["value"])


def test_guides_that_cannot_serve():
    with pytest.raises(ValueError, match="has not been run"):
        StructuredReparam(AutoStructured(model))
    with pytest.raises(TypeError, match="takes an AutoStructured guide, got AutoNormal"):
        StructuredReparam(AutoNormal(model))
    functions = {"p": "normal", "a": lambda: torch.zeros(3), "b": "normal"}
    with pytest.raises(ValueError, match="density of the noise of site 'a'"):
        StructuredReparam(trained(conditionals=functions))
