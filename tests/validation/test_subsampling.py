"""Tabulate what is said of minibatches: plates that subsample, params and data that must fit them."""

import torch
from table import PASSES, Row, check, inside, normal, observe, over, plate, raises, warns

import ember
from ember.distributions import constraints

DATA = torch.arange(6.0)


def both(program):
    return {"model": program, "guide": program}


def batch(*body, size=6, **how):
    """Run a function of the indices in a subsampling plate."""
    how = how or {"subsample_size": 2}
    frame = ember.plate("p", size, **how)
    with frame as indices:
        return body[0](indices)


def by_name(event_dim=0, init=None):
    """A param that is subsampled along the plate."""
    return ember.param("a", torch.zeros(6) if init is None else init, event_dim=event_dim)


ROWS = [
    Row("minibatch", PASSES, **both(lambda: batch(lambda i: normal("z")))),
    Row(
        "minibatch of data by indices",
        PASSES,
        lambda: batch(lambda i: ember.sample("x", _normal(), obs=DATA[i])),
    ),
    Row(
        "minibatch of data by subsample",
        PASSES,
        lambda: batch(lambda i: ember.sample("x", _normal(), obs=ember.subsample(DATA, event_dim=0))),
    ),
    Row(
        "minibatch of vectors",
        PASSES,
        lambda: batch(
            lambda i: ember.sample(
                "x", _normal().expand([2, 3]).to_event(1), obs=ember.subsample(torch.zeros(6, 3), event_dim=1)
            )
        ),
    ),
    Row(
        "data not subsampled",
        raises("site 'x'", error=(ValueError, RuntimeError)),
        lambda: batch(lambda i: observe("x", 0.0, 6)),
    ),
    Row(
        "mean not subsampled",
        raises("Shape mismatch inside plate('p') at site x dim -1, 2 vs 6"),
        lambda: batch(lambda i: observe("x", torch.zeros(6), 2)),
    ),
    Row(
        "subsample of data of another length",
        raises("Inside plate('p', 6, dim=-1) invalid shape of subsample", "(5,)"),
        lambda: batch(lambda i: ember.subsample(torch.zeros(5), event_dim=0)),
    ),
    Row(
        "subsample without event_dim of vectors",
        raises("plate('p', 6, dim=-1)", "another event_dim"),
        lambda: batch(lambda i: ember.subsample(torch.zeros(6, 3), event_dim=0)),
    ),
    Row(
        "subsample of one row",
        PASSES,
        lambda: batch(
            lambda i: ember.sample("x", _normal(), obs=ember.subsample(torch.zeros(1), event_dim=0).expand(2))
        ),
    ),
    Row(
        "guide of the full size",
        raises("subsample_size of plate 'p' does not match the length of its indices"),
        lambda: batch(lambda i: normal("z")),
        lambda: inside(plate(size=6), lambda: normal("z")),
    ),
    Row(
        "other minibatch size in the guide",
        raises("subsample_size", "plate 'p'"),
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: normal("z"), subsample_size=3),
    ),
    Row(
        "other full size in the guide",
        raises("plate 'p' of the guide does not agree", "(6, 2)", "(8, 2)"),
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: normal("z"), size=8),
    ),
    Row(
        "indices given", PASSES, **both(lambda: batch(lambda i: normal("z"), subsample=torch.tensor([0, 4])))
    ),
    Row(
        "indices given in the guide",
        PASSES,
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: normal("z"), subsample=torch.tensor([0, 4])),
    ),
    Row(
        "indices and another size",
        raises("subsample_size", "plate 'p'"),
        **both(lambda: batch(lambda i: normal("z"), subsample=torch.tensor([0, 4]), subsample_size=3)),
    ),
    Row(
        "minibatch larger than the plate",
        raises("subsample_size", "plate 'p'"),
        **both(lambda: batch(lambda i: normal("z"), subsample_size=7)),
    ),
    Row(
        "empty minibatch", raises("plate 'p'"), **both(lambda: batch(lambda i: normal("z"), subsample_size=0))
    ),
    Row(
        "minibatch without a size",
        raises("plate 'p'"),
        **both(lambda: batch(lambda i: normal("z"), size=None, subsample_size=2)),
    ),
    Row("full minibatch", PASSES, **both(lambda: batch(lambda i: normal("z"), subsample_size=6))),
    Row(
        "sequential minibatch",
        PASSES,
        **both(lambda: [normal(f"z{k}") for k, _ in enumerate(ember.plate("p", 6, subsample_size=2))]),
    ),
    Row(
        "sequential minibatch named by index",
        PASSES,
        lambda: [observe(f"x{i}", 0.0) for i in ember.plate("p", 6, subsample_size=2)],
    ),
    Row(
        "sequential minibatch with a latent per index",
        PASSES,
        **both(lambda: [normal(f"z{i}") for i in ember.plate("p", 6, subsample_size=2)]),
    ),
    Row(
        "two minibatches cross",
        PASSES,
        **both(
            lambda: inside(
                ember.plate("a", 6, 2, dim=-1), ember.plate("b", 4, 3, dim=-2), lambda: normal("z")
            )
        ),
    ),
    Row(
        "param with event_dim",
        PASSES,
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: normal("z", loc=by_name())),
    ),
    Row(
        "param without event_dim",
        raises("Shape mismatch inside plate('p')"),
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: ember.sample("z", _normal(by_name(None)))),
    ),
    Row(
        "param indexed by hand",
        PASSES,
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: normal("z", loc=by_name(None)[i])),
    ),
    Row("param outside, indexed inside", PASSES, lambda: batch(lambda i: normal("z")), lambda: _outside()),
    Row(
        "param of another length",
        raises("param", "'a'", "plate", "'p'"),
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: normal("z", loc=by_name(init=torch.zeros(5)))),
    ),
    Row(
        "param shared by the elements",
        PASSES,
        lambda: batch(lambda i: normal("z")),
        lambda: batch(lambda i: normal("z", loc=by_name(init=torch.zeros(1)))),
    ),
    Row(
        "vector param with event_dim 1",
        PASSES,
        lambda: batch(lambda i: normal("z", 3, event=1)),
        lambda: batch(lambda i: normal("z", 3, event=1, loc=by_name(1, torch.zeros(6, 3)))),
    ),
    Row(
        "positive param with event_dim",
        PASSES,
        lambda: batch(lambda i: normal("z")),
        lambda: batch(
            lambda i: ember.sample(
                "z",
                _normal(0.0, ember.param("s", torch.ones(6), constraint=constraints.positive, event_dim=0)),
            )
        ),
    ),
    Row(
        "minibatch in the model only",
        PASSES,
        lambda: (normal("w"), batch(lambda i: observe("x", 0.0, 2))),
        lambda: normal("w"),
    ),
    Row(
        "minibatch site missing in the guide",
        warns("Found vars in model but not guide: 'z'"),
        lambda: batch(lambda i: normal("z")),
    ),
]


def _normal(loc=0.0, scale=1.0):
    return ember.distributions.Normal(loc, scale)


def _outside():
    a = ember.param("a", torch.zeros(6))
    return batch(lambda i: normal("z", loc=a[i]))


@over(ROWS)
def test_subsampling(row, objective):
    check(row, objective)
