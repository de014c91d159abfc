"""Check that compiled programs draw the numbers that the interpreter draws."""

import pytest
import torch
from lowering_checks import agree

import ember.distributions  # noqa: F401 - defines an operation
from ember.engine import control, random

KEY = random.key(8)

OPERATIONS = {
    "rand": lambda x: torch.rand(37) + x.sum(),
    "rand, float64": lambda x: torch.rand(5, 7, dtype=torch.float64),
    "randn": lambda x: torch.randn_like(x) * x,
    "normal_": lambda x: x.clone().normal_(1.0, 2.0),
    "exponential_": lambda x: torch.empty(3, 5).exponential_(2.0),
    "cauchy_": lambda x: torch.empty(9, dtype=torch.float64).cauchy_(),
    "log_normal_": lambda x: torch.empty(9).log_normal_(),
    "geometric_": lambda x: torch.empty(20).geometric_(0.2),
    "bernoulli": lambda x: torch.bernoulli(torch.sigmoid(x)),
    "randint": lambda x: torch.randint(-3, 9, (30,)),
    "wide integers": lambda x: torch.randint(-(2**62), 2**62, (30,)),
    "multinomial": lambda x: torch.multinomial(x.reshape(1, -1), 20, replacement=True),
    "multinomial of many": lambda x: torch.multinomial(x.sum().expand(100), 20, replacement=True),
    "multinomial without replacement": lambda x: torch.multinomial(x, 4),
    "gamma": lambda x: torch._standard_gamma(x),
    "gamma, float64": lambda x: torch._standard_gamma(x.double().expand(7, 11) / 3),
    "Dirichlet": lambda x: torch._sample_dirichlet(x.double().expand(5, 11)),
    "Poisson": lambda x: torch.poisson(x * torch.tensor([[0.1], [1.0], [4.0], [300.0]])),
    "binomial": lambda x: torch.binomial(torch.tensor([[3.0], [40.0], [1e5]]), torch.sigmoid(x)),
    "Student": lambda x: x * torch.distributions.StudentT(2.0).rsample((3, 11)),
    "von Mises": lambda x: torch.ops.ember.von_mises(x * 10 ** (x - 4)),
    "dropout": lambda x: torch.nn.functional.dropout(x, 0.5),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    x = torch.linspace(0.5, 4.0, 11)
    agree(OPERATIONS[name], x, key=KEY)


def test_parameters_at_the_edges():
    edges = torch.tensor([0.0, -1.0, torch.inf, torch.nan, 1e-300, 1e-5, 1e9, 1.0], dtype=torch.float64)
    count = torch.tensor([0.0, 5.0, 1e9], dtype=torch.float64).unsqueeze(1)
    agree(lambda a: torch._standard_gamma(a), edges, key=KEY)
    agree(lambda a: torch.poisson(a), edges, key=KEY)
    agree(lambda n, p: torch.binomial(n, p), count, edges, key=KEY)


def test_gradients_of_dropout():
    def function(x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            kept, mask = torch.native_dropout(leaf, 0.3, True)
            return kept.detach(), mask, torch.autograd.grad(kept.sum(), leaf)[0]

    kept, mask, slope = agree(function, torch.rand(50) + 1, key=KEY)(torch.rand(50) + 1, KEY)
    assert torch.equal(kept != 0, mask) and torch.equal(slope != 0, mask)


def test_derivatives_of_draws():
    a = torch.tensor([1e-3, 0.3, 1.0, 7.0, 90.0, 3000.0, 2e4, 1e7], dtype=torch.float64)
    spread = torch.tensor([[0.0], [-0.5], [1.0], [3.0], [40.0]], dtype=torch.float64)
    sample = (a + spread * a.sqrt()).clamp(min=1e-20)
    agree(lambda a, x: torch._standard_gamma_grad(a.expand(5, 8), x), a, sample, rtol=1e-8)
    agree(lambda a, x: torch._standard_gamma_grad(a, x), a.float(), sample[0].float())
    x = torch.tensor([1e-30, 0.01, 0.5, 0.8, 1.0, 0.3], dtype=torch.float64).unsqueeze(1)
    x = x.expand(6, 6).contiguous()
    agree(lambda x, a: torch._dirichlet_grad(x, a.expand(6, 6), 1.7 * a.expand(6, 6)), x, a[:6], rtol=1e-8)


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 2), (5, 3), (64, 64), (1000, 1000), (30_000, 40)])
def test_permutations(n, count):
    agree(lambda: random.permutation(KEY, n, count), key=KEY)


def test_permutations_in_a_loop():
    agree(
        lambda x: control.scan(lambda c, _: (c, torch.randperm(9)), x, None, length=4),
        torch.zeros(()),
        key=KEY,
    )


def test_control_flow():
    def function(x):
        def step(c, _):
            return c + torch.rand(3), control.cond(c[0] > 0, lambda: torch.randn(2), lambda: torch.rand(2))

        def body(c):
            return c[0] + 1, c[1] * torch.rand(20)

        return control.scan(step, x, None, length=6), control.while_loop(
            lambda c: c[0] < 3, body, (0, torch.ones(20))
        )

    agree(function, torch.zeros(3), key=KEY)
