"""Learn a discrete guide by score-function gradients with a decaying-average baseline."""

import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro.distributions.util import broadcast_shape, sum_rightmost
from pyro.infer import SVI, Trace_ELBO

pyro.set_rng_seed(4)
data = torch.tensor([2.1, 1.8, -2.2, 2.4])
assert broadcast_shape((4, 1), (3,)) == (4, 3) and sum_rightmost(torch.ones(2, 3), 1).shape == (2,)


def model(data):
    with pyro.plate("data", len(data)):
        side = pyro.sample("side", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(4.0 * side - 2.0, 1.0), obs=data)


def guide(data):
    logits = pyro.param("logits", torch.zeros(len(data)))
    with pyro.plate("data", len(data)):
        pyro.sample(
            "side",
            dist.Bernoulli(logits=logits),
            infer={"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}},
        )


svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), Trace_ELBO(num_particles=4))
for _ in range(250):
    svi.step(data)
logits = pyro.param("logits").detach()
assert torch.equal(logits > 0, data > 0), logits
