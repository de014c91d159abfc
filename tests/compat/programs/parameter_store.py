"""Keep parameters: constraints, state, files, scopes and torch modules."""

import os
import tempfile

import pyro
import torch
from pyro.distributions import constraints
from pyro.params.param_store import ParamStoreDict

store = pyro.get_param_store()
assert isinstance(store, ParamStoreDict) and store is pyro.get_param_store()
pyro.clear_param_store()
scale = pyro.param("scale", torch.tensor(2.0), constraint=constraints.positive)
weights = pyro.param("weights", torch.ones(3) / 3, constraint=constraints.simplex)
assert torch.allclose(scale.unconstrained().exp(), scale)

net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
assert pyro.module("net", net) is net
assert set(store.keys()) == {"scale", "weights", "net$$$0.weight", "net$$$0.bias"}

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "params.pt")
    store.save(path)
    pyro.clear_param_store()
    assert len(store) == 0
    store.load(path)
assert torch.allclose(pyro.param("scale"), torch.tensor(2.0))
restored = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
pyro.module("net", restored, update_module_params=True)
assert torch.equal(restored[0].weight, net[0].weight)

store["scale"] = torch.tensor(5.0)
assert torch.allclose(pyro.param("scale").log(), store.get_param("scale").unconstrained())
with store.scope() as scope:
    assert "scale" not in store
    pyro.param("other", torch.zeros(()))
assert "other" not in store and "scale" in store
with store.scope(scope):
    assert "other" in store
try:
    pyro.param("unknown")
except KeyError as error:
    assert "unknown" in str(error)
else:
    raise SystemExit("an unknown parameter was accepted")
