"""Check views, joins and updates of slices against eager torch."""

import pytest
import torch
from lowering_checks import agree, gradient_of, tensor

VIEWS = {
    "reshape": lambda x: x.reshape(6, 10),
    "flatten": lambda x: x.flatten(),
    "reshape_rows": lambda x: x.reshape(2, 2, 15).sum(1),
    "select": lambda x: x[1] + x[:, 2][1],
    "negative_select": lambda x: x[-1, :, -2],
    "slice": lambda x: x[1:, ::2, 1:4],
    "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, 1) * 2,
    "movedim": lambda x: x.movedim(0, 2),
    "expand": lambda x: x[:, :1].expand(4, 3, 5) + x,
    "unsqueeze": lambda x: x.unsqueeze(1).squeeze(1),
    "diagonal": lambda x: x.diagonal(0, 1, 2),
    "diagonal_offset": lambda x: x.diagonal(1, 1, 2) * x.diagonal(-1, 2, 1)[:, :2].sum(),
    "flip": lambda x: x.flip(0, 2),
    "roll": lambda x: x.roll(2, 1) + x.roll((1, -2), (0, 2)),
    "roll_flat": lambda x: x.roll(7),
    "repeat": lambda x: x.repeat(2, 1, 2),
    "unfold": lambda x: x.unfold(2, 3, 1),
    "split": lambda x: torch.cat([part.sum(2) for part in x.split(2)], 0),
    "unbind": lambda x: sum(x.unbind(1)),
    "chunk": lambda x: x.chunk(2, 2)[1],
    "cat": lambda x: torch.cat([x, x * 2, x[:, :1]], 1),
    "stack": lambda x: torch.stack([x, x + 1], 1),
    "pad": lambda x: torch.nn.functional.pad(x, (1, 2, 0, 1), value=3.0),
    "reflection": lambda x: torch.nn.functional.pad(x, (2, 1), mode="reflect"),
    "replication": lambda x: torch.nn.functional.pad(x, (1, 2, 2, 0), mode="replicate"),
    "negative_pad": lambda x: torch.nn.functional.pad(x, (-1, 2)),
    "tril": lambda x: x.tril() + x.triu(1),
    "diag_embed": lambda x: torch.diag_embed(x, 1),
    "rot90": lambda x: torch.rot90(x, 1, (0, 2)),
    "as_strided": lambda x: torch.as_strided(x.contiguous(), (3, 4), (4, 2), 3),
    "slice_update": lambda x: torch.slice_scatter(x, x[:, :2] * 2, 1, 0, 2),
    "select_update": lambda x: torch.select_scatter(x, x[:, 1] * 2, 1, 0),
    "diagonal_update": lambda x: torch.diagonal_scatter(x, x.diagonal(0, 1, 2) * 3, 0, 1, 2),
    "movements": lambda x: (
        x.permute(1, 2, 0).reshape(5, 12).T[:, 1:4].contiguous().view(36)[3:30].reshape(9, 3)
    ),
}


WITHOUT_GRADIENT = ("reflection", "replication")  # those of the pads are not lowered


@pytest.mark.parametrize("case", VIEWS)
def test_views_and_their_gradients(case):
    function = VIEWS[case]
    agree(function if case in WITHOUT_GRADIENT else gradient_of(function), tensor((4, 3, 5)))


@pytest.mark.parametrize("case", ["select", "slice", "cat", "pad", "flip", "stack"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.uint8], ids=str)
def test_views_of_other_dtypes(case, dtype):
    if case == "cat":
        agree(lambda x: torch.cat([x, x[:, :1]], 1), tensor((4, 3, 5), dtype))
    elif case == "stack":
        agree(lambda x: torch.stack([x, x.flip(0)], 1), tensor((4, 3, 5), dtype))
    elif case == "select":
        agree(lambda x: x[1:, 2], tensor((4, 3, 5), dtype))
    else:
        agree(VIEWS[case], tensor((4, 3, 5), dtype))


def test_empty_tensors():
    def several(x):
        return [torch.cat([x, x]), x.sum(), x.reshape(0, 3), torch.stack([x, x]), x.expand(2, 0), x.flip(0)]

    agree(several, tensor((0,)))


def test_making_tensors():
    def several(x):
        return [
            torch.arange(7) + x.long(),
            torch.arange(1.0, 3.0, 0.25) * x,
            torch.linspace(0, 1, 11, dtype=torch.float64) * x,
            torch.eye(4, dtype=torch.float64) * x,
            torch.full((3,), 2.5, dtype=torch.float64) * x,
            torch.zeros_like(x),
            torch.ones(2, 2, dtype=torch.float64) + x,
        ]

    agree(several, torch.tensor(1.5, dtype=torch.float64))


def test_strided_inputs_are_copied():
    x = tensor((6, 8)).t()[::2]
    assert not x.is_contiguous()
    agree(lambda x: [x * 2, x.sum(0)], x)


def test_mixed_piece_sizes_fill_whole_vectors_and_tails():
    def pieces(a, b, c):
        joined = torch.cat([a, b.reshape(1), c])
        return [joined, joined[3:12].exp().sum(), torch.cat([joined[5:], joined[:5]])]

    agree(pieces, tensor((9,)), tensor((), seed=1), tensor((14,), seed=2))


@pytest.mark.parametrize("dim", [0, 1])
def test_many_pieces_are_joined(dim):
    def joined(x):
        parts = [x[:, : 1 + i % 3] * i for i in range(40)] + [x[:, :0], x.sum(1, keepdim=True)]
        scalars = torch.stack([(x[i % 5, 0] + i).tanh() for i in range(50)])
        wide = torch.cat([each.T if dim == 0 else each for each in parts], dim)
        return wide.exp().sum() + scalars.cumsum(0).sin().sum() + torch.cat([wide, wide[:1]], 0).std()

    agree(gradient_of(joined), tensor((5, 4)), rtol=1e-9)
    agree(lambda x: torch.stack([x[i % 5] > i / 50 for i in range(20)], dim), tensor((5, 3)))
