"""Tabulate what is said of deterministic values, factors and partly observed sites, in models and guides."""

import torch
from table import PASSES, Row, check, inside, normal, over, plate, raises, warns

import ember

MISSING = "Found vars in model but not guide"
EXTRA = "Found non-auxiliary vars in guide but not model"
X = torch.tensor(0.3)

ROWS = [
    # -- deterministic -------------------------------------------------------------------------------------
    Row(
        "deterministic in the model",
        PASSES,
        lambda: ember.deterministic("d", 2 * normal("z")),
        lambda: normal("z"),
    ),
    Row(
        "deterministic in both",
        PASSES,
        lambda: ember.deterministic("d", 2 * normal("z")),
        lambda: ember.deterministic("d", normal("z")),
    ),
    Row(
        "deterministic in the guide only",
        PASSES,
        lambda: normal("z"),
        lambda: ember.deterministic("d", normal("z")),
    ),
    Row(
        "deterministic in a plate",
        PASSES,
        lambda: inside(plate(), lambda: ember.deterministic("d", normal("z"), event_dim=0)),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    Row(
        "deterministic named like a guide site",
        warns(f"{EXTRA}: 'd'"),
        lambda: ember.deterministic("d", X),
        lambda: normal("d"),
    ),
    Row(
        "deterministic without a tensor",
        raises("deterministic", error=TypeError),
        lambda: ember.deterministic("d", 2.0),
    ),
    # -- factor --------------------------------------------------------------------------------------------
    Row("factor in the model", PASSES, lambda: ember.factor("f", -normal("z").square()), lambda: normal("z")),
    Row(
        "factor in a plate of the model",
        PASSES,
        lambda: inside(plate(), lambda: ember.factor("f", -normal("z"))),
        lambda: inside(plate(), lambda: normal("z")),
    ),
    Row(
        "undeclared factor dims",
        raises("invalid log_prob shape at site 'f'", "(3,)"),
        lambda: ember.factor("f", torch.ones(3)),
    ),
    Row(
        "factor of a wrong size in a plate",
        raises("at site f", "plate('p')"),
        lambda: inside(plate(), lambda: ember.factor("f", torch.ones(2))),
    ),
    Row(
        "factor in the guide without origin",
        raises("the factor 'f' in the guide does not say where it comes from", "has_rsample=True"),
        lambda: normal("z"),
        lambda: (normal("z"), ember.factor("f", X)),
    ),
    Row(
        "pathwise factor in the guide",
        PASSES,
        lambda: normal("z"),
        lambda: ember.factor("f", normal("z"), has_rsample=True),
    ),
    Row(
        "scored factor in the guide",
        PASSES,
        lambda: normal("z"),
        lambda: ember.factor("f", normal("z"), has_rsample=False),
    ),
    Row(
        "factor in a plate of the guide",
        PASSES,
        lambda: inside(plate(), lambda: normal("z")),
        lambda: inside(plate(), lambda: ember.factor("f", normal("z"), has_rsample=True)),
    ),
    Row(
        "factor of one name in both",
        PASSES,
        lambda: ember.factor("f", normal("z")),
        lambda: ember.factor("f", normal("z"), has_rsample=True),
    ),
    Row(
        "factor that is minus infinity",
        warns("Encountered inf: loss, from site 'f'"),
        lambda: ember.factor("f", torch.tensor(-float("inf"))),
    ),
    # -- obs_mask ------------------------------------------------------------------------------------------
    Row(
        "partly observed, unobserved guided",
        PASSES,
        lambda: inside(
            plate(), lambda: normal("x", 3, obs=torch.ones(3), obs_mask=torch.tensor([True, False, True]))
        ),
        lambda: inside(plate(), lambda: normal("x_unobserved")),
    ),
    Row(
        "partly observed, unobserved missing",
        warns(f"{MISSING}: 'x_unobserved'"),
        lambda: inside(
            plate(), lambda: normal("x", 3, obs=torch.ones(3), obs_mask=torch.tensor([True, False, True]))
        ),
    ),
    Row(
        "partly observed, guided under its own name",
        warns(f"{MISSING}: 'x_unobserved'", f"{EXTRA}: 'x'"),
        lambda: inside(
            plate(), lambda: normal("x", 3, obs=torch.ones(3), obs_mask=torch.tensor([True, False, True]))
        ),
        lambda: inside(plate(), lambda: normal("x")),
    ),
    Row(
        "partly observed, hidden NaN",
        PASSES,
        lambda: inside(
            plate(),
            lambda: normal(
                "x", 3, obs=torch.tensor([1.0, float("nan"), 1.0]), obs_mask=torch.tensor([True, False, True])
            ),
        ),
        lambda: inside(plate(), lambda: normal("x_unobserved")),
    ),
    Row(
        "mask of another shape",
        raises("Invalid obs_mask shape (2,) at site 'x'", "(3,)"),
        lambda: inside(
            plate(), lambda: normal("x", 3, obs=torch.ones(3), obs_mask=torch.tensor([True, False]))
        ),
    ),
    Row(
        "mask of floats",
        raises("Invalid obs_mask at site 'x'", "torch.bool"),
        lambda: inside(plate(), lambda: normal("x", 3, obs=torch.ones(3), obs_mask=torch.ones(3))),
    ),
    Row(
        "mask with event dims",
        raises("Invalid obs_mask shape (3, 2)"),
        lambda: inside(
            plate(),
            lambda: normal("x", 3, 2, event=1, obs=torch.ones(3, 2), obs_mask=torch.ones(3, 2).bool()),
        ),
    ),
    Row(
        "mask of a vector event",
        PASSES,
        lambda: inside(
            plate(),
            lambda: normal(
                "x", 3, 2, event=1, obs=torch.ones(3, 2), obs_mask=torch.tensor([True, False, True])
            ),
        ),
        lambda: inside(plate(), lambda: normal("x_unobserved", 2, event=1)),
    ),
    Row(
        "a plain bool as mask",
        PASSES,
        lambda: normal("x", obs=X, obs_mask=True),
        lambda: normal("x_unobserved"),
    ),
]


@over(ROWS)
def test_statements(row, objective):
    check(row, objective)
