"""Write effect handlers: subclasses of Messenger that record, change and hide sites."""

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from pyro.poutine.trace_messenger import TraceMessenger


class Recorder(Messenger):
    def __init__(self):
        super().__init__()
        self.sites = []

    def _pyro_sample(self, msg):
        self.sites.append((msg["name"], msg["is_observed"], [f.name for f in msg["cond_indep_stack"]]))

    def _pyro_post_param(self, msg):
        self.sites.append((msg["name"], "param"))


class Halve(Messenger):
    def _process_message(self, msg):
        if msg["type"] == "sample" and not msg["is_observed"]:
            msg["scale"] = msg["scale"] * 0.5

    def _postprocess_message(self, msg):
        if msg["name"] == "z":
            msg["value"] = msg["value"].round()


@effectful(type="shout")
def shout(word):
    return word.upper()


class Quiet(Messenger):
    def _pyro_shout(self, msg):
        msg["value"], msg["done"] = "shh", True


def model():
    loc = pyro.param("loc", torch.tensor(1.0))
    with pyro.plate("items", 3):
        z = pyro.sample("z", dist.Normal(loc, 10.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.zeros(3))
    return z


with Recorder() as recorder, Halve():
    z = model()
assert torch.equal(z, z.round())
assert ("loc", "param") in recorder.sites and ("z", False, ["items"]) in recorder.sites, recorder.sites

with TraceMessenger() as tracer:
    Halve()(model)()
node = tracer.trace.nodes["z"]
assert node["scale"] == 0.5 and tracer.trace.nodes["x"]["scale"] == 1.0

assert shout("hi") == "HI"
with Quiet():
    assert shout("hi") == "shh"

hidden = poutine.trace(poutine.block(model, hide=["z"])).get_trace()
assert "z" not in hidden.nodes and "x" in hidden.nodes
