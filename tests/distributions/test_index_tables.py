"""Compare picking from tables by index with gathering from the expanded table."""

import itertools

import pytest
import torch

from ember.distributions.discrete import pick
from ember.distributions.shapes import broadcast_shape


def gathered(table, index):
    shape = broadcast_shape(index.shape, table.shape[:-1])
    expanded = table.expand(shape + table.shape[-1:])
    return expanded.gather(-1, index.expand(shape).unsqueeze(-1)).squeeze(-1)


def shapes(longest):
    return [each for length in range(longest + 1) for each in itertools.product((1, 2, 3), repeat=length)]


@pytest.mark.parametrize("batch", shapes(3), ids=str)
def test_every_pair_of_shapes(batch):
    for shape in shapes(2):
        try:
            broadcast_shape(batch, shape)
        except ValueError:
            continue
        table, index = torch.randn(*batch, 4, requires_grad=True), torch.randint(4, shape)
        found, expected = pick(table, index), gathered(table, index)
        assert torch.equal(found, expected), (batch, shape)
        weights = torch.randn(expected.shape)
        gradients = [torch.autograd.grad((each * weights).sum(), table)[0] for each in (found, expected)]
        torch.testing.assert_close(*gradients)
