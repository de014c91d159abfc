"""Guides with chosen or found dependences, and guides of discrete sites, on posteriors that are known."""

import pytest
import torch
from torch.distributions import kl_divergence

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from ember.infer.autoguide import (
    AutoDiscreteParallel,
    AutoGaussian,
    AutoGuideList,
    AutoNormal,
    AutoStructured,
)
from ember.model.dependence import find_dependences


def correlated_model():
    a = ember.sample("a", dist.Normal(0.0, 1.0))
    b = ember.sample("b", dist.Normal(2.0 * a, 0.5))
    ember.sample("y", dist.Normal(b, 1.0), obs=torch.tensor(1.5))


PRECISION = torch.tensor([[17.0, -8.0], [-8.0, 5.0]])
COVARIANCE = PRECISION.inverse()
MEAN = COVARIANCE @ torch.tensor([0.0, 1.5])
EVIDENCE = dist.Normal(0.0, 5.25**0.5).log_prob(torch.tensor(1.5)).item()


def train(model, guide, steps=500, lr=0.03, particles=10, elbo=Trace_ELBO, **options):
    loss = elbo(num_particles=particles, vectorize_particles=True, **options)
    svi = SVI(model, guide, optim.ClippedAdam({"lr": lr, "lrd": 0.02 ** (1 / steps)}), loss)
    for _ in range(steps):
        svi.step()
    return svi


def bound(model, guide):
    return -Trace_ELBO(num_particles=2000, vectorize_particles=True).loss(model, guide)


class Shifted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.tensor([-2.0]))

    def forward(self):
        return ember.sample(
            "a_noise",
            dist.Normal(torch.zeros(1), self.log_scale.exp()).to_event(1),
            infer={"is_auxiliary": True},
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"conditionals": "normal"},
        {"conditionals": "normal", "dependencies": {"a": {"b": "linear"}}},
        {
            "conditionals": {"a": Shifted(), "b": "normal"},
            "dependencies": {"b": {"a": torch.nn.Linear(1, 1)}},
        },
    ],
    ids=["automatic", "normal", "reversed", "modules"],
)
def test_structured_guides_reach_the_evidence(options):
    guide = AutoStructured(correlated_model, **options)
    train(correlated_model, guide)
    assert bound(correlated_model, guide) == pytest.approx(EVIDENCE, abs=0.03)
    if "conditionals" in options and not isinstance(options["conditionals"], str):
        assert {name for name in ember.get_param_store() if "$$$" in name or "conds" in name} == {
            "AutoStructured.conds.a$$$log_scale",
            "AutoStructured.deps.b.a$$$weight",
            "AutoStructured.deps.b.a$$$bias",
        }
        with pytest.raises(ValueError, match="quantiles of AutoStructured"):
            guide.quantiles([0.5])
        return
    low, high = (
        torch.stack(each) for each in zip(*guide.quantiles([0.15865525, 0.84134475]).values(), strict=True)
    )
    torch.testing.assert_close((low + high) / 2, torch.stack(list(guide.median().values())))
    torch.testing.assert_close((low + high) / 2, MEAN, atol=0.05, rtol=0)
    torch.testing.assert_close((high - low) / 2, COVARIANCE.diagonal().sqrt(), atol=0.01, rtol=0.1)


def test_structured_guide_without_noise_or_dependence():
    guide = AutoStructured(correlated_model, conditionals={"a": "delta", "b": "normal"}, dependencies={})
    train(correlated_model, guide)
    # With a at a point, the best is that point's conditional: the mode, and the conditional's scale.
    torch.testing.assert_close(guide.median()["a"], MEAN[0], atol=0.05, rtol=0)
    low, high = guide.quantiles([0.15865525, 0.84134475])["b"]
    assert ((high - low) / 2).item() == pytest.approx(5**-0.5, rel=0.1)
    assert (guide.quantiles([0.1, 0.9])["a"] == guide.median()["a"]).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"conditionals": "cauchy"}, "'delta', 'normal', 'mvn', or a function"),
        ({"conditionals": {"a": "normal"}}, "conditional of site 'b'"),
        ({"conditionals": {"a": "normal", "b": "mvn", "c": "mvn"}}, "'c' in AutoStructured"),
        ({"dependencies": "all"}, "'linear', or a dict by site name"),
        ({"dependencies": {"a": {"b": "quadratic"}}}, "'linear', or a function"),
        ({"dependencies": {"a": {"c": "linear"}}}, "latent sites: a, b"),
        ({"dependencies": {"a": {"b": "linear"}, "b": {"a": "linear"}}}, "a cycle among a, b"),
        ({"conditionals": lambda: torch.zeros(2)}, "the conditional of site 'a'"),
        ({"dependencies": {"b": {"a": lambda x: x.new_zeros(3)}}}, "dependency of site 'b' on 'a'"),
        ({"init_scale": -1.0}, "init_scale must be positive"),
    ],
)
def test_structured_guides_refuse_what_does_not_fit(options, text):
    with pytest.raises(ValueError, match=text):
        AutoStructured(correlated_model, **options)()


Y = torch.linspace(-1, 2, 6, dtype=torch.float64).reshape(2, 3)


def nested_model():
    mu = ember.sample("mu", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
    with ember.plate("i", 2, dim=-2):
        a = ember.sample("a", dist.Normal(mu, 0.5))
        with ember.plate("j", 3, dim=-1):
            b = ember.sample("b", dist.Normal(a.expand((*a.shape[:-1], 3)).unsqueeze(-1), 0.7).to_event(1))
            ember.sample("y", dist.Normal(b.squeeze(-1), 0.6), obs=Y)
            ember.sample("y2", dist.Normal(b.squeeze(-1), 0.6), obs=Y)


def nested_posterior():
    """Return mean and precision, from the joint density's curvature."""

    def energy(x):
        mu, a, b = x[0], x[1:3, None], x[3:].reshape(2, 3)
        terms = [mu**2, ((a - mu) / 0.5) ** 2, ((b - a) / 0.7) ** 2, 2 * ((Y - b) / 0.6) ** 2]
        return 0.5 * sum(term.sum() for term in terms)

    zero = torch.zeros(9, dtype=torch.float64)
    precision = torch.autograd.functional.hessian(energy, zero)
    return -torch.linalg.solve(precision, torch.autograd.functional.jacobian(energy, zero)), precision


def test_gaussian_guide_has_the_zeros_of_the_posterior():
    guide = AutoGaussian(nested_model)
    assert {name: tuple(value.shape) for name, value in guide().items()} == {
        "mu": (),
        "a": (2, 1),
        "b": (2, 3, 1),
    }
    train(nested_model, guide, steps=500, lr=0.05)
    mean, precision = nested_posterior()
    posterior = guide.get_posterior()
    assert torch.equal(guide._precision() != 0, precision.abs() > 1e-9)
    exact = dist.MultivariateNormal(mean, precision_matrix=precision)
    assert kl_divergence(posterior, exact) < 0.03
    # Of two observed sites that depend on the same values one is enough.
    factors = {name for name in ember.get_param_store() if ".factors." in name}
    assert factors == {f"AutoGaussian.factors.{name}" for name in ("mu", "a", "b", "y")}
    low, high = guide.quantiles([0.15865525, 0.84134475])["b"]
    expected = precision.inverse().diagonal().sqrt()[3:].reshape(2, 3, 1)
    torch.testing.assert_close((high - low) / 2, expected, atol=0.02, rtol=0.1)


def test_gaussian_guide_aligns_plates_and_bijections():
    def model():
        columns = ember.plate("j", 3, dim=-1)
        with ember.plate("i", 2, dim=-2), columns:
            p = ember.sample("p", dist.Dirichlet(torch.ones(4)))
        with columns:
            s = ember.sample("s", dist.LogNormal(p[..., 0].sum(-2, keepdim=True), 1.0))
            ember.sample("x", dist.Normal(s, 1.0), obs=torch.ones(3))

    guide = AutoGaussian(model)
    loss = Trace_ELBO(num_particles=3, vectorize_particles=True).loss(model, guide)
    assert torch.isfinite(torch.tensor(loss))
    # p has 2 × 3 × 3 free values and s has 3, each of which sees 2 × 3 of p's.
    places = guide._places["s"]
    assert places.shape == (3, 1 + 6) and guide.latent_dim == 21
    assert places[1].tolist() == [19, 3, 4, 5, 12, 13, 14]
    with pytest.raises(ValueError, match="has no backend 'sparse'"):
        AutoGaussian(model, backend="sparse")
    assert AutoGaussian(model, backend="funsor")().keys() == AutoGaussian(model)().keys()


def test_dependences_are_found():
    def model():
        a = ember.sample("a", dist.Normal(0.0, 1.0))
        b = ember.sample("b", dist.Normal(0.0, a.exp()))
        with ember.plate("n", 3):
            ember.sample("x", dist.Normal(b, 1.0), obs=torch.zeros(3))
            ember.sample("free", dist.Normal(0.0, 1.0), obs=torch.zeros(3))
        ember.factor("f", a * b)

    found = find_dependences(model, {"a": torch.tensor(0.1), "b": torch.tensor(0.2)})
    assert {each.site: each.upstream for each in found} == {
        "a": (),
        "b": ("a",),
        "x": ("b",),
        "free": (),
        "f": ("a", "b"),
    }
    assert [frame.name for frame in found[2].plates] == ["n"]


PROBS = torch.tensor([0.2, 0.3, 0.5])
POINTS = torch.tensor([-0.5, 0.7, 1.2, 2.5])


def independent_model(index=None):
    ember.sample("coin", dist.Bernoulli(0.3))
    with ember.plate("points", 4, subsample=index) as ind:
        which = ember.sample("which", dist.Categorical(PROBS))
        count = ember.sample("count", dist.Binomial(2, 0.4))
        hot = ember.sample("hot", dist.OneHotCategorical(torch.tensor([0.25, 0.75])))
        ember.factor("f", count + 0.5 * hot[..., 0])
        ember.sample("x", dist.Normal(which.to(POINTS.dtype), 0.7), obs=POINTS[ind])


def test_discrete_guide_finds_independent_posteriors():
    guide = AutoDiscreteParallel(independent_model)
    train(independent_model, guide, steps=250, lr=0.1, particles=1, elbo=TraceEnum_ELBO, max_plate_nesting=1)
    store = ember.get_param_store()
    assert store["AutoDiscreteParallel.coin_probs"].item() == pytest.approx(0.3, abs=0.02)
    logits = PROBS.log() + dist.Normal(torch.arange(3.0), 0.7).log_prob(POINTS.unsqueeze(-1))
    exact = logits.softmax(-1)
    torch.testing.assert_close(store["AutoDiscreteParallel.which_probs"], exact, atol=0.02, rtol=0)
    counts = (dist.Binomial(2, 0.4).log_prob(torch.arange(3.0)) + torch.arange(3.0)).softmax(0)
    torch.testing.assert_close(guide.get_posterior("count").probs, counts.expand(4, 3), atol=0.02, rtol=0)
    hot = torch.tensor([0.25 * 0.5**-1 * 0.5, 0.75]) * torch.tensor([torch.e**0.5, 1.0])
    torch.testing.assert_close(guide.get_posterior("hot").probs[0], hot / hot.sum(), atol=0.02, rtol=0)
    median = guide.median()
    assert median["which"].tolist() == [0, 1, 1, 2] and median["coin"] == 0
    assert median["hot"].tolist() == [[0.0, 1.0]] * 4


def test_discrete_guide_in_subsampled_plates_and_lists():
    def model(index):
        loc = ember.sample("loc", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
        with ember.plate("points", 4, subsample=index) as ind:
            which = ember.sample("which", dist.Bernoulli(0.5))
            mean = torch.where(which.bool(), loc[..., 1, None], loc[..., 0, None])
            ember.sample("x", dist.Normal(mean, 0.5), obs=POINTS[ind])

    guide = AutoGuideList(model, create_plates=lambda index: ember.plate("points", 4, subsample=index))
    guide.append(AutoNormal(poutine.block(model, hide=["which"])))
    guide.append(AutoDiscreteParallel(poutine.block(model, expose=["which"])))
    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, torch.tensor([1, 3]))
    loss.backward()
    probs = ember.get_param_store().leaf("AutoGuideList.1.which_probs")
    assert probs.shape == (4,) and probs.grad.nonzero().flatten().tolist() == [1, 3]


@pytest.mark.parametrize(
    "site", [dist.Normal(0.0, 1.0), dist.Poisson(2.0), dist.Bernoulli(0.5).expand([2]).to_event(1)]
)
def test_discrete_guide_refuses_what_it_cannot_sum(site):
    with pytest.raises(ValueError, match=r"AutoDiscreteParallel cannot guide site 'z'(.|\n)*hide=\['z'\]"):
        AutoDiscreteParallel(lambda: ember.sample("z", site))()
