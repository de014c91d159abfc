"""Compare random networks of discrete sites, plates, loops and observations with explicit sums."""

import warnings

import pytest
import torch
from scipy.stats import chi2

import ember
from ember import distributions as dist
from ember import poutine
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.infer import TraceEnum_ELBO, TraceTMC_ELBO, config_enumerate, infer_discrete
from ember.model.density import Density
from ember.ops.rings import LogRing, MapRing
from enumeration.generated import (
    SHIFT,
    contracted,
    evidence,
    generate,
    generate_long,
    guide_at_shift,
    guide_of,
    joint,
    model_of,
    proposals_for,
    unknowns,
    unrolled,
)

EACH = pytest.mark.parametrize("seed", range(30))
MANY_SEEDS = pytest.mark.parametrize("seed", range(30, 400))


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def elbo(**options):
    return TraceEnum_ELBO(max_plate_nesting=3, strict_enumeration_warning=False, **options)


def summable(network):
    """Return the model, marked for enumeration; skips networks whose plates do not nest as sums need it."""
    model = model_of(network)
    try:
        elbo().loss(config_enumerate(model), guide_at_shift)
    except ValueError as error:
        if "cannot be summed out plate by plate" not in str(error):
            raise
        pytest.skip("plates cross")
    return model


def tables_of(network):
    return {
        site.name: ember.param(f"{site.name} table", site.table, dist.constraints.positive)
        for site in network.sites
    }


def assert_same_gradients(actual, expected):
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    found = (
        torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        for loss in (actual, expected)
    )
    torch.testing.assert_close(*found)


def check_evidence(seed, expand=False):
    network = generate(seed)
    model = config_enumerate(summable(network), expand=expand)
    loss, expected = elbo().differentiable_loss(model, guide_at_shift), -evidence(network, tables_of(network))
    torch.testing.assert_close(loss, expected)
    assert_same_gradients(loss, expected)
    tmc = TraceTMC_ELBO(max_plate_nesting=3, strict_enumeration_warning=False)
    assert tmc.loss(model, guide_at_shift) == pytest.approx(expected.item())


@EACH
def test_evidence_and_gradients(seed):
    check_evidence(seed, expand=seed % 2 == 1)


@EACH
def test_evidence_by_stacked_sums(seed, stacked):
    check_evidence(seed)


@pytest.mark.slow
@MANY_SEEDS
def test_evidence_of_many_networks(seed):
    check_evidence(seed)


@EACH
def test_density_for_samplers(seed):
    network = generate(seed)
    summable(network)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*posterior is that of one minibatch")
        density = Density(model_of(network, learned=False), seed=0)
    shift = SHIFT.clone().requires_grad_()
    expected = evidence(network, {site.name: site.table for site in network.sites}, shift)
    (gradient,) = torch.autograd.grad(expected, shift)
    torch.testing.assert_close(density(SHIFT.reshape(1)), (expected.detach(), gradient.reshape(1)))


@EACH
def test_marginals(seed):
    network = generate(seed)
    marginals = elbo().compute_marginals(config_enumerate(summable(network)), guide_at_shift)
    names, table = joint(network, tables_of(network))
    for axis, (name, copies) in enumerate(names):
        site = network[name]
        found = marginals[f"{name}_unobserved" if site.kind == "partly" else name].probs
        found = found.unsqueeze(-1) if site.kind != "categorical" else found
        expected = table.movedim(axis, 0).flatten(1).logsumexp(-1).softmax(0).detach()
        expected = expected if site.kind == "categorical" else expected[1:]
        if site.kind == "partly" and expected in (0, 1):  # observed
            continue
        found = torch.stack([network.element(each, name, copies) for each in found.unbind(-1)])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def without_minibatches(seed):
    """Return a network and its model at the fixed shift; skips those whose elements count several times."""
    network = generate(seed)
    if any(plate.subsample for plate in network.plates.values()):
        pytest.skip("minibatches")
    return network, poutine.condition(summable(network), data={"shift": SHIFT})


def check_most_probable_values(seed):
    network, model = without_minibatches(seed)
    values = infer_discrete(config_enumerate(model), first_available_dim=-4, temperature=0)()
    names, table = joint(network, tables_of(network))
    found = [int(network.element(values[name], name, copies)) for name, copies in names]
    torch.testing.assert_close(table[tuple(found)], table.max())


# The last have observed elements whose latent twins have a prior that depends on other sites.
@pytest.mark.parametrize("seed", [*range(30), 117, 291, 951])
def test_most_probable_values(seed):
    check_most_probable_values(seed)


@pytest.mark.slow
@MANY_SEEDS
def test_most_probable_values_of_many_networks(seed):
    check_most_probable_values(seed)


def assert_follows(network, values, number):
    """Test draws of all sites jointly, in a plate of their own, by a chi-squared test."""
    names, table = joint(network, tables_of(network))
    code = torch.zeros(number, dtype=torch.long)
    for (name, copies), states in zip(names, table.shape, strict=True):
        code = code * states + network.element(values[name], name, copies).long()
    counted = torch.bincount(code, minlength=table.numel())
    expected = number * table.detach().flatten().softmax(0)
    assert not counted[expected == 0].any()
    # Rare values are counted together, so that every cell expects at least five.
    common = expected >= 5
    cells = [(c, e) for c, e in zip(counted[common], expected[common], strict=True)]
    rest = (counted[~common].sum(), expected[~common].sum())
    cells += [rest] if rest[1] >= 5 else []
    statistic = sum((c - e) ** 2 / e for c, e in cells)
    assert statistic < chi2.ppf(1 - 1e-5, max(len(cells) - 1, 1))


@EACH
def test_posterior_draws(seed):
    number = 2000
    network, model = without_minibatches(seed)
    repeated = config_enumerate(ember.plate("draws", number, dim=-4)(model))
    with torch.no_grad():
        assert_follows(network, infer_discrete(repeated, first_available_dim=-5)(), number)
        objective = TraceEnum_ELBO(max_plate_nesting=4)
        assert_follows(network, objective.sample_posterior(repeated, lambda: None), number)


@EACH
def test_draws_back_into_a_posterior(seed):
    number = 2000
    network, _ = without_minibatches(seed)
    density = Density(model_of(network, learned=False), seed=0)
    z = SHIFT.expand(number, 1).clone()
    drawn = density.discrete(z)
    values = {**drawn, **density.deterministics(z, discrete=drawn)}
    filled = {
        name: value.reshape((number,) + (1,) * (4 - value.ndim) + value.shape[1:])
        for name, value in values.items()
    }
    assert_follows(network, filled, number)


@pytest.mark.parametrize("seed", range(10))
def test_long_loops(seed):
    network = generate_long(seed)
    model, tables = summable(network), tables_of(network)
    loss = elbo().differentiable_loss(config_enumerate(model), guide_at_shift)
    expected = -contracted(network, tables, SHIFT, LogRing())
    torch.testing.assert_close(loss, expected)
    assert_same_gradients(loss, expected)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*posterior is that of one minibatch")
        density = Density(model_of(network, learned=False), seed=0)
    z, shift = SHIFT.reshape(1).clone(), SHIFT.clone().requires_grad_()
    program = capture(lambda z, *data: density.value_and_gradient(z, data), z, *density.inputs)
    total = contracted(network, {site.name: site.table for site in network.sites}, shift, LogRing())
    (gradient,) = torch.autograd.grad(total, shift)
    found = interpret(program, z, *density.inputs)
    torch.testing.assert_close(tuple(found), (total.detach(), gradient.reshape(1)))
    if any(plate.subsample for plate in network.plates.values()):
        return
    fixed = poutine.condition(model, data={"shift": SHIFT})
    values = infer_discrete(config_enumerate(fixed), first_available_dim=-4, temperature=0)()
    constant = {name: table.detach() for name, table in tables.items()}
    factors, _ = unrolled(network, constant)
    score = sum(
        factor[tuple(int(network.element(values[name], name, copies)) for name, copies in over)]
        for over, factor in factors
    )
    best = contracted(network, constant, SHIFT, MapRing()) / network.scale
    torch.testing.assert_close(score + dist.Normal(0.0, 1.0).log_prob(SHIFT), best)


@EACH
@pytest.mark.parametrize("particles", ["one", "three", "three at once"])
def test_guide_and_model_enumerate(seed, particles):
    network = generate(seed, largest=500)
    proposals, record = proposals_for(network, seed), []
    if particles == "three at once" and "sequential" in proposals.modes.values():
        pytest.skip("sequential enumeration is of one particle at a time")
    guide = guide_of(network, proposals, record)
    # What the guide leaves is summed out of the model.
    model = poutine.infer_config(
        model_of(network),
        lambda site: {"enumerate": None if site["name"] in proposals.modes else "parallel"},
    )
    number = 1 if particles == "one" else 3
    objective = elbo(num_particles=number, vectorize_particles=particles == "three at once")
    try:
        loss = objective.differentiable_loss(model, guide)
    except ValueError as error:
        if "plate by plate" in str(error) or "more globally" in str(error):
            pytest.skip("plates cross")
        raise
    if "sampled" not in proposals.modes.values():
        expected = -bound(network, proposals, {})
        torch.testing.assert_close(loss, expected)
        assert_same_gradients(loss, expected)
    elif "sequential" not in proposals.modes.values():
        record.clear()
        loss = objective.loss(model, guide)
        draws = record
        if len(record) < number:
            draws = [
                {name: value[copy] if value.ndim == 4 else value for name, value in record[0].items()}
                for copy in range(number)
            ]
        expected = -sum(bound(network, proposals, draw) for draw in draws) / number
        assert loss == pytest.approx(expected.item())


def bound(network, proposals, draw):
    """Return the evidence lower bound at the draws of the guide's sampled sites, summed over the others."""
    states = unknowns(network)
    names, log_p = joint(network, tables_of(network))
    tables = {name: ember.param(f"{name} guide") for name in proposals.modes}
    exact = [name for name in proposals.modes if name not in draw]
    log_q = proposals.log_table(network, exact, states, tables)
    score = proposals.log_table(network, list(draw), states, tables)
    for axis, (name, copies) in enumerate(names):
        if name in draw:
            value = int(network.element(draw[name], name, copies))
            log_p, log_q, score = (each.narrow(axis, value, 1) for each in (log_p, log_q, score))
    hidden = [axis for axis, (name, _) in enumerate(names) if name not in proposals.modes]
    if hidden:
        log_p = log_p.logsumexp(hidden, keepdim=True)
    for axis in hidden:
        log_q, score = log_q.narrow(axis, 0, 1), score.narrow(axis, 0, 1)
    return network.scale * (log_q.exp() * (log_p - log_q - score)).sum()
