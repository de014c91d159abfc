"""Check estimators of information gain on a linear Gaussian model, whose gain is known."""

import torch

import ember
import ember.distributions as dist
from ember.contrib.oed.eig import (
    donsker_varadhan_eig,
    lfire_eig,
    marginal_eig,
    marginal_likelihood_eig,
    nmc_eig,
    posterior_eig,
    vnmc_eig,
)
from ember.contrib.oed.shapes import (
    get_indices,
    iter_plates_to_shape,
    lexpand,
    rdiag,
    rexpand,
    rmm,
    rmv,
    rtril,
    rvv,
    tensor_to_dict,
)

DESIGN = torch.tensor([[0.5], [1.0], [2.0]])
GAIN = 0.5 * torch.log1p(DESIGN[:, 0].square())
positive = dist.constraints.positive


def model(design):
    with ember.plate_stack("designs", design.shape[:-1]):
        theta = ember.sample("theta", dist.Normal(torch.zeros(design.shape[:-1]), 1.0))
        return ember.sample("y", dist.Normal(design[..., 0] * theta, 1.0))


def with_nuisance(design):
    """Half of the noise is another latent."""
    with ember.plate_stack("designs", design.shape[:-1]):
        theta = ember.sample("theta", dist.Normal(torch.zeros(design.shape[:-1]), 1.0))
        other = ember.sample("other", dist.Normal(torch.zeros(design.shape[:-1]), 0.5**0.5))
        return ember.sample("y", dist.Normal(design[..., 0] * theta + other, 0.5**0.5))


def posterior(y_dict, design, observation_labels, target_labels):
    assert observation_labels == ["y"] and target_labels == ["theta"]
    slope = ember.param("slope", torch.zeros(3))
    scale = ember.param("scale", torch.ones(3), constraint=positive)
    ember.sample("theta", dist.Normal(slope * y_dict["y"], scale))


def marginal(design, observation_labels, target_labels):
    scale = ember.param("marginal_scale", torch.ones(3), constraint=positive)
    ember.sample("y", dist.Normal(torch.zeros(3), scale).expand(design.shape[:-1]))


def conditional(design, theta_dict, observation_labels, target_labels):
    slope = ember.param("y_slope", torch.zeros(3))
    ember.sample("y", dist.Normal(slope * theta_dict["theta"], 1.0))


def adam(lr=0.05):
    return ember.optim.Adam({"lr": lr})


def test_nested_monte_carlo():
    found = nmc_eig(model, DESIGN, "y", "theta", N=3000, M=200)
    torch.testing.assert_close(found, GAIN, atol=0.05, rtol=0)
    found = nmc_eig(model, DESIGN, ["y"], N=3000, M=300, independent_priors=True)
    torch.testing.assert_close(found, GAIN, atol=0.08, rtol=0)
    found = nmc_eig(with_nuisance, DESIGN, "y", "theta", N=2000, M=200, M_prime=200)
    torch.testing.assert_close(found, GAIN, atol=0.08, rtol=0)


def test_posterior_bound():
    options = {"num_samples": 20, "num_steps": 400, "final_num_samples": 3000}
    found = posterior_eig(model, DESIGN, "y", "theta", guide=posterior, optim=adam(), **options)
    torch.testing.assert_close(found, GAIN, atol=0.05, rtol=0)
    torch.testing.assert_close(
        ember.param("slope").detach(), DESIGN[:, 0] / (1 + DESIGN[:, 0] ** 2), atol=0.2, rtol=0
    )
    options["num_steps"] = 2
    history, entropy = posterior_eig(
        model, DESIGN, "y", "theta", guide=posterior, optim=adam(), return_history=True, eig=False, **options
    )
    assert history.shape == (2, 3)
    prior_entropy = dist.Normal(0.0, 1.0).entropy()
    torch.testing.assert_close(entropy, prior_entropy - GAIN, atol=0.06, rtol=0)


def test_marginal_bounds():
    options = {"num_samples": 20, "num_steps": 400, "final_num_samples": 3000}
    found = marginal_eig(model, DESIGN, "y", "theta", guide=marginal, optim=adam(), **options)
    torch.testing.assert_close(found, GAIN, atol=0.06, rtol=0)
    ember.clear_param_store()
    found = marginal_likelihood_eig(
        model, DESIGN, "y", "theta", marginal_guide=marginal, cond_guide=conditional, optim=adam(), **options
    )
    torch.testing.assert_close(found, GAIN, atol=0.08, rtol=0)


def test_nested_bound():
    found = vnmc_eig(
        model,
        DESIGN,
        "y",
        "theta",
        num_samples=(10, 5),
        num_steps=300,
        guide=posterior,
        optim=adam(),
        final_num_samples=(2000, 20),
    )
    torch.testing.assert_close(found, GAIN, atol=0.06, rtol=0)


class Critic(torch.nn.Module):
    """The logarithm of the ratio of densities, if its weights are right."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(4, 3))

    def forward(self, design, trace, observation_labels, target_labels):
        y, theta = trace.nodes["y"]["value"], trace.nodes["theta"]["value"]
        a, b, c, d = self.weights
        return a * y * theta + b * y**2 + c * theta**2 + d


def test_ratios_of_densities():
    found = donsker_varadhan_eig(
        model,
        DESIGN,
        "y",
        "theta",
        num_samples=400,
        num_steps=500,
        T=Critic(),
        optim=adam(0.02),
        final_num_samples=5000,
    )
    assert (found < GAIN + 0.1).all()
    torch.testing.assert_close(found[:2], GAIN[:2], atol=0.1, rtol=0)

    def classifier(design, trace, observation_labels, target_labels):
        y = trace.nodes["y"]["value"]
        a, b, c = ember.param("odds", torch.zeros(3, 100, 3))
        return a * y + b * y**2 + c

    found = lfire_eig(
        model,
        DESIGN,
        "y",
        "theta",
        num_y_samples=100,
        num_theta_samples=100,
        num_steps=300,
        classifier=classifier,
        optim=adam(),
        final_num_samples=500,
    )
    torch.testing.assert_close(found, GAIN, atol=0.2, rtol=0)


def test_shapes():
    t = torch.arange(6.0).reshape(2, 3)
    assert get_indices(["b"], sizes={"a": 2, "b": 3}).tolist() == [2, 3, 4]
    assert get_indices(["b", "a"], tensors={"a": t[:, :1], "b": t}).tolist() == [1, 2, 3, 0]
    parts = tensor_to_dict({"a": 1, "b": 2}, t)
    assert torch.equal(parts["a"], t[:, :1]) and torch.equal(parts["b"], t[:, 1:])
    assert set(tensor_to_dict({"a": 1, "b": 2}, t, subset=["b"])) == {"b"}
    assert lexpand(t, 4, 5).shape == (4, 5, 2, 3) and rexpand(t, 4, 5).shape == (2, 3, 4, 5)
    assert torch.equal(rmm(t, t.T), t @ t.T) and torch.equal(rmv(t, t[0]), t @ t[0])
    assert torch.equal(rvv(t, t), (t * t).sum(-1)) and torch.equal(rdiag(t[0]), torch.diag(t[0]))
    assert torch.equal(rtril(t), t.tril()) and torch.equal(rtril(t, upper=True), t.triu())
    assert [(p.name, p.size) for p in iter_plates_to_shape((2, 3))] == [("plate_0", 3), ("plate_1", 2)]
