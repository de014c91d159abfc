"""Check guides by flows, and guides that run the model, on posteriors that are known."""

from functools import partial

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.distributions.transforms import (
    AffineTransform,
    ComposeTransformModule,
    affine_autoregressive,
    iterated,
)
from ember.distributions.zuko_distribution import ZukoToPyro
from ember.infer import SVI, Trace_ELBO
from ember.infer.autoguide import (
    AutoHierarchicalNormalMessenger,
    AutoIAFNormal,
    AutoNormalizingFlow,
    AutoNormalMessenger,
    AutoRegressiveMessenger,
    init_to_value,
    mean_field_entropy,
)

DATA = torch.tensor([1.0, 2.0, 0.3, 2.1])


def correlated_model():
    a = ember.sample("a", dist.Normal(0.0, 1.0))
    b = ember.sample("b", dist.Normal(2.0 * a, 0.5))
    ember.sample("y", dist.Normal(b, 1.0), obs=torch.tensor(1.5))


# Precision of (a, b): 1 + 4/0.25, 1/0.25 + 1, and -2/0.25 between them.
PRECISION = torch.tensor([[17.0, -8.0], [-8.0, 5.0]])
COVARIANCE = PRECISION.inverse()
MEAN = COVARIANCE @ torch.tensor([0.0, 1.5])
EVIDENCE = dist.Normal(0.0, (4 + 0.25 + 1) ** 0.5).log_prob(torch.tensor(1.5)).item()


def train(model, guide, steps=600, lr=0.02, particles=8):
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True)
    svi = SVI(model, guide, optim.ClippedAdam({"lr": lr, "lrd": 0.02 ** (1 / steps)}), elbo)
    for _ in range(steps):
        svi.step()
    return Trace_ELBO(num_particles=2000, vectorize_particles=True).loss(model, guide)


@pytest.mark.parametrize(
    "guide",
    [
        lambda model: AutoIAFNormal(model, hidden_dim=8),
        lambda model: AutoNormalizingFlow(
            model, partial(iterated, 2, affine_autoregressive, hidden_dims=[8])
        ),
        lambda model: AutoRegressiveMessenger(model),
        lambda model: AutoHierarchicalNormalMessenger(model),
    ],
    ids=["iaf", "flow", "autoregressive", "hierarchical"],
)
def test_guides_with_dependence_reach_the_evidence(guide):
    loss = train(correlated_model, guide(correlated_model))
    assert loss == pytest.approx(-EVIDENCE, abs=0.05)


def test_mean_field_messenger_fits_the_best_independent_normals():
    guide = AutoNormalMessenger(correlated_model)
    loss = train(correlated_model, guide)
    # KL of the best product of normals: half of log(det of the precision's diagonal over its own).
    gap = 0.5 * (PRECISION.diagonal().log().sum() - torch.logdet(PRECISION)).item()
    assert loss == pytest.approx(-EVIDENCE + gap, abs=0.08)
    median = guide.median()
    torch.testing.assert_close(torch.stack([median["a"], median["b"]]), MEAN, atol=0.1, rtol=0)
    low, high = guide.quantiles([0.15865525, 0.84134475])["a"]
    assert ((high - low) / 2).item() == pytest.approx(17**-0.5, rel=0.1)
    with pytest.raises(TypeError, match="has no quantiles"):
        AutoRegressiveMessenger(correlated_model).quantiles([0.5])
    assert set(ember.get_param_store()) == {f"{kind}.{name}" for kind in ("locs", "scales") for name in "ab"}


@pytest.mark.parametrize(
    "guide_class", [AutoNormalMessenger, AutoHierarchicalNormalMessenger, AutoRegressiveMessenger]
)
def test_messengers_slice_parameters_in_subsampled_plates(guide_class):
    def model():
        scale = ember.sample("scale", dist.LogNormal(0.0, 1.0))
        with ember.plate("data", 4, subsample_size=2) as ind:
            p = ember.sample("p", dist.Dirichlet(torch.ones(3)))
            z = ember.sample("z", dist.Normal(0.0, scale))
            ember.sample("x", dist.Normal(z + p[..., 0], 1.0), obs=DATA[ind])

    guide = guide_class(model)
    loss = Trace_ELBO(num_particles=3, vectorize_particles=True).loss(model, guide)
    assert loss == loss
    values = guide()
    assert values["z"].shape == (2,) and values["p"].shape == (2, 3) and values["scale"] > 0
    torch.testing.assert_close(values["p"].sum(-1), torch.ones(2))
    store = ember.get_param_store()
    assert store["locs.z"].shape == (4,) and store["locs.p"].shape == (4, 2)


def test_amortized_plates_share_parameters():
    def model():
        with ember.plate("data", 4):
            z = ember.sample("z", dist.Normal(torch.arange(4.0), 1.0))
            ember.sample("x", dist.Normal(z, 1.0), obs=DATA)

    guide = AutoHierarchicalNormalMessenger(model, amortized_plates=("data",))
    train(model, guide, steps=400, particles=20)
    assert ember.get_param_store()["weights.z"].shape == (1,)
    # The best shared location and weight: regression of the posterior means on the priors'.
    prior = torch.arange(4.0)
    design = torch.stack([torch.ones(4), prior], -1)
    fitted = design @ torch.linalg.lstsq(design, ((prior + DATA) / 2).unsqueeze(-1)).solution
    torch.testing.assert_close(guide.median()["z"], fitted.squeeze(-1), atol=0.1, rtol=0)


def test_messengers_return_all_sites_of_the_model():
    def model():
        a = ember.sample("a", dist.LogNormal(0.0, 1.0))
        with ember.plate("data", 4, subsample_size=2) as ind:
            twice = ember.deterministic("twice", (2 * a).expand(2))
            ember.sample("y", dist.Normal(twice, 1.0), obs=DATA[ind])

    guide = AutoNormalMessenger(model)
    for values in (guide(), guide.median()):
        assert set(values) == {"a", "twice", "y"}
        torch.testing.assert_close(values["twice"], (2 * values["a"]).expand(2))
        assert set(values["y"].tolist()) <= set(DATA.tolist())
    assert set(guide.quantiles([0.5])) == {"a"}
    # Data are returned, but are no sites of the guide: their densities are the model's alone.
    sites = poutine.trace(guide).get_trace().nodes
    assert {name for name, site in sites.items() if site["type"] == "sample"} == {"a", "data"}


def test_messengers_follow_a_changing_structure():
    def model(count):
        for index in range(count):
            ember.sample(f"z_{index}", dist.Normal(0.0, 1.0))

    guide = AutoNormalMessenger(model)
    assert set(guide(1)) == {"z_0"}
    assert set(guide(3)) == {"z_0", "z_1", "z_2"}


@pytest.mark.parametrize("guide_class", [AutoNormalMessenger, AutoHierarchicalNormalMessenger])
def test_starting_values(guide_class):
    start = {"a": torch.tensor(0.7), "b": torch.tensor(-1.2)}
    guide = guide_class(correlated_model, init_loc_fn=init_to_value(values=start), init_scale=1e-3)
    values = guide()
    assert values["a"].item() == pytest.approx(0.7, abs=0.01)
    assert values["b"].item() == pytest.approx(-1.2, abs=0.02)


def test_flow_takes_modules_that_return_transforms():
    class Lazy(torch.nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.arange(float(dim)))

        def forward(self):
            return AffineTransform(self.shift, 2.0, event_dim=1)

    guide = AutoNormalizingFlow(correlated_model, Lazy)
    guide()
    assert set(ember.get_param_store()) == {"AutoNormalizingFlow.transform$$$shift"}
    trace = poutine.trace(guide).get_trace()
    latent = torch.stack([trace.nodes["a"]["value"], trace.nodes["b"]["value"]])
    expected = dist.Normal(torch.tensor([0.0, 1.0]), 2.0).log_prob(latent).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)


def test_flow_refuses_what_is_no_transform():
    with pytest.raises(TypeError, match="did not make a transform"):
        AutoNormalizingFlow(correlated_model, lambda dim: 3)()


@pytest.mark.parametrize("stable", [False, True])
def test_affine_autoregressive_inverse_and_jacobian(stable):
    transform = affine_autoregressive(4, [9], stable=stable).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    y = transform(x)
    torch.testing.assert_close(transform._inverse(y), x)
    jacobian = torch.autograd.functional.jacobian(transform._call, x[0])
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y)[0], expected)


def test_iterated_owns_all_parameters():
    composed = iterated(3, affine_autoregressive, 2, hidden_dims=[4])
    assert isinstance(composed, ComposeTransformModule) and len(composed.parts) == 3
    single = sum(1 for _ in affine_autoregressive(2, [4]).parameters())
    assert sum(1 for _ in composed.parameters()) == 3 * single
    with pytest.raises(ValueError, match="at least one"):
        iterated(0, affine_autoregressive, 2)


def test_mean_field_entropy():
    def guide(scale):
        with ember.plate("data", 3):
            ember.sample("x", dist.Normal(0.0, scale))
        ember.sample("y", dist.Exponential(2.0))

    expected = 3 * dist.Normal(0.0, 2.0).entropy() + dist.Exponential(2.0).entropy()
    torch.testing.assert_close(mean_field_entropy(guide, (2.0,)), expected)
    only = dist.Exponential(torch.tensor(2.0)).entropy()
    torch.testing.assert_close(mean_field_entropy(guide, (2.0,), whitelist=["y"]), only)


def test_zuko_flows_at_sample_sites_and_as_guides():
    import zuko

    flow = zuko.flows.MAF(features=2, context=1, transforms=1, hidden_features=(4,))

    def guide():
        ember.module("flow", flow)
        x = ember.sample("x", ZukoToPyro(flow(torch.zeros(1))), infer={"is_auxiliary": True})
        for name, value in zip("ab", x.unbind(-1), strict=True):
            ember.sample(name, dist.Delta(value))

    trace = poutine.trace(guide).get_trace()
    fn, x = trace.nodes["x"]["fn"], trace.nodes["x"]["value"]
    torch.testing.assert_close(fn.log_prob(x), fn.dist.log_prob(x), rtol=1e-4, atol=1e-4)
    assert fn.has_rsample and x.requires_grad
    with ember.plate("many", 5):
        assert ember.sample("y", ZukoToPyro(flow(torch.zeros(1)))).shape == (5, 2)
    assert not ZukoToPyro(flow(torch.zeros(1))).sample().requires_grad
    elbo = Trace_ELBO(num_particles=8, vectorize_particles=True)
    svi = SVI(correlated_model, guide, optim.Adam({"lr": 0.02}), elbo)
    losses = [svi.step() for _ in range(800)]
    assert sum(losses[-100:]) / 100 < -EVIDENCE + 0.15
