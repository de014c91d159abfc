"""Offer what several tests of enumeration need."""

import pytest

from ember.poutine.elimination import like_variables
from ember.poutine.elimination import sum_product as elimination


@pytest.fixture
def stacked(monkeypatch):
    """Sum pairs of like variables out together already, as is done for many of them."""
    monkeypatch.setattr(elimination, "MANY", 2)
    monkeypatch.setattr(like_variables, "_FEWEST", 2)
    like_variables.plan.cache_clear()
    yield
    like_variables.plan.cache_clear()
