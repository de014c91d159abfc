"""Check that nothing which depends on the inputs is ever baked into a program silently."""

from __future__ import annotations

import copy
import math
import pickle
import random as python_random
import threading

import numpy as np
import pytest
import torch

from ember.engine.capture import capture
from ember.engine.control import cond, scan, while_loop
from ember.engine.interpret import interpret
from ember.engine.recording.refusal import NotCapturable

OUTSIDE = torch.arange(3.0)


def swallow(x):
    try:
        return x * x.sum().item()
    except Exception:
        return x


def through_a_list(x):
    values = []
    scan(lambda c, y: (values.append(y * 2) or c + y, y), x.sum(), x)
    return values[0]


def through_a_thread(x):
    found = []

    def work():
        try:
            found.append(x * 2)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def swap_data(x):
    y = torch.zeros(3)
    y.data = x
    return y + 1


def write_data(x):
    OUTSIDE.data[0] = x[0]
    return OUTSIDE + 1


def write_outside(x):
    OUTSIDE[0] = x[0]
    return OUTSIDE * 2


def count_outside(x):
    OUTSIDE.add_(1)
    return OUTSIDE * x


def toggle_outside(x):
    OUTSIDE.requires_grad_(True)
    return OUTSIDE * x


def mutate_in_branch(x):
    y = x * 1
    cond(x.sum() > 0, lambda: y.add_(1), lambda: y)
    return y


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * float(x.sum())

    @staticmethod
    def backward(ctx, g):
        return g


REFUSED = {
    "item": lambda x: x * x.sum().item(),
    "float": lambda x: x * float(x.sum()),
    "int": lambda x: x * int(x.sum()),
    "bool": lambda x: x if bool(x.sum() > 0) else -x,
    "branch": lambda x: x if x.sum() > 0 else -x,
    "branch on any": lambda x: x if (x > 0).any() else -x,
    "branch on all": lambda x: x if torch.all(x > 0) else -x,
    "while": lambda x: _halve(x),
    "assert": lambda x: _asserting(x),
    "tensor of float": lambda x: torch.tensor(float(x[0])) + x,
    "tensor of elements": lambda x: torch.tensor([x[0], x[1]]),
    "numpy": lambda x: torch.from_numpy(x.numpy()) * 2,
    "detached numpy": lambda x: torch.from_numpy(x.detach().numpy()) * 2,
    "numpy asarray": lambda x: torch.tensor(np.asarray(x)) * 2,
    "numpy function": lambda x: torch.as_tensor(np.exp(x)),
    "unbound numpy": lambda x: torch.from_numpy(torch.Tensor.numpy(x)),
    "tolist": lambda x: torch.tensor(x.tolist()),
    "unbound tolist": lambda x: torch.tensor(torch.Tensor.tolist(x)),
    "math": lambda x: x * math.exp(x[0]),
    "format": lambda x: x + len(f"{x[0]:.3f}"),
    "data pointer": lambda x: x + x.data_ptr(),
    "storage": lambda x: x + x.untyped_storage()[0],
    "old storage": lambda x: x + x.storage()[0],
    "dlpack": lambda x: torch.from_dlpack(x) * 2,
    "dlpack capsule": lambda x: torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x)) * 2,
    "numpy dlpack": lambda x: torch.from_numpy(np.from_dlpack(x)) * 2,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)) * 2,
    "copy": lambda x: copy.copy(x) * 2,
    "index": lambda x: OUTSIDE[x.long()[0].item()],
    "slice": lambda x: OUTSIDE[: int(x[0])],
    "range": lambda x: sum(range(x.long()[0])) * x,
    "nonzero": lambda x: x.nonzero().sum(),
    "masked_select": lambda x: x.masked_select(x > 0).sum(),
    "mask indexing": lambda x: x[x > 0].sum(),
    "where with one argument": lambda x: torch.where(x > 0)[0],
    "unique": lambda x: torch.unique(x).sum(),
    "bincount": lambda x: torch.bincount(x.long().abs()),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long().abs()),
    "one_hot": lambda x: torch.nn.functional.one_hot(x.long().abs()),
    "full": lambda x: torch.full((2,), x[0]),
    "arange": lambda x: torch.arange(x[0].abs()),
    "equal": lambda x: x * torch.equal(x, OUTSIDE),
    "allclose": lambda x: x * torch.allclose(x, OUTSIDE),
    "membership": lambda x: x * (x[0] in [1.0, 2.0]),
    "maximum of python": lambda x: max(x[0], x[1]),
    "sorted": lambda x: sorted(x)[0],
    "swallowed": swallow,
    "randn": lambda x: x + torch.randn(3),
    "rand_like": lambda x: x + torch.rand_like(x),
    "normal": lambda x: torch.normal(x, 1.0),
    "in-place normal": lambda x: x + torch.empty(3).normal_(),
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()),
    "dropout": lambda x: torch.nn.functional.dropout(x, 0.5, training=True),
    "randperm": lambda x: x[torch.randperm(3)],
    "multinomial": lambda x: torch.multinomial(x.abs(), 1),
    "gamma": lambda x: torch.distributions.Gamma(x.abs() + 1, 1.0).rsample(),
    "distribution": lambda x: torch.distributions.Normal(x, 1.0).sample(),
    "generator": lambda x: x + torch.rand(3, generator=torch.Generator().manual_seed(0)),
    "python random": lambda x: x * python_random.random(),
    "numpy random": lambda x: x * np.random.rand(),
    "validation": lambda x: torch.distributions.Normal(x, x, validate_args=True).log_prob(x),
    "write outside": write_outside,
    "count outside": count_outside,
    "write .data outside": write_data,
    "swap .data": swap_data,
    "toggle outside": toggle_outside,
    "out=": lambda x: torch.add(x, 1, out=OUTSIDE),
    "write input": lambda x: x.mul_(2),
    "write view of input": lambda x: x[0].add_(1),
    "write input's .data": lambda x: x.data.add_(1),
    "resize": lambda x: (x * 1).resize_(2),
    "set": lambda x: torch.zeros(3).set_(x * 2),
    "sparse": lambda x: x.to_sparse().sum(),
    "not a tensor": lambda x: (x, 3.0),
    "an error": lambda x: x + torch.zeros(4),
    "thread": through_a_thread,
    "leak from a region": through_a_list,
    "write in a branch": mutate_in_branch,
    "branch inside a loop": lambda x: while_loop(lambda c: c.sum() < 9, lambda c: c if c[0] > 0 else -c, x),
    "branch inside a function": lambda x: Straight.apply(x),
    "structure of a carry": lambda x: while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1,), (x[0], x[1])),
    "shape of a carry": lambda x: while_loop(lambda c: c.sum() < 3, lambda c: torch.cat([c, c]), x),
    "dtype of a carry": lambda x: scan(lambda c, y: (c.float(), y), x, x)[0],
    "branches of two shapes": lambda x: cond(x.sum() > 0, lambda: x, lambda: x[:1]),
}  # fmt: skip


def _halve(x):
    while x.sum() > 1:
        x = x / 2
    return x


def _asserting(x):
    assert (x > -1e9).all()
    return x


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    OUTSIDE.requires_grad_(False).copy_(torch.arange(3.0))
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refused(name):
    with pytest.raises(NotCapturable):
        capture(REFUSED[name], torch.tensor([0.5, 1.5, -2.0], dtype=torch.float64))
    assert OUTSIDE.tolist() == [0.0, 1.0, 2.0]
    assert not OUTSIDE.requires_grad


def test_refusals_name_the_users_line():
    def model(x):
        y = x * 2
        return y * y.sum().item()

    with pytest.raises(NotCapturable) as caught:
        capture(model, torch.ones(3))
    line = model.__code__.co_firstlineno + 2
    assert caught.value.op == "aten._local_scalar_dense.default"
    assert f"test_refusals.py:{line} in model" in caught.value.where
    assert str(line) in str(caught.value)


def test_errors_of_the_function_name_the_users_line():
    def model(x):
        return {"a": x}["b"]

    with pytest.raises(NotCapturable, match="KeyError") as caught:
        capture(model, torch.ones(3))
    assert "test_refusals.py" in caught.value.where
    assert isinstance(caught.value.__cause__, KeyError)


ALLOWED = {
    "item of a constant": lambda x: x * OUTSIDE.sum().item(),
    "branch on a constant": lambda x: x if OUTSIDE.sum() > 1 else -x,
    "numpy of a constant": lambda x: x * torch.from_numpy((OUTSIDE * 2).numpy()),
    "numpy of a tensor from outside": lambda x: x * torch.from_numpy(OUTSIDE.numpy() * 2),
    "numpy of a view from outside": lambda x: x * torch.tensor(np.asarray(OUTSIDE[1:]).sum()),
    "dlpack of a constant": lambda x: x * torch.from_dlpack(OUTSIDE * 2),
    "deep copy of a tensor from outside": lambda x: x * copy.deepcopy(OUTSIDE),
    "tolist of a constant": lambda x: x * torch.tensor((OUTSIDE * 2).tolist()),
    "mask that is constant": lambda x: x[OUTSIDE > 0] * 2,
    "mask write": lambda x: _masked(x, x > 0),
    "constant mask write": lambda x: _masked(x, OUTSIDE > 0),
    "branch on shape": lambda x: x if x.shape[0] == 3 and x.dim() == 1 and x.dtype == torch.float64 else -x,
    "iteration": lambda x: sum(e * i for i, e in enumerate(x)),
    "unpacking": lambda x: (lambda a, b, c: a * b - c)(*x),
    "empty then written": lambda x: _fill(torch.empty(3), x),
    "constant then written": lambda x: _fill(torch.ones(3), x),
    "tensor of a tensor": lambda x: x.clone().detach() * 2,
    "deep copy": lambda x: copy.deepcopy(x) * 2,
    "data": lambda x: x.data * 2,
    "write to own .data": lambda x: _write_own_data(x),
    "dropout off": lambda x: torch.nn.functional.dropout(x, 0.5, training=False),
    "text": lambda x: x * (len(repr(x)) > 0),
}  # fmt: skip


def _masked(x, mask):
    y = x * 1
    y[mask] = 7.0
    return y


def _fill(y, x):
    for index in range(3):
        y[index] = x[index] * index
    return y


def _write_own_data(x):
    y = x * 3
    y.data[1] = 4.0
    return y


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name):
    fn = ALLOWED[name]
    program = capture(fn, torch.zeros(3, dtype=torch.float64))
    for seed in range(3):
        x = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(interpret(program, x)[0], fn(x), rtol=0, atol=0)


def test_closed_over_parameters_need_a_decision():
    weight = torch.ones(3, requires_grad=True)

    def model(x):
        return (x * weight).sum()

    x = torch.arange(3.0)
    with pytest.raises(NotCapturable, match="requires a gradient"):
        capture(model, x)
    constant = capture(model, x, closed_over="constant")
    lifted = capture(model, x, lift=[weight])
    assert len(constant.inputs) == 1 and len(lifted.inputs) == 2
    other = torch.full((3,), 2.0)
    assert float(interpret(constant, x)[0]) == 3.0
    assert float(interpret(lifted, x, other)[0]) == 6.0


@pytest.mark.parametrize(
    "fn",
    [
        lambda w, x: x * w.sum().item(),
        lambda w, x: x * torch.from_numpy(w.detach().numpy()),
        lambda w, x: x * torch.tensor(w.tolist()),
        lambda w, x: x * w.data_ptr(),
        lambda w, x: x * copy.deepcopy(w),
        lambda w, x: x * torch.from_dlpack(w),
        lambda w, x: w.data.mul_(2) + x,
    ],
)
def test_lifted_tensors_cannot_be_read_either(fn):
    weight = torch.ones(3)
    with pytest.raises(NotCapturable):
        capture(lambda x: fn(weight, x), torch.ones(3), lift=[weight])


def test_views_of_lifted_tensors_are_refused():
    weight = torch.ones(3, 2)
    column = weight[:, 0]
    with pytest.raises(NotCapturable, match="view"):
        capture(lambda x: x * column, torch.ones(3), lift=[weight])


def test_gradients_by_lifted_parameters():
    weight = torch.ones(3, requires_grad=True)

    def model(x):
        return torch.autograd.grad((x * weight.sin()).sum(), weight)

    x = torch.arange(3.0)
    program = capture(model, x, lift=[weight])
    torch.testing.assert_close(interpret(program, x, weight)[0], model(x)[0])


def test_accumulated_gradients_do_not_leak():
    weight = torch.ones(3, requires_grad=True)

    def model(x):
        (x * weight).sum().backward()
        return x

    with pytest.raises(NotCapturable, match="accumulates"):
        capture(model, torch.ones(3), lift=[weight])
    assert weight.grad is None


def test_later_changes_of_outside_tensors_do_not_reach_the_program():
    outside = torch.ones(3)
    program = capture(lambda x: x + outside, torch.zeros(3))
    outside.add_(1)
    assert interpret(program, torch.zeros(3))[0].tolist() == [1.0, 1.0, 1.0]


def test_values_do_not_survive_their_capture():
    kept = []
    capture(lambda x: kept.append(x * 2) or x, torch.zeros(3))
    with pytest.raises(NotCapturable):
        kept[0] + 1
    with pytest.raises(NotCapturable):
        capture(lambda x: x + kept[0], torch.zeros(3))


def test_a_capture_inside_a_capture_is_refused():
    with pytest.raises(NotCapturable, match="inside"):
        capture(lambda x: interpret(capture(lambda y: y * 2, x), x)[0], torch.zeros(3))
