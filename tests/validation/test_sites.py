"""Tabulate what is said of sites that are missing, extra, observed, auxiliary, or repeated."""

import torch
from table import PASSES, Row, bernoulli, check, each, inside, normal, observe, over, plate, raises, warns

import ember
import ember.distributions as dist

MISSING = "Found vars in model but not guide"
EXTRA = "Found non-auxiliary vars in guide but not model"
OBSERVED = "Found observed sites in the guide"
AUX = {"is_auxiliary": True}
X = torch.tensor(0.3)

ROWS = [
    Row("one site", PASSES, lambda: normal("z"), lambda: normal("z")),
    Row("nothing at all", PASSES, lambda: None),
    Row("only data", PASSES, lambda: observe("x", 0.0)),
    Row(
        "guide without model sites",
        PASSES,
        lambda: observe("x", 0.0),
        lambda: ember.param("a", torch.ones(2)),
    ),
    Row("order differs", PASSES, lambda: (normal("a"), normal("b")), lambda: (normal("b"), normal("a"))),
    Row(
        "another family", PASSES, lambda: normal("z"), lambda: ember.sample("z", dist.StudentT(3.0, 0.0, 1.0))
    ),
    Row("a point mass guides", PASSES, lambda: normal("z"), lambda: ember.sample("z", dist.Delta(X))),
    Row(
        "a point mass event",
        PASSES,
        lambda: normal("z", 2, event=1),
        lambda: ember.sample("z", dist.Delta(torch.ones(2), event_dim=1)),
    ),
    Row(
        "missing in the guide",
        warns(f"{MISSING}: 'b'"),
        lambda: (normal("a"), normal("b")),
        lambda: normal("a"),
    ),
    Row("two missing, sorted", warns(f"{MISSING}: 'b', 'c'"), lambda: (normal("c"), normal("b"))),
    Row(
        "missing in a plate",
        warns(f"{MISSING}: 'b'"),
        lambda: (normal("a"), inside(plate(), lambda: normal("b"))),
        lambda: normal("a"),
    ),
    Row("missing discrete site", warns(f"{MISSING}: 'b'"), lambda: bernoulli("b")),
    Row(
        "extra in the guide", warns(f"{EXTRA}: 'b'"), lambda: normal("a"), lambda: (normal("a"), normal("b"))
    ),
    Row(
        "extra in a plate",
        warns(f"{EXTRA}: 'b'", "Found plate statements in guide but not model: 'p'"),
        lambda: normal("a"),
        lambda: (normal("a"), inside(plate(), lambda: normal("b"))),
    ),
    Row(
        "misspelt",
        warns(f"{MISSING}: 'loc'", f"{EXTRA}: 'lco'"),
        lambda: normal("loc"),
        lambda: normal("lco"),
    ),
    Row("auxiliary in the guide", PASSES, lambda: normal("a"), lambda: (normal("a"), normal("b", infer=AUX))),
    Row(
        "auxiliary of another shape",
        PASSES,
        lambda: normal("a"),
        lambda: (normal("a"), normal("b", 5, event=1, infer=AUX)),
    ),
    Row(
        "auxiliary named like a model site",
        warns("Found auxiliary sites of the guide in the model: 'a'"),
        lambda: normal("a"),
        lambda: normal("a", infer=AUX),
    ),
    Row(
        "observed in the guide",
        warns(f"{OBSERVED}: 'x'"),
        lambda: observe("x", 0.0),
        lambda: normal("x", obs=X),
    ),
    Row(
        "data in the guide under a new name",
        warns(f"{OBSERVED}: 'y'"),
        lambda: observe("x", 0.0),
        lambda: normal("y", obs=X),
    ),
    Row(
        "auxiliary data in the guide",
        PASSES,
        lambda: observe("x", 0.0),
        lambda: normal("y", obs=X, infer=AUX),
    ),
    Row(
        "data in the model, drawn in the guide",
        warns(f"{EXTRA}: 'x'"),
        lambda: observe("x", 0.0),
        lambda: normal("x"),
    ),
    Row(
        "drawn in the model, data in the guide",
        raises("site 'z' must be sampled in trace", error=RuntimeError),
        lambda: normal("z"),
        lambda: normal("z", obs=X),
    ),
    Row(
        "conditioned model, full guide",
        warns(f"{EXTRA}: 'b'"),
        ember.condition(lambda: (normal("a"), normal("b")), data={"b": X}),
        lambda: (normal("a"), normal("b")),
    ),
    Row(
        "conditioned model, matching guide",
        PASSES,
        ember.condition(lambda: (normal("a"), normal("b")), data={"b": X}),
        lambda: normal("a"),
    ),
    Row(
        "blocked in the model",
        warns(f"{EXTRA}: 'b'"),
        ember.poutine.block(lambda: (normal("a"), normal("b")), hide=["b"]),
        lambda: (normal("a"), normal("b")),
    ),
    Row(
        "same name twice in the model",
        raises("Multiple sample sites named 'z'", "rename one", error=RuntimeError),
        lambda: (normal("z"), normal("z")),
        lambda: normal("z"),
    ),
    Row(
        "same name twice in the guide",
        raises("Multiple sample sites named 'z'", error=RuntimeError),
        lambda: normal("z"),
        lambda: (normal("z"), normal("z")),
    ),
    Row(
        "one name in a loop",
        raises("Multiple sample sites named 'z'", "make the name depend on the index", error=RuntimeError),
        lambda: each(range(2), lambda i: normal("z")),
    ),
    Row(
        "names in a loop",
        PASSES,
        lambda: each(range(2), lambda i: normal(f"z{i}")),
        lambda: each(range(2), lambda i: normal(f"z{i}")),
    ),
    Row(
        "loop of other length in the guide",
        warns(f"{MISSING}: 'z2'"),
        lambda: each(range(3), lambda i: normal(f"z{i}")),
        lambda: each(range(2), lambda i: normal(f"z{i}")),
    ),
    Row(
        "param and site of one name",
        raises("z is already in the trace as a param", error=RuntimeError),
        lambda: (ember.param("z", X), normal("z")),
        lambda: normal("z"),
    ),
    Row(
        "site and param of one name",
        raises("z is already in the trace as a sample", error=RuntimeError),
        lambda: (normal("z"), ember.param("z", X)),
    ),
    Row(
        "latent and data of one name",
        raises("Multiple sample sites named 'x'", error=RuntimeError),
        lambda: (normal("x"), observe("x", 0.0)),
        lambda: normal("x"),
    ),
]


@over(ROWS)
def test_sites(row, objective):
    check(row, objective)
