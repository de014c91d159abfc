"""Give every test an empty store, fresh random states and settings, and check what it leaves behind."""

import pytest

import ember
from ember import settings
from ember.poutine import runtime
from ember.random_state import get_rng_state, set_rng_seed, set_rng_state


@pytest.fixture(autouse=True)
def clean_language():
    ember.clear_param_store()
    former_settings, former_rng = settings.get(), get_rng_state()
    set_rng_seed(0)
    yield
    left_handlers, left_plates = runtime.handler_stack(), runtime.active_plates()
    runtime._stack.set(())
    settings.set(**former_settings)
    set_rng_state(former_rng)
    ember.clear_param_store()
    assert left_handlers == (), f"handlers still active after the test: {left_handlers}"
    assert left_plates == [], f"plates still active after the test: {left_plates}"
