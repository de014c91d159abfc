"""Use what old programs use: iarange, irange, random_module, and names of long paths."""

import warnings

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.util import torch_item
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.util import prune_subsample_sites
from pyro.util import ignore_jit_warnings, optional, set_rng_seed, torch_isnan

warnings.simplefilter("ignore")
set_rng_seed(0)
assert pyro.__version__[0].isdigit()
with pyro.iarange("batch", 5):
    assert pyro.sample("x", dist.Normal(0.0, 1.0)).shape == (5,)
assert list(pyro.irange("loop", 3)) == [0, 1, 2]
assert torch_item(torch.tensor(2.0)) == 2.0 and not torch_isnan(torch.ones(2))

net = torch.nn.Linear(2, 1)
prior = {
    "weight": dist.Normal(torch.zeros(1, 2), 1.0).to_event(2),
    "bias": dist.Normal(torch.zeros(1), 1.0).to_event(1),
}
lifted = pyro.random_module("net", net, prior)
assert not torch.equal(lifted().weight, lifted().weight)

trace = pyro.poutine.trace(lambda: pyro.plate("p", 4, subsample_size=2)).get_trace()
assert "p" in trace.nodes and "p" not in prune_subsample_sites(trace).nodes
assert CondIndepStackFrame("p", -1, 4, 0) == CondIndepStackFrame("p", -1, 4, 0)
with optional(pyro.poutine.seed(rng_seed=1), True), ignore_jit_warnings():
    pyro.sample("y", dist.Normal(0.0, 1.0))
