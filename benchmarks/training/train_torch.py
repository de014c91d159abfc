"""Train the benchmarked autoencoder in a loop written by hand: what a network's step costs at least."""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import torch
from jobs import PIXELS, Job, batches
from torch import nn
from torch.nn import functional as F

imported = time.clock_gettime(time.CLOCK_MONOTONIC)


def main() -> None:
    job = Job.of(sys.argv)
    if job.workload != "vae":
        raise SystemExit("only the autoencoder is written by hand")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    feed = batches(torch.as_tensor(job.data["x"], dtype=torch.float32))
    encoder = nn.Sequential(nn.Linear(PIXELS, 400), nn.Softplus(), nn.Linear(400, 40))
    decoder = nn.Sequential(nn.Linear(20, 400), nn.Softplus(), nn.Linear(400, PIXELS))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=job.rate, fused=True)

    def step(x: torch.Tensor) -> float:
        loc, log_scale = encoder(x).chunk(2, -1)
        z = loc + log_scale.exp() * torch.randn_like(loc)
        divergence = 0.5 * (loc.square() + (2 * log_scale).exp() - 1).sum() - log_scale.sum()
        loss = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") + divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    step(feed[0])
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    losses = [step(feed[index % len(feed)]) for index in range(job.steps)]
    ended = time.clock_gettime(time.CLOCK_MONOTONIC)
    origin = float(os.environ["BENCHMARK_STARTED"])
    measured = {
        "total": ended - origin,
        "import": imported - origin,
        "first": started - imported,
        "step": 1e6 * (ended - started) / job.steps,
        "loss": float(np.mean(losses[-max(1, len(losses) // 10) :])),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
