"""Check the pure update rules against the optimisers that they state, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ember.optim.adagrad_rmsprop import AdagradRMSProp
from ember.optim.clipped_adam import ClippedAdam
from ember.optim.rules import rule_for

CASES: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.Adam, {"lr": 0.1}),
    (torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.3, "maximize": True}),
    (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}),
    (torch.optim.NAdam, {"lr": 0.1, "momentum_decay": 0.02, "weight_decay": 0.1}),
    (torch.optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    (torch.optim.RAdam, {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    (torch.optim.RAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    (torch.optim.RMSprop, {"lr": 0.1, "alpha": 0.8}),
    (torch.optim.RMSprop, {"lr": 0.1, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    (torch.optim.Adadelta, {"lr": 0.7, "rho": 0.8}),
    (torch.optim.Adamax, {"lr": 0.1, "weight_decay": 0.1}),
    (ClippedAdam, {"lr": 0.1, "clip_norm": 0.5, "lrd": 0.9, "weight_decay": 0.1}),
    (ClippedAdam, {"lr": 0.1, "centered_variance": True}),
    (AdagradRMSProp, {"eta": 0.5, "t": 0.3}),
]


@pytest.mark.parametrize(("optimizer_class", "options"), CASES)
def test_rule_takes_the_steps_of_its_optimiser(optimizer_class: Any, options: dict[str, Any]) -> None:
    param = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_class([param], **options)

    def gradient(at: torch.Tensor) -> torch.Tensor:
        return at**3 - 0.4

    def step() -> None:
        param.grad = gradient(param.detach())
        optimizer.step()

    step()  # the first step makes the state
    kept = {
        key: torch.as_tensor(value, dtype=torch.float64).clone()
        for key, value in optimizer.state[param].items()
        if value is not None
    }
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    rule = rule_for(optimizer, group)
    assert rule is not None
    value, rate = param.detach().clone(), torch.tensor(group[rule.rate], dtype=torch.float64)
    for _ in range(10):
        step()
        value, kept = rule.update(value, gradient(value), kept, group, rate)
    # torch's NAdam keeps a product of numbers in float32.
    digits = 1e-6 if optimizer_class is torch.optim.NAdam else 1e-12
    torch.testing.assert_close(value, param.detach(), rtol=digits, atol=digits)
    for key, found in kept.items():
        expected = torch.as_tensor(optimizer.state[param][key], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=digits, atol=digits)


def test_options_and_classes_without_rule() -> None:
    param = torch.zeros(2, requires_grad=True)
    assert rule_for(torch.optim.Rprop([param]), {}) is None
    amsgrad = torch.optim.Adam([param], amsgrad=True)
    assert rule_for(amsgrad, amsgrad.param_groups[0]) is None

    class Own(torch.optim.Adam):
        def step(self, closure: Any = None) -> None:
            raise NotImplementedError

    assert rule_for(Own([param]), {}) is None
