"""Check that captured random operations follow their distributions, and never repeat a number."""

from __future__ import annotations

import math
import random as python_random
import threading

import numpy as np
import pytest
import scipy.stats
import torch

import ember.distributions as dist
from ember.engine import control, random
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.engine.passes.simplify import simplify
from ember.engine.recording.refusal import NotCapturable

KEY = random.key(20)
NUM = 20_000


def draw(function, *tensors, key=KEY):
    return interpret(capture(function, *tensors, key=key), *tensors, key)


CONTINUOUS = {
    "rand": (lambda: torch.rand(NUM), scipy.stats.uniform()),
    "rand, no generator": (lambda: torch.rand(NUM, generator=None), scipy.stats.uniform()),
    "rand_like": (lambda: torch.rand_like(torch.zeros(2, NUM // 2)), scipy.stats.uniform()),
    "uniform_": (lambda: torch.empty(NUM).uniform_(-1, 3), scipy.stats.uniform(-1, 4)),
    "randn": (lambda: torch.randn(NUM, dtype=torch.float64), scipy.stats.norm()),
    "randn_like": (lambda: torch.randn_like(torch.zeros(2, NUM // 2)), scipy.stats.norm()),
    "normal_": (lambda: torch.empty(NUM).normal_(1, 3), scipy.stats.norm(1, 3)),
    "normal, sizes": (lambda: torch.normal(2.0, 0.5, (NUM,)), scipy.stats.norm(2, 0.5)),
    "normal, tensors": (
        lambda: torch.normal(torch.ones(NUM), torch.full((NUM,), 2.0)), scipy.stats.norm(1, 2)
    ),
    "normal, mean": (lambda: torch.normal(torch.ones(NUM), 2.0), scipy.stats.norm(1, 2)),
    "normal, scale": (lambda: torch.normal(1.0, torch.full((NUM,), 2.0)), scipy.stats.norm(1, 2)),
    "exponential_": (lambda: torch.empty(NUM).exponential_(2.0), scipy.stats.expon(0, 0.5)),
    "cauchy_": (lambda: torch.empty(NUM).cauchy_(1.0, 2.0), scipy.stats.cauchy(1, 2)),
    "gamma": (lambda: torch._standard_gamma(torch.full((NUM,), 2.5)), scipy.stats.gamma(2.5)),
    "exponential": (lambda: torch._standard_gamma(torch.full((NUM,), 1.0)), scipy.stats.gamma(1.0)),
    "gamma below 1": (lambda: torch._standard_gamma(torch.full((NUM,), 0.2)), scipy.stats.gamma(0.2)),
    "logarithm of gamma": (
        lambda: torch._standard_gamma(torch.full((NUM,), 0.02, dtype=torch.float64)).log(),
        scipy.stats.loggamma(0.02),
    ),
    "gamma far above 1": (lambda: torch._standard_gamma(torch.full((NUM,), 800.0)), scipy.stats.gamma(800)),
    "Dirichlet": (
        lambda: torch._sample_dirichlet(torch.tensor([0.3, 1.0, 2.0]).expand(NUM, 3))[:, 0],
        scipy.stats.beta(0.3, 3.0),
    ),
    "Student": (
        lambda: torch.distributions.StudentT(3.0, validate_args=False).rsample((NUM,)), scipy.stats.t(3.0)
    ),
    "von Mises": (lambda: dist.VonMises(0.0, torch.tensor(2.0)).sample((NUM,)), scipy.stats.vonmises(2.0)),
    "von Mises, wide": (
        lambda: dist.VonMises(0.0, torch.tensor(1e-7)).sample((NUM,)),
        scipy.stats.uniform(-math.pi, 2 * math.pi),
    ),
    "von Mises, narrow": (
        lambda: dist.VonMises(1.0, torch.tensor(1e4).double()).sample((NUM,)), scipy.stats.vonmises(1e4, 1.0)
    ),
    "log_normal_": (lambda: torch.empty(NUM).log_normal_(1.0, 0.5), scipy.stats.lognorm(0.5, 0, math.e)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous(name):
    function, distribution = CONTINUOUS[name]
    (found,) = draw(function)
    expected = function()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert scipy.stats.kstest(found.reshape(-1).numpy(), distribution.cdf).pvalue > 1e-3


def _binomial(count, prob):
    return torch.binomial(torch.full((NUM,), count), torch.full((NUM,), prob))


class _Weights:
    """A distribution on the first integers."""

    def __init__(self, *weights):
        self.weights = np.array(weights)

    def pmf(self, values):
        return self.weights[values.astype(int)]


DISCRETE = {
    "bernoulli": (lambda: torch.bernoulli(torch.full((NUM,), 0.3)), scipy.stats.bernoulli(0.3)),
    "bernoulli_": (lambda: torch.empty(NUM, dtype=torch.int64).bernoulli_(0.3), scipy.stats.bernoulli(0.3)),
    "bernoulli_ by tensor": (
        lambda: torch.empty(NUM).bernoulli_(torch.full((NUM,), 0.3)), scipy.stats.bernoulli(0.3)
    ),
    "dropout": (
        lambda: torch.nn.functional.dropout(torch.full((NUM,), 0.75), 0.25), scipy.stats.bernoulli(0.75)
    ),
    "geometric_": (lambda: torch.empty(NUM).geometric_(0.3), scipy.stats.geom(0.3)),
    "randint": (lambda: torch.randint(3, 9, (NUM,)), scipy.stats.randint(3, 9)),
    "randint, no generator": (lambda: torch.randint(2, 9, (NUM,), generator=None), scipy.stats.randint(2, 9)),
    "randint of floats": (lambda: torch.randint(4, (NUM,), dtype=torch.float32), scipy.stats.randint(0, 4)),
    "randint_like": (lambda: torch.randint_like(torch.zeros(NUM), 7), scipy.stats.randint(0, 7)),
    "random_": (lambda: torch.empty(NUM, dtype=torch.int64).random_(5), scipy.stats.randint(0, 5)),
    "random_ between": (
        lambda: torch.empty(NUM, dtype=torch.int32).random_(-2, 3), scipy.stats.randint(-2, 3)
    ),
    "random_ of booleans": (
        lambda: torch.empty(NUM, dtype=torch.bool).random_().to(torch.int64), scipy.stats.randint(0, 2)
    ),
    "Poisson": (lambda: torch.poisson(torch.full((NUM,), 3.3)), scipy.stats.poisson(3.3)),
    "Poisson, many": (lambda: torch.poisson(torch.full((NUM,), 30.0)), scipy.stats.poisson(30)),
    "Poisson, first rejected": (lambda: torch.poisson(torch.full((NUM,), 10.0)), scipy.stats.poisson(10)),
    "binomial": (lambda: _binomial(7.0, 0.3), scipy.stats.binom(7, 0.3)),
    "binomial, likely": (lambda: _binomial(9.0, 0.9), scipy.stats.binom(9, 0.9)),
    "binomial, many": (lambda: _binomial(60.0, 0.4), scipy.stats.binom(60, 0.4)),
    "binomial, many and likely": (lambda: _binomial(90.0, 0.7), scipy.stats.binom(90, 0.7)),
    "binomial, rare": (lambda: _binomial(5000.0, 0.001), scipy.stats.binom(5000, 0.001)),
    "first of an order": (
        lambda: torch.stack([torch.randperm(5)[0] for _ in range(400)]), scipy.stats.randint(0, 5)
    ),
    "multinomial": (
        lambda: torch.multinomial(torch.tensor([1.0, 0.0, 3.0, 6.0]), NUM, True), _Weights(0.1, 0, 0.3, 0.6)
    ),
    "multinomial of many": (
        lambda: torch.multinomial(torch.ones(100), NUM, True), scipy.stats.randint(0, 100)
    ),
    "single draws": (
        lambda: torch.multinomial(torch.tensor([0.2, 0.8]).expand(NUM, 2), 1), _Weights(0.2, 0.8)
    ),
    "first of two": (
        lambda: torch.multinomial(torch.tensor([1.0, 1.0, 2.0]).expand(NUM, 3), 2)[:, 0],
        _Weights(0.25, 0.25, 0.5),
    ),
    "second of two": (
        lambda: torch.multinomial(torch.tensor([1.0, 1.0, 2.0]).expand(NUM, 3), 2)[:, 1],
        _Weights(1 / 3, 1 / 3, 1 / 3),
    ),
}  # fmt: skip


def frequencies_agree(found, distribution):
    """Assert that the counts of integers pass the chi-squared test."""
    values, counts = np.unique(found.reshape(-1).numpy(), return_counts=True)
    assert (values == np.round(values)).all()
    expected = distribution.pmf(values) * counts.sum()
    common = expected >= 5
    rare = counts.sum() - expected[common].sum()
    observed = [*counts[common], counts[~common].sum()] if rare > 5 else counts[common]
    expected = (
        [*expected[common], rare]
        if rare > 5
        else expected[common] * counts[common].sum() / expected[common].sum()
    )
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete(name):
    function, distribution = DISCRETE[name]
    (found,) = draw(function)
    expected = function()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    frequencies_agree(found, distribution)


def test_orders_are_permutations():
    (orders,) = draw(lambda: torch.stack([torch.randperm(7) for _ in range(50)]))
    assert (orders.sort(-1).values == torch.arange(7)).all()
    assert len({tuple(order) for order in orders.tolist()}) > 45


def test_the_beginning_of_an_order_is_drawn_alone():
    program = simplify(capture(lambda: torch.randperm(100_000)[:5], key=KEY))
    assert [node.args[1:3] for node in program.nodes] == [(100_000, 5)]
    assert torch.equal(interpret(program, KEY)[0], draw(lambda: torch.randperm(100_000))[0][:5])


def test_nothing_is_drawn_twice_without_replacement():
    (found,) = draw(lambda: torch.multinomial(torch.ones(100, 6), 6))
    assert (found.sort(-1).values == torch.arange(6)).all()


def test_small_concentrations_keep_their_ratios():
    concentration = torch.full((2000, 2), 1e-3)
    (found,) = draw(lambda: torch._sample_dirichlet(concentration))
    # Each almost always takes everything; ratios of underflowed numbers would give halves.
    assert ((found > 0.999).any(-1) | (found < 0.001).any(-1)).float().mean() > 0.98
    assert abs(float(found[:, 0].mean()) - 0.5) < 0.05
    assert (found > 0).all()


def test_wide_integers():
    found = draw(lambda: (torch.randint(-(2**62), 2**62, (500,)), torch.empty(500).random_()))
    assert found[0].abs().max() > 2**60 and (found[0] < 0).any() and (found[0] > 0).any()
    assert found[1].max() > 2**22 and (found[1] == found[1].round()).all()


def test_operations_do_not_share_numbers():
    found = draw(lambda x: [torch.rand(50) for _ in range(4)] + [x.clone().uniform_()], torch.zeros(3))
    everything = torch.cat(found)
    assert everything.unique().numel() == everything.numel()


def test_the_key_is_the_input_after_the_others():
    weight = torch.ones(3)
    program = capture(lambda x: x + weight * torch.randn(3), torch.zeros(2, 3), key=KEY, lift=[weight])
    assert [tuple(each.shape) for each in program.inputs] == [(2, 3), (2,), (3,)]
    x = torch.zeros(2, 3)
    first, again = interpret(program, x, KEY, weight)[0], interpret(program, x, KEY, weight)[0]
    assert torch.equal(first, again)
    assert not torch.isclose(first, interpret(program, x, random.key(21), weight)[0]).any()


def test_in_place_draws_go_through_views():
    def function(x):
        table = x * torch.zeros(4, 3)
        table[1].normal_()
        table.t()[2].uniform_(5, 6)
        rows = torch.zeros(2, 3)
        rows.view(-1)[1:3].fill_(7.0).exponential_()
        return table, rows

    table, rows = draw(function, torch.ones(3))
    assert (table[:, 2] > 5).all() and (table[1, :2] != 0).all() and (table[[0, 2, 3], :2] == 0).all()
    assert (rows.reshape(-1) > 0).tolist() == [False, True, True, False, False, False]


def test_each_step_of_a_scan_draws_anew():
    def function(x):
        return control.scan(lambda c, _: (c + torch.rand(()), torch.rand(4)), x.sum(), None, length=30)

    total, rows = draw(function, torch.zeros(3))
    assert rows.unique().numel() == rows.numel()
    assert 5 < float(total) < 25


def test_nested_loops_draw_anew():
    def function(x):
        def outer(c, _):
            inner = lambda d: (d[0] + 1, d[1] + torch.where(torch.arange(3) == d[0], torch.rand(3), 0.0))  # noqa: E731
            return c, control.while_loop(lambda d: d[0] < 3, inner, (0, torch.zeros(3)))[1]

        return control.scan(outer, x, None, length=10)[1]

    (rows,) = draw(function, torch.zeros(()))
    assert (rows > 0).all()
    assert rows.unique().numel() == rows.numel()


def test_branches_draw():
    def function(x):
        branches = lambda: torch.rand(3), lambda: torch.randn(3) - 10
        return control.cond(x > 0, *branches), torch.rand(3)

    positive, after = draw(function, torch.tensor(1.0))
    negative, _ = draw(function, torch.tensor(-1.0))
    assert ((positive > 0) & (positive < 1)).all() and (negative < -3).all()
    assert not torch.isin(positive, after).any()


def test_the_gradient_of_a_scan_sees_the_same_numbers():
    def function(scale):
        def step(c, _):
            z = torch.randn(3, dtype=torch.float64)
            return c * 0.9 + scale * z, z

        with torch.enable_grad():
            scale = scale.detach().requires_grad_()
            last, noise = control.scan(step, scale * 0, None, length=5)
            (gradient,) = torch.autograd.grad(last.sum(), scale)
        return gradient, noise

    gradient, noise = draw(function, torch.ones(3, dtype=torch.float64))
    weights = 0.9 ** torch.arange(4, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(gradient, weights @ noise)


REFUSED = {
    "a generator of its own": lambda x: x + torch.rand(3, generator=torch.Generator().manual_seed(0)),
    "in place by a generator": lambda x: x.clone().normal_(generator=torch.Generator().manual_seed(0)),
    "numpy": lambda x: x * np.random.rand(),
    "python": lambda x: x * python_random.random(),
    "a seed of its own": lambda x: x + torch.manual_seed(3).initial_seed(),
    "in the condition of a loop": lambda x: control.while_loop(
        lambda c: torch.rand(()) < c.sum(), lambda c: c * 0.5, x
    ),
    "in place on an input": lambda x: x.normal_(),
    "in place on a tensor from outside": lambda x: x + OUTSIDE.uniform_(),
    "an operation without a form": lambda x: torch.nn.functional.rrelu(x, training=True),
}  # fmt: skip
OUTSIDE = torch.zeros(3)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(NotCapturable):
        capture(REFUSED[name], torch.ones(3), key=KEY)
    assert OUTSIDE.tolist() == [0.0, 0.0, 0.0]


def test_a_seed_is_seen_while_other_threads_run():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        torch.manual_seed(0)
        test_refused("a seed of its own")
    finally:
        stop.set()
        thread.join()
