"""Check what a run may rely on: determinism, chunking, evaluation counts, and being capturable."""

import contextlib
from functools import partial

import kernel_targets as targets
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ember.engine import control, random
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.kernels import chain, hmc, metric, nuts, random_walk
from ember.kernels.warmup import Adaptation

ADAPTATIONS = [
    Adaptation(metric="diagonal", scheme="stan"),
    Adaptation(metric="dense", scheme="stan"),
    Adaptation(metric="diagonal", scheme="mixed"),
    Adaptation(metric="diagonal", scheme="fisher"),
    Adaptation(metric="dense", scheme="fisher", blocks=((0, 1), (2, 3))),
    Adaptation(metric="low_rank", scheme="fisher", rank=2),
]
IDS = [f"{each.scheme}-{each.metric}" for each in ADAPTATIONS]
TARGET = targets.correlated(dimension=4, seed=9)


def start(adaptation, seed=0, density=TARGET.density):
    return chain.init(random.key(seed), density, torch.full((4,), 0.3, dtype=torch.float64), adaptation)


def equal(one, other):
    one, other = tree_flatten(one), tree_flatten(other)
    return one[1] == other[1] and all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))


@pytest.mark.parametrize("adaptation", ADAPTATIONS, ids=IDS)
def test_chunks_equal_one_long_run(adaptation):
    schedule = adaptation.schedule(40)
    whole, warm = chain.run_warmup(TARGET.density, nuts.step, adaptation, start(adaptation), schedule)
    whole, draws = chain.run_sampling(TARGET.density, nuts.step, whole, 12)
    pieces, state = [], start(adaptation)
    for first, last in ((0, 7), (7, 35), (35, 40)):
        rows = schedule.rows(first, last)
        state, piece = chain.run_warmup(TARGET.density, nuts.step, adaptation, state, rows)
        pieces.append(piece)
    assert equal(tree_map(lambda *each: torch.cat(each), *pieces), warm)
    pieces = []
    for number in (1, 11):
        state, piece = chain.run_sampling(TARGET.density, nuts.step, state, number)
        pieces.append(piece)
    assert equal(tree_map(lambda *each: torch.cat(each), *pieces), draws)
    assert equal(state, whole)
    assert int(state.draw) == 52


@pytest.mark.parametrize("step", [nuts.step, partial(hmc.step, num_steps=3)], ids=["nuts", "hmc"])
def test_draws_depend_on_the_key_alone(step):
    def run(seed):
        return chain.run_sampling(TARGET.density, step, start(Adaptation(), seed), 10)[1]

    torch.manual_seed(1)
    one = run(4)
    torch.manual_seed(2)
    assert equal(run(4), one)
    assert not torch.equal(run(5).position, one.position)


def test_every_leapfrog_evaluates_the_density_once():
    counted = targets.Counter(TARGET.density)
    state = nuts.init(counted, torch.zeros(4, dtype=torch.float64))
    assert counted.calls == 1
    adaptation = Adaptation(adapt_step_size=False)
    state = start(adaptation, density=counted)
    assert counted.calls == 2
    state, warm = chain.run_warmup(counted, nuts.step, adaptation, state, adaptation.schedule(20))
    _, draws = chain.run_sampling(counted, nuts.step, state, 10)
    assert counted.calls == 2 + int(warm.info.num_leapfrogs.sum() + draws.info.num_leapfrogs.sum())


def test_random_walk_evaluates_the_density_once_a_step():
    counted = targets.Counter(TARGET.density)
    state = random_walk.init(counted, torch.zeros(4, dtype=torch.float64))
    unit, size = metric.diagonal(torch.ones_like(state.position)), torch.tensor(0.1, dtype=torch.float64)
    for number in range(5):
        state, _ = random_walk.step(random.key(number), counted, state, size, unit)
    assert counted.calls == 6


def test_info_describes_the_new_position():
    state = start(Adaptation())
    for number in range(5):
        new, info = nuts.step(random.key(number), TARGET.density, state.state, state.step_size, state.metric)
        log_density, gradient = TARGET.density(new.position)
        assert torch.equal(info.log_density, new.log_density)
        torch.testing.assert_close(new.log_density, log_density)
        torch.testing.assert_close(new.gradient, gradient)
        assert float(info.energy) >= -float(log_density)
        assert float(info.step_size) == float(state.step_size)


class Reads(TorchDispatchMode):
    """Refuse to read a tensor's value in Python, except where control flow does."""

    def __init__(self):
        super().__init__()
        self.allowed = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default and not self.allowed:
            raise AssertionError("a kernel read the value of a tensor")
        return function(*args, **(kwargs or {}))


class Watcher:
    """Run control flow eagerly, and check that regions keep structure, shapes and dtypes."""

    def __init__(self, reads):
        self.reads = reads

    def value(self, predicate):
        assert predicate.dtype == torch.bool and predicate.shape == ()
        self.reads.allowed = True
        result = bool(predicate)
        self.reads.allowed = False
        return result

    @staticmethod
    def same(one, other):
        one, other = tree_flatten(one), tree_flatten(other)
        assert one[1] == other[1]
        for a, b in zip(one[0], other[0], strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)

    def while_loop(self, condition, body, init):
        carry = init
        while self.value(condition(carry)):
            following = body(carry)
            self.same(carry, following)
            carry = following
        return carry

    def cond(self, predicate, if_true, if_false, operands):
        taken, other = (if_true, if_false) if self.value(predicate) else (if_false, if_true)
        result = taken(*operands)
        with contextlib.suppress(IndexError):  # the other may rely on the predicate for rows to be there
            self.same(result, other(*operands))
        return result

    def scan(self, step, init, xs, length, reverse):
        carry, ys = init, []
        for index in range(length):
            x = None if xs is None else tree_map(lambda leaf: leaf.select(0, index), xs)  # noqa: B023
            following, y = step(carry, x)
            self.same(carry, following)
            carry = following
            ys.append(y)
        return carry, tree_map(lambda *each: torch.stack(each), *ys)


@contextlib.contextmanager
def watched():
    reads = Reads()
    token = control.active_recorder.set(Watcher(reads))
    try:
        with reads:
            yield
    finally:
        control.active_recorder.reset(token)


@pytest.mark.parametrize("adaptation", ADAPTATIONS, ids=IDS)
def test_runs_can_be_captured(adaptation):
    schedule = adaptation.schedule(20)
    plain, _ = chain.run_warmup(TARGET.density, nuts.step, adaptation, start(adaptation), schedule)
    plain, draws = chain.run_sampling(TARGET.density, nuts.step, plain, 2)
    with watched():
        state, _ = chain.run_warmup(TARGET.density, nuts.step, adaptation, start(adaptation), schedule)
        state, again = chain.run_sampling(TARGET.density, nuts.step, state, 2)
    assert equal(again, draws) and equal(state, plain)


@pytest.mark.parametrize("adaptation", ADAPTATIONS, ids=IDS)
def test_a_captured_run_gives_the_same_draws(adaptation):
    inputs, structure = tree_flatten(
        (random.key(3), torch.full((4,), 0.3, dtype=torch.float64), adaptation.schedule(12))
    )

    def run(*tensors):
        key, position, schedule = tree_unflatten(list(tensors), structure)
        state = chain.init(key, TARGET.density, position, adaptation)
        state, warm = chain.run_warmup(TARGET.density, nuts.step, adaptation, state, schedule)
        return state, warm, chain.run_sampling(TARGET.density, nuts.step, state, 3)[1]

    program = capture(run, *inputs)
    # A transition is captured once for warmup and once for sampling, however many draws there are.
    assert program.num_operations() < 1000
    captured, eager = interpret(program, *inputs), tree_flatten(run(*inputs))[0]
    assert len(captured) == len(eager)
    for one, other in zip(captured, eager, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("options", [{"num_steps": 3}, {"trajectory_length": 1.0}])
def test_other_kernels_can_be_captured(options):
    state = start(Adaptation())
    with watched():
        new, _ = hmc.step(
            random.key(1), TARGET.density, state.state, state.step_size, state.metric, **options
        )
        walk = random_walk.init(TARGET.density, new.position)
        walk, info = random_walk.step(random.key(2), TARGET.density, walk, state.step_size, state.metric)
    assert bool(info.accepted) == (not torch.equal(walk.position, new.position))


def test_the_watcher_sees_reads():
    with pytest.raises(AssertionError, match="read the value"), watched():
        torch.ones(()).item()
