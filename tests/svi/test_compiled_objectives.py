"""Compare the compiled forms of objectives with the eager ones, on the draws of one seed."""

import logging

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim
from ember.distributions import constraints
from ember.infer import (
    SVI,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from ember.ops.indexing import Vindex

PAIRS = [
    (JitTrace_ELBO, Trace_ELBO),
    (JitTraceGraph_ELBO, TraceGraph_ELBO),
    (JitTraceEnum_ELBO, TraceEnum_ELBO),
    (JitTraceMeanField_ELBO, TraceMeanField_ELBO),
]


@pytest.fixture(autouse=True)
def quiet_torch():
    """The age of torch's tracer is a remark for us, not for users."""
    ember.engine.policy._said.clear()


def model(data, scale=1.0):
    loc = ember.sample("loc", dist.Normal(0.0, 2.0))
    spread = ember.sample("spread", dist.LogNormal(0.0, 1.0))
    with ember.plate("data", len(data)):
        ember.sample("x", dist.Normal(loc, spread * scale), obs=data)


def guide(data, scale=1.0):
    mean = ember.param("mean", torch.tensor(0.2))
    width = ember.param("width", torch.tensor(0.5), constraint=constraints.positive)
    ember.sample("loc", dist.Normal(mean, width))
    ember.sample("spread", dist.LogNormal(0.1, width))


def mixture(data):
    weights = ember.param("weights", torch.ones(2) / 2, constraint=constraints.simplex)
    loc = ember.sample("loc", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with ember.plate("data", len(data)):
        z = ember.sample("z", dist.Categorical(weights), infer={"enumerate": "parallel"})
        ember.sample("x", dist.Normal(Vindex(loc)[..., z], 1.0), obs=data)


def mixture_guide(data):
    mean = ember.param("mean", torch.tensor([-1.0, 1.0]))
    ember.sample("loc", dist.Normal(mean, 0.3).to_event(1))


def scored_model(data):
    z = ember.sample("z", dist.Bernoulli(0.4))
    with ember.plate("data", len(data), subsample_size=2) as ind:
        w = ember.sample("w", dist.Bernoulli(0.3 + 0.3 * z))
        ember.sample("x", dist.Normal(w + z, 1.0), obs=data[ind])


def scored_guide(data, infer=None):
    logit = ember.param("mean", torch.tensor(0.3))
    ember.sample("z", dist.Bernoulli(logits=logit), infer=infer)
    with ember.plate("data", len(data), subsample_size=2):
        ember.sample("w", dist.Bernoulli(logits=logit))


PROGRAMS = {
    JitTrace_ELBO: [(model, guide), (scored_model, scored_guide)],
    JitTraceGraph_ELBO: [(model, guide), (scored_model, scored_guide)],
    JitTraceEnum_ELBO: [(mixture, mixture_guide)],
    JitTraceMeanField_ELBO: [(model, guide)],
}


def loss_and_gradient(elbo, programs, data, how, **kwargs):
    for _, leaf in ember.get_param_store().named_parameters():
        leaf.grad = None
    ember.set_rng_seed(3)
    if how == "loss_and_grads":
        loss = elbo.loss_and_grads(*programs, data, **kwargs)
    elif how == "module":
        loss = elbo(*programs)(data, **kwargs)
        loss.backward()
    else:
        loss = elbo.differentiable_loss(*programs, data, **kwargs)
        loss.backward()
    store = ember.get_param_store()
    return float(loss.detach() if how != "loss_and_grads" else loss), {
        name: leaf.grad.clone() for name, leaf in store.named_parameters()
    }


def assert_agree(compiled, eager, programs, data, how, **kwargs):
    # The first call runs the program more often than later ones, so draws are compared after it.
    loss_and_gradient(compiled, programs, data, how, **kwargs)
    found = loss_and_gradient(compiled, programs, data, how, **kwargs)
    expected = loss_and_gradient(eager, programs, data, how, **kwargs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["loss_and_grads", "differentiable_loss", "module"])
@pytest.mark.parametrize("compiled_class, eager_class", PAIRS)
def test_value_and_gradient(compiled_class, eager_class, how, caplog):
    with caplog.at_level(logging.WARNING, "ember"):
        for programs in PROGRAMS[compiled_class]:
            ember.clear_param_store()
            compiled, eager = compiled_class(), eager_class()
            for data in (
                torch.tensor([0.3, 1.0, -2.0]),
                torch.tensor([1.3, 0.0, 2.0]),
                torch.tensor([0.3] * 5),
            ):
                assert_agree(compiled, eager, programs, data, how)
            ember.set_rng_seed(1)
            found = compiled.loss(*programs, data)
            ember.set_rng_seed(1)
            assert found == pytest.approx(eager.loss(*programs, data), rel=1e-4)
    assert caplog.records == []


def test_the_program_runs_once_for_each_shape_and_option():
    runs = []

    def counted(data, scale=1.0):
        runs.append(1)
        model(data, scale)

    elbo = JitTrace_ELBO()
    counts = []
    for data, scale in [
        (torch.ones(3), 1.0),
        (torch.zeros(3), 1.0),
        (torch.ones(4), 1.0),
        (torch.ones(3), 2.0),
    ]:
        for _ in range(3):
            elbo.loss(counted, guide, data, scale=scale)
        counts.append(len(runs))
    assert counts == [2, 2, 4, 6]  # once to find the params, once to be traced


@pytest.mark.parametrize("kind", ["kwarg", "list", "positional constant"])
def test_arguments_of_all_kinds(kind):
    def wrapped(fn):
        def run(*args, **kwargs):
            data = kwargs["data"] if kind == "kwarg" else args[0][1] if kind == "list" else args[0]
            return fn(data, scale=2.0 if kind != "positional constant" else args[1])

        return run

    compiled, eager, programs = JitTrace_ELBO(), Trace_ELBO(), (wrapped(model), wrapped(guide))
    for data in (torch.tensor([0.3, 1.0]), torch.tensor([1.3, 0.0])):
        args = {"kwarg": (), "list": (["name", data],), "positional constant": (data, 2.0)}[kind]
        kwargs = {"data": data} if kind == "kwarg" else {}
        compiled.loss(*programs, *args, **kwargs)
        values = []
        for elbo in (compiled, eager):
            ember.set_rng_seed(3)
            values.append(elbo.loss(*programs, *args, **kwargs))
        assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("vectorize_particles", [True, False])
def test_particles(vectorize_particles):
    options = {"num_particles": 3, "vectorize_particles": vectorize_particles}
    data = torch.tensor([0.3, 1.0, -2.0])
    assert_agree(JitTrace_ELBO(**options), Trace_ELBO(**options), (model, guide), data, "loss_and_grads")
    ember.clear_param_store()
    pair = JitTraceEnum_ELBO(**options), TraceEnum_ELBO(**options)
    assert_agree(*pair, (mixture, mixture_guide), data, "loss_and_grads")


def test_svi_learns_and_sees_changed_parameters():
    data = torch.randn(40) + 2.0
    svi = SVI(model, guide, optim.Adam({"lr": 0.05}), JitTrace_ELBO())
    for _ in range(400):
        svi.step(data)
    assert ember.param("mean").item() == pytest.approx(data.mean().item(), abs=0.3)


def test_training_runs_as_machine_code_too():
    data = torch.randn(40) + 2.0
    svi = SVI(model, guide, optim.Adam({"lr": 0.05}), JitTrace_ELBO(), execution="native")
    svi.run(300, data, disable_progbar=True)
    assert ember.param("mean").item() == pytest.approx(data.mean().item(), abs=0.4)


def test_a_cleared_store_compiles_anew():
    elbo, data = JitTrace_ELBO(), torch.zeros(3)
    elbo.loss_and_grads(model, guide, data)
    ember.clear_param_store()
    elbo.loss_and_grads(model, guide, data)
    assert set(ember.get_param_store()) == {"mean", "width"}


def fallback(programs, caplog, elbo=None, **options):
    elbo = elbo or JitTrace_ELBO(**options)
    with caplog.at_level(logging.WARNING, "ember"):
        losses = [elbo.loss_and_grads(*programs, torch.zeros(3)) for _ in range(3)]
    return losses, [record.message for record in caplog.records]


def test_branching_on_a_draw_runs_eagerly_and_says_why(caplog):
    taken = []

    def branching(data):
        loc = ember.sample("loc", dist.Normal(0.0, 1.0))
        ember.sample("spread", dist.LogNormal(0.0, 1.0))
        if loc > 0:
            taken.append(1)

    _, said = fallback((branching, guide), caplog)
    assert len(said) == 1
    assert said[0].startswith("JitTrace_ELBO runs eagerly: the program looks at numbers, at ")
    assert "test_compiled_objectives.py" in said[0]


def test_a_running_average_runs_eagerly(caplog):
    infer = {"baseline": {"use_decaying_avg_baseline": True}}
    _, said = fallback((scored_model, lambda data: scored_guide(data, infer)), caplog)
    assert said == [
        "JitTrace_ELBO runs eagerly: the running average that is the baseline of site 'z' changes"
    ]


def test_a_model_that_is_wrong_says_so_itself():
    def wrong(data):
        ember.sample("loc", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(ValueError, match="event_dims disagree at site 'loc'"):
        JitTrace_ELBO().loss(wrong, guide, torch.zeros(3))


def test_a_loss_that_is_not_finite_names_the_site():
    def improbable(data):
        ember.sample("loc", dist.Normal(0.0, 1.0))
        ember.factor("wall", data.log().sum())

    def simple(data):
        ember.sample("loc", dist.Normal(ember.param("mean", torch.tensor(0.0)), 1.0))

    elbo = JitTrace_ELBO()
    elbo.loss(improbable, simple, torch.ones(2))
    with pytest.warns(UserWarning, match="from site 'wall'"):
        elbo.loss(improbable, simple, torch.zeros(2))
