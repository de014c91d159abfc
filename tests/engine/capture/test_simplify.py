"""Check that simplification removes what it should, keeps what it must; that hashes tell programs apart."""

from __future__ import annotations

import pytest
import torch

from ember.engine.capture import capture
from ember.engine.control import cond, scan, while_loop
from ember.engine.interpret import interpret
from ember.engine.listing import format_program, program_hash
from ember.engine.passes.simplify import simplify

X = torch.tensor([0.5, -1.5, 2.0])


def ops(fn, *inputs):
    program = simplify(capture(fn, *(inputs or (X,))))
    for one, other in zip(interpret(program, *(inputs or (X,))), fn(*(inputs or (X,))), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    return [node.op.split(".")[1] for node in program.nodes]


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda x: [x.clone().detach().contiguous()], []),
        (lambda x: [x.to(torch.float32).view(3).expand(3)], []),
        (lambda x: [x.unsqueeze(0).unsqueeze(0).squeeze().reshape(3)], []),
        (lambda x: [x.reshape(1, 3).reshape(3, 1)], ["view"]),
        (lambda x: [x * 1, x + 0.0, x - 0, x / 1.0, x**1], []),
        (lambda x: [1.0 * x * torch.ones(3)], []),
        (lambda x: [x * torch.ones(2, 3)], ["full", "mul"]),
        (lambda x: [x + torch.zeros((), dtype=torch.float64)], []),
        (lambda x: [x * torch.ones(3, dtype=torch.float64)], ["full", "mul"]),
        (lambda x: [x.neg().neg()], []),
        (lambda x: [x[0:3], x[:]], []),
        (lambda x: [x[0:2]], ["slice"]),
        (lambda x: [x.exp() + x.exp() * x.exp()], ["exp", "mul", "add"]),
        (lambda x: [(x * 2).sum() + (x * 2.0).sum()], ["mul", "sum", "mul", "sum", "add"]),
        (lambda x: [(x.sin(), x.cos())[0]], ["sin"]),
        (lambda x: [x + torch.tensor([1.0, 2.0, 3.0]), x * torch.tensor([1.0, 2.0, 3.0])], ["add", "mul"]),
        (lambda x: [x.reshape(3, 1).t().t()], ["view"]),
        (lambda x: [x.expand(2, 3).permute(1, 0).permute(1, 0)], ["expand"]),
    ],
)
def test_rewrites(fn, expected):
    found = ops(fn)
    assert sorted(found) == sorted(expected)


def test_zeros_around_a_slice_are_not_summed():
    def padded(x, dim):
        return torch.ops.aten.slice_backward(x, [2, 5], 1, 1, 4, 1).sum(dim)

    x = torch.tensor([[0.5, -1.5, 2.0], [1.0, 3.0, 0.25]])
    assert ops(lambda x: [padded(x, [1])], x) == ["sum"]
    assert ops(lambda x: [padded(x, [0, -1])], x) == ["sum"]
    assert ops(lambda x: [padded(x, [0])], x) == ["slice_backward", "sum"]


def test_subtraction_from_zero_and_division_of_one_stay():
    assert len(ops(lambda x: [0 - x])) == 1
    assert len(ops(lambda x: [1 / x])) >= 1


def test_values_at_the_edges_stay():
    edges = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0])
    assert ops(lambda x: [x * 0], edges) == ["mul"]
    assert ops(lambda x: [x - x], edges) == ["sub"]
    assert ops(lambda x: [torch.where(x > 0, x, 0.0) * 1], edges) == ["gt", "where"]


def test_constants_are_shared_by_content():
    first, second = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])
    program = simplify(capture(lambda x: x * first + (x - second).sin() * torch.tensor([1.0, 2.0, 3.0]), X))
    assert len(program.constants) == 1


def test_equal_numbers_of_other_types_are_not_shared():
    program = simplify(capture(lambda x: (x * torch.tensor([1.0, 2.0, 3.0]), x * torch.tensor([1, 2, 3])), X))
    assert len(program.constants) == 2


def test_unused_results_of_a_scan_are_not_stored():
    def fn(x):
        unused = x.sin()
        last, ys = scan(lambda c, y: (c + y, (c * y, (y * unused).sum())), x[0], x)
        return last, ys[0]

    program = simplify(capture(fn, X))
    (node,) = [node for node in program.nodes if node.op == "scan"]
    assert len(node.outputs) == 2
    assert not node.args[2]
    assert "aten.sin.default" not in {node.op for node in program.nodes}
    torch.testing.assert_close(interpret(program, X), fn(X))


def test_unused_results_of_a_branch_are_not_computed():
    program = simplify(
        capture(lambda x: cond(x.sum() > 0, lambda: (x * 2, x.sin()), lambda: (x, x.cos()))[0], X)
    )
    (node,) = [node for node in program.nodes if node.op == "cond"]
    assert len(node.outputs) == 1
    assert [len(region.nodes) for region in node.regions] == [1, 0]


def test_simplifying_again_changes_nothing():
    def fn(x):
        return scan(lambda c, y: (c * 1 + y.clone() * x.sum(), c), x[0], x * 1.0)

    once = simplify(capture(fn, X))
    assert program_hash(simplify(once)) == program_hash(once)


def test_hashes_do_not_depend_on_lines_or_sites():
    def again(x):
        return (x * 2).sin()

    assert program_hash(capture(lambda x: (x * 2).sin(), X)) == program_hash(capture(again, X, where=False))


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: (x * 3).sin(),
        lambda x: (x * 2.0).cos(),
        lambda x: (x * torch.tensor(2.0)).sin(),
        lambda x: ((x * 2).sin(), x),
        lambda x: (x.double() * 2).sin(),
        lambda x: (x * torch.tensor([1.0, 2.0, 3.0])).sin(),
        lambda x: (x * torch.tensor([1.0, 2.0, 4.0])).sin(),
        lambda x: scan(lambda c, y: (c + y, c), x[0], x)[1],
        lambda x: scan(lambda c, y: (c + y, c), x[0], x, reverse=True)[1],
        lambda x: scan(lambda c, y: (c - y, c), x[0], x)[1],
    ],
)
def test_hashes_tell_programs_apart(fn):
    others = [
        lambda x: (x * 2).sin(),
        lambda x: (x * 2.5).sin(),
        lambda x: (x * torch.tensor([1.0, 2.0, 5.0])).sin(),
        lambda x: scan(lambda c, y: (c + y * 2, c), x[0], x)[1],
    ]
    mine = program_hash(capture(fn, X))
    assert mine not in {program_hash(capture(other, X)) for other in others}
    assert mine != program_hash(capture(fn, X.double()))


def test_listing():
    text = format_program(capture(lambda x: scan(lambda c, y: (c + y, c), x[0], x)[1] * torch.ones(3), X))
    assert "inputs %0: float32[3]" in text
    assert "aten.select.int(%0, 0, 0)" in text
    assert "length=3" in text and "region" in text
    assert "= 1, 1, 1" in text
    assert "test_simplify.py:" in text
    assert text.splitlines()[-1].startswith("return %")


def test_what_stays_the_same_is_computed_once():
    def fn(x, data):
        def body(c):
            return c[0] + 1, c[1] + (data.log() * c[1]).sum() * x.exp().sum(), c[2]

        return while_loop(lambda c: c[0] < x.sum().abs() + 3, body, (0, 1.0, x.sin()))

    data = torch.linspace(1, 2, 50)
    program = simplify(capture(fn, X, data))
    (node,) = [node for node in program.nodes if node.op == "while_loop"]
    inside = {each.op.split(".")[1] for region in node.regions for each in region.nodes}
    assert inside == {"add", "mul", "sum", "lt"}
    assert {"log", "exp", "sum", "abs"} <= {
        each.op.split(".")[-2] for each in program.nodes if not each.regions
    }
    assert len(node.args[0]) == 2
    for one, other in zip(interpret(program, X, data), fn(X, data), strict=True):
        torch.testing.assert_close(one, other)


def test_invariants_leave_nested_loops():
    def fn(x):
        def outer(c, y):
            inner, _ = scan(lambda d, z: (d * z.sin() + x.exp().sum() + y.cos(), None), c, x)
            return inner, inner

        return scan(outer, x[0], x)

    program = simplify(capture(fn, X))
    (node,) = [node for node in program.nodes if node.op == "scan"]
    (inner,) = [node for node in node.regions[0].nodes if node.op == "scan"]
    assert "aten.exp.default" in {each.op for each in program.nodes}
    assert "aten.cos.default" in {each.op for each in node.regions[0].nodes}
    assert {each.op for each in inner.regions[0].nodes} <= {
        "aten.sin.default",
        "aten.mul.Tensor",
        "aten.add.Tensor",
    }
    torch.testing.assert_close(interpret(program, X), fn(X))


def test_cheap_operations_on_large_tensors_stay_in_the_loop():
    def fn(x):
        return scan(lambda c, _: (c + ((x - 1.5) * c).sum(), None), x[0], length=3)[0]

    x = torch.linspace(0, 1, 1000)
    program = simplify(capture(fn, x))
    (node,) = [node for node in program.nodes if node.op == "scan"]
    assert "aten.sub.Tensor" in {each.op for each in node.regions[0].nodes}
    torch.testing.assert_close(interpret(program, x)[0], fn(x))


def test_carries_without_consequence_go():
    def fn(x):
        def body(c):
            count, wanted, unwanted, its_source = c
            return count + 1, wanted * 1.5, unwanted + its_source, its_source * 2

        return while_loop(lambda c: c[0] < 3, body, (0, x, x, x.sin()))[1]

    program = simplify(capture(fn, X))
    (node,) = [node for node in program.nodes if node.op == "while_loop"]
    assert len(node.args[0]) == 2
    torch.testing.assert_close(interpret(program, X)[0], fn(X))
