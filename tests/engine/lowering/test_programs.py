"""Check whole programs: random ones against the interpreter, and the fusion that makes them fast."""

import random as pyrandom

import pytest
import torch
from lowering_checks import TARGETS, agree, same, tensor

from ember.engine import control
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.interpret import interpret
from ember.engine.lowering import NotLowerable
from ember.engine.lowering.lower import lower
from ember.engine.passes.simplify import simplify


def random_function(seed, size, rows=6, columns=9):
    """Make a function of a matrix and a row vector from random well-behaved steps."""
    rng = pyrandom.Random(seed)
    steps = [rng.random() for _ in range(size)]
    choices = [[rng.randrange(1 << 30) for _ in range(4)] for _ in range(size)]

    def step(kind, picks, matrices, vectors, scalars):
        def m(i):
            return matrices[picks[i] % len(matrices)]

        def v(i):
            return vectors[picks[i] % len(vectors)]

        def s(i):
            return scalars[picks[i] % len(scalars)]

        table = [
            lambda: matrices.append(torch.tanh(m(0) * s(1) + v(2))),
            lambda: matrices.append(torch.exp(-m(0).abs()) - m(1)),
            lambda: matrices.append(torch.where(m(0) > 0, m(1), m(2) * 0.5)),
            lambda: matrices.append(m(0).flip(picks[1] % 2)),
            lambda: matrices.append(
                torch.cat([m(0)[:, picks[1] % columns :], m(2)[:, : picks[1] % columns]], 1)
            ),
            lambda: matrices.append(m(0).reshape(columns, rows).t()),
            lambda: matrices.append(torch.softmax(m(0), picks[1] % 2)),
            lambda: matrices.append(m(0).cumsum(picks[1] % 2) * 0.3 / rows),
            lambda: matrices.append(m(0).index_select(0, (torch.arange(rows) * 5 + 2) % rows)),
            lambda: matrices.append(m(0).index_add(0, torch.tensor([1, 1, 4]), m(1)[:3])),
            lambda: matrices.append(torch.slice_scatter(m(0), v(1).expand(2, columns), 0, 2, 4)),
            lambda: matrices.append(m(0) - torch.logsumexp(m(1), 1, keepdim=True)),
            lambda: matrices.append(m(0) * m(1).sum(1, keepdim=True).tanh()),
            lambda: matrices.append(torch.stack([m(0)[:, 0], *m(1).unbind(1)[1:]], 1)),
            lambda: vectors.append(m(0).mean(0)),
            lambda: vectors.append(m(0).amax(0)),
            lambda: vectors.append(m(0).t() @ m(1).sum(1) * 0.1 / rows),
            lambda: vectors.append(torch.nn.functional.pad(v(0)[1:], (1, 0))),
            lambda: vectors.append(torch.sigmoid(v(0)) * s(1)),
            lambda: vectors.append(v(0).roll(picks[1] % columns)),
            lambda: vectors.append(m(0)[picks[1] % rows] - v(2)),
            lambda: scalars.append(torch.log1p(v(0).square().mean())),
            lambda: scalars.append(torch.logsumexp(m(0), (0, 1))),
            lambda: scalars.append(v(0)[picks[1] % columns] * s(2)),
            lambda: scalars.append(torch.tanh((m(0) * m(1)).mean())),
        ]
        table[int(kind * len(table))]()

    def function(matrix, vector):
        matrices, vectors, scalars = [matrix], [vector], [matrix.mean()]
        for kind, picks in zip(steps, choices, strict=True):
            step(kind, picks, matrices, vectors, scalars)
        return [matrices[-1], vectors[-1], *scalars[-2:], matrices[len(matrices) // 2]]

    return function


SHAPES = [(6, 9), (40, 3), (66, 2), (5, 40), (70, 19)]


@pytest.mark.parametrize("seed", range(25))
def test_random_programs(seed):
    rows, columns = SHAPES[seed % len(SHAPES)]
    function = random_function(seed, 8 + 2 * seed, rows, columns)
    x, y = tensor((rows, columns), seed=seed), tensor((columns,), seed=seed + 1)
    agree(function, x, y, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25, 225))
def test_many_random_programs(seed):
    rows, columns = SHAPES[seed % len(SHAPES)]
    function = random_function(seed, 10 + seed % 40, rows, columns)
    x, y = tensor((rows, columns), seed=seed), tensor((columns,), seed=seed + 1)
    agree(function, x, y, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("seed", range(15))
def test_random_programs_with_gradient(seed):
    rows, columns = SHAPES[seed % len(SHAPES)]
    function = random_function(100 + seed, 20, rows, columns)

    def gradient(matrix, vector):
        with torch.enable_grad():
            leaves = [matrix.detach().requires_grad_(), vector.detach().requires_grad_()]
            total = sum(each.sum() for each in function(*leaves))
            return [g for g in torch.autograd.grad(total, leaves, allow_unused=True) if g is not None]

    x, y = tensor((rows, columns), seed=seed), tensor((columns,), seed=seed + 1)
    agree(gradient, x, y, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_in_loops(seed):
    function = random_function(200 + seed, 15)

    def looped(matrix, vector):
        def body(carry):
            count, m, v = carry
            result = function(m, v)
            return count + 1, torch.tanh(result[0]), torch.tanh(result[1] + result[2])

        return control.while_loop(lambda c: c[0] < 5, body, (torch.tensor(0), matrix, vector))

    agree(looped, tensor((6, 9), seed=seed), tensor((9,), seed=seed + 1), rtol=1e-7, atol=1e-9)


def regression(beta, x, y):
    with torch.enable_grad():
        beta = beta.detach().requires_grad_()
        eta = x @ beta
        loss = torch.nn.functional.softplus(eta).sum() - (y * eta).sum() - 0.5 * (beta * beta).sum()
        return loss.detach(), *torch.autograd.grad(loss, beta)


@pytest.mark.parametrize("rows", [1000, 3001])
def test_a_regression_reads_its_matrix_in_one_pass(rows):
    beta, x, y = tensor((30,)) * 0.1, tensor((rows, 30)), tensor((rows,), low=0.0, high=1.0)
    agree(regression, beta, x, y, rtol=1e-10)
    text = lower(simplify(capture(regression, beta, x, y)), 8, True).text
    # Nests over rows alternate inside a loop over blocks of rows, if the matrix exceeds the nearest cache.
    assert ("%rows" in text) == (x.numel() * 8 >= 1 << 18)


@pytest.mark.parametrize("target", TARGETS, ids=["host", "plain"])
def test_large_data_may_be_stored_in_single_precision(target):
    beta, x, y = tensor((30,)) * 0.1, tensor((3001, 30)), tensor((3001,), low=0.0, high=1.0)
    program = capture(regression, beta, x, y)
    compiled = compile(program, target, compact=[1], use_disk=False)
    rounded = x.float().double()
    for one, other in zip(compiled(beta, x, y), interpret(program, beta, rounded, y), strict=True):
        same(one, other, rtol=1e-10)


def test_likelihood_terms_share_one_loop():
    def gradient(z, x, y, group):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            mean = z[:20][group] + z[20:40][group] * x
            density = torch.distributions.Normal(mean, z[40].exp(), validate_args=False).log_prob(y).sum()
            return density.detach(), *torch.autograd.grad(density, z)

    arguments = (
        tensor((41,)),
        tensor((500,)),
        tensor((500,), seed=1),
        tensor((500,), torch.int64, low=0, high=20),
    )
    agree(gradient, *arguments, rtol=1e-9)
    text = lower(simplify(capture(gradient, *arguments)), 8, True).text
    over_data = [line for line in text.split("\n") if "icmp slt" in line and line.endswith(", 500")]
    assert len(over_data) == 1, "the data are visited once for density, residuals and all gradients"


def test_programs_too_large_or_with_unknown_operations_are_refused():
    def function(x):
        return torch.linalg.ldl_factor(x)[0]

    with pytest.raises(NotLowerable) as caught:
        compile(capture(function, torch.eye(3)), use_disk=False)
    assert caught.value.op.startswith("aten.linalg_ldl_factor")
    assert "test_programs.py" in caught.value.where
    with pytest.raises(NotLowerable, match="dtype"):
        compile(capture(lambda x: x.half() * 2, torch.ones(3)), use_disk=False)
    program = capture(long_function(50), torch.ones(3))
    program.nodes = program.nodes * 2000
    with pytest.raises(NotLowerable, match="operations"):
        compile(program, use_disk=False)


def long_function(length):
    def function(x):
        for position in range(length):
            x = torch.tanh(x * 1.01 + position * 0.1) - x.sum()
        return x

    return function


def test_long_chains_of_cheap_operations():
    def function(x):
        y = x
        for _ in range(700):
            x = x * 1.001 + 0.1
        for _ in range(700):
            y = y.flip(0)
        for _ in range(400):
            y = y.reshape(4, 5).t().reshape(20)
        return x, y * 2, torch.where(x > 0, x, y)

    agree(function, tensor((20,)))


def test_compilation_stays_bounded():
    import time

    program = capture(long_function(125), torch.ones(64, dtype=torch.float64))
    assert program.num_operations() >= 500
    started = time.process_time()
    compiled = compile(program, use_disk=False)
    assert time.process_time() - started < 4.0
    x = tensor((64,))
    same(compiled(x)[0], interpret(program, x)[0], rtol=1e-9)


@pytest.mark.slow
def test_ten_thousand_operations_compile_in_seconds():
    import time

    program = capture(long_function(2500), torch.ones(64, dtype=torch.float64))
    assert program.num_operations() >= 10_000
    started = time.process_time()
    compile(program, use_disk=False)
    assert time.process_time() - started < 15.0
