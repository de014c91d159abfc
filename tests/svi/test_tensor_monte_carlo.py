"""Compare tensor Monte Carlo with exact evidences and with expectations over all draws."""

import itertools
import math

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer import TraceEnum_ELBO, TraceTMC_ELBO, config_enumerate

X = torch.tensor([0.3, 1.2, -0.4])


def marked(num_samples, tmc="diagonal"):
    return {"enumerate": "parallel", "num_samples": num_samples, "tmc": tmc}


def assert_mean(values, exact):
    values = torch.stack([torch.as_tensor(value) for value in values])
    z = (values.mean(0) - exact) / (values.std(0) / len(values) ** 0.5 + 1e-6)
    assert z.abs().max() < 4, f"z = {z.tolist()}, mean {values.mean(0).tolist()}, exact {exact}"


# -- a hierarchy: a global site, a site in a plate that depends on it, and a site that depends on both -------


def hierarchy(infer=None):
    a = ember.sample("a", dist.Bernoulli(0.3), infer=infer)
    with ember.plate("data", 3):
        b = ember.sample(
            "b", dist.Categorical(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])[a.long()]), infer=infer
        )
        c = ember.sample("c", dist.Bernoulli(0.2 + 0.3 * a + 0.1 * b), infer=infer)
        ember.sample("x", dist.Normal(a + b - c, 1.0), obs=X)


def hierarchy_guide(infer=None):
    a = ember.sample("a", dist.Bernoulli(0.5), infer=infer)
    with ember.plate("data", 3):
        b = ember.sample(
            "b", dist.Categorical(torch.tensor([[0.4, 0.3, 0.3], [0.2, 0.3, 0.5]])[a.long()]), infer=infer
        )
        ember.sample("c", dist.Bernoulli(0.3 + 0.1 * b), infer=infer)


def evidence():
    return -TraceEnum_ELBO().loss(lambda: hierarchy({"enumerate": "parallel"}), lambda: None)


@pytest.mark.parametrize("tmc", ["diagonal", "mixture"])
@pytest.mark.parametrize("num_samples", [3, 5])
@pytest.mark.parametrize("where", ["guide", "model"])
def test_the_estimated_evidence_is_unbiased(where, num_samples, tmc):
    infer = marked(num_samples, tmc)
    model = hierarchy if where == "guide" else lambda: hierarchy(infer)
    guide = (lambda: hierarchy_guide(infer)) if where == "guide" else lambda: None
    elbo = TraceTMC_ELBO()
    ratios = [math.exp(-elbo.loss(model, guide) - evidence_once()) for _ in range(600)]
    assert_mean(ratios, torch.tensor(1.0))


def evidence_once(known=[]):  # noqa: B006 computed at the first call
    if not known:
        known.append(evidence())
    return known[0]


@pytest.mark.parametrize("tmc", ["diagonal", "mixture"])
def test_numbers_of_draws_may_differ_by_site(tmc):
    def guide():
        a = ember.sample("a", dist.Bernoulli(0.5), infer=marked(2, tmc))
        with ember.plate("data", 3):
            b = ember.sample("b", dist.Categorical(torch.ones(2, 3)[a.long()]), infer=marked(4, tmc))
            ember.sample("c", dist.Bernoulli(0.3 + 0.1 * b), infer=marked(3, tmc))

    elbo = TraceTMC_ELBO()
    assert_mean(
        [math.exp(-elbo.loss(hierarchy, guide) - evidence_once()) for _ in range(600)], torch.tensor(1.0)
    )


def test_exact_sums_and_draws_mix():
    def guide():
        a = ember.sample("a", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        with ember.plate("data", 3):
            ember.sample("b", dist.Categorical(torch.ones(2, 3)[a.long()]), infer=marked(4))

    def model():
        with poutine.infer_config(config_fn=lambda s: {"enumerate": "parallel"} if s["name"] == "c" else {}):
            hierarchy()

    elbo = TraceTMC_ELBO()
    assert_mean([math.exp(-elbo.loss(model, guide) - evidence_once()) for _ in range(600)], torch.tensor(1.0))


def test_everything_enumerated_is_the_exact_evidence():
    marked_model = config_enumerate(hierarchy)
    assert TraceTMC_ELBO().loss(marked_model, lambda: None) == pytest.approx(-evidence_once(), rel=1e-5)


def test_more_draws_tighten_the_bound():
    def mean_loss(num_samples):
        guide = config_enumerate(hierarchy_guide, num_samples=num_samples)
        elbo = TraceTMC_ELBO(num_particles=100, vectorize_particles=True)
        return sum(elbo.loss(hierarchy, guide) for _ in range(5)) / 5

    losses = [mean_loss(k) for k in (1, 4, 30)]
    assert losses[0] > losses[1] > losses[2] > -evidence_once() - 0.01
    assert losses[2] < -evidence_once() + 0.1


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_vectorised_particles_are_a_mean(scale):
    guide = poutine.scale(config_enumerate(hierarchy_guide, num_samples=3), scale=scale)
    model = poutine.scale(hierarchy, scale=scale)
    one = [TraceTMC_ELBO().loss(model, guide) for _ in range(400)]
    many = [TraceTMC_ELBO(num_particles=20, vectorize_particles=True).loss(model, guide) for _ in range(100)]
    difference = torch.tensor(many).mean() - torch.tensor(one).mean()
    error = (torch.tensor(one).var() / 400 + torch.tensor(many).var() / 100).sqrt()
    assert abs(difference) < 4 * error


# -- gradients ---------------------------------------------------------------------------------------------


def bit_model():
    z = ember.sample("z", dist.Bernoulli(logits=ember.param("prior", torch.tensor(0.4))))
    ember.sample("x", dist.Normal(2 * z, 1.0), obs=torch.tensor(1.4))


def bit_guide(infer):
    return lambda: ember.sample(
        "z", dist.Bernoulli(logits=ember.param("logit", torch.tensor(-0.3))), infer=infer
    )


def test_gradients_of_draws_without_pathwise_gradients():
    prior, logit = torch.tensor(0.4, requires_grad=True), torch.tensor(-0.3, requires_grad=True)
    exact = 0.0
    for bits in itertools.product((0.0, 1.0), repeat=3):
        z = torch.tensor(bits)
        log_q = dist.Bernoulli(logits=logit).log_prob(z)
        log_p = dist.Bernoulli(logits=prior).log_prob(z) + dist.Normal(2 * z, 1.0).log_prob(torch.tensor(1.4))
        exact = exact - log_q.sum().exp() * ((log_p - log_q).logsumexp(0) - math.log(3))
    gradients = torch.stack(torch.autograd.grad(exact, (prior, logit)))
    losses, rows = gradient_rows(bit_model, bit_guide(marked(3)), ("prior", "logit"), 1500)
    assert_mean(losses, exact.detach())
    assert_mean(rows, gradients)


def gradient_rows(model, guide, names, count, **options):
    elbo = TraceTMC_ELBO(**options)
    poutine.trace(guide).get_trace()
    poutine.trace(model).get_trace()
    leaves = [ember.get_param_store().leaf(name) for name in names]
    losses, rows = [], []
    for _ in range(count):
        for leaf in leaves:
            leaf.grad = None
        losses.append(elbo.loss_and_grads(model, guide))
        rows.append(torch.stack([leaf.grad for leaf in leaves]))
    return losses, rows


def test_scores_in_plates_keep_to_their_elements():
    """Two independent copies in a plate: the gradient is twice that of one."""

    def twice(program):
        def run():
            with ember.plate("copies", 2):
                program()

        return run

    single = gradient_rows(bit_model, bit_guide(marked(2)), ("prior", "logit"), 1500)[1]
    double = gradient_rows(twice(bit_model), twice(bit_guide(marked(2))), ("prior", "logit"), 1500)[1]
    single, double = torch.stack(single), torch.stack(double)
    error = (4 * single.var(0) / 1500 + double.var(0) / 1500).sqrt()
    assert ((double.mean(0) - 2 * single.mean(0)).abs() < 4 * error).all()
    # Independent elements: twice the variance, not four times.
    assert (double.var(0) < 2.6 * single.var(0)).all()


def test_model_side_draws_follow_the_prior():
    """A site of the model alone is proposed by its prior, whose parameter gets the bound's gradient."""

    def model():
        loc = ember.param("loc", torch.tensor(0.7))
        z = ember.sample("z", dist.Normal(loc, 1.0), infer=marked(200))
        ember.sample("x", dist.Normal(z, 0.5), obs=torch.tensor(1.5))

    losses, rows = gradient_rows(model, lambda: None, ("loc",), 100)
    exact = -dist.Normal(0.7, 1.25**0.5).log_prob(torch.tensor(1.5))
    assert torch.tensor(losses).mean() == pytest.approx(float(exact), abs=0.02)
    assert torch.stack(rows).mean() == pytest.approx((0.7 - 1.5) / 1.25, abs=0.05)


def test_a_perfect_guide_is_exact():
    def model():
        z = ember.sample("z", dist.Normal(0.0, 1.0))
        ember.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    def guide():
        ember.sample("z", dist.Normal(0.5, 0.5**0.5), infer=marked(4))

    exact = -dist.Normal(0.0, 2**0.5).log_prob(torch.tensor(1.0))
    assert TraceTMC_ELBO().loss(model, guide) == pytest.approx(float(exact), rel=1e-5)


def test_masks_count():
    mask = torch.tensor([True, False, True])

    def model():
        with ember.plate("data", 3), poutine.mask(mask=mask):
            z = ember.sample("z", dist.Bernoulli(0.3))
            ember.sample("x", dist.Normal(z, 1.0), obs=X)

    def guide():
        with ember.plate("data", 3), poutine.mask(mask=mask):
            ember.sample("z", dist.Bernoulli(0.4), infer=marked(3))

    def kept_only():
        with ember.plate("data", 2):
            z = ember.sample("z", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
            ember.sample("x", dist.Normal(z, 1.0), obs=X[mask])

    exact = -TraceEnum_ELBO().loss(kept_only, lambda: None)
    ratios = [math.exp(-TraceTMC_ELBO().loss(model, guide) - exact) for _ in range(500)]
    assert_mean(ratios, torch.tensor(1.0))


@pytest.mark.parametrize("num_samples", [0, 2.5])
def test_bad_numbers_of_draws(num_samples):
    with pytest.raises(ValueError, match="num_samples at site 'z' must be a positive int"):
        TraceTMC_ELBO().loss(bit_model, bit_guide(marked(num_samples)))


def test_sequential_enumeration_is_refused():
    guide = bit_guide({"enumerate": "sequential"})
    with pytest.raises(ValueError, match="'z' asks for sequential enumeration, which TraceTMC_ELBO does not"):
        TraceTMC_ELBO().loss(bit_model, guide)
