"""Check the flat density against traces, autograd, and the definitions of supports, plates and masks."""

import math

import pytest
import torch
from torch.distributions import biject_to

import ember
import ember.distributions as dist
from ember import poutine
from ember.distributions import constraints
from ember.engine import random
from ember.errors import InitialisationError
from ember.model.density import Density
from ember.model.initialisation import init_to_value
from ember.model.inspection import inspect_model
from ember.model.start import find_start


def expected(model, density, z, args=(), kwargs=None):
    """Return log_prob_sum of a trace at the constrained values plus log|det J|, in float64."""
    values = {}
    log_det = torch.zeros((), dtype=torch.float64)
    pieces = density.layout.split(z)
    recorded = density.sites.trace
    for name in density.layout.blocks:
        transform = biject_to(recorded.nodes[name]["fn"].support)
        values[name] = transform(pieces[name])
        log_det = log_det + transform.log_abs_det_jacobian(pieces[name], values[name]).sum()
    conditioned = poutine.condition(model, data=values)
    return poutine.trace(conditioned).get_trace(*args, **(kwargs or {})).log_prob_sum() + log_det


def check(model, *args, **kwargs):
    density = Density(model, args, kwargs, seed=3)
    z = torch.linspace(-0.8, 0.9, density.size, dtype=torch.float64)
    torch.testing.assert_close(
        density.log_density(z),
        expected(model, density, z, args, kwargs),
        rtol=1e-6,
        atol=1e-5,
        check_dtype=False,
    )
    value, gradient = density(z)
    step = 1e-6
    for i in range(density.size):
        e = torch.zeros_like(z)
        e[i] = step
        slope = (density.log_density(z + e) - density.log_density(z - e)) / (2 * step)
        torch.testing.assert_close(gradient[i], slope.detach(), rtol=1e-4, atol=1e-4)
    assert value.dtype == gradient.dtype == torch.float64
    return density, z


SUPPORTS = {
    "real": lambda: dist.Normal(1.0, 2.0),
    "positive": lambda: dist.Gamma(2.0, 3.0),
    "nonnegative": lambda: dist.HalfNormal(2.0),
    "unit": lambda: dist.Beta(2.0, 3.0),
    "interval": lambda: dist.Uniform(-1.0, 4.0),
    "bounded below": lambda: dist.Pareto(2.0, 3.0),
    "simplex": lambda: dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])),
    "real vector": lambda: dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.3),
    "batch": lambda: dist.Normal(torch.zeros(2, 3), 1.0),
    "to_event": lambda: dist.LogNormal(torch.zeros(4), 1.0).to_event(1),
    "simplices": lambda: dist.Dirichlet(torch.ones(2, 3)).to_event(1),
    "correlation": lambda: dist.LKJCholesky(3, 2.0),
    "ordered": lambda: dist.ImproperUniform(constraints.ordered_vector, (), (3,)),
    "positive ordered": lambda: dist.ImproperUniform(constraints.positive_ordered_vector, (), (3,)),
    "improper positive": lambda: dist.ImproperUniform(constraints.positive, (2,), ()),
}


@pytest.mark.parametrize("support", SUPPORTS)
def test_every_support(support):
    def model():
        x = ember.sample("x", SUPPORTS[support]())
        ember.sample("y", dist.Normal(x.sum(), 1.0), obs=torch.tensor(0.5))

    density, z = check(model)
    values = density.constrain(z)
    assert values["x"].dtype == torch.float32
    assert density.sites["x"].support.check(values["x"]).all()
    torch.testing.assert_close(density.unconstrain(values), z, rtol=1e-3, atol=1e-4)


def test_support_that_depends_on_another_site():
    def model():
        low = ember.sample("low", dist.Normal(0.0, 1.0))
        width = ember.sample("width", dist.HalfNormal(1.0))
        x = ember.sample("x", dist.Uniform(low, low + width))
        ember.sample("y", dist.Normal(x, 0.1), obs=torch.tensor(0.5))

    density = Density(model, seed=0)
    blocks = density.layout.blocks
    assert blocks["x"].dynamic
    assert not blocks["low"].dynamic
    assert not blocks["width"].dynamic
    z = torch.tensor([[0.3, -0.5, 1.2], [-2.0, 1.0, -0.4]], dtype=torch.float64)
    values = density.constrain(z)
    width = z[:, 1].exp()
    torch.testing.assert_close(
        values["x"], (z[:, 0] + width * torch.sigmoid(z[:, 2])).float(), rtol=1e-5, atol=1e-5
    )
    # By hand: standard normal, half normal with Jacobian, uniform with Jacobian, likelihood.
    a, b, c = z[0]
    x = a + b.exp() * torch.sigmoid(c)
    by_hand = (
        -0.5 * a**2
        - 0.5 * math.log(2 * math.pi)
        + 0.5 * math.log(2 / math.pi)
        - 0.5 * b.exp() ** 2
        + b
        + torch.log(torch.sigmoid(c) * torch.sigmoid(-c))
        - 0.5 * ((0.5 - x) / 0.1) ** 2
        - math.log(0.1)
        - 0.5 * math.log(2 * math.pi)
    )
    torch.testing.assert_close(density.log_density(z[0]), by_hand, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        density.unconstrain({k: v[0] for k, v in values.items()}), z[0], rtol=1e-4, atol=1e-4
    )


def test_plates_scales_masks_and_factors():
    data = torch.tensor([0.3, -1.0, 2.0, 0.1])

    def model(data):
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        with ember.plate("outer", 3, dim=-2):
            a = ember.sample("a", dist.Normal(mu, 1.0))
            with ember.plate("data", 4), poutine.scale(scale=2.5):
                with poutine.mask(mask=torch.tensor([True, False, True, True])):
                    ember.sample("y", dist.Normal(a, 1.0), obs=data)
        ember.factor("f", -(mu**4))
        ember.deterministic("d", mu * 2)

    density, _ = check(model, data)
    assert list(density.layout.blocks) == ["mu", "a"]
    assert density.size == 4


def test_minibatch_is_fixed_and_scaled():
    data = torch.arange(10.0)

    def model(data):
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        with ember.plate("data", 10, subsample_size=3) as index:
            ember.sample("y", dist.Normal(mu, 1.0), obs=data[index])

    with pytest.warns(UserWarning, match="the plate 'data' subsamples, and this posterior is that of one"):
        density = Density(model, (data,), seed=1)
    index = density.minibatches["data"]
    assert len(set(index.tolist())) == 3
    z = torch.tensor([0.7], dtype=torch.float64)
    one = dist.Normal(0.0, 1.0).log_prob(z[0]) + 10 / 3 * dist.Normal(z[0], 1.0).log_prob(data[index]).sum()
    for _ in range(3):
        torch.testing.assert_close(density.log_density(z), one, rtol=1e-6, atol=1e-6)


def test_partly_observed_site_stays_proper():
    data = torch.tensor([0.5, 99.0, -0.5])
    seen = torch.tensor([True, False, True])

    def model():
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        with ember.plate("data", 3):
            x = ember.sample("x", dist.Normal(mu, 2.0), obs=data, obs_mask=seen)
            ember.sample("y", dist.Normal(x, 1.0), obs=torch.zeros(3))

    density = Density(model, seed=0)
    assert list(density.layout.blocks) == ["mu", "x_unobserved"]
    z = torch.tensor([0.3, 1.0, 2.0, 3.0], dtype=torch.float64)
    mu, latent = z[0], z[1:]
    merged = torch.where(seen, data.double(), latent)
    by_hand = (
        dist.Normal(0.0, 1.0).log_prob(mu)
        + dist.Normal(mu, 2.0).log_prob(data[seen]).sum()
        # the prior of all three: the twins of observed elements are never read, but keep it proper
        + dist.Normal(mu, 2.0).log_prob(latent).sum()
        + dist.Normal(merged, 1.0).log_prob(torch.zeros(3)).sum()
    )
    torch.testing.assert_close(density.log_density(z), by_hand, rtol=1e-6, atol=1e-6)


def test_params_are_constants():
    def model():
        scale = ember.param("scale", torch.tensor(2.0), constraint=constraints.positive)
        x = ember.sample("x", dist.Normal(0.0, scale))
        ember.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    density, z = check(model)
    density(z)
    (leaf,) = (value for _, value in ember.get_param_store().named_parameters())
    assert leaf.grad is None
    before = density.log_density(z)
    ember.get_param_store()["scale"] = torch.tensor(3.0)
    assert density.log_density(z) != before


def test_inputs_replace_the_tensor_arguments():
    def model(x, options, scale=1.0):
        beta = ember.sample("beta", dist.Normal(0.0, 1.0))
        ember.sample("y", dist.Normal(beta * x, scale), obs=options["y"])

    x, y = torch.tensor(2.0), torch.tensor(3.0)
    density = Density(model, (x, {"y": y}), {"scale": 0.5}, seed=0)
    assert [each.dtype for each in density.inputs] == [torch.float64] * 2
    z = torch.tensor([0.4], dtype=torch.float64)
    other = Density(model, (x + 1, {"y": y - 1}), {"scale": 0.5}, seed=0)
    changed = tuple(each + shift for each, shift in zip(density.inputs, (1.0, -1.0), strict=True))
    torch.testing.assert_close(density.log_density(z, changed), other.log_density(z))
    assert density.log_density(z, changed) != density.log_density(z)


def test_float32_constants_of_the_model_in_matrix_products():
    x = torch.randn(5, 2)

    def model(y):
        beta = ember.sample("beta", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        ember.sample("y", dist.Normal(x @ beta, 1.0).to_event(1), obs=y)

    y = torch.randn(5)
    density = Density(model, (y,), seed=0)
    z = torch.tensor([0.3, -0.2], dtype=torch.float64)
    by_hand = (
        dist.Normal(0.0, 1.0).log_prob(z).sum() + dist.Normal(x.double() @ z, 1.0).log_prob(y.double()).sum()
    )
    torch.testing.assert_close(density.log_density(z), by_hand, rtol=1e-10, atol=1e-10)
    assert torch.get_default_dtype() == torch.float32


def test_module_weights_in_the_model():
    layer = torch.nn.Linear(1, 3)

    def model(y):
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        ember.sample("y", dist.Normal(layer(x.reshape(1)), 1.0).to_event(1), obs=y)

    density = Density(model, (torch.zeros(3),), seed=0)
    value, gradient = density(torch.tensor([0.5], dtype=torch.float64))
    assert value.dtype == torch.float64
    assert gradient.shape == (1,)
    assert layer.weight.grad is None


def test_float64_data_with_float32_priors():
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, dtype=torch.float64)

    def model(x, y):
        beta = ember.sample("beta", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        ember.sample("y", dist.Normal(x @ beta, 1.0).to_event(1), obs=y)

    assert Density(model, (x, y), seed=0).size == 2


def test_dtype_of_the_model_comes_back():
    def model():
        ember.sample("x", dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0))
        ember.sample("y", dist.Normal(0.0, 1.0))

    values = Density(model, seed=0).constrain(torch.zeros(4, 2, dtype=torch.float64))
    assert (values["x"].dtype, values["y"].dtype) == (torch.float64, torch.float32)
    assert values["x"].shape == (4,)


def test_failing_linear_algebra_is_zero_density():
    def model():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        matrix = torch.stack([torch.stack([x, x * 0]), torch.stack([x * 0, x * 0 + 1])])
        ember.factor("f", torch.linalg.cholesky(matrix).sum())

    density = Density(model, init_strategy=init_to_value(values={"x": torch.tensor(1.0)}), seed=0)
    value, gradient = density(torch.tensor([-1.0], dtype=torch.float64))
    assert value == -math.inf
    assert torch.equal(gradient, torch.zeros(1, dtype=torch.float64))


def test_validation_and_default_dtype_are_as_before():
    from ember import settings

    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))
        seen.append((settings.get("validate_distributions_pyro"), torch.get_default_dtype()))

    seen = []
    density = Density(model, seed=0)
    seen.clear()
    density(torch.zeros(1, dtype=torch.float64))
    assert seen == [(False, torch.float64)]
    assert settings.get("validate_distributions_pyro")
    assert torch.get_default_dtype() == torch.float32


def test_deterministics_in_batches_and_by_loop():
    table = torch.tensor([0, 1, 1])

    def model(read_values):
        a = ember.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        if read_values:
            assert a[0].item() < 1e9
        ember.deterministic("b", a[table] ** 2)

    z = torch.randn(3, 4, 2, dtype=torch.float64)
    for read_values in (False, True):
        values = Density(model, (read_values,), seed=0).deterministics(z)
        torch.testing.assert_close(values["b"], (z[..., table] ** 2).float())


def test_discrete_latent_is_refused_by_name():
    def model():
        with ember.plate("items", 3):
            k = ember.sample("k", dist.Categorical(torch.ones(2)))
            ember.sample("y", dist.Normal(k.float(), 1.0), obs=torch.zeros(3))
        ember.sample("coin", dist.Bernoulli(0.5))

    with pytest.raises(ValueError, match="discrete latent sites") as caught:
        Density(model, seed=0)
    text = str(caught.value)
    for part in (
        "'k' ~ Categorical",
        "'coin' ~ Bernoulli",
        "items(size=3",
        "test_density.py",
        "fix:",
        "expected:",
    ):
        assert part in text


def test_no_latent_site():
    def model():
        ember.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(ValueError, match=r"no latent site(?s:.*)y \(observed\)"):
        Density(model)


def test_structure_that_changes_is_refused():
    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))
        if on[0]:
            ember.sample("extra", dist.Normal(0.0, 1.0))

    on = [False]
    density = Density(model, seed=0)
    on[0] = True
    with pytest.raises(ValueError, match="'extra' was not there in the first execution"):
        density(torch.zeros(1, dtype=torch.float64))
    density = Density(model, seed=0)
    on[0] = False
    with pytest.raises(ValueError, match=r"\['extra'\].*missing in a later"):
        density(torch.zeros(2, dtype=torch.float64))


def test_unconstrain_names_missing_and_unknown_sites():
    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match=r"missing: x; unknown: q"):
        Density(model, seed=0).unconstrain({"q": 1.0})


def test_site_table():
    def model(data):
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        ember.param("p", torch.tensor(1.0))
        with ember.plate("data", 4, subsample_size=2) as index:
            ember.sample("y", dist.Normal(mu, 1.0), obs=data[index])
        ember.factor("f", -mu)
        ember.deterministic("d", mu * 2)
        ember.sample("k", dist.Poisson(3.0))

    table = inspect_model(model, (torch.zeros(4),), seed=0)
    kinds = {name: site.kind for name, site in table.items()}
    assert kinds == {
        "mu": "latent",
        "p": "param",
        "data": "subsample",
        "y": "observed",
        "f": "factor",
        "d": "deterministic",
        "k": "latent",
    }
    assert [name for name, site in table.items() if site.is_discrete] == ["k"]
    assert table["y"].dims == ["data"]
    assert table["y"].shape == (2,)
    assert "test_density.py" in table["mu"].where
    assert table["mu"].support is constraints.real
    lines = str(table).splitlines()
    assert lines[0].split() == ["site", "kind", "distribution", "shape", "plates", "where"]
    assert len(lines) == 8


def test_inspection_leaves_the_generator_alone():
    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))

    before = torch.get_rng_state()
    first = inspect_model(model, seed=5)["x"].value
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(inspect_model(model, seed=5)["x"].value, first)


def test_observation_outside_the_support_is_named():
    def model():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        ember.sample("count", dist.Poisson(x.exp()), obs=torch.tensor(-1.0))

    with pytest.raises(ValueError, match="count"):
        Density(model)


def test_start_is_keyed_and_in_range():
    def model():
        ember.sample("x", dist.Normal(torch.zeros(50), 1.0).to_event(1))

    density = Density(model, seed=0)
    start = find_start(density, random.key(1))
    assert torch.equal(start, find_start(density, random.key(1)))
    assert not torch.equal(start, find_start(density, random.key(2)))
    assert start.abs().max() <= 2
    assert start.abs().max() > 1


def test_steep_starts_are_avoided():
    def model():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        ember.factor("cliff", -torch.where(x > 0, (50 * x).exp(), 0 * x))

    density = Density(model, seed=0)
    starts = torch.cat([find_start(density, random.key(seed)) for seed in range(30)])
    assert (starts < 0.3).all()
    assert (starts < -1.0).any()


def test_steep_start_is_taken_where_there_is_no_other():
    def model():
        x = ember.sample("x", dist.Normal(0.0, 1e-6))
        ember.sample("y", dist.Normal(x, 1e-6), obs=torch.tensor(0.0))

    density = Density(model, seed=0)
    assert find_start(density, random.key(0)).abs() < 0.5  # the gentlest of some


def test_start_from_a_strategy():
    def model():
        ember.sample("s", dist.HalfNormal(1.0))
        ember.sample("x", dist.Normal(0.0, 1.0))

    density = Density(model, seed=0)
    strategy = init_to_value(values={"s": torch.tensor(3.0)})
    before = torch.get_rng_state()
    start = find_start(density, random.key(0), strategy)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(start[0], torch.tensor(3.0).double().log(), rtol=1e-6, atol=1e-6)


def test_failed_start_names_the_site():
    def model(data):
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        with ember.plate("data", 2):
            ember.sample("bad", dist.Normal(mu, 0.5), obs=data)

    with ember.validation_enabled(False):
        density = Density(model, (torch.tensor([1.0, float("nan")]),), seed=0)
    with pytest.raises(InitialisationError) as caught:
        find_start(density, random.key(0))
    text = str(caught.value)
    for part in (
        "site 'bad' is nan",
        "100 tries",
        "value [1, nan]",
        "Normal(loc=[",
        "scale=[0.5, 0.5]",
        "fix:",
    ):
        assert part in text, text


def test_failed_start_names_an_infinite_gradient():
    def model():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        ember.factor("f", (x - x).abs().sqrt())

    with pytest.raises(InitialisationError, match="gradient with respect to site 'x' is not finite"):
        find_start(Density(model, seed=0), random.key(0), max_tries=3)
