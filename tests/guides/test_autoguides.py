"""Automatic guides: known posteriors, names, plates, subsampling, copies, lists, errors."""

import copy
import pickle

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from ember.infer.autoguide import (
    AutoCallable,
    AutoContinuous,
    AutoDelta,
    AutoDiagonalNormal,
    AutoDiscreteParallel,
    AutoGaussian,
    AutoGuideList,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalMessenger,
    AutoStructured,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)

NORMALS = [
    AutoNormal,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    AutoLowRankMultivariateNormal,
    AutoGaussian,
    AutoStructured,
]
ALL = [*NORMALS, AutoDelta, AutoLaplaceApproximation]

X = torch.tensor([[1.0, 0.2], [1.0, -0.9], [1.0, 1.4], [1.0, 0.1], [1.0, -0.5]])
Y = torch.tensor([0.6, -1.1, 1.9, 0.3, 0.1])


def linear_model():
    weights = ember.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with ember.plate("data", len(X)):  # the product below allows particles on the left
        ember.sample("y", dist.Normal((X * weights).sum(-1), 0.7), obs=Y)


def linear_posterior():
    precision = torch.eye(2) + X.T @ X / 0.49
    return torch.linalg.solve(precision, X.T @ Y / 0.49), torch.linalg.inv(precision)


def mixed_model():
    x = ember.sample("group.x", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    y = ember.sample("y", dist.LogNormal(0.0, 1.0))
    with ember.plate("p", 4):
        z = ember.sample("z", dist.Dirichlet(torch.ones(3)))
        ember.sample("obs", dist.Normal(x.sum(-1) + y + z[..., 0], 1.0), obs=torch.arange(4.0))


def train(model, guide, steps=500, rate=0.03, particles=20, **kwargs):
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True)
    svi = SVI(model, guide, optim.ClippedAdam({"lr": rate, "lrd": 0.05 ** (1 / steps)}), elbo)
    for _ in range(steps):
        svi.step(**kwargs)
    return svi


@pytest.mark.parametrize(
    "guide_class",
    [AutoMultivariateNormal, AutoLowRankMultivariateNormal, AutoLaplaceApproximation, AutoGaussian],
)
def test_linear_gaussian_posterior_is_found_exactly(guide_class):
    guide = guide_class(linear_model)
    svi = train(linear_model, guide)
    mean, covariance = linear_posterior()
    if guide_class is AutoLaplaceApproximation:
        guide = guide.laplace_approximation()
    torch.testing.assert_close(guide.median()["weights"], mean, atol=0.03, rtol=0)
    torch.testing.assert_close(guide.get_posterior().covariance_matrix, covariance, atol=0.02, rtol=0.1)
    if guide_class is AutoMultivariateNormal:
        evidence = dist.MultivariateNormal(torch.zeros(5), X @ X.T + 0.49 * torch.eye(5)).log_prob(Y)
        assert svi.evaluate_loss() == pytest.approx(-evidence.item(), abs=0.1)


@pytest.mark.parametrize("guide_class", [AutoNormal, AutoDiagonalNormal])
def test_mean_field_finds_mean_and_conditional_scales(guide_class):
    guide = guide_class(linear_model)
    train(linear_model, guide)
    mean, covariance = linear_posterior()
    torch.testing.assert_close(guide.median()["weights"], mean, atol=0.03, rtol=0)
    low, high = guide.quantiles([0.15865525, 0.84134475])["weights"]
    # The mean-field optimum has the precisions of the conditionals.
    conditional = torch.linalg.inv(covariance).diagonal().rsqrt()
    torch.testing.assert_close((high - low) / 2, conditional, atol=0.02, rtol=0.05)


def test_point_estimate_is_the_mode():
    guide = AutoDelta(linear_model)
    train(linear_model, guide, particles=1)
    torch.testing.assert_close(guide.median()["weights"], linear_posterior()[0], atol=0.01, rtol=0)


def test_transformed_sites_have_the_right_density():
    """The posterior of log(x) is normal, so that the bound of AutoNormal is the evidence."""

    def model():
        x = ember.sample("x", dist.LogNormal(0.3, 1.0))
        ember.sample("y", dist.Normal(x.log(), 0.5), obs=torch.tensor(1.2))

    guide = AutoNormal(model)
    svi = train(model, guide, steps=800)
    evidence = dist.Normal(0.3, 1.25**0.5).log_prob(torch.tensor(1.2)).item()
    losses = torch.tensor([svi.evaluate_loss() for _ in range(20)])
    assert losses.mean().item() == pytest.approx(-evidence, abs=0.01)
    assert losses.std() < 0.02


@pytest.mark.parametrize("guide_class", ALL)
def test_names_shapes_and_supports(guide_class):
    guide = guide_class(mixed_model)
    draw = guide()
    assert {name: tuple(value.shape) for name, value in draw.items()} == {
        "group.x": (3,),
        "y": (),
        "z": (4, 3),
    }
    assert draw["y"] > 0
    torch.testing.assert_close(draw["z"].sum(-1), torch.ones(4))
    prefix = guide_class.__name__
    sites = ("group.x", "y", "z")
    if guide_class is AutoNormal:
        expected = [f"{prefix}.{part}.{site}" for site in sites for part in ("locs", "scales")]
    elif guide_class is AutoDelta:
        expected = [f"{prefix}.{site}" for site in sites]
    elif guide_class is AutoStructured:
        parts = [f"{part}.{site}" for part in ("locs", "scales", "scale_trils") for site in sites]
        parts += ["deps.y.group.x", "deps.z.group.x", "deps.z.y"]
        expected = [f"{prefix}.{each}" for each in parts]
    else:
        extra = {
            AutoLaplaceApproximation: [],
            AutoDiagonalNormal: ["scale"],
            AutoGaussian: ["scale", *(f"factors.{site}" for site in (*sites, "obs"))],
            AutoMultivariateNormal: ["scale", "scale_tril"],
            AutoLowRankMultivariateNormal: ["scale", "cov_factor"],
        }
        expected = [f"{prefix}.{each}" for each in ["loc", *extra[guide_class]]]
    assert sorted(ember.get_param_store()) == sorted(expected)
    median = guide.median()
    assert {name: value.shape for name, value in median.items()} == {
        name: v.shape for name, v in draw.items()
    }


@pytest.mark.parametrize("guide_class", [each for each in NORMALS if issubclass(each, AutoContinuous)])
def test_transform_from_a_standard_normal(guide_class):
    guide = guide_class(mixed_model)
    guide()
    base, transform = guide.get_base_dist(), guide.get_transform()
    x = base.sample()
    y = transform(x)
    actual = base.log_prob(x) - transform.log_abs_det_jacobian(x, y)
    torch.testing.assert_close(actual, guide.get_posterior().log_prob(y), rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError, match="no transformed normal"):
        AutoLaplaceApproximation(mixed_model).get_transform()


@pytest.mark.parametrize("guide_class", [*ALL, AutoNormalMessenger, AutoIAFNormal])
@pytest.mark.parametrize(
    "strategy",
    [
        init_to_feasible,
        init_to_mean,
        init_to_median,
        init_to_sample,
        init_to_uniform(radius=0.1),
        init_to_generated(generate=lambda: init_to_value(values={"y": torch.tensor(2.0)})),
    ],
)
def test_strategies_of_starting_values(guide_class, strategy):
    guide = guide_class(mixed_model, init_loc_fn=strategy)
    assert all(torch.isfinite(value).all() for value in guide().values())
    if guide_class is not AutoIAFNormal and "Generated" in repr(strategy):
        torch.testing.assert_close(guide.median()["y"], torch.tensor(2.0))


def test_a_frozen_guide_stays_as_it_is_while_the_model_learns():
    def model():
        scale = ember.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        ember.sample("x", dist.Normal(0.0, scale))

    guide = AutoNormal(model)
    guide()
    guide.requires_grad_(False)
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    train(model, guide, steps=3)
    assert ember.get_param_store()["scale"].item() != 1.0
    for name, value in guide.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("guide_class", NORMALS)
def test_quantiles_are_ordered_around_the_median(guide_class):
    guide = guide_class(mixed_model)
    guide()
    quantiles = guide.quantiles(torch.tensor([0.1, 0.5, 0.9]))
    assert quantiles["group.x"].shape == (3, 3)
    assert quantiles["z"].shape == (3, 4, 3)
    assert (quantiles["y"].diff() > 0).all()
    torch.testing.assert_close(quantiles["group.x"][1], guide.median()["group.x"])


@pytest.mark.parametrize("guide_class", [*ALL, AutoNormalMessenger])
def test_medians_stay_as_they_are_when_training_goes_on(guide_class):
    guide = guide_class(mixed_model)
    svi = train(mixed_model, guide, steps=2, particles=1)
    median = guide.median()
    before = {name: value.numpy().copy() for name, value in median.items()}
    for _ in range(3):
        svi.step()
    for name, value in before.items():
        assert (median[name].numpy() == value).all()
        assert name == "obs" or not torch.equal(guide.median()[name], median[name])


@pytest.mark.parametrize("guide_class", ALL)
@pytest.mark.parametrize("vectorized", [True, False])
def test_particles_agree_with_the_model_under_validation(guide_class, vectorized):
    guide = guide_class(mixed_model)
    loss = Trace_ELBO(num_particles=3, vectorize_particles=vectorized).loss(mixed_model, guide)
    assert torch.isfinite(torch.tensor(loss))


@pytest.mark.parametrize("guide_class", ALL)
def test_deepcopy_pickle_and_state_dict(guide_class):
    guide = guide_class(mixed_model)
    guide()
    for other in (copy.deepcopy(guide), pickle.loads(pickle.dumps(guide))):
        for name, value in guide.median().items():
            torch.testing.assert_close(other.median()[name], value)
    state = {name: value + 1 for name, value in guide.state_dict().items()}
    ember.clear_param_store()
    fresh = guide_class(mixed_model)
    fresh()
    fresh.load_state_dict(state)
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(value, state[name])


@pytest.mark.parametrize("guide_class", [AutoNormal, AutoDelta])
def test_subsampled_local_sites_learn_the_full_size(guide_class):
    data = torch.linspace(-2, 2, 8)

    def model():
        with ember.plate("data", 8, subsample_size=3) as ind:
            z = ember.sample("z", dist.Normal(0.0, 1.0))
            ember.sample("x", dist.Normal(z, 0.5), obs=data[ind])

    guide = guide_class(model)
    train(model, guide, steps=700, rate=0.05, particles=4)
    assert guide()["z"].shape == (3,)
    torch.testing.assert_close(guide.median()["z"], data * 0.8, atol=0.1, rtol=0)


def test_create_plates_lets_data_choose_the_minibatch():
    data = torch.linspace(-2, 2, 8)

    def model(ind):
        with ember.plate("data", 8, subsample=ind):
            z = ember.sample("z", dist.Normal(0.0, 1.0))
            ember.sample("x", dist.Normal(z, 0.5), obs=data[ind])

    guide = AutoNormal(model, create_plates=lambda ind: ember.plate("data", 8, subsample=ind))
    guide(torch.tensor([0, 1]))
    loc = ember.get_param_store().leaf("AutoNormal.locs.z")
    assert loc.shape == (8,)
    svi = SVI(model, guide, optim.SGD({"lr": 0.1}), Trace_ELBO())
    before = loc.detach().clone()
    svi.step(torch.tensor([2, 5]))
    assert (loc.detach() != before).nonzero().flatten().tolist() == [2, 5]
    with pytest.raises(TypeError, match="create_plates must return a plate"):
        AutoNormal(model, create_plates=lambda ind: [ind])(torch.tensor([0]))


def test_subsampling_gradients_are_unbiased():
    data = torch.linspace(-2, 2, 6)

    def model(size):
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        with ember.plate("data", 6, subsample_size=size) as ind:
            ember.sample("x", dist.Normal(mu, 0.5), obs=data[ind] + 1)

    guide = AutoNormal(model, init_loc_fn=init_to_value(values={"mu": torch.tensor(0.4)}))
    guide(6)
    leaf = ember.get_param_store().leaf("AutoNormal.locs.mu")
    means = {}
    for size in (2, 6):
        elbo, grads = Trace_ELBO(num_particles=10, vectorize_particles=True), []
        for _ in range(400):
            leaf.grad = None
            elbo.loss_and_grads(model, guide, size)
            grads.append(leaf.grad.clone())
        grads = torch.stack(grads)
        means[size] = grads.mean(), grads.std() / 20
    exact = 0.4 - ((data + 1 - 0.4) / 0.25).sum()
    for mean, error in means.values():
        assert abs(mean - exact) < 4 * error


def test_sequential_plates_are_guided_and_subsampled_ones_refused():
    def model(size=None):
        for i in ember.plate("data", 3, subsample_size=size):
            ember.sample(f"z_{i}", dist.Normal(0.0, 1.0))

    assert set(AutoNormal(model)()) == {"z_0", "z_1", "z_2"}
    with pytest.raises(ValueError, match="subsampled loop 'data'"):
        AutoNormal(model)(2)


def test_lists_of_guides_share_plates():
    def model():
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        with ember.plate("data", 5, subsample_size=2):
            z = ember.sample("z", dist.Normal(mu, 1.0))
            w = ember.sample("w", dist.Normal(z, 1.0))
            ember.sample("x", dist.Normal(w, 1.0), obs=torch.zeros(2))

    guide = AutoGuideList(model)
    guide.append(AutoDelta(poutine.block(model, expose=["mu"])))
    guide.append(AutoNormal(poutine.block(model, hide=["mu", "w"])))
    guide.append(AutoNormal(poutine.block(model, expose=["w"])))
    loss = Trace_ELBO(num_particles=2, vectorize_particles=True).loss(model, guide)
    assert torch.isfinite(torch.tensor(loss))
    assert set(guide()) == {"mu", "z", "w"}
    assert set(guide.median()) == {"mu", "z", "w"}
    assert "AutoGuideList.1.locs.z" in ember.get_param_store()
    assert sorted({each.split(".")[1] for each in ember.get_param_store()}) == ["0", "1", "2"]
    again = copy.deepcopy(guide)
    assert set(again()) == {"mu", "z", "w"}


def in_groups():
    ember.sample("mean", dist.Normal(0.0, 1.0))
    with ember.plate("data", 3):
        ember.sample("group", dist.Bernoulli(0.5))


def test_lists_are_pickled_and_run_as_machine_code():
    model = config_enumerate(in_groups)
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=["group"])))
    svi = SVI(model, guide, optim.Adam({"lr": 0.1}), TraceEnum_ELBO(), execution="native")
    for _ in range(4):
        svi.step()
    guide.append(AutoDiscreteParallel(poutine.block(in_groups, expose_fn=is_group)))
    assert guide()["group"].shape == (3,)
    torch.testing.assert_close(pickle.loads(pickle.dumps(guide)).median(), guide.median())


def is_group(site):
    return site["name"] == "group"


def test_lists_take_functions_and_refuse_overlap():
    def model():
        ember.sample("a", dist.Normal(0.0, 1.0))
        ember.sample("b", dist.Bernoulli(0.5))

    def guide_b():
        return {"b": ember.sample("b", dist.Bernoulli(0.3))}

    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=["b"])))
    guide.append(AutoCallable(model, guide_b, lambda: {"b": torch.tensor(0.0)}))
    assert set(guide()) == {"a", "b"}
    assert guide.median()["b"] == 0
    double = AutoGuideList(model)
    double.append(AutoNormal(poutine.block(model, hide=["b"])))
    double.append(AutoDelta(poutine.block(model, hide=["b"])))
    with pytest.raises(ValueError, match="two parts of the AutoGuideList guide site 'a'"):
        double()


@pytest.mark.parametrize("guide_class", ALL)
def test_discrete_sites_are_refused_by_name(guide_class):
    def model():
        ember.sample("coin", dist.Bernoulli(0.5))

    with pytest.raises(
        ValueError, match=rf"{guide_class.__name__} cannot guide site 'coin'(.|\n)*hide=\['coin'\]"
    ):
        guide_class(model)()
    assert len(ember.get_param_store()) == 0


def test_other_errors():
    with pytest.raises(ValueError, match="init_scale must be positive"):
        AutoNormal(mixed_model, init_scale=0.0)
    with pytest.raises(ValueError, match="rank must be a positive int"):
        AutoLowRankMultivariateNormal(mixed_model, rank=0)
    with pytest.raises(ValueError, match="found no latent sites"):
        AutoDiagonalNormal(lambda: None)()
    with pytest.raises(ValueError, match="quantiles need the curvature"):
        AutoLaplaceApproximation(mixed_model).quantiles([0.5])
    with pytest.raises(ValueError, match=r"starting value of site 'y' has the wrong shape"):
        AutoNormal(mixed_model, init_loc_fn=init_to_value(values={"y": torch.ones(2)}))()
