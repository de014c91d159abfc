"""Training runs: results, stop rules, interruption, errors that keep what was reached, exact resumption."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import ember
import ember.distributions as dist
from ember import optim, report
from ember.errors import DataError, FileFormatError, NotFiniteError
from ember.infer import SVI, Plateau, RenyiELBO, ReweightedWakeSleep, Trace_ELBO
from ember.infer.autoguide import AutoNormal
from ember.params import get_param_store

X = torch.linspace(-1.0, 1.0, 24)
Y = 1.0 + 2.0 * X + 0.1 * torch.sin(37 * X)


def regression(x, y=None, size=24):
    bias = ember.sample("bias", dist.Normal(0.0, 5.0))
    slope = ember.sample("slope", dist.Normal(0.0, 5.0))
    noise = ember.sample("noise", dist.HalfNormal(1.0))
    with ember.plate("data", size, subsample_size=len(x)):
        ember.sample("y", dist.Normal(bias + slope * x, noise), obs=y)


def make(lr=0.03, model=regression, loss=None, execution=None):
    ember.clear_param_store()
    optimizer = optim.ClippedAdam({"lr": lr, "lrd": 0.999})
    return SVI(model, AutoNormal(model), optimizer, loss or Trace_ELBO(), execution=execution)


def run(svi, num_steps, *args, **options):
    return svi.run(num_steps, *(args or (X, Y)), disable_progbar=True, **options)


def values():
    return {name: value.detach().clone() for name, value in get_param_store().items()}


def assert_same(one, other):
    assert torch.equal(one.losses, other.losses)
    assert one.params.keys() == other.params.keys()
    for name in one.params:
        assert torch.equal(one.params[name], other.params[name]), name


def test_a_run_is_its_steps():
    svi = make()
    losses = [svi.step(X, Y) for _ in range(25)]
    expected = values()
    ember.set_rng_seed(0)
    result = run(make(), 25)
    assert result.losses.tolist() == losses
    assert result.ending == "complete"
    for name, value in expected.items():
        assert torch.equal(result.params[name], value)
    assert "25 steps, complete" in repr(result)


def test_a_run_converges_to_the_posterior():
    result = run(make(0.05), 1200)
    assert result.params["AutoNormal.locs.slope"].item() == pytest.approx(2.0, abs=0.1)
    smoothed = result.smoothed()
    assert smoothed[-1] < smoothed[100] and len(smoothed) == 1200
    assert smoothed[49].item() == pytest.approx(result.losses[:50].mean().item())
    assert smoothed[-1].item() == pytest.approx(result.losses[-100:].mean().item())


@pytest.mark.parametrize("every", [None, 7])
@pytest.mark.parametrize("same_process_state", [True, False])
def test_a_resumed_run_is_that_without_break(tmp_path, every, same_process_state):
    whole = run(make(), 100)
    ember.set_rng_seed(0)
    svi = make()
    file = tmp_path / "run"
    assert run(svi, 60, checkpoint=file, checkpoint_every=every).num_steps == 60
    if not same_process_state:
        svi = make()  # as a new process has it: the guide is not set up, the store empty
    ember.set_rng_seed(99)
    resumed = run(svi, 100, checkpoint=file, checkpoint_every=every, resume=True)
    assert_same(resumed, whole)
    again = run(make(), 100, checkpoint=file, resume=True)  # nothing left to do
    assert_same(again, whole)


@pytest.mark.parametrize("data", ["constant", "batches"])
def test_machine_code_resumes_exactly(data, tmp_path):
    def steps(num_steps, **options):
        ember.clear_param_store()
        guide = AutoNormal(regression)
        svi = SVI(regression, guide, optim.Adam({"lr": 0.03}), Trace_ELBO(), execution="native")
        if data == "constant":
            return run(svi, num_steps, **options)
        return run_batches(svi, num_steps, loader(size=6), size=24, **options)

    whole = steps(50)
    ember.set_rng_seed(0)
    steps(27, checkpoint=tmp_path / "run")
    ember.set_rng_seed(77)
    assert_same(steps(50, checkpoint=tmp_path / "run", resume=True), whole)


def test_schedules_and_plateaus_resume_where_they_were(tmp_path):
    """A callback that steps a schedule is called once at each step, also around a break."""

    def scheduled(num_steps, **options):
        ember.clear_param_store()
        adam = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5}
        scheduler = optim.ExponentialLR(adam)
        svi = SVI(regression, AutoNormal(regression), scheduler, Trace_ELBO())
        rule = Plateau(window=20, patience=1)
        return run(
            svi, num_steps, callback=lambda info: scheduler.step(), callback_every=10, plateau=rule, **options
        )

    whole = scheduled(200)
    assert whole.ending == "plateau" and whole.num_steps < 200
    ember.set_rng_seed(0)
    scheduled(20, checkpoint=tmp_path / "run")
    for _ in range(2):  # the second time it is on the plateau from the start
        resumed = scheduled(200, checkpoint=tmp_path / "run", resume=True)
        assert_same(resumed, whole)
        assert resumed.ending == "plateau"


def test_a_new_process_resumes_exactly(tmp_path):
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
import ember, torch, random
from test_run import *
ember.set_rng_seed(0)
run(make(), int(sys.argv[1]), checkpoint={str(tmp_path / "run")!r}, resume=True)
"""
    (tmp_path / "test_run.py").write_text(Path(__file__).read_text())
    (tmp_path / "program.py").write_text(program)
    for steps in ("30", "50"):
        subprocess.run([sys.executable, tmp_path / "program.py", steps], check=True, cwd=tmp_path)
    resumed = run(make(), 50, checkpoint=tmp_path / "run", resume=True)
    ember.set_rng_seed(0)
    assert_same(resumed, run(make(), 50))


def test_resuming_needs_a_file_name_and_starts_without_file(tmp_path):
    with pytest.raises(ValueError, match="cannot be resumed from nowhere"):
        run(make(), 3, resume=True)
    assert run(make(), 3, checkpoint=tmp_path / "new", resume=True).num_steps == 3
    assert (tmp_path / "new").exists()


def test_checkpoints_of_other_programs_and_damaged_files_are_refused(tmp_path):
    file = tmp_path / "run"
    run(make(), 5, checkpoint=file)

    def wider(x, y):
        ember.sample("bias", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint's parameter 'AutoNormal.locs.bias'(.|\n)*shape \(3,\)"):
        run(make(model=wider), 10, checkpoint=file, resume=True)
    assert file.read_bytes() == before
    file.write_bytes(before[: len(before) // 2])
    with pytest.raises(FileFormatError, match="cannot read a training run"):
        run(make(), 10, checkpoint=file, resume=True)
    optim.Adam({"lr": 0.1}).save(file)
    with pytest.raises(FileFormatError, match="without a training run"):
        run(make(), 10, checkpoint=file, resume=True)
    with pytest.raises(TypeError, match="get_state and set_state"):
        svi = make()
        svi.optim = lambda params: None
        run(svi, 1, checkpoint=file)


@pytest.mark.parametrize("returns", [True, StopIteration])
def test_a_callback_ends_the_run(returns):
    seen = []

    def callback(info):
        seen.append(info.step)
        if info.step == 20:
            if returns is StopIteration:
                raise StopIteration
            return returns
        return None

    result = run(make(), 50, callback=callback, callback_every=5)
    assert seen == [5, 10, 15, 20]
    assert (result.ending, result.num_steps) == ("callback", 20)


def test_callbacks_step_schedules():
    ember.clear_param_store()
    adam = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5}
    scheduler = optim.ExponentialLR(adam)
    svi = SVI(regression, AutoNormal(regression), scheduler, Trace_ELBO())
    run(svi, 30, callback=lambda info: scheduler.step(), callback_every=10)
    state = scheduler.get_state()["AutoNormal.locs.bias"]
    assert state["param_groups"][0]["lr"] == pytest.approx(0.1 * 0.5**3)


def test_a_plateau_ends_the_run_and_not_before():
    result = run(make(0.1), 5000, plateau=Plateau(window=100, patience=2))
    assert result.ending == "plateau" and 300 <= result.num_steps < 5000 and result.num_steps % 100 == 0
    assert result.params["AutoNormal.locs.slope"].item() == pytest.approx(2.0, abs=0.15)


def test_plateau_looks_at_noise_and_tolerance():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1000, generator=generator, dtype=torch.float64)
    rule = Plateau(window=100, patience=3)
    assert rule.reached(noise)
    falling = noise - torch.linspace(0, 10, 1000)
    assert not rule.reached(falling)
    assert Plateau(window=100, patience=3, tolerance=10.0).reached(falling - 5)
    assert not rule.reached(noise[:300])  # too few windows to say
    assert rule.reached(torch.stack([noise, -noise + 1], 1))
    with pytest.raises(ValueError, match="window >= 2"):
        Plateau(window=1)


def test_time_ends_the_run():
    result = run(make(), 10**9, seconds=0.3)
    assert result.ending == "out of time" and result.num_steps > 0
    assert result.seconds < 5


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C, which processes started in the background do not have."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_an_interrupt_ends_the_run_after_the_step_and_keeps_it(tmp_path, interruptible):
    calls = []

    def interrupted(x, y):
        calls.append(None)
        regression(x, y)
        if len(calls) == 25:
            signal.raise_signal(signal.SIGINT)

    former = signal.getsignal(signal.SIGINT)
    result = run(make(model=interrupted), 100, checkpoint=tmp_path / "run")
    assert result.ending == "interrupted" and 20 < result.num_steps < 30
    assert signal.getsignal(signal.SIGINT) is former
    ember.set_rng_seed(5)
    resumed = run(make(execution="eager"), 50, checkpoint=tmp_path / "run", resume=True)
    ember.set_rng_seed(0)
    assert torch.equal(resumed.losses, run(make(execution="eager"), 50).losses)


def test_an_interrupt_within_a_step_undoes_it():
    def interrupted(x, y):
        regression(x, y)
        if torch.rand(()) < 0.05:
            raise KeyboardInterrupt

    svi = make(model=interrupted)
    result = run(svi, 1000)
    assert result.ending == "interrupted" and 0 < result.num_steps < 1000
    assert all(leaf.grad is None for _, leaf in get_param_store().named_parameters())


def failing(step_to_fail, how):
    count = [0]

    def model(x, y):
        count[0] += 1
        z = ember.sample("z", dist.Normal(0.0, 1.0))
        bad = count[0] >= step_to_fail  # the model runs once more to find out what is wrong
        if how == "loss" and bad:
            ember.sample("broken", dist.Normal(z, 1.0), obs=torch.tensor(float("inf")))
        if how == "gradient" and bad:
            ember.factor("flat", (z - z).sqrt())
        if how == "raises" and bad:
            raise RuntimeError("no such thing")

    def guide(x, y):
        ember.sample("z", dist.Normal(ember.param("loc", torch.tensor(1.0)), 1.0))

    ember.clear_param_store()
    return SVI(model, guide, optim.SGD({"lr": 0.1}), Trace_ELBO())


@pytest.mark.parametrize(
    "how, error, text",
    [
        ("loss", NotFiniteError, "inf: loss, from site 'broken'"),
        ("gradient", NotFiniteError, "the gradient of parameter 'loc' is not finite"),
        ("raises", RuntimeError, "no such thing"),
    ],
)
def test_a_step_that_fails_is_not_taken_and_the_rest_is_kept(how, error, text, tmp_path):
    svi = failing(18, how)
    before = []
    with pytest.raises(error, match=text) as caught:
        run(svi, 40, callback=lambda info: before.append(values()["loc"]), checkpoint=tmp_path / "run")
    assert any("had taken 17 steps" in note for note in caught.value.__notes__)
    assert (svi.result.ending, svi.result.num_steps) == ("error", 17)
    assert torch.equal(values()["loc"], before[-1])
    assert get_param_store().leaf("loc").grad is None
    # Chunks of many steps keep those that were taken, too, and the checkpoint goes on.
    ember.set_rng_seed(0)
    svi = failing(18, how)
    with pytest.raises(error, match=text):
        run(svi, 40)
    assert svi.result.num_steps == 17 and torch.equal(values()["loc"], before[-1])
    resumed = run(failing(1000, how), 40, X, Y, checkpoint=tmp_path / "run", resume=True)
    ember.set_rng_seed(0)
    assert_same(resumed, run(failing(1000, how), 40))


def test_data_that_are_nan_are_named():
    y = Y.clone()
    y[5] = float("nan")
    with ember.validation_enabled(False):
        with pytest.raises(NotFiniteError, match="from site 'y'") as caught:
            run(make(), 10, X, y)
    assert any("'argument 2' has 1 values" in note and "(5,)" in note for note in caught.value.__notes__)


def loader(shuffle=True, own=False, size=5):
    generator = torch.Generator().manual_seed(3) if own else None
    return DataLoader(TensorDataset(X, Y), batch_size=size, shuffle=shuffle, generator=generator)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("first", [4, 5, 12])  # within an epoch of five batches, at its end, in a later one
def test_loaders_of_data_resume_within_epochs(own, first, tmp_path):
    whole = run_batches(make(), 23, batches=loader(own=own))
    ember.set_rng_seed(0)
    run_batches(make(), first, batches=loader(own=own), checkpoint=tmp_path / "run")
    ember.set_rng_seed(77)
    resumed = run_batches(make(), 23, batches=loader(own=own), checkpoint=tmp_path / "run", resume=True)
    assert_same(resumed, whole)


def run_batches(svi, num_steps, batches, **options):
    return svi.run(num_steps, batches=batches, disable_progbar=True, **options)


def test_batches_are_arguments_and_unbiased():
    """A full pass of minibatches sees the data as one full batch does, on average."""
    halves = [{"x": X[::2], "y": Y[::2]}, {"x": X[1::2], "y": Y[1::2]}]
    forms = {
        "mappings": halves,
        "tuples": [tuple(each.values()) for each in halves],
        "lists": [list(each.values()) for each in halves],
    }
    found = {}
    for name, batches in forms.items():
        ember.set_rng_seed(0)
        found[name] = run_batches(make(0.02), 400, batches, size=24)
    assert_same(found["mappings"], found["tuples"])
    assert_same(found["mappings"], found["lists"])
    ember.set_rng_seed(0)
    full = run(make(0.02), 400)
    for name in ("bias", "slope"):
        key = f"AutoNormal.locs.{name}"
        assert found["tuples"].params[key].item() == pytest.approx(full.params[key].item(), abs=0.1)


def test_single_tensors_are_one_argument():
    def model(x):
        with ember.plate("data", 24, subsample_size=len(x)):
            ember.sample("x", dist.Normal(ember.param("loc", torch.tensor(0.0)), 1.0), obs=x)

    ember.clear_param_store()
    svi = SVI(model, lambda x: None, optim.Adam({"lr": 0.05}), Trace_ELBO())
    run_batches(svi, 300, X.split(6))
    assert ember.param("loc").item() == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize(
    "batches, steps, text",
    [
        (lambda: iter([(X, Y)] * 3), 3, "source list_iterator ended after 3 batches and cannot begin anew"),
        (list, 0, "source list gave no batch"),
        (
            lambda: [(X, Y), (X, Y.double())],
            1,
            r"'argument 2' in batch 2 of list(.|\n)*float32(.|\n)*float64",
        ),
        (lambda: [(X, Y), (X,)], 1, "'argument 2' in batch 2 of list(.|\n)*no tensor of this name"),
        (lambda: [{"x": X, "y": Y}, {"x": X}], 1, "'y' in batch 2 of list"),
        (lambda: [(X, Y), (X, Y[:, None])], 1, "1 dimensions(.|\n)*2 dimensions"),
    ],
)
def test_bad_sources_are_named_and_what_was_computed_is_kept(batches, steps, text, tmp_path):
    svi = make()
    with pytest.raises(DataError, match=text):
        run_batches(svi, 10, batches(), checkpoint=tmp_path / "run")
    assert svi.result.num_steps == steps
    if steps:
        good = [(X, Y)] * 3
        assert run_batches(make(), 10, good, checkpoint=tmp_path / "run", resume=True).num_steps == 10
    with pytest.raises(TypeError, match="batches must be an iterable"):
        run_batches(svi, 10, 3)
    with pytest.raises(DataError, match="y: given by list and as an argument of the run"):
        run_batches(svi, 10, [{"x": X, "y": Y}], y=Y)


def test_an_iterator_resumes_by_passing_over_what_was_used(tmp_path):
    parts = [(X[i::4], Y[i::4]) for i in range(4)] * 3
    whole = run_batches(make(), 12, iter(parts))
    ember.set_rng_seed(0)
    run_batches(make(), 7, iter(parts), checkpoint=tmp_path / "run")
    resumed = run_batches(make(), 12, iter(parts), checkpoint=tmp_path / "run", resume=True)
    assert_same(resumed, whole)
    with pytest.raises(DataError, match="too early to go on with it"):
        run_batches(make(), 20, iter(parts[:5]), checkpoint=tmp_path / "run", resume=True)


def test_objectives_of_several_parts(tmp_path):
    svi = make(loss=ReweightedWakeSleep(num_particles=2))
    assert run(svi, 5).losses.shape == (5, 2)
    assert run(make(loss=RenyiELBO(num_particles=2)), 5).losses.shape == (5,)
    assert run(make(), 0).losses.shape == (0,)


def test_decaying_baselines_resume(tmp_path):
    def model():
        p = ember.param("p", torch.tensor(0.4))
        z = ember.sample("z", dist.Bernoulli(0.3))
        ember.sample("x", dist.Normal(z + p, 1.0), obs=torch.tensor(1.0))

    def guide():
        q = ember.param("q", torch.tensor(0.4), constraint=dist.constraints.unit_interval)
        ember.sample("z", dist.Bernoulli(q), infer={"baseline": {"use_decaying_avg_baseline": True}})

    def fresh():
        ember.clear_param_store()
        return SVI(model, guide, optim.Adam({"lr": 0.05}), Trace_ELBO())

    whole = fresh().run(30, disable_progbar=True)
    ember.set_rng_seed(0)
    fresh().run(20, disable_progbar=True, checkpoint=tmp_path / "run")
    assert_same(fresh().run(30, disable_progbar=True, checkpoint=tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("first", [X, 3.5, -1, True])
def test_the_number_of_steps_comes_first(first):
    with pytest.raises(TypeError, match="takes the number of steps first"):
        make().run(first, X, Y)
    with pytest.raises(ValueError, match="callback_every must be a positive number"):
        run(make(), 3, callback_every=0)


def test_the_bar_shows_loss_and_smoothed_loss(capsys):
    make().run(10, X, Y)
    shown = capsys.readouterr().err
    assert "SVI" in shown and "loss=" in shown and "smoothed=" in shown and "10/10" in shown


def test_losses_are_plotted(tmp_path):
    result = run(make(), 30)
    path = report.plot_loss(result, tmp_path / "deep" / "loss.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    report.plot_loss([3.0, 2.0, 2.0], tmp_path / "loss.png")
    with pytest.raises(ValueError, match="no losses"):
        report.plot_loss([], tmp_path / "loss.png")
