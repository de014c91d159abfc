"""Check elementary and gamma functions against multiple-precision arithmetic, in units in the last place."""

import math

import mpmath
import numpy as np
import pytest
import torch
from lowering_checks import TARGETS

from ember.engine.capture import capture
from ember.engine.compile import compile

RNG = np.random.default_rng(7)


def spread(low, high, count=400):
    """Numbers in an interval, and over the whole range of exponents."""
    return np.concatenate(
        [
            RNG.uniform(low, high, count),
            np.exp(RNG.uniform(-740, 700, count)) * RNG.choice([-1, 1], count),
            RNG.normal(size=count) * 10.0 ** RNG.uniform(-5, 1, count),
        ]
    )


POSITIVE = np.abs(spread(0, 30))
CASES = {
    "exp": (torch.exp, mpmath.exp, spread(-750, 712), 1.0),
    "expm1": (torch.expm1, mpmath.expm1, spread(-50, 712), 1.0),
    "log": (torch.log, mpmath.log, POSITIVE, 1.0),
    "log1p": (torch.log1p, mpmath.log1p, np.concatenate([POSITIVE, RNG.uniform(-0.999999, 0, 400)]), 1.0),
    "sigmoid": (
        torch.sigmoid,
        lambda x: 1 / (1 + mpmath.exp(-x)),
        np.clip(spread(-700, 40), -700, None),
        2.5,
    ),
    "tanh": (torch.tanh, mpmath.tanh, spread(-25, 25), 2.5),
    "lgamma": (torch.lgamma, lambda x: mpmath.re(mpmath.loggamma(x)), POSITIVE, 8.0),
    "trigamma": (
        lambda x: torch.polygamma(1, x),
        lambda x: mpmath.psi(1, x),
        np.exp(RNG.uniform(-9, 20, 400)),
        4.0,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", TARGETS, ids=["host", "plain"])
def test_functions_are_accurate_to_the_last_places(case, target):
    function, exact, points, allowed = CASES[case]
    x = torch.from_numpy(points)
    found = compile(capture(function, x), target, use_disk=False)(x)[0].numpy()
    with mpmath.workdps(60):
        for place, value in zip(points, found, strict=True):
            reference = exact(mpmath.mpf(place))
            rounded = float(reference)
            if math.isinf(rounded):
                assert value == rounded, f"{case}({place!r}) overflows"
                continue
            error = abs(mpmath.mpf(float(value)) - reference) / mpmath.mpf(math.ulp(rounded))
            assert error <= allowed, f"{case}({place!r}) = {value!r} is {float(error):.2f} ulp off"


@pytest.mark.parametrize("function", [torch.digamma, torch.lgamma], ids=["digamma", "lgamma"])
def test_gamma_functions_of_negative_numbers_and_near_roots(function):
    x = torch.cat(
        [torch.linspace(-5.3, -0.1, 40), torch.linspace(1.0, 2.5, 60), torch.tensor([0.0, -1.0, 1e-300])]
    )
    x = x.double()
    found = compile(capture(function, x), use_disk=False)(x)[0]
    torch.testing.assert_close(found, function(x), rtol=1e-12, atol=2e-14, equal_nan=True)


SINGLE = {
    "exp": (torch.exp, spread(-110, 90)),
    "expm1": (torch.expm1, spread(-20, 90)),
    "log": (torch.log, POSITIVE),
    "log1p": (torch.log1p, np.concatenate([POSITIVE, RNG.uniform(-0.999999, 0, 400)])),
    "sigmoid": (torch.sigmoid, spread(-80, 40)),
    "tanh": (torch.tanh, spread(-12, 12)),
}


@pytest.mark.parametrize("case", SINGLE)
@pytest.mark.parametrize("target", TARGETS, ids=["host", "plain"])
def test_functions_of_float32_are_accurate_to_the_last_places(case, target):
    function, points = SINGLE[case]
    with np.errstate(over="ignore", under="ignore"):
        x = torch.from_numpy(points.astype(np.float32))
    x = torch.cat([x, torch.tensor([0.0, -0.0, 1e-45, -1e-45, math.inf, math.nan])])
    if case == "sigmoid":
        x = x[~(x < -80)]
    found = compile(capture(function, x), target, use_disk=False)(x)[0].numpy()
    exact = function(x.double())
    expected = exact.float().numpy()
    ulp = np.spacing(np.abs(np.where(np.isfinite(expected), expected, 1.0)))
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - exact.numpy()) / ulp
    equal = (found == expected) | (np.isnan(found) & np.isnan(expected))
    assert np.where(equal, 0.0, error).max() <= 1.6


@pytest.mark.parametrize("target", TARGETS, ids=["host", "plain"])
def test_the_normal_quantile_of_float32(target):
    generator = torch.Generator().manual_seed(4)
    u = torch.rand(20_000, dtype=torch.float64, generator=generator)
    # Both tails as far as draws go, the middle, and where the form of the function changes.
    edge = 0.5 - 0.5 * math.sqrt(1 - math.exp(-6.0))
    far = 2.0 ** -torch.arange(1.0, 54.0, dtype=torch.float64)
    near = edge + torch.linspace(-1e-9, 1e-9, 11, dtype=torch.float64)
    u = torch.cat([u, u * 1e-3, far, 1 - far, near, 1 - near, 0.5 + far[20:]])
    found = compile(capture(torch.ops.ember.single_quantile, u), target, use_disk=False)(u)[0]
    exact = torch.special.ndtri(u)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1.2e-7, atol=0)
