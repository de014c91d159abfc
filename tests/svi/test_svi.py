"""SVI steps, losses, checks of model against guide, and their messages."""

import math
import warnings

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, settings
from ember.infer import SVI, Trace_ELBO
from ember.nn import PyroModule, PyroParam

DATA = torch.tensor([0.5, 1.5, 1.0, 2.0])


def model(data=DATA):
    x = ember.sample("x", dist.Normal(0.0, 1.0))
    with ember.plate("data", len(data)):
        ember.sample("y", dist.Normal(x, 1.0), obs=data)


def guide(data=DATA):
    loc = ember.param("loc", torch.tensor(0.0))
    scale = ember.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    ember.sample("x", dist.Normal(loc, scale))


def test_conjugate_normal_is_found():
    svi = SVI(model, guide, optim.Adam({"lr": 0.03}), Trace_ELBO(num_particles=30, vectorize_particles=True))
    for _ in range(700):
        svi.step()
    store = ember.get_param_store()
    assert store["loc"].item() == pytest.approx(1.0, abs=0.05)  # sum of data / (n + 1)
    assert store["scale"].item() == pytest.approx(5**-0.5, abs=0.04)
    evidence = dist.MultivariateNormal(torch.zeros(4), torch.eye(4) + torch.ones(4, 4)).log_prob(DATA)
    assert svi.evaluate_loss() == pytest.approx(-evidence.item(), abs=0.05)


@pytest.mark.parametrize("posterior", ["beta", "gamma"])
def test_conjugate_posteriors_of_other_families(posterior):
    """The exact posterior has no variance in the bound; starting elsewhere, training finds it."""
    if posterior == "beta":
        data = torch.tensor([1.0, 1.0, 0.0, 1.0])
        prior, likelihood = dist.Beta(2.0, 2.0), dist.Bernoulli
        exact, family = (5.0, 3.0), dist.Beta
    else:
        data = torch.tensor([3.0, 1.0, 2.0, 4.0])
        prior, likelihood = dist.Gamma(2.0, 1.0), dist.Poisson
        exact, family = (12.0, 5.0), dist.Gamma

    def conjugate_model():
        p = ember.sample("p", prior)
        with ember.plate("data", 4):
            ember.sample("y", likelihood(p), obs=data)

    def conjugate_guide():
        a = ember.param("a", torch.tensor(exact[0] * 1.4), constraint=dist.constraints.positive)
        b = ember.param("b", torch.tensor(exact[1] * 0.7), constraint=dist.constraints.positive)
        ember.sample("p", family(a, b))

    elbo = Trace_ELBO(num_particles=20, vectorize_particles=True)
    svi = SVI(conjugate_model, conjugate_guide, optim.Adam({"lr": 0.02}), elbo)
    store = ember.get_param_store()
    trail = []
    for _ in range(800):
        svi.step()
        trail.append((store["a"].item(), store["b"].item()))
    a, b = torch.tensor(trail[-200:]).mean(0)
    assert family(a, b).mean.item() == pytest.approx(family(*exact).mean.item(), rel=0.03)
    assert family(a, b).stddev.item() == pytest.approx(family(*exact).stddev.item(), rel=0.1)


def test_only_params_that_ran_are_updated():
    def switching_guide(which):
        loc = ember.param(f"loc_{which}", torch.tensor(0.0))
        ember.sample("x", dist.Normal(loc, 1.0))

    svi = SVI(lambda which: model(), switching_guide, optim.SGD({"lr": 0.1, "momentum": 0.9}), Trace_ELBO())
    svi.step("a")
    after_a = ember.get_param_store()["loc_a"].item()
    svi.step("b")
    assert ember.get_param_store()["loc_a"].item() == after_a
    assert ember.get_param_store()["loc_b"].item() != 0.0
    assert ember.get_param_store().leaf("loc_a").grad is None


def test_losses_by_function():
    def loss(model, guide, *args):
        return Trace_ELBO().differentiable_loss(model, guide, *args)

    svi = SVI(model, guide, optim.SGD({"lr": 0.01}), loss)
    assert isinstance(svi.step(), float)
    assert isinstance(svi.evaluate_loss(), float)
    assert ember.get_param_store()["loc"].item() != 0.0
    calls = []

    def counted(model, guide, *args):
        calls.append(args)
        return Trace_ELBO().loss_and_grads(model, guide, *args)

    SVI(model, guide, optim.SGD({"lr": 0.01}), loss, loss_and_grads=counted).step(DATA)
    assert len(calls) == 1


def test_torch_optimizers_are_refused_with_the_way_out():
    with pytest.raises(TypeError, match=r"needs an optimiser of ember.optim"):
        SVI(model, guide, torch.optim.Adam([torch.zeros(1, requires_grad=True)]), Trace_ELBO())


def test_hand_computed_bound_with_mask_scale_and_subsample():
    mask = torch.tensor([True, False, True, True])

    def pointwise():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        with ember.plate("data", 4), ember.poutine.mask(mask=mask), ember.poutine.scale(scale=3.0):
            ember.sample("y", dist.Normal(x, 1.0), obs=DATA)
        with ember.plate("half", 4, subsample=torch.tensor([1, 3])) as ind:
            ember.sample("w", dist.Normal(x, 1.0), obs=DATA[ind])
        ember.factor("f", torch.tensor(0.25))
        ember.deterministic("d", x * 2)

    def point():
        ember.sample("x", dist.Delta(torch.tensor(0.7)))

    likelihood = dist.Normal(0.7, 1.0).log_prob(DATA)
    expected = (
        dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.7))
        + 3.0 * likelihood[mask].sum()
        + 2.0 * likelihood[[1, 3]].sum()
        + 0.25
    )
    assert Trace_ELBO().loss(pointwise, point) == pytest.approx(-expected.item(), rel=1e-6)


def test_vectorised_particles_find_the_nesting_and_leave_the_random_state():
    elbo = Trace_ELBO(num_particles=5, vectorize_particles=True)
    ember.set_rng_seed(3)
    first = elbo.loss(model, guide)
    assert elbo.max_plate_nesting == 1
    ember.set_rng_seed(3)
    assert elbo.loss(model, guide) == first


def test_elbo_as_module_for_torch_optimizers():
    class Guide(PyroModule):
        def __init__(self):
            super().__init__()
            self.loc = PyroParam(torch.tensor(0.0))
            self.scale = PyroParam(torch.tensor(1.0), dist.constraints.positive)

        def forward(self, data):
            ember.sample("x", dist.Normal(self.loc, self.scale))

    with settings.context(module_local_params=True):
        loss = Trace_ELBO(num_particles=20, vectorize_particles=True)(model, Guide())
        loss(DATA)
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.03)
        for _ in range(400):
            optimizer.zero_grad()
            loss(DATA).backward()
            optimizer.step()
    assert loss.guide.loc.item() == pytest.approx(1.0, abs=0.1)
    assert len(ember.get_param_store()) == 0


def warning_of(model, guide):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trace_ELBO().loss(model, guide)
    return [str(each.message) for each in caught]


def test_missing_and_extra_sites_warn():
    def empty():
        pass

    def extra():
        ember.sample("x", dist.Normal(0.0, 1.0))
        ember.sample("extra", dist.Normal(0.0, 1.0))

    def auxiliary():
        ember.sample("x", dist.Normal(0.0, 1.0))
        ember.sample("extra", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})

    def observing():
        ember.sample("x", dist.Normal(0.0, 1.0))
        ember.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    assert any("in model but not guide: 'x'" in text for text in warning_of(model, empty))
    assert any("in guide but not model: 'extra'" in text for text in warning_of(model, extra))
    assert any("observed sites in the guide: 'y'" in text for text in warning_of(model, observing))
    assert warning_of(model, auxiliary) == []
    with settings.context(validate_infer=False):
        assert warning_of(model, extra) == []


def test_extra_plates_warn():
    def plated_model():
        with ember.plate("data", 3):
            ember.sample("x", dist.Normal(0.0, 1.0))

    def plated_guide():
        with ember.plate("other", 3):
            ember.sample("x", dist.Normal(0.0, 1.0))

    texts = warning_of(plated_model, plated_guide)
    assert any("plate statements in guide but not model: 'other'" in text for text in texts)
    assert warning_of(plated_model, plated_model) == []


def test_shapes_that_disagree():
    def plated_model():
        with ember.plate("data", 3):
            ember.sample("x", dist.Normal(0.0, 1.0))

    def smaller():
        with ember.plate("data", 2):
            ember.sample("x", dist.Normal(0.0, 1.0))

    def event():
        ember.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1))

    def unplated():
        ember.sample("x", dist.Normal(torch.zeros(3), 1.0))

    with pytest.raises(ValueError, match="event_dims disagree at site 'x'"):
        Trace_ELBO().loss(plated_model, event)
    with pytest.raises(ValueError, match=r"'data'(.|\n)*size"):
        Trace_ELBO().loss(plated_model, smaller)
    with pytest.raises(ValueError, match=r"invalid log_prob shape(.|\n)*plate(.|\n)*") as error:
        Trace_ELBO().loss(plated_model, unplated)
    assert ".to_event(" in str(error.value)


def test_max_plate_nesting_too_small():
    with pytest.raises(ValueError, match="max_plate_nesting"):
        Trace_ELBO(max_plate_nesting=0).loss(model, guide)


def test_enumeration_is_not_done_silently():
    def enumerated():
        ember.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})

    def plain():
        ember.sample("z", dist.Bernoulli(0.5))

    assert any("configured for enumeration: 'z'" in text for text in warning_of(plain, enumerated))


@pytest.mark.parametrize("value, kind", [(math.nan, "NaN"), (math.inf, "inf")])
def test_a_loss_that_is_not_finite_names_the_site(value, kind):
    def broken():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        ember.factor("bad", torch.tensor(value) if kind == "NaN" else -torch.tensor(value) + 0 * x)

    with ember.validation_enabled(False):
        texts = warning_of(broken, lambda: ember.sample("x", dist.Normal(0.0, 1.0)))
    assert any(f"Encountered {kind}: loss, from site 'bad'" in text for text in texts)


def test_num_particles_must_be_positive():
    with pytest.raises(ValueError, match="num_particles must be a positive number"):
        Trace_ELBO(num_particles=0)
