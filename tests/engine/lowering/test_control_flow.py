"""Check compiled loops, conditions and scans against their eager forms, updates in place included."""

import pytest
import torch
from lowering_checks import TARGETS, agree, tensor

from ember.engine import control, random
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.lowering.lower import lower


def zero():
    return torch.tensor(0)


def test_while_loop_carries_scalars_and_vectors():
    def function(x):
        return control.while_loop(
            lambda c: (c[0] < 10) & (c[1].sum() < 1e6),
            lambda c: (c[0] + 1, c[1] * 1.5 + c[2], c[1] - c[3], c[3]),
            (zero(), x, x * 2, x.exp()),
        )

    agree(function, tensor((9,)))


def test_a_loop_that_makes_no_step():
    agree(lambda x: control.while_loop(lambda c: c.sum() > 1e9, lambda c: c * 2, x), tensor((5,)))


def test_carries_may_change_places():
    def function(x, y, z):
        return control.while_loop(
            lambda c: c[0] < 7, lambda c: (c[0] + 1, c[2], c[3], c[1]), (zero(), x, y, z)
        )

    agree(function, tensor((40,)), tensor((40,), seed=1), tensor((40,), seed=2))
    agree(
        lambda x: control.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1].t()), (zero(), x)),
        tensor((6, 6)),
    )
    agree(
        lambda x: control.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1].flip(0)), (zero(), x)),
        tensor((50,)),
    )


# Bodies of loops over (a, b, s): two vectors of one shape and a number.
BODIES = {
    "each for itself": lambda a, b, s: (a * 0.5 + 1, b - a, s + 1),
    "from one another": lambda a, b, s: (a + b, a - b, s + 1),
    "a sum of the old": lambda a, b, s: (a * 0.9 + s, b * 0.5, a.sum() * 0.01),
    "a sum of the new": lambda a, b, s: (a * 0.9, b * 0.5 + (a * 0.9).sum() * 0.01, s + 1),
    "old and new together": lambda a, b, s: ((c := a.tanh() + 0.1), b * 0.5, (c - a).abs().sum()),
    "other places of the old": lambda a, b, s: (a * 0.5 + 1, b * 0.1 + a.flip(0), s),
    "other places of itself": lambda a, b, s: (a.roll(1, 0) * 0.9, b + a, s),
    "neighbours": lambda a, b, s: (torch.cat([a[1:], b[:1]]), a * 0.5, s + 1),
    "selected": lambda a, b, s: (torch.where(s > 2, a + 1, a), torch.where(a > 0, b, a), s + 1),
    "shifted": lambda a, b, s: (b * 1.0, a, s),
    "running sums": lambda a, b, s: (a.cumsum(0) * 0.1, b + a, s),
    "products": lambda a, b, s: (a.reshape(a.shape[0], -1) @ b.reshape(b.shape[0], -1).T[:, :1]
        * 0.01 * torch.ones_like(a).reshape(a.shape[0], -1), b * 0.9, s),
    "a loop inside": lambda a, b, s: (
        a * 0.5,
        control.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] * 0.5 + a), (zero(), b))[1],
        s + 1,
    ),
    "a condition inside": lambda a, b, s: (
        control.cond(s > 1, lambda a, b: a + b, lambda a, b: a - b, a, b), b * 0.9, s + 1),
    "through several steps": lambda a, b, s: ((a + (c := (a * b).tanh()) + c.mean(0)), b + c, c.sum()),
}  # fmt: skip


@pytest.mark.parametrize("shape", [(40,), (37, 3), (40, 70), (3,)], ids=str)
@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_replace_what_they_read(name, shape):
    body = BODIES[name]

    def step(carry, x):
        a, b, s = body(*carry)
        return (a.reshape(shape) + x, b, s), a.sum()

    def function(a, b, s, xs):
        return control.scan(step, (a, b, s), xs)

    agree(function, tensor(shape), tensor(shape, seed=1), torch.tensor(0.5).double(), tensor((5,), seed=2))


def test_the_next_state_is_computed_where_the_present_one_is():
    """The update of Adam with its checks, which would need room for three more tensors if it did not."""

    def step(carry, x):
        p, m, v = carry
        g = p * x
        m1, v1 = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        fine = torch.isfinite(g.sum())
        after = p - m1 / (v1.sqrt() + 1e-3)
        return tuple(torch.where(fine, *each) for each in ((after, p), (m1, m), (v1, v))), g.sum()

    def function(p, m, v, xs):
        return control.scan(step, (p, m, v), xs)

    size = 4096
    p, v = tensor((size,)), tensor((size,), low=0.0, high=1.0)
    compiled = agree(function, p, v - 0.5, v, tensor((5,), seed=3))
    assert compiled.layout.arena_size < 3 * 8 * size


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cond_takes_one_branch(sign):
    def function(x):
        return control.cond(
            x.sum() > 0, lambda a: (a * 2, a.sum(), a), lambda a: (a - 1, a.prod(), a.flip(0)), x
        )

    agree(function, torch.full((7,), sign, dtype=torch.float64))


def test_only_the_taken_branch_is_executed():
    steps = 200_000

    def function(x):
        def body(c):
            heavy = lambda a: torch.linalg.cholesky_ex(a @ a.T + torch.eye(40)).L.sum()  # noqa: E731
            value = control.cond(c[1] < 0, heavy, lambda a: a[0, 0], x)
            return c[0] + 1, c[1] + value

        return control.while_loop(lambda c: c[0] < steps, body, (zero(), torch.zeros(())))

    x = torch.full((40, 40), 1e-3)
    import time

    compiled = compile(capture(function, x), use_disk=False)
    started = time.perf_counter()
    compiled(x)
    # Both branches would take 10 µs a step.
    assert time.perf_counter() - started < 1.0


def test_nested_loops_and_conditions():
    def function(x):
        def outer(c):
            i, v, total = c
            inner = control.while_loop(lambda d: d[0] < i, lambda d: (d[0] + 1, d[1] * 1.1 + x), (zero(), v))
            v = control.cond(i % 2 == 0, lambda a: a * 0.5, lambda a: a + 1.0, inner[1])
            return i + 1, v, total + v.sum()

        return control.while_loop(
            lambda c: c[0] < 6, outer, (zero(), x, torch.zeros((), dtype=torch.float64))
        )

    agree(function, tensor((12,)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 11])
def test_scans_stack_their_results(reverse, length):
    def step(carry, x):
        carry = (carry[0] * 0.9 + x[0], carry[1] + x[1])
        return carry, (carry[0] * 2, x[0].sum() + carry[1].double(), carry[1] > 3)

    def function(init, xs, counts):
        return control.scan(step, (init, zero()), (xs, counts), reverse=reverse)

    agree(function, tensor((3,)), tensor((length, 3)), torch.arange(length))


def test_scan_without_sequence_and_gradient_through_scan():
    agree(lambda x: control.scan(lambda c, _: (c * 1.1, c.sum()), x, length=5), tensor((4,)))

    def gradient(x, xs):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            xs = xs.detach().requires_grad_()
            last, ys = control.scan(lambda c, v: (torch.tanh(c * 0.9 + v), (c * 2).sum()), x, xs)
            return torch.autograd.grad(ys.sum() + last.sum(), [x, xs])

    agree(gradient, tensor((3,)), tensor((200, 3)), rtol=1e-9)


ROWS, WIDTH = 64, 4000


def checkpointing(x):
    """Write one row of a large array each step, through a condition, and read another."""

    def body(c):
        i, rows, v = c
        v = v * 0.99 + 1
        row = (i >> 1) & (ROWS - 1)
        rows = control.cond(
            (i & 1) == 0,
            lambda r, w: r.index_copy(0, row.reshape(1), w.reshape(1, -1)),
            lambda r, w: r,
            rows,
            v,
        )
        return i + 1, rows, v + rows.index_select(0, torch.zeros_like(row).reshape(1)).squeeze(0) * 1e-3

    start = (zero(), torch.zeros(ROWS, WIDTH, dtype=torch.float64), x)
    return control.while_loop(lambda c: c[0] < 40, body, start)


def test_rows_written_through_conditions():
    agree(checkpointing, tensor((WIDTH,)))


def test_arrays_in_the_carry_are_updated_in_place():
    program = capture(checkpointing, tensor((WIDTH,)))
    lowered = lower(program, 8, True)
    # One array in the output; no second one in the workspace.
    assert lowered.layout.arena_size < ROWS * WIDTH * 8 / 2


@pytest.mark.parametrize("update", ["index_put", "select_scatter", "slice_scatter", "scatter", "index_add"])
def test_updates_whose_operand_is_still_read(update):
    def function(x, index):
        def body(c):
            i, a = c
            row = a.index_select(0, i.reshape(1)).squeeze(0) * 2
            if update == "index_put":
                b = a.index_put((i.reshape(1),), row.reshape(1, -1))
            elif update == "select_scatter":
                b = torch.select_scatter(a, row, 0, 1)
            elif update == "slice_scatter":
                b = torch.slice_scatter(a, row.reshape(1, -1) + 1, 0, 2, 3)
            elif update == "scatter":
                b = a.scatter(0, index, row.reshape(1, -1))
            else:
                b = a.index_add(0, i.reshape(1), row.reshape(1, -1))
            return i + 1, b + a.mean() * 0.1

        return control.while_loop(lambda c: c[0] < 4, body, (zero(), x))

    agree(function, tensor((5, 8)), torch.randint(0, 5, (1, 8)))


def test_two_updates_of_one_array():
    def function(x):
        def body(c):
            i, a, b = c
            first = a.index_fill(0, i.reshape(1), 1.0)
            second = a.index_fill(0, i.reshape(1) + 1, 2.0)
            return i + 1, first, second + b

        return control.while_loop(lambda c: c[0] < 4, body, (zero(), x, x * 0))

    agree(function, tensor((6, 30)))


@pytest.mark.parametrize("num", [1, 2, 3, 13, 64, 101])
def test_random_bits_agree_bit_for_bit(num):
    key = random.key(12345678901234567890)

    def function(key):
        return [
            random.random_bits(key, num),
            random.fold_in(key, 7),
            *random.split(key, 3),
            random.random_bits(random.fold_in(key, 2**40), num),
        ]

    agree(function, key)
    agree(lambda key: [random.uniform(key, (num,)), random.normal(key, (num,))], key, rtol=1e-14)


def test_random_numbers_in_loops():
    def function(key):
        def body(c, _):
            noise = random.normal(random.fold_in(key, c[0]), (5,))
            return (c[0] + 1, c[1] + noise), noise

        return control.scan(body, (zero(), torch.zeros(5, dtype=torch.float64)), length=20)

    agree(function, random.key(3), rtol=1e-13)


@pytest.mark.parametrize("target", TARGETS, ids=["host", "plain"])
def test_what_does_not_change_is_computed_once_outside(target):
    def function(x, y):
        def body(c):
            return c[0] + 1, c[1] + torch.lgamma(y).sum() * 1e-9 + torch.exp(y).mean() * 1e-9

        return control.while_loop(lambda c: c[0] < 20_000, body, (zero(), x))

    x, y = tensor(()), tensor((2000,), low=1.0, high=2.0)
    compiled = compile(capture(function, x, y), target, use_disk=False)
    import time

    started = time.perf_counter()
    found = compiled(x, y)[1]
    # Inside the loop it would take 20,000 times 10 µs.
    assert time.perf_counter() - started < 0.1
    expected = x + 20_000 * (torch.lgamma(y).sum() * 1e-9 + torch.exp(y).mean() * 1e-9)
    torch.testing.assert_close(found, expected)


def test_products_in_a_loop_of_views_made_outside():
    def function(x, weight):
        def step(c, _):
            rows = x.flip(1).transpose(0, 1).reshape(200, 12)
            product = rows @ (weight * c)
            return c + product.sum() * 1e-3, (rows.t() @ product).sum()

        return control.scan(step, torch.ones((), dtype=torch.float64), None, length=3)

    agree(function, tensor((20, 10, 12)), tensor((12, 48), seed=1))
