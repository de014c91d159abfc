"""Update as Adam does, in the space of cosine coefficients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ember.distributions.transforms import DiscreteCosineTransform

_COSINE = DiscreteCosineTransform()


class DCTAdam(torch.optim.Optimizer):
    """Adam with clipping and decay whose moments are those of the gradient's cosine transform.

    The transform (orthonormal, along the last dim) separates slow from fast variation of a parameter that
    is a series, and the second moments then scale each frequency on its own.

    :param params: leaves, or torch's parameter groups.
    :param lr: learning rate.
    :param betas: decay rates of the running first and second moments.
    :param eps: added to the denominator.
    :param clip_norm: bound of each element of the gradient.
    :param lrd: factor of the learning rate at each step.
    :param subsample_aware: in a parameter of which a step used a minibatch only (a ``param`` statement with
        ``event_dim`` in a subsampling plate), update the elements of the minibatch and their moments alone.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip_norm: float = 10.0,
        lrd: float = 1.0,
        subsample_aware: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "clip_norm": clip_norm,
            "lrd": lrd,
            "subsample_aware": subsample_aware,
        }
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update each parameter that has a gradient; ``closure`` recomputes the loss, which is returned."""
        loss = closure() if closure is not None else None
        with torch.no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    if param.grad is not None:
                        _update(param, param.grad, self.state[param], group)
        return loss


def _update(param: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        zero = torch.zeros_like(param)
        state.update(step=zero.clone(), exp_avg=zero.clone(), exp_avg_sq=zero.clone())
    used = _used(param) if group["subsample_aware"] else ()
    moments = [state[key][used] if used else state[key] for key in ("step", "exp_avg", "exp_avg_sq")]
    count, mean, square = moments
    gradient = (grad[used] if used else grad).clamp(-group["clip_norm"], group["clip_norm"])
    series = _in_frequencies(gradient)
    beta1, beta2 = group["betas"]
    count = count + 1
    mean = beta1 * mean + (1 - beta1) * series
    square = beta2 * square + (1 - beta2) * series.square()
    corrected = (mean / (1 - beta1**count)) / ((square / (1 - beta2**count)).sqrt() + group["eps"])
    step = group["lr"] * group["lrd"] ** count * corrected
    step = _COSINE.inv(step) if step.ndim else step
    for key, value in (("step", count), ("exp_avg", mean), ("exp_avg_sq", square)):
        if used:
            state[key][used] = value
        else:
            state[key] = value
    if used:
        param[used] -= step
    else:
        param -= step


def _in_frequencies(gradient: Tensor) -> Tensor:
    return _COSINE(gradient) if gradient.ndim else gradient


def _used(param: Tensor) -> tuple[Any, ...]:
    """Return the index of what the last minibatch used, outside of the transformed dim; empty for all."""
    chosen = {dim: index for dim, index in getattr(param, "_pyro_subsample", {}).items() if dim != -1}
    if not chosen:
        return ()
    shape = param.shape
    grid = []
    for dim, size in enumerate(shape[:-1], start=-param.ndim):
        index = chosen.get(dim)
        grid.append(torch.arange(size) if index is None or size == 1 else torch.as_tensor(index).unique())
    index_grid = torch.meshgrid(*grid, torch.arange(shape[-1]), indexing="ij")
    return tuple(index_grid)
