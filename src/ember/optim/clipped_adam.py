"""Update by Adam with clipped gradients and a learning rate that decays at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class ClippedAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) with elementwise clipping and exponential decay.

    :param lr: learning rate before the first step.
    :param betas: decay rates of the running first and second moments.
    :param eps: added to the denominator.
    :param weight_decay: weight of an L2 penalty.
    :param clip_norm: bound of each element of the gradient.
    :param lrd: factor of the learning rate at each step of a parameter.
    :param centered_variance: measure the second moment from the running mean instead of from zero.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float = 10.0,
        lrd: float = 1.0,
        centered_variance: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "clip_norm": clip_norm,
            "lrd": lrd,
            "centered_variance": centered_variance,
        }
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update each parameter that has a gradient; ``closure`` recomputes the loss, which is returned."""
        loss = closure() if closure is not None else None
        with torch.no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    if param.grad is not None:
                        _update(param, self.state[param], group)
        return loss


def _update(param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state.update(step=0, exp_avg=torch.zeros_like(param), exp_avg_sq=torch.zeros_like(param))
    state["step"] += 1
    count = state["step"]
    beta1, beta2 = group["betas"]
    grad = param.grad
    if grad is None:
        return
    grad = grad.clamp(-group["clip_norm"], group["clip_norm"])
    if group["weight_decay"]:
        grad = grad.add(param, alpha=group["weight_decay"])
    mean = state["exp_avg"].mul_(beta1).add_(grad, alpha=1 - beta1)
    deviation = grad - mean if group["centered_variance"] else grad
    square = state["exp_avg_sq"].mul_(beta2).addcmul_(deviation, deviation, value=1 - beta2)
    denominator = square.sqrt().add_(group["eps"])
    # The decay counts each parameter's own steps, since parameters may arrive late or be absent at times.
    rate = group["lr"] * group["lrd"] ** count
    param.addcdiv_(mean, denominator, value=-rate * (1 - beta2**count) ** 0.5 / (1 - beta1**count))
