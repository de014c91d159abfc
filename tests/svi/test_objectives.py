"""Compare objectives beyond the plain bound with exact values and gradients of small models."""

import itertools
import math

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.infer import (
    SVGD,
    SVI,
    EnergyDistance,
    IMQSteinKernel,
    RBFSteinKernel,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    Trace_MMD,
    TraceGraph_ELBO,
    TraceTailAdaptive_ELBO,
)

LOGITS = torch.tensor([0.2, -0.7, 0.4])
BITS = [torch.tensor(bits) for bits in itertools.product((0.0, 1.0), repeat=3)]


def assert_mean(rows, exact):
    rows = torch.stack([torch.as_tensor(row) for row in rows])
    z = (rows.mean(0) - exact) / (rows.std(0) / len(rows) ** 0.5 + 1e-6)
    assert z.abs().max() < 4, f"z = {z.tolist()}, mean {rows.mean(0).tolist()}, exact {exact}"


def estimates(elbo, model, guide, names=("logits",), count=300, **kwargs):
    """Losses, and gradients of the loss for parameters, one entry for each call."""
    poutine.trace(guide).get_trace(**kwargs)
    poutine.trace(model).get_trace(**kwargs)
    leaves = [ember.get_param_store().leaf(name) for name in names]
    losses, rows = [], []
    for index in range(count):
        for leaf in leaves:
            leaf.grad = None
        if index % 2 or isinstance(elbo, ReweightedWakeSleep):
            losses.append(elbo.loss_and_grads(model, guide, **kwargs))
        else:
            loss = elbo.differentiable_loss(model, guide, **kwargs)
            loss.backward()
            losses.append(loss.item())
        rows.append(torch.cat([leaf.grad.reshape(-1) for leaf in leaves]))
    return losses, rows


# -- a chain of bits: the second depends on the first, and so on ------------------------------------------


def chain_model():
    a = ember.sample("a", dist.Bernoulli(0.3))
    b = ember.sample("b", dist.Bernoulli(0.2 + 0.5 * a))
    ember.sample("x", dist.Normal(a + b, 1.0), obs=torch.tensor(0.8))
    c = ember.sample("c", dist.Bernoulli(0.6))
    ember.sample("y", dist.Normal(3.0 * c + b, 0.5), obs=torch.tensor(2.6))


def chain_guide(infer=None):
    logits = ember.param("logits", LOGITS.clone())
    a = ember.sample("a", dist.Bernoulli(logits=logits[0]), infer=infer)
    ember.sample("b", dist.Bernoulli(logits=logits[1] + a), infer=infer)
    ember.sample("c", dist.Bernoulli(logits=logits[2]), infer=infer)


def chain_terms(z, logits):
    a, b, c = z
    log_p = (
        dist.Bernoulli(0.3).log_prob(a)
        + dist.Bernoulli(0.2 + 0.5 * a).log_prob(b)
        + dist.Normal(a + b, 1.0).log_prob(torch.tensor(0.8))
        + dist.Bernoulli(0.6).log_prob(c)
        + dist.Normal(3.0 * c + b, 0.5).log_prob(torch.tensor(2.6))
    )
    log_q = dist.Bernoulli(logits=logits + torch.stack([a * 0, a, a * 0])).log_prob(z).sum()
    return log_p, log_q


def exact_chain():
    logits = LOGITS.clone().requires_grad_()
    loss = 0.0
    for z in BITS:
        log_p, log_q = chain_terms(z, logits)
        loss = loss - log_q.exp() * (log_p - log_q)
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


def test_graph_is_unbiased_and_has_less_variance():
    loss, gradient = exact_chain()
    losses, rows = estimates(TraceGraph_ELBO(num_particles=4), chain_model, chain_guide)
    assert_mean(losses, loss)
    assert_mean(rows, gradient)
    _, plain = estimates(Trace_ELBO(num_particles=4), chain_model, chain_guide)
    assert torch.stack(rows).var(0).sum() < 0.9 * torch.stack(plain).var(0).sum()


def test_graph_takes_vectorised_particles_and_baselines():
    _, gradient = exact_chain()
    elbo = TraceGraph_ELBO(num_particles=50, vectorize_particles=True)
    infer = {"baseline": {"use_decaying_avg_baseline": True}}
    _, rows = estimates(elbo, chain_model, lambda: chain_guide(infer), count=60)
    assert_mean(rows, gradient)


def test_graph_leaves_out_what_a_draw_cannot_reach():
    guide_trace = poutine.trace(chain_guide, graph_type="dense").get_trace()
    model_trace = poutine.trace(
        poutine.replay(chain_model, trace=guide_trace), graph_type="dense"
    ).get_trace()
    guide_trace.compute_score_parts()
    model_trace.compute_log_prob()
    from ember.infer.objectives.graph import downstream_cost

    cost = downstream_cost("c", model_trace, guide_trace).sum_to(())
    expected = sum(model_trace.nodes[name]["log_prob"] for name in ("c", "y"))
    torch.testing.assert_close(cost, (expected - guide_trace.nodes["c"]["log_prob"]).detach())


def test_graph_of_a_reparameterised_guide_is_the_plain_bound():
    def model():
        ember.sample("z", dist.Normal(0.0, 1.0))

    def guide():
        ember.sample("z", dist.Normal(ember.param("logits", torch.tensor(0.5)), 1.0))

    _, rows = estimates(TraceGraph_ELBO(), model, guide, count=200)
    assert_mean(rows, torch.tensor([0.5]))


# -- Rényi bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("vectorized", [False, True])
def test_renyi_of_discrete_draws(alpha, vectorized):
    logits = LOGITS.clone().requires_grad_()
    loss = 0.0
    for pair in itertools.product(BITS, repeat=2):
        terms = [chain_terms(z, logits) for z in pair]
        weights = torch.stack([log_p - log_q for log_p, log_q in terms])
        bound = (((1 - alpha) * weights).logsumexp(0) - math.log(2)) / (1 - alpha)
        loss = loss - (terms[0][1] + terms[1][1]).exp() * bound
    exact = torch.autograd.grad(loss, logits)[0]
    elbo = RenyiELBO(alpha=alpha, num_particles=2, vectorize_particles=vectorized)
    losses, rows = estimates(elbo, chain_model, chain_guide, count=500)
    assert_mean(losses, loss.detach())
    assert_mean(rows, exact)


def conjugate_model():
    with ember.plate("data", 2):
        z = ember.sample("z", dist.Normal(0.0, 1.0))
        ember.sample("x", dist.Normal(z, 1.0), obs=torch.tensor([1.0, -0.4]))


def posterior_guide():
    loc = ember.param("logits", torch.tensor([0.5, -0.2]))
    with ember.plate("data", 2):
        ember.sample("z", dist.Normal(loc, 0.5**0.5))


def test_renyi_at_the_posterior_is_the_evidence():
    evidence = dist.Normal(0.0, 2.0**0.5).log_prob(torch.tensor([1.0, -0.4])).sum()
    for alpha in (0.0, 0.5, 3.0):
        elbo = RenyiELBO(alpha=alpha, num_particles=5, vectorize_particles=True)
        assert elbo.loss(conjugate_model, posterior_guide) == pytest.approx(-evidence.item(), abs=1e-5)


def test_renyi_refuses_alpha_one():
    with pytest.raises(ValueError, match="alpha=1"):
        RenyiELBO(alpha=1)


# -- tail-adaptive ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectorized", [False, True])
def test_tail_adaptive_gradient_vanishes_at_the_posterior(vectorized):
    elbo = TraceTailAdaptive_ELBO(num_particles=5, vectorize_particles=vectorized)
    _, rows = estimates(elbo, conjugate_model, posterior_guide, count=4)
    assert torch.stack(rows).abs().max() < 1e-5


def test_tail_adaptive_with_equal_weights_follows_the_divergence():
    def guide():
        loc = ember.param("logits", torch.tensor([1.5, 0.2]))
        with ember.plate("data", 2):
            ember.sample("z", dist.Normal(loc, 1.0))

    elbo = TraceTailAdaptive_ELBO(num_particles=20, vectorize_particles=True, tail_adaptive_beta=0.0)
    _, rows = estimates(elbo, conjugate_model, guide, count=200)
    # The gradient of KL(q ‖ posterior) for the location, with posterior variance ½.
    assert_mean(rows, torch.tensor([(1.5 - 0.5) / 0.5, (0.2 + 0.2) / 0.5]))


def test_tail_adaptive_refuses_discrete_sites():
    with pytest.raises(ValueError, match="reparameterised sites, and 'a' is not"):
        TraceTailAdaptive_ELBO(num_particles=3).loss_and_grads(chain_model, chain_guide)


# -- discrepancies ----------------------------------------------------------------------------------------


def gaussian_kernel(x, z):
    return (-0.5 * (x.unsqueeze(1) - z.unsqueeze(0)).square().sum(-1)).exp()


def test_mmd_of_normals():
    def guide():
        loc = ember.param("logits", torch.tensor([0.7, -0.3]))
        with ember.plate("data", 2):
            ember.sample("z", dist.Normal(loc, 1.0))

    loc = torch.tensor([0.7, -0.3]).requires_grad_()
    # The mean of exp(-|x - y|²/2) over normals of unit variance in two dims, at distance |loc|.
    mmd = 2 * (1 / 3) - 2 * (1 / 3) * (-loc.square().sum() / 6).exp()
    data = torch.tensor([1.0, -0.4])
    likelihood = (-0.5 * ((data - loc).square() + 1) - 0.5 * math.log(2 * math.pi)).sum()
    loss = -likelihood + 3.0 * mmd
    exact = torch.autograd.grad(loss, loc)[0]
    elbo = Trace_MMD(gaussian_kernel, mmd_scale=3.0, num_particles=20)
    losses, rows = estimates(elbo, conjugate_model, guide, count=400)
    assert_mean(losses, loss.detach())
    assert_mean(rows, exact)


def test_mmd_names_the_site_without_kernel():
    with pytest.raises(ValueError, match="no kernel for site 'z'"):
        Trace_MMD({"w": gaussian_kernel}).loss(conjugate_model, posterior_guide)


def test_energy_distance_is_the_ranked_probability_score():
    y = torch.tensor([1.0, -0.4])

    def model():
        loc = ember.sample("loc", dist.Normal(0.0, 2.0))
        with ember.plate("data", 2):
            ember.sample("x", dist.Normal(loc, 1.5), obs=y)

    def guide():
        ember.sample("loc", dist.Normal(ember.param("logits", torch.tensor(0.3)), 2.0))

    loc = torch.tensor(0.3, requires_grad=True)
    scale = 2.5  # of the data, the guide's uncertainty included
    u = (y - loc) / scale
    normal = dist.Normal(0.0, 1.0)
    # Closed form of the score of a normal; the two particles do not share their location.
    score = (u * (2 * normal.cdf(u) - 1) + 2 * normal.log_prob(u).exp() - math.pi**-0.5) * scale
    prior = -0.5 * ((loc / 2).square() + 1) - 0.5 * math.log(2 * math.pi) - math.log(2.0)
    loss = score.sum() - 0.1 * prior
    exact = torch.autograd.grad(loss, loc)[0]
    losses, rows = estimates(EnergyDistance(prior_scale=0.1, num_particles=30), model, guide, count=300)
    assert_mean(losses, loss.detach())
    assert_mean(rows, exact)


def test_energy_distance_takes_event_dims():
    def model(scale=1.0):
        ember.sample("x", dist.Normal(torch.zeros(3), scale).to_event(1), obs=torch.zeros(3))

    def guide():
        ember.param("logits", torch.tensor(1.0))

    losses = [EnergyDistance(num_particles=50).loss(model, guide) for _ in range(200)]
    # E|x| of three standard normals is 2 √(2/π), and E|x − x'| is √2 times that.
    assert_mean(losses, torch.tensor(2 * (2 / math.pi) ** 0.5 * (1 - 0.5 * 2**0.5)))


# -- wake and sleep ---------------------------------------------------------------------------------------


DEFAULT = {"x": torch.tensor(1.0)}


def sleepy_model(observations=DEFAULT):
    theta = ember.param("theta", torch.tensor(0.5))
    z = ember.sample("z", dist.Bernoulli(logits=theta))
    ember.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=observations["x"])


def sleepy_guide(observations=DEFAULT):
    phi = ember.param("logits", torch.tensor(0.1))
    ember.sample("z", dist.Bernoulli(logits=phi + observations["x"]))


def sleepy_exact(insomnia):
    theta, phi = torch.tensor(0.5, requires_grad=True), torch.tensor(0.1, requires_grad=True)

    def log_p(z, x):
        return dist.Bernoulli(logits=theta).log_prob(z) + dist.Bernoulli(0.2 + 0.6 * z).log_prob(x)

    def log_q(z, x):
        return dist.Bernoulli(logits=phi + x).log_prob(z)

    values, data = [torch.tensor(0.0), torch.tensor(1.0)], torch.tensor(1.0)
    model_loss, wake, sleep = 0.0, 0.0, 0.0
    for pair in itertools.product(values, repeat=2):
        q = torch.stack([log_q(z, data) for z in pair])
        weights = torch.stack([log_p(z, data) for z in pair]) - q.detach()
        probability = q.detach().sum().exp()
        model_loss = model_loss - probability * (weights.logsumexp(0) - math.log(2))
        wake = wake - probability * (weights.detach().softmax(0) * q).sum()
    for z, x in itertools.product(values, repeat=2):
        sleep = sleep - log_p(z, x).detach().exp() * log_q(z, x)
    guide_loss = insomnia * wake + (1 - insomnia) * sleep
    gradient = torch.stack(torch.autograd.grad(model_loss + guide_loss, (theta, phi)))
    return torch.stack([model_loss, guide_loss]).detach(), gradient


@pytest.mark.parametrize("insomnia", [1.0, 0.3, 0.0])
def test_reweighted_wake_sleep(insomnia):
    exact_losses, gradient = sleepy_exact(insomnia)
    elbo = ReweightedWakeSleep(num_particles=2, insomnia=insomnia)
    given = {"observations": {"x": torch.tensor(1.0)}}
    losses, rows = estimates(elbo, sleepy_model, sleepy_guide, ("theta", "logits"), count=500, **given)
    assert_mean(losses, exact_losses)
    assert_mean(rows, gradient)


def test_wake_phase_ignores_pathwise_gradients():
    """At the posterior all weights are equal, and the mean of ∇ log q is zero for fixed draws."""
    elbo = ReweightedWakeSleep(num_particles=50, model_has_params=False)
    _, rows = estimates(elbo, conjugate_model, posterior_guide, count=100)
    assert_mean(rows, torch.zeros(2))
    assert torch.stack(rows).abs().max() > 1e-3


def test_sleep_needs_observations_by_name():
    with pytest.raises(ValueError, match="needs data by site name"):
        ReweightedWakeSleep(insomnia=0.5).loss(sleepy_model, sleepy_guide)


def test_svi_takes_two_losses():
    svi = SVI(sleepy_model, sleepy_guide, optim.Adam({"lr": 0.01}), ReweightedWakeSleep(insomnia=1.0))
    losses = svi.step(observations={"x": torch.tensor(1.0)})
    assert len(losses) == 2 and all(isinstance(loss, float) for loss in losses)


# -- Stein ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [RBFSteinKernel, IMQSteinKernel])
@pytest.mark.parametrize("mode", ["univariate", "multivariate"])
def test_stein_particles_reach_a_normal_posterior(kernel, mode):
    svgd = SVGD(conjugate_model, kernel(), optim.Adam({"lr": 0.1}), num_particles=40, mode=mode)
    for _ in range(200):
        sizes = svgd.step()
    assert set(sizes) == {"z"} and sizes["z"] < 0.05
    particles = svgd.get_named_particles()["z"]
    assert particles.shape == (40, 2)
    torch.testing.assert_close(particles.mean(0), torch.tensor([0.5, -0.2]), atol=0.08, rtol=0)
    # Few particles under a product kernel are known to spread too little.
    assert ((particles.var(0) / 0.5 - 1).abs() < (0.25 if mode == "univariate" else 0.45)).all()


def test_stein_particles_stay_in_the_support():
    def model():
        rate = ember.sample("rate", dist.Gamma(3.0, 2.0))
        with ember.plate("data", 4):
            ember.sample("x", dist.Poisson(rate), obs=torch.tensor([1.0, 3.0, 2.0, 2.0]))

    svgd = SVGD(model, RBFSteinKernel(), optim.Adam({"lr": 0.05}), num_particles=50)
    for _ in range(200):
        svgd.step()
    particles = svgd.get_named_particles()["rate"]
    assert (particles > 0).all()
    assert particles.mean().item() == pytest.approx(11 / 6, rel=0.06)


def test_stein_kernels_have_the_gradients_they_say():
    particles = torch.randn(6, 2, dtype=torch.float64)
    for kernel in (RBFSteinKernel(0.7), IMQSteinKernel()):
        log_kernel, gradient = kernel.log_kernel_and_grad(particles)
        step = 1e-6
        # The bandwidth is a constant, so move one point in the formula rather than among the particles.
        bandwidth = kernel._bandwidth((particles.unsqueeze(1) - particles.unsqueeze(0)).square())

        def value(difference):
            squared = difference.square() / bandwidth  # noqa: B023
            return -squared if isinstance(kernel, RBFSteinKernel) else -0.5 * (0.5 + squared).log()  # noqa: B023

        difference = particles.unsqueeze(1) - particles.unsqueeze(0)
        torch.testing.assert_close(log_kernel, value(difference))
        numeric = (value(difference + step) - value(difference - step)) / (2 * step)
        torch.testing.assert_close(gradient, numeric, atol=1e-6, rtol=1e-5)
