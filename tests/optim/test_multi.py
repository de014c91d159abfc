"""Check optimisers of parts, Newton steps, and Adam in cosine space."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim
from ember.infer import SVI, Trace_ELBO
from ember.ops.newton import newton_step, newton_step_1d, newton_step_2d
from ember.optim.dct_adam import DCTAdam
from ember.optim.multi import MixedMultiOptimizer, Newton, PyroMultiOptimizer, TorchMultiOptimizer


def quadratic(x, hessian, minimum):
    error = (x - minimum).unsqueeze(-1)
    return 0.5 * (error.transpose(-1, -2) @ hessian @ error).sum()


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_newton_solves_a_quadratic_in_one_step(dim, batch):
    factor = torch.randn((*batch, dim, dim), dtype=torch.float64)
    hessian = factor @ factor.transpose(-1, -2) + torch.eye(dim, dtype=torch.float64)
    minimum = torch.randn((*batch, dim), dtype=torch.float64)
    x = torch.randn((*batch, dim), dtype=torch.float64, requires_grad=True)
    for radius in (None, 1e6):
        new, covariance = newton_step(quadratic(x, hessian, minimum), x, radius)
        torch.testing.assert_close(new, minimum, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(covariance, hessian.inverse(), atol=1e-4, rtol=1e-4)


def test_newton_step_carries_gradients_to_other_variables():
    minimum = torch.tensor([2.0, -1.0], requires_grad=True)
    x = torch.zeros(2, requires_grad=True)
    new, _ = newton_step_2d(quadratic(x, torch.eye(2), minimum), x)
    jacobian = torch.stack([torch.autograd.grad(each, minimum, retain_graph=True)[0] for each in new])
    torch.testing.assert_close(jacobian, torch.eye(2))


def test_trust_radius_bounds_steps_and_goes_downhill():
    x = torch.tensor([[0.1], [3.0], [-0.2]], requires_grad=True)

    def loss(x):
        return (x**4 - 8 * x**2).sum()  # not convex around zero; minima at ±2

    for _ in range(60):
        x = x.detach().requires_grad_()
        before = loss(x)
        new, _ = newton_step_1d(before, x, trust_radius=0.2)
        assert ((new - x).abs() <= 0.2 + 1e-5).all()
        x = new
    torch.testing.assert_close(x.detach(), torch.tensor([[2.0], [2.0], [-2.0]]), atol=1e-4, rtol=0)


def test_newton_refuses_other_shapes():
    x = torch.zeros(4, requires_grad=True)
    with pytest.raises(ValueError, match="one to three dimensions"):
        newton_step(x.square().sum(), x)


@pytest.mark.parametrize("kind", ["pyro", "torch", "mixed"])
def test_parts_reach_a_joint_minimum(kind):
    params = {name: torch.tensor([0.3, -0.4], requires_grad=True) for name in ("x", "y")}
    adam = {"lr": 0.05}
    if kind == "pyro":
        chosen = PyroMultiOptimizer(optim.Adam(adam))
    elif kind == "torch":
        chosen = TorchMultiOptimizer(torch.optim.Adam, adam)
    else:
        chosen = MixedMultiOptimizer([(["x"], Newton({"x": 1.0})), (["y"], optim.Adam(adam))])
    for _ in range(400):
        x, y = params["x"], params["y"]
        loss = ((x - 1) ** 2).sum() + ((y + 2 * x) ** 2).sum()
        chosen.step(loss, params)
    torch.testing.assert_close(params["x"].detach(), torch.ones(2), atol=5e-3, rtol=0)
    torch.testing.assert_close(params["y"].detach(), -2 * torch.ones(2), atol=1e-2, rtol=0)


def test_mixed_refuses_names_in_two_parts_or_none():
    with pytest.raises(ValueError, match="same parameter"):
        MixedMultiOptimizer([(["x"], Newton()), (["x", "y"], Newton())])
    x = torch.zeros(1, requires_grad=True)
    with pytest.raises(ValueError, match="updates \\['z'\\]"):
        MixedMultiOptimizer([(["x"], Newton())]).step(x.sum(), {"z": x})


def test_get_step_of_an_optimiser_in_place_is_refused():
    x = torch.zeros(1, requires_grad=True)
    with pytest.raises(TypeError, match="use step"):
        PyroMultiOptimizer(optim.Adam({"lr": 0.1})).get_step(x.sum(), {"x": x})


def test_dct_adam_moves_a_constant_gradient_in_its_one_frequency():
    """A constant series has one cosine coefficient: Adam's first step moves that by the learning rate."""
    leaf = torch.zeros(3, 16, requires_grad=True)
    leaf.grad = torch.full((3, 16), 0.7)
    # A large eps, since Adam makes steps of rounding errors too.
    DCTAdam([leaf], lr=0.4, eps=1e-4).step()
    torch.testing.assert_close(leaf.detach(), torch.full((3, 16), -0.4 / 4), atol=1e-3, rtol=0)


def test_dct_adam_fits_a_series():
    target = torch.linspace(0, 3, 20).sin()

    def model():
        series = ember.param("series", torch.zeros(20))
        ember.sample("x", dist.Normal(series, 1.0).to_event(1), obs=target)

    svi = SVI(model, lambda: None, optim.DCTAdam({"lr": 0.1, "lrd": 0.98}), Trace_ELBO())
    for _ in range(250):
        svi.step()
    torch.testing.assert_close(ember.param("series").detach(), target, atol=0.02, rtol=0)


@pytest.mark.parametrize("aware", [False, True])
def test_dct_adam_leaves_what_a_minibatch_did_not_use(aware):
    seen = []

    def model():
        with ember.plate("data", 6, subsample_size=2) as ind:
            seen.append(set(ind.tolist()))
            series = ember.param("series", torch.zeros(6, 4), event_dim=1)
            ember.sample("x", dist.Normal(series, 1.0).to_event(1), obs=torch.ones(2, 4))

    svi = SVI(model, lambda: None, optim.DCTAdam({"lr": 0.1, "subsample_aware": aware}), Trace_ELBO())
    svi.step()
    before = ember.param("series").detach().clone()
    svi.step()
    moved = set((ember.param("series") != before).any(-1).nonzero().squeeze(-1).tolist())
    assert moved == (seen[-1] if aware else seen[-1] | seen[-2])
