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


def test_float32_is_rounded_from_float64():
    x = torch.linspace(-20, 20, 1001)
    found = compile(capture(torch.exp, x), use_disk=False)(x)[0]
    assert torch.equal(found, torch.exp(x.double()).float())
