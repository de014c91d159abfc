"""Train a logistic regression in two processes that share each step.

Run by itself it starts ``torchrun --nproc-per-node 2 -m ember.examples.two_processes``, as one does by hand
on several machines. If a process dies, the other ends its run and names it; with ``--resume`` both go on from
the last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import ember
import ember.distributions as dist
from ember.infer import SVI, SVIResult, Trace_ELBO
from ember.infer.autoguide import AutoNormal


def make_data(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs ``[rows, 8]``, outcomes ``[rows]`` and the weights ``[8]`` that made them."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.linspace(-2.0, 2.0, 8)
    inputs = torch.randn(rows, 8, generator=generator)
    outcomes = torch.bernoulli((inputs @ weights).sigmoid(), generator=generator)
    return inputs, outcomes, weights


def model(inputs: Tensor, outcomes: Tensor, size: int) -> None:
    """Let the log odds of an outcome be a weighted sum of the inputs.

    :param inputs: ``[batch, features]``: this process's part of the data.
    :param outcomes: ``[batch]``.
    :param size: rows of all processes, which is what the plate has.
    """
    weights = ember.sample("weights", dist.Normal(0.0, 3.0).expand([inputs.shape[-1]]).to_event(1))
    with ember.plate("rows", size, subsample_size=len(outcomes)):
        logits = (inputs @ weights.unsqueeze(-1)).squeeze(-1)
        ember.sample("outcome", dist.Bernoulli(logits=logits), obs=outcomes)


def fit(
    rows: int, num_steps: int, checkpoint: Path, progress: bool = True, resume: bool = False
) -> tuple[AutoNormal, SVIResult]:
    """Train the guide; called in every process."""
    ember.set_rng_seed(0)
    inputs, outcomes, _ = make_data(rows)
    dataset = TensorDataset(inputs, outcomes)
    batches = DataLoader(dataset, batch_size=250, sampler=DistributedSampler(dataset))
    guide = AutoNormal(model)
    svi = SVI(model, guide, ember.optim.Adam({"lr": 0.03}), Trace_ELBO())
    result = svi.run(
        num_steps,
        batches=batches,
        size=rows,
        data_parallel=True,
        checkpoint=checkpoint,
        checkpoint_every=200,
        resume=resume,
        disable_progbar=not progress,
    )
    return guide, result


def main(arguments: list[str] | None = None) -> int:
    """Run the example in this process, together with the others; the first prints the weights.

    Outside of ``torchrun`` there are no others yet: then it is started.
    """
    parser = argparse.ArgumentParser(description="Train in several processes.")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="directory for the checkpoint"
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of a run before")
    parser.add_argument("--no-progress", action="store_true")
    options = parser.parse_args(arguments)
    if "RANK" not in os.environ:
        given = sys.argv[1:] if arguments is None else arguments
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return subprocess.run([*torchrun, "-m", "ember.examples.two_processes", *given]).returncode
    options.output.mkdir(parents=True, exist_ok=True)
    distributed.init_process_group("gloo")
    checkpoint = options.output / "two_processes.checkpoint"
    guide, result = fit(options.rows, options.steps, checkpoint, not options.no_progress, options.resume)
    if distributed.get_rank() == 0:
        world, found = distributed.get_world_size(), guide.quantiles([0.05, 0.5, 0.95])["weights"]
        print(f"{world} processes took {result.num_steps} steps in {result.seconds:.0f} s")
        print("  truth    5 %   50 %   95 %")
        for row in torch.stack([make_data(1)[2], *found]).T:
            print("".join(f"{figure.item():7.2f}" for figure in row))
    distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
