"""Random walks, statistics instead of draws, and adaptation for kernels of users' own."""

import math

import pytest
import torch

import ember
import ember.distributions as dist
from ember.infer import MCMC, NUTS
from ember.infer.mcmc import (
    ArrowheadMassMatrix,
    BlockMassMatrix,
    MCMCKernel,
    RandomWalkKernel,
    StreamingMCMC,
    WarmupAdapter,
)
from ember.ops.streaming import CountMeanVarianceStats, StackStats, StatsOfDict

Y = torch.tensor([1.0, 2.0, 0.5, 1.5])
MEAN, SD = float(Y.sum() / 4.25), 4.25**-0.5


def model(y=Y):
    mu = ember.sample("mu", dist.Normal(0.0, 2.0))
    ember.sample("scale", dist.HalfNormal(torch.ones(2)).to_event(1))
    with ember.plate("data", len(y)):
        ember.sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.mark.parametrize("execution", ["native", "eager"])
def test_random_walk_finds_the_posterior(execution):
    ember.set_rng_seed(0)
    draws = 20_000 if execution == "native" else 200
    kernel = RandomWalkKernel(model, init_step_size=0.3, target_accept_prob=0.3)
    mcmc = MCMC(kernel, draws, 200, num_chains=2, disable_progbar=True, execution=execution)
    mcmc.run()
    mu = mcmc.get_samples()["mu"].double()
    assert mcmc.get_samples(group_by_chain=True)["scale"].shape == (2, draws, 2)
    found = mcmc.diagnostics()
    error = SD / float(found["mu"]["n_eff"]) ** 0.5
    assert abs(float(mu.mean()) - MEAN) < 4.5 * error
    assert float(mu.std()) == pytest.approx(SD, rel=0.4 if execution == "eager" else 0.05)
    assert "divergences" not in found
    assert all(0.2 < rate < 0.4 for rate in found["acceptance rate"].values())


def test_random_walk_keeps_its_step_size_without_warmup():
    mcmc = MCMC(RandomWalkKernel(model, init_step_size=0.25), 3, 0, disable_progbar=True)
    mcmc.run()
    assert mcmc.kernel.step_size == 0.25
    with pytest.raises(ValueError, match="init_step_size=-1"):
        RandomWalkKernel(model, init_step_size=-1)


def test_random_walk_step_by_step():
    kernel = RandomWalkKernel(model)
    kernel.setup(5)
    params = kernel.initial_params
    for _ in range(12):
        params = kernel.sample(params)
    assert {name: value.shape for name, value in params.items()} == {"mu": (), "scale": (2,)}
    assert list(kernel.diagnostics()) == ["acceptance rate"] and "acc. prob" in kernel.logging()


def both(statistics=None, chains=2, **options):
    """Return the draws, and the statistics of the same draws."""
    ember.set_rng_seed(3)
    kept = MCMC(NUTS(model), 30, 20, num_chains=chains, disable_progbar=True, **options)
    kept.run()
    ember.set_rng_seed(3)
    streaming = StreamingMCMC(
        NUTS(model), 30, 20, statistics=statistics, num_chains=chains, disable_progbar=True, **options
    )
    streaming.run()
    return kept.get_samples(group_by_chain=True), streaming


def test_statistics_are_those_of_the_draws():
    draws, streaming = both()
    by_chain, merged = streaming.get_statistics(), streaming.get_statistics(group_by_chain=False)
    assert set(by_chain) == {(chain, name) for chain in (0, 1) for name in ("mu", "scale")}
    for name, value in draws.items():
        for chain in (0, 1):
            torch.testing.assert_close(by_chain[chain, name]["mean"], value[chain].mean(0))
        assert merged[name]["count"] == 60
        torch.testing.assert_close(merged[name]["variance"], value.flatten(0, 1).var(0))
    found = streaming.diagnostics()
    between = draws["scale"].mean(1).var(0)
    expected = (29 / 30 + between / draws["scale"].var(1).mean(0)).sqrt()
    torch.testing.assert_close(found["scale"]["r_hat"], expected)
    assert set(found["divergences"]) == set(found["acceptance rate"]) == {"chain 0", "chain 1"}


def test_statistics_of_ones_choice():
    choice = StatsOfDict({(0, "mu"): StackStats}, default=CountMeanVarianceStats)
    draws, streaming = both(choice, chains=1, save_params=["mu"])
    found = streaming.get_statistics()
    assert list(found) == [(0, "mu")]
    torch.testing.assert_close(found[0, "mu"]["samples"], draws["mu"][0])
    assert choice.get()[0, "mu"] == {"count": 0}  # the user's object is a pattern
    assert streaming.diagnostics()["acceptance rate"]["chain 0"] > 0.5
    with pytest.raises(ValueError, match="no draws yet"):
        StreamingMCMC(NUTS(model), 3).get_statistics()


class Leapfrog(MCMCKernel):
    """A kernel as a user writes one with Pyro's adapter: HMC of three steps on a normal density."""

    def __init__(self, precision, dense):
        self.precision, self.dense = precision, dense
        self.adapter = WarmupAdapter(0.5, adapt_step_size=True, adapt_mass_matrix=True, dense_mass=dense)

    def setup(self, warmup_steps, *args, **kwargs):
        self.number = 0
        shape = (2, 2) if self.dense else (2,)
        options = {"dtype": torch.float64}
        self.adapter.configure(warmup_steps, 0.5, {("z",): shape}, lambda z: 0.7, options)

    @property
    def initial_params(self):
        return {"z": torch.zeros(2, dtype=torch.float64)}

    def sample(self, params):
        mass = self.adapter.mass_matrix_adapter
        start = params["z"]
        noise = {("z",): torch.randn(2, dtype=torch.float64)}
        momentum = mass.scale(noise, params)
        torch.testing.assert_close(mass.unscale(momentum)["z",], noise["z",])

        def energy(z, r):
            return 0.5 * z @ self.precision @ z + 0.5 * mass.kinetic_grad({"z": r})["z"] @ r

        z, r, size = start, momentum["z"], self.adapter.step_size
        for _ in range(3):
            r = r - 0.5 * size * self.precision @ z
            z = z + size * mass.kinetic_grad({"z": r})["z"]
            r = r - 0.5 * size * self.precision @ z
        accept = min(1.0, math.exp(min(0.0, float(energy(start, momentum["z"]) - energy(z, r)))))
        if torch.rand(()) >= accept:
            z = start
        self.adapter.step(self.number, {"z": z}, accept, {"z": self.precision @ z})
        self.number += 1
        return {"z": z}


@pytest.mark.parametrize("form", ["diagonal", "dense", "arrowhead"])
def test_a_users_kernel_adapts(form):
    ember.set_rng_seed(1)
    covariance = torch.tensor([[4.0, 0.3], [0.3, 0.25]], dtype=torch.float64)
    kernel = Leapfrog(torch.linalg.inv(covariance), form != "diagonal")
    if form == "arrowhead":
        kernel.adapter.mass_matrix_adapter = ArrowheadMassMatrix()
    mcmc = MCMC(kernel, 300, 400, disable_progbar=True)
    mcmc.run()
    inverse = kernel.adapter.mass_matrix_adapter.inverse_mass_matrix["z",]
    expected = covariance if form != "diagonal" else covariance.diagonal()
    torch.testing.assert_close(inverse, expected, rtol=0.5, atol=0.1)
    assert kernel.adapter.step_size > 0.3
    windows = [tuple(each) for each in kernel.adapter.adaptation_schedule]
    assert windows == [(0, 74), (75, 99), (100, 149), (150, 349), (350, 399)]


def test_mass_matrices_of_several_sites():
    shapes = {("a", "b"): (3, 3), ("c",): (2,)}
    like = {"a": torch.ones(()), "b": torch.ones(2), "c": torch.ones(2)}
    for mass in (BlockMassMatrix(), ArrowheadMassMatrix()):
        mass.configure(shapes)
        torch.manual_seed(0)
        for _ in range(50):
            z = {name: torch.randn(value.shape) * 2 for name, value in like.items()}
            mass.update(z, z)
        mass.end_adaptation()
        inverse = torch.block_diag(
            *(value.diag() if value.ndim == 1 else value for value in mass.inverse_mass_matrix.values())
        )
        assert sum(mass.mass_matrix_size.values()) == 5
        velocity = mass.kinetic_grad(like)
        assert {name: value.shape for name, value in velocity.items()} == {
            name: value.shape for name, value in like.items()
        }
        flat = torch.cat([velocity[name].reshape(-1) for name in "abc"])
        torch.testing.assert_close(flat, inverse @ torch.ones(5))
        # Scaling has the mass matrix as covariance: the map back and forth is the identity.
        momentum = mass.scale(mass.unscale(like), like)
        torch.testing.assert_close(momentum["b"], like["b"])
        noise = mass.unscale(like)
        energy = sum(float(each @ each) for each in noise.values())
        assert energy == pytest.approx(float(flat.sum()), rel=1e-4)


def test_forms_of_mass_matrices_that_nuts_takes():
    kernel = NUTS(model)
    kernel.mass_matrix_adapter = ArrowheadMassMatrix()
    mcmc = MCMC(kernel, 10, 30, disable_progbar=True)
    mcmc.run()
    assert kernel.inverse_mass_matrix["mu", "scale"].shape == (3, 3)
    with pytest.raises(TypeError, match="cannot adapt by a WarmupAdapter"):
        kernel.mass_matrix_adapter = WarmupAdapter()
