"""Check reductions and cumulative operations against eager torch."""

import itertools
import math

import pytest
import torch
from lowering_checks import agree, gradient_of, tensor

SIZES = [(5,), (64,), (100,), (3, 4), (40, 7), (7, 40), (2, 3, 4), (1, 9, 1), (6, 1, 20)]
REDUCTIONS = {
    "sum": lambda x, d: x.sum(d),
    "mean": lambda x, d: x.mean(d),
    "prod": lambda x, d: (x * 0.3).prod(d),
    "amax": lambda x, d: x.amax(d),
    "amin": lambda x, d: x.amin(d, keepdim=True),
    "var": lambda x, d: x.var(d, correction=1 if x.shape[d] > 1 else 0),
    "std": lambda x, d: x.std(d, unbiased=False),
    "logsumexp": lambda x, d: torch.logsumexp(x, d),
    "softmax": lambda x, d: torch.softmax(x, d),
    "log_softmax": lambda x, d: torch.log_softmax(x, d),
    "cumsum": lambda x, d: x.cumsum(d),
    "cumprod": lambda x, d: (x * 0.5).cumprod(d),
    "logcumsumexp": lambda x, d: torch.logcumsumexp(x, d),
    "norm": lambda x, d: torch.linalg.vector_norm(x, dim=d),
}


@pytest.mark.parametrize("case", REDUCTIONS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_reductions_over_each_dimension_with_gradient(case, size):
    function = REDUCTIONS[case]
    x = tensor(size)

    def over_all(x):
        return [part for dim in range(x.dim()) for part in gradient_of(lambda y: function(y, dim))(x)]  # noqa: B023

    agree(over_all, x, rtol=1e-10, atol=1e-12)


def test_several_dimensions_and_everything():
    def several(x):
        return [
            x.sum(),
            x.sum((0, 2)),
            x.sum((1, 2), keepdim=True),
            x.mean((0, 1)),
            x.amax((0, 2)),
            x.prod(),
            x.max(),
            x.min(),
            x.var(),
            torch.logsumexp(x, (0, 1)),
            x.std(),
        ]

    agree(several, tensor((5, 6, 9)) * 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int32, torch.bool, torch.uint8], ids=str)
def test_other_dtypes(dtype):
    def several(x):
        results = [
            x.sum(),
            x.sum(0),
            x.amax(1),
            x.any(),
            x.all(0),
            x.cumsum(0),
            torch.count_nonzero(x),
        ]
        return results + ([] if x.dtype == torch.bool else [x.prod(1), x.amin(), x.argmax(1)])

    agree(several, tensor((6, 11), dtype))


def test_places_of_extremes():
    x = torch.tensor(
        [[1.0, 3.0, 3.0, 2.0], [-1.0, math.nan, 5.0, math.nan], [4.0, -math.inf, 4.0, 4.0]]
    ).double()

    def several(x):
        return [
            *x.max(1), *x.min(1), *x.max(0), *x.min(0), x.argmax(), x.argmin(0), *torch.cummax(x, 1),
            *torch.cummin(x, 0)
        ]  # fmt: skip

    agree(several, x)
    agree(lambda x: [*x.max(0), *x.min(1), x.argmax()], tensor((50, 21)))


@pytest.mark.parametrize("edge", [math.inf, -math.inf, math.nan])
def test_edges(edge):
    x = tensor((20,))
    x[3] = edge

    def several(x):
        return [
            x.sum(), x.amax(), x.amin(), x.logsumexp(0), x.prod(), x.cumsum(0),
            torch.logcumsumexp(x, 0), x.nansum(),
            torch.softmax(x, 0), x.isfinite().all(),
        ]  # fmt: skip

    agree(several, x)
    agree(several, torch.full((9,), edge, dtype=torch.float64))


def test_empty_reductions():
    agree(lambda x: [x.sum(), x.prod(), x.sum(1), x.any(), x.all(), x.mean()], tensor((0, 4)))


def test_long_sums_are_accurate():
    x = tensor((100_003,), low=0.0, high=1.0)
    agree(lambda x: [x.sum(), x.float().sum(), (x * x).mean()], x, rtol=1e-13)


def test_reductions_of_different_axes_share_a_nest():
    compiled = agree(lambda x: [(x * 2).sum(0), (x * 2).sum(1), (x * 2).sum()], tensor((40, 50)))
    assert compiled.layout.arena_size <= 1024, "the product was written to memory"


@pytest.mark.parametrize("length", [5, 40])
def test_sorting_and_searching(length):
    x = tensor((3, length))
    edges = tensor((9,)).sort().values

    def several(x, edges):
        return [
            *torch.sort(x, 1),
            *torch.sort(x, 0, descending=True),
            torch.argsort(x, dim=1, stable=True),
            *torch.topk(x, 2, 1),
            *torch.kthvalue(x, 2, 1),
            x.median(),
            *x.median(1),
            torch.searchsorted(edges, x),
            torch.bucketize(x, edges, right=True),
        ]

    agree(several, x, edges)


def test_stable_sort_keeps_ties_and_puts_nan_last():
    x = torch.tensor([2.0, 1.0, 2.0, float("nan"), 1.0, -0.0, 0.0, float("inf"), float("nan")])

    def both(x):
        return [*torch.sort(x, stable=True), *torch.sort(x, stable=True, descending=True)]

    agree(both, x)


@pytest.mark.parametrize("shape", [(3, 19, 20), (5, 17, 9), (2, 3, 16, 12), (2, 40, 3), (4, 16, 45)], ids=str)
def test_sums_over_every_choice_of_dimensions_in_one_nest(shape):
    def several(x, y):
        wide = (x.unsqueeze(-2) - y).square()
        dims = range(-len(shape), 0)
        choices = [c for size in range(1, len(shape) + 1) for c in itertools.combinations(dims, size)]
        return [wide.sum(choice) for choice in choices] + [wide.amax(-1), wide.sum(-1, keepdim=True) * wide]

    agree(several, tensor((*shape[:-2], shape[-1])), tensor(shape, seed=1), rtol=1e-10)


@pytest.mark.parametrize("length", range(1, 20))
def test_ends_of_rows_are_stored_by_powers_of_two(length):
    def several(x, y):
        rows = x.exp() + y
        return [rows, rows.sum(0), rows.cumsum(0), rows > 1.0, rows.to(torch.int32), rows.float()]

    agree(several, tensor((5, length)), tensor((5, length), seed=1))
