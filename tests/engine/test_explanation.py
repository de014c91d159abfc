"""Check what the engine says of models and functions."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember.infer import MCMC, NUTS


def regression(x, y):
    slope = ember.sample("slope", dist.Normal(0.0, 1.0))
    noise = ember.sample("noise", dist.HalfNormal(1.0))
    with ember.plate("data", len(y)):
        ember.sample("y", dist.Normal(slope * x, noise), obs=y)


def test_a_models_gradient_is_explained_by_site(capsys):
    found = ember.engine.explain(regression, torch.randn(50), torch.randn(50))
    assert found.reason is None
    assert found.native_microseconds < found.eager_microseconds
    # The likelihood's 50 elements cost more than the two priors.
    assert found.by_site["y"] > found.by_site["slope"] > 0
    printed = capsys.readouterr().out
    assert "2 dimensions" in printed
    assert "runs as machine code" in printed


def test_what_cannot_be_captured_is_said_with_its_line(capsys):
    def branching(x):
        return x * 2 if x.sum() > 0 else x

    found = ember.engine.explain(branching, torch.ones(3))
    assert "test_explanation.py" in found.reason
    assert "runs eagerly" in capsys.readouterr().out


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match="tensors as positional arguments"):
        ember.engine.explain(lambda x: x, 3.0)


def test_large_data_is_kept_as_float32_if_so_set(capsys):
    x, y = torch.randn(1 << 15, dtype=torch.float64), torch.randn(1 << 15, dtype=torch.float64)
    with ember.settings.context(data_storage="float32"):
        found = ember.engine.explain(regression, x, y)
        assert found.compact_data == 2
        assert "2 large inputs are kept as float32" in capsys.readouterr().out
        assert ember.engine.explain(regression, x[:100], y[:100]).compact_data == 0
        ember.set_rng_seed(0)
        compact = MCMC(NUTS(regression), 20, warmup_steps=50, disable_progbar=True, execution="native")
        compact.run(x, y)
    assert ember.engine.explain(regression, x, y).compact_data == 0
    ember.set_rng_seed(0)
    full = MCMC(NUTS(regression), 20, warmup_steps=50, disable_progbar=True, execution="native")
    full.run(x.float().double(), y.float().double())
    torch.testing.assert_close(
        compact.get_samples()["slope"], full.get_samples()["slope"], rtol=1e-6, atol=1e-8
    )
    with pytest.raises(ValueError, match="data_storage"):
        ember.settings.set(data_storage="bfloat16")
