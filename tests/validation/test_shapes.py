"""Tabulate what is said of shapes: undeclared batch dims, events that disagree, broadcasting by mistake."""

import torch
from table import PASSES, Row, bernoulli, check, inside, normal, observe, over, plate, raises

import ember
import ember.distributions as dist

UNDECLARED = "invalid log_prob shape at site"
EVENT_DIMS = "Model and guide event_dims disagree at site"
EVENT_SHAPES = "Model and guide event_shapes disagree at site"
SHAPES = "Model and guide shapes disagree at site"


def both(program):
    return {"model": program, "guide": program}


ROWS = [
    Row("vector event", PASSES, **both(lambda: normal("z", 3, event=1))),
    Row("matrix event", PASSES, **both(lambda: normal("z", 3, 2, event=2))),
    Row("empty event", PASSES, **both(lambda: normal("z", 0, event=1))),
    Row(
        "multivariate normal",
        PASSES,
        **both(lambda: ember.sample("z", dist.MultivariateNormal(torch.zeros(3), torch.eye(3)))),
    ),
    Row(
        "missing to_event",
        raises(f"{UNDECLARED} 'z'", "(3,), different at dim -1", ".to_event(1)", "plate('...', 3, dim=-1)"),
        **both(lambda: normal("z", 3)),
    ),
    Row("missing to_event of two", raises(f"{UNDECLARED} 'z'", "(2, 3)"), **both(lambda: normal("z", 2, 3))),
    Row(
        "to_event of one dim too few",
        raises(f"{UNDECLARED} 'z'", "actual: (2,)"),
        **both(lambda: normal("z", 2, 3, event=1)),
    ),
    Row(
        "missing to_event in the model only",
        raises(EVENT_DIMS),
        lambda: normal("z", 3),
        lambda: normal("z", 3, event=1),
    ),
    Row(
        "missing to_event in the guide only",
        raises(f"{EVENT_DIMS} 'z'", "expected: event_dim 1", "actual: event_dim 0"),
        lambda: normal("z", 3, event=1),
        lambda: normal("z", 3),
    ),
    Row(
        "missing to_event at data",
        raises(f"{UNDECLARED} 'x'", ".to_event(1)"),
        lambda: observe("x", torch.zeros(3), 3),
    ),
    Row("data as an event", PASSES, lambda: observe("x", torch.zeros(3), 3, event=1)),
    Row("scalar site, vector data", raises(f"{UNDECLARED} 'x'", "(4,)"), lambda: observe("x", 0.0, 4)),
    Row(
        "vector site, scalar data", raises(f"{UNDECLARED} 'x'", "(4,)"), lambda: observe("x", torch.zeros(4))
    ),
    Row(
        "data of another length than its mean",
        raises("log_prob at site 'x'", "batch_shape (3,)", error=(ValueError, RuntimeError)),
        lambda: observe("x", torch.zeros(3), 4),
    ),
    Row(
        "data of shape [n, 1] against [n]: a broadcasting mistake",
        raises(f"{UNDECLARED} 'x'", "(3, 3)"),
        lambda: inside(plate(), lambda: observe("x", torch.zeros(3), 3, 1)),
    ),
    Row(
        "regression with [n, 1] predictions: a broadcasting mistake",
        raises("at site x dim"),
        lambda: inside(plate(dim=-2, size=5), plate("q", 3), lambda: observe("x", torch.zeros(3, 1), 3)),
    ),
    Row(
        "event data of another length",
        raises("log_prob at site 'x'", error=(ValueError, RuntimeError)),
        lambda: observe("x", torch.zeros(3), 4, event=1),
    ),
    Row(
        "event sizes differ",
        raises(f"{EVENT_SHAPES} 'z'", "expected: (3,)", "actual: (2,)"),
        lambda: normal("z", 3, event=1),
        lambda: normal("z", 2, event=1),
    ),
    Row(
        "event of size one guides a larger one",
        raises(f"{EVENT_SHAPES} 'z'"),
        lambda: normal("z", 3, event=1),
        lambda: normal("z", 1, event=1),
    ),
    Row(
        "scalar guides a vector",
        raises(f"{EVENT_DIMS} 'z'"),
        lambda: normal("z", 3, event=1),
        lambda: normal("z"),
    ),
    Row(
        "vector guides a scalar",
        raises(f"{EVENT_DIMS} 'z'"),
        lambda: normal("z"),
        lambda: normal("z", 3, event=1),
    ),
    Row(
        "matrix against vector of vectors",
        raises(EVENT_DIMS),
        lambda: inside(plate("p", 2), lambda: normal("z", 2, 3, event=1)),
        lambda: normal("z", 2, 3, event=2),
    ),
    Row(
        "plate in the model, event in the guide",
        raises(f"{EVENT_DIMS} 'z'", "p(size=3, dim=-1)"),
        lambda: inside(plate(), lambda: normal("z")),
        lambda: normal("z", 3, event=1),
    ),
    Row(
        "plate in the model, scalar in the guide",
        raises(f"{SHAPES} 'z'", "expected: (3,)", "actual: ()"),
        lambda: inside(plate(), lambda: normal("z")),
        lambda: normal("z"),
    ),
    Row(
        "plates of other sizes",
        raises("subsample_size of plate 'p' does not match", "expected: 3 indices", "actual: 4 indices"),
        lambda: inside(plate(), lambda: normal("z")),
        lambda: inside(plate(size=4), lambda: normal("z")),
    ),
    Row(
        "plates at other dims",
        raises(f"{SHAPES} 'z'", "(3, 1)"),
        lambda: inside(plate(dim=-1), lambda: normal("z")),
        lambda: inside(plate(dim=-2), lambda: normal("z")),
    ),
    Row(
        "plates swapped",
        raises(f"{SHAPES} 'z'", "expected: (2, 3)", "actual: (3, 2)"),
        lambda: inside(plate("a", 3), plate("b", 2), lambda: normal("z")),
        lambda: inside(plate("b", 2), plate("a", 3), lambda: normal("z")),
    ),
    Row(
        "plates swapped with dims",
        PASSES,
        lambda: inside(plate("a", 3, dim=-1), plate("b", 2, dim=-2), lambda: normal("z")),
        lambda: inside(plate("b", 2, dim=-2), plate("a", 3, dim=-1), lambda: normal("z")),
    ),
    Row(
        "leading batch dims of size one",
        PASSES,
        lambda: inside(plate(), lambda: normal("z", 1, 1, 3)),
        lambda: inside(plate(), lambda: normal("z", 3)),
    ),
    Row("batch dim of size one outside of plates", PASSES, **both(lambda: normal("z", 1))),
    Row(
        "guide without the plate, right shape",
        raises(f"{UNDECLARED} 'z'", "(3,)"),
        lambda: inside(plate(), lambda: normal("z")),
        lambda: normal("z", 3),
    ),
    Row(
        "model without the plate, right shape",
        raises(f"{UNDECLARED} 'z'"),
        lambda: normal("z", 3),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    Row(
        "distribution larger than its plate",
        raises("Shape mismatch inside plate('p') at site z dim -1, 3 vs 4", "size 1 or 3"),
        **both(lambda: inside(plate(), lambda: normal("z", 4))),
    ),
    Row(
        "batch dim left of the plate",
        raises(f"{UNDECLARED} 'z'", "(2, 3)", "different at dim -2"),
        **both(lambda: inside(plate(), lambda: normal("z", 2, 3))),
    ),
    Row(
        "event takes the plate's dim",
        PASSES,
        **both(lambda: inside(plate(), lambda: normal("z", 3, 3, event=1))),
    ),
    Row(
        "all of the batch made event in a plate",
        PASSES,
        **both(lambda: inside(plate(), lambda: normal("z", 3, event=1))),
    ),
    Row(
        "forgotten to_event in a plate of another size",
        raises("Shape mismatch inside plate('p')", ".to_event(n)"),
        **both(lambda: inside(plate(), lambda: normal("z", 3, 5))),
    ),
    Row(
        "forgotten to_event in a plate of the same size",
        raises(f"{UNDECLARED} 'z'"),
        **both(lambda: inside(plate(), lambda: normal("z", 3, 3))),
    ),
    Row("discrete vector event", PASSES, **both(lambda: bernoulli("z", 3, event=1))),
    Row("discrete vector without event", raises(f"{UNDECLARED} 'z'"), **both(lambda: bernoulli("z", 3))),
    Row(
        "Dirichlet of vectors without a plate",
        raises(f"{UNDECLARED} 'w'", "(2,)"),
        **both(lambda: ember.sample("w", dist.Dirichlet(torch.ones(2, 3)))),
    ),
    Row(
        "Categorical of rows without a plate",
        raises(f"{UNDECLARED} 'k'"),
        **both(lambda: ember.sample("k", dist.Categorical(torch.ones(2, 3)))),
    ),
    Row(
        "one-hot guides an index",
        raises(f"{EVENT_DIMS} 'k'"),
        lambda: ember.sample("k", dist.Categorical(torch.ones(3))),
        lambda: ember.sample("k", dist.OneHotCategorical(torch.ones(3))),
    ),
    Row(
        "point mass without event_dim",
        raises(f"{EVENT_DIMS} 'z'"),
        lambda: normal("z", 3, event=1),
        lambda: ember.sample("z", dist.Delta(torch.zeros(3))),
    ),
    Row(
        "expanded independent",
        PASSES,
        **both(
            lambda: inside(
                plate(), lambda: ember.sample("z", dist.Normal(0.0, 1.0).expand([3, 2]).to_event(1))
            )
        ),
    ),
    Row(
        "expand_by a plate",
        PASSES,
        **both(lambda: inside(plate(), lambda: ember.sample("z", dist.Normal(0.0, 1.0).expand_by([3])))),
    ),
    Row(
        "mixture without to_event",
        raises(f"{UNDECLARED} 'x'", "(4,)"),
        lambda: ember.sample(
            "x",
            dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0)),
            obs=torch.zeros(4),
        ),
    ),
    Row(
        "a mask that does not broadcast",
        raises("the mask at site 'z' does not broadcast", "a mask of shape (2,)"),
        lambda: inside(plate(), ember.poutine.mask(mask=torch.ones(2).bool()), lambda: normal("z")),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    Row(
        "a mask of the plate's shape",
        PASSES,
        **both(
            lambda: inside(
                plate(), ember.poutine.mask(mask=torch.tensor([True, False, True])), lambda: normal("z")
            )
        ),
    ),
    Row(
        "a mask in the model only",
        PASSES,
        lambda: inside(
            plate(), ember.poutine.mask(mask=torch.tensor([True, False, True])), lambda: normal("z")
        ),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    Row(
        "a scale that does not broadcast",
        raises("the scale at site 'z' does not broadcast", "a scale of shape (2,)"),
        lambda: inside(plate(), ember.poutine.scale(scale=torch.ones(2)), lambda: normal("z")),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    Row(
        "a scale of the plate's shape",
        PASSES,
        **both(
            lambda: inside(
                plate(), ember.poutine.scale(scale=torch.tensor([1.0, 2.0, 3.0])), lambda: normal("z")
            )
        ),
    ),
]


@over(ROWS)
def test_shapes(row, objective):
    check(row, objective)
