"""Check that like computations are found, done again all at once, and told apart where they differ."""

import pytest
import torch

from ember.ops.indexing import Vindex
from ember.poutine.elimination.provenance import Provenance

DATA = torch.arange(24.0).reshape(4, 6)
TABLE = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
NET = torch.nn.Linear(6, 3)
STATE = torch.tensor([[2], [0]])
LENGTHS = torch.tensor([3, 1, 4, 2])


def recurrence(t):
    h = torch.zeros(6)
    for _ in range(t):
        h = (h + 1).tanh()
    return h


CASES = {
    "row": lambda t: DATA[t],
    "negative row": lambda t: DATA[t - 4],
    "column": lambda t: DATA[:, t],
    "last dim": lambda t: DATA[..., t],
    "element": lambda t: DATA[t, 2],
    "new dim": lambda t: DATA[None, t, 1:3],
    "row and states": lambda t: DATA[t, STATE],
    "function of a row": lambda t: torch.softmax(DATA[t] * 2 - 1, -1).log(),
    "network": lambda t: NET(DATA[t]),
    "network of history": lambda t: torch.sigmoid(NET(torch.cat([DATA[t, :3], DATA[t - 1, :3]]))),
    "vindex": lambda t: Vindex(TABLE)[STATE, DATA[t].long() % 6],
    "vindex of a number": lambda t: Vindex(TABLE)[STATE, t],
    "comparison": lambda t: (t < LENGTHS).unsqueeze(-1),
    "arithmetic": lambda t: DATA[t] * t + 0.5 * t,
    "same": lambda t: TABLE.exp(),
    "two kinds": lambda t: TABLE.exp() if t % 2 else TABLE.tanh(),
    "different functions": lambda t: TABLE.exp() if t else TABLE.tanh(),
    "recurrence": recurrence,
    "several results": lambda t: DATA[t].sort()[0],
    "split": lambda t: DATA[t].split(3)[1],
    "unlike shapes inside": lambda t: DATA[:, : t + 1].sum(-1),
    "without gradient": lambda t: TABLE[t].detach() if t else TABLE[t],
    "constants": lambda t: torch.tensor([float(t), 1.0]),
    "float numbers": lambda t: DATA.long() + 0.5 * t,
}


@pytest.mark.parametrize("case", CASES)
def test_stack(case):
    with Provenance() as provenance:
        tensors = [CASES[case](t) for t in range(4)]
    stacked, varies = provenance.stack(tensors)
    expected = torch.stack(tensors)
    actual = stacked if varies else stacked.expand_as(expected)
    torch.testing.assert_close(actual, expected)
    assert stacked.dtype == tensors[0].dtype


@pytest.mark.parametrize("case", ["network", "vindex", "arithmetic", "recurrence", "network of history"])
def test_gradient(case):
    leaves = [TABLE.requires_grad_(), *NET.parameters()]
    with Provenance() as provenance:
        tensors = [CASES[case](t) for t in range(4)]
    stacked, _ = provenance.stack(tensors)
    weights = torch.randn(stacked.shape, generator=torch.Generator().manual_seed(1))
    expected = torch.stack(tensors)
    if not expected.requires_grad:
        assert not stacked.requires_grad
        return
    actual = torch.autograd.grad((stacked * weights).sum(), leaves, allow_unused=True)
    torch.testing.assert_close(
        actual, torch.autograd.grad((expected * weights).sum(), leaves, allow_unused=True)
    )


def number_of(*calls):
    with Provenance() as provenance:
        return [provenance.number(call()) for call in calls]


def test_equal_calls_have_equal_numbers():
    first, second = number_of(lambda: TABLE[0].exp(), lambda: TABLE[0].exp())
    assert first == second


@pytest.mark.parametrize(
    "other", [lambda: TABLE + 1.0, lambda: TABLE + True, lambda: TABLE - 1, lambda: TABLE * 1]
)
def test_unequal_calls_have_different_numbers(other):
    first, second = number_of(lambda: TABLE + 1, other)
    assert first != second


def test_draws_are_never_the_same():
    p = torch.full((3,), 0.5)
    first, second = number_of(lambda: torch.bernoulli(p), lambda: torch.bernoulli(p))
    assert first != second


def test_what_is_written_to_is_another_tensor():
    source = torch.zeros(4, 3)
    with Provenance() as provenance:
        rows = []
        for t in range(4):
            rows.append(source[t] * 2)
            source += 1
        late = source[0] * 2
    assert len({provenance.number(row) for row in [*rows, late]}) == 5
    torch.testing.assert_close(provenance.stack(rows)[0], torch.stack(rows))


def test_views_that_are_written_to():
    with Provenance() as provenance:
        rows = []
        for t in range(4):
            row = DATA[0].clone()
            row[t] = -1.0
            rows.append(row)
    torch.testing.assert_close(provenance.stack(rows)[0], torch.stack(rows))
