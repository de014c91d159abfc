"""Ask causal questions with condition, do and uncondition."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

pyro.set_rng_seed(0)


def model():
    with pyro.plate("people", 4000):
        smoker = pyro.sample("smoker", dist.Bernoulli(0.3))
        tar = pyro.sample("tar", dist.Normal(smoker * 2.0, 0.5))
        return pyro.sample("cough", dist.Bernoulli(logits=tar - 1.0))


seen = pyro.condition(model, data={"tar": torch.full((4000,), 3.0)})
forced = pyro.do(model, data={"tar": torch.full((4000,), 3.0)})
trace = poutine.trace(seen).get_trace()
assert trace.nodes["tar"]["is_observed"]
assert trace.log_prob_sum() < poutine.trace(model).get_trace().log_prob_sum()
trace = poutine.trace(forced).get_trace()
assert not trace.nodes["tar"]["is_observed"] and abs(trace.nodes["tar"]["value"].mean() - 0.6) < 0.1
assert forced().mean() > 0.8
assert not poutine.trace(poutine.uncondition(seen)).get_trace().nodes["tar"]["is_observed"]
replayed = poutine.replay(model, trace=poutine.trace(model).get_trace())
assert torch.equal(replayed(), replayed())
with poutine.mask(mask=False):
    assert poutine.trace(model).get_trace().log_prob_sum() == 0.0
with poutine.scale(scale=0.1):
    assert poutine.trace(model).get_trace().nodes["smoker"]["scale"] == 0.1
