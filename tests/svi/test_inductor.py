"""Check steps that torch.compile makes: those of eager execution, compiled once for arguments of a kind."""

import pytest
import torch
from torch import nn

import ember
import ember.distributions as dist
from ember import optim
from ember.engine.capture import capture
from ember.engine.inductor import compile_by_inductor
from ember.engine.passes.simplify import simplify
from ember.engine.policy import ExecutionError
from ember.infer import SVI, Trace_ELBO
from ember.params import get_param_store

X = torch.randn(30, 6, generator=torch.Generator().manual_seed(2))


class Network(nn.Module):
    """A regression with dropout, a latent scale, and a random minibatch."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Softplus(), nn.Dropout(0.2), nn.Linear(8, 1))

    def model(self, x):
        ember.module("net", self.net)
        scale = ember.sample("scale", dist.LogNormal(0.0, 1.0))
        with ember.plate("rows", len(x), subsample_size=10) as chosen:
            loc = self.net(x[chosen, :5]).squeeze(-1)
            ember.sample("y", dist.Normal(loc, scale), obs=x[chosen, 5])

    def guide(self, x):
        loc = ember.param("loc", torch.tensor(0.0))
        ember.sample("scale", dist.LogNormal(loc, 0.1))
        with ember.plate("rows", len(x), subsample_size=10):
            pass


def fit(execution, num_steps=30):
    ember.clear_param_store()
    ember.set_rng_seed(0)
    network = Network()
    svi = SVI(network.model, network.guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), execution=execution)
    losses = [svi.step(X) for _ in range(num_steps)]
    return torch.tensor(losses), {n: p.detach().clone() for n, p in get_param_store().named_parameters()}, svi


def test_steps_of_torch_compile_are_those_of_eager_execution(monkeypatch):
    calls = []
    compile = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *args, **options: calls.append(1) or compile(*args, **options)
    )
    expected, parameters, _ = fit("eager")
    found, others, svi = fit("inductor")
    # The same draws, minibatches and dropout included.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(others, parameters, rtol=1e-3, atol=1e-4)
    svi.run(10, X + 1.0, disable_progbar=True)
    assert len(calls) == 1
    with ember.validation_enabled(False), pytest.warns(UserWarning, match="NaN"):
        assert svi.step(X * float("nan")) != svi.step(X)
    assert len(calls) == 1


def test_results_have_memory_of_their_own():
    x, y = torch.ones(3), torch.arange(6.0).reshape(2, 3)
    run = compile_by_inductor(simplify(capture(lambda x, y: (y, y.t(), x + 1, y), x, y)), x, y)
    results = run(x, y)
    assert len({each.data_ptr() for each in (x, y, *results)}) == 6
    assert [each.tolist() for each in results] == [y.tolist(), y.t().tolist(), [2.0] * 3, y.tolist()]


def test_what_torch_compile_cannot_make_is_said(monkeypatch):
    def without_a_compiler(*args, **options):
        def call(*tensors):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", without_a_compiler)
    with pytest.raises(
        ExecutionError,
        match=r"SVI cannot run by torch\.compile.*no C\+\+ compiler\n.*fix: use execution='auto'",
    ):
        fit("inductor", 4)
