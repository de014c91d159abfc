"""Say the exponential of matrices in products: a Taylor polynomial of a scaled matrix, squared repeatedly.

Al-Mohy & Higham 2009, *A new scaling and squaring algorithm for the matrix exponential*; the degree and its
limit of norms are those of Bader, Blanes & Casas 2019, *Computing the matrix exponential with an optimized
Taylor polynomial approximation*, table 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ember.engine.control import while_loop

_DEGREE, _LIMIT = 18, 1.09
_BLOCK = 6  # the polynomial is one of degree 3 in the 6th power, so that 7 products suffice
# More squarings would overflow, whatever the matrix; infinite entries must end the loop.
_MOST_SQUARINGS = 64


def matrix_exp(matrix: Tensor) -> Tensor:
    """Return exp of square matrices, shape ``batch + (n, n)``."""
    if matrix.numel() == 0:
        return matrix.clone()
    norm = matrix.abs().sum(-2).amax(-1)
    squarings = torch.ceil(torch.log2(norm / _LIMIT)).clamp(0, _MOST_SQUARINGS)
    scaled = matrix * torch.exp2(-squarings)[..., None, None]

    def square(carry: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        count, value = carry
        return count + 1, torch.where((count < squarings)[..., None, None], value @ value, value)

    count = torch.zeros((), dtype=matrix.dtype, device=matrix.device)
    return while_loop(lambda carry: (carry[0] < squarings).any(), square, (count, _taylor(scaled)))[1]


def _taylor(matrix: Tensor) -> Tensor:
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand(matrix.shape)
    powers = [identity, matrix]
    for _ in range(_BLOCK - 1):
        powers.append(powers[-1] @ matrix)
    total = powers[0] / math.factorial(_DEGREE)
    for start in range(_DEGREE - _BLOCK, -1, -_BLOCK):
        terms = [power / math.factorial(start + k) for k, power in enumerate(powers[:_BLOCK])]
        total = total @ powers[_BLOCK] + torch.stack(terms).sum(0)
    return total
