"""Average gradient estimates over all draws of a guide, weighed exactly: the mean must be the exact gradient.

Run with ``-s`` to see by how much summing and graph structure reduce the variance; it is exact, too.
"""

import itertools

import pytest
import torch

import ember
from ember import poutine
from ember.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from ember.poutine.messenger import Messenger
from enumeration.generated import generate, guide_of, model_of, proposals_for
from enumeration.test_random_networks import bound


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Drawn(Messenger):
    """Give latent sites values in place of draws."""

    def __init__(self, values):
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def draws_of(guide, names):
    """Yield all values of some sites of a guide, as dicts."""
    nodes = poutine.trace(guide).get_trace().nodes
    choices = []
    for name in names:
        support, shape = (
            nodes[name]["fn"].enumerate_support(expand=False).flatten(),
            nodes[name]["value"].shape,
        )
        values = itertools.product(support.tolist(), repeat=shape.numel())
        choices.append([torch.tensor(each, dtype=support.dtype).reshape(shape) for each in values])
    for values in itertools.product(*choices):
        yield dict(zip(names, values, strict=True))


def moments(network, proposals, objective, hidden):
    """Return (mean gradient, its variance summed over parameters, exact gradient, mean loss, exact loss)."""
    guide, sampled = (
        guide_of(network, proposals, []),
        [n for n, mode in proposals.modes.items() if mode == "sampled"],
    )
    model = poutine.infer_config(
        model_of(network), lambda site: {"enumerate": "parallel" if site["name"] in hidden else None}
    )
    means, squares, loss, exact = None, 0.0, 0.0, 0.0
    for draw in draws_of(guide, sampled):
        fixed = Drawn(draw)(guide)
        nodes = poutine.trace(fixed).get_trace().nodes
        log_q = sum((nodes[n]["fn"].log_prob(nodes[n]["value"]).sum() for n in sampled), torch.zeros(()))
        value = objective.differentiable_loss(model, fixed)
        leaves = list(dict(ember.get_param_store().named_parameters()).values())
        gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        flat = torch.cat([each.flatten() for each in gradients])
        q = log_q.exp()
        means = q.detach() * flat if means is None else means + q.detach() * flat
        squares = squares + q.item() * flat.square().sum()
        loss = loss + q.item() * objective.loss(model, fixed)
        exact = exact - q * bound(network, proposals, draw)
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    gradients = torch.autograd.grad(exact, leaves, allow_unused=True, materialize_grads=True)
    expected = torch.cat([each.flatten() for each in gradients])
    return means, squares - means.square().sum(), expected, loss, exact.item()


def small(seed, loops=True):
    """Return a network with few values; without sequential plates unless ``loops``."""
    while True:
        network = generate(seed, fewest=2, largest=64)
        partly = any(site.kind == "partly" for site in network.sites)
        if not partly and (loops or 0 not in network.history.values()):
            return network
        seed += 5_000


OBJECTIVES = {
    "Trace": (Trace_ELBO, ["sampled"]),
    "Graph": (TraceGraph_ELBO, ["sampled"]),
    "Enum": (TraceEnum_ELBO, ["sampled"]),
    "Enum, some summed": (TraceEnum_ELBO, ["sampled", "sampled", "parallel"]),
}


@pytest.mark.parametrize("seed", range(8))
def test_expected_gradients_are_exact(seed):
    variances = {}
    for name, (kind, modes) in OBJECTIVES.items():
        ember.clear_param_store()
        network = small(seed, loops=False)
        proposals = proposals_for(network, seed, modes, share=1.0)
        options = {"strict_enumeration_warning": False} if kind is TraceEnum_ELBO else {}
        found = moments(network, proposals, kind(max_plate_nesting=3, **options), ())
        mean, variances[name], expected, loss, exact = found
        torch.testing.assert_close(mean, expected, msg=lambda text, name=name: f"{name}: {text}")
        assert loss == pytest.approx(exact)
    shown = (f"{name} {value / variances['Trace']:.3f}" for name, value in variances.items())
    print(f"network {seed}: variance of gradients beside Trace_ELBO's:", ", ".join(shown))
    assert variances["Enum"] <= variances["Graph"] * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_expected_gradients_beside_summed_sites(seed):
    network = small(seed)
    proposals = proposals_for(network, seed, ["sampled", "parallel"], share=0.6)
    hidden = [site.name for site in network.latents() if site.name not in proposals.modes]
    objective = TraceEnum_ELBO(max_plate_nesting=3, strict_enumeration_warning=False)
    try:
        mean, _, expected, loss, exact = moments(network, proposals, objective, hidden)
    except ValueError as error:
        if "plate by plate" in str(error) or "more globally" in str(error):
            pytest.skip("plates cross")
        raise
    torch.testing.assert_close(mean, expected)
    assert loss == pytest.approx(exact)
