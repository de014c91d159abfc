"""Tabulate what is said of discrete sites: enumerated, sampled, or neither, in models and guides."""

import pytest
import torch
from table import (
    PASSES,
    SAMPLED,
    SUMMED,
    Row,
    bernoulli,
    categorical,
    check,
    each,
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
from ember.infer import config_enumerate, infer_discrete
from ember.ops.indexing import Vindex

PARALLEL = {"enumerate": "parallel"}
SEQUENTIAL = {"enumerate": "sequential"}
DRAWS = {"enumerate": "parallel", "num_samples": 4}
UNUSED = "Found sample sites configured for enumeration: 'z'"
NONE = "TraceEnum_ELBO found no sample sites configured for enumeration"
MISSING = "Found vars in model but not guide"
LOC = torch.tensor([-1.0, 0.0, 1.0])


def z(infer=PARALLEL, **how):
    return bernoulli("z", infer=infer, **how)


def mixture(infer=PARALLEL):
    """A mixture in a plate."""
    inside(plate(), lambda: observe("x", LOC[categorical("k", infer=infer)], 3))


ROWS = [
    # -- who enumerates ----------------------------------------------------------------------------------
    Row("enumerated in the model", PASSES, z, on=SUMMED),
    Row("enumerated in the guide", PASSES, lambda: z(None), z, on=SUMMED),
    Row("enumerated in both", PASSES, z, z, on=SUMMED),
    Row("enumerated in the guide, sequentially", PASSES, lambda: z(None), lambda: z(SEQUENTIAL), on=SUMMED),
    Row("enumerated in the model, sampled in the guide", warns(NONE), z, lambda: z(None), on=SUMMED),
    Row("discrete and sampled in both", PASSES, lambda: z(None), lambda: z(None)),
    Row("enumerated sites under a sampling objective", warns(UNUSED), lambda: z(None), z),
    Row(
        "the same without the strict warning",
        PASSES,
        lambda: z(None),
        z,
        options={"strict_enumeration_warning": False},
    ),
    Row("enumerated in the model under a sampling objective", warns(f"{MISSING}: 'z'"), z),
    Row("enumerated in both under a sampling objective", warns(UNUSED), z, z),
    Row("nothing to enumerate", warns(NONE), lambda: normal("w"), lambda: normal("w"), on=SUMMED),
    Row(
        "nothing to enumerate, not strict",
        PASSES,
        lambda: normal("w"),
        lambda: normal("w"),
        on=SUMMED,
        options={"strict_enumeration_warning": False},
    ),
    Row("forgotten config_enumerate", warns(NONE, f"{MISSING}: 'z'"), lambda: z(None), on=SUMMED),
    Row("one of two forgotten", warns(f"{MISSING}: 'y'"), lambda: (z(), bernoulli("y")), on=SUMMED),
    Row("config_enumerate", PASSES, config_enumerate(lambda: z(None)), on=SUMMED),
    Row(
        "config_enumerate leaves continuous sites",
        PASSES,
        config_enumerate(lambda: (z(None), normal("w"))),
        lambda: normal("w"),
        on=SUMMED,
    ),
    Row(
        "config_enumerate, continuous site missing",
        warns(f"{MISSING}: 'w'"),
        config_enumerate(lambda: (z(None), normal("w"))),
        on=SUMMED,
    ),
    Row(
        "sequential in the model",
        raises("'z' asks for sequential enumeration, which only guides can do", "parallel"),
        lambda: z(SEQUENTIAL),
        on=SUMMED,
    ),
    Row(
        "sequential inside a plate of the guide",
        raises("the site 'z' is enumerated sequentially inside vectorised plates", "p(size=3, dim=-1)"),
        lambda: inside(plate(), lambda: z(None)),
        lambda: inside(plate(), lambda: z(SEQUENTIAL)),
        on=SUMMED,
    ),
    Row(
        "sequential under vectorised particles",
        raises("inside vectorised plates", "or leave vectorize_particles out"),
        lambda: z(None),
        lambda: z(SEQUENTIAL),
        on=SUMMED,
        options={"num_particles": 2, "vectorize_particles": True},
    ),
    Row(
        "nothing marked for tensor Monte Carlo",
        warns("TraceTMC_ELBO found no sample sites configured for enumeration"),
        lambda: normal("z"),
        lambda: normal("z"),
        on=("TMC",),
        options={"strict_enumeration_warning": True},
    ),
    Row(
        "sequential inside a sequential plate",
        PASSES,
        lambda: each(plate(), lambda i: bernoulli(f"z{i}")),
        lambda: each(plate(), lambda i: bernoulli(f"z{i}", infer=SEQUENTIAL)),
        on=SUMMED,
    ),
    Row(
        "an unknown kind of enumeration",
        raises("site 'z' asks for an unknown kind of enumeration", "'diagonal'"),
        lambda: z({"enumerate": "diagonal"}),
        on=SUMMED,
    ),
    # -- what can be enumerated --------------------------------------------------------------------------
    Row(
        "a continuous site",
        raises("site 'w' cannot be enumerated", "enumerate_support"),
        lambda: normal("w", infer=PARALLEL),
        on=SUMMED,
    ),
    Row(
        "a continuous site in the guide",
        raises("site 'w' cannot be enumerated"),
        lambda: normal("w"),
        lambda: normal("w", infer=PARALLEL),
        on=SUMMED,
    ),
    Row(
        "Poisson",
        raises("site 'n' cannot be enumerated", "Poisson"),
        lambda: ember.sample("n", dist.Poisson(3.0), infer=PARALLEL),
        on=SUMMED,
    ),
    Row("Binomial", PASSES, lambda: ember.sample("n", dist.Binomial(3, 0.5), infer=PARALLEL), on=SUMMED),
    Row(
        "Binomials of several totals",
        raises("site 'n' cannot be enumerated"),
        lambda: inside(
            plate("p", 2),
            lambda: ember.sample(
                "n", dist.Binomial(torch.tensor([2.0, 3.0]), torch.tensor(0.5)), infer=PARALLEL
            ),
        ),
        on=SUMMED,
    ),
    Row(
        "one-hot",
        PASSES,
        lambda: ember.sample("k", dist.OneHotCategorical(torch.ones(3)), infer=PARALLEL),
        on=SUMMED,
    ),
    Row(
        "a vector of bits",
        raises("site 'z' cannot be enumerated", "by a plate rather than .to_event(n)"),
        lambda: bernoulli("z", 3, event=1, infer=PARALLEL),
        on=SUMMED,
    ),
    Row(
        "an observed site marked",
        PASSES,
        lambda: (z(), bernoulli("x", obs=torch.tensor(1.0), infer=PARALLEL)),
        on=SUMMED,
    ),
    Row(
        "draws in place of all values",
        raises("asks for num_samples", "TraceTMC_ELBO"),
        lambda: z(DRAWS),
        on=SUMMED,
    ),
    Row("draws in the guide", PASSES, lambda: z(None), lambda: z(DRAWS), on=SUMMED),
    Row("draws for tensor Monte Carlo", PASSES, lambda: z(DRAWS), on=("TMC",)),
    Row(
        "draws of a continuous site",
        PASSES,
        lambda: normal("w"),
        lambda: normal("w", infer=DRAWS),
        on=("TMC",),
    ),
    Row(
        "sequential under tensor Monte Carlo",
        raises("'z' asks for sequential enumeration, which TraceTMC_ELBO does not do"),
        lambda: z(None),
        lambda: z(SEQUENTIAL),
        on=("TMC",),
    ),
    # -- shapes ------------------------------------------------------------------------------------------
    Row("a mixture", PASSES, mixture, on=SUMMED),
    Row(
        "a mixture, sampled",
        PASSES,
        lambda: mixture(None),
        lambda: inside(plate(), lambda: categorical("k")),
        on=SAMPLED,
    ),
    Row("expanded values", PASSES, lambda: mixture({"enumerate": "parallel", "expand": True}), on=SUMMED),
    Row(
        "enumeration without the plate",
        raises("'x'"),
        lambda: observe("x", LOC[categorical("k", infer=PARALLEL)], 3),
        on=SUMMED,
        options={"max_plate_nesting": 1},
    ),
    Row(
        "an enumerated batch without a plate",
        raises("'z'"),
        lambda: bernoulli("z", 3, infer=PARALLEL),
        on=SUMMED,
    ),
    Row(
        "max_plate_nesting too small",
        raises("max_plate_nesting=0 is too small for plate 'p'", "max_plate_nesting >= 1", "dim=-1"),
        mixture,
        on=SUMMED,
        options={"max_plate_nesting": 0},
    ),
    Row("max_plate_nesting larger than needed", PASSES, mixture, on=SUMMED, options={"max_plate_nesting": 4}),
    Row(
        "a table indexed by two sites, with Vindex",
        PASSES,
        lambda: inside(
            plate(),
            lambda: observe(
                "x",
                Vindex(torch.zeros(3, 3))[categorical("k", infer=PARALLEL), categorical("j", infer=PARALLEL)],
                3,
            ),
        ),
        on=SUMMED,
    ),
    Row(
        "a table indexed by one site and a slice",
        raises("site x", "plate('p')"),
        lambda: inside(plate(), lambda: observe("x", torch.zeros(3, 4)[categorical("k", infer=PARALLEL)], 3)),
        on=SUMMED,
    ),
    Row(
        "branching on an enumerated value",
        raises("Boolean value of Tensor", error=RuntimeError),
        lambda: normal("w") if z() else None,
        on=SUMMED,
    ),
]


@over(ROWS)
def test_enumeration(row, objective):
    check(row, objective)


def unmarked():
    bernoulli("z")


@pytest.mark.parametrize(
    "options, outcome",
    [({}, warns("infer_discrete found no sample sites")), ({"strict_enumeration_warning": False}, PASSES)],
)
def test_infer_discrete_of_nothing_marked(options, outcome):
    judge(outcome, infer_discrete(unmarked, first_available_dim=-1, **options))
