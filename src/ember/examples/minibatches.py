"""Fit a robust regression to a Parquet file, a minibatch at a time.

Fares of taxi rides (made up) depend on distance, duration and passengers; some were entered wrongly, so
errors are Student's. The file is written and read in row groups, and never as a whole in memory.
Run it by ``python -m ember.examples.minibatches --output DIR``; ``--resume`` goes on with a run that was
interrupted.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

import ember
import ember.distributions as dist
from ember import report
from ember.data import ParquetBatches
from ember.infer import SVI, SVIResult, Trace_ELBO
from ember.infer.autoguide import AutoMultivariateNormal

FEATURES = ("distance", "duration", "passengers")
INTERCEPT, WEIGHTS, NOISE = 3.0, (1.8, 0.4, 0.1), 0.5  # what made the data


def write(path: Path, num_rows: int, group: int = 20_000, seed: int = 0) -> None:
    """Write rides to a Parquet file, one row group after another."""
    import pyarrow
    from pyarrow import parquet

    generator = torch.Generator().manual_seed(seed)
    schema = pyarrow.schema([(name, pyarrow.float32()) for name in (*FEATURES, "fare")])
    with parquet.ParquetWriter(path, schema) as file:
        for start in range(0, num_rows, group):
            rides = min(group, num_rows - start)
            inputs = torch.randn(rides, len(FEATURES), generator=generator)
            noise = NOISE * torch.randn(rides, generator=generator)
            wrong = torch.rand(rides, generator=generator) < 0.02
            fare = INTERCEPT + inputs @ torch.tensor(WEIGHTS) + noise
            fare = torch.where(wrong, 10 * fare, fare)
            columns = [column.numpy() for column in (*inputs.T, fare)]
            file.write_table(pyarrow.Table.from_arrays(list(map(pyarrow.array, columns)), schema=schema))


def model(inputs: Tensor, fare: Tensor, size: int) -> None:
    """Let a fare be a weighted sum of the inputs; a batch stands for all ``size`` rides.

    :param inputs: ``[batch, features]``.
    :param fare: ``[batch]``.
    """
    intercept = ember.sample("intercept", dist.Normal(0.0, 10.0))
    weights = ember.sample("weights", dist.Normal(0.0, 5.0).expand([inputs.shape[-1]]).to_event(1))
    noise = ember.sample("noise", dist.HalfNormal(2.0))
    freedom = ember.sample("freedom", dist.Gamma(2.0, 0.5))
    with ember.plate("rides", size, subsample_size=len(fare)):
        mean = intercept + (inputs @ weights.unsqueeze(-1)).squeeze(-1)
        ember.sample("fare", dist.StudentT(1.0 + freedom, mean, noise), obs=fare)


def fit(
    path: Path, num_steps: int, batch_size: int, seed: int = 0, progress: bool = True, resume: bool = False
) -> tuple[AutoMultivariateNormal, SVIResult]:
    """Train a guide on the file; ``resume`` goes on where an earlier run was, also within an epoch."""
    ember.clear_param_store()
    ember.set_rng_seed(seed)
    columns = {"inputs": FEATURES, "fare": "fare"}
    rides = ParquetBatches(path, columns, batch_size, seed=seed)
    guide = AutoMultivariateNormal(model, init_scale=0.01)
    decayed = ember.optim.ClippedAdam({"lr": 0.05, "lrd": 0.05 ** (1 / num_steps)})
    svi = SVI(model, guide, decayed, Trace_ELBO())
    result = svi.run(
        num_steps,
        batches=rides,
        size=rides.num_rows,
        checkpoint=path.with_suffix(".checkpoint"),
        resume=resume,
        disable_progbar=not progress,
    )
    return guide, result


def main(arguments: list[str] | None = None) -> int:
    """Write the file, run the example, print its table and plot its losses."""
    parser = argparse.ArgumentParser(description="Fit a regression to a Parquet file by minibatches.")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="directory for the files")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of a run before")
    parser.add_argument("--no-progress", action="store_true")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "rides.parquet"
    start = time.perf_counter()
    if not (options.resume and path.exists()):
        write(path, options.rows)
    guide, result = fit(
        path, options.steps, options.batch_size, options.seed, not options.no_progress, options.resume
    )
    found = guide.quantiles([0.05, 0.5, 0.95])
    table = torch.cat([values.reshape(3, -1) for values in found.values()], 1)
    print(f"{result.num_steps} steps of {options.batch_size} rides\n{'':12}      5 %     50 %     95 %")
    for name, row in zip(("intercept", *FEATURES, "noise", "freedom"), table.T.tolist(), strict=True):
        print(f"{name:>12}" + "".join(f"{figure:9.3f}" for figure in row))
    plot = report.plot_loss(result, options.output / "rides_loss.png")
    print(f"Losses: {plot}. Everything took {time.perf_counter() - start:.0f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
