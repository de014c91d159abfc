"""Train the approximations behind estimators of expected information gain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ember import poutine

# Takes designs, a number of draws, and whether it is evaluated; returns what to minimise, and an estimate.
Loss = Callable[..., tuple[Tensor, Tensor]]


def opt_eig_ape_loss(
    design: Tensor,
    loss_fn: Loss,
    num_samples: Any,
    num_steps: int,
    optim: Any,
    return_history: bool = False,
    final_design: Tensor | None = None,
    final_num_samples: Any = None,
) -> Any:
    """Minimise a loss over the parameters that it uses, and return its estimate for each design.

    :param design: designs of the training.
    :param loss_fn: called with a design, a number of samples, and ``evaluation``; returns a scalar loss and
        an estimate for each design.
    :param num_samples: number of draws in each step.
    :param num_steps: number of steps.
    :param optim: an optimizer of ``ember.optim``.
    :param return_history: whether to return the estimates of all steps, too.
    :param final_design: designs of the estimate, by default those of the training.
    :param final_num_samples: number of draws of the estimate, by default that of the steps.
    :return: the estimate; or the history ``(num_steps,) + batch`` and the estimate.
    """
    final_design = design if final_design is None else final_design
    final_num_samples = num_samples if final_num_samples is None else final_num_samples
    history = []
    for _ in range(num_steps):
        with poutine.trace(param_only=True) as capture:
            loss, estimate = loss_fn(design, num_samples, evaluation=return_history)
        leaves = {site["value"].unconstrained() for site in capture.trace.nodes.values()}
        loss.backward()
        if return_history:
            history.append(estimate.detach())
        optim(leaves)
        for leaf in leaves:
            leaf.grad = None
    with torch.no_grad():
        _, estimate = loss_fn(final_design, final_num_samples, evaluation=True)
    return (torch.stack(history), estimate) if return_history else estimate
