"""Check captured loops, branches and scans, and gradients through them, against their eager form."""

from __future__ import annotations

import pytest
import torch

from ember.engine import random
from ember.engine.capture import capture
from ember.engine.control import cond, scan, while_loop
from ember.engine.differentiation import value_and_grad
from ember.engine.interpret import interpret
from ember.engine.passes.simplify import simplify
from ember.engine.recording.refusal import NotCapturable

POINT = torch.tensor([0.3, -0.4, 0.7, 0.2], dtype=torch.float64)
SERIES = torch.linspace(-1, 1, 7, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def agree(fn, *inputs):
    expected = [torch.as_tensor(each) for each in torch.utils._pytree.tree_leaves(fn(*inputs))]
    program = capture(fn, *inputs)
    for candidate in (program, simplify(program)):
        found = interpret(candidate, *inputs)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other.detach(), rtol=1e-10, atol=1e-12, check_stride=False)
    return program


def loop_with_numbers(z):
    return while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] * 1.1 + z[0]), (0, z))


def loop_with_float_number(z):
    return while_loop(
        lambda c: c["n"] < 4,
        lambda c: {"n": c["n"] + 1, "total": c["total"] + z.sum()},
        {"n": 0, "total": 0.0},
    )


def loop_never_run(z):
    return while_loop(lambda c: c.sum() > 100, lambda c: c + 1, z)


def loop_in_loop(z):
    def outer(c):
        inner = while_loop(lambda d: d[0] < c[0], lambda d: (d[0] + 1, d[1] + c[1] * z[1]), (0, c[1]))
        return c[0] + 1, inner[1] * 0.5

    return while_loop(lambda c: c[0] < 4, outer, (torch.tensor(0), z[0]))


def loop_on_a_view(z):
    view = (z * 2).view(2, 2)[0]
    return while_loop(lambda c: c.sum() < 3, lambda c: c + view.abs(), view)


def loop_writing_inside(z):
    def body(c):
        count, x = c
        y = torch.zeros(4)
        y[1:] = x[:-1]
        y[0] = z[0]
        return count + 1, y + 0.1

    return while_loop(lambda c: c[0] < 3, body, (0, z))


def branch(z):
    return cond(z.sum() > 0, lambda x: (x * 2, x.sum()), lambda x: (x - 1, z[0]), z)


def branch_on_number(z):
    return cond(z[0] > 0, lambda: (z * 1, 1.0), lambda: (z * 2, 2.0))


def branch_with_none(z):
    return cond(z[0] > 0, lambda: {"a": z, "b": None}, lambda: {"a": -z, "b": None})["a"]


def scan_plain(z):
    return scan(lambda c, x: (c * x.sin() + z.sum(), (c + 1, x * c)), z[0], z)


def scan_reverse(z):
    return scan(lambda c, x: (0.5 * c + x, c), 0.0, SERIES, reverse=True)


def scan_length(z):
    return scan(lambda c, _: (c * z, c.sum()), z, length=5)


def scan_nested_xs(z):
    return scan(
        lambda c, x: (c + x["a"] * x["b"][0], x["b"]), z[0], {"a": SERIES, "b": torch.ones(7, 2) * z[1]}
    )


def scan_without_ys(z):
    return scan(lambda c, x: (c + x * z, None), z, SERIES)[0]


def scan_with_integers(z):
    def step(c, x):
        count, total = c
        return (count + 1, total + torch.where(count % 2 == 0, x, -x)), count

    return scan(step, (0, z[0]), SERIES)


def scan_of_keys(z):
    def step(key, x):
        return random.fold_in(key, 1), x + random.normal(key, (2,)).sum()

    return scan(step, random.key(3), SERIES * z[0])


FUNCTIONS = [
    loop_with_numbers, loop_with_float_number, loop_never_run, loop_in_loop, loop_on_a_view,
    loop_writing_inside, branch, branch_on_number, branch_with_none, scan_plain, scan_reverse,
    scan_length, scan_nested_xs, scan_without_ys, scan_with_integers, scan_of_keys,
]  # fmt: skip


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_values(fn):
    for sign in (1.0, -1.0):
        agree(fn, sign * POINT)


def autoregression(z):
    level, slope, scale = z[0], z[1].tanh(), z[2].exp()

    def step(previous, y):
        mean = level + slope * previous
        return y, -0.5 * ((y - mean) / scale) ** 2 - scale.log()

    last, terms = scan(step, z[3] * 1.0, SERIES)
    return terms.sum() + last


def closed_over_only(z):
    def step(c, y):
        return c * 0.5 + z[1].exp() * y, (c * z[0]).sin()

    last, ys = scan(step, 0.0, SERIES, reverse=True)
    return ys.sum() + last


def through_xs(z):
    return scan(lambda c, x: (c * 0.9 + x.sin(), c * x), torch.zeros(()), z.cumsum(0))[1].sum()


def both_a_tensor_and_its_source(z):
    derived = z.exp()
    return scan(lambda c, x: (c + (derived * z).sum() * x, derived[0] * c), z[0] * derived[1], SERIES)[
        1
    ].sum()


def carry_passed_through(z):
    return scan(lambda c, x: ((c[1], c[0]), c[0] * x), (z[0], z[1]), SERIES)[1].sum()


def closed_over_result(z):
    return scan(lambda c, x: (z[0].sin(), c * x), z[1], SERIES)[1].sum()


def closed_over_returned(z):
    source = z[0] * 1.0
    return scan(lambda c, x: (source, c * x), z[1], SERIES)[1].sum()


def detached_inside(z):
    return scan(lambda c, x: (c.detach() * z[0] + x, c * z[1]), z[2], SERIES)[1].sum()


def ignored_results(z):
    return scan(lambda c, x: ((c[0] * z[0], c[1] + 1), (c[0], c[0].sin())), (z[1], 0), SERIES)[1][1].sum()


def scan_in_scan(z):
    def step(c, x):
        def inner(d, w):
            return d * w.cos() + z[0] * c[1], (d * x).sum()

        d, terms = scan(inner, c[0], z)
        return (d, cond(x > 0, lambda: c[1] * z[1], lambda: c[1] + d)), terms.sum()

    (a, b), terms = scan(step, (z[0], z[1]), SERIES)
    return a + b + terms.sum()


def branch_gradient(z):
    scaled = z.exp()
    chosen = cond(
        scaled.sum() > 4, lambda u: (u * scaled).sum() + z[0], lambda u: u.sum() * 2 + torch.zeros(()), scaled
    )
    return chosen * z[1]


def branch_without_gradient(z):
    return cond(z.sum() > 0.5, lambda: z.sum(), lambda: torch.ones(())) * z[0]


def gradient_in_a_loop(z):
    inner = value_and_grad(autoregression)

    def climb(c):
        position, count = c
        _, gradient = inner(position)
        return position + 0.01 * gradient, count + 1

    return while_loop(lambda c: c[1] < 3, climb, (z.detach(), 0))[0].sum()


def custom_function(z):
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sin()

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    return scan(lambda c, x: (Doubled.apply(c * x), c), z[0], SERIES)[1].sum()


GRADIENTS = [
    autoregression, closed_over_only, through_xs, both_a_tensor_and_its_source,
    carry_passed_through, closed_over_result, closed_over_returned, detached_inside,
    ignored_results, scan_in_scan, branch_gradient, branch_without_gradient, gradient_in_a_loop,
    custom_function,
]  # fmt: skip


@pytest.mark.parametrize("fn", GRADIENTS, ids=lambda fn: fn.__name__)
def test_gradients(fn):
    for sign in (1.0, -1.0):
        agree(value_and_grad(fn), sign * POINT)


def test_gradients_by_inputs_that_require_them():
    z = POINT.clone().requires_grad_()

    def fn(z):
        return torch.autograd.grad(autoregression(z), z)

    torch.testing.assert_close(interpret(capture(fn, z), z.detach()), fn(z), rtol=1e-10, atol=1e-12)


def test_a_gradient_through_a_while_loop_is_refused():
    def fn(z):
        return while_loop(lambda c: c.sum() < 9, lambda c: c + z.exp(), z).sum()

    with pytest.raises(NotCapturable, match=r"gradient through engine\.while_loop"):
        capture(value_and_grad(fn), POINT)
    agree(fn, POINT)


def test_a_gradient_that_stops_before_a_while_loop_is_none():
    def fn(z):
        return while_loop(lambda c: c.sum() < 9, lambda c: c + 1, z.detach()).sum() + z.sum()

    agree(value_and_grad(fn), POINT)


def test_second_derivatives_through_scan_are_refused():
    def fn(z):
        z = z.detach().requires_grad_()
        (first,) = torch.autograd.grad(autoregression(z), z, create_graph=True)
        return torch.autograd.grad(first.sum(), z)

    with pytest.raises(NotCapturable, match="second derivative"):
        capture(fn, POINT)


def test_a_custom_function_on_something_closed_over_is_refused():
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g * w, g * x

    def fn(z):
        weight = z[0].sin()
        return scan(lambda c, x: (Product.apply(c, weight), x * c), z[1], SERIES)[1].sum()

    with pytest.raises(NotCapturable, match="custom autograd function"):
        capture(value_and_grad(fn), POINT)


@pytest.mark.parametrize("fn", [autoregression, scan_in_scan, closed_over_only])
def test_the_size_of_a_scan_does_not_depend_on_its_length(fn, monkeypatch):
    sizes = set()
    for length in (2, 50, 1000):
        monkeypatch.setitem(globals(), "SERIES", torch.linspace(-1, 1, length))
        sizes.add(simplify(capture(value_and_grad(fn), POINT)).num_operations())
    assert len(sizes) == 1


def test_a_step_that_knows_its_gradients_is_run_once():
    calls = []

    def fn(z):
        return scan(lambda c, x: (calls.append(1) or c * z[0] + x, c), z[1], SERIES)[1].sum()

    capture(value_and_grad(fn), POINT)
    assert len(calls) == 1


def test_values_from_inside_stay_inside():
    program = capture(scan_plain, POINT)
    (node,) = [node for node in program.nodes if node.op == "scan"]
    assert node.attributes == {"length": 4, "reverse": False, "num_carry": 1}
    carry, xs, outer = node.args
    step = node.regions[0]
    assert len(step.inputs) == len(carry) + len(xs) + len(outer)
    assert len(step.outputs) == len(node.outputs)
    known = {*step.inputs, *step.constants}
    for each in step.nodes:
        assert set(each.inputs()) <= known
        known.update(each.outputs)
    assert set(step.outputs) <= known


def test_carries_that_change_are_described():
    with pytest.raises(
        NotCapturable, match=r"leaf 0 of the carry of engine\.while_loop changes from float64\[4\]"
    ):
        capture(lambda z: while_loop(lambda c: c.sum() < 3, lambda c: torch.cat([c, c]), z), POINT)


def test_an_empty_scan_is_an_error():
    with pytest.raises(NotCapturable, match="at least one step"):
        capture(lambda z: scan(lambda c, x: (c, x), z, SERIES[:0]), POINT)
