"""Check summaries, diagnostics, their printed form, and the functions under Pyro's module path."""

import arviz
import numpy as np
import pytest
import torch

import ember
import ember.distributions as dist
from ember.infer import MCMC, NUTS
from ember.infer.mcmc import util
from ember.infer.mcmc.summary import highest_density_interval, summary
from ember.model.density import Density


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(4, 250, generator=generator),
        "v": torch.randn(4, 250, 2, generator=generator).cumsum(1),
    }


def test_figures_are_those_of_arviz(samples):
    table = summary(samples)
    assert list(table["v"]) == ["mean", "std", "median", "5.0%", "95.0%", "n_eff", "r_hat"]
    for i in range(2):
        column = samples["v"][..., i].numpy()
        assert float(table["v"]["n_eff"][i]) == pytest.approx(float(arviz.ess(column)), rel=1e-5)
        assert float(table["v"]["r_hat"][i]) == pytest.approx(float(arviz.rhat(column)), rel=1e-5)
    flat = samples["x"].flatten()
    torch.testing.assert_close(table["x"]["mean"], flat.mean())
    torch.testing.assert_close(table["x"]["std"], flat.std())
    low, high = arviz.hdi(flat.numpy().astype(float), hdi_prob=0.9)
    assert float(table["x"]["5.0%"]) == pytest.approx(low, abs=0.05)
    assert float(table["x"]["95.0%"]) == pytest.approx(high, abs=0.05)
    assert table["v"]["r_hat"].min() > 1.1  # random walks do not agree
    assert table["x"]["r_hat"] < 1.02


def test_single_chain_counts_as_halves(samples):
    drifting = torch.linspace(0, 5, 1000) + torch.randn(1000)
    flat = summary({"x": drifting}, group_by_chain=False)["x"]
    assert flat["r_hat"] > 1.5
    assert summary({"x": samples["x"][:1]})["x"]["r_hat"] < 1.05


def test_few_draws_have_no_diagnostics():
    table = util.diagnostics({"x": torch.randn(2, 3)})
    assert table["x"]["n_eff"].isnan()
    assert table["x"]["r_hat"].isnan()


def test_interval_is_the_shortest():
    draws = torch.cat([torch.linspace(0, 1, 91), torch.linspace(10, 100, 10)])
    torch.testing.assert_close(highest_density_interval(draws, 0.9), torch.tensor([0.0, 1.0]))


def test_prob_outside_the_unit_interval(samples):
    with pytest.raises(ValueError, match="prob must lie between 0 and 1, got 90"):
        summary(samples, prob=90)


def test_printed_table(samples, capsys):
    util.print_summary({"x": samples["x"], "a_long_name": samples["v"]}, prob=0.8)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ""
    assert lines[1].split() == ["mean", "std", "median", "10.0%", "90.0%", "n_eff", "r_hat"]
    assert [line.split()[0] for line in lines[2:5]] == ["x", "a_long_name[0]", "a_long_name[1]"]
    assert len({len(line) for line in lines[1:5]}) == 1
    mean = float(lines[2].split()[1])
    assert mean == pytest.approx(float(samples["x"].mean()), abs=0.006)


def test_select_samples(samples):
    chosen = util.select_samples({"x": torch.arange(10.0).reshape(2, 5)}, 4, group_by_chain=True)["x"]
    assert torch.equal(chosen[1] - chosen[0], torch.full((4,), 5.0))
    assert util.select_samples(samples)["v"].shape == (1000, 2)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        util.select_samples(samples, 0)


Y = torch.tensor([1.0, 2.0, 0.5])


def model(y=None):
    mu = ember.sample("mu", dist.Normal(0.0, 2.0))
    s = ember.sample("s", dist.HalfNormal(1.0))
    with ember.plate("data", 3):
        z = ember.sample("z", dist.Normal(0.0, 1.0))
        ember.deterministic("twice", mu + 2 * z, event_dim=0)
        ember.sample("y", dist.Normal(mu + z, s + 0.5), obs=y)


@pytest.fixture(scope="module")
def mcmc():
    ember.set_rng_seed(0)
    fitted = MCMC(NUTS(model), 30, 30, num_chains=2, disable_progbar=True)
    fitted.run(Y)
    return fitted


def test_summary_and_diagnostics_of_a_run(mcmc, capsys):
    mcmc.summary()
    text = capsys.readouterr().out
    assert "z[2]" in text
    count = int(mcmc.sample_stats["diverging"].sum())
    assert text.rstrip().endswith(f"Number of divergences: {count}")
    found = mcmc.diagnostics()
    assert set(found) == {"mu", "s", "z", "divergences", "acceptance rate"}
    assert found["z"]["n_eff"].shape == found["z"]["r_hat"].shape == (3,)
    assert set(found["acceptance rate"]) == {"chain 0", "chain 1"}
    assert all(0 < rate <= 1 for rate in found["acceptance rate"].values())
    assert sum(map(len, found["divergences"].values())) == count


def test_to_arviz(mcmc):
    idata = mcmc.to_arviz()
    assert {"posterior", "sample_stats", "observed_data"} <= set(idata.groups())
    posterior = idata.posterior
    assert set(posterior.data_vars) == {"mu", "s", "z", "twice"}
    assert posterior["z"].dims == posterior["twice"].dims == ("chain", "draw", "data")
    assert posterior["mu"].shape == (2, 30)
    np.testing.assert_allclose(
        posterior["twice"], posterior["mu"].values[..., None] + 2 * posterior["z"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(posterior["z"], mcmc.get_samples(group_by_chain=True)["z"])
    assert set(idata.sample_stats.data_vars) == {
        "energy",
        "tree_depth",
        "n_steps",
        "diverging",
        "acceptance_rate",
        "step_size",
        "lp",
    }
    np.testing.assert_allclose(idata.observed_data["y"], Y)
    lp = Density(model, (Y,), seed=0).log_density(mcmc._positions[1, 7])
    assert float(idata.sample_stats["lp"][1, 7]) == pytest.approx(float(lp))


def test_initialize_model():
    params, potential, transforms, trace = util.initialize_model(model, (Y,))
    assert list(params) == ["mu", "s", "z"]
    assert params["z"].shape == (3,)
    values = {name: value.requires_grad_() for name, value in params.items()}
    energy = potential(values)
    constrained = {name: transforms[name].inv(value) for name, value in values.items()}
    torch.testing.assert_close(constrained["s"], values["s"].exp())
    joint = ember.poutine.trace(ember.poutine.condition(model, data=constrained)).get_trace(Y).log_prob_sum()
    torch.testing.assert_close(energy, -(joint + values["s"]), rtol=1e-5, atol=1e-5, check_dtype=False)
    (gradient,) = torch.autograd.grad(energy, values["mu"])
    assert gradient.isfinite()
    assert "y" in trace.nodes
    several, *_ = util.initialize_model(model, (Y,), num_chains=3)
    assert several["z"].shape == (3, 3)


def test_predictive_function():
    out = util.predictive(model, {"mu": torch.zeros(4)}, return_sites=("y",))
    assert {name: value.shape for name, value in out.items()} == {"y": (4, 3)}
