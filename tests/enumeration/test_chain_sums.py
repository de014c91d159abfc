"""Check the sums of long chains in loops against the same sums over halves of halves, extremes included."""

import math

import pytest
import torch

from ember import engine
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.poutine.elimination.chain_sums import Loops
from ember.poutine.elimination.factors import Factor, Variable
from ember.poutine.elimination.rows import Rows
from ember.poutine.elimination.sum_product import eliminate, total


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_logs(*shape, seed=0, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Counted:
    """The engine's control flow, with a record of what was taken."""

    def __init__(self, cost):
        self.scans, self.exact = [], False
        self.loops = Loops(self.scan, self.cond, lambda: cost)

    def scan(self, step, init, xs, length):
        self.scans.append(length)
        return engine.scan(step, init, xs, length)

    def cond(self, predicate, if_true, if_false):
        if not engine.control.capturing():
            self.exact = not bool(predicate)
        return engine.cond(predicate, if_true, if_false)


def evidence(factors, count, loops=None, names=(), scale=1.0):
    variables = {v: Variable(v, f"x{v}", frozenset(names), scale) for v in range(count)}
    left, _ = eliminate(factors, variables, loops=loops)
    return total(left)


def chain(start, transition, emission):
    """Factors of one chain: start [K], transition [K, K] or [T - 1, K, K], emission [T, K]."""
    steps = len(emission)
    pairs = tuple((t, t + 1) for t in range(steps - 1))
    moves = transition.unsqueeze(-1) if transition.ndim == 2 else transition.movedim(0, -1)
    return [
        Factor((0,), start, frozenset()),
        Rows(moves, pairs, ()),
        Rows(emission.T, tuple((t,) for t in range(steps)), ()),
    ]


def check(make, leaves, count, *, cost=400, exact=None, **options):
    """Compare loops with the tree: value and gradient, eagerly and captured."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    expected = evidence(make(*leaves), count, **options)
    gradients = torch.autograd.grad(expected, leaves)
    counted = Counted(cost)
    actual = evidence(make(*leaves), count, counted.loops, **options)
    assert counted.scans, "no chain was found"
    torch.testing.assert_close(actual, expected)
    found = torch.autograd.grad(actual, leaves)
    torch.testing.assert_close(found, gradients)
    assert all(each.isfinite().all() for each in found)
    if exact is not None:
        assert counted.exact == exact

    def both(*values):
        values = [value.detach().requires_grad_() for value in values]
        result = evidence(make(*values), count, counted.loops, **options)
        return result.detach(), *torch.autograd.grad(result, values)

    values = [leaf.detach() for leaf in leaves]
    captured = interpret(capture(both, *values), *values)
    torch.testing.assert_close(tuple(captured), (expected.detach(), *gradients))
    return counted


@pytest.mark.parametrize("steps", [40, 67])
@pytest.mark.parametrize("states", [2, 5])
@pytest.mark.parametrize("cost", [0, 400, 100_000])
def test_chain_of_shared_transitions(states, steps, cost):
    leaves = (
        random_logs(states).log_softmax(0),
        random_logs(states, states, seed=1).log_softmax(-1),
        random_logs(steps, states, seed=2, spread=10.0),
    )
    counted = check(chain, leaves, steps, cost=cost, exact=False)
    assert len(counted.scans) <= 4 * 2


def test_transitions_that_vary():
    leaves = random_logs(3), random_logs(49, 3, 3, seed=1), random_logs(50, 3, seed=2)
    check(chain, leaves, 50, exact=False)


def test_scaled_chain():
    leaves = random_logs(3), random_logs(3, 3, seed=1), random_logs(40, 3, seed=2)

    def make(*tensors):
        return [each._replace(scale=2.5) for each in chain(*tensors)]

    check(make, leaves, 40, scale=2.5)


def left_to_right(states, stay):
    moves = torch.full((states, states), -math.inf)
    for state in range(states):
        moves[state, state] = math.log(stay)
        if state + 1 < states:
            moves[state, state + 1] = math.log(1 - stay)
    moves[-1, -1] = 0.0
    return moves


@pytest.mark.parametrize("steps", [60, 400])
def test_states_that_are_left_for_good(steps):
    """What stays behind becomes too small to be held, which does not matter."""
    emission = random_logs(steps, 3)
    emission[: steps // 3, 1:] -= 8.0
    emission[2 * steps // 3 :, :2] -= 8.0
    start = torch.tensor([0.0, -math.inf, -math.inf])
    counted = check(chain, (start, left_to_right(3, 0.9), emission), steps)
    assert not counted.exact


def test_states_far_apart():
    emission = -0.5 * ((random_logs(80, 1) > 0).double() - torch.arange(2.0)) ** 2 / 1e-4**2
    moves = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    check(chain, (random_logs(2), moves, emission), 80, exact=False)


@pytest.mark.parametrize("cost", [0, 400])
def test_small_numbers_that_matter_later(cost):
    """Of two states that cannot be left, one is impossible by far at first, and the other one later."""
    emission = torch.zeros(64, 2)
    emission[:20, 0] = -150.0
    emission[40:, 1] = -170.0
    emission += 0.1 * random_logs(64, 2)
    moves = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    check(chain, (torch.zeros(2), moves, emission), 64, cost=cost, exact=True)


def test_one_way_only():
    """Every path but one is impossible, and that one is improbable."""
    emission = torch.full((50, 2), -1000.0)
    moves = torch.tensor([[-math.inf, -700.0], [-800.0, -math.inf]])
    start = torch.tensor([0.0, -math.inf])
    check(chain, (start, moves, emission), 50)


@pytest.mark.parametrize("cost", [0, 400])
def test_impossible_chain(cost):
    emission = random_logs(40, 2)
    emission[20] = -math.inf
    check(chain, (random_logs(2), random_logs(2, 2), emission), 40, cost=cost, exact=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none(value):
    emission = random_logs(40, 2)
    emission[20] = value
    factors = chain(random_logs(2), random_logs(2, 2), emission)
    assert not evidence(factors, 40, Counted(400).loops).isfinite()


def test_second_order():
    steps = 45

    def make(start, table, emission):
        return [
            Factor((0, 1), start, frozenset()),
            Rows(table.unsqueeze(-1), tuple((t, t + 1, t + 2) for t in range(steps - 2)), ()),
            Rows(emission.T, tuple((t,) for t in range(steps)), ()),
        ]

    leaves = random_logs(2, 2), random_logs(2, 2, 2, seed=1), random_logs(steps, 2, seed=2)
    for cost in (0, 400):
        check(make, leaves, steps, cost=cost)


def test_coupled_chains_with_a_variable_that_all_depend_on():
    """Two variables a step, x and y, and one before all of which the moves depend."""
    steps = 30

    def make(first, moves, others, emission):
        xs, ys = [1 + 2 * t for t in range(steps)], [2 + 2 * t for t in range(steps)]
        return [
            Factor((0,), first[:, 0], frozenset()),
            Factor((0, 1), first, frozenset()),
            Factor((2,), first[0], frozenset()),
            Rows(moves.unsqueeze(-1), tuple((0, xs[t], ys[t], xs[t + 1]) for t in range(steps - 1)), ()),
            Rows(others.unsqueeze(-1), tuple((xs[t], ys[t], ys[t + 1]) for t in range(steps - 1)), ()),
            Rows(emission.movedim(0, -1), tuple(zip(xs, ys, strict=True)), ()),
        ]

    leaves = (
        random_logs(3, 2),
        random_logs(3, 2, 2, 2, seed=1),
        random_logs(2, 2, 2, seed=2),
        random_logs(steps, 2, 2, seed=3),
    )
    for cost in (0, 400):
        check(make, leaves, 1 + 2 * steps, cost=cost)


def test_chains_in_a_plate():
    steps = 40

    def make(start, moves, emission):
        rows = tuple((t,) for t in range(steps))
        pairs = tuple((t, t + 1) for t in range(steps - 1))
        return [
            Factor((0, "p"), start, frozenset("p")),
            Rows(moves[..., None, None].expand(3, 3, 5, 1), pairs, ("p",)),
            Rows(emission, rows, ("p",)),
        ]

    leaves = random_logs(3, 5), random_logs(3, 3, seed=1), random_logs(3, 5, steps, seed=2)
    for cost in (0, 400):
        check(make, leaves, steps, cost=cost, names=("p",))


def test_factor_at_the_end():
    """The last variable is in a factor of its own, which decides for what was all but impossible."""

    def make(start, moves, emission, end):
        return [*chain(start, moves, emission), Factor((39, 40), end, frozenset())]

    moves = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    emission = torch.tensor([0.0, -50.0]).expand(40, 2)
    end = torch.tensor([[-3000.0, -3000.0], [0.0, 0.0]])
    for cost in (0, 400):
        check(make, (torch.zeros(2), moves, emission, end), 41, cost=cost, exact=True)


def test_a_ring_is_no_chain():
    """A factor joins the first and the last variable: no loop, and the same result as without."""
    leaves = random_logs(3), random_logs(3, 3, seed=1), random_logs(40, 3, seed=2)
    factors = [*chain(*leaves), Factor((0, 39), random_logs(3, 3, seed=4), frozenset())]
    counted = Counted(400)
    torch.testing.assert_close(evidence(factors, 40, counted.loops), evidence(factors, 40))
    assert not counted.scans


@pytest.mark.parametrize("lengths", [(40, 40, 40, 40, 40), (60, 25)])
def test_several_chains(lengths):
    """Sequences one after the other: a loop for each, or for a long one and the tree for the rest."""
    begins = [sum(lengths[:number]) for number in range(len(lengths))]
    count = sum(lengths)

    def make(start, moves, emission):
        pairs = tuple((v, v + 1) for v in range(count) if v + 1 not in (*begins, count))
        return [
            Rows(start.unsqueeze(-1), tuple((v,) for v in begins), ()),
            Rows(moves.unsqueeze(-1), pairs, ()),
            Rows(emission.T, tuple((v,) for v in range(count)), ()),
        ]

    leaves = random_logs(3), random_logs(3, 3, seed=1), random_logs(count, 3, seed=2)
    one_by_one = sum(
        evidence(chain(leaves[0], leaves[1], part), len(part)) for part in leaves[2].split(list(lengths))
    )
    torch.testing.assert_close(evidence(make(*leaves), count), one_by_one)
    counted = Counted(0)
    evidence(make(*leaves), count, counted.loops)
    assert len(counted.scans) == len(lengths)
    check(make, leaves, count)
