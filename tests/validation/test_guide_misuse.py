"""Tabulate what is said of automatic guides, handlers and optimisers that do not fit the model."""

import pytest
import torch
from table import PASSES, bernoulli, inside, judge, normal, observe, plate, raises, warns

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from ember.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoLaplaceApproximation,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_value,
)


def fit(model, guide_class=AutoNormal, loss=None, **how):
    """Take two steps with an automatic guide."""

    def act():
        guide = guide_class(model, **how)
        svi = SVI(model, guide, optim.Adam({"lr": 0.01}), loss or Trace_ELBO())
        svi.step()
        svi.step()

    return act


def hierarchy():
    mean = normal("mean")
    inside(plate(), lambda: observe("x", normal("z", loc=mean), 3))


def discrete():
    normal("w")
    bernoulli("z")


def grouped():
    guide = AutoGuideList(hierarchy)
    guide.append(AutoNormal(poutine.block(hierarchy, expose=["mean"])))
    guide.append(AutoDelta(poutine.block(hierarchy, expose=["z"])))
    return guide


def overlapping():
    guide = AutoGuideList(hierarchy)
    guide.append(AutoNormal(poutine.block(hierarchy, expose=["mean"])))
    guide.append(AutoDelta(hierarchy))
    return guide


def incomplete():
    guide = AutoGuideList(hierarchy)
    guide.append(AutoNormal(poutine.block(hierarchy, expose=["mean"])))
    return guide


def stepped(guide):
    return lambda: SVI(hierarchy, guide(), optim.Adam({"lr": 0.01}), Trace_ELBO()).step()


def changing(shapes=[3, 4]):  # noqa: B006 one size for each call
    size = shapes.pop(0)
    inside(plate(size=size), lambda: normal("z"))
    shapes.append(size)


FAMILIES = [AutoNormal, AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, AutoLaplaceApproximation]

ROWS = {
    **{f"a hierarchy under {each.__name__}": (PASSES, fit(hierarchy, each)) for each in FAMILIES},
    "a discrete site in an automatic guide": (
        raises("AutoNormal cannot guide site 'z', whose support is Boolean()", "a continuous site"),
        fit(discrete),
    ),
    "the same with the discrete site blocked": (
        warns("Found vars in model but not guide: 'z'"),
        fit(discrete, lambda model: AutoNormal(poutine.block(model, hide=["z"]))),
    ),
    "the same, enumerated": (
        PASSES,
        fit(
            config_enumerate(discrete),
            lambda model: AutoNormal(poutine.block(model, hide=["z"])),
            TraceEnum_ELBO(),
        ),
    ),
    "no latent site": (raises("latent"), fit(lambda: observe("x", 0.0), AutoDiagonalNormal)),
    "a scale of zero": (raises("init_scale"), fit(hierarchy, AutoNormal, init_scale=0.0)),
    "a negative scale": (raises("init_scale"), fit(hierarchy, AutoDiagonalNormal, init_scale=-1.0)),
    "a starting value of another shape": (
        raises("'z'"),
        fit(hierarchy, AutoNormal, init_loc_fn=init_to_value(values={"z": torch.zeros(5)})),
    ),
    "a starting value outside the support": (
        raises("the starting value of site 's' lies outside of its support", "-1"),
        fit(
            lambda: ember.sample("s", dist.Exponential(1.0)),
            AutoNormal,
            init_loc_fn=init_to_value(values={"s": torch.tensor(-1.0)}),
        ),
    ),
    "guides of parts": (PASSES, stepped(grouped)),
    "guides of parts that overlap": (
        raises("mean", error=(ValueError, RuntimeError)),
        lambda: overlapping()(),
    ),
    "guides of too few parts": (warns("Found vars in model but not guide: 'z'"), stepped(incomplete)),
    # -- handlers ------------------------------------------------------------------------------------------
    "a value for a site that is not there": (
        PASSES,
        lambda: poutine.condition(hierarchy, data={"nothing": torch.tensor(0.0)})(),
    ),
    "a handler without a function": (raises("callable", "keyword"), lambda: poutine.block(["z"])),
    "a mask of numbers": (raises("mask"), lambda: poutine.mask(hierarchy, mask=torch.ones(3))),
    "a scale of nothing": (raises("Invalid scale"), lambda: poutine.scale(hierarchy, scale=0.0)),
    "replay without a trace": (raises("trace or params"), lambda: poutine.replay(hierarchy)),
    "an unused lift": (PASSES, lambda: poutine.lift(hierarchy, prior={})()),
    "a seed that is no number": (
        raises("seed", error=(ValueError, TypeError)),
        lambda: poutine.seed(hierarchy, rng_seed="one")(),
    ),
    "a handler entered twice": (raises("already", error=(ValueError, RuntimeError)), lambda: _twice()),
    "data outside of inference": (
        warns("trying to observe a value outside of inference at x", warning=RuntimeWarning),
        lambda: observe("x", 0.0),
    ),
    # -- settings ------------------------------------------------------------------------------------------
    "an unknown setting": (
        raises("validate_nothing", error=KeyError),
        lambda: ember.settings.set(validate_nothing=True),
    ),
    "a setting of a wrong kind": (
        raises("setting 'execution': expected one of 'auto'"),
        lambda: ember.settings.set(execution="fast"),
    ),
    "an option that the optimiser does not have": (
        raises("momentum", error=(TypeError, ValueError)),
        lambda: SVI(hierarchy, AutoNormal(hierarchy), optim.Adam({"momentum": 0.1}), Trace_ELBO()).step(),
    ),
    "a negative learning rate": (
        raises("learning rate"),
        lambda: SVI(hierarchy, AutoNormal(hierarchy), optim.Adam({"lr": -0.1}), Trace_ELBO()).step(),
    ),
}


def _twice():
    handler = poutine.block()
    with handler, handler:
        pass


@pytest.mark.parametrize("name", ROWS)
def test_guides(name):
    judge(*ROWS[name])
