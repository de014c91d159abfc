"""Check views and in-place operations against eager torch on generated programs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.engine.passes.simplify import simplify
from ember.engine.recording.refusal import NotCapturable


def _slice(t, a, b):
    dim = a % max(t.dim(), 1)
    return t.narrow(dim, b % t.shape[dim], 1 + (a + b) % (t.shape[dim] - b % t.shape[dim])) if t.dim() else t


def _strided(t, a, b):
    if t.dim() == 0 or t.numel() == 0:
        return t
    base = t if t._base is None else t._base
    count = 1 + a % base.numel()
    return base.as_strided((count,), (1,), min(b, base.numel() - count))


def _overlapping(t, a, b):
    return any(stride == 0 and size > 1 for stride, size in zip(t.stride(), t.shape, strict=True))


VIEWS = {
    "select": lambda t, a, b: t.select(a % t.dim(), b % t.shape[a % t.dim()]) if t.dim() else t,
    "slice": _slice,
    "step": lambda t, a, b: t[:: 1 + a % 2] if t.dim() else t,
    "transpose": lambda t, a, b: t.transpose(a % t.dim(), b % t.dim()) if t.dim() else t,
    "permute": lambda t, a, b: t.permute(*range(t.dim())[::-1]) if t.dim() else t,
    "t": lambda t, a, b: t.t() if t.dim() <= 2 else t,
    "unsqueeze": lambda t, a, b: t.unsqueeze(a % (t.dim() + 1)) if t.dim() < 4 else t,
    "squeeze": lambda t, a, b: t.squeeze(),
    "reshape": lambda t, a, b: t.reshape(-1),
    "flatten": lambda t, a, b: t.flatten(),
    "diagonal": lambda t, a, b: t.diagonal(a % 2) if t.dim() >= 2 and t.diagonal(a % 2).numel() else t,
    "expand": lambda t, a, b: t.unsqueeze(0).expand(2, *t.shape) if t.dim() < 4 else t,
    "unbind": lambda t, a, b: t.unbind(0)[b % t.shape[0]] if t.dim() else t,
    "split": lambda t, a, b: t.split(1 + a % 2, -1)[0] if t.dim() else t,
    "chunk": lambda t, a, b: t.chunk(2, 0)[-1] if t.dim() else t,
    "unfold": lambda t, a, b: t.unfold(0, min(2, t.shape[0]), 1) if t.dim() and t.dim() < 4 else t,
    "detach": lambda t, a, b: t.detach(),
    "view_as": lambda t, a, b: t.view_as(t),
    "as_strided": _strided,
    "data": lambda t, a, b: t.data,
    "moved": lambda t, a, b: t.movedim(0, -1) if t.dim() else t,
}
WRITES = {
    "add_": lambda t, other, a: t.add_(other.sum() + a),
    "mul_": lambda t, other, a: t.mul_(other.mean()),
    "copy_": lambda t, other, a: t.copy_(other.reshape(-1)[0]),
    "copy_whole": lambda t, other, a: t.copy_(other) if other.shape == t.shape else t.zero_(),
    "zero_": lambda t, other, a: t.zero_(),
    "fill_": lambda t, other, a: t.fill_(a),
    "fill_traced": lambda t, other, a: t.fill_(other.sum()),
    "sin_": lambda t, other, a: t.sin_(),
    "setitem": lambda t, other, a: t.__setitem__(..., other.max()),
    "setitem_first": lambda t, other, a: t.__setitem__(0, other.max()) if t.dim() else t.neg_(),
    "mask": lambda t, other, a: t.__setitem__(t > 0.5, 0.25) if t.dim() else t.neg_(),
    "masked_fill_": lambda t, other, a: t.masked_fill_(t > 0, -0.5),
    "index": lambda t, other, a: t.__setitem__(torch.tensor([0]), other.sum()) if t.dim() else t.add_(1),
    "index_add_": lambda t, other, a: t.index_add_(0, torch.tensor([0]), t[:1] * 2) if t.dim() else t.add_(1),
    "clamp_": lambda t, other, a: t.clamp_(-1, 1),
    "relu_": lambda t, other, a: torch.relu_(t),
    "exponent": lambda t, other, a: t.clamp_(-1, 1).exp_(),
    "addcmul_": lambda t, other, a: t.addcmul_(other.sum(), other.mean()),
    "lerp_": lambda t, other, a: t.lerp_(other.sum().expand(t.shape), 0.3),
    "floor_divide": lambda t, other, a: t.sub_(t.floor()),
}
steps = st.lists(
    st.tuples(
        st.sampled_from(["view"] * 3 + ["write"] * 3 + ["compute", "constant"]),
        st.sampled_from(sorted(VIEWS)),
        st.sampled_from(sorted(WRITES)),
        st.integers(0, 7),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=10,
)


def captured(function, script, x):
    """Capture a script, or return None if it writes through an expanded tensor, which captures refuse."""
    try:
        return capture(function, x)
    except NotCapturable as refused:
        assert "a write through this kind of view" in str(refused) and "aten.expand" in str(refused)
        assert "expand" in {view for kind, view, *_ in script if kind == "view"}
        return None


def run(script, x):
    tensors = [x * 1.0]
    for kind, view, write, a, b in script:
        chosen, other = tensors[a % len(tensors)], tensors[b % len(tensors)]
        if kind == "view":
            tensors.append(VIEWS[view](chosen, a, b))
        elif kind == "compute":
            tensors.append(chosen * 0.5 + other.sum())
        elif kind == "constant":
            tensors.append(torch.full((2, 3), 0.1 * (a + 1)))
        elif not _overlapping(chosen, a, b) and "unfold" not in {v for k, v, *_ in script if k == "view"}:
            WRITES[write](chosen, other.detach().clone(), 0.1 * a)
    return tensors


@settings(max_examples=150, deadline=None)
@given(script=steps, shape=st.sampled_from([(4,), (2, 3), (3, 3), (2, 1, 3), ()]))
def test_views_and_writes(script, shape):
    x = torch.linspace(-1, 1, max(torch.Size(shape).numel(), 1)).reshape(shape)
    try:
        expected = run(script, x)
    except RuntimeError:
        return  # torch refuses the script itself
    program = captured(lambda x: run(script, x), script, x)
    if program is None:
        return
    assert not any(node.op.split(".")[1].endswith("_") for node in program.nodes)
    for candidate in (program, simplify(program)):
        for one, other in zip(interpret(candidate, x), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, check_stride=False)


@settings(max_examples=60, deadline=None)
@given(script=steps, shape=st.sampled_from([(4,), (2, 3), (3, 3)]))
def test_gradients_through_views_and_writes(script, shape):
    x = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)

    def gradient(x):
        x = x.detach().requires_grad_()
        total = sum((each * each).sum() for each in run(script, x))
        return torch.autograd.grad(total, x)

    try:
        expected = gradient(x)
    except RuntimeError:
        return  # torch refuses the script itself
    program = captured(gradient, script, x)
    if program is None:
        return
    for candidate in (program, simplify(program)):
        torch.testing.assert_close(
            interpret(candidate, x), expected, rtol=1e-4, atol=1e-4, check_stride=False
        )


def _base_sees_view(x):
    y = x * 1
    y[0].add_(5)
    return y


def _view_sees_base(x):
    y = x * 1
    view = y[1:]
    y.mul_(3)
    return view


def _view_sees_view(x):
    y = x * 1
    first, second = y.view(-1), y.t()
    first[1] = 9
    return second


def _write_twice(x):
    y = torch.zeros(2, 3)
    y[0], y[1] = x[1], x[0]
    y[:, 1] += y[:, 0]
    return y


def _constant_view_becomes_traced(x):
    y = torch.zeros(4)
    view = y[1:3]
    y[2] = x[0, 0]
    return view * 2, y


def _chunks(x):
    a, b, c = (x * 1).unbind(1)
    a.add_(b)
    return a, b, c


def _swap(x):
    y = x * 1
    y[0], y[1] = y[1].clone(), y[0].clone()
    return y


def _own_transpose(x):
    y = x[:, :2] * 1
    y += y.t().clone()
    return y


def _copy_into_slice(x):
    y = torch.empty(2, 2, 3)
    y[1, :, ::2] = x[:, :2]
    y[0].copy_(x)
    y[1, :, 1] = -1
    return y


def _reshape_copies(x):
    y = (x * 1).t()
    flat = y.reshape(-1)  # a copy, since y is not contiguous
    flat.add_(10)
    return y, flat


def _contiguous_aliases(x):
    y = x * 1
    y.contiguous().add_(1)
    return y


def _accumulate(x):
    y = x * 1
    y.index_put_((torch.tensor([0, 0]),), torch.ones(3), accumulate=True)
    return y


def _loop(x):
    y = torch.zeros(5)
    y[0] = x[0, 0]
    for index in range(1, 5):
        y[index] = 0.5 * y[index - 1] + x[0, 1]
    return y


def _diagonal(x):
    y = torch.zeros(3, 3)
    y.diagonal().copy_(x[0])
    y.diagonal(1)[0] = x[1, 0]
    return y


def _triangle(x):
    y = torch.zeros(3, 3)
    rows, columns = torch.tril_indices(3, 3)
    y[rows, columns] = x.reshape(-1)
    return y @ y.mT


@pytest.mark.parametrize(
    "fn",
    [
        _base_sees_view, _view_sees_base, _view_sees_view, _write_twice, _constant_view_becomes_traced,
        _chunks, _swap, _own_transpose, _copy_into_slice, _reshape_copies, _contiguous_aliases, _accumulate,
        _loop, _diagonal, _triangle,
    ],
)  # fmt: skip
def test_aliases(fn):
    x = torch.arange(6.0).reshape(2, 3) + 1
    expected = fn(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    program = capture(fn, torch.zeros(2, 3))
    for candidate in (program, simplify(program)):
        for one, other in zip(interpret(candidate, x), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, check_stride=False)


def test_strides_of_the_example_count():
    x = torch.arange(6.0).reshape(3, 2).t()
    program = capture(lambda x: x.reshape(-1).add_(1) if x.is_contiguous() else x * 2, x)
    torch.testing.assert_close(interpret(program, x)[0], x * 2)
