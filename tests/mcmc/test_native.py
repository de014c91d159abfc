"""Check that machine code gives the eager draws, and that what has none falls back and says why."""

import importlib
import os
import subprocess
import sys
import threading

import pytest
import torch

import ember
import ember.distributions as dist
from ember import engine, settings
from ember.engine import machine
from ember.engine.policy import ExecutionError
from ember.engine.statistics import statistics
from ember.infer import HMC, MCMC, NUTS
from ember.infer.mcmc.starting import StartingDensity
from ember.model.density import Density

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(y, sigma):
    mu = ember.sample("mu", dist.Normal(0.0, 5.0))
    tau = ember.sample("tau", dist.HalfCauchy(5.0))
    with ember.plate("schools", len(y)):
        theta = ember.sample("theta", dist.Normal(0.0, 1.0))
        ember.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)


def scaled_by_plate(y, _):
    """Use subsampling, masks, factors, missing data, deterministics and constrained supports at once."""
    weights = ember.sample("weights", dist.Dirichlet(torch.ones(3)))
    rate = ember.sample("rate", dist.Gamma(2.0, 1.0))
    location = ember.param("location", torch.tensor(0.5))
    ember.deterministic("first", weights[..., 0])
    ember.factor("tilt", -0.1 * rate**2)
    with ember.plate("data", len(y), subsample_size=4):
        batch = ember.subsample(y, event_dim=0)
        mean = location + rate * weights[..., 0]
        with ember.poutine.mask(mask=torch.tensor([True, True, False, True])):
            ember.sample("y", dist.StudentT(3.0, mean, 1.0), obs=batch)
        ember.sample("z", dist.Normal(mean, 1.0), obs=batch, obs_mask=torch.tensor([True, False, True, True]))


def linear(y, sigma):
    covariance = torch.eye(2) + 0.3
    beta = ember.sample("beta", dist.MultivariateNormal(torch.zeros(2), covariance))
    scale = ember.sample("scale", dist.LKJCholesky(3, 2.0))
    ember.sample("y", dist.Normal(beta[0] + beta[1] * sigma + scale.sum(), 2.0).to_event(1), obs=y)


def draws_of(model, execution, kernel=NUTS, warmup=20, draws=10, chains=2, **options):
    ember.clear_param_store()
    ember.set_rng_seed(3)
    with settings.context(execution=execution):
        mcmc = MCMC(
            kernel(model, **options), draws, warmup_steps=warmup, num_chains=chains, disable_progbar=True
        )
        mcmc.run(Y, SIGMA)
    return mcmc


@pytest.mark.filterwarnings("ignore:the plate 'data' subsamples:UserWarning")
@pytest.mark.parametrize("model", [eight_schools, scaled_by_plate, linear])
def test_native_draws_are_the_eager_ones(model):
    eager, native = (draws_of(model, execution, draws=6, warmup=8) for execution in ("eager", "native"))
    for name, value in eager.get_samples(group_by_chain=True).items():
        torch.testing.assert_close(native.get_samples(group_by_chain=True)[name], value, rtol=1e-4, atol=1e-5)
    for name, value in eager.sample_stats.items():
        torch.testing.assert_close(native.sample_stats[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (HMC, {"trajectory_length": 1.0}),
        (NUTS, {"full_mass": True}),
        (NUTS, {"adapt_mass_matrix": False}),
        (NUTS, {"metric": "low_rank"}),
        (NUTS, {"scheme": "stan"}),
    ],
)
def test_every_form_of_kernel_runs_natively(kernel, options):
    eager, native = (
        draws_of(eight_schools, execution, kernel, draws=4, warmup=24, chains=1, **options)
        for execution in ("eager", "native")
    )
    for name, value in eager.get_samples().items():
        torch.testing.assert_close(native.get_samples()[name], value, rtol=1e-4, atol=1e-5)


def test_chunks_and_chains_do_not_change_the_draws():
    together = draws_of(eight_schools, "native", draws=400, chains=3)
    alone = draws_of(eight_schools, "native", draws=300, chains=1)
    whole = together.get_samples(group_by_chain=True)["mu"][0, :300]
    assert torch.equal(alone.get_samples(group_by_chain=True)["mu"][0], whole)


def test_new_data_of_equal_shape_compiles_nothing():
    draws_of(eight_schools, "native")
    before = statistics.snapshot()["compilations"]
    with settings.context(execution="native"):
        mcmc = MCMC(NUTS(eight_schools), 10, warmup_steps=20, num_chains=2, disable_progbar=True)
        mcmc.run(Y + 5.0, SIGMA * 2.0)
    assert statistics.snapshot()["compilations"] == before
    before = statistics.snapshot()
    shorter = MCMC(NUTS(eight_schools), 5, warmup_steps=5, disable_progbar=True)
    shorter.run(Y[:5], SIGMA[:5])
    after = statistics.snapshot()
    made = [after[name] - before[name] for name in ("captures", "compilations", "disk_hits")]
    assert made[0] == 1 and sum(made[1:]) == 1
    assert shorter.get_samples()["theta"].shape == (5, 5)


def branching(y, sigma):
    x = ember.sample("x", dist.Normal(0.0, 1.0))
    scale = 1.0 if x > 0 else 2.0
    ember.sample("y", dist.Normal(x, scale * sigma).to_event(1), obs=y)


def test_a_branch_on_a_value_falls_back_and_says_where(caplog):
    with caplog.at_level("WARNING", logger="ember"):
        mcmc = draws_of(branching, "auto", draws=3, warmup=3)
    assert mcmc.get_samples()["x"].shape == (6,)
    assert "runs eagerly" in caplog.text
    assert "test_native.py" in caplog.text
    with pytest.raises(ExecutionError, match=r"cannot run as machine code.*test_native\.py"):
        draws_of(branching, "native", draws=3, warmup=3)


@pytest.mark.slow  # torch.compile takes half a minute for its first program
def test_gradients_by_torch_compile_give_the_eager_draws():
    def looping(y, sigma):
        mu = ember.sample("mu", dist.Normal(0.0, 5.0))
        level, _ = engine.scan(lambda level, each: (0.5 * level + mu, None), mu, y)
        covariance = torch.eye(8) + torch.exp(-(y.unsqueeze(1) - y).abs() / 5.0)
        factor = torch.linalg.cholesky(covariance * torch.exp(0.1 * mu))
        ember.sample("y", dist.MultivariateNormal(level.expand(8), scale_tril=factor), obs=y)

    for model in (eight_schools, looping):
        eager = draws_of(model, "eager", draws=3, warmup=5, chains=1).get_samples()
        compiled = draws_of(model, "inductor", draws=3, warmup=5, chains=1).get_samples()
        for name, value in eager.items():
            torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)


def test_what_torch_compile_cannot_take_is_said(monkeypatch):
    with pytest.raises(ExecutionError, match=r"cannot run by torch\.compile.*test_native\.py"):
        draws_of(branching, "inductor", draws=3, warmup=3)

    def while_looping(y, sigma):
        mu = ember.sample("mu", dist.Normal(0.0, 5.0))
        with torch.no_grad():
            steps = engine.while_loop(lambda i: i < mu, lambda i: i + 1.0, torch.zeros(()))
        ember.sample("y", dist.Normal(mu + steps, sigma).to_event(1), obs=y)

    with pytest.raises(ExecutionError, match="while_loop depends on values"):
        draws_of(while_looping, "inductor", draws=3, warmup=3)

    def without_a_compiler(*args, **options):
        def call(*tensors):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", without_a_compiler)
    with pytest.raises(ExecutionError, match=r"RuntimeError: no C\+\+ compiler\n.*fix: use execution='auto'"):
        draws_of(eight_schools, "inductor", draws=3, warmup=3)


def test_threads_sample_at_the_same_time():
    expected = draws_of(eight_schools, "native", draws=50).get_samples()["mu"]
    results = {}

    def work(index):
        # Seeds come from torch's one generator, so the threads share what is drawn from it.
        with settings.context(execution="native"):
            mcmc = MCMC(NUTS(eight_schools), 50, warmup_steps=20, num_chains=2, disable_progbar=True)
            mcmc.run(Y, SIGMA)
        results[index] = mcmc.get_samples()["mu"]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert torch.get_default_dtype() == torch.float32
    assert all(value.shape == expected.shape and value.isfinite().all() for value in results.values())


PROGRAM = """
import os, sys
import torch
import ember, ember.distributions as dist
from ember.infer import MCMC, NUTS

def model(y):
    ember.sample("y", dist.Normal(ember.sample("x", dist.Normal(0.0, 1.0)), 1.0), obs=y)

def mean():
    mcmc = MCMC(NUTS(model), 300, warmup_steps=100, num_chains=2, disable_progbar=True)
    mcmc.run(torch.tensor(1.0))
    return mcmc.get_samples()["x"].mean()
"""


def run_program(text, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_sampling_goes_on_after_a_fork():
    done = run_program(
        """
assert abs(mean() - 0.5) < 0.3
child = os.fork()
if child == 0:
    os._exit(0 if abs(mean() - 0.5) < 0.3 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    )
    assert "Error" not in done.stderr


def test_without_llvmlite_sampling_is_eager_and_says_so_once():
    done = run_program(
        """
sys.modules["llvmlite"] = None
assert abs(mean() - 0.5) < 0.3
assert abs(mean() - 0.5) < 0.3
"""
    )
    assert done.stderr.count("runs eagerly") == 1
    assert "llvmlite" in done.stderr


def test_an_old_llvmlite_is_refused_and_said_once(monkeypatch, caplog):
    monkeypatch.setattr(machine, "OLDEST_LLVM", (10_000, 0, 0))
    machine._binding.cache_clear()
    machine.host.cache_clear()
    importlib.import_module("ember.engine.compile").forget()
    try:
        with caplog.at_level("WARNING", logger="ember"):
            assert draws_of(eight_schools, "auto", draws=2, warmup=2).get_samples()["mu"].shape == (4,)
            draws_of(eight_schools, "auto", draws=2, warmup=2)
    finally:
        machine._binding.cache_clear()
        machine.host.cache_clear()
    assert caplog.text.count("at least 10000 is needed") == 1


def test_more_chains_than_cores():
    chains = 2 * (os.cpu_count() or 1) + 3
    mcmc = draws_of(eight_schools, "native", draws=20, chains=chains)
    together = mcmc.get_samples(group_by_chain=True)["mu"]
    assert together.shape == (chains, 20)
    assert len(together[:, 0].unique()) == chains
    few = draws_of(eight_schools, "native", draws=20, chains=2).get_samples(group_by_chain=True)["mu"]
    assert torch.equal(together[:2], few)


def test_sampling_without_a_usable_cache_warns_once(tmp_path):
    (tmp_path / "occupied").write_text("a file where a folder should be")
    done = run_program("assert abs(mean() - 0.5) < 0.3", EMBER_CACHE_DIR=str(tmp_path / "occupied" / "cache"))
    assert done.stderr.count("compiled programs cannot be kept") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("-inf"), r"site 'wall' is -inf"),
        (float("nan"), r"(?s)log_factor.*_native\.py.*actual: nan"),
    ],
)
def test_a_density_that_is_nowhere_finite_names_its_site(value, text):
    def impossible(y, sigma):
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        ember.sample("y", dist.Normal(x, sigma).to_event(1), obs=y)
        ember.factor("wall", torch.where(x.isfinite(), value, 0.0))

    with pytest.raises(ValueError, match=text):
        draws_of(impossible, "native", draws=2, warmup=2)


def test_starts_of_models_with_many_operations_are_evaluated_natively():
    runs = {"short": 0, "long": 0}

    def walk(y, sigma):
        name = "short" if len(y) < 10 else "long"
        runs[name] += 1
        level = ember.sample("mu", dist.Normal(0.0, 5.0))
        for each in y:
            level = 0.5 * level + each
        ember.sample("end", dist.Normal(level, 1.0), obs=torch.tensor(0.0))

    for name, data in (("short", Y), ("long", Y.repeat(100))):
        density = Density(walk, (data, SIGMA), seed=0)
        starting, z = StartingDensity(density), torch.tensor([0.3], dtype=torch.float64)
        torch.testing.assert_close(starting(z), density(z))
        before = runs[name]
        torch.testing.assert_close(starting(z + 1.0), density(z + 1.0))
        assert runs[name] - before == (2 if name == "short" else 1)


def test_statistics_of_each_draw():
    stats = draws_of(eight_schools, "native", draws=30).sample_stats
    assert set(stats) == {
        "energy", "tree_depth", "num_leapfrogs", "diverging", "acceptance", "step_size", "log_density"
    }  # fmt: skip
    assert all(value.shape == (2, 30) for value in stats.values())
    assert (stats["energy"] >= -stats["log_density"]).all()
    assert (stats["num_leapfrogs"] >= 2 ** stats["tree_depth"] - 1).all()
    assert (stats["step_size"].std(1) == 0).all() and (stats["step_size"] > 0).all()
    assert ((stats["acceptance"] >= 0) & (stats["acceptance"] <= 1)).all()


def test_data_that_is_not_a_number_is_named():
    with pytest.raises(ValueError, match="'y'"):
        MCMC(NUTS(eight_schools), 5, warmup_steps=5, disable_progbar=True).run(Y * float("nan"), SIGMA)


def test_interrupting_keeps_what_was_drawn(monkeypatch):
    from ember.infer.mcmc import run as loop

    calls = 0
    original = loop.wait

    def interrupted_wait(*args, **kwargs):
        nonlocal calls
        calls += 1
        result = original(*args, **kwargs)
        if calls == 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(loop, "wait", interrupted_wait)
    monkeypatch.setattr(loop, "_REFRESH", 0.05)
    ember.set_rng_seed(0)
    with settings.context(execution="native"):
        mcmc = MCMC(NUTS(eight_schools), 10_000_000, warmup_steps=50, num_chains=2, disable_progbar=True)
        with pytest.warns(RuntimeWarning, match="interrupted"):
            mcmc.run(Y, SIGMA)
    draws = mcmc.get_samples(group_by_chain=True)["mu"]
    assert 0 < draws.shape[1] < 10_000_000
    assert draws.isfinite().all()


def test_a_factorisation_that_fails_counts_as_zero_density():
    def model(y, sigma):
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        covariance = torch.stack([torch.stack([x * 0 + 1.0, x]), torch.stack([x, x * 0 + 1.0])])
        ember.sample("y", dist.MultivariateNormal(torch.zeros(2), covariance), obs=torch.zeros(2))

    mcmc = draws_of(model, "native", draws=200, warmup=100)
    # Beyond |x| = 1 the matrix is not positive definite.
    assert mcmc.get_samples()["x"].abs().max() < 1.0
