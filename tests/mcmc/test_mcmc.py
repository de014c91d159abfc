"""Check MCMC from end to end on posteriors known in closed form, and its calling form."""

import math

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine, settings
from ember.distributions import constraints
from ember.errors import InitialisationError
from ember.infer import HMC, MCMC, NUTS
from ember.infer.mcmc import MCMCKernel
from ember.model.initialisation import init_to_value


@pytest.fixture
def eagerly():
    """Execute models in Python throughout, so that what they do there beside sampling is seen."""
    with settings.context(execution="eager"):
        yield


def run(model, *args, draws=300, warmup=150, chains=1, kernel=NUTS, seed=1, options=None, **kwargs):
    ember.set_rng_seed(seed)
    mcmc = MCMC(
        kernel(model, **(options or {})), draws, warmup, num_chains=chains, disable_progbar=True, **kwargs
    )
    mcmc.run(*args)
    return mcmc


def agrees(draws, mean, sd, rtol_sd=0.25):
    """Compare with a known mean and sd, by the effective sample size."""
    from ember.infer.mcmc.summary import diagnostics

    ess = diagnostics({"x": draws})["x"]["n_eff"]
    values = draws.flatten(0, 1)
    error = (values.mean(0) - mean).abs() / (sd / ess.sqrt())
    assert (error < 4.5).all(), error
    assert ((values.std(0) / sd - 1).abs() < rtol_sd).all(), values.std(0) / sd


def normal_normal(y):
    mu = ember.sample("mu", dist.Normal(0.0, 2.0))
    with ember.plate("data", len(y)):
        ember.sample("y", dist.Normal(mu, 1.0), obs=y)


Y = torch.tensor([1.0, 2.0, 0.5, 1.5])
MEAN, SD = Y.sum() / 4.25, 4.25**-0.5


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (NUTS, {}),
        (NUTS, {"full_mass": True}),
        (HMC, {"trajectory_length": 1.5}),
        (HMC, {"step_size": 0.3, "num_steps": 4, "adapt_step_size": False, "adapt_mass_matrix": False}),
    ],
)
@pytest.mark.parametrize("execution", ["eager", "native"])
def test_conjugate_normal(kernel, options, execution):
    with settings.context(execution=execution):
        mcmc = run(normal_normal, Y, kernel=kernel, options=options, draws=400)
    agrees(mcmc.get_samples(group_by_chain=True)["mu"], MEAN, SD)


def test_gamma_poisson_in_positive_space():
    counts = torch.tensor([3.0, 5.0, 4.0])

    def model():
        rate = ember.sample("rate", dist.Gamma(2.0, 1.0))
        with ember.plate("data", 3):
            ember.sample("y", dist.Poisson(rate), obs=counts)

    draws = run(model, draws=400).get_samples(group_by_chain=True)["rate"]
    shape, rate = 2.0 + 12.0, 1.0 + 3.0
    agrees(draws, torch.tensor(shape / rate), torch.tensor(math.sqrt(shape) / rate))
    assert (draws > 0).all()


def test_dirichlet_multinomial_on_the_simplex():
    counts = torch.tensor([4.0, 1.0, 7.0])

    def model():
        p = ember.sample("p", dist.Dirichlet(torch.tensor([1.0, 2.0, 1.0])))
        ember.factor("counts", (counts * p.log()).sum())

    draws = run(model, draws=400).get_samples(group_by_chain=True)["p"]
    a = counts + torch.tensor([1.0, 2.0, 1.0])
    mean = a / a.sum()
    agrees(draws, mean, (mean * (1 - mean) / (a.sum() + 1)).sqrt())
    torch.testing.assert_close(draws.sum(-1), torch.ones(1, 400))


def test_masked_scaled_and_reparametrised_sites():
    def model():
        with poutine.scale(scale=4.0):
            x = ember.sample("x", dist.Normal(1.0, 1.0))  # four times as precise
        with ember.plate("p", 2), poutine.mask(mask=torch.tensor([True, False])):
            ember.sample("y", dist.Normal(x, 0.5), obs=torch.tensor([2.0, 50.0]))

    class Standardise:
        def __call__(self, name, fn, obs):
            base = ember.sample(f"{name}_base", dist.Normal(0.0, 1.0))
            return None, fn.loc + fn.scale * base

    draws = run(model, draws=400).get_samples(group_by_chain=True)
    agrees(draws["x"], torch.tensor((4 * 1 + 4 * 2) / 8.0), torch.tensor(8.0**-0.5))


def test_obs_mask_imputes():
    data = torch.tensor([1.0, 0.0, 3.0])

    def model():
        with ember.plate("data", 3):
            ember.sample("x", dist.Normal(5.0, 2.0), obs=data, obs_mask=torch.tensor([True, False, True]))

    mcmc = run(model, draws=400)
    samples = mcmc.get_samples(group_by_chain=True)
    assert list(samples) == ["x_unobserved"]
    agrees(samples["x_unobserved"][..., 1], torch.tensor(5.0), torch.tensor(2.0))
    merged = torch.as_tensor(mcmc.to_arviz().posterior["x"].values)
    assert torch.equal(merged[..., 0], torch.full((1, 400), 1.0))
    assert torch.equal(merged[..., 1], samples["x_unobserved"][..., 1])


def test_improper_flat_prior():
    def model():
        mu = ember.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        ember.sample("y", dist.Normal(mu, 2.0), obs=torch.tensor(3.0))

    agrees(run(model, draws=400).get_samples(group_by_chain=True)["mu"], torch.tensor(3.0), torch.tensor(2.0))


# -- shapes, dtypes, order ---------------------------------------------------------------------------------


def two_sites():
    ember.sample("z", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    ember.sample("a", dist.HalfNormal(torch.tensor(1.0, dtype=torch.float64)))
    ember.deterministic("d", torch.tensor(1.0))


def test_shapes_dtypes_and_order():
    mcmc = run(two_sites, draws=6, warmup=4, chains=2)
    grouped, flat = mcmc.get_samples(group_by_chain=True), mcmc.get_samples()
    assert list(flat) == ["z", "a"]
    assert grouped["z"].shape == (2, 6, 2, 3)
    assert flat["z"].shape == (12, 2, 3)
    assert (flat["z"].dtype, flat["a"].dtype) == (torch.float32, torch.float64)
    assert torch.equal(flat["a"], grouped["a"].flatten(0, 1))
    assert mcmc.get_samples(num_samples=30)["z"].shape == (30, 2, 3)
    assert mcmc.get_samples(num_samples=3, group_by_chain=True)["z"].shape == (2, 3, 2, 3)
    assert set(mcmc.sample_stats) >= {
        "energy",
        "tree_depth",
        "num_leapfrogs",
        "diverging",
        "acceptance",
        "step_size",
    }
    assert all(value.shape == (2, 6) for value in mcmc.sample_stats.values())


def test_save_params():
    assert list(run(two_sites, draws=3, warmup=2, save_params=["a"]).get_samples()) == ["a"]
    with pytest.raises(ValueError, match=r"save_params names 'c'(.|\n)*some of: z, a"):
        run(two_sites, draws=3, warmup=2, save_params=["c"])


def test_warmup_defaults_to_the_number_of_draws():
    assert MCMC(NUTS(two_sites), 7).warmup_steps == 7


def test_samples_before_run():
    with pytest.raises(ValueError, match=r"call run\(\.\.\.\) first"):
        MCMC(NUTS(two_sites), 7).get_samples()


# -- seeds -------------------------------------------------------------------------------------------------


def test_seeds_fix_everything_and_chains_are_their_own():
    first = run(normal_normal, Y, draws=8, warmup=8, chains=2, seed=3).get_samples(group_by_chain=True)["mu"]
    again = run(normal_normal, Y, draws=8, warmup=8, chains=2, seed=3).get_samples(group_by_chain=True)["mu"]
    other = run(normal_normal, Y, draws=8, warmup=8, chains=2, seed=4).get_samples(group_by_chain=True)["mu"]
    alone = run(normal_normal, Y, draws=8, warmup=8, chains=1, seed=3).get_samples(group_by_chain=True)["mu"]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[0], alone[0])


def test_two_runs_differ():
    mcmc = run(normal_normal, Y, draws=5, warmup=5)
    first = mcmc.get_samples()["mu"]
    mcmc.run(Y)
    assert not torch.equal(first, mcmc.get_samples()["mu"])


def test_draws_do_not_depend_on_hooks_or_chunks(eagerly):
    calls = []
    plain = run(normal_normal, Y, draws=6, warmup=6).get_samples()["mu"]
    hooked = run(normal_normal, Y, draws=6, warmup=6, hook_fn=lambda *a: calls.append(a)).get_samples()["mu"]
    from ember.infer.mcmc.sampler import HamiltonianSampler

    HamiltonianSampler.chunk = 4
    try:
        chunked = run(normal_normal, Y, draws=6, warmup=6).get_samples()["mu"]
    finally:
        HamiltonianSampler.chunk = 1
    assert len(calls) == 12
    assert torch.equal(plain, hooked)
    assert torch.equal(plain, chunked)


# -- hooks and interruption --------------------------------------------------------------------------------


def test_hook():
    seen = []

    def hook(kernel, samples, stage, number):
        seen.append((stage, number))
        assert kernel.step_size > 0
        assert samples["s"].shape == ()
        matrix = kernel.inverse_mass_matrix
        assert list(matrix) == [("s",)]
        assert matrix[("s",)].shape == (1,)
        values.append(samples["s"])

    def model():
        ember.sample("s", dist.HalfNormal(1.0))

    values = []
    mcmc = run(model, draws=3, warmup=2, hook_fn=hook)
    assert seen == [("Warmup", 0), ("Warmup", 1), ("Sample", 0), ("Sample", 1), ("Sample", 2)]
    torch.testing.assert_close(torch.stack(values[2:]).exp().float(), mcmc.get_samples()["s"])
    seen.clear()
    run(model, draws=1, warmup=1, chains=2, hook_fn=hook)
    assert set(seen) == {("Warmup [0]", 0), ("Warmup [1]", 0), ("Sample [0]", 0), ("Sample [1]", 0)}


def test_interrupt_keeps_the_draws():
    def hook(kernel, samples, stage, number):
        if stage == "Sample [1]" and number == 9:
            raise KeyboardInterrupt

    whole = run(normal_normal, Y, draws=20, warmup=10, chains=2).get_samples(group_by_chain=True)["mu"]
    with pytest.warns(RuntimeWarning, match="interrupted: 10 of 20 draws of each chain are kept"):
        mcmc = run(normal_normal, Y, draws=20, warmup=10, chains=2, hook_fn=hook)
    kept = mcmc.get_samples(group_by_chain=True)["mu"]
    assert mcmc.ending == "interrupted"
    assert torch.equal(kept, whole[:, :10])
    assert mcmc.diagnostics()["mu"]["r_hat"].isfinite()


def test_interrupt_in_warmup_has_nothing_to_keep():
    def hook(kernel, samples, stage, number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(normal_normal, Y, draws=2, warmup=2, hook_fn=hook)


def test_time_limit(eagerly):
    mcmc = run(normal_normal, Y, draws=100_000, warmup=5, max_seconds=0.3)
    count = mcmc.get_samples()["mu"].shape[0]
    assert mcmc.ending == "out of time"
    assert 1 <= count < 100_000


# -- starting ----------------------------------------------------------------------------------------------


def test_initial_params_are_unconstrained():
    def model():
        ember.sample("s", dist.HalfNormal(1.0))

    first = []
    options = {"step_size": 1e-6, "num_steps": 1, "adapt_step_size": False, "adapt_mass_matrix": False}
    mcmc = run(
        model,
        draws=1,
        warmup=0,
        chains=2,
        kernel=HMC,
        options=options,
        initial_params={"s": torch.tensor([0.5, -0.5])},
        hook_fn=lambda kernel, samples, stage, number: first.append(float(samples["s"])),
    )
    assert first == pytest.approx([0.5, -0.5], abs=1e-4)
    expected = torch.tensor([[math.exp(0.5)], [math.exp(-0.5)]])
    torch.testing.assert_close(mcmc.get_samples(group_by_chain=True)["s"], expected, rtol=1e-4, atol=1e-4)


def test_initial_params_of_wrong_shape():
    with pytest.raises(ValueError, match=r"initial_params\['mu'\](?s:.*)size 2, the number of chains"):
        run(normal_normal, Y, chains=2, initial_params={"mu": torch.zeros(3)})
    with pytest.raises(ValueError, match="missing: mu; unknown: q"):
        run(normal_normal, Y, initial_params={"q": torch.zeros(())})
    with pytest.raises(InitialisationError, match="at the given starting point"):
        run(normal_normal, Y, initial_params={"mu": torch.tensor(float("nan"))})


def test_init_strategy():
    seen = []
    run(
        normal_normal,
        Y,
        draws=1,
        warmup=0,
        kernel=HMC,
        options={
            "init_strategy": init_to_value(values={"mu": torch.tensor(7.0)}),
            "step_size": 1e-6,
            "num_steps": 1,
            "adapt_step_size": False,
        },
        hook_fn=lambda kernel, samples, stage, number: seen.append(float(samples["mu"])),
    )
    assert seen == pytest.approx([7.0], abs=1e-3)


def test_no_start_names_the_site():
    def model():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        ember.factor("impossible", x * 0 - math.inf)

    with pytest.raises(InitialisationError, match="site 'impossible' is -inf"):
        run(model)


def test_discrete_latent_is_refused():
    def model():
        ember.sample("k", dist.Poisson(3.0))

    with pytest.raises(ValueError, match="'k' ~ Poisson"):
        run(model)


# -- potential functions and transforms --------------------------------------------------------------------


def test_potential_fn():
    def potential(params):
        return 0.5 * ((params["x"] - 1.0) ** 2).sum() + 2.0 * params["y"] ** 2

    mcmc = run(
        None,
        draws=400,
        options={"potential_fn": potential},
        initial_params={"x": torch.zeros(2), "y": torch.zeros(())},
    )
    samples = mcmc.get_samples(group_by_chain=True)
    assert samples["x"].shape == (1, 400, 2)
    agrees(samples["x"], torch.ones(2), torch.ones(2))
    agrees(samples["y"], torch.tensor(0.0), torch.tensor(0.5))


def test_potential_fn_with_transforms():
    transform = torch.distributions.biject_to(constraints.positive).inv
    mcmc = run(
        None,
        draws=5,
        warmup=5,
        options={"potential_fn": lambda params: params["s"] ** 2},
        initial_params={"s": torch.zeros(())},
        transforms={"s": transform},
    )
    assert (mcmc.get_samples()["s"] > 0).all()


def test_transforms_of_a_model():
    transform = torch.distributions.transforms.AffineTransform(1.0, 2.0)

    draws = run(normal_normal, Y, draws=400, options={"transforms": {"mu": transform}})
    agrees(draws.get_samples(group_by_chain=True)["mu"], MEAN, SD)


def test_potential_fn_needs_initial_params():
    with pytest.raises(ValueError, match="needs starting values"):
        run(None, options={"potential_fn": lambda params: params["x"] ** 2})


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_samples": 0}, "num_samples=0"),
        ({"num_samples": 5, "num_chains": 0}, "num_chains=0"),
        ({"num_samples": 5, "warmup_steps": -1}, "warmup_steps=-1"),
        ({"num_samples": 2.5}, "num_samples=2.5"),
    ],
)
def test_numbers_out_of_range(arguments, text):
    with pytest.raises(ValueError, match=text):
        MCMC(NUTS(normal_normal), **arguments)


@pytest.mark.parametrize(
    ("kernel", "arguments", "text"),
    [
        (NUTS, {}, "neither"),
        (NUTS, {"model": normal_normal, "potential_fn": normal_normal}, "both"),
        (NUTS, {"model": normal_normal, "step_size": 0}, "step_size=0"),
        (NUTS, {"model": normal_normal, "target_accept_prob": 1.5}, "target_accept_prob=1.5"),
        (NUTS, {"model": normal_normal, "max_tree_depth": 0}, "max_tree_depth"),
        (HMC, {"model": normal_normal, "num_steps": 0}, "num_steps=0"),
        (HMC, {"model": normal_normal, "trajectory_length": -1.0}, "trajectory_length=-1.0"),
    ],
)
def test_kernel_options_out_of_range(kernel, arguments, text):
    with pytest.raises(ValueError, match=text):
        kernel(**arguments)


def test_harmless_options_warn():
    with pytest.warns(UserWarning, match="jit_compile has no effect"):
        NUTS(normal_normal, jit_compile=True, ignore_jit_warnings=True, max_plate_nesting=1)
    with pytest.warns(UserWarning, match="multinomial"):
        NUTS(normal_normal, use_multinomial_sampling=False)


def test_kernel_is_needed():
    with pytest.raises(TypeError, match=r"MCMC\(NUTS\(model\), ...\)"):
        MCMC(normal_normal, 5)


def test_blocks_of_a_dense_metric():
    def model():
        ember.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        ember.sample("b", dist.Normal(0.0, 1.0))

    mcmc = run(model, draws=5, warmup=40, options={"full_mass": [("a",)]})
    matrices = mcmc.kernel.inverse_mass_matrix
    assert {names: tuple(value.shape) for names, value in matrices.items()} == {("a",): (2, 2), ("b",): (1,)}
    assert matrices["a",][0, 1] != 0
    assert torch.equal(mcmc.kernel.mass_matrix_adapter.inverse_mass_matrix["a",], matrices["a",])
    with pytest.raises(ValueError, match="full_mass names 'q'"):
        run(model, options={"full_mass": [("q",)]})


def test_validation_inside_when_asked_for(eagerly):
    flags = set()

    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))
        flags.add(settings.get("validate_distributions_pyro"))

    def forget_the_preparations(kernel, samples, stage, number):
        if number == 0:
            flags.clear()

    for disable in (False, True):
        run(model, draws=2, warmup=0, disable_validation=disable, hook_fn=forget_the_preparations)
        assert flags == {not disable}


def test_store_and_stack_are_left_clean_by_an_error(eagerly):
    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))
        if len(calls) > 30:
            raise RuntimeError("boom")
        calls.append(1)

    calls = []
    with pytest.raises(RuntimeError, match="boom"):
        run(model)
    assert poutine.runtime.handler_stack() == ()
    assert torch.get_default_dtype() == torch.float32


# -- kernels of users, and the stateful form ---------------------------------------------------------------


class RandomWalk(MCMCKernel):
    def __init__(self):
        self.params = {"x": torch.zeros(2)}
        self.ended = 0
        self.accepted = []

    def setup(self, warmup_steps, *args, **kwargs):
        self.warmup_steps = warmup_steps

    @property
    def initial_params(self):
        return self.params

    @initial_params.setter
    def initial_params(self, params):
        self.params = params

    def sample(self, params):
        proposal = {"x": params["x"] + torch.randn(2)}
        log_ratio = 0.5 * (params["x"] ** 2 - proposal["x"] ** 2).sum()
        accept = bool(torch.rand(()).log() < log_ratio)
        self.accepted.append(accept)
        return proposal if accept else params

    def end_warmup(self):
        self.ended += 1

    def diagnostics(self):
        return {"acceptance rate": sum(self.accepted) / len(self.accepted)}


def test_kernel_of_a_user():
    ember.set_rng_seed(0)
    kernel = RandomWalk()
    mcmc = MCMC(kernel, 2000, 10, num_chains=2, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples(group_by_chain=True)["x"]
    assert draws.shape == (2, 2000, 2)
    agrees(draws, torch.zeros(2), torch.ones(2))
    assert 0.2 < mcmc.diagnostics()["acceptance rate"]["chain 1"] < 0.9


def test_stateful_form_of_a_kernel():
    ember.set_rng_seed(0)
    kernel = NUTS(normal_normal)
    kernel.setup(50, Y)
    params = kernel.initial_params
    assert set(kernel.transforms) == {"mu"}
    draws = []
    for index in range(350):
        params = kernel.sample(params)
        if index >= 50:
            draws.append(params["mu"])
    agrees(torch.stack(draws).unsqueeze(0), MEAN, SD)
    assert set(kernel.logging()) == {"step size", "acc. prob"}
    assert 0.5 < kernel.diagnostics()["acceptance rate"] <= 1
    kernel.cleanup()
    with pytest.raises(ValueError, match="needs setup"):
        kernel.sample(params)


def test_kernel_without_initial_params():
    class Bare(MCMCKernel):
        def sample(self, params):
            return params

    with pytest.raises(NotImplementedError, match="Bare does not define initial_params"):
        MCMC(Bare(), 5).run()
