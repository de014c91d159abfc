"""Be one process of a data-parallel run; the tests start several."""

import os
import signal

import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import ember
import ember.distributions as dist
from ember.data import ParquetBatches
from ember.infer import SVI, Trace_ELBO
from ember.infer.autoguide import AutoDelta, AutoNormal
from ember.optim import Adam

SIZE = 64


def model(x, y=None, size=SIZE):
    slope = ember.sample("slope", dist.Normal(0.0, 5.0))
    bias = ember.sample("bias", dist.Normal(0.0, 5.0))
    with ember.plate("data", size, subsample_size=len(x)):
        ember.sample("y", dist.Normal(bias + slope * x, 0.5), obs=y)


def data():
    x = torch.linspace(-1, 1, SIZE)
    return x, 1 + 2 * x + 0.3 * torch.sin(40 * x)


def fit(guide=AutoDelta, model=model, num_steps=60, lr=0.05, **options):
    rank = int(os.environ.get("RANK", 0))
    ember.set_rng_seed(11 + rank)  # workers whose initial values would differ
    svi = SVI(model, guide(model), Adam({"lr": lr}), Trace_ELBO())
    fit.svi = svi
    parallel = "RANK" in os.environ
    return svi.run(num_steps, disable_progbar=True, data_parallel=parallel, **options)


def parquet(folder):
    return ParquetBatches(folder / "data.parquet", ["x", "y"], 16, seed=4)


def loader():
    torch.distributed.init_process_group("gloo")
    dataset = TensorDataset(*data())
    return DataLoader(dataset, batch_size=8, sampler=DistributedSampler(dataset, seed=2))


def broken(how, at_rank=1, at_step=9):
    steps = [0]

    def failing(x, y=None, size=SIZE):
        steps[0] += 1
        model(x, y, size)
        if steps[0] == at_step and int(os.environ["RANK"]) == at_rank:
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "raises":
                raise ValueError("no luck in this process")
            if how == "nan":
                ember.sample("bad", dist.Normal(0.0, 1.0), obs=torch.tensor(float("inf")))
            if how == "parameter":
                ember.param("only_here", torch.tensor(1.0))
            if how == "interrupted":
                os.kill(os.getpid(), signal.SIGINT)

    return failing


def start(scenarios, folder, rank, world, port):
    """Run scenarios one after another as one of ``world`` processes, or as the only one."""
    if rank is not None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = str(port)
    for scenario in scenarios:
        ember.clear_param_store()
        main(scenario, folder)


def main(scenario, folder):
    every = {"checkpoint": folder / "run", "checkpoint_every": 4}
    batches = {"batches": parquet(folder)}
    runs = {
        "parquet": lambda: fit(**batches),
        "stochastic": lambda: fit(AutoNormal, num_steps=400, lr=0.03, **batches),
        "streams": lambda: fit(AutoNormal, num_steps=5, **batches),
        "loader": lambda: fit(batches=loader()),
        "list": lambda: fit(batches=[(data()[0][i::8], data()[1][i::8]) for i in range(8)]),
        "shuffled": lambda: fit(batches=DataLoader(TensorDataset(*data()), batch_size=8, shuffle=True)),
        "first": lambda: fit(AutoNormal, num_steps=26, **every, **batches),
        "resumed": lambda: fit(AutoNormal, num_steps=60, resume=True, **every, **batches),
        "whole": lambda: fit(AutoNormal, num_steps=60, **batches),
        "time": lambda: fit(num_steps=10**9, seconds=0.5, **batches),
        **{
            how: lambda how=how: fit(AutoNormal, broken(how), num_steps=60, **every, **batches)
            for how in ("dies", "raises", "nan", "parameter", "interrupted")
        },
        "first_dies": lambda: fit(AutoNormal, broken("dies", at_rank=0), num_steps=60, **every, **batches),
    }
    outcome = {"error": "", "rank": None}
    try:
        result = runs[scenario]()
    except Exception as error:
        outcome = {"error": f"{type(error).__name__}: {error}", "rank": getattr(error, "rank", None)}
        result = fit.svi.result
    if result is not None:
        outcome |= {"losses": result.losses, "ending": result.ending, "params": result.params}
    outcome["draw"] = torch.rand(3)
    torch.save(outcome, folder / f"{scenario}{os.environ.get('RANK', '')}.pt")
