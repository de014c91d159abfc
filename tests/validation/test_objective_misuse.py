"""Tabulate what objectives say of their own options, and of sites that they cannot take."""

import math

import pytest
import torch
from table import (
    PASSES,
    Row,
    bernoulli,
    check,
    inside,
    judge,
    normal,
    observe,
    over,
    plate,
    raises,
    warns,
)

import ember
import ember.distributions as dist
from ember import infer, optim

ALL = ("Trace", "Graph", "MeanField", "Renyi", "Tail", "TMC", "Jit")
PATHWISE = ("MeanField", "Tail")
SIDE_BY_SIDE = {"num_particles": 5, "vectorize_particles": True}


def both(program):
    return {"model": program, "guide": program}


def regression(obs=True):
    normal("w")
    inside(plate(), lambda: normal("z"))
    inside(plate("q", 2), lambda: observe("x", 0.0, 2)) if obs else None


def shared(infer=None):
    inside(plate(), lambda: normal("z", infer=infer))


ROWS = [
    Row("a plain model", PASSES, regression, lambda: regression(False), on=ALL),
    Row(
        "particles one by one",
        PASSES,
        regression,
        lambda: regression(False),
        on=ALL,
        options={"num_particles": 3},
    ),
    Row(
        "particles side by side", PASSES, regression, lambda: regression(False), on=ALL, options=SIDE_BY_SIDE
    ),
    Row(
        "discrete sites, sampled",
        PASSES,
        **both(lambda: bernoulli("z")),
        on=("Trace", "Graph", "Renyi", "Jit", "Wake"),
    ),
    Row(
        "discrete sites under a pathwise objective",
        raises("needs reparameterised sites, and 'z' is not", "Bernoulli"),
        **both(lambda: bernoulli("z")),
        on=PATHWISE,
    ),
    Row(
        "gradients switched off at a site",
        raises("needs reparameterised sites, and 'z' is not"),
        normal_model := (lambda: normal("z")),
        lambda: ember.sample("z", dist.Normal(0.0, 1.0).has_rsample_(False)),
        on=PATHWISE,
    ),
    Row(
        "no closed-form divergence",
        PASSES,
        lambda: ember.sample("z", dist.Gamma(2.0, 1.0)),
        lambda: ember.sample("z", dist.LogNormal(0.0, 1.0)),
        on=("MeanField",),
    ),
    Row(
        "shapes under the mean field",
        raises("event_dims disagree at site 'z'"),
        lambda: normal("z", 3, event=1),
        lambda: normal("z", 3),
        on=("MeanField",),
    ),
    Row(
        "undeclared dims under any objective",
        raises("at site 'z'", "to_event", "Shapes:"),
        **both(lambda: normal("z", 3)),
        on=ALL,
    ),
    Row(
        "undeclared dims under particles",
        raises("num_particles_vectorized", "at site z dim -1, 5 vs 3"),
        **both(lambda: normal("z", 3)),
        options=SIDE_BY_SIDE,
    ),
    Row(
        "missing site under any objective",
        warns("Found vars in model but not guide: 'z'"),
        lambda: normal("z"),
        on=("Trace", "Graph", "MeanField", "Renyi", "TMC"),
    ),
    Row(
        "factor without origin under any objective",
        raises("factor 'f' in the guide does not say"),
        lambda: None,
        lambda: ember.factor("f", torch.tensor(0.0)),
        on=("Trace", "Graph", "MeanField", "Renyi", "TMC"),
    ),
    # -- max_plate_nesting -------------------------------------------------------------------------------
    Row("nesting given", PASSES, **both(shared), options={"max_plate_nesting": 1}),
    Row("nesting larger than needed", PASSES, **both(shared), options={"max_plate_nesting": 3}),
    Row(
        "nesting larger, side by side",
        PASSES,
        **both(shared),
        options={"max_plate_nesting": 3, **SIDE_BY_SIDE},
    ),
    Row(
        "nesting too small",
        raises(
            "max_plate_nesting=0 is too small for plate 'p'", "max_plate_nesting >= 1", "Shapes:", "z dist"
        ),
        **both(shared),
        options={"max_plate_nesting": 0},
    ),
    Row(
        "nesting too small, side by side",
        raises("num_particles_vectorized", "dim=-1"),
        **both(lambda: inside(plate(dim=-1), lambda: normal("z"))),
        options={"max_plate_nesting": 0, **SIDE_BY_SIDE},
    ),
    Row(
        "a plate further left than the nesting",
        raises("max_plate_nesting=1 is too small for plate 'q'", "max_plate_nesting >= 2"),
        **both(lambda: inside(plate("q", dim=-2), lambda: normal("z"))),
        options={"max_plate_nesting": 1},
    ),
    Row(
        "dims beyond the nesting are not looked at",
        PASSES,
        **both(lambda: normal("z", 3)),
        options={"max_plate_nesting": 0},
    ),
    Row(
        "a reduction over particles by mistake",
        raises("at site x", "num_particles_vectorized"),
        lambda: observe("x", normal("w").reshape(-1)[:2].sum(-1, keepdim=True).expand(2), 2),
        lambda: normal("w"),
        options=SIDE_BY_SIDE,
    ),
    Row(
        "an index that does not broadcast over particles",
        raises("Shape mismatch inside plate('p') at site x", "w dist"),
        lambda: inside(plate(), lambda: observe("x", normal("w", 2, event=1)[torch.tensor([0, 1, 1])], 3)),
        lambda: normal("w", 2, event=1),
        options=SIDE_BY_SIDE,
    ),
    # -- baselines ---------------------------------------------------------------------------------------
    Row(
        "a baseline option misspelt",
        raises("invalid baseline options at site 'z'", "use_decaying_avg_baseline"),
        lambda: bernoulli("z"),
        lambda: bernoulli("z", infer={"baseline": {"decaying": True}}),
    ),
    Row(
        "two trained baselines",
        raises("invalid baseline options at site 'z'"),
        lambda: bernoulli("z"),
        lambda: bernoulli("z", infer={"baseline": {"nn_baseline": abs, "baseline_value": torch.tensor(0.0)}}),
    ),
    Row(
        "a baseline of another shape",
        raises("the baseline of site 'z' has the wrong shape", "(3,)"),
        lambda: inside(plate(), lambda: bernoulli("z")),
        lambda: inside(
            plate(), lambda: bernoulli("z", infer={"baseline": {"baseline_value": torch.zeros(2)}})
        ),
    ),
    Row(
        "a running average",
        PASSES,
        lambda: bernoulli("z"),
        lambda: bernoulli("z", infer={"baseline": {"use_decaying_avg_baseline": True}}),
    ),
    Row(
        "a baseline at a reparameterised site",
        PASSES,
        lambda: normal("z"),
        lambda: normal("z", infer={"baseline": {"use_decaying_avg_baseline": True}}),
    ),
    # -- wake and sleep ----------------------------------------------------------------------------------
    Row("wake without observations", PASSES, **both(lambda: normal("z")), on=("Wake",)),
    Row(
        "sleep without observations",
        raises("the sleep phase of ReweightedWakeSleep needs data by site name", "insomnia=1.0"),
        **both(lambda: normal("z")),
        on=("Wake",),
        options={"insomnia": 0.5},
    ),
]


@over(ROWS)
def test_objectives(row, objective):
    check(row, objective)


MAKING = {
    "no particles": (
        raises("num_particles must be a positive number"),
        lambda: infer.Trace_ELBO(num_particles=0),
    ),
    "one particle of several": (raises("at least 2"), lambda: infer.TraceTailAdaptive_ELBO(num_particles=1)),
    "wake with one particle": (raises("at least 2"), lambda: infer.ReweightedWakeSleep(num_particles=1)),
    "insomnia out of range": (
        raises("insomnia must lie in [0, 1]"),
        lambda: infer.ReweightedWakeSleep(insomnia=2),
    ),
    "Renyi at one": (
        raises("RenyiELBO is not defined at alpha=1", "Trace_ELBO"),
        lambda: infer.RenyiELBO(alpha=1),
    ),
    "an objective's class": (
        raises("SVI needs an objective, not its class", "Trace_ELBO()", error=TypeError),
        lambda: infer.SVI(lambda: None, lambda: None, optim.Adam({}), infer.Trace_ELBO),
    ),
    "an old name": (
        warns("max_iarange_nesting is deprecated", warning=FutureWarning),
        lambda: infer.Trace_ELBO(max_iarange_nesting=1),
    ),
    "a torch optimiser": (
        raises("SVI needs an optimiser of ember.optim", error=TypeError),
        lambda: infer.SVI(None, None, torch.optim.Adam, infer.Trace_ELBO()),
    ),
    "a made torch optimiser": (
        raises("SVI needs an optimiser of ember.optim", error=TypeError),
        lambda: infer.SVI(
            None, None, torch.optim.Adam([torch.zeros(1, requires_grad=True)]), infer.Trace_ELBO()
        ),
    ),
}


@pytest.mark.parametrize("name", MAKING)
def test_making(name):
    judge(*MAKING[name])


def test_nesting_is_found_once():
    elbo = infer.Trace_ELBO(**SIDE_BY_SIDE)
    elbo.loss(shared, shared)
    assert elbo.max_plate_nesting == 1
    elbo = infer.Trace_ELBO()
    elbo.loss(shared, shared)
    assert elbo.max_plate_nesting == math.inf  # no need to know
