"""Compare the library with the plain reference on random models."""

import itertools
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.distributions import constraints

import ember
import mini_reference
from ember import distributions as dist
from ember import poutine

LIBRARY = SimpleNamespace(
    sample=ember.sample,
    param=ember.param,
    factor=ember.factor,
    deterministic=ember.deterministic,
    subsample=ember.subsample,
    plate=ember.plate,
    mask=lambda keep: poutine.mask(mask=keep),
    scale=lambda factor: poutine.scale(scale=factor),
)
REFERENCE = SimpleNamespace(
    **{name: getattr(mini_reference, name) for name in vars(LIBRARY)},
)

FAMILIES = {
    "normal": (lambda loc: dist.Normal(loc, 1.5), torch.tensor(0.3)),
    "log-normal": (lambda loc: dist.LogNormal(loc.clamp(-3, 3), 0.5), torch.tensor(1.2)),
    "gamma": (lambda loc: dist.Gamma(2.0, 1.0), torch.tensor(0.7)),
    "bernoulli": (lambda loc: dist.Bernoulli(torch.sigmoid(loc)), torch.tensor(1.0)),
    "event": (lambda loc: dist.Normal(loc.expand(3), 1.0).to_event(1), torch.tensor([0.1, 0.2, 0.3])),
    "simplex": (lambda loc: dist.Dirichlet(torch.ones(2)), torch.tensor([0.4, 0.6])),
    "masked": (lambda loc: dist.Normal(loc, 1.0).mask(torch.tensor(False)), torch.tensor(0.5)),
}

leaves = st.one_of(
    st.tuples(st.just("sample"), st.sampled_from(sorted(FAMILIES)), st.booleans()),
    st.tuples(st.just("param"), st.booleans(), st.booleans()),
    st.tuples(st.just("factor"), st.floats(-2, 2, width=32)),
    st.tuples(st.just("deterministic"), st.booleans()),
    st.tuples(st.just("subsample")),
)


def blocks(bodies):
    size = st.integers(1, 4)
    minibatch = st.sampled_from([None, 1, 2])
    bodies = st.lists(bodies, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("plate"), size, minibatch, bodies),
        st.tuples(st.just("loop"), size, minibatch, bodies),
        st.tuples(st.just("crossed"), size, size, minibatch, bodies),
        st.tuples(st.just("mask"), st.sampled_from(["yes", "no", "some"]), bodies),
        st.tuples(st.just("scale"), st.sampled_from([0.5, 3.0]), bodies),
    )


programs = st.lists(st.recursive(leaves, blocks, max_leaves=8), min_size=1, max_size=5)


def run(program, language):
    """Execute a program in a language; every site depends on those before it through `state`."""
    state = SimpleNamespace(loc=torch.zeros(()), sizes={}, full={}, path="")
    counter = itertools.count()

    def shape(sizes):
        depth = max((-dim for dim in sizes), default=0)
        return tuple(sizes.get(dim, 1) for dim in range(-depth, 0))

    def inside(plate, full, count, bodies):
        with plate as ind:
            dim = plate.dim
            state.sizes[dim], state.full[dim] = count, full
            assert ind.shape == (count,)
            execute(bodies)
            del state.sizes[dim], state.full[dim]

    def execute(statements):
        for kind, *rest in statements:
            name = f"{state.path}{kind}_{next(counter)}"
            if kind == "sample":
                family, observed = rest
                make, value = FAMILIES[family]
                drawn = language.sample(name, make(state.loc), obs=value if observed else None)
                state.loc = drawn.mean()
            elif kind == "param":
                positive, batched = rest
                init = torch.full(shape(state.full), 1.5)
                constraint = constraints.positive if positive else constraints.real
                event_dim = 0 if batched else None
                state.loc = state.loc + language.param(name, init, constraint, event_dim).sum()
            elif kind == "factor":
                language.factor(name, rest[0] + state.loc)
            elif kind == "deterministic":
                value = state.loc.expand(shape(state.sizes))
                language.deterministic(name, value, event_dim=0 if rest[0] else None)
            elif kind == "subsample":
                full = shape(state.full)
                data = torch.arange(float(torch.Size(full).numel())).reshape(full)
                state.loc = state.loc + 0.1 * language.subsample(data, event_dim=0).sum()
            elif kind == "plate":
                size, minibatch, bodies = rest
                count = min(minibatch or size, size)
                inside(language.plate(name, size, subsample_size=count), size, count, bodies)
            elif kind == "loop":
                size, minibatch, bodies = rest
                outer = state.path
                for i in language.plate(name, size, subsample_size=min(minibatch or size, size)):
                    state.path = f"{name}/{i}/"
                    execute(bodies)
                state.path = outer
            elif kind == "crossed":
                rows, columns, minibatch, bodies = rest
                first = min(state.sizes, default=0) - 1
                count = min(minibatch or rows, rows)
                y = language.plate(name + "y", rows, subsample_size=count, dim=first - 1)
                x = language.plate(name + "x", columns, dim=first)
                inside(x, columns, columns, bodies)
                inside(y, rows, count, bodies)
                with y:
                    state.sizes[y.dim], state.full[y.dim] = count, rows
                    inside(x, columns, columns, bodies)
                    del state.sizes[y.dim], state.full[y.dim]
            elif kind == "mask":
                which, bodies = rest
                keep = {"yes": True, "no": False}.get(which)
                if keep is None:
                    keep = torch.arange(float(torch.Size(shape(state.sizes)).numel())) % 2 == 0
                    keep = keep.reshape(shape(state.sizes))
                with language.mask(keep):
                    execute(bodies)
            else:
                with language.scale(rest[0]):
                    execute(rest[1])

    execute(program)
    return state.loc


def close(one, two):
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def compare(trace, expected):
    """The library's trace against the reference's sites."""
    sites = {name: site for name, site in trace.nodes.items() if name not in ("_INPUT", "_RETURN")}
    assert list(sites) == list(expected)
    for name, site in sites.items():
        plain = expected[name]
        assert site["type"] == plain["type"]
        assert site["is_observed"] == plain["is_observed"]
        close(site["value"], plain["value"])
        assert [tuple(frame)[:4] for frame in site["cond_indep_stack"]] == plain["plates"]
        assert site["scale"] == pytest.approx(plain["scale"])
        if plain["fn"] is not None:
            assert site["fn"].batch_shape == plain["fn"].batch_shape
            assert site["fn"].event_shape == plain["fn"].event_shape
    close(torch.as_tensor(trace.log_prob_sum()), mini_reference.log_prob_sum(expected))
    trace.compute_log_prob()
    for name, site in sites.items():
        if site["type"] == "sample":
            close(site["log_prob"].sum(), mini_reference.log_prob(expected[name]).sum())


def both(program, library_handler=lambda fn: fn, reference_handler=lambda fn: fn, seed=1):
    torch.manual_seed(seed)
    trace = poutine.trace(library_handler(lambda: run(program, LIBRARY))).get_trace()
    torch.manual_seed(seed)
    expected = mini_reference.trace(reference_handler(lambda: run(program, REFERENCE))).get_trace()
    return trace, expected


@pytest.fixture(autouse=True)
def clean_reference():
    yield
    assert mini_reference.STACK == []


def fresh():
    ember.clear_param_store()
    mini_reference.STORE.clear()


quick = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@quick
@given(programs)
def test_traces_agree(program):
    fresh()
    compare(*both(program))
    leaves = dict(ember.get_param_store().named_parameters())
    assert list(leaves) == list(mini_reference.STORE)
    for name, leaf in leaves.items():
        close(leaf, mini_reference.STORE[name][0])


@quick
@given(programs, st.integers(0, 2**16))
def test_replays_agree(program, choice):
    fresh()
    first, first_expected = both(program, seed=2)
    kept = [name for index, name in enumerate(first_expected) if choice >> (index % 16) & 1]
    for name in list(first.nodes):
        if name not in kept:
            first.remove_node(name)
    kept_sites = {name: first_expected[name] for name in kept}
    trace, expected = both(
        program,
        lambda fn: poutine.replay(fn, trace=first),
        lambda fn: mini_reference.replay(fn, kept_sites),
        seed=3,
    )
    compare(trace, expected)
    for name in kept:
        if name in trace.stochastic_nodes:
            close(trace.nodes[name]["value"], first.nodes[name]["value"])


@quick
@given(programs, st.integers(0, 2**16))
def test_conditioned_models_agree(program, choice):
    fresh()
    first, sites = both(program, seed=4)
    latent = [name for name in first.stochastic_nodes if sites[name]["fn"] is not None]
    data = {
        name: first.nodes[name]["value"].detach()
        for index, name in enumerate(latent)
        if choice >> (index % 16) & 1
    }
    trace, expected = both(
        program,
        lambda fn: poutine.condition(fn, data=data),
        lambda fn: mini_reference.condition(fn, data),
        seed=5,
    )
    compare(trace, expected)
    assert {name for name in data if name in trace} <= set(trace.observation_nodes)


def gradient(total, leaves):
    """What is masked out has zeros in the reference's gradient, and no gradient in the library's."""
    if not leaves or not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


@quick
@given(programs)
def test_gradients_agree(program):
    fresh()
    torch.manual_seed(6)
    trace, expected = both(program)
    total = torch.as_tensor(trace.log_prob_sum())
    plain = torch.as_tensor(mini_reference.log_prob_sum(expected))
    leaves = dict(ember.get_param_store().named_parameters())
    mine = gradient(total, list(leaves.values()))
    theirs = gradient(plain, [mini_reference.STORE[name][0] for name in leaves])
    for one, two in zip(mine, theirs, strict=True):
        close(one.sum(), two.sum())
