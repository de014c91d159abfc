"""Sample positive and bounded sites with HMC; draw from the posterior predictive."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import HMC, MCMC, Predictive
from pyro.infer.mcmc.util import initialize_model

pyro.set_rng_seed(6)
counts = torch.tensor([3.0, 4.0, 2.0, 5.0, 4.0, 3.0])


def model(counts=None):
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    with pyro.plate("data", 6):
        return pyro.sample("counts", dist.Poisson(rate), obs=counts)


initial, potential, transforms, prototype = initialize_model(model, model_args=(counts,))
assert set(initial) == {"rate"} and torch.isfinite(potential(initial))
kernel = HMC(model, step_size=0.3, num_steps=5, target_accept_prob=0.8)
mcmc = MCMC(kernel, num_samples=200, warmup_steps=60, disable_progbar=True)
mcmc.run(counts)
rate = mcmc.get_samples()["rate"]
exact = (2.0 + counts.sum()) / (0.5 + 6)  # conjugate
assert abs(rate.mean() - exact) < 0.4, (rate.mean(), exact)
assert set(mcmc.diagnostics()["rate"]) >= {"n_eff", "r_hat"}
drawn = Predictive(model, mcmc.get_samples())()
assert drawn["counts"].shape == (200, 6)
