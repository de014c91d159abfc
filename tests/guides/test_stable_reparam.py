"""Stable and linear-chain reparameterisers keep the law of the model, and make its density known."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer import MCMC, NUTS
from ember.infer.reparam import (
    AutoReparam,
    ConjugateReparam,
    LatentStableReparam,
    LinearHMMReparam,
    MinimalReparam,
    StableReparam,
    StudentTReparam,
    SymmetricStableReparam,
)

close = torch.testing.assert_close
DOUBLE = torch.float64
LAWS = [(1.5, 0.6, "S0"), (1.0, -0.5, "S0"), (0.6, 0.9, "S"), (1.7, -1.0, "S"), (2.0, 0.0, "S0")]


def stable(stability, skew, coords="S0"):
    parameters = torch.tensor([stability, skew, 1.4, 0.3], dtype=DOUBLE)
    return dist.StableWithLogProb(*parameters, coords=coords)


def draws_under(reparam, fn, count):
    """Draw a latent site under a reparameteriser, and return its trace too."""

    def model():
        with ember.plate("draws", count):
            return ember.sample("x", fn)

    trace = poutine.trace(poutine.reparam(model, config={"x": reparam})).get_trace()
    return trace.nodes["_RETURN"]["value"], trace


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("reparam", [LatentStableReparam, StableReparam, SymmetricStableReparam])
def test_draws_have_the_stable_law(law, reparam):
    fn, n = stable(*law), 40_000
    if reparam is SymmetricStableReparam:
        fn = stable(law[0], 0.0, law[2])
    x, trace = draws_under(reparam(), fn, n)
    for low, high in [(-6.0, -1.0), (-1.0, 0.3), (0.3, 1.5), (1.5, 8.0)]:
        grid = torch.linspace(low, high, 4001, dtype=DOUBLE)
        share = torch.trapezoid(fn.log_prob(grid).exp(), grid).item()
        actual = ((x >= low) & (x < high)).double().mean().item()
        assert abs(actual - share) < 5 * (share / n) ** 0.5 + 1e-3, (low, high)
    prefix = ("x_z", "x_t") if reparam is StableReparam else ("x",)
    assert {f"{p}_{kind}" for p in prefix for kind in ("uniform", "exponential")} <= set(trace.nodes)


@pytest.mark.parametrize("law", [(1.5, 0.6, "S0"), (1.0, 0.0, "S0")])
def test_observed_sites_have_the_stable_density(law):
    """Average the normal density over the auxiliary variables."""
    fn, n = stable(*law), 200_000
    value = torch.tensor(0.8, dtype=DOUBLE)

    def model():
        with ember.plate("draws", n):
            ember.sample("x", fn, obs=value.expand(n))

    reparam = StableReparam() if law[1] else SymmetricStableReparam()
    trace = poutine.trace(poutine.reparam(model, config={"x": reparam})).get_trace()
    node = trace.nodes["x"]
    assert node["is_observed"] and isinstance(node["fn"], dist.Normal)
    density = node["fn"].log_prob(value).exp()
    error = density.std() / n**0.5
    assert (density.mean() - fn.log_prob(value).exp()).abs() < 5 * error


def test_event_dims_and_misuse():
    fn = dist.Stable(1.5, torch.zeros(2), 1.0, 0.0).to_event(1)
    for reparam in (LatentStableReparam(), StableReparam(), SymmetricStableReparam()):
        x, trace = draws_under(reparam, fn, 5)
        assert x.shape == (5, 2)
        names = [n for n in trace.nodes if n.endswith("_uniform")]
        assert all(trace.nodes[n]["fn"].event_shape == (2,) for n in names)
    with pytest.raises(ValueError, match="Stable"):
        draws_under(StableReparam(), dist.Normal(0.0, 1.0), 2)
    with pytest.raises(ValueError, match="skew"):
        draws_under(SymmetricStableReparam(), dist.Stable(1.5, 0.5), 2)

    def model():
        ember.sample("x", dist.Stable(1.5, 0.5), obs=torch.tensor(0.0))

    with pytest.raises(ValueError, match="latent"):
        poutine.reparam(model, config={"x": LatentStableReparam()})()


@pytest.mark.parametrize("strategy", [MinimalReparam, AutoReparam])
def test_strategies_rewrite_stable_sites(strategy):
    def model():
        x = ember.sample("x", dist.Stable(1.5, 0.5))
        ember.sample("y", dist.Stable(1.5, 0.5, 1.0, x), obs=torch.tensor(0.3))

    trace = poutine.trace(strategy()(model)).get_trace()
    assert {"x_uniform", "x_exponential", "y_z_uniform", "y_t_exponential"} <= set(trace.nodes)
    assert torch.isfinite(trace.log_prob_sum())


def chain(duration=6, observed=None):
    heavy = dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1)
    observed = observed or dist.TransformedDistribution(
        dist.Stable(1.6, 0.3, torch.ones(1), 0.0).to_event(1), [dist.transforms.ExpTransform()]
    )
    start = dist.Stable(1.7, torch.zeros(2), 1.0, 0.0).to_event(1)
    return dist.LinearHMM(start, 0.5 * torch.eye(2), heavy, torch.ones(2, 1), observed, duration=duration)


CHAIN_REPARAM = {"init": SymmetricStableReparam(), "trans": StudentTReparam(), "obs": StableReparam()}


def test_linear_chain_becomes_gaussian():
    x, trace = draws_under(LinearHMMReparam(**CHAIN_REPARAM), chain(), 3)
    assert x.shape == (3, 6, 1)
    shapes = {name: tuple(trace.nodes[name]["fn"].event_shape) for name in trace.nodes if "x_" in name}
    assert shapes["x_init_uniform"] == (2,)
    assert shapes["x_trans_gamma"] == (6, 2)
    assert shapes["x_obs_z_uniform"] == shapes["x_obs_t_exponential"] == (6, 1)
    fn = trace.nodes["x"]["fn"]
    assert isinstance(fn, dist.TransformedDistribution) and isinstance(fn.base_dist, dist.GaussianHMM)
    assert torch.isfinite(trace.log_prob_sum())


def test_linear_chain_keeps_its_law():
    fn = chain(3, dist.StudentT(8.0, torch.zeros(1), 0.5).to_event(1))
    reparam = LinearHMMReparam(SymmetricStableReparam(), StudentTReparam(), StudentTReparam())
    first, n = draws_under(reparam, fn, 20_000)[0], 20_000
    second = fn.sample((n,))
    for threshold in (-2.0, 0.0, 1.0):
        shares = [(x.flatten(1) < threshold).double().mean(0) for x in (first, second)]
        assert (shares[0] - shares[1]).abs().max() < 5 * (0.5 / n) ** 0.5


def test_linear_chain_of_gaussians_is_left_exact():
    mvn = dist.MultivariateNormal
    parts = (
        mvn(torch.zeros(2), torch.eye(2)),
        0.5 * torch.eye(2),
        dist.Normal(torch.zeros(2), 0.3).to_event(1),
        torch.ones(2, 1),
        dist.Normal(torch.zeros(1), 0.3).to_event(1),
    )
    x = torch.randn(5, 1)

    def model():
        ember.sample("x", dist.LinearHMM(*parts), obs=x)

    trace = poutine.trace(poutine.reparam(model, config={"x": LinearHMMReparam()})).get_trace()
    close(trace.log_prob_sum(), dist.GaussianHMM(*parts).log_prob(x))
    with pytest.raises(ValueError, match="duration"):
        draws_under(LinearHMMReparam(), dist.LinearHMM(*parts), 2)
    with pytest.raises(ValueError, match="StableReparam"):
        draws_under(LinearHMMReparam(init=LatentStableReparam()), chain(), 2)
    with pytest.raises(ValueError, match="LinearHMM"):
        draws_under(LinearHMMReparam(), dist.Normal(0.0, 1.0), 2)


def test_independent_linear_chains():
    noise = dist.StudentT(4.0, torch.zeros(3, 1, 1), 1.0).to_event(1)
    start = dist.Normal(torch.zeros(3, 1), 1.0).to_event(1)
    base = dist.LinearHMM(start, torch.eye(1), noise, torch.eye(1), noise, duration=4)
    fn = dist.IndependentHMM(base)
    reparam = LinearHMMReparam(trans=StudentTReparam(), obs=StudentTReparam())
    x, trace = draws_under(reparam, fn, 2)
    assert x.shape == (2, 4, 3)
    assert trace.nodes["x_trans_gamma"]["fn"].event_shape == (3, 4, 1)
    assert torch.isfinite(trace.log_prob_sum())


def test_nuts_through_a_reparameterised_chain():
    y = torch.randn(12, 1)

    def model():
        scale = ember.sample("scale", dist.LogNormal(0.0, 0.5))
        noise = dist.StudentT(4.0, torch.zeros(1), scale.unsqueeze(-1)).to_event(1)
        start = dist.Normal(torch.zeros(1), 1.0).to_event(1)
        ember.sample("y", dist.LinearHMM(start, torch.eye(1), start, torch.eye(1), noise), obs=y)

    changed = poutine.reparam(model, config={"y": LinearHMMReparam(obs=StudentTReparam())})
    mcmc = MCMC(NUTS(changed), 20, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["y_obs_gamma"].shape == (20, 12, 1)


CONJUGATE = {
    "beta": (dist.Beta(2.0, 3.0), dist.Beta(4.0, 2.0)),
    "dirichlet": (
        dist.Dirichlet(torch.tensor([2.0, 3.0, 1.5])),
        dist.Dirichlet(torch.tensor([1.0, 4.0, 2.0])),
    ),
    "gamma": (dist.Gamma(2.0, 3.0), dist.Gamma(4.0, 2.0)),
    "normal": (dist.Normal(1.0, 2.0), dist.Normal(-1.0, 0.5)),
    "categorical": (
        dist.Categorical(torch.tensor([0.2, 0.3, 0.5])),
        dist.Categorical(torch.tensor([0.6, 0.3, 0.1])),
    ),
    "event": (dist.Normal(torch.zeros(3), 2.0).to_event(1), dist.Normal(torch.ones(3), 0.5).to_event(1)),
}


@pytest.mark.parametrize("case", CONJUGATE)
def test_conjugate_updates_are_products(case):
    prior, likelihood = CONJUGATE[case]
    updated, log_normalizer = prior.conjugate_update(likelihood)
    x = updated.sample((4,))
    close(prior.log_prob(x) + likelihood.log_prob(x), log_normalizer + updated.log_prob(x))
    with pytest.raises(NotImplementedError, match="conjugate"):
        prior.conjugate_update(dist.Poisson(torch.ones(prior.event_shape)).to_event())


def test_conjugate_reparam_keeps_the_density():
    prior, guess = dist.Beta(2.0, 3.0), dist.Beta(4.0, 2.0)

    def model(count):
        p = ember.sample("p", prior)
        ember.sample("y", dist.Binomial(10, p), obs=count)

    for guide in (guess, lambda count: dist.Beta(1.0 + count, 11.0 - count)):
        changed = poutine.reparam(model, config={"p": ConjugateReparam(guide)})
        trace = poutine.trace(changed).get_trace(torch.tensor(7.0))
        p = trace.nodes["p"]["value"]
        expected = prior.log_prob(p) + dist.Binomial(10, p).log_prob(torch.tensor(7.0))
        close(trace.log_prob_sum(), expected)
        assert trace.nodes["p"]["is_observed"] and not trace.nodes["p_updated"]["is_observed"]
    observed = poutine.condition(model, data={"p": torch.tensor(0.5)})
    with pytest.raises(ValueError, match="latent"):
        poutine.reparam(observed, config={"p": ConjugateReparam(guess)})(torch.tensor(7.0))
