"""Train a small variational autoencoder: torch modules, amortised guide, learning rate schedule."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ExponentialLR
from torch import nn

pyro.set_rng_seed(8)


class VAE(nn.Module):
    def __init__(self, size=6, latent=2):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Linear(size, 2 * latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 8), nn.Softplus(), nn.Linear(8, size))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            prior = dist.Normal(torch.zeros(x.shape[0], self.latent), 1.0).to_event(1)
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


x = (torch.rand(64, 1) < 0.5).float().expand(64, 6).contiguous()
vae = VAE()
schedule = ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.95})
svi = SVI(vae.model, vae.guide, schedule, loss=Trace_ELBO())
losses = []
for _epoch in range(10):
    for batch in x.split(16):
        losses.append(svi.step(batch))
    schedule.step()
assert sum(losses[-4:]) < 0.95 * sum(losses[:4]), losses
assert sorted(name.split("$$$")[0] for name in pyro.get_param_store())[0] == "decoder"
