"""Further reparameterisers keep the law of the model, its draws and its density."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.distributions.transforms import Permute
from ember.infer import MCMC, NUTS, SVI, Trace_ELBO
from ember.infer.autoguide import AutoDelta, AutoNormal
from ember.infer.reparam import (
    AutoReparam,
    DiscreteCosineReparam,
    GumbelSoftmaxReparam,
    HaarReparam,
    LocScaleReparam,
    MinimalReparam,
    ProjectedNormalReparam,
    SplitReparam,
    StudentTReparam,
    UnitJacobianReparam,
)


def draws(fn, reparam, count):
    """Draw a site with and without rewriting it."""

    def model():
        with ember.plate("particles", count, dim=-3):
            return ember.sample("x", fn)

    changed = poutine.reparam(model, config={"x": reparam})
    return changed(), model()


def assert_same_law(first, second, features):
    for feature in features:
        one, two = feature(first), feature(second)
        error = (one.var(0) / len(one) + two.var(0) / len(two)).sqrt() + 1e-6
        z = (one.mean(0) - two.mean(0)) / error
        assert z.abs().max() < 4.5, f"z = {z}"


MOMENTS = [lambda x: x, lambda x: x**2, lambda x: x[..., :1] * x[..., -1:]]
LOGITS = torch.tensor([[0.3, -1.0, 0.8], [0.0, 2.0, -0.5]])
TRIL = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.7, 0, 0], [-0.2, 0.1, 1.2, 0], [0.9, 0.3, -0.4, 0.6]])

CASES = {
    "gumbel": (dist.RelaxedOneHotCategorical(torch.tensor(0.7), logits=LOGITS), GumbelSoftmaxReparam),
    "gumbel-binary": (dist.RelaxedBernoulli(torch.tensor(0.6), logits=LOGITS), GumbelSoftmaxReparam),
    "gumbel-event": (
        dist.RelaxedBernoulli(torch.tensor(0.6), logits=LOGITS).to_event(1),
        GumbelSoftmaxReparam,
    ),
    "projected": (dist.ProjectedNormal(2 * LOGITS), ProjectedNormalReparam),
    "student": (dist.StudentT(9.0, LOGITS, 0.5), StudentTReparam),
    "student-event": (dist.StudentT(9.0, LOGITS, 0.5).to_event(1), StudentTReparam),
    "permuted": (
        dist.MultivariateNormal(torch.arange(4.0), scale_tril=TRIL),
        lambda: UnitJacobianReparam(Permute(torch.tensor([2, 0, 3, 1]))),
    ),
    "cosine": (dist.MultivariateNormal(torch.arange(4.0), scale_tril=TRIL), DiscreteCosineReparam),
    "smooth": (
        dist.MultivariateNormal(torch.arange(4.0), scale_tril=TRIL),
        lambda: DiscreteCosineReparam(smooth=1.0),
    ),
    "haar": (dist.Normal(torch.arange(6.0).reshape(2, 3), 0.5).to_event(2), lambda: HaarReparam(dim=-2)),
}


@pytest.mark.parametrize("case", CASES)
def test_draws_keep_their_law(case):
    fn, make = CASES[case]
    changed, plain = draws(fn, make(), 20000)
    assert changed.shape == plain.shape
    assert_same_law(changed, plain, MOMENTS)


@pytest.mark.parametrize("case", ["permuted", "cosine", "smooth", "haar"])
def test_density_of_the_image_is_the_site_s(case):
    fn, make = CASES[case]
    trace = poutine.trace(poutine.reparam(lambda: ember.sample("x", fn), config={"x": make()})).get_trace()
    torch.testing.assert_close(
        trace.log_prob_sum(), fn.log_prob(trace.nodes["x"]["value"]).sum(), atol=1e-4, rtol=1e-4
    )


def test_student_likelihood_becomes_normal():
    data = torch.tensor([0.5, 4.0])

    def model():
        with ember.plate("data", 2):
            ember.sample("x", dist.StudentT(3.0, 0.0, 1.0), obs=data)

    trace = poutine.trace(poutine.reparam(model, config={"x": StudentTReparam()})).get_trace()
    gamma = trace.nodes["x_gamma"]["value"]
    assert gamma.shape == (2,) and trace.nodes["x"]["is_observed"]
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], dist.Normal(0.0, gamma.rsqrt()).log_prob(data))


@pytest.mark.parametrize("sections", [[1, 3], 2])
def test_split_keeps_the_density_and_its_mode(sections):
    loc = torch.tensor([1.0, -2.0, 0.5, 3.0])

    def model():
        ember.sample("x", dist.Normal(loc, 1.0).to_event(1))

    changed = poutine.reparam(model, config={"x": SplitReparam(sections, dim=-1)})
    guide = AutoDelta(changed)
    svi = SVI(changed, guide, optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(250):
        loss = svi.step()
    assert loss == pytest.approx(-dist.Normal(loc, 1.0).log_prob(loc).sum().item(), abs=0.01)
    median = guide.median()
    assert set(median) == {"x_split_0", "x_split_1"}
    joined = torch.cat([median["x_split_0"], median["x_split_1"]], -1)
    torch.testing.assert_close(joined, loc, atol=0.02, rtol=0)


def test_split_refuses_sections_that_do_not_fit():
    def model():
        ember.sample("x", dist.Normal(torch.zeros(4), 1.0).to_event(1))

    with pytest.raises(ValueError, match="cannot split site 'x'"):
        poutine.reparam(model, config={"x": SplitReparam([1, 2], dim=-1)})()
    with pytest.raises(ValueError, match="negative"):
        SplitReparam([1, 3], dim=0)


@pytest.mark.parametrize("make", [GumbelSoftmaxReparam, StudentTReparam, ProjectedNormalReparam])
def test_other_families_are_refused(make):
    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match=f"{make.__name__} cannot rewrite site 'x'"):
        poutine.reparam(model, config={"x": make()})()


def test_batch_dims_are_not_transformed():
    def model():
        ember.sample("x", dist.Normal(torch.zeros(4), 1.0))

    with pytest.raises(ValueError, match="that are batch dims"):
        poutine.reparam(model, config={"x": DiscreteCosineReparam()})()


def mixed_model():
    scale = ember.sample("scale", dist.LogNormal(0.0, 0.3))
    with ember.plate("data", 3):
        z = ember.sample("z", dist.Normal(0.0, scale))
        ember.sample("direction", dist.ProjectedNormal(torch.ones(3, 2)))
        ember.sample("soft", dist.RelaxedBernoulli(torch.tensor(0.5), logits=torch.zeros(3)))
        ember.sample("count", dist.Poisson(2.0))
        ember.sample("x", dist.Normal(z, 1.0), obs=torch.tensor([0.3, -0.2, 2.0]))


def test_auto_reparam_chooses_by_family():
    strategy = AutoReparam(centered=0.0)
    trace = poutine.trace(poutine.reparam(mixed_model, config=strategy)).get_trace()
    assert {"scale_base", "z_decentered", "direction_normal", "soft_uniform", "count"} <= set(
        trace.stochastic_nodes
    )
    assert {"scale", "z", "direction", "soft", "x"} <= set(trace.observation_nodes)
    assert isinstance(strategy.config["z"], LocScaleReparam)


def test_minimal_reparam_as_a_decorator_leaves_the_rest():
    trace = poutine.trace(MinimalReparam()(mixed_model)).get_trace()
    assert {"scale", "z", "direction_normal", "soft", "count"} <= set(trace.stochastic_nodes)
    assert "z_decentered" not in trace.nodes


def test_auto_reparam_with_a_guide():
    def model():
        scale = ember.sample("scale", dist.LogNormal(0.0, 0.3))
        with ember.plate("data", 3):
            z = ember.sample("z", dist.Normal(0.0, scale))
            ember.sample("x", dist.Normal(z, 1.0), obs=torch.tensor([0.3, -0.2, 2.0]))

    changed = AutoReparam()(model)
    guide = AutoNormal(changed)
    svi = SVI(changed, guide, optim.Adam({"lr": 0.02}), Trace_ELBO())
    first = sum(svi.step() for _ in range(30))
    for _ in range(300):
        svi.step()
    assert sum(svi.step() for _ in range(30)) < first
    assert "z_centered" in ember.get_param_store()


def test_split_counts_under_nuts():
    def model():
        ember.sample(
            "x", dist.Normal(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, 1.0, 2.0])).to_event(1)
        )

    changed = poutine.reparam(model, config={"x": SplitReparam([1, 2], dim=-1)})
    mcmc = MCMC(NUTS(changed), num_samples=800, warmup_steps=300, disable_progbar=True)
    mcmc.run()
    samples = mcmc.get_samples()
    joined = torch.cat([samples["x_split_0"], samples["x_split_1"]], -1)
    torch.testing.assert_close(joined.mean(0), torch.tensor([1.0, -2.0, 0.5]), atol=0.35, rtol=0)
    torch.testing.assert_close(joined.std(0), torch.tensor([0.5, 1.0, 2.0]), atol=0, rtol=0.2)
