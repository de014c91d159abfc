"""Integrate the density of standard stable laws numerically, around the peak of the integrand."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_NEAREST = 1e-6  # least distance of the stability from 1
_REACH = 300.0  # the integrand is looked at for logits of the position within this
_BISECTIONS = 60
_NODES = 161
_SPREAD = 6.5
_LARGEST = 80.0  # of log w
_ROUNDING = 1e-13


class _Law(NamedTuple):
    """Parameters of a law, and a value that lies right of the pole of its integral.

    Differences that vanish for extreme parameters are kept, for what is computed of them loses no digits.
    """

    stability: Tensor
    rest: Tensor  # 1 - stability
    width: Tensor  # π/2 + bend, the length of the interval of angles, with bend = arctan(β tan(πα/2)) / α
    start: Tensor  # π/2 - bend, which is zero for α < 1 and |β| = 1
    end: Tensor  # π - α width, which is zero for α > 1 and |β| = 1
    log_cosine: Tensor  # log cos(α bend)
    log_distance: Tensor  # log |x - ζ|
    outside: Tensor  # whether the density is zero


def standard_log_density(value: Tensor, stability: Tensor, skew: Tensor) -> Tensor:
    """Return the log density of a standard stable variable in S0 coordinates, with gradients to everything.

    Given the angle v of Chambers, Mallows & Stuck, x is a monotone function of the exponential number w:
    f(x) = α / (π |1 - α| |x - ζ|) ∫ w(v) exp(-w(v)) dv with ζ = -β tan(πα/2), Nolan (1997), theorem 1. The
    angle is taken as v = -bend + width sigmoid(t): powers at both ends of the interval become exponentials in
    t. The trapezoid rule runs in u, t = peak + scale sinh(u).
    """
    law, dtype = _law(value, stability, skew), value.dtype
    with torch.no_grad():
        peak, scale = _peak(law)
        u = torch.linspace(-_SPREAD, _SPREAD, _NODES, dtype=torch.float64, device=value.device)
        t = peak.unsqueeze(-1) + scale.unsqueeze(-1) * u.sinh()
        log_step = (scale.unsqueeze(-1) * u.cosh() * (u[1] - u[0])).log()
    wide = _Law(*(each.unsqueeze(-1) for each in law))
    # Beyond the bound the integrand is zero.
    log_w = _log_exponential(wide, t).clamp(max=_LARGEST)
    integrand = log_w - log_w.exp() + _log_slope(wide, t) + log_step
    constant = (law.stability / (math.pi * law.rest.abs())).log() - law.log_distance
    return torch.where(law.outside, -torch.inf, integrand.logsumexp(-1) + constant).to(dtype)


def _law(value: Tensor, stability: Tensor, skew: Tensor) -> _Law:
    value, stability, skew = torch.broadcast_tensors(value.double(), stability.double(), skew.double())
    rest = 1.0 - stability
    near = rest.abs() < _NEAREST
    rest = torch.where(near, torch.where(rest < 0, -_NEAREST, _NEAREST) + rest - rest.detach(), rest)
    stability = 1.0 - rest
    tangent = skew / (0.5 * math.pi * rest).tan()
    distance = value + tangent
    # Left of the pole, the mirror image.
    sign = torch.where(distance < 0, -1.0, 1.0)
    distance, tangent = (sign * distance).clamp(min=1e-12), sign * tangent
    bend = tangent.atan() / stability
    width = 0.5 * math.pi + bend
    outside = width < _ROUNDING
    return _Law(
        stability,
        rest,
        torch.where(outside, 1.0, width),
        _or_zero(0.5 * math.pi - bend),
        _or_zero(math.pi - stability * width),
        -0.5 * tangent.square().log1p(),
        distance.log(),
        outside,
    )


def _or_zero(difference: Tensor) -> Tensor:
    return torch.where(difference < _ROUNDING, 0.0, difference)


def _log_slope(law: _Law, t: Tensor) -> Tensor:
    """Return the logarithm of the angle's derivative with respect to t."""
    return law.width.log() + torch.nn.functional.logsigmoid(t) + torch.nn.functional.logsigmoid(-t)


class _Angles(NamedTuple):
    """Angles at a position, each measured from the nearest place where a sine of it vanishes."""

    right: Tensor  # distance from the right end, or π minus that
    right_sign: Tensor  # 1 or -1, of its cotangent
    turned: Tensor  # α times the distance from the left end, or π minus that
    turned_sign: Tensor
    complement: Tensor  # of the angle whose cosine is the numerator


def _angles(law: _Law, t: Tensor) -> _Angles:
    left, right = law.width * t.sigmoid(), law.width * (-t).sigmoid()
    first = law.stability * left
    acute, near = first < 0.5 * math.pi, right < 0.5 * math.pi
    turned = torch.where(acute, first, law.end + law.stability * right)
    below = law.rest > 0
    complement = torch.where(below, law.start + law.rest * left, law.end - law.rest * right)
    return _Angles(
        torch.where(near, right, law.start + left),
        torch.where(near, 1.0, -1.0),
        turned,
        torch.where(acute, 1.0, -1.0),
        complement,
    )


def _log_sine(angle: Tensor) -> Tensor:
    return angle.sin().clamp(min=torch.finfo(angle.dtype).tiny).log()


def _log_exponential(law: _Law, t: Tensor) -> Tensor:
    """Return log w at the position t."""
    angles = _angles(law, t)
    log_right = _log_sine(angles.right)
    numerator = _log_sine(angles.complement) - law.log_cosine - log_right
    ratio = law.log_distance + law.log_cosine + log_right - _log_sine(angles.turned)
    return numerator - law.stability / law.rest * ratio


def _peak(law: _Law) -> tuple[Tensor, Tensor]:
    """Return the place of the integrand's maximum in t, by bisection, and its width."""
    low = torch.full_like(law.width, -_REACH)
    high = -low
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        rising = _derivative(law, middle)[0] > 0
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    peak = 0.5 * (low + high)
    curvature = _derivative(law, peak)[1]
    return peak, curvature.clamp(min=1e-12).rsqrt()


def _derivative(law: _Law, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivative of the logarithm of the integrand in t, and minus the second one, nearly."""
    share = t.sigmoid()
    spread = share * (-t).sigmoid()
    angles = _angles(law, t)
    cotangent = angles.right_sign / angles.right.tan()
    of_turned = law.stability * angles.turned_sign / angles.turned.tan()
    of_angle = (
        law.rest / angles.complement.tan() + cotangent + law.stability / law.rest * (of_turned + cotangent)
    )
    of_t = of_angle * law.width * spread
    w = _log_exponential(law, t).clamp(max=_LARGEST).exp()
    return (1.0 - w) * of_t + 1.0 - 2.0 * share, w * of_t.square() + 2.0 * spread
