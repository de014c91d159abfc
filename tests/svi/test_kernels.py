"""Check steps on torch's kernels: those of eager execution, with its draws, for whatever torch can do."""

import copy
import logging
import random

import pytest
import torch
from torch import nn

import ember
import ember.distributions as dist
from ember import optim
from ember.engine.statistics import statistics
from ember.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from ember.infer.compiled_steps.execution import EAGER_STEPS
from ember.infer.compiled_steps.kernels import KernelSteps
from ember.params import get_param_store

X = torch.randn(64, 400, generator=torch.Generator().manual_seed(1))


class Autoencoder(nn.Module):
    """Networks whose matrix products outweigh everything else."""

    def __init__(self, *inside):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(400, 400), nn.Softplus(), *inside, nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.Tanh(), *inside, nn.Linear(400, 400))

    def model(self, x):
        ember.module("decoder", self.decoder)
        with ember.plate("rows", len(x)):
            z = ember.sample("z", dist.Normal(torch.zeros(20), torch.ones(20)).to_event(1))
            ember.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        ember.module("encoder", self.encoder)
        with ember.plate("rows", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            ember.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def fit(execution, make, batches, num_steps=EAGER_STEPS + 5):
    """Take steps from a fresh store; return losses, parameters and the SVI."""
    ember.clear_param_store()
    ember.set_rng_seed(0)
    model, guide, *optimizer = make()
    optimizer = optimizer[0] if optimizer else optim.Adam({"lr": 0.001})
    svi = SVI(model, guide, optimizer, Trace_ELBO(), execution=execution)
    losses = [svi.step(batches[index % len(batches)]) for index in range(num_steps)]
    values = {name: leaf.detach().clone() for name, leaf in get_param_store().named_parameters()}
    return losses, values, svi


def uses_kernels(svi):
    return any(isinstance(kind.captured, KernelSteps) for kind in svi._execution._kinds)


def autoencoder(*inside):
    def make():
        networks = Autoencoder(*copy.deepcopy(inside))
        return networks.model, networks.guide

    return make


def assert_same(make, batches=(X,), num_steps=EAGER_STEPS + 5):
    expected = fit("eager", make, batches, num_steps)
    found = fit("auto", make, batches, num_steps)
    assert uses_kernels(found[2])
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(expected[0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-5)


class Rows(nn.Module):
    """Reads vectors as sequences, for a recurrent network or attention."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.reshape(-1, 20, 20))[0].reshape(-1, 400)


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)


@pytest.mark.parametrize(
    "inside",
    [
        (),
        (nn.Dropout(0.3),),
        (nn.LayerNorm(400), nn.GELU()),
        (Rows(nn.LSTM(20, 20, batch_first=True)),),
        (Rows(Attention(20, 4, batch_first=True)),),
    ],
)
def test_networks_take_the_steps_of_eager_execution(inside):
    assert_same(autoencoder(*inside))


def test_each_size_of_a_minibatch_has_a_program():
    assert_same(autoencoder(), (X, X[:60]), 2 * EAGER_STEPS + 6)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optim.ClippedAdam({"lr": 0.001, "lrd": 0.99}),
        lambda: optim.Adam({"lr": 0.001}, {"clip_norm": 1.0}),
        lambda: optim.NAdam({"lr": 0.001}),
    ],
)
def test_any_optimiser_will_do(optimizer):
    assert_same(lambda: (*autoencoder()(), optimizer()))


@pytest.mark.parametrize("optimizer", [optim.DCTAdam, optim.Adam])
def test_optimisers_may_look_at_minibatches_of_parameters(optimizer):
    def make():
        weight = torch.randn(400, 900, generator=torch.Generator().manual_seed(3)) / 20

        def model(x):
            with ember.plate("rows", len(x), subsample_size=50) as chosen:
                shift = ember.param("shift", torch.zeros(64, 400), event_dim=1)
                mean = x[chosen] @ weight @ weight.T + shift
                ember.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=x[chosen])

        options = {"lr": 0.01, "subsample_aware": True} if optimizer is optim.DCTAdam else {"lr": 0.01}
        return model, lambda x: None, optimizer(options)

    expected, found = fit("eager", make, (X,)), fit("auto", make, (X,))
    assert uses_kernels(found[2]) is (optimizer is optim.Adam)
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(expected[0]), rtol=1e-4, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-4)


def test_convolutions_run_on_kernels(caplog):
    def make():
        net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())

        def model(x):
            ember.module("net", net)
            with ember.plate("rows", len(x)):
                loc = net(x.reshape(-1, 1, 20, 20)).mean(-1)
                ember.sample("y", dist.Normal(loc, 1.0), obs=x[:, 0])

        return model, lambda x: None

    with caplog.at_level(logging.WARNING, "ember"):
        assert_same(make)
    assert all("runs eagerly" not in each.message for each in caplog.records)


def test_subsamples_and_draws_are_new_in_each_step():
    weight = torch.randn(400, 900) / 20

    def make():
        def model(x):
            scale = ember.sample("scale", dist.Gamma(2.0, 1.0))
            with ember.plate("rows", len(x), subsample_size=50) as chosen:
                keep = ember.sample("keep", dist.Bernoulli(0.5), infer={"is_auxiliary": True}, obs=None)
                mean = (x[chosen] @ weight @ weight.T) * keep.unsqueeze(-1)
                ember.sample("y", dist.Normal(mean, 0.1 + scale).to_event(1), obs=x[chosen])

        def guide(x):
            concentration = ember.param("c", torch.tensor(2.0), constraint=dist.constraints.positive)
            ember.sample("scale", dist.Gamma(concentration, 1.0))
            with ember.plate("rows", len(x), subsample_size=50):
                ember.sample("keep", dist.Bernoulli(0.5))

        return model, guide

    assert_same(make)


class Counting(nn.Module):
    """Keeps an average in a buffer that it replaces, and one that it only reads."""

    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros(400))
        self.register_buffer("fixed", torch.full((400,), 0.5))

    def forward(self, x):
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return x - self.average * self.fixed


@pytest.mark.parametrize(
    "inside",
    [(nn.BatchNorm1d(400),), (Counting(),), (nn.utils.parametrizations.spectral_norm(nn.Linear(400, 400)),)],
)
def test_buffers_that_a_step_writes_are_carried(inside, caplog):
    def make():
        networks.append(Autoencoder(*copy.deepcopy(inside)))
        return networks[-1].model, networks[-1].guide

    networks = []
    with caplog.at_level(logging.WARNING, "ember"):
        assert_same(make)
    assert all("runs eagerly" not in each.message for each in caplog.records)
    expected, found = (dict(each.named_buffers()) for each in networks)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    for each in networks:
        each.eval()
    assert all(torch.isfinite(each.encoder(X)).all() for each in networks)


def test_normalisation_in_evaluation_mode_reads_its_statistics():
    networks = Autoencoder(nn.BatchNorm1d(400))
    _, _, svi = fit("auto", lambda: (networks.model, networks.guide), (X,))
    networks.eval()
    before = copy.deepcopy(dict(networks.named_buffers()))
    for _ in range(5):
        svi.step(X)
    assert uses_kernels(svi)
    torch.testing.assert_close(dict(networks.named_buffers()), before, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_changes_nothing():
    svi = fit("auto", autoencoder(), (X,))[2]
    before = {name: leaf.detach().clone() for name, leaf in get_param_store().named_parameters()}
    with ember.validation_enabled(False), pytest.warns(UserWarning, match="NaN"):
        loss = svi.step(X * float("nan"))
    assert loss != loss
    assert all(torch.equal(leaf, before[name]) for name, leaf in get_param_store().named_parameters())
    assert all(leaf.grad is None for _, leaf in get_param_store().named_parameters())


def test_nothing_is_captured_anew_without_need():
    _, _, svi = fit("auto", autoencoder(), (X,))
    captures = statistics.captures
    svi.step(X)
    svi.step(X.clone())
    svi.run(20, X, disable_progbar=True)
    assert statistics.captures == captures
    svi.step(X)
    assert uses_kernels(svi)


def test_models_that_change_in_evaluation_mode_are_captured_anew():
    networks = Autoencoder(nn.Dropout(0.9))
    _, _, svi = fit("auto", lambda: (networks.model, networks.guide), (X,))
    noisy = svi.step(X)
    networks.eval()
    for _ in range(4):
        assert svi.step(X) < noisy


def test_runs_resume_bit_for_bit(tmp_path):
    def run(num_steps, **options):
        return svi.run(num_steps, X, disable_progbar=True, checkpoint=tmp_path / "run", **options)

    _, _, svi = fit("auto", autoencoder(), (X,), 0)
    whole = svi.run(EAGER_STEPS + 20, X, disable_progbar=True).losses
    _, _, svi = fit("auto", autoencoder(), (X,), 0)
    run(EAGER_STEPS + 7)
    _, _, svi = fit("auto", autoencoder(), (X,), 0)
    torch.manual_seed(random.randrange(1000))
    resumed = run(EAGER_STEPS + 20, resume=True).losses
    assert torch.equal(resumed[-13:], whole[-13:])


def test_enumerated_mixtures_of_networks():
    def make():
        net = nn.Linear(400, 1200)

        def model(x):
            ember.module("net", net)
            weights = ember.param("w", torch.ones(3) / 3, constraint=dist.constraints.simplex)
            with ember.plate("rows", len(x)):
                kind = ember.sample("kind", dist.Categorical(weights), infer={"enumerate": "parallel"})
                loc = net(x).reshape(-1, 3, 400)
                chosen = torch.nn.functional.one_hot(kind, 3).to(loc.dtype)
                loc = (loc * chosen.unsqueeze(-1)).sum(-2)
                ember.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

        return model, lambda x: None

    results = []
    for execution in ("eager", "auto"):
        ember.clear_param_store()
        ember.set_rng_seed(0)
        model, guide = make()
        svi = SVI(
            config_enumerate(model), guide, optim.Adam({"lr": 0.01}), TraceEnum_ELBO(1), execution=execution
        )
        results.append([svi.step(X) for _ in range(EAGER_STEPS + 4)])
    assert uses_kernels(svi)
    torch.testing.assert_close(torch.tensor(results[1]), torch.tensor(results[0]), rtol=1e-6, atol=0)
