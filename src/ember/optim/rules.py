"""State the updates of common optimisers as pure functions of tensors, for loops that run as machine code.

A rule maps a parameter, its gradient, its state and the learning rate to the parameter's next value and
state; states have the names that torch's optimisers give them, so that either can continue the other's. Step
counts and learning rates are float64 scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.optim.adagrad_rmsprop import AdagradRMSProp
from ember.optim.clipped_adam import ClippedAdam
from ember.optim.lean import lean

State = dict[str, Tensor]
Update = Callable[[Tensor, Tensor, State, Mapping[str, Any], Tensor], tuple[Tensor, State]]


class Rule(NamedTuple):
    """How one class of optimisers updates a parameter."""

    update: Update  # (param, grad, state, options, learning rate) → (param, state)
    rate: str = "lr"  # the option that is the learning rate
    refused: tuple[str, ...] = ("amsgrad", "differentiable", "capturable")  # options that have no rule


def rule_for(optimizer: torch.optim.Optimizer, options: Mapping[str, Any]) -> Rule | None:
    """Return the rule of an optimiser under some options, or None if it has none."""
    for optimizer_class, rule in _RULES.items():
        if type(optimizer) in (optimizer_class, lean(optimizer_class)):
            return None if any(options.get(name) for name in rule.refused) else rule
    return None


def _decayed(param: Tensor, grad: Tensor, options: Mapping[str, Any]) -> Tensor:
    if options.get("maximize"):
        grad = -grad
    decay = options.get("weight_decay", 0.0)
    return grad + decay * param if decay else grad


def _moments(
    grad: Tensor, state: State, options: Mapping[str, Any], centred: bool = False
) -> tuple[State, Tensor, Tensor]:
    """Advance the running moments of Adam; return the state and the bias corrections of both."""
    beta1, beta2 = options["betas"]
    count = state["step"] + 1
    mean = beta1 * state["exp_avg"] + (1 - beta1) * grad
    deviation = grad - mean if centred else grad
    square = beta2 * state["exp_avg_sq"] + (1 - beta2) * deviation * deviation
    return {"step": count, "exp_avg": mean, "exp_avg_sq": square}, 1 - beta1**count, 1 - beta2**count


def _adam(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    decoupled = options.get("decoupled_weight_decay", False)
    if decoupled:
        grad = -grad if options.get("maximize") else grad
        param = param * (1 - rate * options["weight_decay"])
    else:
        grad = _decayed(param, grad, options)
    state, first, second = _moments(grad, state, options)
    denominator = state["exp_avg_sq"].sqrt() / second.sqrt() + options["eps"]
    return param - rate / first * state["exp_avg"] / denominator, state


def _adamw(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    return _adam(param, grad, state, {**options, "decoupled_weight_decay": True}, rate)


def _decoupled(
    param: Tensor, grad: Tensor, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, Tensor]:
    """Return parameter and gradient after the decay of weights, of which only one decays."""
    if not options.get("decoupled_weight_decay"):
        return param, _decayed(param, grad, options)
    return param * (1 - rate * options["weight_decay"]), -grad if options.get("maximize") else grad


def _nadam(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    """Adam with Nesterov's momentum (Dozat 2016, algorithm 2)."""
    param, grad = _decoupled(param, grad, options, rate)
    following, _, second = _moments(grad, state, options)
    beta, decay = options["betas"][0], options["momentum_decay"]
    now = beta * (1 - 0.5 * 0.96 ** (following["step"] * decay))
    later = beta * (1 - 0.5 * 0.96 ** ((following["step"] + 1) * decay))
    product = following["mu_product"] = state["mu_product"] * now
    denominator = (following["exp_avg_sq"] / second).sqrt() + options["eps"]
    change = (1 - now) / (1 - product) * grad + later / (1 - product * later) * following["exp_avg"]
    return param - rate * change / denominator, following


def _radam(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    """Adam that adapts once variances are known well enough (Liu et al. 2020, algorithm 2)."""
    param, grad = _decoupled(param, grad, options, rate)
    following, first, second = _moments(grad, state, options)
    most = 2 / (1 - options["betas"][1]) - 1
    length = most - 2 * following["step"] * (1 - second) / second
    known = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
    adapted = (known.clamp(min=0) * second).sqrt() / (following["exp_avg_sq"].sqrt() + options["eps"])
    scale = torch.where(length > 5, adapted, 1.0)
    return param - rate / first * following["exp_avg"] * scale, following


def _clipped_adam(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    grad = _decayed(param, grad.clamp(-options["clip_norm"], options["clip_norm"]), options)
    state, first, second = _moments(grad, state, options, options["centered_variance"])
    rate = rate * options["lrd"] ** state["step"] * second.sqrt() / first
    return param - rate * state["exp_avg"] / (state["exp_avg_sq"].sqrt() + options["eps"]), state


def _sgd(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    grad = _decayed(param, grad, options)
    momentum = options["momentum"]
    if momentum:
        buffer = momentum * state["momentum_buffer"] + (1 - options["dampening"]) * grad
        state = {"momentum_buffer": buffer}
        grad = grad + momentum * buffer if options["nesterov"] else buffer
    return param - rate * grad, state


def _adagrad(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    grad = _decayed(param, grad, options)
    total = state["sum"] + grad * grad
    rate = rate / (1 + state["step"] * options["lr_decay"])
    return param - rate * grad / (total.sqrt() + options["eps"]), {"step": state["step"] + 1, "sum": total}


def _rmsprop(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    grad = _decayed(param, grad, options)
    alpha = options["alpha"]
    square = alpha * state["square_avg"] + (1 - alpha) * grad * grad
    following = {"step": state["step"] + 1, "square_avg": square}
    if options["centered"]:
        mean = following["grad_avg"] = alpha * state["grad_avg"] + (1 - alpha) * grad
        square = square - mean * mean
    change = grad / (square.sqrt() + options["eps"])
    if options["momentum"] > 0:
        change = following["momentum_buffer"] = options["momentum"] * state["momentum_buffer"] + change
    return param - rate * change, following


def _adadelta(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    grad = _decayed(param, grad, options)
    rho, eps = options["rho"], options["eps"]
    square = rho * state["square_avg"] + (1 - rho) * grad * grad
    change = (state["acc_delta"] + eps).sqrt() / (square + eps).sqrt() * grad
    accumulated = rho * state["acc_delta"] + (1 - rho) * change * change
    following = {"step": state["step"] + 1, "square_avg": square, "acc_delta": accumulated}
    return param - rate * change, following


def _adamax(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    grad = _decayed(param, grad, options)
    beta1, beta2 = options["betas"]
    count = state["step"] + 1
    mean = beta1 * state["exp_avg"] + (1 - beta1) * grad
    largest = torch.maximum(beta2 * state["exp_inf"], grad.abs() + options["eps"])
    return (
        param - rate / (1 - beta1**count) * mean / largest,
        {"step": count, "exp_avg": mean, "exp_inf": largest},
    )


def _adagrad_rmsprop(
    param: Tensor, grad: Tensor, state: State, options: Mapping[str, Any], rate: Tensor
) -> tuple[Tensor, State]:
    total = options["t"] * grad * grad + (1 - options["t"]) * state["sum"]
    count = state["step"] + 1
    rate = rate * count ** (-0.5 + options["delta"])
    return param - rate * grad / (1 + total.sqrt()), {"step": count, "sum": total}


_RULES: dict[Any, Rule] = {
    torch.optim.Adam: Rule(_adam),
    torch.optim.AdamW: Rule(_adamw),
    torch.optim.NAdam: Rule(_nadam),
    torch.optim.RAdam: Rule(_radam),
    torch.optim.SGD: Rule(_sgd),
    torch.optim.Adagrad: Rule(_adagrad),
    torch.optim.RMSprop: Rule(_rmsprop),
    torch.optim.Adadelta: Rule(_adadelta),
    torch.optim.Adamax: Rule(_adamax),
    ClippedAdam: Rule(_clipped_adam),
    AdagradRMSProp: Rule(_adagrad_rmsprop, rate="eta"),
}
