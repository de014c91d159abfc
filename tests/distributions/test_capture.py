"""Check that the draws of every family, with their gradients, can be captured and compiled."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES

import ember.distributions as dist
from ember.engine import random
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.interpret import interpret
from ember.engine.recording.refusal import NotCapturable

KEY = random.key(4)
# Drawn by rejection until nothing is left to draw, which a program cannot say.
EAGER = {"SineBivariateVonMises"}


@pytest.fixture(autouse=True)
def _unvalidated():
    with dist.validation_enabled(False):
        yield


def draw(family, *values):
    """Return draws, and the gradients of the sum of their squares if they have any."""
    with torch.enable_grad():
        leaves = [each.detach().requires_grad_(each.is_floating_point()) for each in values]
        distribution = family.make(**dict(zip(family.params, leaves, strict=True)))
        if not distribution.has_rsample:
            return [distribution.sample(), distribution.sample((4,))]
        sample = distribution.rsample((4,))
        wanted = [each for each in leaves if each.requires_grad]
        found = []
        if wanted and sample.requires_grad:
            found = torch.autograd.grad((sample * sample).sum(), wanted, allow_unused=True)
    return [sample.detach(), *(each for each in found if each is not None)]


CAPTURED = [family for family in FAMILIES if family.name not in EAGER]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.name in EAGER])
def test_draws_that_look_at_numbers_are_refused(family):
    with pytest.raises(NotCapturable, match="depends on the inputs"):
        capture(lambda *values: draw(family, *values), *family.params.values(), key=KEY)


@pytest.mark.parametrize("family", CAPTURED, ids=[family.id for family in CAPTURED])
def test_draws_compile(family):
    values = list(family.params.values())
    program = capture(lambda *values: draw(family, *values), *values, key=KEY)
    expected = interpret(program, *values, KEY)
    example = draw(family, *values)
    found = compile(program, use_disk=False)(*values, KEY)
    for one, other, eager in zip(found, expected, example, strict=True):
        assert (other.shape, other.dtype) == (eager.shape, eager.dtype)
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, equal_nan=True)
    assert torch.isfinite(found[0]).all()
    again = interpret(program, *values, random.key(9))
    if found[0].is_floating_point() and found[0].unique().numel() > 8:
        assert not torch.equal(again[0], expected[0])
