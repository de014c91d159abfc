"""Guides of models whose latent sites are in subsampling plates: full size, minibatches, exact averages."""

import copy
import itertools
import pickle

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim
from ember.infer import SVI, Predictive, Trace_ELBO
from ember.infer.autoguide import (
    AutoDiagonalNormal,
    AutoGaussian,
    AutoHierarchicalNormalMessenger,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalMessenger,
    AutoStructured,
    init_to_value,
)
from ember.infer.reparam import NeuTraReparam

DATA = torch.linspace(-2.0, 2.0, 4)
NORMALS = [
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    AutoLowRankMultivariateNormal,
    AutoGaussian,
    AutoStructured,
]


def plate(indices=None):
    return ember.plate("data", len(DATA), subsample=indices, subsample_size=2 if indices is None else None)


def model(indices=None):
    scale = ember.sample("scale", dist.LogNormal(0.0, 0.3))
    with plate(indices) as chosen:
        z = ember.sample("z", dist.Normal(0.0, scale))
        w = ember.sample("w", dist.Dirichlet(torch.ones(3)))
        ember.sample("x", dist.Normal(z + w[..., 0], 0.5), obs=DATA[chosen])


@pytest.mark.parametrize("guide_class", NORMALS)
def test_minibatches_average_to_the_whole(guide_class):
    """At equal draws of the guide, the losses of all minibatches have the loss of the whole as mean."""
    guide = guide_class(model, create_plates=plate)
    guide(torch.tensor([0, 1]))
    store = ember.get_param_store()
    for name in store:  # elements differ
        leaf = store.leaf(name)
        leaf.data += 0.1 * torch.linspace(-1, 1, leaf.numel()).reshape(leaf.shape)

    def loss(indices):
        ember.set_rng_seed(1)
        return Trace_ELBO().loss(model, guide, torch.tensor(indices))

    parts = [loss(pair) for pair in itertools.combinations(range(4), 2)]
    assert torch.tensor(parts).std() > 0.1
    assert torch.tensor(parts).mean().item() == pytest.approx(loss([0, 1, 2, 3]), rel=1e-5)


@pytest.mark.parametrize("guide_class", [*NORMALS, AutoIAFNormal])
def test_shapes_copies_and_predictions(guide_class):
    guide = guide_class(model)
    svi = SVI(model, guide, optim.Adam({"lr": 0.05}), Trace_ELBO(num_particles=2, vectorize_particles=True))
    assert torch.isfinite(torch.tensor([svi.step() for _ in range(3)])).all()
    assert {name: tuple(value.shape) for name, value in guide().items()} == {
        "scale": (),
        "z": (2,),
        "w": (2, 3),
    }
    if guide_class is AutoStructured:  # flat, of the plate's full size
        locs = {
            name: tuple(value.shape) for name, value in ember.get_param_store().items() if ".locs." in name
        }
        assert locs == {
            "AutoStructured.locs.scale": (1,),
            "AutoStructured.locs.z": (4,),
            "AutoStructured.locs.w": (8,),
        }
    else:
        assert guide.get_posterior().event_shape == (1 + 4 + 4 * 2,)
    if guide_class is not AutoIAFNormal:
        assert guide.median()["w"].shape == (4, 3)
        assert guide.quantiles([0.1, 0.5, 0.9])["z"].shape == (3, 4)
    for other in (copy.deepcopy(guide), pickle.loads(pickle.dumps(guide))):
        assert other()["z"].shape == (2,)
    draws = Predictive(model, guide=guide, num_samples=5)()
    assert draws["z"].shape == draws["x"].shape == (5, 2)


@pytest.mark.parametrize("guide_class", [AutoDiagonalNormal, AutoGaussian, AutoStructured])
def test_each_element_learns_its_own_posterior(guide_class):
    def normal():
        with ember.plate("data", 4, subsample_size=2) as chosen:
            z = ember.sample("z", dist.Normal(0.0, 1.0))
            ember.sample("x", dist.Normal(z, 0.5), obs=DATA[chosen])

    guide = guide_class(normal)
    svi = SVI(normal, guide, optim.ClippedAdam({"lr": 0.1, "lrd": 0.995}), Trace_ELBO())
    for _ in range(1000):
        svi.step()
    torch.testing.assert_close(guide.median()["z"], DATA * 0.8, atol=0.1, rtol=0)
    low, high = guide.quantiles([0.15865525, 0.84134475])["z"]
    torch.testing.assert_close((high - low) / 2, torch.full((4,), 0.2**0.5), atol=0.1, rtol=0)


def test_curvature_needs_the_whole():
    guide = AutoLaplaceApproximation(model)
    guide()
    assert guide.median()["z"].shape == (4,)
    with pytest.raises(ValueError, match=r"a Hessian needs all elements of the subsampling plate 'data'"):
        guide.laplace_approximation()
    with pytest.raises(ValueError, match=r"NeuTraReparam needs all elements of the subsampling plate 'data'"):
        trained = AutoDiagonalNormal(model)
        trained()
        NeuTraReparam(trained)


def test_medians_of_a_messenger_are_those_of_the_minibatch():
    guide = AutoNormalMessenger(model, init_loc_fn=init_to_value(values={"z": torch.tensor([0.5, 0.5])}))
    assert guide()["z"].shape == (2,)
    torch.testing.assert_close(guide.median(torch.tensor([3]))["z"], torch.tensor([0.5]))
    assert guide.quantiles([0.1, 0.9], torch.tensor([3]))["w"].shape == (2, 1, 3)


def test_sites_without_a_mean_cannot_be_hierarchical():
    def heavy():
        ember.sample("tail", dist.HalfCauchy(1.0))
        ember.sample("factor", dist.LKJCholesky(2, 1.0))

    with pytest.raises(ValueError, match=r"prior mean of site 'tail'(.|\n)*finite(.|\n)*hierarchical_sites"):
        AutoHierarchicalNormalMessenger(heavy)()
    with pytest.raises(ValueError, match=r"prior mean of site 'factor'(.|\n)*LKJCholesky with no mean"):
        AutoHierarchicalNormalMessenger(heavy, hierarchical_sites=["factor"])()
    assert set(AutoHierarchicalNormalMessenger(heavy, hierarchical_sites=[])()) == {"tail", "factor"}


@pytest.mark.parametrize("guide_class", [AutoNormal, AutoNormalMessenger, AutoGaussian])
def test_guides_are_copied_after_steps_as_machine_code(guide_class):
    guide = guide_class(model)
    svi = SVI(model, guide, optim.Adam({"lr": 0.05}), Trace_ELBO(), execution="native")
    for _ in range(4):
        svi.step()
    for other in (copy.deepcopy(guide), pickle.loads(pickle.dumps(guide))):
        assert other()["z"].shape == (2,)


def correlated():
    ember.sample("c", dist.LKJ(3, 1.0))


def test_guides_of_matrices_are_copied_and_pickled():
    """The bijection of correlation matrices has an inverse transform in it."""

    guide = AutoNormal(correlated)
    guide()
    for other in (copy.deepcopy(guide), pickle.loads(pickle.dumps(guide))):
        torch.testing.assert_close(other.median()["c"], guide.median()["c"])


def test_structure_joins_what_a_later_site_joins():
    def joined():
        a = ember.sample("a", dist.Normal(0.0, 1.0))
        b = ember.sample("b", dist.Normal(0.0, 1.0))
        ember.sample("alone", dist.Normal(0.0, 1.0))
        c = ember.sample("c", dist.Normal(0.0, 1.0))
        ember.sample("x", dist.Normal(a + c, 1.0), obs=torch.tensor(1.0))
        ember.sample("y", dist.Normal(b + c, 1.0), obs=torch.tensor(1.0))

    AutoStructured(joined)()
    deps = [name for name in ember.get_param_store() if ".deps." in name]
    assert sorted(deps) == [f"AutoStructured.deps.{pair}" for pair in ("b.a", "c.a", "c.b")]
