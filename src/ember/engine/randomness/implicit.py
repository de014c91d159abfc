"""Differentiate gamma and beta draws by their parameters, at fixed quantile.

The derivative of a draw x of distribution function F and density f by a parameter a is -(dF/da)/f (Figurnov,
Mohamed & Mnih 2018, *Implicit reparameterization gradients*, equation 4). F's power series are differentiated
term by term: those of the gamma distribution (Abramowitz & Stegun 6.5.29) and of the beta distribution
(26.5.4), whose terms have one sign below the mean. Machine code does the same
(:mod:`ember.engine.lowering.operations.implicit`).
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGE = 1e4  # concentrations from here on by the expansion of Cornish and Fisher
MOST_TERMS = 100_000.0
PRECISION = 1e-17


def gamma_grad(concentration: Tensor, sample: Tensor) -> Tensor:
    """Return the derivative of standard gamma draws by their concentration."""
    return torch.ops.ember.gamma_grad(concentration, sample)


def dirichlet_grad(sample: Tensor, concentration: Tensor, total: Tensor) -> Tensor:
    """Return dx/da / (1 - x) for draws x of Beta(a, total - a), what a Dirichlet's gradient is made of."""
    return torch.ops.ember.dirichlet_grad(sample, concentration, total)


def _gamma_grad(concentration: Tensor, sample: Tensor) -> Tensor:
    given, drawn = torch.broadcast_tensors(concentration.detach().double(), sample.detach().double())
    large = given >= LARGE
    a, x = torch.where(large, 1.0, given), torch.where(large, 1.0, drawn)
    # Beyond any draw the terms cancel; there the tail integral's first terms stand.
    far = x > a + 20.0 + 9.0 * torch.sqrt(a)
    distance = 1.0 - (a - 1.0) / x
    tail = (torch.log(x) - torch.digamma(a)) / distance + 1.0 / (x * distance * distance)
    x = torch.where(far, a, x)
    factor = torch.digamma(a + 1.0) - torch.log(x)
    term, total, n = torch.ones_like(x), factor.clone(), 0.0
    pending = torch.isfinite(factor)
    while bool(pending.any()):
        n += 1.0
        inverse = 1.0 / (a + n)
        term, factor = term * x * inverse, factor + inverse
        total = torch.where(pending, total + term * factor, total)
        small = term * (factor.abs() + 1.0) <= PRECISION * total.abs()
        pending = pending & ~(small & (x < a + n)) & (n < MOST_TERMS)
    result = torch.where(far, tail, x / a * total)
    return torch.where(large, _expansion(given, drawn), result).to(sample.dtype)


def _expansion(a: Tensor, x: Tensor) -> Tensor:
    """Differentiate x = a + z a**.5 + (z**2 - 1)/3 + … (Cornish & Fisher 1937) by a, z being found from x."""
    root = torch.sqrt(a)
    t = (x - a) / root
    z = t
    for _ in range(3):
        square = z * z
        value = z + (square - 1.0) / (3.0 * root) + z * (square - 7.0) / (36.0 * a)
        value = value - (square * (3.0 * square + 7.0) - 16.0) / (810.0 * a * root)
        slope = 1.0 + z * (2.0 / 3.0) / root + (square - 7.0 / 3.0) / (12.0 * a)
        z = z - (value - t) / slope
    square = z * z
    result = 1.0 + z / (2.0 * root) - z * (square - 7.0) / (72.0 * a * root)
    return result + (square * (3.0 * square + 7.0) - 16.0) / (810.0 * a * a)


def _dirichlet_grad(sample: Tensor, concentration: Tensor, total: Tensor) -> Tensor:
    x, a, s = torch.broadcast_tensors(
        sample.detach().double(), concentration.detach().double(), total.detach().double()
    )
    # The series in x, or that in 1 - x, whichever converges faster.
    low = x <= 0.5
    z, lead = torch.where(low, x, 1.0 - x), torch.where(low, a, s - a)
    log_x = torch.log(x)
    psi = torch.digamma(s)
    factor = torch.where(low, torch.digamma(a + 1.0) - psi - log_x, psi - torch.digamma(a) + log_x)
    sign, keep = torch.where(low, -1.0, 1.0), torch.where(low, 1.0, 0.0)
    term, sums, n = torch.ones_like(z), factor.clone(), 0.0
    pending = torch.isfinite(factor)
    while bool(pending.any()):
        n += 1.0
        inverse, before = 1.0 / (lead + n), s + (n - 1.0)
        term = term * z * before * inverse
        factor = factor + (keep * inverse + sign / before)
        sums = torch.where(pending, sums + term * factor, sums)
        small = term * (factor.abs() + 1.0) <= PRECISION * sums.abs()
        pending = pending & ~(small & (z * (s + n) < lead + n + 1.0)) & (n < MOST_TERMS)
    return (x / lead * sums).to(sample.dtype)


_library = torch.library.Library("ember", "FRAGMENT")
_library.define("gamma_grad(Tensor concentration, Tensor sample) -> Tensor")
_library.define("dirichlet_grad(Tensor sample, Tensor concentration, Tensor total) -> Tensor")
_library.impl("gamma_grad", _gamma_grad, "CPU")
_library.impl("dirichlet_grad", _dirichlet_grad, "CPU")
# Shapes alone, for captures.
_library.impl("gamma_grad", lambda a, x: torch.broadcast_tensors(x, a)[0].contiguous(), "Meta")
_library.impl("dirichlet_grad", lambda x, a, s: torch.broadcast_tensors(x, a, s)[0].contiguous(), "Meta")
