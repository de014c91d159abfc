"""Check operations on tensors and special functions against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.signal
import scipy.special as sp
import torch

from ember.ops import hessian, linalg, special
from ember.ops import tensors as ops
from ember.ops.indexing import Index

DOUBLE = torch.float64
close = torch.testing.assert_close


def randn(*shape):
    return torch.randn(shape, dtype=DOUBLE)


def test_blocks():
    x = randn(2, 3, 4, 5)
    wide = ops.block_diag_embed(x)
    close(wide[0], torch.as_tensor(scipy.linalg.block_diag(*x[0].numpy())))
    close(ops.block_diagonal(wide, 4), x)
    with pytest.raises(ValueError, match="blocks"):
        ops.block_diagonal(wide, 5)


@pytest.mark.parametrize("mode", ["full", "valid", "same"])
@pytest.mark.parametrize(("m", "n"), [(20, 20), (20, 21), (21, 20), (7, 2)])
def test_convolve(m, n, mode):
    signal, kernel = randn(m), randn(n)
    close(ops.convolve(signal, kernel, mode), torch.as_tensor(np.convolve(signal, kernel, mode)))
    assert ops.convolve(randn(4, 1, m), randn(3, n)).shape == (4, 3, m + n - 1)
    with pytest.raises(ValueError, match="mode"):
        ops.convolve(signal, kernel, "half")


def test_powers():
    x = randn(2, 3, 3)
    expected = torch.stack([torch.linalg.matrix_power(x, n) for n in range(1, 8)])
    close(ops.repeated_matmul(x, 7), expected)
    with pytest.raises(ValueError, match="positive"):
        ops.repeated_matmul(x, 0)


def test_transforms():
    x = randn(3, 7)
    close(ops.dct(x), torch.as_tensor(scipy.fft.dct(x.numpy(), norm="ortho")))
    close(ops.idct(x), torch.as_tensor(scipy.fft.idct(x.numpy(), norm="ortho")))
    close(ops.dct(x, -2), torch.as_tensor(scipy.fft.dct(x.numpy(), norm="ortho", axis=-2)))
    close(ops.inverse_haar_transform(ops.haar_transform(x)), x)
    close(ops.haar_transform(x).square().sum(), x.square().sum())
    assert ops.next_fast_len(97) == 100 or ops.next_fast_len(97) == 98
    assert ops.as_complex(randn(3, 2)).dtype == torch.complex128


def test_periods():
    x = torch.arange(3.0)
    assert ops.periodic_repeat(x, 7, -1).tolist() == [0, 1, 2, 0, 1, 2, 0]
    y = torch.arange(14.0).reshape(7, 2)
    expected = torch.stack([y[t % 3 : t + 1 : 3].sum(0) for t in range(7)])
    close(ops.periodic_cumsum(y, 3, -2), expected)
    features = ops.periodic_features(12, 12, 4, dtype=DOUBLE)
    time = torch.arange(12, dtype=DOUBLE) * torch.pi / 6
    close(features[:, :2], torch.stack([time.cos(), (2 * time).cos()], -1))
    close(features[:, 2:], -torch.stack([time.sin(), (2 * time).sin()], -1))
    assert ops.periodic_features(7).shape == (7, 6)
    for wrong in (lambda: ops.periodic_repeat(x, 0, -1), lambda: ops.periodic_cumsum(x, 2, 0)):
        with pytest.raises(ValueError, match=r"positive|negative"):
            wrong()
    with pytest.raises(ValueError, match="min_period"):
        ops.periodic_features(7, 5, 6)


def test_factors_and_solves():
    root = randn(2, 4, 4)
    matrix = root @ root.mT + torch.eye(4, dtype=DOUBLE)
    close(ops.safe_cholesky(matrix), torch.linalg.cholesky(matrix), rtol=1e-10, atol=1e-10)
    singular = torch.ones(3, 3)
    factor = ops.safe_cholesky(singular)
    close(factor @ factor.mT, singular, rtol=1e-4, atol=1e-4)
    close(ops.safe_cholesky(torch.tensor([[4.0]])), torch.tensor([[2.0]]))
    lower = ops.precision_to_scale_tril(matrix)
    close(lower @ lower.mT, torch.linalg.inv(matrix))
    close(lower, lower.tril())
    y = randn(2, 4, 3)
    factor = torch.linalg.cholesky(matrix)
    close(matrix @ ops.cholesky_solve(y, factor), y)
    close(factor @ ops.triangular_solve(y, factor), y)
    close(factor.mT @ ops.triangular_solve(y, factor, transpose=True), y)
    close(ops.matvecmul(matrix, y[..., 0]), (matrix @ y)[..., 0])
    close(linalg.rinverse(root) @ root, torch.eye(4, dtype=DOUBLE).expand(2, 4, 4))
    inverse = linalg.rinverse(matrix, sym=True)
    close(inverse, torch.linalg.inv(matrix))
    assert (inverse == inverse.mT).all()
    indefinite = torch.diag(torch.tensor([1.0, -2.0]))
    close(linalg.rinverse(indefinite, sym=True), torch.diag(torch.tensor([1.0, -0.5])))


def test_unit_vectors():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    y = ops.safe_normalize(x)
    close(y, torch.tensor([[0.6, 0.8], [1.0, 0.0]]))
    y.sum().backward()
    assert torch.isfinite(x.grad).all()
    close(ops.safe_normalize(x[:1], p=1), torch.tensor([[3 / 7, 4 / 7]]))


def test_special_functions():
    x, y = torch.rand(5, dtype=DOUBLE) * 20 + 0.1, torch.rand(5, dtype=DOUBLE) * 20 + 0.1
    close(special.log_beta(x, y), torch.as_tensor(sp.betaln(x.numpy(), y.numpy())))
    close(
        special.log_binomial(x + y, y, tol=0.1), torch.as_tensor(np.log(sp.binom((x + y).numpy(), y.numpy())))
    )
    expected = np.log(sp.ive(np.arange(4)[:, None], x.numpy())) + x.numpy()
    close(special.log_I1(3, x), torch.as_tensor(expected))
    nodes, log_weights = special.get_quad_rule(12, torch.zeros((), dtype=DOUBLE))
    for power, moment in [(0, 1.0), (2, 1.0), (4, 3.0), (5, 0.0)]:
        close((log_weights.exp() * nodes**power).sum(), torch.tensor(moment, dtype=DOUBLE))
    zero = torch.zeros(1, requires_grad=True)
    special.safe_log(zero).backward()
    assert torch.isfinite(zero.grad).all() and special.safe_log(torch.ones(1)) == 0
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], dtype=DOUBLE)
    counts = torch.tensor([[3.0, 0.0, 2.0], [0.0, 4.0, 0.0]], dtype=DOUBLE)
    total = sum(
        torch.distributions.Multinomial(int(n.sum()), p).log_prob(n)
        for n, p in zip(counts, probs, strict=True)
    )
    found = counts > 0
    close(special.sparse_multinomial_likelihood(counts.sum(-1), probs.log()[found], counts[found]), total)


def test_hessian():
    x, y = randn(3).requires_grad_(), randn(2).requires_grad_()

    def f(x, y):
        return (x.prod() * y[0]).sin() + (x**3).sum() + 2 * y[1]

    whole = torch.autograd.functional.hessian(lambda z: f(z[:3], z[3:]), torch.cat([x, y]).detach())
    close(hessian.hessian(f(x, y), [x, y]), whole)
    close(hessian.hessian(f(x, y), x), whole[:3, :3])


def test_nested_tuples_index():
    x = torch.arange(24).reshape(2, 3, 4)
    pair = (torch.tensor([0, 2]), 1)
    assert torch.equal(Index(x)[..., pair], x[..., pair[0], 1])
    assert torch.equal(Index(x)[1, (0, (2,))], x[1, 0, 2]) and torch.equal(Index(x)[1], x[1])
