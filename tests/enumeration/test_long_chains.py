"""Check long chains, whose repeated factors are summed out together, against explicit recursions."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.engine.passes.simplify import simplify
from ember.infer import TraceEnum_ELBO, config_enumerate, infer_discrete
from ember.model.density import Density
from ember.ops.indexing import Vindex


def tables(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator).add(0.1).log().softmax(-1)


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def empty_guide(*args):
    pass


def forward(initial, transition, emission):
    """Return the log evidence of one chain: ``initial`` [K], ``transition`` [K, K], ``emission`` [T, K]."""
    alpha = initial.log() + emission[0]
    for row in emission[1:]:
        alpha = (alpha[:, None] + transition.log()).logsumexp(0) + row
    return alpha.logsumexp(0)


def chain(data):
    transition = ember.param("transition", lambda: tables(3, 3))
    loc = ember.param("loc", torch.tensor([-1.0, 0.0, 2.0]))
    x = 0
    for t in ember.markov(range(len(data))):
        x = ember.sample(f"x{t}", dist.Categorical(transition[x]))
        ember.sample(f"y{t}", dist.Normal(loc[x], 0.7), obs=data[t])


def by_recursion(data):
    transition, loc = ember.param("transition"), ember.param("loc")
    emission = dist.Normal(loc, 0.7).log_prob(data[:, None])
    transition = transition / transition.sum(-1, keepdim=True)
    return forward(transition[0], transition, emission)


@pytest.mark.parametrize("steps", [20, 37, 64, 1000])
def test_chain(steps):
    data = torch.randn(steps, generator=torch.Generator().manual_seed(1))
    loss = TraceEnum_ELBO().differentiable_loss(config_enumerate(chain), empty_guide, data)
    expected = -by_recursion(data)
    torch.testing.assert_close(loss, expected)
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


def smoothed(initial, transition, emission):
    """Return the marginals of each state and of each pair of neighbours."""
    emission = emission.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(forward(initial, transition, emission), emission)
    return gradient


def test_marginals_of_a_chain():
    data = torch.randn(100, generator=torch.Generator().manual_seed(1))
    marginals = TraceEnum_ELBO().compute_marginals(config_enumerate(chain), empty_guide, data)
    transition = ember.param("transition").detach()
    emission = dist.Normal(ember.param("loc").detach(), 0.7).log_prob(data[:, None])
    expected = smoothed(transition[0], transition, emission)
    actual = torch.stack([marginals[f"x{t}"].probs for t in range(100)])
    torch.testing.assert_close(actual, expected)


def test_draws_of_a_chain():
    """Check draws for many sequences at once: means, and products of neighbours, against the smoother's."""
    steps, number = 40, 4000
    data = torch.randn(steps, generator=torch.Generator().manual_seed(1))
    transition, loc = tables(2, 2), torch.tensor([-0.5, 1.0])

    @config_enumerate
    def model():
        with ember.plate("copies", number, dim=-1):
            x = 0
            for t in ember.markov(range(steps)):
                x = ember.sample(f"x{t}", dist.Categorical(transition[x]))
                ember.sample(f"y{t}", dist.Normal(loc[x], 1.0), obs=data[t])

    trace = poutine.trace(infer_discrete(model, first_available_dim=-2)).get_trace()
    drawn = torch.stack([trace.nodes[f"x{t}"]["value"] for t in range(steps)]).double()
    emission = dist.Normal(loc, 1.0).log_prob(data[:, None])
    expected = smoothed(transition[0], transition, emission)[:, 1]
    error = (drawn.mean(-1) - expected) / (expected * (1 - expected) / number).sqrt()
    assert error.abs().max() < 4.5
    # Pairs: condition on each state being 1.
    for t in range(0, steps - 1, 7):
        pinned = emission.clone()
        pinned[t, 0] = -torch.inf
        both = smoothed(transition[0], transition, pinned)[t + 1, 1] * expected[t]
        pair = (drawn[t] * drawn[t + 1]).mean()
        assert abs(pair - both) < 4.5 * (both * (1 - both) / number).sqrt()


def test_most_probable_path_of_a_chain():
    data = torch.randn(300, generator=torch.Generator().manual_seed(1))
    transition, loc = tables(3, 3), torch.tensor([-1.0, 0.0, 2.0])
    emission = dist.Normal(loc, 0.7).log_prob(data[:, None])
    score, back = transition[0].log() + emission[0], []
    for row in emission[1:]:
        score, best = (score[:, None] + transition.log()).max(0)
        back.append(best)
        score = score + row
    path = [int(score.argmax())]
    for best in reversed(back):
        path.append(int(best[path[-1]]))
    inferred = infer_discrete(config_enumerate(chain), first_available_dim=-1, temperature=0)
    trace = poutine.trace(inferred).get_trace(data)
    assert [int(trace.nodes[f"x{t}"]["value"]) for t in range(300)] == path[::-1]


def test_batch_of_chains_of_different_lengths_with_products_of_emissions():
    """A plate of sequences masked beyond their lengths, and a plate of outcomes inside."""
    lengths, tones = torch.tensor([30, 18, 25]), 4
    data = torch.bernoulli(torch.full((3, 30, tones), 0.4), generator=torch.Generator().manual_seed(2))

    @config_enumerate
    def model():
        transition = ember.param("transition", lambda: tables(3, 3))
        probs = ember.param("probs", tables(3, tones))
        outcomes = ember.plate("outcomes", tones, dim=-1)
        with ember.plate("sequences", 3, dim=-2):
            x = 0
            for t in ember.markov(range(30)):
                with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                    x = ember.sample(f"x{t}", dist.Categorical(transition[x]))
                    with outcomes:
                        ember.sample(f"y{t}", dist.Bernoulli(probs[x.squeeze(-1)]), obs=data[:, t])

    loss = TraceEnum_ELBO().differentiable_loss(model, empty_guide)
    transition, probs = ember.param("transition"), ember.param("probs")
    expected = 0.0
    for sequence, length in zip(data, lengths, strict=True):
        emission = dist.Bernoulli(probs).log_prob(sequence[:length, None]).sum(-1)
        rows = transition / transition.sum(-1, keepdim=True)
        expected = expected - forward(rows[0], rows, emission)
    torch.testing.assert_close(loss, expected)
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


def test_second_order_chain():
    steps, table = 40, tables(2, 2, 2)
    data = torch.randn(steps, generator=torch.Generator().manual_seed(1))

    @config_enumerate
    def model():
        before, now = torch.tensor(0), torch.tensor(1)
        for t in ember.markov(range(steps), history=2):
            before, now = now, ember.sample(f"x{t}", dist.Categorical(Vindex(table)[before, now]))
            ember.sample(f"y{t}", dist.Normal(now.double(), 0.7), obs=data[t])

    emission = dist.Normal(torch.arange(2.0), 0.7).log_prob(data[:, None])
    alpha = torch.full((2, 2), -torch.inf)
    alpha[0, 1] = 0.0
    for row in emission:
        alpha = (alpha[:, :, None] + table.log()).logsumexp(0) + row
    loss = TraceEnum_ELBO().loss(model, empty_guide)
    assert loss == pytest.approx(-alpha.logsumexp((0, 1)).item())


def test_coupled_chains():
    steps, table, other = 40, tables(2, 3, 2), tables(3, 2, 3)
    data = torch.randn(steps, generator=torch.Generator().manual_seed(1))

    @config_enumerate
    def model():
        a = b = torch.tensor(0)
        for t in ember.markov(range(steps)):
            new = ember.sample(f"a{t}", dist.Categorical(Vindex(table)[a, b]))
            b = ember.sample(f"b{t}", dist.Categorical(Vindex(other)[b, a]))
            a = new
            ember.sample(f"y{t}", dist.Normal((a - b).double(), 0.7), obs=data[t])

    joint = (table[:, :, :, None] * other.transpose(0, 1)[:, :, None, :]).reshape(6, 6)
    values = (torch.arange(2.0)[:, None] - torch.arange(3.0)).reshape(6)
    emission = dist.Normal(values, 0.7).log_prob(data[:, None])
    loss = TraceEnum_ELBO().loss(model, empty_guide)
    assert loss == pytest.approx(-forward(joint[0], joint, emission).item())


def test_many_iterations_of_a_sequential_plate_around_a_global_site():
    def model():
        g = ember.sample("g", dist.Categorical(torch.tensor([0.3, 0.7])))
        for i in ember.plate("items", 40):
            z = ember.sample(f"z{i}", dist.Bernoulli(0.2 + 0.5 * g.double()))
            ember.sample(f"x{i}", dist.Normal(z, 1.0), obs=torch.tensor(0.5))

    likelihood = dist.Normal(torch.arange(2.0), 1.0).log_prob(torch.tensor(0.5))
    each = [torch.tensor([1 - p, p]).log().add(likelihood).logsumexp(0) for p in (0.2, 0.7)]
    expected = (torch.tensor([0.3, 0.7]).log() + 40 * torch.stack(each)).logsumexp(0)
    loss = TraceEnum_ELBO().loss(config_enumerate(model), empty_guide)
    assert loss == pytest.approx(-expected.item())


def posterior_chain(data):
    with ember.plate("states", 3):
        transition = ember.sample("transition", dist.Dirichlet(torch.ones(3)))
        loc = ember.sample("loc", dist.Normal(torch.tensor([-1.0, 0.0, 1.0]), 1.0))
    x = 0
    for t in ember.markov(range(len(data))):
        x = ember.sample(f"x{t}", dist.Categorical(transition[x]))
        ember.sample(f"y{t}", dist.Normal(loc[x], 1.0), obs=data[t])


def neural_chain(data):
    """Emissions and transitions by a network of the state and of the last observation."""
    weight = ember.sample("weight", dist.Normal(torch.zeros(4, 3), 1.0).to_event(2))
    eye, x, before = torch.eye(2), torch.tensor(0), torch.tensor(0.0)
    for t in ember.markov(range(len(data))):
        state = eye[x]
        features = torch.cat([state, before.expand_as(state)], -1)
        out = torch.tanh(features @ weight)
        x = ember.sample(f"x{t}", dist.Bernoulli(logits=out[..., 2])).long()
        ember.sample(f"y{t}", dist.Normal(out[..., 0], out[..., 1].exp()), obs=data[t])
        before = data[t]


def masked_chains(data):
    transition = ember.sample("transition", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    lengths = torch.tensor([len(data) // 2, len(data)])
    with ember.plate("sequences", 2, dim=-1):
        x = torch.tensor(0)
        for t in ember.markov(range(len(data))):
            with poutine.mask(mask=t < lengths):
                x = ember.sample(f"x{t}", dist.Categorical(Vindex(transition)[x]))
                ember.sample(f"y{t}", dist.Normal(x.double(), 1.0), obs=data[t])


@pytest.mark.parametrize("model", [posterior_chain, neural_chain, masked_chains], ids=lambda f: f.__name__)
def test_captured_density_of_a_long_chain_is_small(model):
    sizes = []
    for steps in (40, 160):
        data = torch.randn(steps, generator=torch.Generator().manual_seed(1))
        density = Density(model, (data,), seed=0)
        z = torch.randn(density.size, generator=torch.Generator().manual_seed(2))
        program = simplify(
            capture(lambda z, *inputs: density.value_and_gradient(z, inputs), z, *density.inputs)  # noqa: B023
        )
        sizes.append(len(program.nodes))
        torch.testing.assert_close(tuple(interpret(program, z, *density.inputs)), density(z))
    assert sizes[1] < 1.5 * sizes[0] < 1500


def test_captured_loss_of_a_long_chain_is_small():
    sizes = []
    for steps in (40, 160):
        data = torch.randn(steps, generator=torch.Generator().manual_seed(1))
        elbo, model = TraceEnum_ELBO(max_plate_nesting=0), config_enumerate(chain)
        expected = elbo.differentiable_loss(model, empty_guide, data)
        leaves = list(dict(ember.get_param_store().named_parameters()).values())

        def loss_and_gradients(data):
            loss = elbo.differentiable_loss(model, empty_guide, data)  # noqa: B023
            return loss, *torch.autograd.grad(loss, leaves)  # noqa: B023

        with ember.validation_enabled(False):
            program = simplify(capture(loss_and_gradients, data, lift=leaves))
        sizes.append(len(program.nodes))
        actual = interpret(program, data, *(leaf.detach() for leaf in leaves))
        torch.testing.assert_close(actual[0], expected.detach())
        torch.testing.assert_close(tuple(actual[1:]), torch.autograd.grad(expected, leaves))
    assert sizes[1] < 1.5 * sizes[0] < 1500
