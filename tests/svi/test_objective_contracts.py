"""Check what all objectives promise: ways of being called agree, and a perfect guide has no variance."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import infer, optim, poutine
from ember.distributions import constraints

BOUNDS = [
    infer.Trace_ELBO,
    infer.TraceGraph_ELBO,
    infer.TraceEnum_ELBO,
    infer.TraceMeanField_ELBO,
    infer.TraceTMC_ELBO,
    infer.RenyiELBO,
    infer.TraceTailAdaptive_ELBO,
    infer.JitTrace_ELBO,
    infer.JitTraceGraph_ELBO,
    infer.JitTraceEnum_ELBO,
    infer.JitTraceMeanField_ELBO,
]
OTHERS = [infer.Trace_MMD, infer.EnergyDistance, infer.ReweightedWakeSleep]
SAMPLED = [each for each in BOUNDS if "MeanField" not in each.__name__]  # whose every draw is the evidence
PARTICLES = [{}, {"num_particles": 3}, {"num_particles": 3, "vectorize_particles": True}]
KEPT = torch.tensor([True, True, False, True])


def gaussian_kernel(x, z):
    return (-0.5 * (x.unsqueeze(1) - z.unsqueeze(0)).square().sum(-1)).exp()


def made(objective, **options):
    """An objective that says nothing of there being no discrete sites."""
    if objective is infer.EnergyDistance:
        return objective(num_particles=options["num_particles"])
    if objective is infer.Trace_MMD:
        return objective(gaussian_kernel, num_particles=options["num_particles"])
    return objective(strict_enumeration_warning=False, **options)


def model(kind="plain"):
    """A normal with four equal observations, which are subsampled, masked or scaled."""
    z = ember.sample("z", dist.Normal(0.0, 1.0))
    size = 2 if kind == "subsampled" else None
    with ember.plate("data", 4, size) as index:
        with poutine.mask(mask=KEPT[index] if kind == "masked" else True):
            ember.sample("x", dist.Normal(z, 1.0), obs=torch.ones(len(index)))


def perfect_guide(kind="plain"):
    count = 3 if kind == "masked" else 4
    loc = ember.param("loc", torch.tensor(count / (count + 1)))
    scale = ember.param("scale", torch.tensor((count + 1) ** -0.5), constraint=constraints.positive)
    base = dist.Normal(loc, scale)
    if kind != "factor":
        ember.sample("z", base)
    else:
        # The same law, as a draw that is stretched, with the stretching's Jacobian.
        half = ember.sample("half", dist.Normal(loc / 2, scale / 2), infer={"is_auxiliary": True})
        ember.factor("stretching", -torch.tensor(2.0).log().expand(half.shape), has_rsample=True)
        ember.sample("z", dist.Delta(2 * half))


def log_evidence(kind):
    count = 3 if kind == "masked" else 4
    covariance = torch.eye(count) + 1
    return dist.MultivariateNormal(torch.zeros(count), covariance).log_prob(torch.ones(count)).item()


@pytest.mark.parametrize("options", PARTICLES, ids=str)
@pytest.mark.parametrize("kind", ["plain", "masked", "subsampled", "factor"])
@pytest.mark.parametrize("objective", SAMPLED)
def test_a_perfect_guide_gives_the_evidence_at_every_draw(objective, kind, options):
    if "Renyi" in objective.__name__ or "Tail" in objective.__name__:
        options = {"num_particles": 3, **options}
    elbo = made(objective, **options)
    if "Tail" in objective.__name__ and kind == "factor":
        pytest.skip("a point mass has no density of its own to follow")
    model_kind = "plain" if kind == "factor" else kind
    for _ in range(2):
        loss = elbo.loss(lambda: model(model_kind), lambda: perfect_guide(kind))
        assert loss == pytest.approx(-log_evidence(kind), rel=1e-4)


@pytest.mark.parametrize("objective", SAMPLED)
def test_scales_multiply(objective):
    elbo = made(objective, num_particles=3, vectorize_particles=True)
    loss = elbo.loss(poutine.scale(model, scale=2.5), poutine.scale(perfect_guide, scale=2.5))
    assert loss == pytest.approx(-2.5 * log_evidence("plain"), rel=1e-4)


def loose_guide(kind="plain"):
    loc = ember.param("loc", torch.tensor(-0.5))
    ember.sample("z", dist.Normal(loc, 0.7))


@pytest.mark.parametrize("options", PARTICLES[1:], ids=str)
@pytest.mark.parametrize("objective", BOUNDS + OTHERS)
def test_ways_of_calling_agree(objective, options):
    elbo = made(objective, **options)
    pair = (model, loose_guide)
    elbo.loss(*pair)  # finds the nesting, and compiles
    ways = {
        "loss_and_grads": lambda: elbo.loss_and_grads(*pair),
        "differentiable_loss": lambda: elbo.differentiable_loss(*pair),
        "module": lambda: elbo(*pair)(),
    }
    results = {}
    for name, way in ways.items():
        leaf = ember.get_param_store().leaf("loc")
        leaf.grad = None
        ember.set_rng_seed(5)
        loss = way()
        if isinstance(loss, torch.Tensor):
            loss.backward()
            loss = loss.item()
        results[name] = (sum(loss) if isinstance(loss, tuple) else loss, leaf.grad.item())
    ember.set_rng_seed(5)
    loss = elbo.loss(*pair)
    first = results["loss_and_grads"]
    assert (sum(loss) if isinstance(loss, tuple) else loss) == pytest.approx(first[0], rel=1e-4)
    for each in results.values():
        assert each == pytest.approx(first, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("objective", BOUNDS + OTHERS)
def test_svi_moves_towards_the_posterior(objective):
    elbo = made(objective, num_particles=10, vectorize_particles=True)
    svi = infer.SVI(model, loose_guide, optim.Adam({"lr": 0.1}), elbo)
    for _ in range(60):
        svi.step()
    assert 0.3 < ember.param("loc").item() < 1.3
    svi.evaluate_loss()


class LossOnly(infer.ELBO):
    """An objective of a user, who defines the losses and no estimator."""

    def differentiable_loss(self, model, guide, *args, **kwargs):
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        return guide_trace.log_prob_sum() - model_trace.log_prob_sum()

    def loss_and_grads(self, model, guide, *args, **kwargs):
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()


def test_objectives_of_users_may_define_losses_only():
    svi = infer.SVI(model, loose_guide, optim.Adam({"lr": 0.1}), LossOnly())
    for _ in range(60):
        svi.step()
    assert 0.3 < ember.param("loc").item() < 1.3
    with pytest.raises(NotImplementedError, match="LossOnly"):
        svi.evaluate_loss()
