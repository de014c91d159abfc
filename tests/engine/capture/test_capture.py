"""Check captured functions and their gradients against eager torch, and what capture costs."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref

import pytest
import torch
from torch.distributions import Gamma, HalfCauchy, MultivariateNormal, Normal
from torch.func import functional_call

from ember.engine.capture import capture, recording_site
from ember.engine.control import scan
from ember.engine.differentiation import value_and_grad
from ember.engine.interpret import interpret
from ember.engine.passes.simplify import simplify
from ember.engine.recording.refusal import NotCapturable
from ember.engine.statistics import statistics

POINT = torch.tensor([0.3, -0.4, 0.7, 0.2, 1.1, -0.6], dtype=torch.float64)
DATA = torch.linspace(-1, 2, 8, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def hierarchical(z):
    mean, log_scale, effects = z[0], z[1], z[2:]
    scale = log_scale.exp()
    prior = Normal(0.0, 5.0, validate_args=False).log_prob(mean)
    prior = prior + HalfCauchy(5.0, validate_args=False).log_prob(scale) + log_scale
    prior = prior + Normal(0.0, 1.0, validate_args=False).log_prob(effects).sum()
    data = DATA.reshape(4, 2)
    return (
        prior + Normal((mean + scale * effects).unsqueeze(1), 0.7, validate_args=False).log_prob(data).sum()
    )


def heavy_tails(z):
    freedom = z[0].exp() + 2
    normaliser = torch.lgamma((freedom + 1) / 2) - torch.lgamma(freedom / 2) - 0.5 * torch.log(freedom) - z[2]
    terms = normaliser - (freedom + 1) / 2 * torch.log1p(((DATA - z[1]) / z[2].exp()) ** 2 / freedom)
    return terms.sum() + Gamma(2.0, z[3].exp(), validate_args=False).log_prob(z[4].exp()).sum()


def gaussian_process(z):
    distance = (DATA.unsqueeze(0) - DATA.unsqueeze(1)) ** 2
    kernel = z[0].exp() * torch.exp(-0.5 * distance / z[1].exp()) + 0.1 * torch.eye(8)
    return MultivariateNormal(torch.zeros(8), kernel, validate_args=False).log_prob(DATA.sin())


def mixture(z):
    weights = torch.log_softmax(z[:3], 0)
    components = Normal(z[3:].unsqueeze(0), 0.5, validate_args=False).log_prob(DATA.unsqueeze(1))
    return torch.logsumexp(weights + components, 1).sum()


def cumulative(z):
    cutpoints = torch.cat([z[:1], z[1:3].exp()]).cumsum(0)
    probabilities = torch.sigmoid(cutpoints - z[3])
    levels = torch.cat([probabilities, torch.ones(1)]) - torch.cat([torch.zeros(1), probabilities])
    return levels[torch.tensor([0, 1, 1, 3])].log().sum()


def not_differentiable(z):
    return (z > 0).sum().to(z.dtype)


def partly_differentiable(z):
    return z[:2].sum() + torch.floor(z[2:]).sum()


def constant(z):
    return torch.tensor(3.0)


class Rescaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=-0.5)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * torch.where(x < -0.5, 0.1, 1.0)


def custom_function(z):
    return (Rescaled.apply(z) ** 2).sum()


def in_place_with_gradient(z):
    x = torch.zeros(6)
    x[:3] = z[:3].sin()
    x[3:] += z[3:] * x[:3].clone()
    x.mul_(z)
    return x.sum()


FUNCTIONS = [
    hierarchical, heavy_tails, gaussian_process, mixture, cumulative, not_differentiable,
    partly_differentiable, constant, custom_function, in_place_with_gradient,
]  # fmt: skip


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_values_and_gradients(fn):
    both = value_and_grad(fn)
    program = capture(both, torch.zeros(6))
    for factor in (1.0, -0.5):
        z = factor * POINT
        for candidate in (program, simplify(program)):
            torch.testing.assert_close(interpret(candidate, z), both(z), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "fn", [hierarchical, heavy_tails, gaussian_process, mixture], ids=lambda fn: fn.__name__
)
def test_second_derivatives(fn):
    def directional(z, direction):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(fn(z), z, create_graph=True)
        return torch.autograd.grad(gradient @ direction, z)

    direction = POINT.flip(0)
    program = capture(directional, POINT, direction)
    for candidate in (program, simplify(program)):
        found = interpret(candidate, POINT, direction)
        torch.testing.assert_close(found, directional(POINT, direction), rtol=1e-10, atol=1e-11)


def test_value_and_grad_is_differentiable_again():
    def gradient_norm(z):
        return (value_and_grad(hierarchical)(z)[1] ** 2).sum()

    z = POINT.clone().requires_grad_()
    hessian = torch.autograd.functional.hessian(hierarchical, POINT)
    (found,) = torch.autograd.grad(gradient_norm(z), z)
    torch.testing.assert_close(found, 2 * hessian @ value_and_grad(hierarchical)(POINT)[1])
    both = value_and_grad(gradient_norm)
    torch.testing.assert_close(interpret(capture(both, POINT), POINT), both(POINT))


def test_value_and_grad_of_nests():
    value, gradient = value_and_grad(lambda z: (z["a"] * z["b"]).sum())({"a": POINT, "b": POINT * 2})
    torch.testing.assert_close(gradient, {"a": POINT * 2, "b": POINT})
    assert not value.requires_grad


def test_value_and_grad_needs_one_value():
    with pytest.raises(ValueError, match=r"one value, got shape \(6,\)"):
        value_and_grad(lambda z: z * 2)(POINT)


def test_modules_with_lifted_parameters():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 5), torch.nn.GELU(), torch.nn.LayerNorm(5), torch.nn.Linear(5, 1)
    )
    parameters = list(net.parameters())

    def loss(x):
        return torch.autograd.grad((net(x) ** 2).mean(), parameters)

    x = torch.randn(7, 6)
    program = simplify(capture(loss, x, lift=parameters))
    others = [each.detach() * 0.5 + 0.1 for each in parameters]
    with torch.no_grad():
        swapped = {
            name: value.requires_grad_()
            for (name, _), value in zip(net.named_parameters(), others, strict=True)
        }
    expected = torch.autograd.grad((functional_call(net, swapped, (x,)) ** 2).mean(), list(swapped.values()))
    found = interpret(program, x, *(each.detach() for each in others))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_functional_transforms_inside():
    def fn(z):
        return torch.vmap(lambda x: (x * z).sum().sin())(torch.eye(6)), torch.func.grad(hierarchical)(z)

    program = capture(fn, POINT)
    torch.testing.assert_close(interpret(program, POINT), fn(POINT))


def test_a_factorisation_that_fails_gives_nan():
    program = capture(lambda x: torch.linalg.cholesky(x), torch.eye(2))
    matrices = torch.stack([torch.tensor([[4.0, 0.0], [2.0, 2.0]]), torch.tensor([[1.0, 2.0], [2.0, 1.0]])])
    assert interpret(program, matrices[1])[0].isnan().all()
    expected = torch.linalg.cholesky(matrices[0])
    torch.testing.assert_close(interpret(program, matrices[0])[0], expected)


def test_sites_and_lines_reach_the_gradient():
    def model(z):
        z = z.detach().requires_grad_()
        with recording_site("scale"):
            first = z[0].exp().sin()
        with recording_site("effect"):
            second = (z[1:].exp() * first).sum()
        return torch.autograd.grad(second, z)

    program = capture(model, POINT)
    line = model.__code__.co_firstlineno
    sites = {
        node.op: node.site for node in program.nodes if node.op in ("aten.sin.default", "aten.cos.default")
    }
    assert sites == {"aten.sin.default": "scale", "aten.cos.default": "scale"}
    (backward,) = [node for node in program.nodes if node.op == "aten.cos.default"]
    assert backward.where == f"{__file__}:{line + 3}"
    assert any(node.site == "effect" and node.where == f"{__file__}:{line + 5}" for node in program.nodes)


def test_inputs_outputs_and_constants():
    program = capture(lambda x, y: (x, 2.0 * y, torch.ones(2), DATA), torch.zeros(2), torch.zeros(3))
    assert [value.shape for value in program.inputs] == [(2,), (3,)]
    assert program.outputs[0] is program.inputs[0]
    assert len(program.nodes) == 1
    results = interpret(program, torch.ones(2), torch.ones(3))
    torch.testing.assert_close(results, (torch.ones(2), torch.full((3,), 2.0), torch.ones(2), DATA))


def test_integers_and_bools():
    def fn(n, flag):
        return (n // 2, n % 3, torch.where(flag, n, -n), n.to(torch.float32) / 2, flag & (n > 1))

    n, flag = torch.arange(5), torch.tensor([True, False, True, False, True])
    torch.testing.assert_close(interpret(capture(fn, n, flag), n, flag), fn(n, flag))


def test_new_data_of_equal_shape_needs_no_new_program():
    program = capture(
        lambda z, data: Normal(z[0], 1.0, validate_args=False).log_prob(data).sum(), POINT, DATA
    )
    for data in (DATA, DATA * 3):
        expected = Normal(POINT[0], 1.0).log_prob(data).sum()
        torch.testing.assert_close(interpret(program, POINT, data)[0], expected)


def test_unusual_inputs_are_refused():
    for example in (torch.zeros(2, dtype=torch.complex128), torch.eye(2).to_sparse()):
        with pytest.raises(NotCapturable):
            capture(lambda x: x * 2, example)


def test_captures_are_counted():
    before = statistics.snapshot()
    capture(hierarchical, POINT)
    with pytest.raises(NotCapturable):
        capture(lambda z: z.sum().item(), POINT)
    after = statistics.snapshot()
    assert after["captures"] - before["captures"] == 2
    assert after["capture_seconds"] > before["capture_seconds"]


def test_no_memory_is_kept():
    kept = []

    def fn(z):
        kept.append(weakref.ref(z))
        factor = z[0].exp()
        kept.append(weakref.ref(factor))
        return scan(lambda c, x: (c * factor + x, c), z[1], z)[1].sum()

    gc.disable()
    try:
        program = capture(value_and_grad(fn), POINT)
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()
    assert len(program.outputs) == 2


_FIRST = """
import sys, torch
from ember.engine import random
from ember.engine.capture import capture
from ember.engine.control import cond, scan
from ember.engine.differentiation import value_and_grad
from ember.engine.passes.simplify import simplify
from ember.engine.listing import program_hash

def fn(z):
    total = torch.distributions.Normal(z, 1.0, validate_args=False).log_prob(torch.ones(3)).sum()
    carry, ys = scan(lambda c, x: (c * 0.5 + x.exp(), c), z[0], z)
    factor = torch.linalg.cholesky(torch.eye(3) * z[0].exp())
    return cond(total > 0, lambda: total + ys.sum(), lambda: carry + factor.sum())

def draw(z):
    sample = torch.distributions.Beta(z.exp(), z.exp(), validate_args=False).rsample() * torch.randn(3)
    counts = torch.poisson(z.exp()) + torch.binomial(z.detach(), z.detach())
    return (sample + counts + z[torch.randperm(3)]).sum()

program = simplify(capture(value_and_grad(fn), torch.zeros(3)))
capture(value_and_grad(draw), torch.zeros(3), key=random.key(0))
print(program_hash(program))
print([name for name in ("sympy", "torch._dynamo", "torch._inductor") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def fresh_processes():
    runs = [subprocess.run([sys.executable, "-c", _FIRST], capture_output=True, text=True) for _ in range(2)]
    assert not any(run.returncode for run in runs), runs[0].stderr
    return [run.stdout.splitlines() for run in runs]


def test_the_first_capture_imports_nothing_heavy(fresh_processes):
    assert [lines[1] for lines in fresh_processes] == ["[]", "[]"]


def test_hashes_are_the_same_in_every_process(fresh_processes):
    assert len({lines[0] for lines in fresh_processes}) == 1
    assert len(fresh_processes[0][0]) == 64


def test_capturing_costs_milliseconds():
    both = value_and_grad(hierarchical)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        program = capture(both, POINT)
        seconds.append(time.perf_counter() - start)
    # 80 operations take 3 ms alone on a 2 GHz core; the bound leaves room for other loads.
    assert min(seconds) / len(program.nodes) < 0.4e-3


def test_gradients_of_lifted_tensors_are_collected_and_put_back() -> None:
    weight, x = torch.randn(3, requires_grad=True), torch.randn(5, 3)
    before = weight.grad = torch.ones(3)

    def accumulate(x: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        for power in (2, 3):
            ((x @ weight) ** power).sum().backward()
        return (weight.grad,)

    program = capture(accumulate, x, lift=[weight], collect_gradients=True)
    assert weight.grad is before
    (found,) = interpret(program, x, weight)
    weight.grad = None
    torch.testing.assert_close(found, accumulate(x)[0])
    weight.grad = None
    with pytest.raises(NotCapturable, match="accumulates the gradient"):
        capture(accumulate, x, lift=[weight])
