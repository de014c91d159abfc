"""Treat plain numbers and tensors alike, under the names that programs import from Pyro's modules."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable
from typing import Any

import torch


def torch_item(x: Any) -> Any:
    """Return the number that a one-element tensor holds; numbers are returned as they are."""
    return x if isinstance(x, numbers.Number) else x.item()


def torch_exp(x: Any) -> Any:
    """Return e to the power of a tensor or number."""
    return x.exp() if torch.is_tensor(x) else math.exp(x)


def torch_isnan(x: Any) -> Any:
    """Whether a number is NaN, or a tensor has any NaN (as a boolean tensor)."""
    return x != x if isinstance(x, numbers.Number) else torch.isnan(x).any()


def torch_isinf(x: Any) -> Any:
    """Whether a number is infinite, or a tensor has any infinity (as a boolean tensor)."""
    return abs(x) == math.inf if isinstance(x, float | int) else torch.isinf(x).any()


def warn_if_nan(value: Any, message: str = "") -> Any:
    """Return ``value``, warning if it is NaN or, later, if its gradient is."""
    return _warn_if(torch_isnan, "NaN", value, message)


def warn_if_inf(value: Any, message: str = "", allow_posinf: bool = False, allow_neginf: bool = False) -> Any:
    """Return ``value``, warning if it, or later its gradient, is infinite in a sign that is not allowed."""

    def found(x: Any) -> Any:
        x = torch.as_tensor(x)
        return ((x == math.inf) & (not allow_posinf)).any() | ((x == -math.inf) & (not allow_neginf)).any()

    return _warn_if(found, "inf", value, message)


def zero_grads(tensors: Iterable[torch.Tensor]) -> None:
    """Set the gradients of the tensors to zero, in place of the tensors that held them."""
    for tensor in tensors:
        if tensor.grad is not None:
            tensor.grad = torch.zeros_like(tensor.grad)


def _warn_if(found: Any, what: str, value: Any, message: str) -> Any:
    if torch.is_tensor(value) and value.requires_grad:

        def check(grad: torch.Tensor) -> None:
            if found(grad):
                warnings.warn(f"Encountered {what} in the gradient{': ' if message else ''}{message}")

        value.register_hook(check)
    if found(value):
        warnings.warn(f"Encountered {what}{': ' if message else ''}{message}", stacklevel=3)
    return value
