"""Check indexing by tensors, updates and their gradients, and what happens out of bounds."""

import pytest
import torch
from lowering_checks import TARGETS, agree, gradient_of, tensor

from ember.engine.capture import capture
from ember.engine.compile import compile

INDEX = torch.tensor([0, 2, -1, 1, 2, 2, 0, 4, 3, 2])


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 8)], ids=str)
def test_gathers_and_their_gradients(shape):
    def several(x):
        return torch.cat(
            [x[INDEX].flatten(), x.index_select(0, INDEX % 5).flatten(), x[INDEX.reshape(2, 5)].flatten()]
        )

    agree(gradient_of(several), tensor(shape))


def test_indices_in_several_dimensions():
    rows, columns = torch.tensor([[0], [3], [-1]]), torch.tensor([1, 0, 2, 2])

    def several(x, rows, columns):
        return [
            x[rows, columns],
            x[:, columns],
            x[rows, :, columns],
            x[columns[:2], 1:],
            x[..., columns],
            x[rows[0], :, 1],
        ]

    agree(several, tensor((4, 3, 5)), rows, columns)


def test_gather_take_and_embedding():
    index = torch.tensor([[0, 2, 1], [1, 1, 0]])

    def several(x, index):
        return [
            x.gather(1, index),
            x.gather(0, index % 2),
            torch.take(x, index),
            torch.nn.functional.embedding(index, x.t().contiguous()),
            torch.take_along_dim(x, index, 1),
        ]

    agree(several, tensor((2, 3)), index)
    agree(gradient_of(lambda x: x.gather(1, index)), tensor((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64], ids=str)
def test_scatters(dtype):
    index = torch.tensor([[0, 2, 1, 2], [1, 1, 0, 0]])

    def several(x, index, source):
        return [
            x.scatter(1, index, source),
            x.scatter(1, index[:, :2], 5),
            x.scatter_add(1, index, source),
            x.scatter_add(0, index[:, :3] % 2, source[:, :3]),
            x.scatter_reduce(1, index, source, "amax"),
            x.index_add(1, index[0], source, alpha=2),
            x.index_copy(0, torch.tensor([1]), source[:1, :3]),
            x.index_fill(1, torch.tensor([0, 2]), 9),
            x.index_put((index[0] % 2, index[1]), source[0]),
            x.index_put((index[0] % 2, index[1]), source[0], accumulate=True),
            x.index_put((torch.tensor([1]),), source[0, :3]),
        ]

    agree(several, tensor((2, 3), dtype), index, tensor((2, 4), dtype, 5))


@pytest.mark.filterwarnings("ignore:index_reduce.. is in beta")
@pytest.mark.parametrize("reduce", ["sum", "prod", "amax", "amin", "mean"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64], ids=str)
def test_reducing_updates(reduce, include_self, dtype):
    index = torch.tensor([[0, 2, 1, 2], [1, 1, 0, 0]])

    def several(x, source):
        return [
            x.scatter_reduce(1, index, source, reduce, include_self=include_self),
            *(
                []
                if reduce == "sum"
                else [x.index_reduce(1, index[0], source, reduce, include_self=include_self)]
            ),
        ]

    agree(several, tensor((2, 4), dtype), tensor((2, 4), dtype, 5))


def test_long_accumulating_updates():
    index = tensor((1003,), torch.int64, low=0, high=17)

    def several(base, index, values):
        return [base.index_add(0, index, values), base.index_put((index,), values, accumulate=True)]

    agree(several, tensor((17,)), index, tensor((1003,)), rtol=1e-12)


def test_masks_of_known_shape():
    def several(x):
        y = x.clone()
        y[x > 0] = -1.0
        return [y, torch.where(x > 0, x, 0.0).sum()]

    agree(several, tensor((4, 6)))


def out_of_bounds(position):
    index = torch.tensor([0, 1, position])

    def function(x, index):
        return x[index], x.index_add(0, index, torch.ones(3, dtype=torch.float64))

    program = capture(function, tensor((4,)), torch.tensor([0, 1, 2]))
    return program, tensor((4,)), index


@pytest.mark.parametrize("position", [4, -5, 2**40])
@pytest.mark.parametrize("target", TARGETS, ids=["host", "plain"])
def test_indices_out_of_bounds_raise(position, target):
    program, x, index = out_of_bounds(position)
    with pytest.raises(IndexError, match="out of bounds"):
        compile(program, target, use_disk=False)(x, index)


def test_an_error_is_not_remembered_by_the_next_call():
    program, x, index = out_of_bounds(4)
    compiled = compile(program, use_disk=False)
    with pytest.raises(IndexError):
        compiled(x, index)
    good = torch.tensor([0, 1, 3])
    assert torch.equal(compiled(x, good)[0], x[good])
