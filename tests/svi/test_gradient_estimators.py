"""Compare gradient estimators with exact gradients, in expectation and in variance."""

import itertools
import math
import warnings

import pytest
import torch

import ember
import ember.distributions as dist
from ember.infer import Trace_ELBO, TraceMeanField_ELBO

DATA = torch.tensor([0.7, -0.4, 1.6])
PRIOR = torch.tensor([0.3, 0.5, 0.8])
LOGITS = torch.tensor([0.2, -0.7, 0.4])


def estimates(elbo, model, guide, count=150):
    """Gradients of the loss for the parameter ``logits``, one row for each call."""
    rows = []
    ember.poutine.trace(guide).get_trace()
    leaf = ember.get_param_store().leaf("logits")
    for index in range(count):
        leaf.grad = None
        if index % 2:
            elbo.loss_and_grads(model, guide)
        else:
            elbo.differentiable_loss(model, guide).backward()
        rows.append(leaf.grad.clone())
    return torch.stack(rows)


def assert_unbiased(rows, exact):
    error = rows.std(0) / len(rows) ** 0.5
    z = (rows.mean(0) - exact) / (error + 1e-6)
    assert z.abs().max() < 4, f"z = {z.tolist()}, mean {rows.mean(0).tolist()}, exact {exact.tolist()}"


def exact_gradient(log_joint, weight=None):
    """Gradient of the loss by summing over all values of the three bits."""
    logits = LOGITS.clone().requires_grad_()
    loss = 0.0
    for bits in itertools.product((0.0, 1.0), repeat=3):
        z = torch.tensor(bits)
        log_q = dist.Bernoulli(logits=logits).log_prob(z)
        weighted = log_q if weight is None else log_q * weight
        loss = loss - log_q.sum().exp() * (log_joint(z) - weighted.sum())
    return torch.autograd.grad(loss, logits)[0]


def log_terms(z):
    return dist.Bernoulli(PRIOR).log_prob(z) + dist.Normal(z, 1.0).log_prob(DATA)


def plated_model():
    with ember.plate("data", 3):
        z = ember.sample("z", dist.Bernoulli(PRIOR))
        ember.sample("x", dist.Normal(z, 1.0), obs=DATA)


def plated_guide(infer=None):
    logits = ember.param("logits", LOGITS.clone())
    with ember.plate("data", 3):
        ember.sample("z", dist.Bernoulli(logits=logits), infer=infer)


def test_score_function_in_a_plate():
    rows = estimates(Trace_ELBO(num_particles=200, vectorize_particles=True), plated_model, plated_guide)
    assert_unbiased(rows, exact_gradient(lambda z: log_terms(z).sum()))


def test_particles_one_by_one():
    rows = estimates(Trace_ELBO(num_particles=4), plated_model, plated_guide, count=400)
    assert_unbiased(rows, exact_gradient(lambda z: log_terms(z).sum()))


def test_a_term_outside_the_plate_counts_for_every_element():
    def scalar_model():
        with ember.plate("data", 3):
            z = ember.sample("z", dist.Bernoulli(PRIOR))
        ember.sample("x", dist.Normal(z.sum(), 1.0), obs=torch.tensor(2.5))

    rows = estimates(Trace_ELBO(num_particles=5), scalar_model, plated_guide, count=600)
    exact = exact_gradient(
        lambda z: (
            dist.Bernoulli(PRIOR).log_prob(z).sum() + dist.Normal(z.sum(), 1.0).log_prob(torch.tensor(2.5))
        )
    )
    assert_unbiased(rows, exact)


def test_masks_and_scales_count_exactly():
    mask = torch.tensor([True, False, True])

    def model():
        with ember.plate("data", 3), ember.poutine.mask(mask=mask), ember.poutine.scale(scale=2.5):
            z = ember.sample("z", dist.Bernoulli(PRIOR))
            ember.sample("x", dist.Normal(z, 1.0), obs=DATA)

    def guide():
        logits = ember.param("logits", LOGITS.clone())
        with ember.plate("data", 3), ember.poutine.mask(mask=mask), ember.poutine.scale(scale=2.5):
            ember.sample("z", dist.Bernoulli(logits=logits))

    rows = estimates(Trace_ELBO(num_particles=200, vectorize_particles=True), model, guide)
    weight = 2.5 * mask
    assert_unbiased(rows, exact_gradient(lambda z: (weight * log_terms(z)).sum(), weight))


def test_subsampling_is_unbiased():
    def model():
        with ember.plate("data", 3, subsample_size=2) as ind:
            z = ember.sample("z", dist.Bernoulli(PRIOR[ind]))
            ember.sample("x", dist.Normal(z, 1.0), obs=DATA[ind])

    def guide():
        logits = ember.param("logits", LOGITS.clone())
        with ember.plate("data", 3, subsample_size=2) as ind:
            ember.sample("z", dist.Bernoulli(logits=logits[ind]))

    rows = estimates(Trace_ELBO(num_particles=20, vectorize_particles=True), model, guide, count=600)
    assert_unbiased(rows, exact_gradient(lambda z: log_terms(z).sum()))


def test_sequential_plates_are_rao_blackwellised_too():
    def model():
        for i in ember.plate("data", 3):
            z = ember.sample(f"z_{i}", dist.Bernoulli(PRIOR[i]))
            ember.sample(f"x_{i}", dist.Normal(z, 1.0), obs=DATA[i])

    def guide():
        logits = ember.param("logits", LOGITS.clone())
        for i in ember.plate("data", 3):
            ember.sample(f"z_{i}", dist.Bernoulli(logits=logits[i]))

    rows = estimates(Trace_ELBO(), model, guide, count=1000)
    assert_unbiased(rows, exact_gradient(lambda z: log_terms(z).sum()))

    def loose_guide():
        logits = ember.param("logits", LOGITS.clone())
        for i in range(3):
            ember.sample(f"z_{i}", dist.Bernoulli(logits=logits[i]))

    loose = estimates(Trace_ELBO(), model, loose_guide, count=1000)
    assert rows.var(0).sum() < 0.9 * loose.var(0).sum()


def test_plates_reduce_the_variance():
    def event_model():
        z = ember.sample("z", dist.Bernoulli(PRIOR).to_event(1))
        ember.sample("x", dist.Normal(z, 1.0).to_event(1), obs=DATA)

    def event_guide():
        ember.sample("z", dist.Bernoulli(logits=ember.param("logits", LOGITS.clone())).to_event(1))

    elbo = Trace_ELBO(num_particles=50, vectorize_particles=True)
    plated = estimates(elbo, plated_model, plated_guide, count=300)
    ember.clear_param_store()
    joint = estimates(
        Trace_ELBO(num_particles=50, vectorize_particles=True), event_model, event_guide, count=300
    )
    exact = exact_gradient(lambda z: log_terms(z).sum())
    assert_unbiased(plated, exact)
    assert_unbiased(joint, exact)
    ratio = joint.var(0).sum() / plated.var(0).sum()
    print(f"variance without plates over variance with plates: {ratio:.2f}")
    assert ratio > 1.5


@pytest.mark.parametrize(
    "baseline",
    [
        {"use_decaying_avg_baseline": True, "baseline_beta": 0.9},
        {"baseline_value": "trained"},
        {"nn_baseline": lambda x: -1.5 * x, "nn_baseline_input": torch.ones(3)},
    ],
    ids=["average", "value", "network"],
)
def test_baselines_keep_the_mean_and_reduce_the_variance(baseline):
    def guide():
        options = dict(baseline)
        if "baseline_value" in options:
            options["baseline_value"] = ember.param("value", torch.full((3,), -1.5))
        plated_guide({"baseline": options})

    plain = estimates(Trace_ELBO(), plated_model, plated_guide, count=1000)
    reduced = estimates(Trace_ELBO(), plated_model, guide, count=1000)
    assert_unbiased(reduced, exact_gradient(lambda z: log_terms(z).sum()))
    ratio = plain.var(0).sum() / reduced.var(0).sum()
    print(f"variance without baseline over variance with it: {ratio:.2f}")
    assert ratio > 1.2


def test_a_baseline_is_trained_towards_the_cost():
    def guide():
        value = ember.param("value", torch.zeros(3))
        plated_guide({"baseline": {"baseline_value": value}})

    Trace_ELBO().loss_and_grads(plated_model, guide)
    grad = ember.get_param_store().leaf("value").grad
    # The cost is negative here, and the square's gradient at zero is minus twice the cost.
    assert (grad > 0).all()


@pytest.mark.parametrize(
    "options",
    [{"nn_baselin": 1}, {"nn_baseline": abs, "baseline_value": torch.zeros(3)}],
    ids=["unknown", "both"],
)
def test_invalid_baselines_name_the_site(options):
    with pytest.raises(ValueError, match="invalid baseline options at site 'z'"):
        Trace_ELBO().loss_and_grads(plated_model, lambda: plated_guide({"baseline": options}))


def normal_model():
    x = ember.sample("x", dist.Normal(1.0, 2.0))
    with ember.plate("data", 3):
        ember.sample("y", dist.Normal(x, 1.0), obs=DATA)


def exact_normal_gradient():
    """Gradient of the closed-form loss for (location, log scale)."""
    logits = torch.tensor([0.3, -0.5], requires_grad=True)
    q = dist.Normal(logits[0], logits[1].exp())
    expected = dist.Normal(logits[0], 1.0).log_prob(DATA).sum() - 1.5 * q.variance
    loss = dist.kl_divergence(q, dist.Normal(1.0, 2.0)) - expected
    return torch.autograd.grad(loss, logits)[0], loss.detach()


@pytest.mark.parametrize("elbo_class", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("has_rsample", [True, False])
def test_continuous_site_either_way(elbo_class, has_rsample):
    if elbo_class is TraceMeanField_ELBO and not has_rsample:
        pytest.skip("refused: see test_mean_field_refuses_score_functions")

    def guide():
        logits = ember.param("logits", torch.tensor([0.3, -0.5]))
        ember.sample("x", dist.Normal(logits[0], logits[1].exp()).has_rsample_(has_rsample))

    elbo = elbo_class(num_particles=300, vectorize_particles=True)
    exact, loss = exact_normal_gradient()
    rows = estimates(elbo, normal_model, guide, count=200)
    assert_unbiased(rows, exact)
    losses = torch.tensor([elbo.loss(normal_model, guide) for _ in range(100)])
    assert abs(losses.mean() - loss) < 4 * losses.std() / 10


def test_closed_form_divergence_reduces_the_variance():
    def guide():
        logits = ember.param("logits", torch.tensor([0.3, -0.5]))
        ember.sample("x", dist.Normal(logits[0], logits[1].exp()))

    def prior_only():
        ember.sample("x", dist.Normal(1.0, 2.0))

    assert estimates(TraceMeanField_ELBO(), prior_only, guide, count=20).var(0).max() < 1e-10
    assert estimates(Trace_ELBO(), prior_only, guide, count=50).var(0).max() > 1e-3


def test_closed_forms_are_left_out_where_the_guide_depends_the_other_way_round():
    def model():
        a = ember.sample("a", dist.Normal(0.0, 1.0))
        ember.sample("b", dist.Normal(a, 1.0))

    def guide(dependent=True):
        loc = ember.param("loc", torch.tensor(0.5))
        b = ember.sample("b", dist.Normal(loc, 1.0))
        ember.sample("a", dist.Normal(b if dependent else loc, 0.5))

    elbo = TraceMeanField_ELBO(num_particles=20_000, vectorize_particles=True, max_plate_nesting=0)
    with pytest.warns(UserWarning, match=r"'a' depends on 'b'(?s:.*)the order of the model: a, b"):
        loss = elbo.differentiable_loss(model, guide)
    # -E[log p(a) + log p(b | a) - log q(b) - log q(a | b)]
    assert loss.item() == pytest.approx(0.75 + 0.125 - 1.0 + math.log(2.0), abs=4 * 1.5 / 20_000**0.5)
    # In another order, but independent: exact up to the mean over a of the divergence of b.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = TraceMeanField_ELBO().differentiable_loss(model, lambda: guide(dependent=False))
    assert torch.isfinite(loss)


def test_mean_field_refuses_score_functions():
    with pytest.raises(ValueError, match="needs reparameterised sites, and 'z' is not"):
        TraceMeanField_ELBO().loss(plated_model, plated_guide)


@pytest.mark.parametrize("elbo_class", [Trace_ELBO, TraceMeanField_ELBO])
def test_mean_field_falls_back_where_no_closed_form_is_known(elbo_class):
    def model():
        ember.sample("x", dist.Gamma(2.0, 1.0))

    def guide():
        logits = ember.param("logits", torch.tensor([0.3, -0.5]))
        ember.sample("x", dist.LogNormal(logits[0], logits[1].exp()))

    logits = torch.tensor([0.3, -0.5], requires_grad=True)
    mean, second = (logits[0] + logits[1].exp().square() / 2).exp(), logits[0]
    loss = -(second - mean) - (logits[0] + logits[1] + 0.5 + torch.log(torch.tensor(2 * torch.pi)) / 2)
    exact = torch.autograd.grad(loss, logits)[0]
    rows = estimates(elbo_class(num_particles=300, vectorize_particles=True), model, guide, count=200)
    assert_unbiased(rows, exact)


@pytest.mark.parametrize("has_rsample", [True, False])
def test_factors_in_guides(has_rsample):
    """A log-normal written as a normal and the Jacobian of exp, in a factor."""

    def model():
        ember.sample("x", dist.LogNormal(0.0, 1.0))

    def guide():
        logits = ember.param("logits", torch.tensor([0.3, -0.5]))
        base = dist.Normal(logits[0], logits[1].exp()).has_rsample_(has_rsample)
        free = ember.sample("free", base, infer={"is_auxiliary": True})
        ember.factor("jacobian", -free, has_rsample=has_rsample)
        ember.sample("x", dist.Delta(free.exp()))

    logits = torch.tensor([0.3, -0.5], requires_grad=True)
    loss = dist.kl_divergence(dist.Normal(logits[0], logits[1].exp()), dist.Normal(0.0, 1.0))
    exact = torch.autograd.grad(loss, logits)[0]
    rows = estimates(Trace_ELBO(num_particles=20), model, guide, count=200)
    assert_unbiased(rows, exact)


def test_a_factor_in_a_guide_must_say_its_origin():
    def guide():
        ember.sample("x", dist.Normal(0.0, 1.0))
        ember.factor("term", torch.tensor(1.0))

    with pytest.raises(ValueError, match=r"factor 'term' in the guide does not say where it comes from"):
        Trace_ELBO().loss(normal_model, guide)
