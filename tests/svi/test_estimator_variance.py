"""Compare gradient estimators with exact gradients, and print what each reduction of variance gains.

All draws of a test are the particles of one run, each with parameters of its own, so that the gradient of the
mean loss holds one gradient for each draw. Run ``pytest -m slow -s`` on this file for 10⁵ draws.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

import ember
import ember.distributions as dist
from ember import infer
from ember.infer.objectives.particles import Particles

DATA = torch.tensor([0.7, -0.4, 1.6])
PRIOR = torch.tensor([0.3, 0.5, 0.8])
THETA = torch.tensor([0.2, -0.7, 0.4])
BITS = [torch.tensor(bits) for bits in itertools.product((0.0, 1.0), repeat=3)]
WEIGHTS = torch.tensor([0.3, 0.7])


def theta(count):
    """The guide's parameters, a row for each draw."""
    return ember.param("theta", THETA.expand(count, 3).clone())


class Estimator(NamedTuple):
    """A program and its guide (a function of the number of draws), under an objective."""

    model: Callable[[], Any]
    guide: Callable[[int], Any]
    exact: Callable[[torch.Tensor], torch.Tensor]  # parameters → expected loss
    elbo: type = infer.Trace_ELBO
    steps: int = 1  # how often the objective has run when its gradient counts


# -- three bits, independent given their data ------------------------------------------


def bits_model():
    with ember.plate("data", 3):
        z = ember.sample("z", dist.Bernoulli(PRIOR))
        ember.sample("x", dist.Normal(3 * z, 1.0), obs=DATA)


def bits_guide(infer_options=None):
    def guide(count):
        logits = theta(count)
        with ember.plate("data", 3):
            ember.sample("z", dist.Bernoulli(logits=logits), infer=infer_options)

    return guide


def joint_model():
    z = ember.sample("z", dist.Bernoulli(PRIOR).to_event(1))
    ember.sample("x", dist.Normal(3 * z, 1.0).to_event(1), obs=DATA)


def joint_guide(count):
    ember.sample("z", dist.Bernoulli(logits=theta(count)).to_event(1))


def bits_terms(z):
    return dist.Bernoulli(PRIOR).log_prob(z) + dist.Normal(3 * z, 1.0).log_prob(DATA)


def mean_loss(log_joint, logits):
    """Sum the loss over all values of three bits."""
    log_q = [dist.Bernoulli(logits=logits).log_prob(z).sum() for z in BITS]
    return -sum(q.exp() * (log_joint(z) - q) for q, z in zip(log_q, BITS, strict=True))


def bits_loss(logits):
    return mean_loss(lambda z: bits_terms(z).sum(), logits)


def costs_at(logits):
    """What an ideal baseline knows: each bit's expected cost."""
    one = torch.ones(3)
    q = dist.Bernoulli(logits=logits)
    terms = [q.log_prob(z).exp() * (bits_terms(z) - q.log_prob(z)) for z in (one, 0 * one)]
    return sum(terms).detach()


def value_guide(count):
    value = costs_at(THETA).expand(count, 3).clone().requires_grad_()
    bits_guide({"baseline": {"baseline_value": value}})(count)


def network_guide(count):
    network = lambda x: x * costs_at(THETA)  # noqa: E731 stands for a trained network
    options = {"nn_baseline": network, "nn_baseline_input": torch.ones(count, 3)}
    bits_guide({"baseline": options})(count)


# -- a chain of bits, in which late ones have no part in the cost of early data ---------


def chain_model():
    a = ember.sample("a", dist.Bernoulli(0.3))
    ember.sample("x", dist.Normal(2 * a, 0.5), obs=DATA[0])
    b = ember.sample("b", dist.Bernoulli(0.2 + 0.5 * a))
    ember.sample("y", dist.Normal(2 * b, 0.5), obs=DATA[1])
    c = ember.sample("c", dist.Bernoulli(0.2 + 0.5 * b))
    ember.sample("w", dist.Normal(2 * c, 0.5), obs=DATA[2])


def chain_guide(count):
    logits = theta(count)
    for position, name in enumerate("abc"):
        ember.sample(name, dist.Bernoulli(logits=logits[:, position]))


def chain_loss(logits):
    def log_joint(z):
        chances = torch.stack([torch.tensor(0.3), 0.2 + 0.5 * z[0], 0.2 + 0.5 * z[1]])
        return (dist.Bernoulli(chances).log_prob(z) + dist.Normal(2 * z, 0.5).log_prob(DATA)).sum()

    return mean_loss(log_joint, logits)


# -- a normal site: parameters are its location and log scale ------------------------------------------


def normal_model():
    x = ember.sample("x", dist.Normal(1.0, 2.0))
    with ember.plate("data", 3):
        ember.sample("y", dist.Normal(x, 1.0), obs=DATA)


def normal_guide(pathwise=True):
    def guide(count):
        loc, log_scale, _ = theta(count).unsqueeze(1).unbind(-1)
        ember.sample("x", dist.Normal(loc, log_scale.exp()).has_rsample_(pathwise))

    return guide


def normal_loss(parameters):
    q = dist.Normal(parameters[0], parameters[1].exp())
    likelihood = dist.Normal(parameters[0], 1.0).log_prob(DATA).sum() - 1.5 * q.variance
    return dist.kl_divergence(q, dist.Normal(1.0, 2.0)) - likelihood + 0 * parameters[2]


# -- a mixture of two, whose assignments are drawn or summed out ------------------------------------------


def mixture_model(summed):
    def model():
        shift = ember.sample("shift", dist.Normal(0.0, 1.0))
        with ember.plate("data", 3):
            z = ember.sample("z", dist.Bernoulli(0.7), infer={"enumerate": "parallel"} if summed else None)
            ember.sample("x", dist.Normal(shift + 2 * z - 1, 1.0), obs=DATA)

    return model


def mixture_guide(how):
    """The guide's bits follow their posterior at shift zero, so that only ``shift`` has parameters."""
    logits = dist.Normal(1.0, 1.0).log_prob(DATA) - dist.Normal(-1.0, 1.0).log_prob(DATA) + math.log(7 / 3)

    def guide(count):
        loc, log_scale, _ = theta(count).unsqueeze(1).unbind(-1)
        ember.sample("shift", dist.Normal(loc, log_scale.exp()))
        with ember.plate("data", 3):
            infer_options = {"enumerate": "parallel"} if how == "summed" else None
            ember.sample("z", dist.Bernoulli(logits=logits), infer=infer_options)

    return guide


def mixture_loss(parameters):
    q = dist.Normal(parameters[0], parameters[1].exp())
    logits = dist.Normal(1.0, 1.0).log_prob(DATA) - dist.Normal(-1.0, 1.0).log_prob(DATA) + math.log(7 / 3)
    bits = dist.Bernoulli(logits=logits)
    loss = dist.kl_divergence(q, dist.Normal(0.0, 1.0)) + dist.kl_divergence(bits, dist.Bernoulli(0.7)).sum()
    for z, chance in ((1.0, bits.probs), (0.0, 1 - bits.probs)):
        expected = dist.Normal(parameters[0] + 2 * z - 1, 1.0).log_prob(DATA) - q.variance / 2
        loss = loss - (chance * expected).sum()
    return loss + 0 * parameters[2]


AVERAGE = {"baseline": {"use_decaying_avg_baseline": True}}
PARALLEL = {"enumerate": "parallel"}
ESTIMATORS = {
    "bits: score function of the joint draw": Estimator(joint_model, joint_guide, bits_loss),
    "bits: plates": Estimator(bits_model, bits_guide(), bits_loss),
    "bits: plates, downstream costs": Estimator(bits_model, bits_guide(), bits_loss, infer.TraceGraph_ELBO),
    "bits: plates, running average": Estimator(bits_model, bits_guide(AVERAGE), bits_loss, steps=20),
    "bits: plates, baseline value": Estimator(bits_model, value_guide, bits_loss),
    "bits: plates, baseline network": Estimator(bits_model, network_guide, bits_loss),
    "bits: enumerated": Estimator(bits_model, bits_guide(PARALLEL), bits_loss, infer.TraceEnum_ELBO),
    "chain: all costs": Estimator(chain_model, chain_guide, chain_loss),
    "chain: downstream costs": Estimator(chain_model, chain_guide, chain_loss, infer.TraceGraph_ELBO),
    "normal: score function": Estimator(normal_model, normal_guide(False), normal_loss),
    "normal: pathwise": Estimator(normal_model, normal_guide(), normal_loss),
    "normal: closed-form divergence": Estimator(
        normal_model, normal_guide(), normal_loss, infer.TraceMeanField_ELBO
    ),
    "mixture: assignments drawn": Estimator(mixture_model(False), mixture_guide("drawn"), mixture_loss),
    "mixture: assignments summed": Estimator(
        mixture_model(False), mixture_guide("summed"), mixture_loss, infer.TraceEnum_ELBO
    ),
}
# Reductions: before, after, and the least ratio of their variances.
REDUCTIONS = [
    ("bits: score function of the joint draw", "bits: plates", 2.0),
    ("bits: plates", "bits: plates, running average", 1.5),
    ("bits: plates", "bits: plates, baseline value", 2.0),
    ("bits: plates", "bits: plates, baseline network", 2.0),
    ("bits: plates", "bits: enumerated", 1e6),
    ("chain: all costs", "chain: downstream costs", 1.3),
    ("normal: score function", "normal: pathwise", 3.0),
    ("normal: pathwise", "normal: closed-form divergence", 1.0),
    ("mixture: assignments drawn", "mixture: assignments summed", 1.05),
]


def gradients(estimator, count):
    """One gradient of the loss for each of ``count`` draws, ``[count, 3]``."""
    ember.clear_param_store()
    options = {"num_particles": count, "vectorize_particles": True, "max_plate_nesting": 1}
    if estimator.model in (joint_model, chain_model):
        options["max_plate_nesting"] = 0
    elbo = estimator.elbo(**options)
    guide = lambda: estimator.guide(count)  # noqa: E731
    for _ in range(estimator.steps):
        for _, leaf in ember.get_param_store().named_parameters():
            leaf.grad = None
        elbo.loss_and_grads(estimator.model, guide)
    return ember.get_param_store().leaf("theta").grad * count


def assert_unbiased(name, rows):
    leaf = THETA.clone().requires_grad_()
    (exact,) = torch.autograd.grad(ESTIMATORS[name].exact(leaf), leaf)
    z = (rows.mean(0) - exact) / (rows.std(0) / len(rows) ** 0.5 + 1e-6)
    assert z.abs().max() < 4, f"{name}: z = {z.tolist()}, {rows.mean(0).tolist()} for {exact.tolist()}"


def compare(count):
    variances = {}
    for name, estimator in ESTIMATORS.items():
        rows = gradients(estimator, count)
        assert_unbiased(name, rows)
        variances[name] = rows.var(0).sum().item()
    print(f"\nvariance of the gradient over {count:,} draws, and its ratio before : after")
    for before, after, least in REDUCTIONS:
        ratio = variances[before] / max(variances[after], 1e-12)
        print(f"  {variances[before]:9.4f} : {variances[after]:9.4f} = {ratio:10.3g}   {before} → {after}")
        assert ratio > least, f"{before} → {after} gains {ratio}"


def test_estimators():
    compare(5_000)


@pytest.mark.slow
def test_estimators_over_many_draws():
    compare(100_000)


# -- importance-weighted bounds: groups of particles ------------------------------------------


def grouped_gradients(alpha, size, groups):
    """Gradients of Rényi's bound, ``[groups, 3]``, and the bounds, each over ``size`` particles."""
    ember.clear_param_store()
    count = size * groups
    elbo = infer.RenyiELBO(alpha, count, vectorize_particles=True, max_plate_nesting=1)
    drawn = elbo.draw(bits_model, lambda: bits_guide()(count), (), {})
    parts = [part.reshape(groups, size) for part in drawn[:3]]
    pairs = [elbo.combine(Particles(p, q, score, [])) for p, q, score in zip(*parts, strict=True)]
    (-torch.stack([surrogate for _, surrogate in pairs]).sum()).backward()
    leaf = ember.get_param_store().leaf("theta")
    return leaf.grad.reshape(groups, size, 3).sum(1), torch.stack([bound for bound, _ in pairs]).detach()


def pair_loss(logits, alpha):
    """The expected loss of two particles, by summing over all pairs of values."""
    terms = [(dist.Bernoulli(logits=logits).log_prob(z).sum(), bits_terms(z).sum()) for z in BITS]
    loss = 0.0
    for (q1, p1), (q2, p2) in itertools.product(terms, repeat=2):
        weights = (1 - alpha) * torch.stack([p1 - q1, p2 - q2])
        loss = loss - (q1 + q2).exp() * (weights.logsumexp(0) - math.log(2)) / (1 - alpha)
    return loss


def check_importance_weighting(groups):
    for alpha in (0.0, 0.5):
        leaf = THETA.clone().requires_grad_()
        loss = pair_loss(leaf, alpha)
        (exact,) = torch.autograd.grad(loss, leaf)
        rows, bounds = grouped_gradients(alpha, 2, groups)
        z = (rows.mean(0) - exact) / (rows.std(0) / groups**0.5)
        assert z.abs().max() < 4, f"alpha {alpha}: z = {z.tolist()}"
        assert abs(bounds.mean() + loss.detach()) < 4 * bounds.std() / groups**0.5
    evidence = torch.stack([bits_terms(z).sum() for z in BITS]).logsumexp(0)
    print(f"\nimportance weighting: log evidence {evidence:.4f}; bound, its variance")
    spreads = []
    for size in (1, 4, 16):
        _, bounds = grouped_gradients(0.0, size, 400)
        spreads.append(bounds.var().item())
        print(f"  K = {size:2d}: {bounds.mean():.4f}, {spreads[-1]:.4f}")
    assert spreads[0] > 2 * spreads[1] > 4 * spreads[2]


def test_importance_weighting():
    check_importance_weighting(1_000)


@pytest.mark.slow
def test_importance_weighting_over_many_draws():
    check_importance_weighting(100_000)
