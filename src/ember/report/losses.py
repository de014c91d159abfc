"""Draw the losses of a training run into a PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ember.infer.training.result import smooth, total
from ember.report.plots import drawing, write


def plot_loss(run: Any, path: str | Path, window: int = 100) -> Path:
    """Plot the loss of each step, and its running mean.

    The axis shows the mean's range without its first tenth, so that a bad start does not flatten the rest.

    :param run: an :class:`~ember.infer.SVIResult`, or losses: a tensor ``[num_steps]`` or a list of numbers.
    :param path: PNG file to write; its directory is made if need be.
    :param window: number of steps whose mean is drawn.
    :returns: the path.
    :raises ValueError: if there is no loss to show.
    """
    losses = total(torch.as_tensor(getattr(run, "losses", run), dtype=torch.float64))
    if not len(losses):
        raise ValueError("the run has no losses to plot")
    mean = smooth(losses, window)
    late = mean[len(mean) // 10 :]
    noise = (losses - mean)[len(mean) // 10 :].std(correction=0).item()
    low, high = late.min().item() - 2 * noise, late.max().item() + 2 * noise
    plt = drawing()
    figure, axes = plt.subplots(figsize=(8, 4.5))
    steps = torch.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=0.8, label="each step")
    axes.plot(steps, mean, color="tab:blue", label=f"mean of {window}")
    axes.set(xlabel="step", ylabel="loss (negative ELBO)")
    if low < high:
        axes.set_ylim(low, high)
    axes.legend(loc="upper right")
    return write(figure, path)
