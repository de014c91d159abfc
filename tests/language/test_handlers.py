"""Check the handlers one by one, and the order in which they act (behaviours 98-108, 34)."""

import queue as queues

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine


def model(loc=0.0, obs=None):
    x = ember.sample("x", dist.Normal(loc, 1.0))
    y = ember.sample("y", dist.Normal(x, 1.0), obs=obs)
    return x, y


class Record(poutine.Messenger):
    """Write down every step of every site."""

    def __init__(self, name, log, stops=False):
        self.name, self.log, self.stops = name, log, stops

    def _process_message(self, msg):
        self.log.append((self.name, "before", msg["name"]))
        if self.stops:
            msg["stop"] = True

    def _postprocess_message(self, msg):
        self.log.append((self.name, "after", msg["name"]))


def test_innermost_first_before_and_outermost_first_after():
    log = []
    with Record("outer", log), Record("inner", log):
        ember.sample("x", dist.Normal(0.0, 1.0))
    assert [entry[:2] for entry in log] == [
        ("inner", "before"),
        ("outer", "before"),
        ("outer", "after"),
        ("inner", "after"),
    ]


def test_stop_hides_a_site_from_outer_handlers_both_ways():
    log = []
    with Record("outer", log), Record("middle", log, stops=True), Record("inner", log):
        ember.sample("x", dist.Normal(0.0, 1.0))
    assert [entry[:2] for entry in log] == [
        ("inner", "before"),
        ("middle", "before"),
        ("middle", "after"),
        ("inner", "after"),
    ]


def test_trace_outside_a_plate_sees_the_value_before_the_plates_post_step():
    whole = torch.zeros(6)
    with poutine.trace() as outer, ember.plate("p", 6, subsample_size=2), poutine.trace() as inner:
        value = ember.param("a", whole, event_dim=0)
    assert value.shape == (2,)
    assert outer.trace.nodes["a"]["value"].shape == (6,)
    assert inner.trace.nodes["a"]["value"].shape == (2,)


def test_three_ways_to_use_a_handler():
    data = {"x": torch.tensor(3.0)}
    assert poutine.condition(model, data=data)()[0] == 3.0
    assert poutine.condition(data=data)(model)()[0] == 3.0
    with poutine.condition(data=data):
        assert model()[0] == 3.0

    @poutine.condition(data=data)
    def decorated(loc):
        """Say something."""
        return model(loc)

    assert decorated(0.0)[0] == 3.0
    assert decorated.__name__ == "decorated" and decorated.__doc__ == "Say something."
    assert poutine.unwrap(poutine.block(decorated)) is decorated.__wrapped__


@pytest.mark.parametrize("make", [poutine.condition, poutine.scale, poutine.mask, poutine.replay])
def test_first_argument_that_is_no_function_is_refused(make):
    with pytest.raises(ValueError, match="did you mean to pass it as a keyword arg"):
        make({"x": 1})


def test_handlers_wrap_methods():
    class Program:
        def __init__(self, value):
            self.value = value

        @poutine.scale(scale=2.0)
        def run(self, more=0.0):
            return ember.sample("x", dist.Delta(torch.tensor(self.value + more)))

        traced = poutine.trace(run)

    program = Program(1.0)
    assert program.run(more=1.0) == 2.0
    trace = poutine.trace(program.run).get_trace(more=2.0)
    assert trace.nodes["x"]["value"] == 3.0 and trace.nodes["x"]["scale"] == 2.0
    assert Program.run(program) == 1.0


def test_handler_object_cannot_be_active_twice():
    handler = poutine.scale(scale=2.0)
    with handler:
        with pytest.raises(ValueError, match="cannot enter the same ScaleMessenger twice"), handler:
            pass
        assert len(poutine.runtime.handler_stack()) == 1
    with handler:
        pass


def test_exception_removes_a_handler_and_everything_inside():
    inner = poutine.scale(scale=2.0)

    def fail():
        inner.__enter__()
        ember.plate("p", 3).__enter__()
        raise KeyError("inside")

    with poutine.trace():
        with pytest.raises(KeyError), poutine.block():
            fail()
        assert len(poutine.runtime.handler_stack()) == 1
    assert poutine.runtime.active_plates() == []


def test_interrupts_unwind_handlers_plates_and_loops():
    def program():
        for i in ember.plate("loop", 3):
            with ember.plate(f"batch_{i}", 2), poutine.mask(mask=True):
                ember.param("a", torch.tensor(1.0))
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        poutine.scale(poutine.trace(program), scale=2.0)()
    assert poutine.runtime.handler_stack() == ()
    assert poutine.runtime.active_plates() == []
    assert list(ember.get_param_store()) == ["a"]


def test_leaving_in_the_wrong_order_is_refused():
    outer, inner = poutine.block(), poutine.scale(scale=2.0)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(ValueError, match=r"still active .ScaleMessenger."):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)


# -- replay, condition, uncondition, do --------------------------------------------------------------------


def test_replay_copies_value_and_infer_of_latent_sites_only():
    first = poutine.trace(poutine.infer_config(model, config_fn=lambda site: {"k": 1})).get_trace()
    second = poutine.trace(poutine.replay(model, trace=first)).get_trace(obs=torch.tensor(9.0))
    assert second.nodes["x"]["value"] is first.nodes["x"]["value"]
    assert second.nodes["x"]["infer"] == {"k": 1}
    assert second.nodes["x"]["infer"] is not first.nodes["x"]["infer"]
    assert second.nodes["y"]["value"] == 9.0


@pytest.mark.parametrize("kind", ["observed", "param"])
def test_replay_refuses_a_site_that_was_not_drawn(kind):
    def other():
        if kind == "param":
            ember.param("x", torch.tensor(1.0))
        else:
            ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    trace = poutine.trace(other).get_trace()
    with pytest.raises(RuntimeError, match="site 'x' must be sampled in trace"):
        poutine.replay(model, trace=trace)()


def test_replay_needs_something():
    with pytest.raises(ValueError, match="replay needs a trace or params"):
        poutine.replay(model)


def test_condition_takes_dicts_and_traces_and_none():
    assert ember.condition is poutine.condition
    trace = poutine.trace(poutine.condition(model, data={"x": torch.tensor(2.0)})).get_trace()
    assert trace.nodes["x"]["is_observed"] and trace.observation_nodes == ["x"]
    again = poutine.trace(poutine.condition(model, data=trace)).get_trace()
    assert torch.equal(again.nodes["y"]["value"], trace.nodes["y"]["value"])
    latent = poutine.trace(poutine.condition(model, data={"y": None})).get_trace(obs=torch.tensor(100.0))
    assert not latent.nodes["y"]["is_observed"] and latent.nodes["y"]["value"] != 100.0


def test_inner_condition_wins_over_outer():
    inner = poutine.condition(model, data={"x": torch.tensor(1.0)})
    outer = poutine.condition(inner, data={"x": torch.tensor(2.0)})
    assert outer()[0] == 2.0  # the outer handler acts last before the draw


def test_uncondition_draws_anew_and_keeps_the_observation():
    trace = poutine.trace(poutine.uncondition(model)).get_trace(obs=torch.tensor(100.0))
    site = trace.nodes["y"]
    assert not site["is_observed"] and site["value"] != 100.0
    assert site["infer"]["was_observed"] and site["infer"]["obs"] == 100.0


def test_do_keeps_the_original_latent_and_feeds_the_fixed_value_downstream():
    assert ember.do is poutine.do

    def chain():
        z = ember.sample("z", dist.Normal(10.0, 0.001))
        x = ember.sample("x", dist.Normal(z, 0.001))
        return ember.sample("y", dist.Normal(x, 0.001))

    trace = poutine.trace(poutine.do(chain, data={"x": torch.tensor(-5.0)})).get_trace()
    assert "x__CF" not in trace and not trace.nodes["x"]["is_observed"]
    assert abs(trace.nodes["x"]["value"] - 10.0) < 0.1
    assert abs(trace.nodes["y"]["value"] + 5.0) < 0.1
    inside = poutine.trace(chain)
    poutine.do(inside, data={"x": torch.tensor(-5.0)})()
    assert inside.trace.nodes["x__CF"]["is_observed"] and "x" not in inside.trace


def test_do_takes_functions_of_the_draw_and_warns_when_applied_twice():
    doubled = poutine.do(
        lambda: ember.sample("x", dist.Delta(torch.tensor(3.0))), data={"x": lambda v: 2 * v}
    )
    assert doubled() == 6.0
    twice = poutine.do(
        poutine.do(lambda: ember.sample("x", dist.Normal(0.0, 1.0)), data={"x": torch.tensor(1.0)}),
        data={"x": torch.tensor(2.0)},
    )
    with pytest.warns(RuntimeWarning, match="multiple times"):
        assert twice() == 1.0
    with pytest.raises(TypeError, match=r"do.. fixes sites"):
        poutine.do(model, data={"x": "text"})()


# -- block -------------------------------------------------------------------------------------------------


def all_kinds():
    ember.sample("latent", dist.Normal(0.0, 1.0))
    ember.sample("seen", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
    ember.param("weight", torch.tensor(1.0))


@pytest.mark.parametrize(
    "criteria, left",
    [
        ({}, []),
        ({"hide_all": False, "expose_all": True}, ["latent", "seen", "weight"]),
        ({"hide": ["latent"]}, ["seen", "weight"]),
        ({"expose": ["latent"]}, ["latent"]),
        ({"hide_types": ["param"]}, ["latent", "seen"]),
        ({"expose_types": ["sample"]}, ["latent", "seen"]),
        ({"hide_types": ["observe"]}, ["latent", "weight"]),
        ({"expose_types": ["observe"]}, ["seen"]),
        ({"hide_fn": lambda msg: msg["name"] == "seen"}, ["latent", "weight"]),
        ({"expose_fn": lambda msg: msg["type"] == "param"}, ["weight"]),
        ({"hide": ["latent"], "hide_types": ["param"]}, ["seen"]),
    ],
)
def test_block(criteria, left):
    trace = poutine.trace(poutine.block(all_kinds, **criteria)).get_trace()
    assert [name for name in trace if not name.startswith("_")] == left


@pytest.mark.parametrize(
    "criteria",
    [
        {"hide": ["x"], "expose": ["x"]},
        {"hide_types": ["sample"], "expose_types": ["sample"]},
        {"hide_fn": bool, "expose_fn": bool},
    ],
)
def test_contradicting_criteria_of_block_are_refused(criteria):
    with pytest.raises(ValueError, match="block"):
        poutine.block(all_kinds, **criteria)


# -- mask and scale ----------------------------------------------------------------------------------------


def test_masks_combine_with_and_and_scales_multiply():
    def inner():
        with poutine.mask(mask=torch.tensor([True, True, False])), poutine.scale(scale=2.0):
            return ember.sample("x", dist.Normal(torch.zeros(3), 1.0))

    with poutine.mask(mask=torch.tensor([False, True, True])), poutine.scale(scale=torch.tensor(3.0)):
        trace = poutine.trace(inner).get_trace()
    assert trace.nodes["x"]["scale"] == 6.0  # what is recorded is what all handlers made of it
    outside = poutine.trace(
        poutine.mask(poutine.scale(inner, scale=3.0), mask=torch.tensor([False, True, True]))
    ).get_trace()
    site = outside.nodes["x"]
    assert site["mask"].tolist() == [False, True, False] and site["scale"] == 6.0
    outside.compute_log_prob()
    expected = 6.0 * torch.distributions.Normal(0.0, 1.0).log_prob(site["value"][1])
    torch.testing.assert_close(site["log_prob"], torch.stack([torch.zeros(()), expected, torch.zeros(())]))


@pytest.mark.parametrize("mask", [1, 0.0, torch.ones(2), "yes", None])
def test_mask_accepts_only_bools(mask):
    with pytest.raises(ValueError, match="Invalid mask") as error:
        poutine.mask(mask=mask)
    assert "expected: a bool or a bool tensor" in str(error.value)


@pytest.mark.parametrize("scale", [0.0, -1.0, torch.tensor([1.0, -1.0]), torch.tensor(0.0)])
def test_scale_accepts_only_positive_values(scale):
    with pytest.raises(ValueError, match="Invalid scale"):
        poutine.scale(scale=scale)


def test_mask_that_does_not_fit_names_the_site():
    def masked():
        with poutine.mask(mask=torch.tensor([True, False])):
            ember.sample("the_site", dist.Normal(torch.zeros(3), 1.0))

    with pytest.raises(ValueError, match="mask at site 'the_site' does not broadcast") as error:
        poutine.trace(masked).get_trace().log_prob_sum()
    assert "(3,)" in str(error.value) and "(2,)" in str(error.value)


# -- the others --------------------------------------------------------------------------------------------


def test_seed_is_not_on_the_stack_and_restores_the_random_state():
    before = torch.get_rng_state()
    with poutine.seed(rng_seed=3) as nothing:
        assert nothing is None
        assert not poutine.runtime.am_i_wrapped()
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(poutine.seed(lambda: torch.rand(3), rng_seed=3)(), first)
    with poutine.seed(rng_seed=3), pytest.warns(RuntimeWarning):
        ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0))
    with pytest.raises(ValueError, match="rng_seed must be an int"):
        poutine.seed(rng_seed="3")


def test_substitute_warns_about_unused_values():
    with pytest.warns(UserWarning, match="nowhere"):
        poutine.substitute(all_kinds, data={"nowhere": torch.tensor(1.0)})()


def test_broadcast_expands_to_plates_that_do_not():
    class Frame(poutine.Messenger):
        def _pyro_sample(self, msg):
            frame = poutine.runtime.CondIndepStackFrame("p", -1, 3, 0)
            msg["cond_indep_stack"] = (frame, *msg["cond_indep_stack"])

    assert poutine.broadcast(Frame()(lambda: ember.sample("x", dist.Normal(0.0, 1.0))))().shape == (3,)


def test_escape_leaves_the_program():
    escaping = poutine.escape(model, escape_fn=lambda msg: msg["name"] == "y")
    with pytest.raises(poutine.NonlocalExit) as escape:
        escaping()
    assert escape.value.site["name"] == "y"
    assert poutine.runtime.handler_stack() == ()


def test_queue_runs_through_every_value():
    def coins():
        first = ember.sample("a", dist.Bernoulli(0.3))
        second = ember.sample("b", dist.Bernoulli(0.8))
        return int(first), int(second)

    partial = queues.Queue()
    partial.put(poutine.Trace())
    run = poutine.trace(poutine.queue(coins, queue=partial))
    results, total = [], 0.0
    while not partial.empty():
        trace = run.get_trace()
        results.append(trace.nodes["_RETURN"]["value"])
        total += trace.log_prob_sum().exp().item()
    assert sorted(results) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert total == pytest.approx(1.0)
    with pytest.raises(ValueError, match="queue of partial traces is empty"):
        run()


def test_equalize_shares_the_first_value():
    def tied():
        return ember.sample("a_1", dist.Normal(0.0, 1.0)), ember.sample("a_2", dist.Normal(5.0, 1.0))

    trace = poutine.trace(poutine.equalize(tied, "a_.*")).get_trace()
    first, second = trace.nodes["_RETURN"]["value"]
    assert torch.equal(first, second)
    torch.testing.assert_close(trace.log_prob_sum(), torch.distributions.Normal(0.0, 1.0).log_prob(first))
    kept = poutine.trace(poutine.equalize(tied, "a_.*", keep_dist=True)).get_trace()
    value = kept.nodes["a_1"]["value"]
    both = dist.Normal(0.0, 1.0).log_prob(value) + dist.Normal(5.0, 1.0).log_prob(value)
    torch.testing.assert_close(kept.log_prob_sum(), both)


class Noncentred:
    """Draw a standard normal, and shift and scale it."""

    def apply(self, msg):
        fn = msg["fn"]
        noise = ember.sample(msg["name"] + "_noise", dist.Normal(torch.zeros_like(fn.loc), 1.0))
        return {"fn": None, "value": fn.loc + fn.scale * noise, "is_observed": True}


@pytest.mark.parametrize(
    "config", [{"x": Noncentred()}, lambda site: Noncentred() if site["name"] == "x" else None]
)
def test_reparam_rewrites_sites(config):
    trace = poutine.trace(poutine.reparam(model, config=config)).get_trace(2.0)
    assert trace.stochastic_nodes == ["x_noise", "y"]
    assert trace.nodes["x"]["infer"]["_deterministic"]
    torch.testing.assert_close(trace.nodes["x"]["value"], 2.0 + trace.nodes["x_noise"]["value"])


def test_markov_counts_steps_and_scopes():
    def chain():
        for t in ember.markov(range(4)):
            ember.sample(f"x_{t}", dist.Normal(0.0, 1.0))

    trace = poutine.trace(chain).get_trace()
    scopes = [set(trace.nodes[f"x_{t}"]["infer"]["_markov_scope"]) for t in range(4)]
    assert scopes == [set(), {"x_0"}, {"x_1"}, {"x_2"}]
    assert [trace.nodes[f"x_{t}"]["infer"]["_markov_depth"] for t in range(4)] == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="history"):
        ember.markov(range(2), history=-1)
    with pytest.raises(ValueError, match="did you mean"):
        ember.markov(3)


def test_nested_inference_inside_a_model():
    def inner():
        return poutine.trace(poutine.block(model)).get_trace().nodes["_RETURN"]["value"][0]

    def outer():
        return ember.sample("x", dist.Normal(inner(), 1.0))

    assert poutine.trace(outer).get_trace().stochastic_nodes == ["x"]
