"""Check what enumeration says about bad input, its records, and its helpers."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.infer import TraceEnum_ELBO, config_enumerate, infer_discrete
from ember.infer.enum import iter_discrete_traces
from ember.model.density import Density
from ember.ops.indexing import Vindex, vindex
from ember.ops.packed import unpack
from ember.poutine import runtime

PARALLEL = {"enumerate": "parallel"}


def loss_of(model, **options):
    return TraceEnum_ELBO(**options).loss(model, lambda: None)


def test_infinite_support():
    def model():
        ember.sample("k", dist.Poisson(3.0), infer=PARALLEL)

    with pytest.raises(ValueError, match=r"site 'k' cannot be enumerated(?s:.*)Poisson"):
        loss_of(model)


def test_inhomogeneous_binomial():
    def model():
        with ember.plate("p", 2):
            ember.sample("k", dist.Binomial(torch.tensor([3.0, 4.0]), torch.tensor(0.5)), infer=PARALLEL)

    with pytest.raises(ValueError, match="site 'k' cannot be enumerated"):
        loss_of(model)


def test_history_too_short():
    @config_enumerate
    def model():
        before = now = torch.tensor(0)
        table = torch.ones(2, 2, 2)
        for t in ember.markov(range(4)):
            before, now = now, ember.sample(f"x{t}", dist.Categorical(Vindex(table)[before, now]))

    with pytest.raises(ValueError, match=r"Enumeration dim conflict at site 'x\d'(?s:.*)longer history"):
        loss_of(model)


def test_max_plate_nesting_too_small():
    @config_enumerate
    def model():
        with ember.plate("rows", 3):
            ember.sample("z", dist.Categorical(torch.ones(2)))

    with pytest.raises(ValueError, match="max_plate_nesting=0 is too small for plate 'rows'"):
        loss_of(model, max_plate_nesting=0)


def test_sites_of_crossing_plates_cannot_meet():
    @config_enumerate
    def model():
        columns, rows = ember.plate("columns", 2, dim=-1), ember.plate("rows", 3, dim=-2)
        with columns:
            c = ember.sample("c", dist.Bernoulli(0.5))
        with rows:
            r = ember.sample("r", dist.Bernoulli(0.5))
        with columns, rows:
            ember.sample("x", dist.Normal(c + r, 1.0), obs=torch.zeros(3, 2))

    with pytest.raises(ValueError, match=r"different plates meet(?s:.*)'c' in plates"):
        loss_of(model)


def test_undeclared_batch_dims():
    @config_enumerate
    def model():
        z = ember.sample("z", dist.Bernoulli(0.5))
        ember.sample("x", dist.Normal(z, torch.ones(3)), obs=torch.zeros(3))

    with pytest.raises(ValueError, match="site 'x'"):
        loss_of(model, max_plate_nesting=1)


def test_different_scales_within_a_sum():
    @config_enumerate
    def model():
        z = ember.sample("z", dist.Bernoulli(0.5))
        with poutine.scale(scale=2.0):
            ember.sample("w", dist.Bernoulli(0.2 + 0.5 * z))

    with pytest.raises(ValueError, match="'z' and 'w' depend on each other but have different scales"):
        loss_of(model)


def test_common_scale_multiplies_the_evidence():
    @config_enumerate
    def model():
        z = ember.sample("z", dist.Bernoulli(0.5))
        ember.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.3))

    assert loss_of(poutine.scale(model, scale=3.0)) == pytest.approx(3 * loss_of(model))


def test_sequential_in_the_model():
    @config_enumerate(default="sequential")
    def model():
        ember.sample("z", dist.Bernoulli(0.5))

    with pytest.raises(ValueError, match="'z' asks for sequential enumeration, which only guides can do"):
        loss_of(model)


def test_nothing_to_enumerate_warns():
    def model():
        ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.3))

    with pytest.warns(UserWarning, match="found no sample sites configured for enumeration"):
        loss_of(model)


def test_model_more_global_than_guide():
    def model():
        g = ember.sample("g", dist.Bernoulli(0.5), infer=PARALLEL)
        with ember.plate("data", 2):
            ember.sample("z", dist.Bernoulli(0.2 + 0.5 * g))

    def guide():
        with ember.plate("data", 2):
            ember.sample("z", dist.Bernoulli(torch.tensor([0.1, 0.7])), infer=PARALLEL)

    with pytest.raises(ValueError, match="enumerates a site more globally than the guide"):
        TraceEnum_ELBO().loss(model, guide)


def test_values_dims_and_ids():
    @poutine.enum(first_available_dim=-2)
    def model():
        with ember.plate("data", 3):
            z = ember.sample("z", dist.Categorical(torch.ones(4)), infer=PARALLEL)
            ember.sample("x", dist.Normal(z.float(), 1.0), obs=torch.zeros(3))

    trace = poutine.trace(model).get_trace()
    site, x = trace.nodes["z"], trace.nodes["x"]
    assert site["value"].shape == (4, 1)
    assert site["infer"]["_enumerate_dim"] == -2
    assert x["infer"]["_dim_to_id"] == {-2: site["infer"]["_dim_to_id"][-2]}
    trace.compute_log_prob()
    assert trace.nodes["x"]["log_prob"].shape == (4, 3)
    assert "log_prob 4* 3" in trace.format_shapes()
    trace.pack_tensors()
    packed, symbols = x["packed"]["log_prob"], x["infer"]["_dim_to_symbol"]
    assert packed._pyro_dims == symbols[-2] + symbols[-1]
    torch.testing.assert_close(unpack(packed, {v: k for k, v in symbols.items()}), x["log_prob"])


def test_dims_are_recycled():
    @config_enumerate
    def model():
        x = torch.tensor(0)
        for t in ember.markov(range(5)):
            x = ember.sample(f"x{t}", dist.Categorical(torch.ones(2, 2)[x]))

    trace = poutine.trace(poutine.enum(model, first_available_dim=-1)).get_trace()
    assert [trace.nodes[f"x{t}"]["infer"]["_enumerate_dim"] for t in range(5)] == [-1, -2, -1, -2, -1]


def test_use_of_a_chain_after_its_context_is_refused():
    @config_enumerate
    def model():
        x = torch.tensor(0)
        for t in ember.markov(range(3)):
            x = ember.sample(f"x{t}", dist.Categorical(torch.ones(2, 2)[x]))
        ember.sample("y", dist.Normal(x.float(), 1.0), obs=torch.tensor(1.0))

    with pytest.raises(ValueError, match=r"Enumeration dim conflict at site 'y'(?s:.*)Sample Sites"):
        loss_of(model)


@pytest.mark.parametrize("size", [3, 60])
def test_iterations_of_a_sequential_plate(size):
    @config_enumerate
    def model():
        total = torch.tensor(0.0)
        for i in ember.plate("items", size):
            z = ember.sample(f"z{i}", dist.Bernoulli(0.3))
            ember.sample(f"x{i}", dist.Bernoulli(0.2 + 0.5 * z), obs=torch.tensor(1.0))
            total = total + z if size == 3 else total
        if size == 3:
            ember.sample("y", dist.Normal(total, 1.0), obs=torch.tensor(1.0))

    each = torch.tensor([0.7 * 0.2, 0.3 * 0.7])
    if size == 60:
        expected = size * each.sum().log()
    else:
        counts = [each[0] ** 3, 3 * each[0] ** 2 * each[1], 3 * each[0] * each[1] ** 2, each[1] ** 3]
        likelihood = dist.Normal(torch.arange(4.0), 1.0).log_prob(torch.tensor(1.0)).exp()
        expected = (torch.stack(counts) * likelihood).sum().log()
    assert loss_of(model) == pytest.approx(-expected.item(), rel=1e-5)


@pytest.mark.parametrize("mask", [False, torch.tensor(False)])
def test_masked_sites_keep_their_prior_when_summed_out(mask):
    @config_enumerate
    def model():
        with poutine.mask(mask=mask):
            z = ember.sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        ember.sample("x", dist.Normal(z.float(), 1.0), obs=torch.tensor(2.0))

    likelihood = dist.Normal(torch.arange(3.0), 1.0).log_prob(torch.tensor(2.0))
    expected = (torch.tensor([0.2, 0.3, 0.5]).log() + likelihood).logsumexp(0)
    assert loss_of(model) == pytest.approx(-expected.item(), rel=1e-6)


def test_table_that_would_be_too_large():
    """Eight sites that depend on each other in pairs, so that each by itself is small."""

    @config_enumerate
    def model():
        sites = [ember.sample(f"z{i}", dist.Categorical(torch.ones(50))) for i in range(8)]
        for i in range(8):
            for j in range(i):
                ember.factor(f"f{i}{j}", Vindex(torch.zeros(50, 50))[sites[i], sites[j]])

    with pytest.raises(ValueError, match=r"(?s)table of [\d,]+ numbers is needed.*'z\d': 50.*Sample Sites"):
        loss_of(model)


def test_site_that_depends_on_too_much():
    @config_enumerate
    def model():
        sites = [ember.sample(f"z{i}", dist.Bernoulli(0.5)) for i in range(40)]
        loc = torch.zeros(()).expand((2,) * 32)
        ember.sample("x", dist.Normal(loc, 1.0, validate_args=False), obs=sites[0].new_zeros(()))

    with pytest.raises(ValueError, match="at site 'x' would have 4,294,967,296 elements"):
        loss_of(model, max_plate_nesting=0)


def test_baseline_is_refused():
    def model():
        ember.sample("z", dist.Bernoulli(0.5))

    def guide():
        ember.sample("z", dist.Bernoulli(0.5), infer={"baseline": {"use_decaying_avg_baseline": True}})

    with pytest.raises(ValueError, match="'z' asks for a baseline, which TraceEnum_ELBO does not offer"):
        TraceEnum_ELBO(strict_enumeration_warning=False).loss(model, guide)


def test_loss_that_is_not_finite_names_the_site_of_a_chain():
    @config_enumerate
    def model():
        x = torch.tensor(0)
        for t in ember.markov(range(30)):
            x = ember.sample(f"x{t}", dist.Categorical(torch.ones(2, 2)[x]))
            with poutine.scale(scale=1.0):
                ember.factor(f"f{t}", torch.tensor([0.0, torch.inf if t == 17 else 1.0])[x])

    with pytest.warns(UserWarning, match="f17"):
        loss_of(model)


def test_value_outside_of_the_support_in_a_chain():
    @config_enumerate
    def model():
        x = torch.tensor(0)
        for t in ember.markov(range(30)):
            x = ember.sample(f"x{t}", dist.Categorical(torch.ones(2, 2)[x]))
            ember.sample(f"y{t}", dist.Exponential(1.0 + x), obs=torch.tensor(-1.0 if t == 17 else 1.0))

    with pytest.raises(ValueError, match=r"'y17'(?s:.*)support"):
        loss_of(model)


@pytest.mark.parametrize("size", [2, 30])
def test_errors_in_sums_show_the_shapes(size):
    @config_enumerate
    def model():
        ember.sample("p", dist.Beta(1.0, 1.0))
        z = ember.sample("z", dist.Bernoulli(0.5))
        for i in range(size):
            with poutine.scale(scale=2.0):
                ember.sample(f"w{i}", dist.Bernoulli(0.2 + 0.5 * z), infer={"enumerate": "parallel"})

    with pytest.raises(ValueError, match=r"(?s)different scales.*Sample Sites.*z dist"):
        Density(model, seed=0)(torch.zeros(1, dtype=torch.float64))


def test_third_parties_reach_the_allocator():
    dim, first = runtime._ENUM_ALLOCATOR.allocate({-1, -2})
    assert dim == -3
    assert runtime._ENUM_ALLOCATOR.allocate()[1] != first


@pytest.mark.parametrize(
    "options",
    [
        {"default": "x"},
        {"expand": 1},
        {"num_samples": 0},
        {"tmc": "x"},
        {"default": "sequential", "num_samples": 2},
    ],
)
def test_config_enumerate_refuses(options):
    with pytest.raises(ValueError, match="config_enumerate"):
        config_enumerate(lambda: None, **options)


def test_config_enumerate_leaves_other_sites_alone():
    @config_enumerate
    def model():
        ember.sample("a", dist.Bernoulli(0.5))
        ember.sample("b", dist.Bernoulli(0.5), infer={"enumerate": "sequential"})
        ember.sample("c", dist.Normal(0.0, 1.0))
        ember.sample("d", dist.Bernoulli(0.5), obs=torch.tensor(1.0))

    nodes = poutine.trace(model).get_trace().nodes
    assert [nodes[n]["infer"].get("enumerate") for n in "abcd"] == ["parallel", "sequential", None, None]


def test_num_samples_is_refused_where_it_would_matter():
    def model():
        ember.sample("a", dist.Bernoulli(0.5))

    with pytest.raises(ValueError, match="num_samples"):
        loss_of(config_enumerate(model, num_samples=3))


@pytest.mark.parametrize(
    "options", [{}, {"first_available_dim": 0}, {"first_available_dim": -1, "temperature": 0.5}]
)
def test_infer_discrete_refuses(options):
    with pytest.raises(ValueError, match="infer_discrete"):
        infer_discrete(lambda: None, **options)


def test_iter_discrete_traces():
    def program():
        a = ember.sample("a", dist.Bernoulli(0.25))
        if a:
            ember.sample("b", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))

    weights = [trace.log_prob_sum().exp().item() for trace in iter_discrete_traces("flat", program)]
    assert sorted(weights) == pytest.approx([0.05, 0.075, 0.125, 0.75])


def test_vindex_is_elementwise_in_batch_dims():
    x = torch.arange(24.0).reshape(2, 3, 4)
    i, j = torch.tensor([[0], [1]]), torch.tensor([0, 2, 1])
    assert torch.equal(Vindex(x)[i, j], x[i, j])
    assert torch.equal(vindex(x, (i, slice(None), torch.tensor(3))), x[i.squeeze(), :, 3].unsqueeze(1))
    k = torch.tensor([[[3]], [[1]]])
    expected = torch.stack([x[..., 3], x[..., 1]])
    assert torch.equal(Vindex(x)[..., k], expected)
    with pytest.raises(ValueError, match="full slices"):
        vindex(x, (slice(1), i))
