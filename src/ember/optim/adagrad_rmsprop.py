"""Update by a mixture of Adagrad and RMSprop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class AdagradRMSProp(torch.optim.Optimizer):
    """The step size sequence of Kucukelbir et al. 2017 (arXiv 1603.00788, eqs. 10–11).

    :param eta: scale of the steps.
    :param delta: small positive number; the exponent of the step count is ``-0.5 + delta``.
    :param t: weight of the newest squared gradient.
    """

    def __init__(self, params: Iterable[Any], eta: float = 1.0, delta: float = 1e-16, t: float = 0.1) -> None:
        super().__init__(params, {"eta": eta, "delta": delta, "t": t})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update each parameter that has a gradient; ``closure`` recomputes the loss, which is returned."""
        loss = closure() if closure is not None else None
        with torch.no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    if param.grad is None:
                        continue
                    state = self.state[param]
                    square = param.grad.square()
                    if not state:
                        state.update(step=0, sum=square)
                    else:
                        state["sum"] = group["t"] * square + (1 - group["t"]) * state["sum"]
                    state["step"] += 1
                    rate = group["eta"] * state["step"] ** (-0.5 + group["delta"])
                    param.addcdiv_(param.grad, 1.0 + state["sum"].sqrt(), value=-rate)
        return loss
