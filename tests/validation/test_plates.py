"""Tabulate what is said of plates: vectorised, sequential, nested, reused, stacked."""

import torch
from table import PASSES, Row, bernoulli, check, each, inside, normal, observe, over, plate, raises, warns

import ember

EXTRA = "Found plate statements in guide but not model"


def both(program):
    return {"model": program, "guide": program}


def reused(*statements):
    """Run functions of one plate object."""
    shared = plate()
    return [statement(shared) for statement in statements]


def grid(body):
    """Two plates at fixed dims, handed to a function."""
    return body(plate("a", 3, dim=-1), plate("b", 2, dim=-2))


ROWS = [
    Row("one plate", PASSES, **both(lambda: inside(plate(), lambda: normal("z")))),
    Row(
        "data in a plate, a global site",
        PASSES,
        lambda: (normal("z"), inside(plate(), lambda: observe("x", 0.0, 3))),
        lambda: normal("z"),
    ),
    Row("plate of size one", PASSES, **both(lambda: inside(plate(size=1), lambda: normal("z")))),
    Row("plate without size", PASSES, **both(lambda: inside(plate(size=None), lambda: normal("z", 3)))),
    Row("nested plates", PASSES, **both(lambda: inside(plate("a"), plate("b", 2), lambda: normal("z")))),
    Row(
        "nested plates, sites at both levels",
        PASSES,
        **both(lambda: inside(plate("a"), lambda: (normal("y"), inside(plate("b", 2), lambda: normal("z"))))),
    ),
    Row(
        "plates in sequence",
        PASSES,
        **both(lambda: (inside(plate("a"), lambda: normal("y")), inside(plate("b", 2), lambda: normal("z")))),
    ),
    Row(
        "crossing plates",
        PASSES,
        **both(
            lambda: grid(
                lambda a, b: (
                    inside(a, lambda: normal("x")),
                    inside(b, lambda: normal("y")),
                    inside(a, b, lambda: normal("z")),
                )
            )
        ),
    ),
    Row(
        "a gap between plates",
        PASSES,
        **both(lambda: inside(plate("a", dim=-1), plate("b", 2, dim=-3), lambda: normal("z"))),
    ),
    Row("plate on the left only", PASSES, **both(lambda: inside(plate(dim=-2), lambda: normal("z")))),
    Row(
        "plate in the model, unused in the guide",
        PASSES,
        lambda: (normal("z"), inside(plate(), lambda: observe("x", 0.0, 3))),
        lambda: (plate(), normal("z")),
    ),
    Row("a plate as a decorator", PASSES, **both(plate()(lambda: normal("z")))),
    Row(
        "plate_stack",
        PASSES,
        **both(lambda: inside(ember.plate_stack("s", (2, 3)), lambda: normal("z", 2, 3))),
    ),
    Row(
        "plate_stack further left",
        PASSES,
        **both(lambda: inside(ember.plate_stack("s", (2, 3), rightmost_dim=-2), lambda: normal("z"))),
    ),
    Row(
        "plate_stack of a wrong shape",
        raises("Shape mismatch inside plate('s_"),
        **both(lambda: inside(ember.plate_stack("s", (2, 3)), lambda: normal("z", 3, 2))),
    ),
    Row(
        "plate_stack at a positive dim",
        raises("rightmost_dim"),
        **both(lambda: inside(ember.plate_stack("s", (2, 3), rightmost_dim=0), lambda: normal("z"))),
    ),
    Row(
        "plate beside a plate_stack",
        PASSES,
        **both(lambda: inside(ember.plate_stack("s", (2, 3)), plate("p", 4), lambda: normal("z"))),
    ),
    Row(
        "two plates at one dim",
        raises("dim=-1", "'a'", "'b'"),
        **both(lambda: inside(plate("a", dim=-1), plate("b", dim=-1), lambda: normal("z"))),
    ),
    Row(
        "a positive dim",
        raises("plate 'p': dim must be negative"),
        **both(lambda: inside(plate(dim=1), lambda: normal("z"))),
    ),
    Row("size zero", raises("plate 'p'"), **both(lambda: inside(plate(size=0), lambda: normal("z")))),
    Row("a negative size", raises("plate 'p'"), **both(lambda: inside(plate(size=-2), lambda: normal("z")))),
    Row(
        "one name nested",
        raises("Multiple sample sites named 'p'", "enter that object each time", error=RuntimeError),
        **both(lambda: inside(plate(), plate(dim=-2), lambda: normal("z"))),
    ),
    Row(
        "one name in sequence",
        raises("Multiple sample sites named 'p'", error=RuntimeError),
        **both(lambda: (inside(plate(), lambda: normal("y")), inside(plate(), lambda: normal("z")))),
    ),
    Row(
        "one object in sequence",
        PASSES,
        **both(
            lambda: reused(lambda p: inside(p, lambda: normal("y")), lambda p: inside(p, lambda: normal("z")))
        ),
    ),
    Row(
        "one object nested in itself",
        raises("'p'"),
        **both(lambda: reused(lambda p: inside(p, p, lambda: normal("z")))),
    ),
    Row(
        "plate named like a site",
        raises("named 'z'", error=RuntimeError),
        **both(lambda: inside(plate("z"), lambda: normal("z"))),
    ),
    Row(
        "plate in the guide only",
        warns(f"{EXTRA}: 'q'"),
        lambda: normal("z"),
        lambda: (
            normal("z"),
            inside(plate("q"), lambda: ember.deterministic("d", torch.zeros(3), event_dim=0)),
        ),
    ),
    Row(
        "plate of an auxiliary site in the guide",
        PASSES,
        lambda: normal("z"),
        lambda: (normal("z"), inside(plate("q"), lambda: normal("y", infer={"is_auxiliary": True}))),
    ),
    Row(
        "plates of other names",
        warns(f"{EXTRA}: 'q'"),
        lambda: inside(plate("p"), lambda: normal("z")),
        lambda: inside(plate("q"), lambda: normal("z")),
    ),
    Row(
        "site outside its plate in the guide",
        raises("Model and guide shapes disagree at site 'z'"),
        lambda: inside(plate(), lambda: normal("z")),
        lambda: (inside(plate(), lambda: None), normal("z")),
    ),
    Row(
        "site in a further plate in the guide",
        raises("Model and guide shapes disagree at site 'z'", "expected: (3,)"),
        lambda: inside(plate(), lambda: normal("z")),
        lambda: inside(plate(), plate("q", 2), lambda: normal("z")),
    ),
    Row(
        "global site drawn in the plate by the guide",
        raises("Model and guide shapes disagree at site 'z'", "expected: ()"),
        lambda: (normal("z"), inside(plate(), lambda: observe("x", 0.0, 3))),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    # -- sequential ----------------------------------------------------------------------------------------
    Row("sequential plate", PASSES, **both(lambda: each(plate(), lambda i: normal(f"z{i}")))),
    Row(
        "sequential plate, discrete sites",
        PASSES,
        **both(lambda: each(plate(), lambda i: bernoulli(f"z{i}"))),
    ),
    Row(
        "sequential plate in the model, loop in the guide",
        PASSES,
        lambda: each(plate(), lambda i: normal(f"z{i}")),
        lambda: each(range(3), lambda i: normal(f"z{i}")),
    ),
    Row(
        "sequential plate in the model, data only",
        PASSES,
        lambda: each(plate(), lambda i: observe(f"x{i}", 0.0)),
    ),
    Row(
        "sequential plate, one name",
        raises("Multiple sample sites named 'z'", error=RuntimeError),
        **both(lambda: each(plate(), lambda i: normal("z"))),
    ),
    Row(
        "sequential in the model, vectorised in the guide",
        warns(
            "vars in model but not guide: 'z0', 'z1', 'z2'",
            "vars in guide but not model: 'z'",
            f"{EXTRA}: 'p'",
        ),
        lambda: each(plate(), lambda i: normal(f"z{i}")),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    Row(
        "sequential in vectorised",
        PASSES,
        **both(lambda: inside(plate("a"), lambda: each(plate("b", 2), lambda i: normal(f"z{i}")))),
    ),
    Row(
        "vectorised in sequential",
        PASSES,
        **both(lambda: each(plate("b", 2), lambda i: inside(plate(f"a{i}"), lambda: normal(f"z{i}")))),
    ),
    Row(
        "vectorised in sequential, one name",
        raises("Multiple sample sites named 'a'", error=RuntimeError),
        **both(lambda: each(plate("b", 2), lambda i: inside(plate("a"), lambda: normal(f"z{i}")))),
    ),
    Row(
        "vectorised in sequential, one object",
        PASSES,
        **both(lambda: reused(lambda p: each(plate("b", 2), lambda i: inside(p, lambda: normal(f"z{i}"))))),
    ),
    Row(
        "sequential in sequential",
        PASSES,
        **both(lambda: each(plate("a", 2), lambda i: each(plate(f"b{i}", 2), lambda j: normal(f"z{i}{j}")))),
    ),
    Row(
        "sequential in itself",
        raises("'p'"),
        **both(lambda: reused(lambda p: each(p, lambda i: each(p, lambda j: normal(f"z{i}{j}"))))),
    ),
    Row(
        "iterated after with",
        raises("cannot use plate 'p' as both vectorised and sequential"),
        **both(
            lambda: reused(
                lambda p: inside(p, lambda: normal("y")), lambda p: each(p, lambda i: normal(f"z{i}"))
            )
        ),
    ),
    Row(
        "iterated with a dim",
        raises("cannot use plate 'p' as both vectorised and sequential", "dim=-1"),
        **both(lambda: each(plate(dim=-1), lambda i: normal(f"z{i}"))),
    ),
    Row(
        "iterated twice",
        PASSES,
        **both(
            lambda: reused(
                lambda p: each(p, lambda i: normal(f"y{i}")), lambda p: each(p, lambda i: normal(f"z{i}"))
            )
        ),
    ),
    Row(
        "iterated without a size",
        raises("plate 'p' has no size"),
        **both(lambda: each(plate(size=None), lambda i: normal(f"z{i}"))),
    ),
    Row(
        "a vector of sites in a loop",
        raises("invalid log_prob shape at site 'z0'"),
        **both(lambda: each(plate(), lambda i: normal(f"z{i}", 3))),
    ),
]


@over(ROWS)
def test_plates(row, objective):
    check(row, objective)
