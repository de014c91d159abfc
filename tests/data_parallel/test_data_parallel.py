"""Data-parallel runs: several processes beside one, their random numbers, failures, and resumption."""

import multiprocessing
import socket
import time

import pyarrow
import pytest
import torch
import worker
from pyarrow import parquet


@pytest.fixture
def folder(tmp_path):
    x = torch.linspace(-1, 1, 64)
    y = 1 + 2 * x + 0.3 * torch.sin(40 * x)
    parquet.write_table(pyarrow.table({"x": x.numpy(), "y": y.numpy()}), tmp_path / "data.parquet", 10)
    return tmp_path


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ember.infer.autoguide", "ember.data"])  # imported once, with torch


def run(scenarios, folder, world):
    """Run scenarios in processes of one group; return what each wrote, by rank, None for one that died."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [None] if world == 1 else list(range(world))
    processes = [
        CONTEXT.Process(target=worker.start, args=(scenarios, folder, rank, world, port)) for rank in ranks
    ]
    deadline = time.monotonic() + 180
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(max(1, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [
        [read(folder / f"{each}{'' if rank is None else rank}.pt") for rank in ranks] for each in scenarios
    ]


def read(file):
    return torch.load(file, weights_only=False) if file.exists() else None


def assert_equal(one, other, tolerance=0.0):
    torch.testing.assert_close(one["losses"], other["losses"], rtol=tolerance, atol=tolerance)
    assert one["params"].keys() == other["params"].keys()
    for name, value in one["params"].items():
        torch.testing.assert_close(value, other["params"][name], rtol=tolerance, atol=tolerance)


WORLDS = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("world", WORLDS)
def test_several_processes_train_as_one_does_and_resume_exactly(world, folder):
    """Batches are shared, so that a guide without noise takes the very steps that one process takes."""
    ((alone,),) = run(["parquet"], folder, 1)
    together, whole, first, resumed = run(["parquet", "whole", "first", "resumed"], folder, world)
    assert all(outcome["ending"] == "complete" for outcome in together)
    for outcome in together:
        assert_equal(outcome, together[0])
        assert_equal(outcome, alone, 2e-4)
    assert alone["losses"][-1] < 0.5 * alone["losses"][0]

    assert all(len(outcome["losses"]) == 26 for outcome in first)
    for outcome, expected in zip(resumed, whole, strict=True):
        assert_equal(outcome, expected)
        assert torch.equal(outcome["draw"], expected["draw"])
    assert len({tuple(outcome["draw"].tolist()) for outcome in whole}) == world  # streams of their own


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    "how, error, text",
    [
        ("dies", None, "the worker of rank 1 died"),
        ("raises", "ValueError: no luck", "the worker of rank 1 failed: ValueError: no luck"),
    ],
)
def test_a_worker_that_fails_ends_the_run_by_name_and_the_checkpoint_goes_on(world, how, error, text, folder):
    (outcomes,) = run([how], folder, world)
    for rank, outcome in enumerate(outcomes):
        if rank != 1:
            assert outcome["error"].startswith(f"WorkerError: {text}") and outcome["rank"] == 1
            assert outcome["ending"] == "error" and 6 <= len(outcome["losses"]) <= 8
        elif error is None:
            assert outcome is None
        else:
            assert outcome["error"].startswith(error)
    (resumed,) = run(["resumed"], folder, world)
    assert all(len(outcome["losses"]) == 60 and outcome["error"] == "" for outcome in resumed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario, expected",
    [
        ("loader", ["", ""]),
        ("list", ["", ""]),
        ("shuffled", ["DataError: a shuffling DataLoader"] * 2),
        ("nan", ["WorkerError: the worker of rank 1 failed: NotFiniteError: ", "NotFiniteError: "]),
        ("parameter", ["ValueError: the workers have different parameters in this step"] * 2),
        ("interrupted", ["", ""]),
        ("time", ["", ""]),
        ("first_dies", [None, "WorkerError: the worker of rank 0 died"]),
    ],
)
def test_other_ways_of_two_processes(scenario, expected, folder):
    (outcomes,) = run([scenario], folder, 2)
    for outcome, text in zip(outcomes, expected, strict=True):
        assert (outcome is None) == (text is None)
        if outcome is not None:
            assert outcome["error"].startswith(text) and (text or not outcome["error"]), outcome["error"]
    if all(text == "" for text in expected):
        assert_equal(*outcomes)
    endings = {"interrupted": "interrupted", "time": "out of time", "loader": "complete", "list": "complete"}
    if scenario in endings:
        assert {outcome["ending"] for outcome in outcomes} == {endings[scenario]}
    if scenario == "parameter":
        assert all("only_here" in outcome["error"] for outcome in outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 4])
def test_any_number_of_processes_finds_the_posterior(world, folder):
    outcome = run(["stochastic"], folder, world)[0][0]
    x = torch.linspace(-1, 1, 64)
    params = outcome["params"]
    precision = torch.tensor([(x**2).sum() / 0.25 + 1 / 25, 64 / 0.25 + 1 / 25])
    found = torch.stack([params["AutoNormal.scales.slope"], params["AutoNormal.scales.bias"]])
    torch.testing.assert_close(found, precision.rsqrt(), rtol=0.25, atol=0.0)
    assert params["AutoNormal.locs.bias"].item() == pytest.approx(1.0, abs=0.1)


def test_a_single_process_is_told_how_to_start_more(monkeypatch):
    import ember
    from ember.infer import SVI, Trace_ELBO

    monkeypatch.delenv("RANK", raising=False)
    svi = SVI(lambda: None, lambda: None, ember.optim.Adam({}), Trace_ELBO())
    with pytest.raises(RuntimeError, match=r"needs several processes(.|\n)*torchrun --nproc-per-node"):
        svi.run(1, data_parallel=True)
